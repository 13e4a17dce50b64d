"""The canonical message: how events and labels travel in every format, and what is said of one that is neither.

An event is an object with `features`; a label is one with `id` and `label` but no `features`::

    {"id": "a1", "time": 1357034400.0, "features": {"wind": 12.5, "carrier": "UA", "gust": null}}
    {"id": "a1", "time": 1357047900.0, "label": 1}

NaN and infinity count as null, which is a missing value. Fields that are not known are ignored, so that
producers may add theirs. An id and the text of a label have at most LONGEST characters, because each answer
repeats them; a label that is an integer has 64 bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeAlias, TypedDict

import msgspec

from streams.event import Event, Label, LabelValue

LONGEST = 1024  # characters of an id, or of a label that is text
LEAST, MOST = -(2**63), 2**63 - 1  # of a label that is an integer: what any format can hold

Scalar: TypeAlias = bool | int | float | str | None
Encode: TypeAlias = Callable[[Any], bytes]
"""How a message for a sink becomes bytes: `encode_json` or `encode_msgpack`."""
Parse: TypeAlias = Callable[[bytes], Any]
"""How bytes become dicts, lists and scalars; raises Unreadable with the reason."""

BROKEN = (msgspec.MsgspecError, UnicodeError, ValueError, OverflowError, RecursionError)
"""What msgspec raises for bytes that it cannot read."""


class Unreadable(ValueError):
    """A message that is neither event nor label; its text is the reason that the dead letter gives."""


class Wire(msgspec.Struct):
    """Either message, as it travels."""

    id: Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST)]
    time: float
    features: dict[str, Scalar] | msgspec.UnsetType = msgspec.UNSET
    label: (
        bool
        | Annotated[int, msgspec.Meta(ge=LEAST, le=MOST)]
        | float
        | Annotated[str, msgspec.Meta(max_length=LONGEST)]
        | None
    ) = None
    weight: Annotated[float, msgspec.Meta(ge=0.0)] = 1.0


def flat_type(names: Sequence[str] | None) -> Any:
    """The type of an object of scalars: with any names, or of which these alone are read."""
    if names is None:
        return dict[str, Scalar]
    typed: Any = TypedDict  # a type made while running, which no checker can follow
    return typed("Flat", dict.fromkeys(names, Scalar), total=False)


NEITHER = "neither features nor a label; expected an event with features or a label with id and label"


def finite_item(wire: Wire) -> Event | Label:
    """The event or label of a message whose numbers may be NaN or infinite: as features they are missing.

    Raises Unreadable where time, weight or label is not finite, or where it is neither event nor label.
    """
    label, features = wire.label, wire.features
    if not math.isfinite(wire.time):
        raise Unreadable(f"time is {wire.time}; expected seconds since 1970-01-01 UTC as a finite number")
    if not wire.weight < math.inf:
        raise Unreadable(f"weight is {wire.weight}; expected a finite number of 0 or more")
    if isinstance(label, float) and not math.isfinite(label):
        raise Unreadable(f"label is {label}; expected a finite number, bool or string")
    if features is not msgspec.UNSET:
        for name in [n for n, v in features.items() if type(v) is float and not math.isfinite(v)]:
            features[name] = None
        return Event(id=wire.id, time=wire.time, features=features, label=label, weight=wire.weight)
    if label is None:
        raise Unreadable(NEITHER)
    return Label(id=wire.id, time=wire.time, label=label, weight=wire.weight)


def too_long(field: str, text: str) -> str:
    """The reason for an id or a label of more than LONGEST characters."""
    return f"{field} has {len(text):,} characters; expected at most {LONGEST:,}, it starts with {text[:40]!r}"


def check(id: str, time: float, label: LabelValue | None, weight: float) -> None:
    """ValueError where an event or a label of these could not be read back."""
    if not id:
        raise ValueError("id is empty; expected the unique name of the event")
    if len(id) > LONGEST:
        raise ValueError(too_long("id", id))
    if not math.isfinite(time):
        raise ValueError(f"time is {time} for id {id!r}; expected seconds since 1970-01-01 UTC, finite")
    if not 0.0 <= weight < math.inf:
        raise ValueError(f"weight is {weight} for id {id!r}; expected a finite number of 0 or more")
    if isinstance(label, str) and len(label) > LONGEST:
        raise ValueError(too_long("label", label))
    if isinstance(label, int) and not LEAST <= label <= MOST:
        raise ValueError(f"label is {shown(label)} for id {id!r}; expected an integer of 64 bits, or a float")
    if isinstance(label, float) and not math.isfinite(label):
        raise ValueError(f"label is {label} for id {id!r}; expected a finite number, bool or string")


def reason(found: Any, form: str, error: Exception) -> str:
    """What is wrong with a message that was refused, in the words of its fields.

    found: what the bytes hold. form: the format's name. error: why it was refused, where nothing else is seen.
    """
    if not isinstance(found, dict):
        return f"a {form} {kind(found)}; expected an object with id, time and features or label"
    id, time, features = found.get("id"), found.get("time"), found.get("features", {})
    weight, label = found.get("weight", 1.0), found.get("label")
    if not isinstance(id, str) or not id:
        return f"id is {_shown(found, 'id')}; expected a string that is not empty"
    if len(id) > LONGEST:
        return too_long("id", id)
    if not is_number(time):
        return f"time is {_shown(found, 'time')}; expected seconds since 1970-01-01 UTC as a finite number"
    if not isinstance(features, dict):
        return f"features is {_shown(found, 'features')}; expected an object of field names and values"
    for name, value in features.items():
        if not isinstance(name, str):
            return f"the name of feature {shown(name)} is a {kind(name)}; expected text"
        if not isinstance(value, Scalar):
            return f"feature {shown(name)} is a {form} {kind(value)}; expected a number, bool, string or null"
    if not isinstance(label, Scalar):
        return f"label is a {form} {kind(label)}; expected a number, bool or string"
    if isinstance(label, str) and len(label) > LONGEST:
        return too_long("label", label)
    if isinstance(label, int) and not LEAST <= label <= MOST:
        return f"label is {shown(label)}; expected an integer of 64 bits, another number, bool or string"
    if not is_number(weight) or weight < 0.0:
        return f"weight is {_shown(found, 'weight')}; expected a finite number of 0 or more"
    return f"unreadable: {error}"


def is_number(value: object) -> bool:
    """Whether it is a number that a float can hold; True and False are none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


_KINDS = {
    dict: "object", list: "array", str: "string", bool: "boolean", type(None): "null", int: "number",
    float: "number", bytes: "string of bytes",
}  # fmt: skip


def kind(value: object) -> str:
    """What a value is, in JSON's words."""
    return _KINDS.get(type(value), type(value).__name__)


def shown(value: object) -> str:
    """A value for a reason: at most 60 characters of it."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of too many digits, an object too deep
        return f"a {kind(value)}"
    return text if len(text) <= 60 else text[:57] + "..."


def _shown(found: dict[str, Any], field: str) -> str:
    return shown(found[field]) if field in found else "absent"
