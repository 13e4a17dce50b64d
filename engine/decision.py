"""What is answered for an event, as a message for a sink."""

from __future__ import annotations

from typing import Any

import msgspec

from streams.event import Position


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


def label_text(label: Any) -> str:
    """A label as a JSON key: text as it is, everything else as JSON writes it (1 → "1", True → "true")."""
    return label if isinstance(label, str) else msgspec.json.encode(label).decode()
