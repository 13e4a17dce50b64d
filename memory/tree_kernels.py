"""Sliding-window trees that forget exactly: extremely randomised, fully grown, counts always the window's.

A node splits at the best, by Gini's index (or variance), of some thresholds drawn uniformly between the
extremes of its events, one per feature tried (Geurts, Ernst and Wehenkel, Extremely randomized trees, 2006).
A new event is added to the counts on its path and to the list of its leaf; an impure leaf splits at once from
its own events. The event that leaves the window is routed and subtracted. Splits that have grown old go with
the whole tree: one tree after the other is grown anew beside the others from the events of the window, a
little with every event, then takes up what has come and gone meanwhile, and takes its place.

Two forecasts per forest, each the mean over trees, with C classes and n events at a node:

    node  q_c = (count_c + 1/C) / (n + 1)   at the deepest node with n ≥ 8
    leaf  (count_c + q_c) / (n + 1)         at the leaf

For regression counts are sums of targets, and the mean target of the root takes the place of 1/C. A tree counts
targets in its own measure, (target − centre)/spread of the window when it was begun, at most ±10^6 of it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from memory.forest import CHILD, FEATURE, HEAD, LIMIT, SIZE, THRESHOLD, TOLD

FAST = {"contract", "nsz"}  # missing numbers are NaN: comparisons must stay true to them
DEEPEST = 8  # events that a node must hold for its own forecast
SMALLEST = 4  # events that a regression's leaf holds before it splits
FRESH, OFTEN, FEW = 1.0, 3.0, 1024.0  # see `pace`
FARTHEST = 1e6  # spreads from the centre that a target counts for, at most
WIDEST = 64  # features that a split tries, at most
IDLE, SPLIT, FOLLOW = 0, 1, 2

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

part = njit(fastmath=FAST, nogil=True, error_model="numpy")
inline = njit(fastmath=FAST, nogil=True, error_model="numpy", forceinline=True)


@inline
def chance(forest: Any) -> float:
    """Uniform in [0, 1): Marsaglia's xorshift with a multiplication (Vigna 2016)."""
    s = forest.random[0]
    s ^= s >> np.uint64(12)
    s ^= s << np.uint64(25)
    s ^= s >> np.uint64(27)
    forest.random[0] = s
    return float((s * np.uint64(0x2545F4914F6CDD1D)) >> np.uint64(11)) * (1.0 / 9007199254740992.0)


@inline
def below(forest: Any, t: int, node: int, x: F32) -> int:
    """The child into which x goes; 0 where the node is a leaf. What is missing goes right."""
    children = int(forest.node[t, node, CHILD])
    if children == 0:
        return 0
    return children + (0 if x[int(forest.node[t, node, FEATURE])] <= forest.node[t, node, THRESHOLD] else 1)


@inline
def link(forest: Any, t: int, node: int, slot: int) -> None:
    """The event comes first in the leaf's list."""
    first = int(forest.node[t, node, HEAD])
    forest.after[t, slot] = first
    forest.before[t, slot] = 0
    if first > 0:
        forest.before[t, first - 1] = slot + 1
    forest.node[t, node, HEAD] = slot + 1


@inline
def unlink(forest: Any, t: int, node: int, slot: int) -> None:
    """The event leaves the leaf's list."""
    a, b = forest.before[t, slot], forest.after[t, slot]
    if a > 0:
        forest.after[t, a - 1] = b
    else:
        forest.node[t, node, HEAD] = b
    if b > 0:
        forest.before[t, b - 1] = a


@inline
def measured(forest: Any, t: int, y: float, regression: bool) -> float:
    """The target as tree row t counts it; a class stays what it is."""
    if not regression:
        return y
    return min(max((y - forest.scale[t, 0]) / forest.scale[t, 1], -FARTHEST), FARTHEST)


@inline
def measure(forest: Any, t: int, centre: float, spread: float) -> None:
    """Tree row t, still empty, counts targets from this centre in units of this spread."""
    forest.scale[t, 0] = centre
    forest.scale[t, 1] = max(spread, 1e-6 * abs(centre))
    if not forest.scale[t, 1] > 0.0:
        forest.scale[t, 1] = 1.0


@inline
def count_in(forest: Any, t: int, node: int, y: float, sign: float, regression: bool) -> None:
    """One event more (or less) at a node; y: its class, or its measured target."""
    forest.node[t, node, SIZE] += np.float32(sign)
    if regression:
        forest.node[t, node, TOLD] += np.float32(sign * y)
        if forest.node[t, node, SIZE] == 0:
            forest.node[t, node, TOLD] = 0.0
    else:
        forest.node[t, node, TOLD + int(y)] += np.float32(sign)


@inline
def to_leaf(forest: Any, t: int, order: I32, node: int, start: int, end: int, limit: int) -> None:
    """The node is a leaf that holds these events."""
    forest.node[t, node, CHILD] = 0
    forest.node[t, node, HEAD] = 0
    forest.node[t, node, LIMIT] = limit
    for i in range(end - 1, start - 1, -1):
        link(forest, t, node, order[i])


@inline
def pair(forest: Any, t: int) -> int:
    """Two nodes that nobody uses, or −1."""
    at = forest.used[t]
    if at + 2 > forest.node.shape[1]:
        return -1
    forest.used[t] = at + 2
    return at


@part
def split(
    forest: Any, space: Any, t: int, order: I32, node: int, start: int, end: int, d: int, tries: int,
    regression: bool,
) -> int:  # fmt: skip
    """Split a node's events order[start:end] between two new children; where the right one's begin, or −1."""
    x, y, tried, low, high, cut, left = (
        forest.x,
        forest.y,
        space.tried,
        space.low,
        space.high,
        space.cut,
        space.left,
    )
    everything = tries == d
    if not everything:
        for j in range(d):
            tried[j] = j
        for j in range(tries):
            k = j + int(chance(forest) * (d - j))
            tried[j], tried[k] = tried[k], tried[j]
    for j in range(tries):
        low[j], high[j] = np.inf, -np.inf
    for i in range(start, end):
        row = x[order[i]]
        if everything:
            for j in range(tries):
                low[j] = min(low[j], row[j]) if row[j] == row[j] else low[j]
                high[j] = max(high[j], row[j]) if row[j] == row[j] else high[j]
        else:
            for j in range(tries):
                v = row[tried[j]]
                if v < low[j]:
                    low[j] = v
                if v > high[j]:
                    high[j] = v
    some = False
    for j in range(tries):
        if low[j] < high[j]:
            cut[j] = np.float32(low[j] + chance(forest) * (high[j] - low[j]))
            if cut[j] >= high[j]:
                cut[j] = low[j]
            some = True
        elif low[j] == high[j]:  # all alike but for those that miss it
            cut[j] = low[j]
            some = True
        else:
            cut[j] = np.inf
    if not some:
        return -1
    n = end - start
    seen = space.seen
    classes = 0
    if regression:
        left[0, :tries], left[1, :tries] = 0.0, 0.0
        mean = 0.0
        for i in range(start, end):
            mean += measured(forest, t, y[order[i]], True)
        mean /= n
        for i in range(start, end):
            row = x[order[i]]
            v = np.float32(measured(forest, t, y[order[i]], True) - mean)
            for j in range(tries):
                below = row[j if everything else tried[j]] <= cut[j]
                left[0, j] += v if below else np.float32(0.0)
                left[1, j] += np.float32(1.0) if below else np.float32(0.0)
    else:
        for i in range(start, end):
            c = int(y[order[i]])
            new = True
            for k in range(classes):
                if seen[k] == c:
                    new = False
                    break
            if new:
                seen[classes] = c
                classes += 1
                left[c, :tries] = 0.0
            row = x[order[i]]
            if everything:
                for j in range(tries):
                    left[c, j] += np.float32(1.0) if row[j] <= cut[j] else np.float32(0.0)
            else:
                for j in range(tries):
                    if row[tried[j]] <= cut[j]:
                        left[c, j] += np.float32(1.0)
    best, at = -np.inf, -1
    for j in range(tries):
        inside, value = 0.0, 0.0
        if regression:
            inside = left[1, j]
            if inside == 0.0 or inside == n:
                continue
            value = left[0, j] * left[0, j] * (1.0 / inside + 1.0 / (n - inside))
        else:
            one, two = 0.0, 0.0
            for k in range(classes):
                a = float(left[seen[k], j])
                b = float(forest.node[t, node, TOLD + seen[k]]) - a
                inside += a
                one += a * a
                two += b * b
            if inside == 0.0 or inside == n:
                continue
            value = one / inside + two / (n - inside)
        if value > best:
            best, at = value, j
    if at < 0:
        return -1
    children = pair(forest, t)
    if children < 0:
        return -1
    f = at if everything else tried[at]
    threshold = cut[at]
    forest.node[t, node, FEATURE], forest.node[t, node, THRESHOLD] = f, threshold
    forest.node[t, node, CHILD] = children
    forest.node[t, node, HEAD] = 0
    for side in range(2):
        forest.node[t, children + side, SIZE] = 0
        for c in range(TOLD, forest.node.shape[2]):
            forest.node[t, children + side, c] = 0.0
    i, j = start, end - 1
    while i <= j:
        slot = order[i]
        if x[slot, f] <= threshold:
            count_in(forest, t, children, measured(forest, t, y[slot], regression), 1.0, regression)
            i += 1
        else:
            count_in(forest, t, children + 1, measured(forest, t, y[slot], regression), 1.0, regression)
            order[i], order[j] = order[j], slot
            j -= 1
    return i


@inline
def pure(forest: Any, t: int, order: I32, node: int, start: int, end: int, regression: bool) -> bool:
    """Whether nothing is gained by a split."""
    n = end - start
    if n < (SMALLEST if regression else 2):
        return True
    first = forest.y[order[start]]
    if not regression:
        return forest.node[t, node, TOLD + int(first)] == n
    same = 1
    while same < n and forest.y[order[start + same]] == first:
        same += 1
    return same == n


@part
def settle(
    forest: Any, space: Any, t: int, order: I32, stack: I32, open: int, d: int, tries: int, regression: bool
) -> tuple[int, int]:  # fmt: skip
    """Take one range from the stack: it becomes a leaf, or two further ranges; (ranges left, work done)."""
    open -= 1
    node, start, end = stack[open, 0], stack[open, 1], stack[open, 2]
    n = end - start
    least = SMALLEST if regression else 2
    if pure(forest, t, order, node, start, end, regression):
        to_leaf(forest, t, order, node, start, end, least)
        return open, n
    middle = split(forest, space, t, order, node, start, end, d, tries, regression)
    if middle < 0:
        to_leaf(forest, t, order, node, start, end, n + n // 2 + 1)
        return open, n * tries
    children = int(forest.node[t, node, CHILD])
    stack[open, 0], stack[open, 1], stack[open, 2] = children, start, middle
    stack[open + 1, 0], stack[open + 1, 1], stack[open + 1, 2] = children + 1, middle, end
    return open + 2, n * tries


@part
def grow_leaf(forest: Any, space: Any, t: int, node: int, d: int, tries: int, regression: bool) -> None:
    """Split a leaf from its own events until all is pure."""
    order, n = space.order, 0
    at = int(forest.node[t, node, HEAD])
    while at > 0:
        order[n] = at - 1
        n += 1
        at = forest.after[t, at - 1]
    stack = space.stack
    stack[0, 0], stack[0, 1], stack[0, 2] = node, 0, n
    open = 1
    while open > 0:
        open, _ = settle(forest, space, t, order, stack, open, d, tries, regression)


@part
def insert(forest: Any, space: Any, t: int, slot: int, d: int, tries: int, regression: bool) -> None:
    """An event comes into a tree."""
    if regression and forest.node[t, 0, SIZE] == 0:
        measure(forest, t, forest.y[slot], abs(forest.y[slot]))
    x, y, node = forest.x[slot], measured(forest, t, forest.y[slot], regression), 0
    while True:
        count_in(forest, t, node, y, 1.0, regression)
        child = below(forest, t, node, x)
        if child == 0:
            break
        node = child
    link(forest, t, node, slot)
    n = forest.node[t, node, SIZE]
    if n >= forest.node[t, node, LIMIT] and (regression or forest.node[t, node, TOLD + int(y)] < n):
        grow_leaf(forest, space, t, node, d, tries, regression)


@part
def remove(forest: Any, t: int, slot: int, regression: bool) -> None:
    """An event leaves a tree."""
    x, y, node = forest.x[slot], measured(forest, t, forest.y[slot], regression), 0
    while True:
        count_in(forest, t, node, y, -1.0, regression)
        child = below(forest, t, node, x)
        if child == 0:
            break
        node = child
    unlink(forest, t, node, slot)


@inline
def clear(forest: Any, t: int) -> None:
    """An empty tree."""
    for node in range(forest.used[t]):
        for part in range(forest.node.shape[2]):
            forest.node[t, node, part] = 0.0
    forest.used[t] = 1
    forest.node[t, 0, LIMIT] = 2


@part
def begin(forest: Any, regression: bool) -> None:
    """Begin to grow a tree from the events of the window."""
    place, build, order = forest.place, forest.build, forest.order
    slots = forest.y.shape[0]
    t = forest.tree[forest.tree.shape[0] - 1]
    clear(forest, t)
    n, mean, squares = 0, 0.0, 0.0
    for serial in range(place[1], place[0]):
        slot = serial % slots
        if forest.alive[slot] == 1:
            order[n] = slot
            n += 1
            if regression:
                d = forest.y[slot] - mean
                mean += d / n
                squares += d / n * (forest.y[slot] - mean)
    if regression:
        measure(forest, t, mean, math.sqrt(squares / max(n, 1)))
    for i in range(n):
        count_in(forest, t, 0, measured(forest, t, forest.y[order[i]], regression), 1.0, regression)
    build[0], build[2], build[3] = SPLIT, place[1], place[0]
    forest.stack[0, 0], forest.stack[0, 1], forest.stack[0, 2] = 0, 0, n
    build[4] = 1


@inline
def pace(held: int) -> float:
    """How often every tree is grown anew while as many events come as are held: four times when they are few."""
    return FRESH + OFTEN * FEW / (FEW + held)


@part
def advance(forest: Any, space: Any, d: int, tries: int, regression: bool) -> None:
    """A little of the tree that is built: split some ranges, then take up what has come and gone meanwhile."""
    build, place = forest.build, forest.place
    trees = forest.tree.shape[0] - 1
    slots = forest.y.shape[0]
    held = place[0] - place[1]
    if build[0] == IDLE:
        place[3] -= 1
        if place[3] > 0 or held < 2:
            return
        place[3] = max(1, int(held / (pace(held) * trees)))
        begin(forest, regression)
        return
    place[3] -= 1
    t = forest.tree[trees]
    if build[0] == SPLIT:
        work = 1.25 * pace(held) * trees * tries * (math.log2(max(held, 2)) + 2.0)
        while work > 0.0 and build[4] > 0:
            build[4], done = settle(
                forest, space, t, forest.order, forest.stack, build[4], d, tries, regression
            )
            work -= done
        if build[4] == 0:
            build[0] = FOLLOW
        return
    for _ in range(8):
        if build[3] < place[0]:
            slot = build[3] % slots
            build[3] += 1
            if forest.alive[slot] == 1:
                insert(forest, space, t, slot, d, tries, regression)
        if build[2] < place[1]:
            slot = build[2] % slots
            build[2] += 1
            if forest.alive[slot] == 1:
                remove(forest, t, slot, regression)
    if build[3] == place[0] and build[2] == place[1]:
        old = build[1]
        forest.tree[trees], forest.tree[old] = forest.tree[old], t
        build[1] = (old + 1) % trees
        build[0] = IDLE


@part
def learn(forest: Any, space: Any, x: F32, d: int, y: float, regression: bool) -> None:
    """An event with its label comes into the window, the oldest one leaves it."""
    place, slots, trees = forest.place, forest.y.shape[0], forest.tree.shape[0] - 1
    tries = min(d, WIDEST)
    slot = place[0] % slots
    if forest.build[0] != IDLE and place[0] - forest.build[2] >= slots:
        forest.build[0] = IDLE  # it was too slow: what it holds is about to be overwritten
    for j in range(d):
        forest.x[slot, j] = x[j]
    forest.y[slot] = y
    forest.alive[slot] = 1
    place[0] += 1
    for k in range(trees):
        insert(forest, space, forest.tree[k], slot, d, tries, regression)
    if place[0] - place[1] > place[2]:
        gone = place[1] % slots
        place[1] += 1
        if forest.alive[gone] == 1:
            for k in range(trees):
                remove(forest, forest.tree[k], gone, regression)
    advance(forest, space, d, tries, regression)


@part
def refill(fresh: Any, space: Any, old: Any, source: I64, regression: bool) -> None:
    """An empty forest takes the newest events of another; source: for each feature the other's, or −1."""
    slots, d = old.y.shape[0], source.shape[0]
    first = max(old.place[1], old.place[0] - fresh.place[2])
    fresh.place[0], fresh.place[1] = first, first
    x = np.empty(d, np.float32)
    for serial in range(first, old.place[0]):
        slot = serial % slots
        if old.alive[slot] == 0:
            fresh.alive[fresh.place[0] % fresh.y.shape[0]] = 0
            fresh.place[0] += 1
            continue
        for j in range(d):
            x[j] = old.x[slot, source[j]] if source[j] >= 0 else np.float32(np.nan)
        learn(fresh, space, x, d, old.y[slot], regression)


@part
def say(forest: Any, x: F32, outputs: int, regression: bool, node: F64, leaf: F64) -> None:
    """The forecasts (outputs,) of the deepest nodes with enough events, and of the leaves."""
    trees = forest.tree.shape[0] - 1
    for c in range(outputs):
        node[c], leaf[c] = 0.0, 0.0
    for k in range(trees):
        t = forest.tree[k]
        at, deepest = 0, 0
        while True:
            if forest.node[t, at, SIZE] >= DEEPEST:
                deepest = at
            child = below(forest, t, at, x)
            if child == 0:
                break
            at = child
        n, m = float(forest.node[t, deepest, SIZE]), float(forest.node[t, at, SIZE])
        everywhere, centre, spread = 1.0 / outputs, 0.0, 1.0
        if regression:
            everywhere = forest.node[t, 0, TOLD] / max(float(forest.node[t, 0, SIZE]), 1.0)
            centre, spread = forest.scale[t, 0], forest.scale[t, 1]
        for c in range(outputs):
            q = (forest.node[t, deepest, TOLD + c] + everywhere) / (n + 1.0)
            node[c] += (centre + spread * q) / trees
            leaf[c] += (centre + spread * (forest.node[t, at, TOLD + c] + q) / (m + 1.0)) / trees


@part
def forget(forest: Any, serial: int, regression: bool) -> bool:
    """Remove the event that was stored with this number, and erase it; whether it was there.

    What has left the window lies in its slot until another event takes that, and is erased as well.
    """
    place, build, slots = forest.place, forest.build, forest.y.shape[0]
    if serial < 0 or serial < place[0] - slots or serial >= place[0] or forest.alive[serial % slots] == 0:
        return False
    slot = serial % slots
    for k in range(forest.tree.shape[0] - 1 if serial >= place[1] else 0):
        remove(forest, forest.tree[k], slot, regression)
    build[0] = IDLE  # the tree that is built may hold it
    forest.alive[slot] = 0
    for j in range(forest.x.shape[1]):
        forest.x[slot, j] = np.nan
    forest.y[slot] = 0.0
    return True
