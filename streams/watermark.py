"""How far event time has come, by the word of the majority of recent records and not of any single one.

Of the times of the last `window` records let m be the median (the lower one of two). Event time is the latest
of them that is not beyond m + max_jump; it does not go back while it is supported, that is, not beyond
m + max_jump itself. So a time far ahead moves nothing before half of the window says so, a time far in the past
moves nothing, and after a gap half a window of records is enough.

Where it would leap, by more than FAR times max_jump at once, forwards or back, half of the last `memory` records
must say so as well: the median of their times must lie beyond such a leap, on the same side. Shorter bursts of
wrong times move nothing, and a true gap of that length is followed after half of `memory`.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

WINDOW = 64
MEMORY = 512
FAR = 8.0


class Watermark:
    """Event time in seconds, robust against clocks that jump; O(1) per record, deterministic.

    max_jump: seconds that event time may be ahead of the median of recent times. A stream with fewer than two
    records per max_jump is followed late, by at most half a window of records; with less than one in FAR times
    max_jump, by half of `memory`. window, memory: how many records are recent, and how many decide about a
    leap. now: event time; −inf before the first record.

    >>> clock = Watermark(max_jump=60.0)
    >>> [clock.observe(time) for time in (0.0, 10.0, 4e9, 20.0, -1e9, 30.0)]
    [0.0, 10.0, 10.0, 20.0, 20.0, 30.0]
    """

    def __init__(self, max_jump: float, window: int = WINDOW, memory: int = MEMORY) -> None:
        if not max_jump > 0:
            raise ValueError(f"max_jump is {max_jump}; expected seconds above 0")
        if window < 1:
            raise ValueError(f"window is {window}; expected at least 1 record")
        if memory < window:
            raise ValueError(f"memory is {memory}; expected at least the {window} records of the window")
        self.max_jump = max_jump
        self.window = window
        self.memory = memory
        self.now = -math.inf
        self._recent: deque[float] = deque()
        self._sorted: list[float] = []  # the last `window` of them
        self._all: list[float] = []

    def observe(self, time: float) -> float:
        """A record of this time came; returns event time. A time that is not finite says nothing."""
        if not math.isfinite(time):
            return self.now
        recent, ordered = self._recent, self._sorted
        if len(ordered) == self.window:
            del ordered[bisect_left(ordered, recent[-self.window])]
        recent.append(time)
        insort(ordered, time)
        insort(self._all, time)
        if len(self._all) > self.memory:
            del self._all[bisect_left(self._all, recent.popleft())]
        limit = ordered[(len(ordered) - 1) // 2] + self.max_jump
        latest = ordered[bisect_right(ordered, limit) - 1]
        if (latest > self.now or self.now > limit) and self._lasts(latest):
            self.now = latest
        return self.now

    def _lasts(self, time: float) -> bool:
        """Whether enough records say so where event time would leap to this time."""
        far = FAR * self.max_jump
        if abs(time - self.now) <= far or self.now == -math.inf:
            return True
        median = self._all[(len(self._all) - 1) // 2]
        return median > self.now + far if time > self.now else median < self.now - far

    def snapshot(self) -> NDArray[np.float64]:
        """(1 + n,) float64: event time, then the times of the last n ≤ memory records in the order they came."""
        return np.array([self.now, *self._recent])

    def restore(self, state: NDArray[Any]) -> None:
        """Go back to a snapshot, which may come from a watermark with another window or memory."""
        now, *recent = state.tolist()
        self.now = now
        self._recent = deque(recent[-self.memory :])
        self._all = sorted(self._recent)
        self._sorted = sorted(recent[-self.window :])
