"""Neighbours: exact search, votes as the formulas say, a metric that finds the feature that matters."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory import metric, neighbours, tiles


class Ring:
    """A neighbour memory with the scratch its kernels need."""

    def __init__(self, features: int, events: int = 256, full: bool = False, k: int = 12) -> None:
        self.memory = neighbours.allocate(features, events, full=full)
        self.d = features
        self.search = neighbours.searching(features, k)
        self.distance, self.slot, self.share = self.search.distance, self.search.slot, self.search.share
        self.serial = 0

    def recall(self, query: np.ndarray) -> int:
        return int(neighbours.recall(self.memory, self.search, query, self.d))

    def store(self, query: np.ndarray, target: float) -> None:
        neighbours.store(self.memory, self.search, query, self.d, target, self.serial)
        self.serial += 1

    def adapt(self, query: np.ndarray, target: float, found: int, regression: bool = False) -> None:
        metric.adapt(self.memory, self.search, query, self.d, target, regression, found)


@settings(max_examples=30, deadline=None)
@given(
    features=st.integers(1, 19), stored=st.integers(1, 400), full=st.booleans(), seed=st.integers(0, 2**16)
)
def test_search_finds_the_nearest_as_sorting_does(features: int, stored: int, full: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    ring = Ring(features, full=full and features <= metric.FULL_METRIC)
    ring.memory.logw[:] = rng.normal(size=features)
    data = rng.normal(size=(stored, features)).astype(np.float32)
    for row in data:
        ring.store(row, 0.0)
    query = rng.normal(size=features).astype(np.float32)
    found = ring.recall(query)
    kept = data[-256:]
    assert found == min(12, len(kept))
    difference = (kept.astype(np.float64) - query) * np.exp(0.5 * ring.memory.logw)
    wanted = np.sort((difference**2).sum(axis=1))[:found]
    np.testing.assert_allclose(ring.distance[:found], wanted, rtol=1e-3, atol=1e-4)
    assert len(set(ring.slot[:found].tolist())) == found


def test_votes_are_distributions_and_favour_the_near() -> None:
    ring = Ring(2)
    rng = np.random.default_rng(0)
    for i in range(100):
        ring.store(rng.normal(loc=3.0 * (i % 2), scale=0.3, size=2).astype(np.float32), float(i % 2))
    found = ring.recall(np.array([3.0, 3.0], np.float32))
    soft, rank = np.zeros(3), np.zeros(3)
    neighbours.vote(ring.memory, ring.distance, ring.slot, found, 3, ring.share, soft, rank)
    assert soft.sum() == pytest.approx(1)
    assert rank.sum() == pytest.approx(1)
    assert soft.argmax() == 1
    assert rank.argmax() == 1
    assert soft[2] > 0


@pytest.mark.parametrize("full", [True, False])
def test_the_metric_learns_which_feature_matters(full: bool) -> None:
    rng = np.random.default_rng(1)
    learned, fixed = Ring(6, 1024, full=full), Ring(6, 1024, full=full)
    right = np.zeros(2)
    for i in range(3000):
        x = rng.normal(size=6).astype(np.float32)
        y = float(x[2] > 0)
        for which, ring in enumerate((learned, fixed)):
            found = ring.recall(x)
            if found == 12 and i >= 2000:
                right[which] += (ring.memory.target[ring.slot[:3]].mean() > 0.5) == y
            if which == 0:
                ring.adapt(x, y, found)
            ring.store(x, y)
    assert learned.memory.logw.argmax() == 2
    assert right[0] > right[1] + 50


def test_a_metric_gradient_is_the_slope_of_the_neighbours_agreement() -> None:
    rng = np.random.default_rng(2)
    ring = Ring(3)
    for _ in range(60):
        ring.store(rng.normal(size=3).astype(np.float32), float(rng.integers(2)))
    query = rng.normal(size=3).astype(np.float32)
    found = ring.recall(query)
    slots = ring.slot[:found].copy()
    stored = tiles.table(ring.memory.buffer)[:, slots].T.astype(np.float64)
    same = ring.memory.target[slots] == 1.0
    h = (ring.distance[3] + ring.distance[found - 1]) / 4

    def agreement(logw: np.ndarray) -> float:
        d = (((stored - query) ** 2) * np.exp(logw)).sum(axis=1)
        s = np.exp(-(d - d.min()) / h)
        return float(np.log(s[same].sum() / s.sum()))

    slope = np.array(
        [(agreement(1e-5 * np.eye(3)[i]) - agreement(-1e-5 * np.eye(3)[i])) / 2e-5 for i in range(3)]
    )
    ring.adapt(query, 1.0, found)
    np.testing.assert_allclose(ring.search.gradient[:3], slope, rtol=1e-3, atol=1e-5)


def test_the_ring_forgets_the_oldest() -> None:
    ring = Ring(1, events=128)
    for i in range(200):
        ring.store(np.array([float(i)], np.float32), float(i))
    assert sorted(ring.memory.target.tolist()) == [float(i) for i in range(72, 200)]


def test_an_average_of_neighbours_follows_a_smooth_target() -> None:
    ring = Ring(1, events=512)
    rng = np.random.default_rng(5)
    for _ in range(500):
        x = rng.uniform(-1, 1, size=1).astype(np.float32)
        ring.store(x, float(x[0] ** 2))
    found = ring.recall(np.array([0.5], np.float32))
    soft, near = neighbours.average(ring.memory, ring.distance, ring.slot, found, ring.share)
    assert soft == pytest.approx(0.25, abs=0.02)
    assert near == pytest.approx(0.25, abs=0.02)


@settings(max_examples=40, deadline=None)
@given(
    features=st.integers(1, 40), stored=st.integers(20, 600), jump=st.booleans(), seed=st.integers(0, 2**16)
)
def test_what_was_recalled_before_bounds_the_search_and_never_changes_it(
    features: int, stored: int, jump: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    ring = Ring(features, events=512)
    ring.memory.logw[:] = rng.normal(size=features)
    for _ in range(stored):  # few values, so that many distances are equal
        ring.store(rng.integers(0, 3, size=features).astype(np.float32), 0.0)
    query = rng.integers(0, 3, size=features).astype(np.float32)
    found = ring.recall(query)
    first = (ring.slot[:found].tolist(), ring.distance[:found].tolist())
    other = Ring(features, events=512)
    other.memory = ring.memory
    if jump:
        other.recall(np.full(features, 9.0, np.float32))
        other.search.hint[:] = rng.permutation(min(stored, 512))[:12]
    assert other.recall(query) == found
    assert (other.slot[:found].tolist(), other.distance[:found].tolist()) == first
    assert ring.recall(query) == found
    assert (ring.slot[:found].tolist(), ring.distance[:found].tolist()) == first


def test_the_gradient_of_a_full_metric_is_the_slope_of_the_neighbours_agreement() -> None:
    rng = np.random.default_rng(3)
    ring = Ring(3, full=True)
    ring.memory.logw[:] = rng.normal(size=3)
    for _ in range(60):
        ring.store(rng.normal(size=3).astype(np.float32), float(rng.integers(2)))
    query = rng.normal(size=3).astype(np.float32)
    found = ring.recall(query)
    slots = ring.slot[:found].copy()
    stored = tiles.table(ring.memory.buffer)[:, slots].T.astype(np.float64)
    same = ring.memory.target[slots] == 1.0
    h = (ring.distance[3] + ring.distance[found - 1]) / 4
    weight = ring.memory.logw.copy()

    def agreement(matrix: np.ndarray, logw: np.ndarray) -> float:
        d = (((np.exp(0.5 * logw) * (stored - query)) @ matrix.T) ** 2).sum(axis=1)
        s = np.exp(-(d - d.min()) / h)
        return float(np.log(s[same].sum() / s.sum()))

    def slope(of: str, *place: int) -> float:
        step = np.zeros((3, 3) if of == "matrix" else 3)
        step[place] = 1e-5
        if of == "matrix":
            return (agreement(np.eye(3) + step, weight) - agreement(np.eye(3) - step, weight)) / 2e-5
        return (agreement(np.eye(3), weight + step) - agreement(np.eye(3), weight - step)) / 2e-5

    matrix = [[slope("matrix", i, k) for k in range(3)] for i in range(3)]
    weights = [slope("weights", i) for i in range(3)]
    ring.adapt(query, 1.0, found)
    np.testing.assert_allclose(ring.search.force[:3, :3], matrix, rtol=1e-2, atol=1e-4)
    np.testing.assert_allclose(ring.search.gradient[:3], weights, rtol=1e-2, atol=1e-4)
