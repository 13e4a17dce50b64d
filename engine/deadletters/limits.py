"""How many records may be refused before a run stops: a share of the last ones, or a run of them in a row."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


class TooManyRefused(Exception):
    """More records were refused than the limits allow; the text says which, how many and how to go on.

    without_values: the text without the reasons, which may repeat what was in a record.
    """

    def __init__(self, excess: str, reasons: str) -> None:
        rest = (
            "Everything up to here is saved. See them with `everlearn dlq ls`, repair what writes them or the "
            "settings that read them; then start again with --past-refused, which counts anew, or with a higher "
            "limit in [dead]"
        )
        super().__init__(f"{excess}: {reasons}. {rest}")
        self.without_values = f"{excess}. {rest}"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Past which refused records a run stops.

    max_ratio: the share of the last `over` records, above 0 and up to 1; more than that stops the run, None: no
    limit. It is of `over` from the first record on, so that a few bad ones at the beginning stop nothing.
    max_run: as many refused records one after the other stop it; None: no limit.
    """

    max_ratio: float | None = 0.5
    over: int = 1_000
    max_run: int | None = None

    def __post_init__(self) -> None:
        if self.max_ratio is not None and not 0.0 < self.max_ratio <= 1.0:
            raise ValueError(f"max_ratio is {self.max_ratio}; expected a share above 0 and up to 1, or None")
        if self.over < 1 or (self.max_run is not None and self.max_run < 1):
            raise ValueError(f"over is {self.over}, max_run is {self.max_run}; expected at least 1 of each")


class RefusedLately:
    """Which of the last records were refused, counted by record and not by the clock; part of the snapshot.

    Nothing is done for a record that is taken.

    >>> lately = RefusedLately(Limits(max_ratio=0.5, over=4))
    >>> for number in (1, 2, 7, 8, 9):
    ...     lately.add(number, kind=0)
    >>> lately.excess(9)
    '3 of the last 4 records were refused, more than 50 % (max_ratio)'
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._last: deque[tuple[int, int]] = deque()  # number of the record, kind of the reason
        self._run = 0

    def add(self, number: int, kind: int) -> None:
        """The record of this number, counted from 1, was refused; a second reason of its changes nothing."""
        before = self._last[-1][0] if self._last else 0
        if number <= before:
            return
        self._run = self._run + 1 if number == before + 1 else 1
        self._last.append((number, kind))
        self._forget_before(number)

    def _forget_before(self, number: int) -> None:
        while self._last and self._last[0][0] <= number - self.limits.over:
            self._last.popleft()

    def excess(self, number: int) -> str | None:
        """Which limit is passed once the record of this number was taken, in words; None where none is."""
        limits, last = self.limits, self._last[-1][0] if self._last else 0
        if limits.max_run is not None and self._run >= limits.max_run and last == number:
            return f"{self._run:,} records in a row were refused, the limit is {limits.max_run:,} (max_run)"
        self._forget_before(number)
        if limits.max_ratio is not None and len(self._last) > limits.max_ratio * limits.over:
            return (
                f"{len(self._last):,} of the last {limits.over:,} records were refused, more than "
                f"{100 * limits.max_ratio:g} % (max_ratio)"
            )
        return None

    def check(self, number: int, told: Callable[[int], str]) -> None:
        """TooManyRefused where `excess` finds that; told: what is known of a kind of reason, in words."""
        excess = self.excess(number)
        if excess is None:
            return
        kinds = Counter(kind for _, kind in self._last).most_common(3)
        reasons = "; ".join(f"{count:,} × {told(kind)}" for kind, count in kinds)
        raise TooManyRefused(excess, reasons)

    def state(self) -> dict[str, Any]:
        """What changes, ready for JSON."""
        return {"last": [list(pair) for pair in self._last], "run": self._run}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to what `state` returned."""
        self._last = deque((number, kind) for number, kind in state["last"])
        self._run = int(state["run"])
