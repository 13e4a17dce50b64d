"""What is known of the values of categorical fields: how often each was seen, and its row of statistics."""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.name_table import NameTable
from engine.names import from_json, to_json

MAX_ROWS = 65_536

Name = tuple[Hashable, str]


def stable_hash(name: Any, buckets: int) -> int:
    """The same bucket for the same name in every process."""
    return zlib.crc32(repr(name).encode()) % buckets


def row_of(rows: NameTable, key: Any, *, admit: bool) -> int:
    """The row of a key, from 1 on; −1 if it has none and `admit` is off. Past MAX_ROWS keys share by hash."""
    place = rows.places.get(key)
    if place is not None:
        return place + 1
    if len(rows.places) >= MAX_ROWS:
        return 1 + stable_hash(key, MAX_ROWS)
    return rows.add(key) + 1 if admit else -1


class Categories:
    """Values of categorical fields, each by (field, value): how often it was seen, and its row of statistics.

    rows: how many rows were given, from 1 on; row 0 is of all events. Up to `MAX_ROWS` values are counted per
    field, and as many have a row, of all fields together.
    """

    def __init__(self) -> None:
        self.names = NameTable()
        self.rows = 0
        self._counts = array("q")
        self._rows = array("i")  # 0: none
        self._fields: dict[Hashable, list[int]] = {}  # field → events that had it, values of it that count

    def count(self, name: Name) -> int:
        """One more event has this value; how often it was seen by now, 0 where too many others are counted."""
        field = name[0]
        seen = self._fields.get(field)
        if seen is None:
            seen = self._fields[field] = [0, 0]
        seen[0] += 1
        place = self.names.places.get(name)
        if place is None or not self._counts[place]:
            if seen[1] >= MAX_ROWS:
                return 0
            if place is None:
                place = self._add(name)
            seen[1] += 1
        n = self._counts[place] = self._counts[place] + 1
        return n

    def seen(self, name: Name) -> int:
        """How often a value was counted."""
        place = self.names.places.get(name)
        return 0 if place is None else self._counts[place]

    def events(self, field: Hashable) -> int:
        """How many events had this field."""
        seen = self._fields.get(field)
        return 0 if seen is None else seen[0]

    def row(self, name: Name, *, admit: bool) -> int:
        """The row of a value; −1 if it has none and `admit` is off. Past MAX_ROWS values share rows by hash."""
        place = self.names.places.get(name)
        if place is not None:
            row = self._rows[place]
            if row:
                return row
        if self.rows >= MAX_ROWS:
            return 1 + stable_hash(name, MAX_ROWS)
        if not admit:
            return -1
        if place is None:
            place = self._add(name)
        self.rows += 1
        self._rows[place] = self.rows
        return self.rows

    def _add(self, name: Name) -> int:
        place = self.names.add(name)
        self._counts.append(0)
        self._rows.append(0)
        return place

    def state(self) -> tuple[dict[str, NDArray[Any]], list[list[Any]]]:
        """Names, counts and rows as arrays; and [field, events, values] of every field, ready for JSON."""
        return {
            "names": self.names.snapshot(),
            "counts": np.array(self._counts),
            "rows": np.array(self._rows),
        }, [[to_json(field), *seen] for field, seen in self._fields.items()]

    @classmethod
    def from_state(cls, arrays: Mapping[str, NDArray[Any]], fields: list[list[Any]]) -> Categories:
        """What `state` described."""
        self = cls()
        self.names = NameTable.restored(arrays["names"])
        self._counts = array("q", np.asarray(arrays["counts"], np.int64).tobytes())
        self._rows = array("i", np.asarray(arrays["rows"], np.int32).tobytes())
        self.rows = max(self._rows, default=0)
        self._fields = {from_json(field): seen for field, *seen in fields}
        return self
