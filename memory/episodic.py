"""The flat arrays of an episodic memory: examples kept for rehearsal and recall, within a number of bytes.

`memory.episodic_kernels` writes and reads them: a reservoir in which classes are balanced and surprising events
stay longer.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

WITHHELD = 10  # one kept event in so many is withheld from training
NONE = -1

# place: events kept so far, one place of old, whether the codes' range is known, how often events were taken out.
KEPT, _, RANGED, TAKEN_OUT = range(4)

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]


class Episodic(NamedTuple):
    """Kept examples of `width` numbers x, C classes.

    code: (slots, width) uint8, 128 ± 127 √(|x|/top), small numbers to more digits than great ones; label, serial:
    (slots,) int64, class (−1: the slot is free) and label number; key: (slots,) float64, u^(1/(1 + surprise))
    with u uniform, negative for a withheld example: of a class that is to shrink the least |key| leaves
    (Efraimidis and Spirakis 2006).
    after, before: (slots,) int32, rings of slots, one per class of those that train and one of those withheld;
    cursor: (2, C) int32, where rehearsal is in each, −1 where it is empty; held: (2, C) int64 their sizes.
    turn: (2,) int64, the class whose turn it is in either.
    top: (1,) float64; place: (4,) int64, see above; random: (1,) uint64.
    """

    code: U8
    label: I64
    serial: I64
    key: F64
    after: I32
    before: I32
    cursor: I32
    held: I64
    turn: I64
    top: F64
    place: I64
    random: NDArray[np.uint64]


def slots_for(kept_bytes: int, width: int) -> int:
    """How many examples of `width` bytes fit into so many bytes."""
    return max(kept_bytes, 0) // max(width, 1)


def allocate(slots: int, width: int, classes: int, seed: int) -> Episodic:
    """An empty memory; one of no slots keeps nothing."""
    z = np.zeros
    memory = Episodic(
        code=z((slots, width), np.uint8), label=np.full(slots, NONE), serial=np.full(slots, NONE),
        key=z(slots), after=np.full(slots, NONE, np.int32), before=np.full(slots, NONE, np.int32),
        cursor=np.full((2, classes), NONE, np.int32), held=z((2, classes), np.int64), turn=z(2, np.int64),
        top=z(1), place=z(4, np.int64), random=z(1, np.uint64),
    )  # fmt: skip
    memory.random[0] = np.uint64(2 * seed + 1)
    return memory


def grown(memory: Episodic, classes: int) -> Episodic:
    """The same memory with room for more classes."""
    have = memory.cursor.shape[1]
    if classes <= have:
        return memory
    cursor = np.full((2, classes), NONE, np.int32)
    held = np.zeros((2, classes), np.int64)
    cursor[:, :have], held[:, :have] = memory.cursor, memory.held
    return memory._replace(cursor=cursor, held=held)


def bytes_of(memory: Episodic) -> dict[str, int]:
    """Bytes of the kept examples themselves, and of all that stands beside them."""
    kept = memory.code.nbytes
    return {"kept": kept, "beside": sum(part.nbytes for part in memory) - kept}
