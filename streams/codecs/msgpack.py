"""Events, labels and answers as MessagePack: the canonical message with half of JSON's bytes.

NaN and infinity exist here; they count as missing, as JSON's null does, and are written as nil.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec

from streams.codecs.json import encode_json
from streams.codecs.message import BROKEN, Parse, Unreadable, Wire, finite_item, flat_type, reason
from streams.event import Event, Label, Malformed

_decode_wire = msgspec.msgpack.Decoder(Wire).decode
_decode_any = msgspec.msgpack.Decoder().decode
_encode = msgspec.msgpack.Encoder().encode
_as_json = msgspec.json.Decoder().decode


def encode_msgpack(value: Any) -> bytes:
    """What `encode_json` takes, as MessagePack: the same names and values, NaN and infinity as nil.

    Integers beyond 64 bits, which MessagePack does not have, are written as floats.

    >>> encode_msgpack({"id": "a", "forecast": 1})
    b'\\x82\\xa2id\\xa1a\\xa8forecast\\x01'
    """
    plain = _as_json(encode_json(value))  # names as text, numbers as Python's, NaN as None: JSON's own rules
    try:
        return _encode(plain)
    except OverflowError:
        return _encode(_narrow(plain))


def decode_msgpack(
    raw: bytes, key: bytes | None = None, timestamp: float | None = None
) -> Event | Label | Malformed:
    """What the bytes hold. Never raises: what is neither event nor label comes back with the reason.

    >>> decode_msgpack(encode_msgpack(Event(id="a", time=1.0, features={"x": float("nan")})))
    Event(id='a', time=1.0, features={'x': None}, label=None, weight=1.0)
    """
    try:
        return finite_item(_decode_wire(raw))
    except Unreadable as error:
        return Malformed(raw=bytes(raw), error=str(error))
    except BROKEN as error:
        return Malformed(raw=bytes(raw), error=_reason(raw, error))


def parse_msgpack(raw: bytes) -> Any:
    """What the bytes hold, as dicts, lists, scalars and datetimes. Raises Unreadable with the reason."""
    try:
        return _decode_any(raw)
    except BROKEN as error:
        if not raw:
            raise Unreadable("empty message; expected a MessagePack object") from error
        raise Unreadable(f"not readable as MessagePack: {error}") from error


def flat_msgpack(names: Sequence[str] | None) -> Parse:
    """What reads maps in which these fields (None: all) hold neither maps nor arrays: those fields alone.

    NaN and infinity are None. It raises one of BROKEN for all other messages.
    """
    decode_flat = msgspec.msgpack.Decoder(flat_type(names)).decode

    def parse(raw: bytes) -> Any:
        found = decode_flat(raw)
        for name in [n for n, v in found.items() if type(v) is float and not math.isfinite(v)]:
            found[name] = None
        return found

    return parse


def _reason(raw: bytes, error: Exception) -> str:
    try:
        found = parse_msgpack(raw)
    except Unreadable as broken:
        return str(broken)
    return reason(found, "MessagePack", error)


def _narrow(value: Any) -> Any:
    """Integers beyond 64 bits as floats; those beyond floats as None, as infinity is."""
    if isinstance(value, dict):
        return {name: _narrow(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_narrow(inner) for inner in value]
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        try:
            return float(value)
        except OverflowError:
            return None
    return value
