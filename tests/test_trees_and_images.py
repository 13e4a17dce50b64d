"""Where trees are grown: not over images alone, over few events where features are many, and from when on."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine import OnlineClassifier, OnlineRegressor, state
from engine.layout import MANY, Sizes
from memory import forest
from tests.test_images import drawn

SMALL: dict[str, Any] = {"layers": 1, "width": 8, "memory_budget": 1 << 22}


def bars(n: int, seed: int = 0) -> tuple[list[dict[Any, Any]], list[int]]:
    images, labels = drawn(n=n, seed=seed)
    return [{0: image} for image in images], labels


def learn(model: Any, events: list[dict[Any, Any]], labels: list[Any], first: int = 0) -> None:
    for number, (x, y) in enumerate(zip(events, labels, strict=True), first):
        model.learn_one(x, y, id=f"e{number}")


def test_no_trees_grow_over_images_alone_and_their_experts_say_nothing() -> None:
    model = OnlineClassifier(**SMALL)
    events, labels = bars(200)
    learn(model, events, labels)
    core = model._core
    assert not core.sizes.forested
    assert core.state.forest.place[:2].tolist() == [200, 200]
    assert "trees" not in model.bytes_by_memory()
    for name in ("trees", "trees, leaves"):
        said = model.forecast_one(events[0]).experts[name]
        assert list(said.values()) == pytest.approx([1 / 3] * 3)


def test_a_number_expected_of_images_has_the_mean_from_trees_that_are_not_grown() -> None:
    model = OnlineRegressor(**SMALL)
    events, labels = bars(150)
    learn(model, events, [100.0 + 50.0 * y for y in labels])
    kept = model.forecast_one(events[0])
    assert kept.expert_forecasts()["trees"] == pytest.approx(0.0)
    assert 80.0 < kept.value < 220.0


def test_trees_begin_with_the_first_other_number_and_know_the_events_by_their_numbers(tmp_path: Path) -> None:
    model = OnlineClassifier(**SMALL)
    events, labels = bars(260)
    learn(model, events[:160], labels[:160])
    waiting = model.forecast_one(events[160], id="e160")
    learn(model, [x | {"n": 7.0 + i} for i, x in enumerate(events[161:220])], labels[161:220], 161)
    model.learn(waiting, labels[160])
    core = model._core
    assert core.sizes.forested
    assert core.stored().max() == 219
    assert core.state.forest.place[0] == 220
    assert core.state.forest.place[1] == 160
    model.save(tmp_path / "model")
    again, twin = OnlineClassifier.load(tmp_path / "model"), copy.copy(model)
    for each in (model, again, twin):
        learn(each, events[220:], labels[220:], 220)
    np.testing.assert_array_equal(
        again.predict_proba([x[0] for x in events]), model.predict_proba([x[0] for x in events])
    )
    for each in (again, twin):
        held = each._core.state.forest
        assert held.x[:, -1].tolist().count(17.0) == 1
        assert each.forget("e171") == 1  # n = 17, learned before e160
        assert held.x[:, -1].tolist().count(17.0) == 0
        assert 170 not in each._core.stored()  # labels before its own


@pytest.mark.parametrize("kind", ["images", "many"])
def test_a_snapshot_of_before_goes_on(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trees grown over whatever there is, over as many events, and a factor in 64 bits."""
    if kind == "images":
        events, labels = bars(300)
    else:
        rng = np.random.default_rng(0)
        X = rng.normal(size=(500, MANY + 12))
        events, labels = [dict(enumerate(x)) for x in X.tolist()], (X[:, 3] > 0).astype(int).tolist()
    before = OnlineClassifier(**SMALL)
    with monkeypatch.context() as patch:
        patch.setattr(Sizes, "forested", property(lambda self: self.trees))
        patch.setattr(state, "MANY_TREES", 1 << 40)
        learn(before, events[:-100], labels[:-100])
        assert before._core.state.forest.place[1] == 0
        arrays, meta = before.state()
    assert arrays["lasting.analytic.factor"].any()
    arrays["lasting.analytic.factor"] = arrays["lasting.analytic.factor"].astype(np.float64)
    model = OnlineClassifier.from_state(arrays, meta)
    core = model._core
    assert core.state.lasting.analytic.factor.dtype == np.float32
    assert core.sizes.forested == (kind == "many")
    assert core.state.forest.place[0] == len(events) - 100
    right = 0
    for number, (x, y) in enumerate(zip(events[-100:], labels[-100:], strict=True), len(events) - 100):
        right += model.predict_one(x) == y
        model.learn_one(x, y, id=f"e{number}")
    assert right > 75
    assert model.forget("e3") == 1
    assert model.forget(f"e{len(events) - 1}") == 1
    assert 3 not in core.stored()


def test_over_many_features_trees_hold_fewer_events_and_know_rules_on_any_of_them() -> None:
    rng = np.random.default_rng(1)
    X = rng.normal(size=(2_500, MANY + 12))
    y = np.abs(X[:, -3]) < 0.67  # no line tells it, and the early tree reads the first features alone
    model = OnlineClassifier(layers=1, width=8)
    said = model.test_then_train(X, y)
    right = (np.array(model.classes_)[said.argmax(axis=1)] == y)[-500:].mean()
    assert right > 0.85
    core = model._core
    window = core.state.forest.place[2]
    assert forest.FIRST < window < 10_000
    assert model.bytes_by_memory()["trees"] <= state.MANY_TREES


def test_a_forgotten_event_does_not_come_back_where_trees_are_grown_anew() -> None:
    model = OnlineRegressor(layers=1, width=4, memory_budget=1 << 20)
    rng = np.random.default_rng(2)
    X = rng.normal(size=(500, 2))
    for number, x in enumerate(X.tolist()):
        model.learn_one(dict(enumerate(x)), 1e6 + x[0], id=f"e{number}")
    assert model.forget("e450") == 1
    model.learn_one({f"n{i}": 1.0 for i in range(120)}, 1e6, id="names")  # a smaller window
    held = model._core.state.forest
    numbers = np.arange(held.place[1], held.place[0])
    assert 450 in numbers
    assert numbers[held.alive[numbers % len(held.y)] == 0].tolist() == [450]
    assert held.node[held.tree[0], 0, forest.SIZE] == len(numbers) - 1
