"""Says when a learner has become worse than it was: a cumulative sum over its standardised losses."""

from __future__ import annotations

import math
from typing import Any


class DriftMeter:
    """Counts the moments at which the loss rises above what it has been since the last such moment.

    With mean μ and deviation s of the losses since the last drift (Welford, this loss not yet included)
    the sum g ← max(0, g + (loss − μ)/s − allowance) passes `threshold` once losses have stayed high; then
    a drift is counted and everything starts anew. On losses without drift the expected distance between
    two false alarms is e^(2·allowance·threshold)/(2·allowance²): 8 million events with the defaults. A rise
    of half a deviation is found after about 150 events. (Page, Continuous inspection schemes, 1954.)

    >>> meter = DriftMeter(warm_up=50)
    >>> for i in range(2000):
    ...     _ = meter.update(float(i % 10 == 0) if i < 1000 else float(i % 2), time=float(i))
    >>> meter.count, 1000 < meter.last < 1200
    (1, True)
    """

    def __init__(self, *, allowance: float = 0.1, threshold: float = 60.0, warm_up: int = 200) -> None:
        self.allowance = allowance
        self.threshold = threshold
        self.warm_up = warm_up
        self.count = 0
        self.events = 0
        self.marks: list[tuple[int, float | None]] = []
        self._n = 0
        self._mean = 0.0
        self._m2 = 0.0
        self._sum = 0.0

    @property
    def last(self) -> float | None:
        """Time of the last drift, or its event number where no times are given; None without any."""
        if not self.marks:
            return None
        event, time = self.marks[-1]
        return float(event) if time is None else time

    def update(self, loss: float, time: float | None = None) -> bool:
        """Take one loss (finite); True if a drift was found with it. Of drifts the last 200 are kept."""
        self.events += 1
        if self._n >= self.warm_up:
            deviation = math.sqrt(self._m2 / self._n)
            if deviation > 0.0:
                self._sum = max(0.0, self._sum + (loss - self._mean) / deviation - self.allowance)
            elif loss > self._mean:
                self._sum += 1.0
        if self._sum > self.threshold:
            self.count += 1
            self.marks = [*self.marks[-199:], (self.events, time)]
            self._n, self._mean, self._m2, self._sum = 0, 0.0, 0.0, 0.0
            return True
        self._n += 1
        change = loss - self._mean
        self._mean += change / self._n
        self._m2 += change * (loss - self._mean)
        return False

    def state(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        return {
            "options": [self.allowance, self.threshold, self.warm_up],
            "counts": [self.count, self.events, self._n],
            "values": [self._mean, self._m2, self._sum],
            "marks": [list(mark) for mark in self.marks],
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> DriftMeter:
        """The meter that `state` described."""
        allowance, threshold, warm_up = state["options"]
        self = cls(allowance=allowance, threshold=threshold, warm_up=warm_up)
        self.count, self.events, self._n = state["counts"]
        self._mean, self._m2, self._sum = state["values"]
        self.marks = [(mark[0], mark[1]) for mark in state["marks"]]
        return self
