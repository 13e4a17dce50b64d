"""Events whose labels should have come by now: the absence of an outcome is itself a sign.

The usual delay of a label is learned per key value: μ follows ln(delay), steps of 1/min(n, 50) and, after
five labels, at most 0.25; the expectation m̂ = (n μ + 2 μ_all)/(n + 2) is taken from the key field whose
running |error| is least. An event is overdue once `PATIENCE` · exp(m̂) have passed without its label; until
the label comes it counts in O of its keys (memory.rates).
"""

from __future__ import annotations

import heapq
import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from memory.rates import Rates, overdue

PATIENCE = 1.05
LIMIT = 50_000
SPARE = 64
STEADY = 5
STEP_LIMIT = 0.25
SHORTEST, LONGEST = 1e-3, 1e12


class Overdue:
    """Which observed events still wait for their label, and since when they are overdue.

    Events are named by the number under which they were observed; at most `LIMIT` wait, the oldest gives way.
    All of it is plain Python and small; `snapshot` and `restore` keep it.
    """

    def __init__(self, fields: int) -> None:
        self.waiting: OrderedDict[int, tuple[float, tuple[int, ...], bool]] = OrderedDict()
        self.due: list[tuple[float, int]] = []
        self.delays: dict[int, list[float]] = {}
        self.error = [[0.0, 0.0] for _ in range(fields)]
        self.everywhere = [0.0, 0.0]

    def next_due(self) -> float:
        """The time after which a further event is overdue; infinite while none will be."""
        while self.due and self.due[0][1] not in self.waiting:
            heapq.heappop(self.due)
        return self.due[0][0] if self.due else math.inf

    def advance(self, table: Rates, outputs: int, now: float) -> None:
        """Count in what has become overdue by `now`."""
        while self.due and self.due[0][0] < now:
            _, number = heapq.heappop(self.due)
            held = self.waiting.get(number)
            if held is None:
                continue
            when, rows, _ = held
            for row in rows:
                if row >= 0:
                    overdue(table, row, when, outputs, 1.0)
            self.waiting[number] = (when, rows, True)

    def arrive(self, table: Rates, outputs: int, number: int, when: float, rows: Sequence[int]) -> None:
        """Event `number` of time `when` happened; rows: of its key values, −1 where one is missing."""
        rows = tuple(int(row) for row in rows)
        self.waiting[number] = (when, rows, False)
        if len(self.waiting) > LIMIT:
            self.drop(table, outputs, next(iter(self.waiting)))
        best = -1
        for field, row in enumerate(rows):
            known = row >= 0 and row in self.delays
            if known and (best < 0 or self.error[field][1] < self.error[best][1]):
                best = field
        if best >= 0:
            heapq.heappush(self.due, (when + PATIENCE * math.exp(self._expected(rows[best])), number))
        if len(self.due) > 2 * len(self.waiting) + SPARE:  # most of these labels came in time
            self.due = [entry for entry in self.due if entry[1] in self.waiting]
            heapq.heapify(self.due)

    def _expected(self, row: int) -> float:
        n, mean = self.delays.get(row, (0.0, 0.0))
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
            known = self.delays.setdefault(row, [0.0, 0.0])
            known[0] += 1.0
            step = delay - known[1]
            if known[0] > STEADY:
                step = min(max(step, -STEP_LIMIT), STEP_LIMIT)
            known[1] += step / min(known[0], 50.0)

    def drop(self, table: Rates, outputs: int, number: int) -> tuple[float, tuple[int, ...]] | None:
        """Event `number` waits no longer and counts no more as overdue; its time and rows, if it waited."""
        held = self.waiting.pop(number, None)
        if held is None:
            return None
        when, rows, counted = held
        if counted:
            for row in rows:
                if row >= 0:
                    overdue(table, row, when, outputs, -1.0)
        return when, rows

    def snapshot(self) -> dict[str, Any]:
        """JSON-able content."""
        return {
            "waiting": [[n, when, list(rows), counted] for n, (when, rows, counted) in self.waiting.items()],
            "due": sorted(list(entry) for entry in self.due if entry[1] in self.waiting),
            "delays": [[row, *known] for row, known in self.delays.items()],
            "error": self.error,
            "everywhere": self.everywhere,
        }

    def restore(self, content: dict[str, Any]) -> None:
        """Become what `snapshot` described."""
        self.waiting = OrderedDict(
            (n, (when, tuple(rows), counted)) for n, when, rows, counted in content["waiting"]
        )
        self.due = [(when, number) for when, number in content["due"]]
        self.delays = {row: [n, mean] for row, n, mean in content["delays"]}
        self.error = [list(entry) for entry in content["error"]]
        self.everywhere = list(content["everywhere"])
