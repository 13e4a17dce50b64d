"""The wide vector: hundreds of numbers made of images, or of many features, by maps that are learned and frozen.

The first events of an image field, or with many features, are kept; from them a map is made
(`engine.encoders.filters`, `engine.encoders.random_units`), which never changes: sums over what it says may
be added up, also those of two learners whose maps have the same `id`. Events that came before are forecast by
what else there is of them, an image by its thumbnail, and are handed over with their labels when the map is
made.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.encoders import filters, picture, random_units
from engine.encoders.fields import order
from engine.encoders.filters import Filters
from engine.encoders.random_units import Units
from engine.packed import pack, under, unpack

IMAGES = 128  # events from which the filters of a field are learned
ROWS = 256  # events from which the scaler of many features is learned
FIELDS = 2  # image fields with filters; further ones have their thumbnails alone

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Images = Mapping[Hashable, F32]


@dataclass(slots=True)
class Early:
    """An event that came before its map: its number, id, images or features, and its label once it came."""

    number: int
    id: Hashable | None
    images: dict[Hashable, F32] = field(default_factory=dict)
    values: F64 | None = None
    target: float = 0.0
    weight: float = 0.0
    serial: int = -1


class Started(NamedTuple):
    """n labelled events from before the map: wide (n, wide + 1) float32 as `Wide.encode` fills it, values (n, F)
    their features where they are many, targets, weights (n,), and label numbers, serials: (n,) int64."""

    wide: F32
    values: F64
    targets: F64
    weights: F64
    serials: NDArray[np.int64]


class Wide:
    """The maps of a learner, and the events from which those still to come are learned.

    maps: image field → its filters, None while they are to be learned. units: of many features, where there are
    no images. early: events that came before their map.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.maps: dict[Hashable, Filters | None] = {}
        self.order: list[Hashable] = []
        self.units: Units | None = None
        self.early: list[Early] = []
        self._space: dict[Hashable, F32] = {}

    @property
    def size(self) -> int:
        """Numbers of the wide vector."""
        return filters.NUMBERS * len(self.order) if self.units is None else random_units.UNITS

    @property
    def inputs(self) -> int:
        """How many of them layers read: those of images; many features they read themselves."""
        return filters.NUMBERS * len(self.order) if self.units is None else 0

    @property
    def id(self) -> str:
        """A hash of all that makes the wide vector; "" where there is none."""
        made: list[NDArray[Any]] = [array for name in self.order for array in self.maps[name] or ()]
        made += self.units or ()
        if not made:
            return ""
        digest = hashlib.sha256()
        for array in made:
            digest.update(f"{array.dtype} {array.shape}".encode() + array.tobytes())
        return digest.hexdigest()[:32]

    def awaits(self, name: Hashable) -> bool:
        """Whether filters of this image field are still to be learned."""
        if self.units is not None:
            return False
        return self.maps[name] is None if name in self.maps else len(self.maps) < FIELDS

    def settled(self, names: Mapping[Hashable, Any], *, many: bool) -> bool:
        """Whether events with these image fields, and many features or few, need no map that is not there yet."""
        if any(self.awaits(name) for name in names):
            return False
        return not many or bool(self.maps) or self.units is not None

    # -- before the maps ------------------------------------------------------------------------------------

    def collect(self, number: int, id: Hashable | None, images: Images, values: F64 | None) -> None:
        """An event was observed; values: its features, where they are many."""
        for name in sorted(images, key=order):
            if name not in self.maps and self.awaits(name):
                self.maps[name] = None
        kept = {name: image for name, image in images.items() if name in self.maps and self.awaits(name)}
        numbers = values if self.units is None and not self.maps else None
        if kept or numbers is not None:
            self.early.append(Early(number, id, kept, None if numbers is None else numbers.copy()))

    def label(self, number: int, target: float, weight: float, serial: int) -> None:
        """The label of an event came, so many labels after the first."""
        for event in reversed(self.early):
            if event.number == number:
                event.target, event.weight, event.serial = target, weight, serial
                return

    def forget(self, id: Hashable) -> None:
        """Remove the events with this id from those that are kept."""
        self.early = [event for event in self.early if event.id is None or event.id != id]

    def due(self) -> list[Hashable | None]:
        """The image fields whose filters are to be made now; None stands for the units of many features."""
        if not self.early:
            return []
        out: list[Hashable | None] = [
            name
            for name, made in self.maps.items()
            if made is None and sum(name in event.images for event in self.early) >= IMAGES
        ]
        if not self.maps and self.units is None:
            rows = sum(event.values is not None for event in self.early)
            out += [None] if rows >= ROWS else []
        return out

    def make(self, names: list[Hashable | None]) -> Started:
        """Make these maps from the events that were kept, which are given back as far as their labels came.

        Of a learner that had a map before none are given back: what has learned from it has learned from them.
        """
        first = not self.size
        for name in names:
            if name is None:
                rows = [event.values for event in self.early if event.values is not None]
                table = np.full((len(rows), max(map(len, rows))), np.nan)
                for at, row in enumerate(rows):
                    table[at, : len(row)] = row
                self.units = random_units.learn(table, self.seed)
            else:
                images = np.stack([event.images[name] for event in self.early if name in event.images])
                self.maps[name] = filters.learn(images, self.seed + 1_000 * len(self.order))
                self.order.append(name)
        known = [event for event in self.early if event.weight > 0.0] if first else []
        wide = np.zeros((len(known), self.size + 1), np.float32)
        many = 0 if self.units is None else len(self.units.spread)
        values = np.full((len(known), many), np.nan)
        for event, row in zip(known, values, strict=True):
            if event.values is not None:
                row[: len(event.values)] = event.values[:many]
        for event, out in zip(known, wide, strict=True):
            self.encode(event.images, event.values, out)
        for event in self.early:
            event.values = None if self.units is not None else event.values
            event.images = {n: image for n, image in event.images.items() if self.awaits(n)}
        self.early = [event for event in self.early if event.images or event.values is not None]
        targets, weights = (
            np.array([getattr(e, of) for e in known], np.float64) for of in ("target", "weight")
        )
        return Started(wide, values, targets, weights, np.array([e.serial for e in known], np.int64))

    # -- afterwards -----------------------------------------------------------------------------------------

    def encode(self, images: Images, values: F64 | None, out: F32) -> None:
        """out (size + 1,) ← the wide vector, 0 for an image that is missing, and the share of what was there."""
        out[:] = 0.0
        if self.units is not None:
            if values is not None:
                size = self.units.signs.shape[2]
                room = self._space.get(None)
                if room is None:
                    room = self._space[None] = np.zeros((2, size), np.float32)
                random_units.answer(*self.units, values, room[0], room[1], out[:-1])
                out[-1] = 1.0
            return
        for at, name in enumerate(self.order):
            image, made = images.get(name), self.maps[name]
            if image is None or made is None:
                continue
            space = self._space.get(name)
            if space is None:
                space = self._space[name] = filters.space_for(image)
            filters.answer(made, image, space, out[at * filters.NUMBERS : (at + 1) * filters.NUMBERS])
            out[-1] += 1.0 / len(self.order)

    # -- snapshot -------------------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, NDArray[Any]]:
        """All that changes, copied; nothing where there never were images or many features."""
        if not self.maps and self.units is None and not self.early:
            return {}
        out: dict[str, NDArray[Any]] = {}
        for at, made in enumerate(self.maps.values()):
            if made is not None:
                out |= {f"map{at}.{part}": array.copy() for part, array in made._asdict().items()}
        if self.units is not None:
            out |= {f"units.{part}": array.copy() for part, array in self.units._asdict().items()}
        events = []
        for at, event in enumerate(self.early):
            events.append(
                (event.number, event.id, list(event.images), event.target, event.weight, event.serial)
            )
            out |= {f"early{at}.{i}": image.copy() for i, image in enumerate(event.images.values())}
            if event.values is not None:
                out[f"early{at}.values"] = event.values.copy()
        return out | {"names": pack([list(self.maps), self.order, events])}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Go back to what `snapshot` returned; nothing where it was empty."""
        if "names" not in arrays:
            return

        def owned(array: NDArray[Any]) -> NDArray[Any]:
            return np.array(array, order="C", copy=True)

        names, order, events = unpack(arrays["names"])
        self.maps = {}
        for at, name in enumerate(names):
            parts = under(arrays, f"map{at}.")
            self.maps[name] = Filters(*(owned(parts[part]) for part in Filters._fields)) if parts else None
        self.order = list(order)
        parts = under(arrays, "units.")
        self.units = Units(*(owned(parts[part]) for part in Units._fields)) if parts else None
        self.early = []
        for at, (number, id, known, target, weight, serial) in enumerate(events):
            images = {name: owned(arrays[f"early{at}.{i}"]) for i, name in enumerate(known)}
            values = arrays.get(f"early{at}.values")
            self.early.append(
                Early(number, id, images, None if values is None else owned(values), target, weight, serial)
            )
        self._space = {}


def warmup() -> None:
    """Compile the kernels of the maps."""
    images = np.zeros((2, 1, 64, 64), np.float32)
    images[:, 0, ::2] = 1.0
    small, _ = picture.planes(images[0, 0])
    picture.thumbnail(small)
    made, out = filters.learn(images[:, :, :8, :8].copy(), 0), np.zeros(filters.NUMBERS, np.float32)
    filters.answer(made, images[0, :, :8, :8].copy(), filters.space_for(images[..., :8, :8]), out)
    maps = Wide(0)
    maps.units = random_units.learn(np.array([[0.0, 0.0], [1.0, 2.0]]), 0)
    maps.encode({}, np.zeros(2), np.zeros(maps.size + 1, np.float32))
