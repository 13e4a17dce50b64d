"""Events and labels as JSON bytes, and back: what cannot be read comes back as Malformed, never as an error.

An event is an object with `features`; a label is one with `id` and `label` but no `features`::

    {"id": "a1", "time": 1357034400.0, "features": {"wind": 12.5, "carrier": "UA", "gust": null}}
    {"id": "a1", "time": 1357047900.0, "label": 1}

NaN and infinity do not exist in JSON: they travel as null, which is a missing value. Fields that are not
known are ignored, so that producers may add theirs. An id and the text of a label have at most LONGEST
characters, because each answer repeats them.
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import msgspec

from streams.event import Event, Label, LabelValue, Malformed

Scalar: TypeAlias = bool | int | float | str | None

LONGEST = 1024  # characters of an id, or of a label that is text

_ERRORS = (msgspec.MsgspecError, UnicodeError, ValueError, OverflowError, RecursionError)


class _Wire(msgspec.Struct):
    """Either message, as it travels."""

    id: str
    time: float
    features: dict[str, Scalar] | msgspec.UnsetType = msgspec.UNSET
    label: Scalar = None
    weight: float = 1.0


def _plain(value: Any) -> Any:
    """NumPy's scalars as Python's; everything else is refused."""
    item = getattr(value, "item", None)
    if item is not None and getattr(value, "ndim", None) == 0:
        return item()
    raise TypeError(f"a {type(value).__name__} has no JSON form; expected number, bool, string or None")


_encoder = msgspec.json.Encoder(enc_hook=_plain)
_decoder = msgspec.json.Decoder(_Wire)
_anything = msgspec.json.Decoder()


def encode_json(value: Any) -> bytes:
    """Any JSON-compatible value as compact UTF-8 bytes; NaN and infinity become null."""
    return _encoder.encode(value)


def encode_event(event: Event) -> bytes:
    """An event as JSON bytes; NaN and infinite features become null, which is missing.

    Raises ValueError where id, time, label or weight could not be read back.

    >>> encode_event(Event(id="a", time=1.5, features={"x": 2, "y": float("nan")}))
    b'{"id":"a","time":1.5,"features":{"x":2,"y":null}}'
    """
    _check(event.id, event.time, event.label, event.weight)
    return _encoder.encode(event)


def encode_label(label: Label) -> bytes:
    """A label as JSON bytes. Raises ValueError where it could not be read back.

    >>> encode_label(Label(id="a", time=2.0, label=True))
    b'{"id":"a","time":2.0,"label":true}'
    """
    if label.label is None:
        raise ValueError("label is None; expected a number, bool or string")
    _check(label.id, label.time, label.label, label.weight)
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
        wire = _decoder.decode(raw)
    except _ERRORS as error:
        return Malformed(raw=bytes(raw), error=_reason(raw, error))
    label = wire.label
    if not (
        0 < len(wire.id) <= LONGEST and math.isfinite(wire.time) and 0.0 <= wire.weight < math.inf
    ) or _unfit(label):
        return Malformed(raw=bytes(raw), error=_reason(raw, ValueError("a value is out of range")))
    features = wire.features
    if features is not msgspec.UNSET:
        return Event(id=wire.id, time=wire.time, features=features, label=label, weight=wire.weight)
    if label is None:
        error_text = (
            "neither features nor a label; expected an event with features or a label with id and label"
        )
        return Malformed(raw=bytes(raw), error=error_text)
    return Label(id=wire.id, time=wire.time, label=label, weight=wire.weight)


def _unfit(label: Scalar) -> bool:
    """Whether a label is not finite or too long."""
    if isinstance(label, str):
        return len(label) > LONGEST
    return isinstance(label, float) and not math.isfinite(label)


def _too_long(field: str, text: str) -> str:
    return f"{field} has {len(text):,} characters; expected at most {LONGEST:,}, it starts with {text[:40]!r}"


def _check(id: str, time: float, label: LabelValue | None, weight: float) -> None:
    if not id:
        raise ValueError("id is empty; expected the unique name of the event")
    if len(id) > LONGEST:
        raise ValueError(_too_long("id", id))
    if not math.isfinite(time):
        raise ValueError(f"time is {time} for id {id!r}; expected seconds since 1970-01-01 UTC, finite")
    if not 0.0 <= weight < math.inf:
        raise ValueError(f"weight is {weight} for id {id!r}; expected a finite number of 0 or more")
    if isinstance(label, str) and len(label) > LONGEST:
        raise ValueError(_too_long("label", label))
    if _unfit(label):
        raise ValueError(f"label is {label} for id {id!r}; expected a finite number, bool or string")


def _reason(raw: bytes, error: Exception) -> str:
    """What is wrong with a message that was refused, in the words of its fields."""
    if not raw:
        return "empty message; expected a JSON object"
    try:
        found = _anything.decode(raw)
    except _ERRORS as broken:
        return f"not readable as JSON: {broken}"
    if not isinstance(found, dict):
        return f"a JSON {_kind(found)}; expected an object with id, time and features or label"
    id, time, features = found.get("id"), found.get("time"), found.get("features", {})
    weight = found.get("weight", 1.0)
    if not isinstance(id, str) or not id:
        return f"id is {_shown(found, 'id')}; expected a string that is not empty"
    if len(id) > LONGEST:
        return _too_long("id", id)
    if isinstance(time, bool) or not isinstance(time, int | float):
        return f"time is {_shown(found, 'time')}; expected seconds since 1970-01-01 UTC as a finite number"
    if not isinstance(features, dict):
        return f"features is {_shown(found, 'features')}; expected an object of field names and values"
    for name, value in features.items():
        if isinstance(value, dict | list):
            return f"feature {name!r} is a JSON {_kind(value)}; expected a number, bool, string or null"
    if isinstance(found.get("label"), dict | list):
        return f"label is a JSON {_kind(found['label'])}; expected a number, bool or string"
    if isinstance(found.get("label"), str) and len(found["label"]) > LONGEST:
        return _too_long("label", found["label"])
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0.0 <= weight < math.inf:
        return f"weight is {_shown(found, 'weight')}; expected a finite number of 0 or more"
    return f"unreadable: {error}"


def _kind(value: object) -> str:
    return {dict: "object", list: "array", str: "string", bool: "boolean", type(None): "null"}.get(
        type(value), "number"
    )


def _shown(found: dict[str, Any], field: str) -> str:
    if field not in found:
        return "absent"
    text = repr(found[field])
    return text if len(text) <= 60 else text[:57] + "..."
