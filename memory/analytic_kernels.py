"""Streaming linear discriminant analysis, each event doing its share: fold, factor, solve.

With class means μ_c, counts n_c, N events and the scatter S within classes, measured in the features' deviations
within classes,

    Σ = S/N + (30/N + 1e-4) I,   w_c = Σ⁻¹ μ_c,   b_c = −½ (μ_cᵀ Σ⁻¹ μ_c − d/n_c),   d = mean of vᵀ Σ⁻¹ v

over deviations v of recent events from their class's mean: d/n_c is what the estimate μ_c adds to its own length,
and would speak against classes of few events. p = softmax((w_c·z + b_c)/T), T learned by gradient steps on log T.

Events are gathered in blocks; while one fills the other is folded into S, some rows with every event. When N has
grown by 10 % the rows are copied on the way, factored (Cholesky, some rows with every event), and the classes
solved, one with every event; then the new factor decides. A class whose weight grew by 3 % is solved at once.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from memory.analytic import (
    ACTIVE,
    BLOCK,
    CLASS,
    COPYING,
    FACTORED,
    FACTORING,
    FILLED,
    FILLING,
    FOLDED,
    FOLDED_EVENTS,
    FOLDED_WEIGHT,
    IDLE,
    LOG_T,
    LOG_T_SQUARE,
    MAKING,
    PHASE,
    RIDGE,
    RIDGE_EVENTS,
    ROW,
    SEEN,
    SOLVING,
    STEPS,
)
from memory.analytic import row_at as python_row_at

GROWTH = 1.1  # of all weight, after which it is factored anew
CLASS_GROWTH = 1.03  # of a class, after which it is solved anew
FIRST_BLOCK = 8
ROWS = 4  # factored together
FACTOR_EVENTS = 64  # about how many events a factor takes
PROBES = 16  # deviations of recent events that measure d
TEMPERATURE_RATE = 0.02
UNLIKELY = -25.0
FAST = {"reassoc", "contract", "nsz"}
row_at = njit(nogil=True, error_model="numpy")(python_row_at)
SAME = {"contract"}  # elementwise with stores: each number rounds alike wherever it lies

part = njit(nogil=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]


@njit(fastmath=SAME, nogil=True, error_model="numpy")
def add_eight(row: F64, v: F32, k: int, i: int) -> None:
    """row_j += Σ v_ki v_kj over eight rows k of v, for j up to row's length; added up in float32 first."""
    c0, c1, c2, c3 = v[k, i], v[k + 1, i], v[k + 2, i], v[k + 3, i]
    c4, c5, c6, c7 = v[k + 4, i], v[k + 5, i], v[k + 6, i], v[k + 7, i]
    v0, v1, v2, v3 = v[k], v[k + 1], v[k + 2], v[k + 3]
    v4, v5, v6, v7 = v[k + 4], v[k + 5], v[k + 6], v[k + 7]
    for j in range(row.shape[0]):
        total = c0 * v0[j]
        total = total + c1 * v1[j]
        total = total + c2 * v2[j]
        total = total + c3 * v3[j]
        total = total + c4 * v4[j]
        total = total + c5 * v5[j]
        total = total + c6 * v6[j]
        total = total + c7 * v7[j]
        row[j] += float(total)


@njit(fastmath=SAME, nogil=True, error_model="numpy")
def copy_row(row: F64, weight: float, unit: F64, i: int, out: F32) -> None:
    """out ← the row of S/N in the features' deviations; unit_i ← the deviation, ∞ where there is none."""
    variance = row[i] / weight
    unit[i] = math.sqrt(variance) if variance > 0.0 else np.inf
    scale = unit[i] * weight
    for j in range(i):
        out[j] = np.float32(row[j] / scale / unit[j])
    out[i] = np.float32(1.0)


@part
def fold(m: Any, first: int, last: int) -> None:
    """Rows `first` … `last` − 1 of the scatter take the block that is complete."""
    v = m.block[1 - m.place[FILLING]]
    events = m.place[FOLDED_EVENTS]
    copying = m.place[PHASE] == COPYING
    unit, out = m.unit[1 - m.place[ACTIVE]], m.factor[1 - m.place[ACTIVE]]
    for i in range(first, last):
        at = i * (i + 1) // 2
        row = m.scatter[at : at + i + 1]
        for k in range(0, events, 8):
            add_eight(row, v, k, i)
        if copying:
            copy_row(row, m.total[MAKING], unit, i, out[at : at + i + 1])


@njit(fastmath=FAST, nogil=True, error_model="numpy")
def dot(a: Any, b: Any, n: int) -> float:
    """Σ a_k b_k over the first n, in float64."""
    total = 0.0
    for k in range(n):
        total += float(a[k]) * float(b[k])
    return total


@njit(fastmath=FAST, nogil=True, error_model="numpy")
def four_dots(a: F32, b: F32, c: F32, d: F32, x: F32, n: int) -> tuple[float, float, float, float]:
    """The sums of four rows with x over the first n, in float32."""
    s, t, u, v = np.float32(0.0), np.float32(0.0), np.float32(0.0), np.float32(0.0)
    for k in range(n):
        s += a[k] * x[k]
        t += b[k] * x[k]
        u += c[k] * x[k]
        v += d[k] * x[k]
    return float(s), float(t), float(u), float(v)


@njit(fastmath=SAME, nogil=True, error_model="numpy")
def subtract(y: F64, row: F32, factor: float, n: int) -> None:
    """y −= factor · row over the first n."""
    for k in range(n):
        y[k] -= factor * float(row[k])


@part
def factor_row(L: F32, i: int, first: int, ridge: float) -> None:
    """Finish row i of the factor, whose columns before `first` are done; no pivot is smaller than the ridge."""
    at = i * (i + 1) // 2
    row = L[at : at + i + 1]
    for j in range(first, i):
        below = L[j * (j + 1) // 2 : j * (j + 1) // 2 + j + 1]
        row[j] = np.float32((row[j] - dot(row, below, j)) / below[j])
    row[i] = np.float32(math.sqrt(max(row[i] + ridge - dot(row, row, i), ridge)))


@part
def factor_rows(L: F32, i: int, last: int, ridge: float) -> None:
    """Rows i … last − 1, at most `ROWS`, of the Cholesky factor, in place of those of the matrix."""
    first = 0
    if last - i == ROWS:
        a, b, c, d = i * (i + 1) // 2, (i + 1) * (i + 2) // 2, (i + 2) * (i + 3) // 2, (i + 3) * (i + 4) // 2
        one, two, three, four = L[a : a + i], L[b : b + i], L[c : c + i], L[d : d + i]
        for j in range(i):
            at = j * (j + 1) // 2
            below = L[at : at + j + 1]
            s, t, u, v = four_dots(one, two, three, four, below, j)
            one[j] = (one[j] - s) / below[j]
            two[j] = (two[j] - t) / below[j]
            three[j] = (three[j] - u) / below[j]
            four[j] = (four[j] - v) / below[j]
        first = i
    for row in range(i, last):
        factor_row(L, row, first, ridge)


@part
def down(L: F32, y: F64) -> float:
    """y ← L⁻¹ y; the sum of its squares."""
    for i in range(y.shape[0]):
        at = i * (i + 1) // 2
        row = L[at : at + i + 1]
        y[i] = (y[i] - dot(row, y, i)) / row[i]
    return dot(y, y, y.shape[0])


@part
def up(L: F32, y: F64) -> None:
    """y ← L⁻ᵀ y."""
    for i in range(y.shape[0] - 1, -1, -1):
        at = i * (i + 1) // 2
        row = L[at : at + i + 1]
        y[i] /= row[i]
        subtract(y, row, y[i], i)


@part
def solve(m: Any, which: int, c: int, y: F64) -> None:
    """The linear score of one class by one of the factors; y: (D,) float64 scratch, here and below."""
    d = m.mean.shape[1]
    unit, L = m.unit[which], m.factor[which]
    for i in range(d):
        y[i] = m.mean[c, i] / unit[i]
    square = down(L, y)
    up(L, y)
    for i in range(d):
        m.weight[which, c, i] = np.float32(y[i] / unit[i])
    m.bias[which, c] = -0.5 * (square - m.length[which] / m.seen[c])
    m.solved[which, c] = m.seen[c]


@part
def probe(m: Any, which: int, row: int, y: F64) -> None:
    """Measure vᵀ Σ⁻¹ v of one recent event's deviation."""
    d = m.mean.shape[1]
    v = m.block[1 - m.place[FILLING], row]
    for i in range(d):
        y[i] = v[i] / m.unit[which, i]
    m.length[which] += (down(m.factor[which], y) - m.length[which]) / (1.0 + row)


@part
def advance_factor(m: Any) -> None:
    """This event's share of the factor that is being made."""
    d = m.mean.shape[1]
    ridge = RIDGE_EVENTS / m.total[MAKING] + RIDGE
    L = m.factor[1 - m.place[ACTIVE]]
    left = d * d * d / 6.0 / FACTOR_EVENTS
    while left > 0.0 and m.place[ROW] < d:
        i = m.place[ROW]
        last = min(i + ROWS, d)
        factor_rows(L, i, last, ridge)
        left -= ROWS * i * i / 2.0
        m.place[ROW] = last
    if m.place[ROW] == d:
        m.place[PHASE], m.place[CLASS] = SOLVING, -PROBES
        m.length[1 - m.place[ACTIVE]] = 0.0


@part
def advance_solving(m: Any, y: F64) -> None:
    """One class more, or one probe, by the new factor; after the last class it decides."""
    making = 1 - m.place[ACTIVE]
    c = m.place[CLASS]
    if c < 0:
        if PROBES + c < m.place[FOLDED_EVENTS]:
            probe(m, making, PROBES + c, y)
        m.place[CLASS] = c + 1
        return
    while c < m.seen.shape[0] and m.seen[c] <= 0.0:
        m.solved[making, c] = 0.0
        c += 1
    if c < m.seen.shape[0]:
        solve(m, making, c, y)
        c += 1
    m.place[CLASS] = c
    if c == m.seen.shape[0]:
        m.place[ACTIVE] = making
        m.place[PHASE] = IDLE
        m.total[FACTORED] = m.total[MAKING]


@njit(fastmath=SAME, nogil=True, error_model="numpy")
def take(m: Any, z: F32, c: int, weight: float) -> None:
    """The event's deviation goes into the block, its class's mean follows."""
    n = m.seen[c]
    root = math.sqrt(weight * n / (n + weight))
    share = weight / (n + weight)
    row = m.block[m.place[FILLING], m.place[FILLED]]
    mean = m.mean[c]
    for i in range(mean.shape[0]):
        row[i] = np.float32((z[i] - mean[i]) * root)
    for i in range(mean.shape[0]):
        mean[i] += (z[i] - mean[i]) * share
    m.seen[c] = n + weight
    m.total[SEEN] += weight
    m.place[FILLED] += 1


@part
def turn(m: Any) -> None:
    """A block is complete and the one before is folded: they change places, and a factor may come due."""
    filled = m.place[FILLED]
    block = m.block[m.place[FILLING]]
    for k in range(filled, (filled + 7) // 8 * 8):
        for i in range(block.shape[1]):
            block[k, i] = np.float32(0.0)
    m.place[FILLING] = 1 - m.place[FILLING]
    m.place[FILLED] = m.place[FOLDED] = 0
    m.place[FOLDED_EVENTS] = filled
    m.total[FOLDED_WEIGHT] = m.total[SEEN]
    if m.place[PHASE] == IDLE and m.total[SEEN] >= GROWTH * m.total[FACTORED]:
        m.place[PHASE] = COPYING
        m.total[MAKING] = m.total[SEEN]


@part
def learn(m: Any, z: F32, c: int, weight: float, y: F64) -> None:
    """One event of class c: into the statistics, and its share of folding, factoring and solving."""
    d = m.mean.shape[1]
    take(m, z, c, weight)
    if m.place[PHASE] == FACTORING:
        advance_factor(m)
    elif m.place[PHASE] == SOLVING:
        advance_solving(m, y)
    if m.place[FOLDED] < m.place[FOLDED_EVENTS]:
        done, events = m.place[FOLDED], m.place[FOLDED_EVENTS]
        fold(m, row_at(d, done, events), row_at(d, done + 1, events))
        m.place[FOLDED] = done + 1
        if done + 1 == events and m.place[PHASE] == COPYING:
            m.place[PHASE], m.place[ROW] = FACTORING, 0
    if m.place[FOLDED] == m.place[FOLDED_EVENTS]:
        filled = m.place[FILLED]
        if filled == BLOCK or (filled >= FIRST_BLOCK and 8 * filled >= m.total[SEEN]):
            turn(m)
    which = m.place[ACTIVE]
    if m.total[FACTORED] > 0.0 and m.seen[c] >= CLASS_GROWTH * m.solved[which, c]:
        solve(m, which, c, y)


@njit(fastmath=FAST, nogil=True, error_model="numpy")
def dot32(w: F32, z: F32) -> float:
    """w·z."""
    total = np.float32(0.0)
    for i in range(w.shape[0]):
        total += w[i] * z[i]
    return float(total)


@part
def score(m: Any, z: F32, classes: int, s: F64) -> bool:
    """s_c ← w_c·z + b_c less the largest, −∞ for classes not solved; False while no class is."""
    which = m.place[ACTIVE]
    top = -np.inf
    for c in range(classes):
        s[c] = -np.inf
        if m.total[FACTORED] > 0.0 and m.solved[which, c] > 0.0:
            s[c] = dot32(m.weight[which, c], z) + m.bias[which, c]
            top = max(top, s[c])
    if top == -np.inf:
        return False
    for c in range(classes):
        s[c] -= top
    return True


@part
def say(m: Any, z: F32, classes: int, p: F64) -> None:
    """p ← softmax(s/T), (C,); the classes alike before the first factor."""
    if not score(m, z, classes, p):
        for c in range(classes):
            p[c] = 1.0 / classes
        return
    t = math.exp(m.total[LOG_T])
    total = 0.0
    for c in range(classes):
        p[c] = math.exp(max(p[c] / t, UNLIKELY))
    for c in range(classes):
        total += p[c]
    for c in range(classes):
        p[c] /= total


@part
def temper(m: Any, z: F32, classes: int, c: int, s: F64, p: F64) -> None:
    """One step of log T by the log loss of class c; before the event is learned. s, p: (C,) float64 scratch."""
    if not score(m, z, classes, s) or s[c] == -np.inf:
        return
    t = math.exp(m.total[LOG_T])
    total, mean = 0.0, 0.0
    for b in range(classes):
        p[b] = math.exp(s[b] / t)
    for b in range(classes):
        total += p[b]
    for b in range(classes):
        if p[b] > 0.0:
            mean += p[b] / total * s[b] / t
    g = min(max(s[c] / t - mean, -10.0), 10.0)
    m.total[STEPS] += 1.0
    step = m.total[STEPS]
    m.total[LOG_T_SQUARE] += (g * g - m.total[LOG_T_SQUARE]) / min(step, 1000.0)
    rate = TEMPERATURE_RATE * (1.0 + 3.0 / math.sqrt(step))
    m.total[LOG_T] -= rate * g / (math.sqrt(m.total[LOG_T_SQUARE]) + 1e-3)
    m.total[LOG_T] = min(max(m.total[LOG_T], -2.0), 6.0)
