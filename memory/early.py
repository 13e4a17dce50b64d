"""One greedy tree on the first labelled events: what a learner knows while nothing else knows anything yet.

CART (Breiman, Friedman, Olshen and Stone 1984) to the end: every node that is not pure takes the split with
the greatest Σ_children Σ_c n_c² / n (least Gini impurity; with the sums of targets for n_c, the least variance)
over all features and all thresholds half-way between neighbouring values. A forecast is
(n_c + prior_c) / (n + 1) at the leaf. The tree is grown anew from all events so far when it was wrong, as long
as there are no more than EVENTS of them; later events only add to the counts of their leaf.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

EVENTS = 200
WIDEST = 128  # numbers of an event that are looked at; more would make a mistake dear
NODES = 2 * EVENTS
FEWER = 16  # a tree is not grown again before it has one event more for so many
FAST = {"contract", "nsz"}

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


class Early(NamedTuple):
    """The first events and the tree on them.

    x: (EVENTS, d) float32, NaN for missing, d at most WIDEST. y: (EVENTS,) float64, class or target, NaN for one
    that was forgotten. feature: (NODES,) int64, −1 at a leaf; threshold: (NODES,) float32, left where x ≤ it;
    child: (NODES,) int64, the left one, the right one behind it. events: (NODES,) float64 and told: (NODES, C)
    float64, events per class, or the sum of targets less `centre`. centre: (1,) float64. place: (3,) int64 —
    labels so far, nodes, labels when the tree was grown.
    """

    x: F32
    y: F64
    feature: I64
    threshold: F32
    child: I64
    events: F64
    told: F64
    centre: F64
    place: I64


class Room(NamedTuple):
    """Working space of the kernels; nothing in it outlives a call."""

    order: I64
    sorted: I64
    value: F32
    left: F64
    total: F64
    stack: I64


def allocate(numbers: int, outputs: int, *, events: int = EVENTS) -> Early:
    """A tree of one leaf for events of so many numbers."""
    nodes = 2 * events
    return Early(
        x=np.zeros((events, min(numbers, WIDEST)), np.float32),
        y=np.zeros(events),
        feature=np.full(nodes, -1),
        threshold=np.zeros(nodes, np.float32),
        child=np.zeros(nodes, np.int64),
        events=np.zeros(nodes),
        told=np.zeros((nodes, outputs)),
        centre=np.zeros(1),
        place=np.array([0, 1, 0], np.int64),
    )


def room(outputs: int) -> Room:
    """Working space for trees of so many outputs."""
    n = EVENTS
    return Room(
        order=np.zeros(n, np.int64), sorted=np.zeros(n, np.int64), value=np.zeros(n, np.float32),
        left=np.zeros(outputs), total=np.zeros(outputs), stack=np.zeros((n, 3), np.int64),
    )  # fmt: skip


def widened(early: Early, numbers: int, outputs: int, source: I64) -> Early:
    """The same tree for other numbers, of which j continues source[j] of before (−1: new), and more classes."""
    fresh = allocate(numbers, outputs, events=len(early.y))
    width, held = fresh.x.shape[1], min(int(early.place[0]), len(early.y))
    fresh.x[:held] = np.nan
    back = np.full(max(early.x.shape[1], 1), -1)
    for j in range(width):
        if 0 <= source[j] < early.x.shape[1]:
            fresh.x[:, j] = early.x[:, source[j]]
            back[source[j]] = j
    looked = early.feature >= 0
    fresh.feature[looked] = back[early.feature[looked]]
    c = early.told.shape[1]
    for name in ("y", "threshold", "child", "events", "centre", "place"):
        getattr(fresh, name)[:] = getattr(early, name)
    fresh.told[:, :c] = early.told
    return fresh


def forget(early: Early, serial: int) -> bool:
    """Remove the event of this label number; whether it was kept. What was counted of it stays."""
    if not 0 <= serial < min(int(early.place[0]), len(early.y)) or math.isnan(early.y[serial]):
        return False
    early.x[serial], early.y[serial] = math.nan, math.nan
    return True


@njit(fastmath=FAST, nogil=True, error_model="numpy")
def leaf_of(early: Any, x: F32) -> int:
    """The leaf to which an event (d,) comes; what is missing goes right."""
    at = 0
    while early.feature[at] >= 0:
        at = early.child[at] + (0 if x[early.feature[at]] <= early.threshold[at] else 1)
    return int(at)


@njit(fastmath=FAST, nogil=True, error_model="numpy")
def say(early: Any, x: F32, prior: F64, outputs: int, regression: bool, p: F64) -> None:
    """p ← the leaf's frequencies and one event of the prior, (C,); or the leaf's mean target, (1,)."""
    at = leaf_of(early, x)
    n = early.events[at]
    if regression:
        p[0] = early.centre[0] + (early.told[at, 0] / n if n > 0.0 else 0.0)
        return
    for c in range(outputs):
        p[c] = (early.told[at, c] + prior[c]) / (n + 1.0)


@njit(fastmath=FAST, nogil=True, error_model="numpy")
def best_split(
    early: Any, space: Any, first: int, last: int, outputs: int, regression: bool
) -> tuple[int, Any]:
    """Feature and threshold of the best split of the events order[first:last]; (−1, 0) where none is better."""
    n = last - first
    found, cut, best = -1, np.float32(0.0), 0.0
    total = space.total
    for c in range(outputs):
        total[c] = 0.0
    for i in range(first, last):
        if regression:
            total[0] += early.y[space.order[i]] - early.centre[0]
        else:
            total[int(early.y[space.order[i]])] += 1.0
    for c in range(outputs):
        best += total[c] * total[c]
    best = best / n + 1e-9 * abs(best / n)
    for f in range(early.x.shape[1]):
        known = 0
        for i in range(first, last):  # by insertion: few events, often in order
            row = space.order[i]
            x = early.x[row, f]
            if math.isnan(x):
                continue
            j = known
            while j > 0 and space.value[j - 1] > x:
                space.value[j] = space.value[j - 1]
                space.sorted[j] = space.sorted[j - 1]
                j -= 1
            space.value[j] = x
            space.sorted[j] = row
            known += 1
        if known < 2 and known == n:
            continue
        squares_left, squares_right = 0.0, 0.0
        for c in range(outputs):
            space.left[c] = 0.0
            squares_right += total[c] * total[c]
        for i in range(known):
            y = early.y[space.sorted[i]]
            if regression:
                space.left[0] += y - early.centre[0]
                squares_left = space.left[0] * space.left[0]
                squares_right = (total[0] - space.left[0]) * (total[0] - space.left[0])
            else:
                c = int(y)
                squares_right -= 2.0 * (total[c] - space.left[c]) - 1.0
                squares_left += 2.0 * space.left[c] + 1.0
                space.left[c] += 1.0
            here = space.value[i]
            if i + 1 == n or (i + 1 < known and not space.value[i + 1] > here):
                continue
            score = squares_left / (i + 1.0) + squares_right / (n - i - 1.0)
            if score > best:
                best, found = score, f
                cut = here if i + 1 == known else here + np.float32(0.5) * (space.value[i + 1] - here)
    return found, cut


@njit(fastmath=FAST, nogil=True, error_model="numpy")
def grow(early: Any, space: Any, outputs: int, regression: bool) -> None:
    """Grow the tree anew from all stored events."""
    held = 0
    for i in range(min(early.place[0], early.y.shape[0])):
        if not math.isnan(early.y[i]):
            space.order[held] = i
            held += 1
    early.centre[0] = 0.0
    if regression:
        total = 0.0
        for i in range(held):
            total += early.y[space.order[i]]
        early.centre[0] = total / held
    early.place[1] = 1
    early.place[2] = early.place[0]
    waiting = 1
    space.stack[0, 0], space.stack[0, 1], space.stack[0, 2] = 0, 0, held
    while waiting > 0:
        waiting -= 1
        node, first, last = space.stack[waiting, 0], space.stack[waiting, 1], space.stack[waiting, 2]
        early.feature[node] = -1
        early.events[node] = last - first
        for c in range(outputs):
            early.told[node, c] = 0.0
        for i in range(first, last):
            y = early.y[space.order[i]]
            if regression:
                early.told[node, 0] += y - early.centre[0]
            else:
                early.told[node, int(y)] += 1.0
        pure = last - first < (10 if regression else 2)
        for c in range(outputs):
            pure = pure or (not regression and early.told[node, c] == early.events[node])
        if pure:
            continue
        f, cut = best_split(early, space, first, last, outputs, regression)
        if f < 0:
            continue
        middle, end = first, last
        while middle < end:
            row = space.order[middle]
            if early.x[row, f] <= cut:
                middle += 1
            else:
                end -= 1
                space.order[middle], space.order[end] = space.order[end], row
        if middle in (first, last):
            continue
        early.feature[node], early.threshold[node] = f, cut
        early.child[node] = early.place[1]
        early.place[1] += 2
        for side in range(2):
            space.stack[waiting, 0] = early.child[node] + side
            space.stack[waiting, 1] = first if side == 0 else middle
            space.stack[waiting, 2] = middle if side == 0 else last
            waiting += 1


@njit(fastmath=FAST, nogil=True, error_model="numpy")
def learn(early: Any, space: Any, x: F32, d: int, y: float, outputs: int, regression: bool) -> None:
    """A labelled event: kept if it is among the first; the tree is grown anew where it was wrong about it."""
    seen = early.place[0]
    early.place[0] += 1
    at = leaf_of(early, x)
    if seen < early.y.shape[0]:
        for j in range(min(d, early.x.shape[1])):
            early.x[seen, j] = x[j]
        early.y[seen] = y
        wrong = regression or early.events[at] == 0.0
        if not regression:
            for c in range(outputs):
                wrong = wrong or (c != int(y) and early.told[at, c] >= early.told[at, int(y)])
        if wrong and (seen + 1 - early.place[2]) * FEWER >= early.place[2]:
            grow(early, space, outputs, regression)
            return
    early.events[at] += 1.0
    if regression:
        early.told[at, 0] += y - early.centre[0]
    else:
        early.told[at, int(y)] += 1.0
