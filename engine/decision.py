"""What is answered for an event, what could not be used and why, and both as messages for a sink."""

from __future__ import annotations

from typing import Any

import msgspec

from streams.event import Event, Label, Malformed, Position


class Decision(msgspec.Struct, frozen=True):
    """What was answered for an event: a label, or a value; probabilities is {} for a value."""

    id: str
    time: float
    forecast: Any
    probabilities: dict[Any, float]
    version: int
    position: Position

    def message(self) -> dict[str, Any]:
        """The decision as it goes to the sink; labels that are not text become JSON's text for them."""
        topic, partition, offset = self.position
        message: dict[str, Any] = {"id": self.id, "time": self.time, "forecast": self.forecast}
        if self.probabilities:
            message["probabilities"] = {label_text(label): p for label, p in self.probabilities.items()}
        at = {"topic": topic, "partition": partition, "offset": offset}
        return {**message, **at, "version": self.version}


class Refusal(msgspec.Struct, frozen=True):
    """A record that could not be used, with the reason; it goes to the dead letters."""

    position: Position
    time: float
    reason: str
    item: Event | Label | Malformed

    def message(self) -> dict[str, Any]:
        """The refusal as it goes to the dead-letter sink; raw bytes are kept as Latin-1 text."""
        topic, partition, offset = self.position
        item = self.item
        content = item.raw.decode("latin-1") if isinstance(item, Malformed) else msgspec.to_builtins(item)
        at = {"topic": topic, "partition": partition, "offset": offset}
        return {"time": self.time, "reason": self.reason, **at, "record": content}


def label_text(label: Any) -> str:
    """A label as a JSON key: text as it is, everything else as JSON writes it (1 → "1", True → "true")."""
    return label if isinstance(label, str) else msgspec.json.encode(label).decode()
