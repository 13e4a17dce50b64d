"""At most so many labels are learned per interval of event time; which ones wait, the label join keeps."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

REMEMBERED = 64
_FARTHEST = 2.0**53


class LabelPacer:
    """How many labels may still be learned now: at most `at_most` in each interval of `per_seconds`.

    Intervals are [k · per_seconds, (k + 1) · per_seconds) of event time. What was learned in each of the last
    `REMEMBERED` is known, so that event time which goes back and forth opens none of them anew. The queue itself
    is `PendingForecasts.queue`: a label that waits and its forecast stand in one place and go together.

    >>> pace = LabelPacer(at_most=1, per_seconds=60.0)
    >>> pace.left(now=0.0), pace.spend(now=0.0), pace.left(now=59.0), pace.left(now=60.0)
    (1, None, 0, 1)
    """

    def __init__(self, at_most: int, per_seconds: float) -> None:
        if at_most < 1:
            raise ValueError(f"at_most is {at_most}; expected at least 1 label")
        if not 0 < per_seconds < float("inf"):
            raise ValueError(f"per_seconds is {per_seconds}; expected finite seconds above 0")
        self.at_most = at_most
        self.per_seconds = per_seconds
        self._spent: OrderedDict[int, int] = OrderedDict()

    def _interval(self, now: float) -> int:
        return int(min(max(now / self.per_seconds, -_FARTHEST), _FARTHEST) // 1)

    def left(self, now: float) -> int:
        """How many further labels may be learned at event time `now`."""
        return max(self.at_most - self._spent.get(self._interval(now), 0), 0)

    def spend(self, now: float) -> None:
        """One label was learned at event time `now`."""
        interval = self._interval(now)
        self._spent[interval] = self._spent.get(interval, 0) + 1
        self._spent.move_to_end(interval)
        if len(self._spent) > REMEMBERED:
            self._spent.popitem(last=False)

    def snapshot(self) -> list[list[int]]:
        """[interval, labels learned in it], the one last learned in at the end; JSON-compatible."""
        return [[interval, spent] for interval, spent in self._spent.items()]

    def restore(self, state: Sequence[Sequence[int]]) -> None:
        """Go back to a snapshot."""
        self._spent = OrderedDict((interval, spent) for interval, spent in state)
