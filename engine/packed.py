"""Names, labels and ids of every kind, and tuples of them, as MessagePack: quick to write, bounded in size."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping
from typing import Any

import msgspec
import numpy as np
from msgspec.msgpack import Ext
from numpy.typing import NDArray

from engine.names import from_json, to_json

_JSON, _DICT = 0, 1
_UNFIT = (TypeError, OverflowError, UnicodeEncodeError)
_encode = msgspec.msgpack.Encoder().encode


def encoded(value: Any) -> bytes:
    """Names, tuples, lists and dicts of them; TypeError where no file can hold one.

    What MessagePack has no form for (integers beyond 64 bits, half a surrogate pair, subclasses) stands in it
    as JSON.

    >>> decoded(encoded(["a", ("b", 2**70, None), {"c": 0.5}]))
    ('a', ('b', 1180591620717411303424, None), {'c': 0.5})
    """
    try:
        return _encode(value)
    except _UNFIT:
        return _encode(_spelled(value))


def decoded(raw: bytes | bytearray | memoryview) -> Any:
    """What `encoded` was given, lists as tuples; msgspec.MsgspecError where it is no such thing."""
    return _tuples(msgspec.msgpack.decode(raw, ext_hook=_read))


def pack(value: Any) -> NDArray[np.uint8]:
    """As `encoded`, an array of bytes."""
    return np.frombuffer(encoded(value), np.uint8)


def unpack(packed: NDArray[Any]) -> Any:
    """What `pack` was given, lists as tuples."""
    return decoded(packed.tobytes())


def under(arrays: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    """The arrays whose names begin so, by the rest of their names.

    >>> list(under({"join/ids": np.zeros(1), "learner/w": np.zeros(2)}, "join/"))
    ['ids']
    """
    return {name[len(prefix) :]: array for name, array in arrays.items() if name.startswith(prefix)}


def _spelled(value: Any) -> Any:
    """The same with what MessagePack cannot hold as JSON."""
    if isinstance(value, list | tuple):
        return [_spelled(part) for part in value]
    if isinstance(value, dict):
        return Ext(_DICT, _encode(_spelled(list(value.items()))))
    try:
        _encode(value)
    except _UNFIT:
        return Ext(_JSON, json.dumps(to_json(value)).encode())
    return value


def _read(code: int, data: memoryview) -> Any:
    if code == _DICT:
        return dict(decoded(data))
    name: Hashable = from_json(json.loads(bytes(data)))
    return name


def _tuples(value: Any) -> Any:
    return tuple([_tuples(part) for part in value]) if type(value) is list else value
