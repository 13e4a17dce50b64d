"""Examples are kept, rehearsed and recalled: a reservoir with balanced classes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from memory.episodic import KEPT, NONE, RANGED, TAKEN_OUT, WITHHELD

HEADROOM = 1.5  # the codes' range over the largest number of the first event
MOST_SURPRISED = 4.0
TRIES = 4

part = njit(nogil=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]


@part
def uniform(random: Any) -> float:
    """A number in (0, 1), by SplitMix64 (Steele et al. 2014)."""
    random[0] += np.uint64(0x9E3779B97F4A7C15)
    x = random[0]
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x = x ^ (x >> np.uint64(31))
    return (float(x >> np.uint64(12)) + 0.5) / 4503599627370496.0


@part
def encode(x: F32, top: float, code: U8) -> None:
    """code ← 128 ± 127 √(|x|/top), rounded, within 1 … 255."""
    for i in range(x.shape[0]):
        value = float(x[i])
        far = 127.0 * min(math.sqrt(abs(value) / top), 1.0)
        code[i] = np.uint8(128.5 + far if value > 0.0 else 128.5 - far)


@part
def decode(code: U8, top: float, x: F32) -> None:
    """x ← ±top ((code − 128)/127)²."""
    for i in range(x.shape[0]):
        far = (float(code[i]) - 128.0) / 127.0
        x[i] = np.float32(top * far * abs(far))


@part
def see(m: Any, x: F32) -> None:
    """The codes' range is set by the first event that is not zero everywhere."""
    if m.place[RANGED] == 1:
        return
    top = 0.0
    for i in range(x.shape[0]):
        top = max(top, abs(float(x[i])))
    if top > 0.0:
        m.top[0] = HEADROOM * top
        m.place[RANGED] = 1


@part
def link(m: Any, slot: int, withheld: int, c: int) -> None:
    """The slot joins its class's ring behind all others: it is rehearsed after them."""
    at = m.cursor[withheld, c]
    if at == NONE:
        m.after[slot] = m.before[slot] = slot
        m.cursor[withheld, c] = slot
    else:
        last = m.before[at]
        m.after[last], m.before[slot] = slot, last
        m.after[slot], m.before[at] = at, slot
    m.held[withheld, c] += 1


@part
def release(m: Any, slot: int) -> None:
    """A slot becomes free."""
    withheld, c = kind_of(m, slot), m.label[slot]
    after, before = m.after[slot], m.before[slot]
    if after == slot:
        m.cursor[withheld, c] = NONE
    else:
        m.after[before], m.before[after] = after, before
        if m.cursor[withheld, c] == slot:
            m.cursor[withheld, c] = after
    m.held[withheld, c] -= 1
    m.label[slot] = m.serial[slot] = NONE
    m.after[slot] = m.before[slot] = NONE
    m.key[slot] = 0.0
    for i in range(m.code.shape[1]):
        m.code[slot, i] = np.uint8(0)


@part
def kind_of(m: Any, slot: int) -> int:
    """1 for a withheld example, 0 for one that trains: the sign of its key tells."""
    return 1 if m.key[slot] < 0.0 else 0


@part
def place_for(m: Any, c: int, key: float) -> int:
    """The slot that an example of class c with this key may have, −1 for none.

    A free one; else one of the class that holds most, the newcomer included, with the least key.
    """
    slots = m.label.shape[0]
    total = 0
    largest, most = c, 0
    for b in range(m.held.shape[1]):
        n = m.held[0, b] + m.held[1, b]
        total += n
        n += 1 if b == c else 0
        if n > most or (n == most and b == c):
            largest, most = b, n
    if total < slots:
        for slot in range(total, slots):
            if m.label[slot] == NONE:
                return slot
        for slot in range(total):
            if m.label[slot] == NONE:
                return slot
    least, found = key if largest == c else np.inf, NONE
    for slot in range(slots):
        if m.label[slot] == largest and abs(m.key[slot]) < least:
            least, found = abs(m.key[slot]), slot
    return found


@part
def keep(m: Any, x: F32, c: int, surprise: float, serial: int) -> int:
    """Keep an event, or not: −1 where it is not kept, 0 where it is, 1 where it is withheld from training."""
    if m.label.shape[0] == 0:
        return NONE
    see(m, x)
    key = uniform(m.random) ** (1.0 / (1.0 + min(max(surprise, 0.0), MOST_SURPRISED)))
    if m.place[RANGED] == 0:
        return NONE
    slot = place_for(m, c, key)
    if slot == NONE:
        return NONE
    if m.label[slot] != NONE:
        release(m, slot)
    trained, apart = m.held[0, c], m.held[1, c]
    withheld = 1 if trained >= 2 and WITHHELD * apart < trained + apart else 0
    encode(x, m.top[0], m.code[slot])
    m.label[slot], m.serial[slot] = c, serial
    m.key[slot] = -key if withheld == 1 else key
    link(m, slot, withheld, c)
    m.place[KEPT] += 1
    return withheld


@part
def rehearse(m: Any, withheld: int) -> int:
    """The next slot to rehearse, class after class, in each one after the other; −1 where there is none."""
    classes = m.cursor.shape[1]
    for _ in range(classes):
        c = m.turn[withheld] % classes
        m.turn[withheld] = (c + 1) % classes
        slot = m.cursor[withheld, c]
        if slot != NONE:
            m.cursor[withheld, c] = m.after[slot]
            return int(slot)
    return NONE


@part
def how_many(m: Any, withheld: int) -> int:
    """Examples held, of those that train (0) or of those withheld (1)."""
    held = 0
    for c in range(m.held.shape[1]):
        held += m.held[withheld, c]
    return held


@part
def drawn_before(m: Any, serial: int) -> int:
    """The slot of a random example with a label number below `serial`; −1 where those drawn are later."""
    held = how_many(m, 0) + how_many(m, 1)  # slots are taken in order
    for _ in range(TRIES if held > 0 and serial > 0 else 0):
        slot = int(uniform(m.random) * held)
        if m.label[slot] != NONE and m.serial[slot] < serial:
            return slot
    return NONE


@part
def forget(m: Any, serial: int) -> bool:
    """Take the example of this label number out; whether it was there."""
    found = False
    for slot in range(m.label.shape[0]):
        if m.label[slot] != NONE and m.serial[slot] == serial:
            release(m, slot)
            found = True
    m.place[TAKEN_OUT] += found
    return found
