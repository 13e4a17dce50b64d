"""Events and labels as JSON bytes, and back: what cannot be read comes back as Malformed, never as an error.

NaN and infinity do not exist in JSON: they travel as null, which is a missing value.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from streams.codecs.message import BROKEN, NEITHER, Parse, Unreadable, Wire, check, flat_type, reason
from streams.event import Event, Label, Malformed


def _plain(value: Any) -> Any:
    """NumPy's scalars as Python's; everything else is refused."""
    item = getattr(value, "item", None)
    if item is not None and getattr(value, "ndim", None) == 0:
        return item()
    raise TypeError(f"a {type(value).__name__} has no JSON form; expected number, bool, string or None")


_encoder = msgspec.json.Encoder(enc_hook=_plain)
_decode_wire = msgspec.json.Decoder(Wire).decode
_decode_any = msgspec.json.Decoder().decode


def encode_json(value: Any) -> bytes:
    """Any JSON-compatible value as compact UTF-8 bytes; NaN and infinity become null."""
    return _encoder.encode(value)


def encode_event(event: Event) -> bytes:
    """An event as JSON bytes; NaN and infinite features become null, which is missing.

    Raises ValueError where id, time, label or weight could not be read back.

    >>> encode_event(Event(id="a", time=1.5, features={"x": 2, "y": float("nan")}))
    b'{"id":"a","time":1.5,"features":{"x":2,"y":null}}'
    """
    check(event.id, event.time, event.label, event.weight)
    return _encoder.encode(event)


def encode_label(label: Label) -> bytes:
    """A label as JSON bytes. Raises ValueError where it could not be read back.

    >>> encode_label(Label(id="a", time=2.0, label=True))
    b'{"id":"a","time":2.0,"label":true}'
    """
    if label.label is None:
        raise ValueError("label is None; expected a number, bool or string")
    check(label.id, label.time, label.label, label.weight)
    return _encoder.encode(label)


def decode(raw: bytes, key: bytes | None = None, timestamp: float | None = None) -> Event | Label | Malformed:
    """What the bytes hold. Never raises: what is neither event nor label comes back with the reason.

    The message says everything itself: key and timestamp are not looked at.

    >>> decode(b'{"id":"a","time":1,"features":{"x":null}}')
    Event(id='a', time=1.0, features={'x': None}, label=None, weight=1.0)
    >>> decode(b'{"id":"a","features":{}}').error
    'time is absent; expected seconds since 1970-01-01 UTC as a finite number'
    """
    try:
        wire = _decode_wire(raw)
    except BROKEN as error:
        return Malformed(raw=bytes(raw), error=_reason(raw, error))
    features, label = wire.features, wire.label
    if features is not msgspec.UNSET:
        return Event(id=wire.id, time=wire.time, features=features, label=label, weight=wire.weight)
    if label is None:
        return Malformed(raw=bytes(raw), error=NEITHER)
    return Label(id=wire.id, time=wire.time, label=label, weight=wire.weight)


def parse_json(raw: bytes) -> Any:
    """What the bytes hold, as dicts, lists and scalars. Raises Unreadable with the reason.

    >>> parse_json(b'{"a": [1, 2.5]}')
    {'a': [1, 2.5]}
    """
    try:
        return _decode_any(raw)
    except BROKEN as error:
        if not raw:
            raise Unreadable("empty message; expected a JSON object") from error
        raise Unreadable(f"not readable as JSON: {error}") from error


def flat_json(names: Sequence[str] | None) -> Parse:
    """What reads objects in which these fields (None: all) hold neither objects nor lists: those fields alone.

    It raises one of BROKEN for all other messages, and looks at nothing in fields that it leaves out.
    """
    return msgspec.json.Decoder(flat_type(names)).decode


def _reason(raw: bytes, error: Exception) -> str:
    try:
        found = parse_json(raw)
    except Unreadable as broken:
        return str(broken)
    return reason(found, "JSON", error)
