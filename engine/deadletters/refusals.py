"""Why records were refused: how many of each kind, and the first of them, so that no reason is lost."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from engine.deadletters.refusal import Refusal

OTHER = "other reasons"
_VALUES = re.compile(r"'[^']*'|\"[^\"]*\"|[-+]?\d[\w.+-]*")
_LONGEST = 300  # characters of a reason that are kept


def kind_of(reason: str) -> str:
    """A reason without its numbers and quoted text.

    >>> kind_of("the label is 'one' at 17; expected a number")
    'the label is … at …; expected a number'
    """
    return _VALUES.sub("…", " ".join(reason.split())[:_LONGEST])


class Refusals:
    """Refused records by kind of reason, in the order in which the kinds appeared.

    Reasons that differ only in numbers and quoted text are one kind. kinds: how many are told apart; what
    comes after them is counted together.

    >>> from streams.event import Label, Position, Record
    >>> found = Refusals()
    >>> for offset, y in enumerate(["one", "two"]):
    ...     record = Record(Position("paid", 0, offset), Label(id="a", time=0.0, label=y))
    ...     found.add(Refusal(record, f"the label is {y!r}; expected a number", 0.0))
    >>> found.lines()
    ["2 refused, the first at paid 0:0: the label is 'one'; expected a number"]
    """

    def __init__(self, *, kinds: int = 16) -> None:
        if kinds < 1:
            raise ValueError(f"kinds is {kinds}; expected at least 1")
        self._kinds = kinds
        self._found: dict[str, tuple[int, str]] = {}

    def add(self, refusal: Refusal) -> None:
        """Count one."""
        reason = " ".join(refusal.reason.split())[:_LONGEST]
        kind = self._kind(refusal.reason)
        topic, partition, offset = refusal.position
        count, first = self._found.get(kind, (0, f"the first at {topic} {partition}:{offset}: {reason}"))
        self._found[kind] = (count + 1, first)

    def _kind(self, reason: str) -> str:
        kind = kind_of(reason)
        return OTHER if kind not in self._found and len(self._found) >= self._kinds else kind

    def place(self, refusal: Refusal) -> int:
        """The number of its kind, in the order in which the kinds appeared; it was added before."""
        return list(self._found).index(self._kind(refusal.reason))

    def first(self, place: int) -> str:
        """Where the first of the kind with this number stands, and its reason."""
        return list(self._found.values())[place][1]

    def lines(self) -> list[str]:
        """One per kind: how many, where the first stands, and its reason; the most frequent come first."""
        found = sorted(self._found.items(), key=lambda item: -item[1][0])
        return [
            f"{count:,} refused{' for other reasons' if kind == OTHER else ''}, {first}"
            for kind, (count, first) in found
        ]

    def state(self) -> list[list[Any]]:
        """[kind, count, first], ready for JSON."""
        return [[kind, count, first] for kind, (count, first) in self._found.items()]

    def restore(self, state: Sequence[Sequence[Any]]) -> None:
        """Go back to what `state` returned."""
        self._found = {kind: (count, first) for kind, count, first in state}
