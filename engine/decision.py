"""What is answered for an event, what could not be used and why, and both as messages for a sink."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from streams.codecs import encode_json
from streams.event import Event, Label, Malformed, Position

KEPT_BYTES = 64 * 1024
"""Of a refused record; as JSON at most six times as much, so that a broker's usual 1 MiB takes the message."""
KEPT_REASON = 4096  # characters


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
        """The refusal as it goes to the dead-letter sink; raw bytes are kept as Latin-1 text.

        Of a record of more than KEPT_BYTES the first ones are kept (of an event or label: of its JSON), with
        the length and SHA-256 of all in `record_bytes` and `record_sha256`; topic, partition and offset say
        where the whole one stands.
        """
        topic, partition, offset = self.position
        reason = self.reason if len(self.reason) <= KEPT_REASON else self.reason[:KEPT_REASON] + "…"
        at = {"topic": topic, "partition": partition, "offset": offset}
        return {"time": self.time, "reason": reason, **at, **self._record()}

    def _record(self) -> dict[str, Any]:
        item = self.item
        bare = isinstance(item, Malformed)
        raw = item.raw if isinstance(item, Malformed) else encode_json(item)
        if len(raw) <= KEPT_BYTES:
            return {"record": raw.decode("latin-1") if bare else msgspec.to_builtins(item)}
        start = raw[:KEPT_BYTES]
        return {
            "record": start.decode("latin-1") if bare else start.decode(errors="ignore"),
            "record_bytes": len(raw),
            "record_sha256": hashlib.sha256(raw).hexdigest(),
        }


def label_text(label: Any) -> str:
    """A label as a JSON key: text as it is, everything else as JSON writes it (1 → "1", True → "true")."""
    return label if isinstance(label, str) else msgspec.json.encode(label).decode()
