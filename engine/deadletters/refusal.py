"""Dead letters: a record that could not be used as a message that gives back its bytes, key and headers.

    {"time": …, "reason": "…", "topic": "orders", "partition": 0, "offset": 17,
     "record": "{broken", "key": "a", "headers": [["trace", "7f"]]}

What is UTF-8 stands as text, exactly; anything else in Base64 beside it: `record_base64`, `key_base64`, and in
headers {"base64": "…"} in place of the text. Key and headers are left out where the record has none.

Of a record of more than KEPT_BYTES, key and headers counted, the first bytes are kept, with the length and
SHA-256 of all of them in `record_bytes` and `record_sha256`; topic, partition and offset say where the whole one
stands. So they do where `record_rewritten` is true: the record had waited, its bytes are gone, and what it was
understood as stands in their place.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Any

import msgspec

from streams.codecs import encode_json
from streams.event import Event, Headers, Label, Malformed, Position, Record

KEPT_BYTES = 64 * 1024
"""Of a refused record; as JSON at most six times as much, so that a broker's usual 1 MiB takes the message."""
KEPT_REASON = 4096  # characters
_BESIDE = 32  # bytes that a header takes at most beside its name and value


class Refusal(msgspec.Struct, frozen=True):
    """A record that could not be used, with the reason; time: its event time, or the latest before it."""

    record: Record
    reason: str
    time: float

    @property
    def position(self) -> Position:
        """Where the record stands."""
        return self.record.position

    @property
    def item(self) -> Event | Label | Malformed:
        """What the record holds."""
        return self.record.item

    def key(self) -> str:
        """The dead letter's key: where the record stands."""
        return ":".join(map(str, self.position))

    def message(self) -> dict[str, Any]:
        """The dead letter as it goes to the sink."""
        topic, partition, offset = self.position
        at = {"topic": topic, "partition": partition, "offset": offset}
        return {"time": self.time, "reason": self._reason(), **at, **_kept(self.record)}

    def headers(self) -> Headers:
        """What travels beside the dead letter, where the log has headers: where from, and the reason."""
        topic, partition, offset = self.position
        ours = {"error": self._reason(), "topic": topic, "partition": str(partition), "offset": str(offset)}
        return tuple((f"everlearn.{name}", text.encode(errors="replace")) for name, text in ours.items())

    def _reason(self) -> str:
        return self.reason if len(self.reason) <= KEPT_REASON else self.reason[:KEPT_REASON] + "…"


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """A dead letter that was read back.

    at: where it stands itself. position: where its record stood. time, reason: the refusal's.
    raw, key, headers: the record's; raw is None where it was too large to be kept, sha256 then tells it.
    rewritten: whether raw is only what the record was understood as.
    """

    at: Position
    position: Position
    time: float
    reason: str
    raw: bytes | None
    key: bytes | None = None
    headers: Headers = ()
    rewritten: bool = False
    size: int = 0
    sha256: str | None = None
    start: str = ""


def read_letter(at: Position, raw: bytes) -> Letter:
    """What `Refusal.message` wrote as JSON; ValueError where the bytes are no dead letter.

    >>> record = Record(Position("orders", 0, 7), Malformed(raw=b"", error=""), b"\\xff{", b"a")
    >>> letter = read_letter(Position("dead", 0, 0), encode_json(Refusal(record, "not JSON", 5.0).message()))
    >>> letter.raw, letter.key, letter.position.offset, letter.reason
    (b'\\xff{', b'a', 7, 'not JSON')
    """
    try:
        found = msgspec.json.decode(raw)
        position = Position(str(found["topic"]), int(found["partition"]), int(found["offset"]))
        kept = _bytes(found, "record") or b""
        whole = "record_sha256" not in found
        return Letter(
            at=at,
            position=position,
            time=float(found["time"]),
            reason=str(found["reason"]),
            raw=kept if whole else None,
            key=_bytes(found, "key"),
            headers=tuple((str(name), _value(value)) for name, value in found.get("headers", [])),
            size=len(kept) if whole else int(found["record_bytes"]),
            rewritten=bool(found.get("record_rewritten", False)),
            sha256=found.get("record_sha256"),
            start=kept[:200].decode(errors="replace"),
        )
    except (msgspec.MsgspecError, KeyError, TypeError, ValueError, binascii.Error) as error:
        raise ValueError(
            f"topic {at.topic!r} partition {at.partition} offset {at.offset} is no dead letter ({error!r}); "
            "expected a message with topic, partition, offset, time, reason and record"
        ) from None


def record_bytes(record: Record) -> bytes:
    """The record's bytes; where its source has none, what its item is as JSON."""
    if record.raw is not None:
        return record.raw
    return record.item.raw if isinstance(record.item, Malformed) else encode_json(record.item)


def _kept(record: Record) -> dict[str, Any]:
    raw, key, headers = record_bytes(record), record.key, record.headers
    beside = len(key or b"") + sum(len(name.encode()) + len(value) + _BESIDE for name, value in headers)
    if len(raw) + beside <= KEPT_BYTES:
        found = _text("record", raw)
    else:
        found = _text("record", _start(raw))
        found |= {"record_bytes": len(raw), "record_sha256": hashlib.sha256(raw).hexdigest()}
        if beside > KEPT_BYTES // 16:
            return found
    if record.raw is None and not isinstance(record.item, Malformed):
        found["record_rewritten"] = True
    if key is not None:
        found |= _text("key", key)
    if headers:
        found["headers"] = [
            [name, _text("text", value).get("text", _coded(value))] for name, value in headers
        ]
    return found


def _start(raw: bytes) -> bytes:
    """The first bytes; of text no half character."""
    start = raw[:KEPT_BYTES]
    try:
        raw.decode()
    except UnicodeDecodeError:
        return start
    return start.decode(errors="ignore").encode()


def _text(name: str, value: bytes) -> dict[str, Any]:
    try:
        return {name: value.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(value).decode()}


def _coded(value: bytes) -> dict[str, str]:
    return {"base64": base64.b64encode(value).decode()}


def _bytes(found: dict[str, Any], name: str) -> bytes | None:
    coded = found.get(f"{name}_base64")
    if coded is not None:
        return base64.b64decode(coded, validate=True)
    text = found.get(name)
    if text is not None and not isinstance(text, str):
        raise ValueError(f"{name} is a {type(text).__name__}")
    return None if text is None else text.encode()


def _value(value: Any) -> bytes:
    return base64.b64decode(value["base64"], validate=True) if isinstance(value, dict) else value.encode()
