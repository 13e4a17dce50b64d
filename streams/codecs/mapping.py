"""Messages of any layout to events and labels by a FieldMap, whose names tell what does not fit."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import date, datetime
from typing import Any, TypeAlias

from streams.codecs.fields import KEY, SCALES, TIMESTAMP, FieldMap
from streams.codecs.message import (
    BROKEN,
    LEAST,
    LONGEST,
    MOST,
    Parse,
    Scalar,
    Unreadable,
    is_number,
    kind,
    shown,
)
from streams.codecs.values import DEEPEST, SCALARS, found_as, numbers, plain, with_article
from streams.event import Event, Label, LabelValue, Malformed
from streams.protocols import Decode

_WIDEST = 10**LONGEST
_FAR = 1e300  # times beyond, and those that are none, take the long way
_ABSENT: Any = object()
_WORDS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}


Flat: TypeAlias = Callable[[Sequence[str] | None], Parse]
"""Of messages in which these fields (None: all) hold neither objects nor lists, what reads those fields."""


def mapped(fields: FieldMap, parse: Parse, flat: Flat | None = None) -> Decode:
    """How messages are read whose fields are laid out as `fields` says.

    parse: bytes to dicts, lists and scalars. flat: the same for flat messages, faster, raising one of BROKEN for
    all others; what it does not take, `parse` decides.

    >>> from streams.codecs.json import parse_json
    >>> read = mapped(FieldMap(id="no", time="at.ms", time_unit="ms", target="paid"), parse_json)
    >>> read(b'{"no": 7, "at": {"ms": 1500, "zone": "UTC"}, "fare": 9.5, "paid": null}')
    Event(id='7', time=1.5, features={'at.zone': 'UTC', 'fare': 9.5}, label=None, weight=1.0)
    >>> read(b'{"no": 7, "at": {"ms": true}}').error
    "'at.ms' (the time) is True; expected milliseconds since 1970-01-01 UTC as a number"
    """
    layout = _Layout(fields)

    def read(
        raw: bytes, key: bytes | None = None, timestamp: float | None = None
    ) -> Event | Label | Malformed:
        try:
            return layout.item(parse(raw), key, timestamp)
        except Unreadable as error:
            return Malformed(raw=bytes(raw), error=str(error))

    parts = None if fields.names is None else [*fields.roles, *fields.names]
    alike = parts is not None and (len(set(parts)) < len(parts) or any("." in name for name in parts))
    if flat is None or fields.label is not None or alike:  # paths, fields with two roles
        return read
    return _quick(layout, flat(parts), read)


def _quick(layout: _Layout, flat: Parse, otherwise: Decode) -> Decode:
    """The same results as `otherwise`, in a third of its time where the message is flat and nothing is amiss."""
    fields = layout.fields
    target, weight_field = fields.target, fields.weight
    id_field = None if fields.id == KEY else fields.id
    time_field = None if fields.time == TIMESTAMP else fields.time
    scale = layout.scale
    exclude = tuple(fields.exclude)

    def read(
        raw: bytes, key: bytes | None = None, timestamp: float | None = None
    ) -> Event | Label | Malformed:
        try:
            found = flat(raw)
            id = layout.id(found, key) if id_field is None else found.pop(id_field, None)
            if type(id) is int:
                id = str(id)
            time = layout.time(found, timestamp) if time_field is None else found.pop(time_field, None)
            kinds = type(time)
            if time_field is not None:
                fine = (kinds is int or kinds is float) and scale and -_FAR < time < _FAR
                time = time / scale if fine else layout.seconds(time)
            label = None if target is None else found.pop(target, None)
            if label is not None and not (type(label) is str and len(label) <= LONGEST):
                label = layout.outcome(label)
            weight = 1.0
            if weight_field is not None:
                weight = layout.weight(found)
                found.pop(weight_field, None)
        except BROKEN:
            return otherwise(raw, key, timestamp)
        if type(id) is not str or not 0 < len(id) <= LONGEST:
            return otherwise(raw, key, timestamp)
        for name in exclude:
            found.pop(name, None)
        return Event(id=id, time=time, features=found, label=label, weight=weight)

    return read


class _Layout:
    """A FieldMap, applied to what a message holds; every method raises Unreadable with the reason."""

    def __init__(self, fields: FieldMap) -> None:
        self.fields = fields
        self.taken = fields.taken
        self.scale = SCALES.get(fields.time_unit, 0)

    def item(self, found: Any, key: bytes | None, timestamp: float | None) -> Event | Label:
        """The event or label that a message holds."""
        if type(found) is not dict:
            raise Unreadable(f"the message is {with_article(kind(found))}; expected an object of fields")
        fields = self.fields
        id, time = self.id(found, key), self.time(found, timestamp)
        weight = self.weight(found)
        if fields.label is not None:
            label = self.outcome(_at(found, fields.label))
            if label is None:
                raise Unreadable(f"{self._missing(fields.label, 'label', found)}; expected {_OUTCOME}")
            return Label(id=id, time=time, label=label, weight=weight)
        label = self.outcome(_at(found, fields.target)) if fields.target is not None else None
        features = self.features(found)
        return Event(id=id, time=time, features=features, label=label, weight=weight)

    def id(self, found: dict[Any, Any], key: bytes | None) -> str:
        """The event's name: text, or a whole number as text."""
        name = self.fields.id
        if name == KEY:
            if not key:
                raise Unreadable("the message has no key; expected the id there, or name a field as id")
            try:
                value = key.decode()
            except UnicodeDecodeError:
                raise Unreadable(
                    f"the message's key {shown(key)} is no text in UTF-8; expected the id there"
                ) from None
        else:
            value = _at(found, name)
            if type(value) is str and 0 < len(value) <= LONGEST:
                return value
            value = plain(value)
            if type(value) is int and abs(value) < _WIDEST:
                return str(value)
            if type(value) is not str or not value:
                said = self._missing(name, "id", found)
                raise Unreadable(f"{said}; expected text or a whole number, or set id to another field")
        if len(value) > LONGEST:
            raise Unreadable(self._long(name, "id", value))
        return value

    def time(self, found: dict[Any, Any], timestamp: float | None) -> float:
        """The event's time in seconds since 1970-01-01 UTC."""
        name = self.fields.time
        if name == TIMESTAMP:
            if timestamp is None or not math.isfinite(timestamp):
                raise Unreadable("the log tells no time for the message; name a field as time")
            return timestamp
        try:
            return self.seconds(_at(found, name))
        except Unreadable as error:
            raise Unreadable(f"{self._missing(name, 'time', found)}; expected {error}") from None

    def seconds(self, value: Any) -> float:
        """A value of the field of time in seconds; Unreadable says what was expected."""
        if self.scale and type(value) in (int, float) and -_FAR < value < _FAR:
            return float(value / self.scale)
        unit = self.fields.time_unit
        if type(value) is str and unit == "iso":
            try:
                value = datetime.fromisoformat(value)
            except ValueError:
                raise Unreadable("text such as 2013-01-01T05:00:00-05:00") from None
        if isinstance(value, date):
            return float(plain(value))
        value = plain(value)
        if unit == "iso":
            hint = f". For numbers set time_unit to one of {', '.join(_WORDS)}" if is_number(value) else ""
            raise Unreadable(f"text such as 2013-01-01T05:00:00-05:00{hint}")
        if not is_number(value):
            hint = ". For text set time_unit to 'iso'" if type(value) is str else ""
            raise Unreadable(f"{_WORDS[unit]} since 1970-01-01 UTC as a number{hint}")
        return float(value / self.scale)

    def weight(self, found: dict[Any, Any]) -> float:
        """How much the outcome counts; 1 where nothing says so."""
        name = self.fields.weight
        if name is None:
            return 1.0
        value = plain(_at(found, name))
        if value is None or value is _ABSENT:
            return 1.0
        if not is_number(value) or value < 0:
            raise Unreadable(f"{self._missing(name, 'weight', found)}; expected a finite number of 0 or more")
        return float(value)

    def outcome(self, value: Any) -> LabelValue | None:
        """A target or a label; None where it is absent or null."""
        if value is _ABSENT or value is None:
            return None
        if type(value) is str and len(value) <= LONGEST:
            return value
        value = plain(value)
        role = "label" if self.fields.label is not None else "target"
        name = self.fields.label if self.fields.label is not None else self.fields.target
        if isinstance(value, str):
            if len(value) > LONGEST:
                raise Unreadable(self._long(str(name), role, value))
            return value
        if isinstance(value, bool) or (is_number(value) and (type(value) is float or LEAST <= value <= MOST)):
            return value  # type: ignore[no-any-return]  # a bool, int or float
        raise Unreadable(f"{shown(name)} (the {role}) is {found_as(value)}; expected {_OUTCOME}")

    def features(self, found: dict[Any, Any]) -> dict[str, Any]:
        """Dotted name → number, bool, text, None or list of numbers."""
        features: dict[str, Any] = {}
        names = self.fields.names
        if names is None:
            self._add_all(features, found, "", 0)
        else:
            for name in names:
                value = _at(found, name)
                if value is not _ABSENT:
                    self._add(features, name, value, 0)
        return features

    def _add_all(self, features: dict[str, Any], found: dict[Any, Any], prefix: str, depth: int) -> None:
        taken = self.taken
        for name, value in found.items():
            if type(name) is not str:
                if type(name) is not int:
                    raise Unreadable(f"the name of a field is {found_as(name)}; expected text")
                name = str(name)
            full = prefix + name
            if full in taken:
                continue
            if type(value) is float and full not in features and -_FAR < value < _FAR:
                features[full] = value
            else:
                self._add(features, full, value, depth)

    def _add(self, features: dict[str, Any], name: str, value: Any, depth: int) -> None:
        kinds = type(value)
        if kinds is dict:
            if depth == DEEPEST:
                raise Unreadable(f"{shown(name)} lies in more than {DEEPEST} objects; exclude the outer one")
            self._add_all(features, value, name + ".", depth + 1)
            return
        if kinds is list:
            value = numbers(name, value)
        elif kinds not in SCALARS:
            value = plain(value)
            if not isinstance(value, Scalar):
                raise Unreadable(
                    f"{shown(name)} is {found_as(value)}; expected a number, bool, text, null or an array of "
                    "numbers as a feature, or exclude it"
                )
        if type(value) is float and not math.isfinite(value):
            value = None
        if name in features:
            raise Unreadable(
                f"two fields are called {shown(name)}, one of them inside an object; expected one, or exclude it"
            )
        features[name] = value

    def _missing(self, name: str, role: str, found: dict[Any, Any]) -> str:
        """What stands where the id, time, weight or label was looked for."""
        value = _at(found, name)
        return f"{shown(name)} (the {role}) is {'absent' if value is _ABSENT else found_as(value)}"

    def _long(self, name: str, role: str, text: str) -> str:
        return (
            f"{shown(name)} (the {role}) has {len(text):,} characters; expected at most {LONGEST:,}, "
            f"it starts with {text[:40]!r}"
        )


_OUTCOME = "a finite number (an integer of at most 64 bits), bool or text"


def _at(found: Any, path: str) -> Any:
    """What stands under a name, or under a path of names joined by dots; _ABSENT where nothing does."""
    if type(found) is not dict:
        return _ABSENT
    if path in found:
        return found[path]
    dot = path.find(".")
    while dot >= 0:
        head = path[:dot]
        if head in found:
            inner = _at(found[head], path[dot + 1 :])
            if inner is not _ABSENT:
                return inner
        dot = path.find(".", dot + 1)
    return _ABSENT
