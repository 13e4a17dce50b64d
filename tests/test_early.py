"""The early tree: it is the greedy tree on the first events, and knows a rule before anything else does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from engine import OnlineClassifier
from engine.options import Options
from memory import early

SEED = st.integers(0, 2**31)


@njit
def learn(tree: Any, space: Any, x: Any, d: int, y: float, outputs: int, regression: bool) -> None:
    early.learn(tree, space, x, d, y, outputs, regression)


@njit
def grow(tree: Any, space: Any, outputs: int, regression: bool) -> None:
    early.grow(tree, space, outputs, regression)


@njit
def say(tree: Any, x: Any, prior: Any, outputs: int, regression: bool, p: Any) -> None:
    early.say(tree, x, prior, outputs, regression, p)


def events(seed: int, n: int, *, classes: int = 3, d: int = 4, regression: bool = False) -> tuple[Any, Any]:
    """Numbers with ties and gaps, and labels that lean on two of them."""
    random = np.random.default_rng(seed)
    X = random.integers(0, 6, (n, d)).astype(np.float32)
    y = (X[:, 0] > 2) + (X[:, d - 1] > random.integers(1, 4, n)).astype(float)
    y = y * 1.5 + random.normal(size=n) if regression else np.minimum(y, classes - 1)
    X[random.random((n, d)) < 0.1] = np.nan
    return X, y.astype(np.float64)


def told(X: Any, y: Any, classes: int, *, regression: bool, events: int = early.EVENTS) -> Any:
    tree, space = early.allocate(X.shape[1], classes, events=events), early.room(classes)
    for x, target in zip(X, y, strict=True):
        learn(tree, space, x, X.shape[1], target, classes, regression)
    return tree


def gain(y: Any, left: Any, *, regression: bool, centre: float) -> float:
    """Σ_children Σ_c n_c² / n, told plainly."""
    out = 0.0
    for side in (left, ~left):
        values = y[side]
        sums = [np.sum(values - centre)] if regression else np.unique(values, return_counts=True)[1]
        out += float(np.sum(np.square(sums))) / len(values)
    return out


def best(X: Any, y: Any, *, regression: bool, centre: float) -> float:
    """The greatest gain of any feature and threshold; what is missing goes right."""
    found = -np.inf
    for column in X.T:
        for cut in np.unique(column[~np.isnan(column)]):
            left = column <= cut
            if 0 < left.sum() < len(y):
                found = max(found, gain(y, left, regression=regression, centre=centre))
    return found


@pytest.mark.parametrize("regression", [False, True])
@given(seed=SEED, n=st.integers(2, 60))
@settings(max_examples=25, deadline=None)
def test_every_node_takes_the_best_split_and_holds_its_events(seed: int, n: int, regression: bool) -> None:
    classes = 1 if regression else 3
    X, y = events(seed, n, regression=regression)
    tree, space = early.allocate(4, classes), early.room(classes)
    tree.x[:n], tree.y[:n], tree.place[0] = X, y, n
    grow(tree, space, classes, regression)
    centre = float(tree.centre[0])
    waiting = [(0, np.arange(n))]
    nodes = 0
    while waiting:
        node, rows = waiting.pop()
        nodes += 1
        assert tree.events[node] == len(rows)
        if regression:
            assert tree.told[node, 0] == pytest.approx(np.sum(y[rows] - centre), abs=1e-9)
        else:
            assert tree.told[node].tolist() == [np.sum(y[rows] == c) for c in range(classes)]
        if tree.feature[node] < 0:
            if len(rows) >= 10 if regression else len(np.unique(y[rows])) > 1:  # no split is better than none
                sums = [np.sum(y[rows] - centre)] if regression else tree.told[node]
                here = float(np.sum(np.square(sums))) / len(rows)
                assert (
                    best(X[rows], y[rows], regression=regression, centre=centre) <= here * (1 + 1e-6) + 1e-9
                )
            continue
        left = X[rows, tree.feature[node]] <= tree.threshold[node]
        assert 0 < left.sum() < len(rows)
        taken = gain(y[rows], left, regression=regression, centre=centre)
        assert taken == pytest.approx(best(X[rows], y[rows], regression=regression, centre=centre), rel=1e-9)
        waiting += [(tree.child[node], rows[left]), (tree.child[node] + 1, rows[~left])]
    assert nodes == tree.place[1]


@given(seed=SEED, n=st.integers(1, 80))
@settings(max_examples=25, deadline=None)
def test_it_is_never_wrong_twice_in_the_same_way(seed: int, n: int) -> None:
    """After an event that it got wrong, the tree has that event in a leaf of its kind, if one can be had."""
    random = np.random.default_rng(seed)
    X = random.permutation(n).astype(np.float32)[:, None]
    y = random.integers(0, 3, n).astype(np.float64)
    tree, space = early.allocate(1, 3), early.room(3)
    prior, p = np.full(3, 1 / 3), np.zeros(3)
    for x, target in zip(X[:15], y[:15], strict=False):
        learn(tree, space, x, 1, target, 3, False)
        say(tree, x, prior, 3, False, p)
        assert p.argmax() == target
        assert p.sum() == pytest.approx(1.0)


def test_later_events_count_in_their_leaf_and_grow_nothing() -> None:
    X, y = events(3, 90)
    tree = told(X[:40], y[:40], 3, regression=False, events=40)
    feature = tree.feature.copy()
    leaves = (feature < 0) & (np.arange(len(feature)) < tree.place[1])
    assert tree.events[leaves].sum() == 40
    space = early.room(3)
    for x, target in zip(X[40:], y[40:], strict=True):
        learn(tree, space, x, 4, target, 3, False)
    assert np.array_equal(tree.feature, feature)
    assert tree.events[leaves].sum() == 90
    assert tree.place[0] == 90


def test_more_features_and_classes_leave_what_it_says() -> None:
    X, y = events(5, 60)
    tree = told(X, y, 3, regression=False)
    source = np.array([-1, 2, 0, 1, 3, -1])
    wide = early.widened(tree, 6, 4, source)
    before, after = np.zeros(3), np.zeros(4)
    for x in X:
        moved = np.full(6, np.nan, np.float32)
        moved[1:5] = x[source[1:5]]
        say(tree, x, np.full(3, 0.25), 3, False, before)
        say(wide, moved, np.full(4, 0.25), 4, False, after)
        assert np.array_equal(before, after[:3])
    learn(wide, early.room(4), moved, 6, 3.0, 4, False)
    leaves = (wide.feature < 0) & (np.arange(len(wide.feature)) < wide.place[1])
    assert wide.told[leaves, 3].sum() == 1.0


def test_a_rule_on_one_number_is_known_after_a_handful_of_events() -> None:
    random = np.random.default_rng(0)
    X = random.normal(size=(60, 30))
    y = X[:, 17] > 0
    wrong = {}
    for on in (True, False):
        p = np.stack([_said(seed, X, y, on) for seed in range(3)])
        wrong[on] = np.mean((p[:, 10:] > 0.5) != y[10:])
    assert wrong[True] < 0.5 * wrong[False]


def _said(seed: int, X: Any, y: Any, on: bool) -> Any:
    model = OnlineClassifier(seed=seed, early=on)
    p = model.test_then_train(X, y)
    return p[:, model.classes_.index(True)]


def test_a_learner_of_before_goes_on_without_it() -> None:
    model = OnlineClassifier(early=False)
    model.test_then_train(*events(1, 50))
    arrays, meta = model.state()
    assert not any(name.startswith("early.") for name in arrays)
    before = dict(meta["options"])
    del before["early"]
    assert Options.from_json(before).early is False
    again = OnlineClassifier.from_state(arrays, {**meta, "options": before})
    x = {0: 1.0, 1: 2.0, 2: 3.0, 3: 4.0}
    assert again.predict_proba_one(x) == model.predict_proba_one(x)


def test_its_bytes_are_told() -> None:
    model = OnlineClassifier()
    model.test_then_train(*events(1, 50))
    told = sum(array.nbytes for name, array in model.state()[0].items() if name.startswith("early."))
    assert model.bytes_by_memory()["early tree"] == told > 0
    assert "early tree" not in OnlineClassifier(early=False).bytes_by_memory()


def test_a_forgotten_event_is_gone_from_it() -> None:
    model = OnlineClassifier()
    for i in range(20):
        model.learn_one({"x": float(i), "secret": 7.5 if i == 3 else 0.25}, i % 2 == 0, id=f"n{i}")
    tree = model._core.state.early
    assert (tree.x == 7.5).any()
    assert model.forget("n3") == 1
    assert not (tree.x == 7.5).any()
    assert int(tree.place[0]) == 20
    for i in range(20, 40):  # it grows from the others
        model.learn_one({"x": float(i), "secret": 0.25}, i % 3 == 0)
    tree = model._core.state.early
    leaves = (tree.feature < 0) & (np.arange(len(tree.feature)) < tree.place[1])
    assert tree.events[leaves].sum() == 39
