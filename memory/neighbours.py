"""Experience recalled by nearness: a ring of recent events under a metric that is learned online.

A query recalls the K stored events with the smallest d_j = |A(√w ∘ (q − x_j))|². They vote with

    s_j = softmax_j(−e^b (d_j − d_1) / h),   h = (d_4 + d_K) / 4,

and at every label the metric learns from them (`memory.metric`). A is learned while there are at most
`FULL_METRIC` features; beyond, it is the identity.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from memory.metric import FULL_METRIC, soften
from memory.tiles import BLOCK, arrange, nearest

NEIGHBOURS = 12
REPROJECTED = 16
VOTE_WEIGHT = 8.0
VOTE_PRIOR = 0.5
FAST = {"reassoc", "contract", "nsz"}

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


class Neighbours(NamedTuple):
    """The flat arrays of one neighbour memory; `d` features, room for `n` events.

    buffer, projected: (n / BLOCK, d_capacity, BLOCK) float32, a tile per block of events, feature-major inside;
        projected is A(√w ∘ x), used where `full` is set. `table` shows either as (d_capacity, n).
    target: (n,) float64, the class index or the standardised target.  serial: (n,) int64, label number.
    place: (4,) int64 — next slot, events held, next slot to project anew, full metric (1) or diagonal (0).
    logw, logw_square: (d_capacity,) float64, log w and its gradient's mean square.
    scale: (3,) float64 — b, the mean square of its gradient, updates so far.
    matrix, matrix_square: (FULL_METRIC, FULL_METRIC) float64, A and its gradient's mean square.
    """

    buffer: F32
    projected: F32
    target: F64
    serial: I64
    place: I64
    logw: F64
    logw_square: F64
    scale: F64
    matrix: F64
    matrix_square: F64


class Search(NamedTuple):
    """Working space of one memory's kernels; of it only distance and slot are results.

    distance, slot: (K,) the recalled neighbours, nearest first. hint: (K,) int64 — different slots, near to the
    query before if all went well; they bound the search and change no result.
    """

    distance: F64
    slot: I64
    hint: I64
    share: F64
    pull: F64
    gradient: F64
    rate: F64
    moment: F64
    force: F64
    order: I64
    point: F32
    work: F32
    weight: F32
    out: F32
    block: F32


def allocate(features: int, events: int, *, full: bool) -> Neighbours:
    """An empty memory for `events` (rounded up to a multiple of 128) of `features` numbers each."""
    rows = max(int(features), 1)
    events = max(BLOCK, (events + BLOCK - 1) // BLOCK * BLOCK)
    return Neighbours(
        buffer=np.zeros((events // BLOCK, rows, BLOCK), np.float32),
        projected=np.zeros((events // BLOCK, rows, BLOCK) if full else (1, 1, BLOCK), np.float32),
        target=np.zeros(events),
        serial=np.full(events, -1, np.int64),
        place=np.array([0, 0, 0, int(full)], np.int64),
        logw=np.zeros(rows),
        logw_square=np.zeros(rows),
        scale=np.zeros(3),
        matrix=np.eye(FULL_METRIC),
        matrix_square=np.zeros((FULL_METRIC, FULL_METRIC)),
    )


def searching(features: int, k: int) -> Search:
    """Working space for up to `features` numbers and k neighbours."""
    n = max(features, FULL_METRIC) + 4
    z = np.zeros
    return Search(
        distance=z(k), slot=z(k, np.int64), hint=np.arange(k), share=z(k), pull=z(k), gradient=z(n), rate=z(n),
        moment=z((FULL_METRIC, FULL_METRIC)), force=z((FULL_METRIC, FULL_METRIC)), order=z(n, np.int64),
        point=z(n, np.float32), work=z(n, np.float32), weight=z(n, np.float32), out=z(n, np.float32),
        block=z(BLOCK, np.float32),
    )  # fmt: skip


@njit(fastmath=FAST, nogil=True, error_model="numpy")
def roots(memory: Any, d: int, root: F32) -> None:
    """root ← √w, (d,)."""
    for i in range(d):
        root[i] = np.float32(math.exp(0.5 * memory.logw[i]))


@njit(fastmath=FAST, nogil=True, error_model="numpy")
def project(memory: Any, root: F32, values: F32, d: int, out: F32) -> None:
    """out ← A(√w ∘ values) for the first d features."""
    for i in range(d):
        total = 0.0
        row = memory.matrix[i]
        for k in range(d):
            total += row[k] * root[k] * values[k]
        out[i] = np.float32(total)


@njit(fastmath=FAST, nogil=True, error_model="numpy")
def recall(memory: Any, search: Any, query: F32, d: int) -> int:
    """Fill search.distance and slot with the neighbours of `query` (d,) under the metric; how many were found."""
    weight = search.weight
    if memory.place[3] == 1:
        roots(memory, d, weight)
        project(memory, weight, query, d, search.work)
        for i in range(d):
            weight[i] = np.float32(1.0)
        end = arrange(search, search.work, d, memory.logw)
        return nearest(memory.projected, memory.place[1], search, d, end)
    for i in range(d):
        weight[i] = np.float32(math.exp(memory.logw[i]))
    end = arrange(search, query, d, memory.logw)
    return nearest(memory.buffer, memory.place[1], search, d, end)


@njit(fastmath=FAST, nogil=True, error_model="numpy")
def vote(
    memory: Any, distance: F64, slot: I64, found: int, classes: int, share: F64, soft: F64, rank: F64
) -> None:
    """soft ← softmax vote (8 s + 0.5/C), rank ← vote of the nearest three with 1, 1/2, 1/3; both (C,)."""
    for c in range(classes):
        soft[c] = VOTE_PRIOR / classes / (VOTE_WEIGHT + VOTE_PRIOR)
        rank[c] = VOTE_PRIOR / classes
    if found == 0:
        for c in range(classes):
            soft[c] = 1.0 / classes
            rank[c] = 1.0 / classes
        return
    soften(memory, distance, found, share)
    for j in range(found):
        soft[int(memory.target[slot[j]])] += VOTE_WEIGHT * share[j] / (VOTE_WEIGHT + VOTE_PRIOR)
    total = VOTE_PRIOR
    for j in range(min(3, found)):
        rank[int(memory.target[slot[j]])] += 1.0 / (j + 1.0)
        total += 1.0 / (j + 1.0)
    for c in range(classes):
        rank[c] /= total


@njit(fastmath=FAST, nogil=True, error_model="numpy")
def average(memory: Any, distance: F64, slot: I64, found: int, share: F64) -> tuple[float, float]:
    """Weighted mean of the neighbours' targets under s_j and that of the nearest three (1, 1/2, 1/3)."""
    if found == 0:
        return 0.0, 0.0
    soften(memory, distance, found, share)
    soft = 0.0
    for j in range(found):
        soft += share[j] * memory.target[slot[j]]
    near, total = 0.0, 0.0
    for j in range(min(3, found)):
        near += memory.target[slot[j]] / (j + 1.0)
        total += 1.0 / (j + 1.0)
    return soft, near / total


@njit(fastmath=FAST, nogil=True, error_model="numpy")
def store(memory: Any, search: Any, query: F32, d: int, target: float, serial: int) -> None:
    """Write one event over the oldest; with a full metric, project it and a few older ones anew."""
    slots = memory.target.shape[0]
    work, root, out = search.work, search.weight, search.out
    at = memory.place[0]
    tile = memory.buffer[at // BLOCK]
    for i in range(d):
        tile[i, at % BLOCK] = query[i]
    memory.target[at] = target
    memory.serial[at] = serial
    memory.place[0] = (at + 1) % slots
    memory.place[1] = min(memory.place[1] + 1, slots)
    if memory.place[3] == 1:
        roots(memory, d, root)
        project(memory, root, query, d, out)
        tile = memory.projected[at // BLOCK]
        for i in range(d):
            tile[i, at % BLOCK] = out[i]
        size = memory.place[1]
        for _ in range(min(REPROJECTED, size)):
            at = memory.place[2] % size
            memory.place[2] = (at + 1) % size
            tile = memory.buffer[at // BLOCK]
            for i in range(d):
                work[i] = tile[i, at % BLOCK]
            project(memory, root, work, d, out)
            tile = memory.projected[at // BLOCK]
            for i in range(d):
                tile[i, at % BLOCK] = out[i]
