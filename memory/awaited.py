"""Observed events whose label is awaited, oldest first, in few arrays."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

WAITS, LATE, GONE = 0, 1, 2
SPARE = 64


class Awaited:
    """Events by number, which rises from each to the next, with time, rows of their key values and when due.

    fields: rows per event. An event that leaves stays as a gap until there are more gaps than events.

    >>> awaited = Awaited(fields=2)
    >>> awaited.add(7, 60.0, (3, -1), due=90.0), awaited.add(9, 61.0, (4, 5))
    (0, 1)
    >>> awaited.remove(awaited.find(7))
    >>> list(awaited), awaited.oldest(), awaited.time(1), awaited.rows(1), awaited.find(8)
    ([9], 1, 61.0, (4, 5), -1)
    """

    def __init__(self, fields: int) -> None:
        self._fields = fields
        self._numbers = array("q")
        self._times = array("d")
        self._rows = array("i")
        self._due = array("d")
        self._states = bytearray()
        self._first = 0  # before it are gaps alone
        self._held = 0

    def __len__(self) -> int:
        return self._held

    def __iter__(self) -> Iterator[int]:
        return (number for number, state in zip(self._numbers, self._states, strict=True) if state != GONE)

    def add(self, number: int, time: float, rows: Sequence[int], due: float = math.inf) -> int:
        """An event happened whose number is above all before; its place, which `add` and `remove` may change.

        due: the time after which its label is late; infinite for never.
        """
        if len(self._numbers) > 2 * self._held + SPARE:
            self._close_gaps()
        self._numbers.append(number)
        self._times.append(time)
        self._rows.extend(rows)
        self._due.append(due)
        self._states.append(WAITS)
        self._held += 1
        return len(self._numbers) - 1

    def find(self, number: int) -> int:
        """The place of an event; −1 where it does not wait."""
        numbers = self._numbers
        place = bisect_left(numbers, number, self._first)
        found = place < len(numbers) and numbers[place] == number and self._states[place] != GONE
        return place if found else -1

    def oldest(self) -> int:
        """The place of the event that has waited longest; −1 where none does."""
        return self._first if self._held else -1

    def number(self, place: int) -> int:
        """The number of the event at a place."""
        return self._numbers[place]

    def time(self, place: int) -> float:
        """When it happened."""
        return self._times[place]

    def rows(self, place: int) -> tuple[int, ...]:
        """The rows of its key values."""
        return tuple(self._rows[place * self._fields : (place + 1) * self._fields])

    def late(self, place: int) -> bool:
        """Whether its label was found to be late."""
        return self._states[place] == LATE

    def find_late(self, place: int) -> None:
        """Its label is late, and not due any more."""
        self._states[place] = LATE
        self._due[place] = math.inf

    def remove(self, place: int) -> None:
        """The event waits no longer."""
        states = self._states
        states[place] = GONE
        self._held -= 1
        while self._first < len(states) and states[self._first] == GONE:
            self._first += 1

    def dues(self) -> list[tuple[float, int]]:
        """(due, number) of all that will be late, in this order."""
        held = zip(self._due, self._numbers, self._states, strict=True)
        return sorted((due, number) for due, number, state in held if state == WAITS and due < math.inf)

    def _close_gaps(self) -> None:
        self.restore(self.snapshot())

    def snapshot(self) -> dict[str, NDArray[Any]]:
        """number (n,), time (n,), rows (n, fields), due (n,), late (n,) of those that wait."""
        states = np.frombuffer(self._states, np.uint8)
        held = states != GONE
        return {
            "number": np.array(self._numbers)[held],
            "time": np.array(self._times)[held],
            "rows": np.array(self._rows).reshape(-1, self._fields)[held],
            "due": np.array(self._due)[held],
            "late": states[held] == LATE,
        }

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Become what `snapshot` described."""
        self._numbers = array("q", np.asarray(arrays["number"], np.int64).tobytes())
        self._times = array("d", np.asarray(arrays["time"], np.float64).tobytes())
        self._rows = array("i", np.asarray(arrays["rows"], np.int32).tobytes())
        self._due = array("d", np.asarray(arrays["due"], np.float64).tobytes())
        self._states = bytearray(np.where(arrays["late"], LATE, WAITS).astype(np.uint8).tobytes())
        self._first, self._held = 0, len(self._numbers)
