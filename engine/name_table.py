"""Names and the order in which they came, so kept that a snapshot copies bytes and spells nothing out."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.packed import encoded, unpack

_ARRAY = b"\xdd"  # MessagePack's list of up to 2³² values; their number follows in four bytes


class NameTable:
    """Names, each with its place: the first has 0, the next 1 and so on. None ever leaves.

    places: name → place, to be read; `add` alone changes it. The names stand packed beside it.

    >>> table = NameTable()
    >>> table.add("a"), table.add(("b", 2)), table.places.get("c")
    (0, 1, None)
    >>> NameTable.restored(table.snapshot()).places
    {'a': 0, ('b', 2): 1}
    """

    __slots__ = ("_packed", "places")

    def __init__(self, names: Iterable[Hashable] = ()) -> None:
        self.places: dict[Any, int] = {}
        self._packed = bytearray(_ARRAY + bytes(4))
        for name in names:
            self.add(name)

    def __len__(self) -> int:
        return len(self.places)

    def add(self, name: Hashable) -> int:
        """The place of a name that has none yet. Where no file can hold it TypeError, and nothing has changed."""
        self._packed += encoded(name)
        place = self.places[name] = len(self.places)
        return place

    def snapshot(self) -> NDArray[np.uint8]:
        """The names in order, packed."""
        self._packed[1:5] = len(self.places).to_bytes(4, "big")
        return np.frombuffer(self._packed, np.uint8).copy()

    @classmethod
    def restored(cls, packed: NDArray[Any]) -> NameTable:
        """The table whose `snapshot` this is."""
        self = cls()
        names = unpack(packed)
        self.places = {name: place for place, name in enumerate(names)}
        self._packed = bytearray(packed.tobytes())
        return self
