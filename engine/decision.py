"""What is answered for an event, as a message for a sink."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import msgspec

from streams.event import Position


class Decision(msgspec.Struct, frozen=True):
    """What was answered for an event; said: label → probability, or a value; surprise: how unlike others it is.

    >>> Decision("a", 0.0, {"up": 0.75, "down": 0.25}, 0, Position("events", 0, 0)).forecast
    'up'
    """

    id: str
    time: float
    said: Any
    version: int
    position: Position
    surprise: float | None = None

    @property
    def forecast(self) -> Any:
        """The value, or the most probable label, the first of equals; None where there is none yet."""
        said = self.said
        if not isinstance(said, dict):
            return said
        return max(said, key=said.__getitem__) if said else None

    @property
    def probabilities(self) -> dict[Any, float]:
        """Label → probability; {} for a value."""
        return self.said if isinstance(self.said, dict) else {}

    def message(self) -> dict[str, Any]:
        """The decision as it goes to the sink; labels that are not text become JSON's text for them."""
        topic, partition, offset = self.position
        message: dict[str, Any] = {"id": self.id, "time": self.time, "forecast": self.forecast}
        if probabilities := self.probabilities:
            message["probabilities"] = {label_text(label): p for label, p in probabilities.items()}
        message["topic"], message["partition"], message["offset"] = topic, partition, offset
        message["version"] = self.version
        if self.surprise is not None:
            message["surprise"] = self.surprise
        return message


@lru_cache(maxsize=4096, typed=True)  # True is not 1
def label_text(label: Any) -> str:
    """A label as a JSON key: text as it is, everything else as JSON writes it (1 → "1", True → "true")."""
    return label if isinstance(label, str) else msgspec.json.encode(label).decode()
