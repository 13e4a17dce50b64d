"""How long events take: a histogram of durations whose buckets grow with the duration, 1 ns to hours."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

_LONGEST = 1e12  # seconds
_SUB = 6  # 2⁶ buckets for every doubling: a percentile is right to 0.8 %
_PER_DECADE = 12  # bins of the histogram


def _middle(bucket: int) -> float:
    shift = max((bucket >> _SUB) - 1, 0)
    low = (bucket - (shift << _SUB)) << shift
    return low + ((1 << shift) - 1) / 2


class Latency:
    """Percentiles of durations in bounded memory (after the high dynamic range histogram).

    >>> latency = Latency()
    >>> for microseconds in range(1, 1001):
    ...     latency.add(microseconds * 1e-6)
    >>> [round(latency.percentile(q)) for q in (50, 99)]
    [502, 987]
    """

    def __init__(self) -> None:
        self.count = 0
        self.seconds = 0.0
        self.longest = 0.0
        self._buckets: dict[int, int] = {}

    def add(self, seconds: float, n: int = 1) -> None:
        """Count n events that took `seconds` each; negative ones count as zero, endless ones as 30,000 years."""
        seconds = min(max(seconds, 0.0), _LONGEST)
        ns = int(seconds * 1e9)
        shift = ns.bit_length() - _SUB - 1
        place = (shift << _SUB) + (ns >> shift) if shift > 0 else ns
        try:
            self._buckets[place] += n
        except KeyError:
            self._buckets[place] = n
        self.count += n
        self.seconds += seconds * n
        if seconds > self.longest:
            self.longest = seconds

    def percentile(self, q: float) -> float:
        """The q-th percentile (0–100) in microseconds; 0.0 while nothing was counted."""
        wanted = max(1.0, round(self.count * q / 100, 6))
        seen = 0
        for place in sorted(self._buckets):
            seen += self._buckets[place]
            if seen >= wanted:
                return min(_middle(place) / 1e3, self.longest * 1e6)
        return 0.0

    def copy(self) -> Latency:
        """The histogram as it is now."""
        other = Latency()
        other.count, other.seconds, other.longest = self.count, self.seconds, self.longest
        other._buckets = dict(self._buckets)
        return other

    def below(self, bounds: Sequence[float]) -> list[int]:
        """How many events took at most these seconds (ascending), to 0.8 %.

        >>> latency = Latency()
        >>> latency.add(0.003, n=2)
        >>> latency.add(7.0)
        >>> latency.below([0.001, 0.01, 10.0])
        [0, 2, 3]
        """
        found, left = [], sorted(self._buckets.items())
        seen = at = 0
        for bound in bounds:
            while at < len(left) and _middle(left[at][0]) <= bound * 1e9:
                seen += left[at][1]
                at += 1
            found.append(seen)
        return found

    def histogram(self) -> list[list[float]]:
        """[[µs, events], …] for a plot: twelve bins for every power of ten, told by their (geometric) middle.

        From the first bin with an event to the last; those between may have none.

        >>> latency = Latency()
        >>> latency.add(10e-6, n=3)
        >>> latency.add(13e-6)
        >>> [[round(microseconds, 1), events] for microseconds, events in latency.histogram()]
        [[11.0, 3], [13.3, 1]]
        """
        bins: Counter[int] = Counter()
        for place, n in self._buckets.items():
            bins[math.floor(_PER_DECADE * math.log10(max(_middle(place), 1.0)))] += n
        if not bins:
            return []
        return [[10 ** ((k + 0.5) / _PER_DECADE) / 1e3, bins[k]] for k in range(min(bins), max(bins) + 1)]

    def result(self) -> dict[str, float]:
        """Microseconds: `p50`, `p99`, `p99.9`, `mean` and `max`."""
        return {
            "p50": self.percentile(50),
            "p99": self.percentile(99),
            "p99.9": self.percentile(99.9),
            "mean": self.seconds / self.count * 1e6 if self.count else 0.0,
            "max": self.longest * 1e6,
        }

    def merge(self, other: Latency) -> None:
        """Add the other histogram's counts to this one."""
        self.count += other.count
        self.seconds += other.seconds
        self.longest = max(self.longest, other.longest)
        for place, n in other._buckets.items():
            self._buckets[place] = self._buckets.get(place, 0) + n

    def state(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        return {
            "count": self.count,
            "seconds": self.seconds,
            "longest": self.longest,
            "buckets": sorted(self._buckets.items()),
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Latency:
        """The histogram that `state` described."""
        self = cls()
        self.count, self.seconds, self.longest = state["count"], state["seconds"], state["longest"]
        self._buckets = {int(place): int(n) for place, n in state["buckets"]}
        return self
