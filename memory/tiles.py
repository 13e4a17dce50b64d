"""Exact search for the nearest of many: events in tiles, features of great weight first, far blocks left early.

A tile holds BLOCK events, feature-major, so that one feature of all of them is read in one go. What was near to
the query before bounds the search from the start; a block whose partial distances all pass the bound is left.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

BLOCK = 128
LANES = 16
LEADING = 8
FAST = {"reassoc", "contract", "nsz"}

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


def table(tiles: F32) -> F32:
    """Tiles of a memory as (d_capacity, n), copied."""
    blocks, rows, _ = tiles.shape
    return np.ascontiguousarray(tiles.transpose(1, 0, 2)).reshape(rows, blocks * BLOCK)


def tiled(values: F32) -> F32:
    """(d_capacity, n) as tiles, copied; n is a multiple of BLOCK."""
    rows, events = values.shape
    return np.ascontiguousarray(values.reshape(rows, events // BLOCK, BLOCK).transpose(1, 0, 2))


@njit(fastmath=FAST, nogil=True, error_model="numpy")
def add_four(tile: F32, i: int, order: I64, point: F32, weight: F32, block: F32) -> None:
    """block += Σ weight (point − x)² over the four features of a tile from place i of the order on."""
    x0, x1, x2, x3 = tile[order[i]], tile[order[i + 1]], tile[order[i + 2]], tile[order[i + 3]]
    q0, q1, q2, q3 = point[i], point[i + 1], point[i + 2], point[i + 3]
    w0, w1, w2, w3 = weight[i], weight[i + 1], weight[i + 2], weight[i + 3]
    for j in range(BLOCK):
        d0, d1, d2, d3 = q0 - x0[j], q1 - x1[j], q2 - x2[j], q3 - x3[j]
        block[j] += w0 * d0 * d0 + w1 * d1 * d1 + w2 * d2 * d2 + w3 * d3 * d3


@njit(fastmath=FAST, nogil=True, error_model="numpy")
def set_four(tile: F32, order: I64, point: F32, weight: F32, block: F32) -> None:
    """block ← that sum over the first four features."""
    x0, x1, x2, x3 = tile[order[0]], tile[order[1]], tile[order[2]], tile[order[3]]
    q0, q1, q2, q3 = point[0], point[1], point[2], point[3]
    w0, w1, w2, w3 = weight[0], weight[1], weight[2], weight[3]
    for j in range(BLOCK):
        d0, d1, d2, d3 = q0 - x0[j], q1 - x1[j], q2 - x2[j], q3 - x3[j]
        block[j] = w0 * d0 * d0 + w1 * d1 * d1 + w2 * d2 * d2 + w3 * d3 * d3


@njit(fastmath=FAST, nogil=True, error_model="numpy")
def count_within(values: F32, bound: float) -> int:
    """How many of the values are at most `bound`."""
    n = 0
    for j in range(values.shape[0]):
        n += values[j] <= bound
    return n


@njit(fastmath=FAST, nogil=True, error_model="numpy")
def arrange(search: Any, query: F32, d: int, important: F64) -> int:
    """The most important features first: fills order, point, and weight in that order; d rounded up to fours.

    Features of great weight first tell early that a whole block is too far. search.weight: (d,) in and out.
    """
    order, point, weight = search.order, search.point, search.weight
    for i in range(d):
        order[i] = i
    for i in range(min(LEADING, d)):
        best = i
        for j in range(i + 1, d):
            if important[order[j]] > important[order[best]]:
                best = j
        order[i], order[best] = order[best], order[i]
        weight[i], weight[best] = weight[best], weight[i]
    for i in range(d):
        point[i] = query[order[i]]
    end = (d + 3) // 4 * 4
    for i in range(d, end):
        order[i], point[i], weight[i] = 0, np.float32(0.0), np.float32(0.0)
    return end


@njit(fastmath=FAST, nogil=True, error_model="numpy")
def reach(tiles: F32, size: int, search: Any, d: int) -> float:
    """A distance within which K events lie: the farthest of the hinted ones; infinite where there are too few."""
    hint, order, point, weight = search.hint, search.order, search.point, search.weight
    far = np.float32(0.0)
    for j in range(hint.shape[0]):
        if hint[j] >= size:
            return math.inf
        tile, at = tiles[hint[j] // BLOCK], hint[j] % BLOCK
        total = np.float32(0.0)
        for i in range(d):
            difference = point[i] - tile[order[i], at]
            total += weight[i] * difference * difference
        far = max(far, total)
    return 1.001 * float(far)  # sums in another order: rounding must not make it too small


@njit(fastmath=FAST, nogil=True, error_model="numpy")
def nearest(tiles: F32, size: int, search: Any, d: int, end: int) -> int:
    """The K events of least Σ weight (point − x)² into search.distance and slot; how many there are.

    Features stand as `arrange` left them. Equal distances keep the order of slots.
    """
    distance, slot, block = search.distance, search.slot, search.block
    order, point, weight = search.order, search.point, search.weight
    k = slot.shape[0]
    found = 0
    bound = np.float32(reach(tiles, size, search, d))
    for start in range(0, size, BLOCK):
        tile = tiles[start // BLOCK]
        i = 0
        within = 1
        if end > 0:
            set_four(tile, order, point, weight, block)
            i = 4
            within = count_within(block, bound)
        else:  # no number to compare by: all are as near
            for j in range(BLOCK):
                block[j] = np.float32(0.0)
        while i < end and within > 0:
            add_four(tile, i, order, point, weight, block)
            i += 4
            within = count_within(block, bound)
        if within == 0:
            continue
        here = min(BLOCK, size - start)
        for lane in range(0, here, LANES):
            if count_within(block[lane : lane + LANES], bound) == 0:
                continue
            for j in range(lane, min(lane + LANES, here)):
                value = block[j]
                if value <= bound and (found < k or value < distance[k - 1]):
                    at = found if found < k else k - 1
                    while at > 0 and distance[at - 1] > value:
                        distance[at] = distance[at - 1]
                        slot[at] = slot[at - 1]
                        at -= 1
                    distance[at] = value
                    slot[at] = start + j
                    if found < k:
                        found += 1
                    if found == k:
                        bound = min(bound, np.float32(distance[k - 1]))
    if found == k:
        for j in range(k):
            search.hint[j] = slot[j]
    return found
