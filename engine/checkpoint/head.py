"""The head of a safetensors file: what its arrays are called, of what type and shape, and where they stand.

8 bytes: length of the head, little-endian | the head, JSON, padded with spaces to 8 bytes | the arrays' bytes
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

LONGEST = 100_000_000
"""Bytes that safetensors takes as a head."""

_TYPES = {  # by alignment, the widest first: in this order arrays stand in a file
    "<u8": "U64",
    "<i8": "I64",
    "<f8": "F64",
    "<f4": "F32",
    "<u4": "U32",
    "<i4": "I32",
    "<f2": "F16",
    "<u2": "U16",
    "<i2": "I16",
    "|i1": "I8",
    "|u1": "U8",
    "|b1": "BOOL",
}
_RANKS = {kind: rank for rank, kind in enumerate(_TYPES)}
_NAMES = {name: np.dtype(kind) for kind, name in _TYPES.items()}


class Place(NamedTuple):
    """One array of a file: its bytes begin at `begin`, counted from the end of the head."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    begin: int
    bytes: int


def supported(dtype: np.dtype[Any]) -> bool:
    """Whether arrays of this type, little-endian, have a place in a file.

    >>> supported(np.dtype("<f4")), supported(np.dtype("O")), supported(np.dtype("c8"))
    (True, False, False)
    """
    return dtype.str in _TYPES


def arranged(arrays: Mapping[str, NDArray[Any]]) -> list[Place]:
    """Where arrays of supported types will stand: by alignment, then by name, without a gap.

    >>> [(place.name, place.begin) for place in arranged({"a": np.zeros(3, "u1"), "b": np.zeros(2)})]
    [('b', 0), ('a', 16)]
    """
    found, begin = [], 0
    for name in sorted(arrays, key=lambda name: (_RANKS[arrays[name].dtype.str], name)):
        array = arrays[name]
        found.append(Place(name, array.dtype, array.shape, begin, array.nbytes))
        begin += array.nbytes
    return found


def packed_head(text: Mapping[str, str], arrangement: Sequence[Place]) -> bytes:
    """The head with its length in front; `text` goes into `__metadata__`.

    >>> packed_head({"a": "b"}, arranged({"w": np.zeros(2)}))[8:]
    b'{"__metadata__":{"a":"b"},"w":{"dtype":"F64","shape":[2],"data_offsets":[0,16]}}'
    """
    head: dict[str, Any] = {"__metadata__": dict(text)}
    for name, dtype, shape, begin, size in arrangement:
        offsets = [begin, begin + size]
        head[name] = {"dtype": _TYPES[dtype.str], "shape": list(shape), "data_offsets": offsets}
    packed = json.dumps(head, ensure_ascii=False, separators=(",", ":")).encode()
    packed += b" " * (-len(packed) % 8)
    return len(packed).to_bytes(8, "little") + packed


def places(head: Mapping[str, Any], size: int) -> list[Place]:
    """The arrays that a head names, in the order of their bytes, of which there must be `size`.

    Raises ValueError where an entry is none, bytes overlap or are left over, or there are too few of them.

    >>> head = {"w": {"dtype": "F64", "shape": [2], "data_offsets": [0, 16]}}
    >>> places(head, 16)
    [Place(name='w', dtype=dtype('float64'), shape=(2,), begin=0, bytes=16)]
    >>> places(head, 12)
    Traceback (most recent call last):
    ValueError: it holds 12 bytes of arrays, its head tells of 16
    """
    found = []
    for name, entry in head.items():
        if name == "__metadata__":
            continue
        if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
            raise ValueError(f"the entry of array {name!r} is none")
        dtype = _NAMES.get(str(entry["dtype"]))
        shape, offsets = entry["shape"], entry["data_offsets"]
        if dtype is None or not _whole(shape) or not _whole(offsets) or len(offsets) != 2:
            raise ValueError(f"the entry of array {name!r} is none")
        begin, end = offsets
        if end - begin != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"array {name!r} has another size than its shape")
        found.append(Place(name, dtype, tuple(shape), begin, end - begin))
    found.sort(key=lambda place: (place.begin, place.bytes))
    at = 0
    for place in found:
        if place.begin != at:
            raise ValueError(f"array {place.name!r} begins at {place.begin}, the one before ends at {at}")
        at += place.bytes
    if at != size:
        raise ValueError(f"it holds {size} bytes of arrays, its head tells of {at}")
    return found


def _whole(numbers: Any) -> bool:
    return isinstance(numbers, list) and all(type(n) is int and 0 <= n < 2**63 for n in numbers)
