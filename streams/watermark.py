"""How far event time has come, by the word of the majority of recent records and not of any single one.

Of the times of the last `window` records let m be the median (the lower one of two). Event time is the latest
of them that is not beyond m + max_jump; it does not go back while it is supported, that is, not beyond
m + max_jump itself. So m ≤ event time ≤ m + max_jump always holds: a time far ahead moves nothing before half of
the window says so, a time far in the past moves nothing, and after a true gap, or after a clock that had gone
wrong for long is set right, half a window of records is enough.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

WINDOW = 64


class Watermark:
    """Event time in seconds, robust against clocks that jump; O(1) per record, deterministic.

    max_jump: seconds that event time may be ahead of the median of recent times. A stream with fewer than two
    records per max_jump is followed late, by at most half a window of records. window: how many records
    are recent. now: event time; −inf before the first record.

    >>> clock = Watermark(max_jump=60.0)
    >>> [clock.observe(time) for time in (0.0, 10.0, 4e9, 20.0, -1e9, 30.0)]
    [0.0, 10.0, 10.0, 20.0, 20.0, 30.0]
    """

    def __init__(self, max_jump: float, window: int = WINDOW) -> None:
        if not max_jump > 0:
            raise ValueError(f"max_jump is {max_jump}; expected seconds above 0")
        if window < 1:
            raise ValueError(f"window is {window}; expected at least 1 record")
        self.max_jump = max_jump
        self.window = window
        self.now = -math.inf
        self._recent: deque[float] = deque()
        self._sorted: list[float] = []

    def observe(self, time: float) -> float:
        """A record of this time came; returns event time. A time that is not finite says nothing."""
        if not math.isfinite(time):
            return self.now
        ordered = self._sorted
        self._recent.append(time)
        insort(ordered, time)
        if len(ordered) > self.window:
            del ordered[bisect_left(ordered, self._recent.popleft())]
        limit = ordered[(len(ordered) - 1) // 2] + self.max_jump
        latest = ordered[bisect_right(ordered, limit) - 1]
        if latest > self.now or self.now > limit:
            self.now = latest
        return self.now

    def snapshot(self) -> NDArray[np.float64]:
        """(1 + n,) float64: event time, then the times of the last n ≤ window records in the order they came."""
        return np.array([self.now, *self._recent])

    def restore(self, state: NDArray[Any]) -> None:
        """Go back to a snapshot, which may come from a watermark with another window."""
        now, *recent = state.tolist()
        self.now = now
        self._recent = deque(recent[-self.window :])
        self._sorted = sorted(self._recent)
