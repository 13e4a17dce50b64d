"""A neighbour memory's metric learns at every label: neighbours that agree come nearer.

With the shares s_j of the recalled neighbours (`soften`) it climbs log Σ_{j: y_j = y} s_j in log w, b and A
(neighbourhood components analysis, Goldberger et al. 2004, restricted to the recalled neighbours), each gradient
over the root of its running mean square. A is learned while there are at most `FULL_METRIC` features.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from memory.tiles import BLOCK

FULL_METRIC = 16
METRIC_DECAY = 0.99
SCALE_RATE = 0.03
MATRIX_RATE = 0.003
FAST = {"reassoc", "contract", "nsz"}

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]


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
