"""The flat arrays of an analytic memory: statistics that never forget, whatever the order of events.

`memory.analytic_kernels` fills and reads them. Two memories over the same features (the same map) add up to the
one that would have seen all events (`merged`).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

BLOCK = 64  # events that are folded together

# place: rows filled of the block that is being filled, which of the two that is, how many slices of the other are
# folded and of how many (one per event of it), the phase, the next row to factor, the next class to solve (below
# 0: probes left), which factor decides.
FILLED, FILLING, FOLDED, FOLDED_EVENTS, PHASE, ROW, CLASS, ACTIVE = range(8)
IDLE, COPYING, FACTORING, SOLVING = range(4)
# total: weight of all events, of those in folded blocks, in the factor that decides and in the one being made;
# steps of the temperature, its logarithm, the mean square of its gradient.
SEEN, FOLDED_WEIGHT, FACTORED, MAKING, STEPS, LOG_T, LOG_T_SQUARE = range(7)
RIDGE_EVENTS, RIDGE = 30.0, 1e-4

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


class Analytic(NamedTuple):
    """Statistics of D features and C classes; matrices are lower triangles, packed by rows, D (D + 1)/2 numbers.

    scatter: (D (D + 1)/2,) float64, within classes, Σ (z − μ_y)(z − μ_y)ᵀ, of all events that were folded in.
    factor: (2, D (D + 1)/2) float32, Cholesky factors: the one that decides and the one that is being made.
    unit: (2, D) float64, the features' deviations that the factors are measured in.
    block: (2, BLOCK, D) float32, deviations of recent events from their class mean, to be folded in.
    mean: (C, D) float64; seen: (C,) float64, weight of the events of each class.
    weight: (2, C, D) float32, bias: (2, C) float64, the linear scores by either factor; solved: (2, C) float64,
    the weight that each class had when it was solved, 0 for not yet; length: (2,) float64, d of either factor.
    place: (8,) int64 and total: (7,) float64, see above.
    """

    scatter: F64
    factor: F32
    unit: F64
    block: F32
    mean: F64
    seen: F64
    weight: F32
    bias: F64
    solved: F64
    length: F64
    place: I64
    total: F64


def allocate(features: int, classes: int) -> Analytic:
    """An empty memory."""
    z, packed = np.zeros, features * (features + 1) // 2
    memory = Analytic(
        scatter=z(packed), factor=z((2, packed), np.float32), unit=z((2, features)),
        block=z((2, BLOCK, features), np.float32), mean=z((classes, features)), seen=z(classes),
        weight=z((2, classes, features), np.float32), bias=z((2, classes)), solved=z((2, classes)), length=z(2),
        place=z(8, np.int64), total=z(7),
    )  # fmt: skip
    return memory


def bytes_of(features: int, classes: int) -> int:
    """Bytes of a memory of these sizes."""
    packed = features * (features + 1) // 2
    numbers = 2 * packed + 2 * features + classes * (features + 5) + 17
    return 8 * numbers + 4 * features * 2 * (BLOCK + classes)


def grown(memory: Analytic, classes: int) -> Analytic:
    """The same memory with room for more classes."""
    have = memory.seen.shape[0]
    if classes <= have:
        return memory
    fresh = {}
    for name, axis in (("mean", 0), ("seen", 0), ("weight", 1), ("bias", 1), ("solved", 1)):
        old = getattr(memory, name)
        shape = list(old.shape)
        shape[axis] = classes
        fresh[name] = np.zeros(shape, old.dtype)
        fresh[name][(slice(None),) * axis + (slice(have),)] = old
    return memory._replace(**fresh)


def triangle(packed: F64, features: int) -> F64:
    """A packed lower triangle as the whole symmetric matrix, (D, D) float64."""
    out = np.zeros((features, features))
    out[np.tril_indices(features)] = packed
    return out + np.tril(out, -1).T


def scatter(memory: Analytic) -> F64:
    """The scatter within classes with all events in it, those that wait to be folded too: (D, D) float64."""
    d = memory.mean.shape[1]
    out = triangle(memory.scatter, d)
    place = memory.place
    filling = memory.block[place[FILLING], : place[FILLED]].astype(np.float64)
    out += filling.T @ filling
    if place[FOLDED] < place[FOLDED_EVENTS]:
        other = memory.block[1 - place[FILLING], : place[FOLDED_EVENTS]].astype(np.float64)
        first = row_at(d, int(place[FOLDED]), int(place[FOLDED_EVENTS]))
        more = np.tril(other.T @ other)
        more[:first] = 0.0
        out += more + np.tril(more, -1).T
    return out


def row_at(d: int, slice: int, slices: int) -> int:
    """The first row of a slice of a triangle of d rows that is cut into slices of like size."""
    return round(d * math.sqrt(slice / slices))


def merged(a: Analytic, b: Analytic) -> Analytic:
    """The memory of the events of both (Chan et al. 1979), decided by anew; ValueError for other sizes.

    Both must have seen the same features (the same map) and have the same classes in the same order.
    """
    if a.mean.shape != b.mean.shape:
        raise ValueError(
            f"memories of {a.mean.shape} and {b.mean.shape} classes and features; expected the same of both: "
            "grow the one with fewer classes first"
        )
    classes, features = a.mean.shape
    fresh = allocate(features, classes)
    count = a.seen + b.seen
    share = np.divide(b.seen, count, out=np.zeros(classes), where=count > 0)
    apart = b.mean - a.mean
    between = (apart.T * (a.seen * share)) @ apart
    fresh.scatter[:] = (scatter(a) + scatter(b) + between)[np.tril_indices(features)]
    fresh.mean[:] = a.mean + share[:, None] * apart
    fresh.seen[:] = count
    steps = a.total[STEPS], b.total[STEPS]
    fresh.total[:] = 0.0
    fresh.total[SEEN] = fresh.total[FOLDED_WEIGHT] = a.total[SEEN] + b.total[SEEN]
    fresh.total[STEPS] = sum(steps)
    for at in (LOG_T, LOG_T_SQUARE):
        fresh.total[at] = (steps[0] * a.total[at] + steps[1] * b.total[at]) / max(sum(steps), 1.0)
    decide(fresh)
    return fresh


def decide(memory: Analytic) -> None:
    """Factor and solve at once, in NumPy, by all that was folded; d is taken as the trace of Σ⁻¹ S/N."""
    place, total = memory.place, memory.total
    features = memory.mean.shape[1]
    if total[FOLDED_WEIGHT] <= 0.0:
        return
    which = place[ACTIVE] = 1 - place[ACTIVE]
    sigma = triangle(memory.scatter, features) / total[FOLDED_WEIGHT]
    variance = np.diag(sigma).copy()
    unit = np.where(variance > 0.0, np.sqrt(np.maximum(variance, 0.0)), np.inf)
    sigma = sigma / unit[:, None] / unit[None, :]
    np.fill_diagonal(sigma, 1.0)
    ridge = RIDGE_EVENTS / total[FOLDED_WEIGHT] + RIDGE
    sigma += ridge * np.eye(features)
    memory.unit[which] = unit
    memory.factor[which] = np.linalg.cholesky(sigma)[np.tril_indices(features)]
    inverse = np.linalg.inv(sigma)
    memory.length[which] = features - ridge * np.trace(inverse)
    mean = memory.mean / unit
    solved = mean @ inverse
    memory.weight[which] = solved / unit
    square = (solved * mean).sum(axis=1)
    seen = memory.seen > 0.0
    memory.bias[which] = 0.0
    memory.bias[which, seen] = -0.5 * (square[seen] - memory.length[which] / memory.seen[seen])
    memory.solved[which] = memory.seen
    total[FACTORED] = total[FOLDED_WEIGHT]
    place[PHASE] = IDLE
