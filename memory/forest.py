"""The flat arrays of sliding-window trees, and how they grow, widen and are packed; see `memory.tree_kernels`."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

FIRST = 256  # events for which there is room at first
NODES = 3  # nodes per event for which there is room
FEATURE, THRESHOLD, CHILD, SIZE, HEAD, LIMIT, TOLD = range(7)

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]


class Forest(NamedTuple):
    """The flat arrays of T trees, one more being built, over the last events; M nodes per tree, `slots` events.

    x: (slots, features) float32, NaN for missing. y: (slots,) float64, class or target. alive: (slots,) int8.
    node: (T + 1, M, 6 + C) float32, a node's numbers side by side, so that one read of memory brings them all:
    FEATURE where it looks, THRESHOLD (left where x ≤ it), CHILD the left one, the right one behind it, 0 for a
    leaf; SIZE its events, HEAD the first in its list, LIMIT at how many it is tried to split next; from TOLD on
    counts per class, or the sum of targets. Whole numbers up to 2^24 are exact.
    scale: (T + 1, 2) float64, a regression's centre and spread, by which the tree measures targets.
    after, before: (T + 1, slots) int32, the lists of the leaves: slot + 1 of an event, 0 at the ends.
    used: (T + 1,) int64 — nodes in use; those behind are zero. tree: (T + 1,) int64 — which rows hold tree
    0 … T − 1, and which the one being built.
    place: (4,) int64 — events stored so far, the first that is still in, the window, events until a rebuilding.
    build: (6,) int64 — phase, whose place it takes, the first and behind the last event that it holds, ranges on
    the stack, spare. order: (slots,) int32 and stack: (slots, 3) int32, the ranges of events still to be split.
    random: (1,) uint64, the generator's state.
    """

    x: F32
    y: F64
    alive: NDArray[np.int8]
    node: F32
    scale: F64
    after: I32
    before: I32
    used: I64
    tree: I64
    place: I64
    build: I64
    order: I32
    stack: I32
    random: U64


class Room(NamedTuple):
    """Working space of the kernels; nothing in it outlives a call."""

    tried: I64
    low: F32
    high: F32
    cut: F32
    left: F32
    seen: I64
    order: I32
    stack: I32


def slots_for(window: int) -> int:
    """Room for the events of the window and those that come while a tree is built."""
    return window + window // 4


def allocate(trees: int, features: int, outputs: int, window: int, seed: int) -> Forest:
    """An empty forest; room grows with `roomier` up to the window."""
    slots = min(FIRST, slots_for(window))
    random = (2 * seed + 1) * 0x9E3779B97F4A7C15 % 2**64
    forest = _blank(trees, features, outputs, slots, window, random)
    forest.node[:, 0, LIMIT] = 2
    return forest


def _blank(trees: int, features: int, outputs: int, slots: int, window: int, random: Any) -> Forest:
    nodes, rows = NODES * slots, trees + 1

    def whole(*shape: int) -> I32:
        return np.zeros(shape, np.int32)  # pages that are never used take no memory

    return Forest(
        x=np.full((slots, max(features, 1)), np.nan, np.float32),
        y=np.zeros(slots), alive=np.zeros(slots, np.int8),
        node=np.zeros((rows, nodes, TOLD + outputs), np.float32), scale=np.zeros((rows, 2)),
        after=whole(rows, slots), before=whole(rows, slots),
        used=np.ones(rows, np.int64), tree=np.arange(rows),
        place=np.array([0, 0, window, 2], np.int64), build=np.zeros(6, np.int64),
        order=np.zeros(slots, np.int32), stack=np.zeros((slots, 3), np.int32),
        random=np.array([random], np.uint64),
    )  # fmt: skip


def room(features: int, outputs: int, window: int) -> Room:
    """Working space for a forest."""
    d, slots = max(features, 1), slots_for(window)
    f = np.float32
    return Room(
        tried=np.arange(d), low=np.zeros(d, f), high=np.zeros(d, f), cut=np.zeros(d, f),
        left=np.zeros((max(outputs, 2), d), f), seen=np.zeros(max(outputs, 2), np.int64),
        order=np.zeros(slots, np.int32), stack=np.zeros((slots, 3), np.int32),
    )  # fmt: skip


def roomier(forest: Forest, events: int) -> Forest:
    """The same forest with room for so many more events; nothing that it says or does changes by that."""
    slots, most = len(forest.y), slots_for(int(forest.place[2]))
    wanted = min(most, int(forest.place[0]) + events)
    if wanted <= slots:
        return forest
    new = slots
    while new < wanted:
        new = min(most, 2 * new)
    trees, features, outputs = len(forest.tree) - 1, forest.x.shape[1], forest.node.shape[2] - TOLD
    fresh = _blank(trees, features, outputs, new, int(forest.place[2]), forest.random[0])
    for name in Forest._fields:
        old, grown = getattr(forest, name), getattr(fresh, name)
        grown[tuple(slice(0, n) for n in old.shape)] = old
    return fresh


def widened(forest: Forest, features: int, outputs: int, source: NDArray[np.int64]) -> Forest:
    """The same forest for other sizes; source: for each new feature the old one that it continues, or −1."""
    trees, slots = len(forest.tree) - 1, len(forest.y)
    fresh = _blank(trees, features, outputs, slots, int(forest.place[2]), forest.random[0])
    kept = np.flatnonzero(source >= 0)
    fresh.x[:, kept] = forest.x[:, source[kept]]
    to = np.zeros(forest.x.shape[1], np.int32)
    to[source[kept]] = kept
    for name in Forest._fields:
        if name == "node":
            fresh.node[:, :, : forest.node.shape[2]] = forest.node
            inner = forest.node[:, :, CHILD] > 0
            fresh.node[inner, FEATURE] = to[forest.node[inner, FEATURE].astype(np.int64)]
        elif name != "x":
            getattr(fresh, name)[...] = getattr(forest, name)
    return fresh


def trimmed(forest: Forest) -> Forest:
    """The same arrays without the room that no tree has used yet; `padded` gives it back."""
    return forest._replace(node=forest.node[:, : int(forest.used.max())])


def padded(forest: Forest) -> Forest:
    """What was trimmed, with its room again."""
    trees, slots = len(forest.tree) - 1, len(forest.y)
    full = _blank(
        trees, forest.x.shape[1], forest.node.shape[2] - TOLD, slots, int(forest.place[2]), forest.random[0]
    )
    for name in Forest._fields:
        array = getattr(forest, name)
        if name == "node":
            full.node[:, : array.shape[1]] = array
        else:
            getattr(full, name)[...] = array
    return full
