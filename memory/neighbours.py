"""Experience recalled by nearness: a ring of recent events under a metric that is learned online.

A query recalls the K stored events with the smallest d_j = |A(√w ∘ (q − x_j))|². They vote with

    s_j = softmax_j(−e^b (d_j − d_1) / h),   h = (d_4 + d_K) / 4,

and at every label the metric climbs log Σ_{j: y_j = y} s_j (neighbourhood components analysis, Goldberger
et al. 2004, restricted to the recalled neighbours), each gradient over the root of its running mean square.
A is learned while there are at most `FULL_METRIC` features; beyond, it is the identity.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

BLOCK = 128
NEIGHBOURS = 12
FULL_METRIC = 16
REPROJECTED = 16
METRIC_DECAY = 0.99
SCALE_RATE = 0.03
MATRIX_RATE = 0.003
VOTE_WEIGHT = 8.0
VOTE_PRIOR = 0.5
FAST = {"reassoc", "contract", "arcp", "nsz", "afn"}

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


class Neighbours(NamedTuple):
    """The flat arrays of one neighbour memory; `d` features, room for `n` events.

    buffer, projected: (d_capacity, n) float32, feature-major; projected is A(√w ∘ x), used where `full` is set.
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


def allocate(features: int, events: int, *, full: bool) -> Neighbours:
    """An empty memory for `events` (rounded up to a multiple of 128) of `features` numbers each."""
    rows = max(int(features), 1)
    events = max(BLOCK, (events + BLOCK - 1) // BLOCK * BLOCK)
    return Neighbours(
        buffer=np.zeros((rows, events), np.float32),
        projected=np.zeros((rows if full else 1, events if full else BLOCK), np.float32),
        target=np.zeros(events),
        serial=np.full(events, -1, np.int64),
        place=np.array([0, 0, 0, int(full)], np.int64),
        logw=np.zeros(rows),
        logw_square=np.zeros(rows),
        scale=np.zeros(3),
        matrix=np.eye(FULL_METRIC),
        matrix_square=np.zeros((FULL_METRIC, FULL_METRIC)),
    )


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
def nearest(
    buffer: F32, size: int, query: F32, weight: F32, d: int, distance: F64, slot: I64, block: F32
) -> int:
    """The K = len(slot) events nearest to `query` by Σ weight (query − x)², nearest first; how many there are.

    query, weight: (d,) float32. distance, slot: (K,) out. block: (BLOCK,) float32 scratch. Equal distances
    keep the order of slots.
    """
    k = slot.shape[0]
    found = 0
    worst = np.float32(np.inf)
    for start in range(0, size, BLOCK):
        for j in range(BLOCK):
            block[j] = np.float32(0.0)
        i = 0
        while i + 4 <= d:
            q0, q1, q2, q3 = query[i], query[i + 1], query[i + 2], query[i + 3]
            w0, w1, w2, w3 = weight[i], weight[i + 1], weight[i + 2], weight[i + 3]
            x0 = buffer[i, start : start + BLOCK]
            x1 = buffer[i + 1, start : start + BLOCK]
            x2 = buffer[i + 2, start : start + BLOCK]
            x3 = buffer[i + 3, start : start + BLOCK]
            for j in range(BLOCK):
                d0, d1, d2, d3 = q0 - x0[j], q1 - x1[j], q2 - x2[j], q3 - x3[j]
                block[j] += w0 * d0 * d0 + w1 * d1 * d1 + w2 * d2 * d2 + w3 * d3 * d3
            i += 4
        while i < d:
            q0, w0 = query[i], weight[i]
            x0 = buffer[i, start : start + BLOCK]
            for j in range(BLOCK):
                d0 = q0 - x0[j]
                block[j] += w0 * d0 * d0
            i += 1
        here = min(BLOCK, size - start)
        if found == k:
            nearer = 0
            for j in range(BLOCK):
                nearer += block[j] < worst
            if nearer == 0:
                continue
        for j in range(here):
            value = block[j]
            if found < k or value < worst:
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
                    worst = np.float32(distance[k - 1])
    return found


@njit(fastmath=FAST, nogil=True, error_model="numpy")
def recall(
    memory: Any, query: F32, d: int, distance: F64, slot: I64, work: F32, weight: F32, block: F32
) -> int:
    """Fill distance and slot with the neighbours of `query` under the memory's metric; how many were found."""
    if memory.place[3] == 1:
        roots(memory, d, weight)
        project(memory, weight, query, d, work)
        for i in range(d):
            weight[i] = np.float32(1.0)
        return nearest(memory.projected, memory.place[1], work, weight, d, distance, slot, block)
    for i in range(d):
        weight[i] = np.float32(math.exp(memory.logw[i]))
    return nearest(memory.buffer, memory.place[1], query, weight, d, distance, slot, block)


@njit(fastmath=FAST, nogil=True, error_model="numpy")
def soften(memory: Any, distance: F64, found: int, share: F64) -> float:
    """share ← s_j of the `found` neighbours; returns e^b / h."""
    h = max((distance[min(3, found - 1)] + distance[found - 1]) / 4.0, 1e-12)
    sharpness = math.exp(memory.scale[0]) / h
    total = 0.0
    for j in range(found):
        share[j] = math.exp(-sharpness * (distance[j] - distance[0]))
        total += share[j]
    for j in range(found):
        share[j] /= total
    return sharpness


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
def adapt(
    memory: Any, query: F32, d: int, target: float, regression: bool, distance: F64, slot: I64, found: int,
    share: F64, pull: F64, gradient: F64,
) -> None:  # fmt: skip
    """One step of the metric towards neighbours that agree with `target`.

    Classification climbs log Σ_{j: y_j = y} s_j; regression descends (Σ_j s_j y_j − y)² / 2.
    gradient: (d,) float64 scratch; pull, share: (K,) float64 scratch.
    """
    if found < 2:
        return
    sharpness = soften(memory, distance, found, share)
    if regression:
        mean = 0.0
        for j in range(found):
            mean += share[j] * memory.target[slot[j]]
        for j in range(found):
            pull[j] = -(mean - target) * share[j] * (memory.target[slot[j]] - mean)
    else:
        same = 0.0
        for j in range(found):
            if memory.target[slot[j]] == target:
                same += share[j]
        if same <= 0.0:
            return
        for j in range(found):
            agrees = 1.0 if memory.target[slot[j]] == target else 0.0
            pull[j] = share[j] * agrees / same - share[j]

    full = memory.place[3] == 1
    memory.scale[2] += 1.0
    step = memory.scale[2]
    correction = 1.0 - METRIC_DECAY**step
    cooling = max(0.1, math.sqrt(200.0 / (200.0 + step))) if full else 1.0

    bandwidth = 0.0
    for j in range(found):
        bandwidth -= pull[j] * sharpness * (distance[j] - distance[0])
    memory.scale[1] = METRIC_DECAY * memory.scale[1] + (1.0 - METRIC_DECAY) * bandwidth * bandwidth
    memory.scale[0] += SCALE_RATE * cooling * bandwidth / (math.sqrt(memory.scale[1] / correction) + 1e-12)
    memory.scale[0] = min(max(memory.scale[0], -4.0), 4.0)

    for i in range(d):
        gradient[i] = 0.0
    if full:
        towards = np.zeros((d, d))
        v = np.empty(d)
        av = np.empty(d)
        root = np.empty(d)
        for i in range(d):
            root[i] = math.exp(0.5 * memory.logw[i])
        for j in range(found):
            force = -sharpness * pull[j]
            for i in range(d):
                v[i] = root[i] * (query[i] - memory.buffer[i, slot[j]])
            for i in range(d):
                total = 0.0
                for k in range(d):
                    total += memory.matrix[i, k] * v[k]
                av[i] = total
            for i in range(d):
                for k in range(d):
                    towards[i, k] += 2.0 * force * av[i] * v[k]
            for k in range(d):
                total = 0.0
                for i in range(d):
                    total += memory.matrix[i, k] * av[i]
                gradient[k] += force * total * v[k]
        for i in range(d):
            for k in range(d):
                g = towards[i, k]
                square = METRIC_DECAY * memory.matrix_square[i, k] + (1.0 - METRIC_DECAY) * g * g
                memory.matrix_square[i, k] = square
                memory.matrix[i, k] += MATRIX_RATE * cooling * g / (math.sqrt(square / correction) + 1e-12)
    else:
        for j in range(found):
            force = -sharpness * pull[j]
            at = slot[j]
            for i in range(d):
                difference = float(query[i] - memory.buffer[i, at])
                gradient[i] += force * difference * difference
        for i in range(d):
            gradient[i] *= math.exp(memory.logw[i])
    mean_log = 0.0
    for i in range(d):
        g = gradient[i]
        square = METRIC_DECAY * memory.logw_square[i] + (1.0 - METRIC_DECAY) * g * g
        memory.logw_square[i] = square
        memory.logw[i] += SCALE_RATE * cooling * g / (math.sqrt(square / correction) + 1e-12)
        mean_log += memory.logw[i] / d
    for i in range(d):
        memory.logw[i] = min(max(memory.logw[i] - mean_log, -6.0), 4.0)


@njit(fastmath=FAST, nogil=True, error_model="numpy")
def store(
    memory: Any, query: F32, d: int, target: float, serial: int, work: F32, root: F32, out: F32
) -> None:
    """Write one event over the oldest; with a full metric, project it and a few older ones anew."""
    slots = memory.target.shape[0]
    at = memory.place[0]
    for i in range(d):
        memory.buffer[i, at] = query[i]
    memory.target[at] = target
    memory.serial[at] = serial
    memory.place[0] = (at + 1) % slots
    memory.place[1] = min(memory.place[1] + 1, slots)
    if memory.place[3] == 1:
        roots(memory, d, root)
        project(memory, root, query, d, out)
        for i in range(d):
            memory.projected[i, at] = out[i]
        size = memory.place[1]
        for _ in range(min(REPROJECTED, size)):
            at = memory.place[2] % size
            memory.place[2] = (at + 1) % size
            for i in range(d):
                work[i] = memory.buffer[i, at]
            project(memory, root, work, d, out)
            for i in range(d):
                memory.projected[i, at] = out[i]
