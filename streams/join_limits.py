"""How long and how much the label join keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class JoinLimits:
    """What has to go for these goes oldest first and is counted; forecasts without a label before those with one.

    max_age: seconds of event time that a forecast waits for its label and a label for its event, and that ids
    are remembered. max_waiting: forecasts that may wait. max_bytes: of forecasts and of events kept for
    corrections. max_held: labels that may wait for their event. max_queued: labels that may wait for their
    turn, where only so many are learned at a time.
    window: ids of events that are remembered, so that none is answered twice. remembered: ids of labels and
    given-up forecasts, so that late, duplicate and corrected labels are known as such.
    corrections: whether a label that differs from the one learned is learned too, from its event, of which the
    last `correct_within` with a label are kept (and all that wait).

    >>> JoinLimits(max_age=0.0)
    Traceback (most recent call last):
    ValueError: max_age is 0.0; expected seconds above 0
    """

    max_age: float = 14 * 86400.0
    max_waiting: int = 100_000
    max_bytes: int = 1 << 30
    max_held: int = 10_000
    max_queued: int = 100_000
    window: int = 100_000
    remembered: int = 100_000
    corrections: Literal["ignore", "learn"] = "ignore"
    correct_within: int = 10_000

    def __post_init__(self) -> None:
        if not self.max_age > 0:
            raise ValueError(f"max_age is {self.max_age}; expected seconds above 0")
        numbers = (
            "max_waiting",
            "max_bytes",
            "max_held",
            "max_queued",
            "window",
            "remembered",
            "correct_within",
        )
        for name in numbers:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 1")
        if self.corrections not in ("ignore", "learn"):
            raise ValueError(f"corrections is {self.corrections!r}; expected 'ignore' or 'learn'")
