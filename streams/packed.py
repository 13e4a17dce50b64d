"""Many small values (ids, labels) as one array of bytes, so that a snapshot need not spell them out as JSON."""

from __future__ import annotations

import json
from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")


def pack(values: list[Any]) -> NDArray[np.uint8]:
    """(bytes,) uint8: the list as MessagePack, or as JSON where MessagePack cannot hold it (huge integers).

    >>> unpack(pack(["a", 2**70]), list[str | int])
    ['a', 1180591620717411303424]
    """
    try:
        raw = msgspec.msgpack.encode(values)
    except (OverflowError, UnicodeEncodeError):
        raw = json.dumps(msgspec.to_builtins(values)).encode()
    return np.frombuffer(raw, np.uint8)


def unpack(packed: NDArray[Any], type: type[T]) -> T:
    """What `pack` took, as values of the given type; msgspec.MsgspecError where it is not."""
    raw = packed.tobytes()
    if raw[:1] == b"[":  # a list in MessagePack begins with a byte of 0x90 or more
        return msgspec.convert(json.loads(raw), type)
    return msgspec.msgpack.decode(raw, type=type)
