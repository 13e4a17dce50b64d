"""What happens to labels and forecasts: counted, and as messages for a topic of its own."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec

from streams.event import Label, LabelValue, Position

Kind: TypeAlias = Literal["late", "orphan", "duplicate", "corrected", "refused", "dropped"]
"""late: its forecast had been given up. orphan: its event never came. duplicate: it came before, the same.
corrected: another one came before. refused: the learner could not take it. dropped: too many waited for their
turn to be learned."""


class Placed(NamedTuple):
    """A label and where it was read; position None where it stands in no log."""

    label: Label
    position: Position | None


class LabelReport(msgspec.Struct, frozen=True):
    """One label that was not simply learned; earlier: the label that its event had before, where known.

    >>> label = Label(id="a", time=5.0, label=1)
    >>> LabelReport("corrected", Placed(label, Position("labels", 0, 7)), earlier=0).message()["earlier"]
    0
    """

    kind: Kind
    placed: Placed
    earlier: LabelValue | None = None
    reason: str | None = None

    @property
    def key(self) -> str:
        """What a sink writes it under: topic, partition and offset of the label, or its id, and the kind."""
        label, position = self.placed
        return ":".join([*map(str, position or (label.id,)), self.kind])

    def message(self) -> dict[str, Any]:
        """The report as it goes to a sink; fields without a value are left out."""
        label, position = self.placed
        message: dict[str, Any] = {
            "kind": self.kind,
            "id": label.id,
            "time": label.time,
            "label": label.label,
            "earlier": self.earlier,
            "reason": self.reason,
        }
        if position is not None:
            message |= position._asdict()
        return {name: value for name, value in message.items() if value is not None}


class JoinCounts(msgspec.Struct):
    """What has happened so far.

    matched: labels that met their forecast, or came with their event.
    orphans: labels given up, because no event came in time or too many were held.
    duplicate_labels: labels for an id that had the same label, or waits with it.
    duplicate_events: events whose id was answered before, as far back as ids are remembered.
    expired: forecasts given up, because no label came in time or too many were waiting.
    crowded: those of them that had to go for number or memory.
    late: labels whose forecast had been given up.
    corrected: labels for an id that had another label.
    refused: labels that the learner could not take.
    dropped: labels given up with their forecast, because too many waited for their turn.
    """

    matched: int = 0
    orphans: int = 0
    duplicate_labels: int = 0
    duplicate_events: int = 0
    expired: int = 0
    crowded: int = 0
    late: int = 0
    corrected: int = 0
    refused: int = 0
    dropped: int = 0
