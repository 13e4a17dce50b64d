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
LANES = 16
LEADING = 8
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


def table(tiles: F32) -> F32:
    """Tiles of a memory as (d_capacity, n), copied."""
    blocks, rows, _ = tiles.shape
    return np.ascontiguousarray(tiles.transpose(1, 0, 2)).reshape(rows, blocks * BLOCK)


def tiled(values: F32) -> F32:
    """(d_capacity, n) as tiles, copied; n is a multiple of BLOCK."""
    rows, events = values.shape
    return np.ascontiguousarray(values.reshape(rows, events // BLOCK, BLOCK).transpose(1, 0, 2))


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
def add_four(tile: F32, i: int, order: I64, point: F32, weight: F32, block: F32) -> None:
    """block += Σ weight (point − x)² over the four features of a tile from place i of the order on."""
    x0, x1, x2, x3 = tile[order[i]], tile[order[i + 1]], tile[order[i + 2]], tile[order[i + 3]]
    q0, q1, q2, q3 = point[i], point[i + 1], point[i + 2], point[i + 3]
    w0, w1, w2, w3 = weight[i], weight[i + 1], weight[i + 2], weight[i + 3]
    for j in range(BLOCK):
        d0, d1, d2, d3 = q0 - x0[j], q1 - x1[j], q2 - x2[j], q3 - x3[j]
        block[j] += w0 * d0 * d0 + w1 * d1 * d1 + w2 * d2 * d2 + w3 * d3 * d3


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
        for j in range(BLOCK):
            block[j] = np.float32(0.0)
        i = 0
        within = 1
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
def climb(value: F64, square: F64, gradient: F64, rate: float, correction: float) -> None:
    """value += rate · gradient / rms(gradient), (n,); the running mean squares advance."""
    for i in range(value.shape[0]):
        g = gradient[i]
        now = METRIC_DECAY * square[i] + (1.0 - METRIC_DECAY) * g * g
        square[i] = now
        value[i] += rate * g / (np.sqrt(now * correction) + 1e-12)


@njit(fastmath=FAST, nogil=True, error_model="numpy")
def slope_of_matrix(memory: Any, search: Any, query: F32, d: int, found: int, sharpness: float) -> None:
    """force ← the gradient for A, gradient ← that for log w.

    With M = Σ_j f_j v_j v_jᵀ, f_j = −pull_j e^b / h and v_j = √w ∘ (q − x_j) they are 2 A M and diag(Aᵀ A M).
    """
    moment, root, v = search.moment, search.rate, search.gradient
    for i in range(d):
        root[i] = math.exp(0.5 * memory.logw[i])
        for k in range(d):
            moment[i, k] = 0.0
    for j in range(found):
        force = -sharpness * search.pull[j]
        tile, at = memory.buffer[search.slot[j] // BLOCK], search.slot[j] % BLOCK
        for i in range(d):
            v[i] = root[i] * (query[i] - tile[i, at])
        for i in range(d):
            row = moment[i]
            strength = force * v[i]
            for k in range(d):
                row[k] += strength * v[k]
    for k in range(d):
        v[k] = 0.0
    for i in range(d):
        a, out = memory.matrix[i], search.force[i]
        for k in range(d):
            out[k] = 0.0
        for m in range(d):
            row = moment[m]
            for k in range(d):
                out[k] += a[m] * row[k]
        for k in range(d):
            v[k] += a[k] * out[k]
            out[k] *= 2.0


@njit(fastmath=FAST, nogil=True, error_model="numpy")
def slope_of_weights(memory: Any, search: Any, query: F32, d: int, found: int, sharpness: float) -> None:
    """gradient ← that for log w of a diagonal metric: w_i Σ_j f_j (q_i − x_ji)²."""
    gradient = search.gradient
    for i in range(d):
        gradient[i] = 0.0
    for j in range(found):
        force = -sharpness * search.pull[j]
        tile, at = memory.buffer[search.slot[j] // BLOCK], search.slot[j] % BLOCK
        for i in range(d):
            difference = float(query[i] - tile[i, at])
            gradient[i] += force * difference * difference
    for i in range(d):
        gradient[i] *= math.exp(memory.logw[i])


@njit(fastmath=FAST, nogil=True, error_model="numpy")
def adapt(memory: Any, search: Any, query: F32, d: int, target: float, regression: bool, found: int) -> None:
    """One step of the metric towards neighbours (those in search.distance and slot) that agree with `target`.

    Classification climbs log Σ_{j: y_j = y} s_j; regression descends (Σ_j s_j y_j − y)² / 2.
    """
    if found < 2:
        return
    distance, slot, share, pull = search.distance, search.slot, search.share, search.pull
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
    correction = 1.0 / (1.0 - METRIC_DECAY**step)
    cooling = max(0.1, math.sqrt(200.0 / (200.0 + step))) if full else 1.0

    bandwidth = 0.0
    for j in range(found):
        bandwidth -= pull[j] * sharpness * (distance[j] - distance[0])
    memory.scale[1] = METRIC_DECAY * memory.scale[1] + (1.0 - METRIC_DECAY) * bandwidth * bandwidth
    memory.scale[0] += SCALE_RATE * cooling * bandwidth / (math.sqrt(memory.scale[1] * correction) + 1e-12)
    memory.scale[0] = min(max(memory.scale[0], -4.0), 4.0)

    if full:
        slope_of_matrix(memory, search, query, d, found, sharpness)
        for i in range(d):
            climb(memory.matrix[i, :d], memory.matrix_square[i], search.force[i], MATRIX_RATE * cooling,
                  correction)  # fmt: skip
    else:
        slope_of_weights(memory, search, query, d, found, sharpness)
    logw = memory.logw[:d]
    climb(logw, memory.logw_square, search.gradient, SCALE_RATE * cooling, correction)
    mean_log = 0.0
    for i in range(d):
        mean_log += logw[i] / d
    for i in range(d):
        logw[i] = min(max(logw[i] - mean_log, -6.0), 4.0)


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
