"""Sliding-window trees: their counts are at every moment those of the events in the window, told plainly."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numba import njit
from numpy.typing import NDArray

from memory import forest, tree_kernels
from memory.forest import Forest

WINDOW, TREES = 60, 3


@njit
def learn(trees: Any, space: Any, x: Any, d: int, y: float, regression: bool) -> None:  # pragma: no cover
    tree_kernels.learn(trees, space, x, d, y, regression)


@njit
def say(trees: Any, x: Any, outputs: int, regression: bool, node: Any, leaf: Any) -> None:  # pragma: no cover
    tree_kernels.say(trees, x, outputs, regression, node, leaf)


@njit
def forget(trees: Any, serial: int, regression: bool) -> bool:  # pragma: no cover
    return tree_kernels.forget(trees, serial, regression)


def events(seed: int, n: int, d: int, *, regression: bool) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Rows with ties and missing numbers, and a target that turns round half-way."""
    rng = np.random.default_rng(seed)
    X = np.round(rng.normal(size=(n, d)), 1).astype(np.float32)
    X[rng.random((n, d)) < 0.05] = np.nan
    score = np.nan_to_num(X[:, 0]) + 0.5 * np.nan_to_num(X[:, -1]) * np.where(np.arange(n) < n // 2, 1, -1)
    y = score if regression else np.digitize(score, [-0.5, 0.5]) * (rng.random(n) < 0.9)
    return X, y.astype(np.float64)


class Grown:
    """A forest with room that grows as it must, and the plain record of what it was given."""

    def __init__(self, d: int, *, regression: bool, seed: int = 0, window: int = WINDOW) -> None:
        self.d, self.regression, self.outputs = d, regression, 1 if regression else 3
        self.trees = forest.allocate(TREES, d, self.outputs, window, seed)
        self.space = forest.room(d, self.outputs, window)
        self.given: list[tuple[NDArray[np.float32], float]] = []
        self.gone: set[int] = set()

    def learn(self, x: NDArray[np.float32], y: float) -> None:
        self.trees = forest.roomier(self.trees, 1)
        learn(self.trees, self.space, x, self.d, y, self.regression)
        self.given.append((x, y))

    def say(self, x: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        node, leaf = np.zeros(self.outputs), np.zeros(self.outputs)
        say(self.trees, x, self.outputs, self.regression, node, leaf)
        return node, leaf

    def window(self) -> list[int]:
        """The numbers of the events that are in."""
        n = len(self.given)
        return [i for i in range(max(0, n - int(self.trees.place[2])), n) if i not in self.gone]

    def path(self, row: int, x: NDArray[np.float32]) -> list[int]:
        nodes, f = [0], self.trees
        while child := int(f.node[row, nodes[-1], forest.CHILD]):
            right = (
                not x[int(f.node[row, nodes[-1], forest.FEATURE])] <= f.node[row, nodes[-1], forest.THRESHOLD]
            )
            nodes.append(child + right)
        return nodes

    def check(self) -> None:
        """Counts, sizes and lists are those of the window's events, routed anew."""
        f, slots = self.trees, len(self.trees.y)
        for row in f.tree[:TREES]:
            size: dict[int, int] = {}
            told: dict[int, NDArray[np.float64]] = {}
            leaves: dict[int, set[int]] = {}
            for i in self.window():
                x, y = self.given[i]
                nodes = self.path(row, x)
                for node in nodes:
                    size[node] = size.get(node, 0) + 1
                    told.setdefault(node, np.zeros(self.outputs))[0 if self.regression else int(y)] += (
                        (y - f.scale[row, 0]) / f.scale[row, 1] if self.regression else 1.0
                    )
                leaves.setdefault(nodes[-1], set()).add(i % slots)
            for node in self.all_nodes(row):
                assert f.node[row, node, forest.SIZE] == size.get(node, 0)
                wanted = told.get(node, np.zeros(self.outputs))
                assert np.allclose(
                    f.node[row, node, forest.TOLD :], wanted, atol=1e-4 if self.regression else 0.0
                )
                if not f.node[row, node, forest.CHILD]:
                    assert self.listed(row, node) == leaves.get(node, set())

    def all_nodes(self, row: int) -> list[int]:
        found, left = [], [0]
        while left:
            node = left.pop()
            found.append(node)
            if child := int(self.trees.node[row, node, forest.CHILD]):
                left += [child, child + 1]
        return found

    def listed(self, row: int, leaf: int) -> set[int]:
        found: set[int] = set()
        at = int(self.trees.node[row, leaf, forest.HEAD])
        while at:
            assert at - 1 not in found
            found.add(at - 1)
            at = int(self.trees.after[row, at - 1])
        return found


@pytest.mark.parametrize("regression", [False, True])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_counts_and_lists_are_those_of_the_window_at_every_moment(seed: int, *, regression: bool) -> None:
    grown, (X, y) = Grown(4, regression=regression, seed=seed), events(seed, 260, 4, regression=regression)
    for i in range(len(X)):
        grown.learn(X[i], y[i])
        if i % 7 == 0:
            grown.check()
    grown.check()
    assert len(grown.window()) == WINDOW
    assert any(grown.trees.node[row, 0, forest.CHILD] for row in grown.trees.tree[:TREES])


def test_a_forecast_is_what_the_counts_on_the_path_say() -> None:
    grown, (X, y) = Grown(4, regression=False), events(5, 200, 4, regression=False)
    for i in range(150):
        grown.learn(X[i], y[i])
    f = grown.trees
    for x in X[150:]:
        nodes, leaves = np.zeros(3), np.zeros(3)
        for row in f.tree[:TREES]:
            path = grown.path(row, x)
            deep = [node for node in path if f.node[row, node, forest.SIZE] >= tree_kernels.DEEPEST][-1]
            q = (f.node[row, deep, forest.TOLD :] + 1 / 3) / (f.node[row, deep, forest.SIZE] + 1)
            nodes += q / TREES
            leaves += (
                (f.node[row, path[-1], forest.TOLD :] + q) / (f.node[row, path[-1], forest.SIZE] + 1) / TREES
            )
        said = grown.say(x)
        assert np.allclose(said[0], nodes)
        assert np.allclose(said[1], leaves)
        assert np.isclose(said[0].sum(), 1.0)
        assert np.isclose(said[1].sum(), 1.0)


def test_what_a_tree_can_know_is_learned_and_follows_a_change() -> None:
    grown, rng = Grown(3, regression=False, window=400), np.random.default_rng(1)
    right = []
    for i in range(2_400):
        x = rng.normal(size=3).astype(np.float32)
        y = float((x[1] > 0.2) != (i >= 1_200))
        right.append(grown.say(x)[1].argmax() == y)
        grown.learn(x, y)
    assert np.mean(right[600:1_200]) > 0.97
    assert np.mean(right[1_800:]) > 0.97


def test_every_tree_is_grown_anew_while_the_window_passes() -> None:
    grown, (X, y) = Grown(4, regression=False), events(3, 400, 4, regression=False)
    seen = set()
    for i in range(len(X)):
        grown.learn(X[i], y[i])
        if i >= 200:
            seen.add(tuple(grown.trees.tree.tolist()))
    assert len(seen) > TREES


def test_an_event_that_is_forgotten_is_in_no_tree() -> None:
    grown, (X, y) = Grown(4, regression=False), events(4, 200, 4, regression=False)
    for i in range(200):
        grown.learn(X[i], y[i])
        if i % 5 == 4:
            serial = i - i % 3
            assert forget(grown.trees, serial, False) == (serial not in grown.gone)
            grown.gone.add(serial)
            assert not forget(grown.trees, serial, False)
        if i % 9 == 0:
            grown.check()
    assert not forget(grown.trees, 200, False)
    assert not forget(grown.trees, 100, False)  # it has left the window
    grown.check()


def same(a: Forest, b: Forest) -> bool:
    return all(getattr(a, name).tobytes() == getattr(b, name).tobytes() for name in Forest._fields)


@pytest.mark.parametrize("regression", [False, True])
def test_room_does_not_matter_and_trimmed_goes_on_as_it_was(*, regression: bool) -> None:
    X, y = events(6, 900, 5, regression=regression)
    one, other = (Grown(5, regression=regression, window=500) for _ in range(2))
    other.trees = forest.roomier(other.trees, 10_000)
    for i in range(len(X)):
        one.learn(X[i], y[i])
        other.learn(X[i], y[i])
        if i % 211 == 0:
            held = forest.trimmed(other.trees)
            other.trees = forest.padded(Forest(*(array.copy() for array in held)))
    assert same(one.trees, other.trees)


def test_new_features_and_classes_change_nothing_of_what_is_known() -> None:
    X, y = events(7, 120, 4, regression=False)
    grown = Grown(4, regression=False)
    for i in range(100):
        grown.learn(X[i], y[i])
    source = np.array([0, 1, -1, 2, 3])
    wide = forest.widened(grown.trees, 5, 4, source)
    for x in X[100:]:
        node, leaf = np.zeros(3), np.zeros(3)
        say(wide, np.concatenate([x[:2], [np.float32(9.0)], x[2:]]), 3, False, node, leaf)
        said = grown.say(x)
        assert np.array_equal(node, said[0])
        assert np.array_equal(leaf, said[1])


@pytest.mark.parametrize(("centre", "spread"), [(0.0, 1.0), (1e7, 1.0), (-3e-9, 1e-12), (0.0, 1e60)])
def test_targets_may_lie_anywhere_and_be_of_any_size(centre: float, spread: float) -> None:
    X, y = events(3, 400, 4, regression=True)
    plain, moved = Grown(4, regression=True), Grown(4, regression=True)
    off = np.zeros((len(X), 2))
    for i in range(len(X)):
        off[i, 0] = abs(plain.say(X[i])[0][0] - y[i])
        off[i, 1] = abs(moved.say(X[i])[0][0] - (centre + spread * y[i])) / spread
        plain.learn(X[i], y[i])
        moved.learn(X[i], centre + spread * y[i])
    assert off[100:, 1].mean() < 1.1 * off[100:, 0].mean() < 0.6


def test_a_target_out_of_all_proportion_leaves_finite_forecasts() -> None:
    grown, (X, y) = Grown(4, regression=True), events(3, 200, 4, regression=True)
    for i in range(len(X)):
        grown.learn(X[i], 1e60 if i == 50 else y[i])
        assert np.isfinite(grown.say(X[i])).all()
    assert abs(grown.say(X[0])[0][0]) < 3.0
