"""Events whose labels should have come by now: the absence of an outcome is itself a sign.

The usual delay of a label is learned per key value: μ follows ln(delay), steps of 1/min(n, 50) and, after
five labels, at most 0.25; the expectation m̂ = (n μ + 2 μ_all)/(n + 2) is taken from the key field whose
running |error| is least. An event is overdue once `PATIENCE` · exp(m̂) have passed without its label; until
the label comes it counts in O of its keys (memory.rates).
"""

from __future__ import annotations

import heapq
import math
from array import array
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memory.awaited import SPARE, Awaited
from memory.rates import Rates, overdue

PATIENCE = 1.05
LIMIT = 50_000
STEADY = 5
STEP_LIMIT = 0.25
SHORTEST, LONGEST = 1e-3, 1e12


class Overdue:
    """Which observed events still wait for their label, and since when they are overdue.

    Events are named by the number under which they were observed; at most `LIMIT` wait, the oldest gives way.
    """

    def __init__(self, fields: int) -> None:
        self.waiting = Awaited(fields)
        self.due: list[tuple[float, int]] = []  # a heap; holds events that wait no longer as well
        self._next = -1  # an event that waits, as was found at the top of the heap
        self._labels, self._delay = array("d"), array("d")  # per row: delays seen, and their mean logarithm
        self.error = [[0.0, 0.0] for _ in range(fields)]
        self.everywhere = [0.0, 0.0]

    def next_due(self) -> float:
        """The time after which a further event is overdue; infinite while none will be."""
        while self.due:
            due, number = self.due[0]
            if number == self._next or self.waiting.find(number) >= 0:
                self._next = number
                return due
            heapq.heappop(self.due)
        return math.inf

    def advance(self, table: Rates, outputs: int, now: float) -> None:
        """Count in what has become overdue by `now`."""
        while self.due and self.due[0][0] < now:
            _, number = heapq.heappop(self.due)
            place = self.waiting.find(number)
            if place < 0:
                continue
            when = self.waiting.time(place)
            for row in self.waiting.rows(place):
                if row >= 0:
                    overdue(table, row, when, outputs, 1.0)
            self.waiting.find_late(place)

    def arrive(self, table: Rates, outputs: int, number: int, when: float, rows: Sequence[int]) -> None:
        """Event `number`, above all before, of time `when` happened.

        rows: of its key values, −1 where one is missing.
        """
        best = -1
        for field, row in enumerate(rows):
            known = 0 <= row < len(self._labels) and self._labels[row] > 0.0
            if known and (best < 0 or self.error[field][1] < self.error[best][1]):
                best = field
        due = when + PATIENCE * math.exp(self._expected(rows[best])) if best >= 0 else math.inf
        self.waiting.add(number, when, rows, due)
        if len(self.waiting) > LIMIT:
            self.drop(table, outputs, self.waiting.number(self.waiting.oldest()))
        if due < math.inf:
            heapq.heappush(self.due, (due, number))
        if len(self.due) > 2 * len(self.waiting) + SPARE:  # most of these labels came in time
            self.due = self.waiting.dues()

    def _expected(self, row: int) -> float:
        n, mean = (self._labels[row], self._delay[row]) if row < len(self._labels) else (0.0, 0.0)
        return (n * mean + 2.0 * self.everywhere[1]) / (n + 2.0)

    def label(self, table: Rates, outputs: int, number: int, now: float) -> None:
        """The label of event `number` came at `now`: it waits no longer, and its delay is learned.

        The caller leaves out labels that came before any later event: they say nothing about delays.
        """
        held = self.drop(table, outputs, number)
        if held is None:
            return
        when, rows = held
        delay = math.log(min(max(now - when, SHORTEST), LONGEST))
        self.everywhere[0] += 1.0
        self.everywhere[1] += (delay - self.everywhere[1]) / min(self.everywhere[0], 1_000.0)
        for field, row in enumerate(rows):
            if row < 0:
                continue
            error = self.error[field]
            error[0] += 1.0
            error[1] += (abs(delay - self._expected(row)) - error[1]) / min(error[0], 2_000.0)
            self._learn(row, delay)

    def _learn(self, row: int, delay: float) -> None:
        for table in (self._labels, self._delay):
            if row >= len(table):
                table.frombytes(bytes(8 * (row + 1 - len(table))))
        self._labels[row] += 1.0
        n, mean = self._labels[row], self._delay[row]
        step = delay - mean
        if n > STEADY:
            step = min(max(step, -STEP_LIMIT), STEP_LIMIT)
        self._delay[row] = mean + step / min(n, 50.0)

    def drop(self, table: Rates, outputs: int, number: int) -> tuple[float, tuple[int, ...]] | None:
        """Event `number` waits no longer and counts no more as overdue; its time and rows, if it waited."""
        place = self.waiting.find(number)
        if place < 0:
            return None
        if number == self._next:
            self._next = -1
        when, rows = self.waiting.time(place), self.waiting.rows(place)
        if self.waiting.late(place):
            for row in rows:
                if row >= 0:
                    overdue(table, row, when, outputs, -1.0)
        self.waiting.remove(place)
        return when, rows

    def snapshot(self) -> dict[str, NDArray[Any]]:
        """A copy: what waits, delays (2, rows), error (fields, 2), everywhere (2,)."""
        return {
            **self.waiting.snapshot(),
            "delays": np.array([np.array(self._labels), np.array(self._delay)]),
            "error": np.array(self.error),
            "everywhere": np.array(self.everywhere),
        }

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Become what `snapshot` described."""
        self.waiting.restore(arrays)
        self._next = -1
        self.due = self.waiting.dues()
        self._labels, self._delay = (array("d", row.tobytes()) for row in arrays["delays"])
        self.error = arrays["error"].tolist()
        self.everywhere = arrays["everywhere"].tolist()
