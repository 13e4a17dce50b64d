"""Fields to slots: which number of an event stands where, and which row of statistics a category has.

Numbers, booleans and elements of arrays fill one slot each; of an image (`engine.encoders.picture`) the cells
of its thumbnail do, and its pixels go to the wide vector. A string is a category: every value has a row of
outcome statistics, and a value that is frequent in its field has a slot (1 where it is present, 0 where
another value is): from its `OFTEN`th event on, if it was in a `COMMON`th part of the field's events by then,
and up to `ONE_HOT` values per field. Names get slots when an event with them is observed; until then a
forecast ignores them.
"""

from __future__ import annotations

import hashlib
import math
import numbers
from collections.abc import Hashable, Iterable, Mapping
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.encoders import picture
from engine.encoders.categories import Categories, stable_hash
from engine.names import from_json, plain, storable, to_json

ONE_HOT = 32
OFTEN = 10
COMMON = 50
MAX_CATEGORIES = 256
LONGEST = 200  # characters of a category that are kept; of a longer one, the beginning and a hash of all
LARGEST = 1e60  # beyond, products overflow: a number as large is taken as infinite

Slot = tuple[Hashable, str | int | None]


class FeatureError(TypeError):
    """A feature whose value is not a number, boolean, string, None or array of numbers."""


def order(name: Hashable) -> tuple[str, Any]:
    """New names inside one event take slots in sorted order of (type, name)."""
    name = plain(name)
    return type(name).__name__, name if isinstance(name, (str, int, float)) else repr(name)


def as_float(value: Any) -> float:
    """A number as float64, infinite where it is too large for that."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def usable(values: NDArray[np.float64]) -> int:
    """Turn infinite numbers, and those beyond ±1e60, into NaN (missing); how many there were."""
    bad = np.abs(values) > LARGEST
    values[bad] = np.nan
    return int(bad.sum())


def shown(shape: tuple[int, ...]) -> str:
    """The shape of images whose planes are (c, h, w), as they are given."""
    channels, height, width = shape
    return f"({height}, {width})" if channels == 1 else f"({height}, {width}, {channels})"


def shortened(text: str) -> str:
    """A category's text, of bounded length and still its own: a long one ends in a hash of the whole."""
    if len(text) <= LONGEST:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{text[:LONGEST]}… {digest[:32]}"


class Encoded:
    """One event's fields: values (F floats) with NaN for missing, and what has no slot or row yet.

    categories: (field, value) per categorical field that is present. unknown: slots to be made, with values.
    shared: slot → values of names past `max_features` that fall on it. bad: infinite numbers, now missing.
    fleeting: whether a value may be another one later, as elements of arrays and lists may. images: (c, h, w)
    per image field.
    """

    __slots__ = ("bad", "categories", "fleeting", "images", "shared", "unknown", "values")

    def __init__(self, values: list[float]) -> None:
        self.values = values
        self.fleeting = False
        self.categories: dict[Hashable, str] = {}
        self.unknown: dict[Slot, float] = {}
        self.shared: dict[int, list[float]] = {}
        self.images: dict[Hashable, NDArray[np.float32]] = {}
        self.bad = 0


class Fields:
    """Names of an event's fields → slots and rows; grows as names appear, up to `max_features` slots.

    slots: Slot → index. category_fields: field → index. categories: their values. images: field → (c, h, w).
    """

    def __init__(self, max_features: int) -> None:
        self.max_features = max_features
        self.max_categories = min(MAX_CATEGORIES, max_features)
        self.slots: dict[Slot, int] = {}
        self.numeric: dict[Hashable, int] = {}
        self.one_hot: dict[Hashable, list[str]] = {}
        self.category_fields: dict[Hashable, int] = {}
        self.categories = Categories()
        self.images: dict[Hashable, tuple[int, ...]] = {}
        self.size = 0

    def encode(self, x: Mapping[Hashable, Any]) -> Encoded:
        """The event's values by slot; changes nothing. FeatureError names a field of an unusable type."""
        values = [math.nan] * self.size
        encoded = Encoded(values)
        numeric = self.numeric
        if not isinstance(x, Mapping) and not hasattr(x, "items"):
            raise FeatureError(
                f"the event is {x!r} of type {type(x).__name__}; expected a mapping of names to values; "
                "rows of arrays go to test_then_train and predict_proba or predict"
            )
        for name, value in x.items():
            kind = type(value)
            slot = numeric.get(name)
            if slot is not None and (kind is float or kind is int or kind is bool):
                if -LARGEST <= value <= LARGEST:
                    values[slot] = value
                elif value == value:
                    encoded.bad += 1
            else:
                self._place(encoded, name, value)
        for at, more in encoded.shared.items():  # sorted: the order of names in the event must not matter
            own = values[at]
            values[at] = sum(sorted(more if math.isnan(own) else [own, *more]))
            if not abs(values[at]) <= LARGEST:
                encoded.bad += 1
                values[at] = math.nan
        return encoded

    def _place(self, encoded: Encoded, name: Hashable, value: Any) -> None:
        if value is None:
            return
        if type(name) is not str and type(name) is not int:
            storable("the name of a feature", name)
        if isinstance(value, (bool, np.bool_, numbers.Real, np.floating, np.integer)):
            self._put(encoded, (name, None), as_float(value))
        elif isinstance(value, str):
            self._category(encoded, name, value)
        elif isinstance(value, (np.ndarray, list, tuple)):
            encoded.fleeting = True
            try:
                array = np.asarray(value)
            except ValueError:
                raise FeatureError(
                    f"feature {name!r} holds lists of different lengths; expected an array of numbers"
                ) from None
            if array.dtype.kind not in "biuf":
                raise FeatureError(
                    f"feature {name!r} holds an array of {array.dtype}; expected numbers; convert it first"
                )
            if self.is_image(name, array.shape):
                self._image(encoded, name, array)
                return
            for index, element in enumerate(array.astype(np.float64).ravel().tolist()):
                self._put(encoded, (name, index), element)
        elif isinstance(value, datetime):
            self._put(encoded, (name, None), value.timestamp() if value == value else math.nan)
        else:
            raise FeatureError(
                f"feature {name!r} is {value!r} of type {type(value).__name__}; expected a number, "
                "a boolean, a string, a datetime, None or an array of numbers; convert or leave out the field"
            )

    def pictured(self) -> int:
        """How many slots hold cells of images' thumbnails."""
        return sum(name in self.images for name, _ in self.slots) if self.images else 0

    def is_image(self, name: Hashable, shape: tuple[int, ...]) -> bool:
        """Whether a field's array is an image: one of that shape, unless the field held other numbers before.

        FeatureError where the field is known as one of images and the array is none.
        """
        known = self.images.get(name)
        if known is None:
            return picture.is_image(shape) and (name, 0) not in self.slots
        if not picture.is_image(shape):
            raise FeatureError(
                f"feature {name!r} is an array of shape {shape}; expected an image, as it held before, "
                f"of shape {shown(known)}; give other arrays a name of their own"
            )
        return True

    def _image(self, encoded: Encoded, name: Hashable, array: NDArray[Any]) -> None:
        shape, known = picture.measures(array.shape), self.images.get(name)
        if known is not None and known != shape:
            raise FeatureError(
                f"feature {name!r} is an image of shape {array.shape}, read as {shown(shape)}; expected "
                f"{shown(known)}, as its first one was; resize it, or give images of another shape another name"
            )
        image, bad = picture.planes(array)
        encoded.bad += bad
        if picture.seen(image):
            encoded.images[name] = image
        for index, value in enumerate(picture.thumbnail(image)):
            self._put(encoded, (name, index), value)

    def _put(self, encoded: Encoded, slot: Slot, value: float) -> None:
        if abs(value) > LARGEST:
            encoded.bad += 1
            value = math.nan
        at = self.slots.get(slot)
        if at is not None:
            encoded.values[at] = value
            return
        if self.size < self.max_features:
            encoded.unknown[slot] = value
        elif not math.isnan(value):
            encoded.shared.setdefault(stable_hash(slot, self.max_features), []).append(value)

    def _category(self, encoded: Encoded, name: Hashable, value: str) -> None:
        value = shortened(value)
        encoded.categories[name] = value
        for other in self.one_hot.get(name, ()):
            encoded.values[self.slots[name, other]] = 1.0 if other == value else 0.0

    def rarity(self, categories: Mapping[Hashable, str]) -> float:
        """How rare an event's categories are: Σ −ln of each value's share of the events with its field."""
        held = self.categories
        return -sum(
            math.log((held.seen(name) + 1.0) / (held.events(name[0]) + 2.0)) for name in categories.items()
        )

    def admit_image(self, name: Hashable, image: NDArray[np.float32]) -> bool:
        """An image (c, h, w) was observed: the field's images have the shape of the first; whether it has it."""
        return self.images.setdefault(name, image.shape) == image.shape

    def admit(self, unknown: Iterable[Slot], categories: Mapping[Hashable, str]) -> None:
        """An event is observed: slots for new names, in sorted order, and for values frequent by now."""
        for field in sorted((c for c in categories if c not in self.category_fields), key=order):
            if len(self.category_fields) < self.max_categories:
                self.category_fields[field] = len(self.category_fields)
        known = [(field, value) for field, value in categories.items() if field in self.category_fields]
        frequent = [(field, value) for field, value in known if self._count(field, value)]
        for common in sorted(frequent, key=lambda s: (order(s[0]), s[1])):
            if self.size < self.max_features:
                self._add(common)
        for slot in sorted(unknown, key=lambda s: (order(s[0]), order(s[1]))):
            if slot not in self.slots and self.size < self.max_features:
                self._add(slot)

    def _count(self, field: Hashable, value: str) -> bool:
        """Count a value; whether it has a slot from now on. Values beyond a bound are not counted."""
        n = self.categories.count((field, value))
        return n >= OFTEN and self._earns_slot(field, value, n, self.categories.events(field))

    def _earns_slot(self, field: Hashable, value: str, n: int, events: int) -> bool:
        """Whether a value seen so often in so many events with its field has a slot from now on."""
        if n < OFTEN or n * COMMON < events:
            return False
        slots = self.one_hot.get(field, ())
        return len(slots) < ONE_HOT and self.size < self.max_features and value not in slots

    def _add(self, slot: Slot) -> None:
        self.slots[slot] = self.size
        name, part = slot
        if part is None:
            self.numeric[name] = self.size
        elif isinstance(part, str):
            self.one_hot.setdefault(name, []).append(part)
        self.size += 1

    def rows(self, categories: Mapping[Hashable, str], *, admit: bool) -> NDArray[np.int64]:
        """The row of each categorical field's value, −1 where the field is missing or the value is new.

        Fields past `max_categories` share the places of others, as names past `max_features` share slots.
        """
        out = np.full(len(self.category_fields), -1, np.int64)
        for field, value in categories.items():
            at = self.category_fields.get(field)
            if at is None and len(self.category_fields) == self.max_categories:
                at = stable_hash(field, self.max_categories)
            if at is not None:
                out[at] = max(out[at], self.categories.row((field, value), admit=admit))
        return out

    def known_rows(self, categories: Mapping[Hashable, str]) -> NDArray[np.int64] | None:
        """The same where `admit` would change counts alone; None where it would make a place, row or slot."""
        held = self.categories
        out = np.full(len(self.category_fields), -1, np.int64)
        for field, value in categories.items():
            at, name = self.category_fields.get(field), (field, value)
            if at is None:
                if len(self.category_fields) < self.max_categories:
                    return None
                at = stable_hash(field, self.max_categories)
            elif self._earns_slot(field, value, held.seen(name) + 1, held.events(field) + 1):
                return None
            row = held.row(name, admit=False)
            if row < 0:
                return None
            out[at] = max(out[at], row)
        return out

    def columns(self, width: int) -> NDArray[np.int64] | None:
        """Slots of the integer names 0 … width − 1, or None while one of them has no slot."""
        try:
            return np.array([self.numeric[j] for j in range(width)], np.int64)
        except KeyError:
            return None

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """A copy: arrays, and what is ready for JSON; `from_state` restores it."""
        arrays, seen = self.categories.state()
        images = [[to_json(name), list(shape)] for name, shape in self.images.items()]
        return arrays, ({"images": images} if images else {}) | {
            "max_features": self.max_features,
            "slots": [[to_json(name), part] for name, part in self.slots],
            "category_fields": [to_json(name) for name in self.category_fields],
            "seen": seen,
        }

    @classmethod
    def from_state(cls, arrays: Mapping[str, NDArray[Any]], state: Mapping[str, Any]) -> Fields:
        """The fields that `state` described."""
        fields = cls(int(state["max_features"]))
        for name, part in state["slots"]:
            fields._add((from_json(name), part))
        fields.category_fields = {from_json(name): i for i, name in enumerate(state["category_fields"])}
        fields.categories = Categories.from_state(arrays, state["seen"])
        fields.images = {from_json(name): tuple(shape) for name, shape in state.get("images", ())}
        return fields
