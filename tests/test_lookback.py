"""A feature's context looks back over as many events as tell most about the label."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from benchmarks.lookback import above_mean
from engine import OnlineClassifier, OnlineRegressor, steps, watch
from memory import lookback
from memory.lookback import BINS, BUCKETS, LENGTHS, TRIED, USUAL


@njit
def told(past: Any, feature: int, row: int) -> float:
    return lookback.told(past, feature, row)


@njit
def learn(past: Any, encoded: Any, stride: int, tried: Any, bucket: int) -> None:
    lookback.learn(past, encoded, stride, tried, bucket)


def wandering(n: int, window: int, seed: int = 0) -> tuple[Any, Any]:
    """A number that wanders, beside one of noise: is the first above its mean of the last `window` events?"""
    drawn = np.random.default_rng(seed)
    x = np.zeros(n)
    for i in range(1, n):
        x[i] = 0.995 * x[i - 1] + drawn.normal()
    return np.column_stack([x, drawn.normal(size=n)]), np.where(
        above_mean(x, window), "above", "below"
    ).astype(object)


def horizons(model: Any) -> list[float]:
    """Per feature, over how many events its context looks back."""
    found: dict[Any, float] = model.context_horizons()
    return [found[name] for name in sorted(found)]


def errors(model: Any, X: Any, y: Any) -> int:
    """How often the likeliest class was another one, after the first 2,000 events."""
    p = model.test_then_train(X, y)
    said = np.array(model.classes_, dtype=object)[p.argmax(axis=1)]
    return int((said != y)[2_000:].sum())


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 300))
def test_what_a_horizon_tells_is_the_mutual_information_of_bin_and_label(seed: int, n: int) -> None:
    past = lookback.allocate(1)
    drawn = np.random.default_rng(seed)
    count = np.zeros((BINS, BUCKETS))
    np.add.at(count, (drawn.integers(0, BINS, n), drawn.integers(0, 3, n)), 1.0)
    past.cells[0, 2] = count
    share = count / n
    rows, columns = share.sum(axis=1), share.sum(axis=0)
    there = share > 0
    expected = (share[there] * np.log(share[there] / np.outer(rows, columns)[there])).sum()
    expected -= ((rows > 0).sum() - 1) * ((columns > 0).sum() - 1) / (2 * n)
    assert told(past, 0, 2) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("window", "least", "most"), [(8, 6, 6), (48, 24, 24), (600, 192, 384)])
def test_a_feature_takes_the_horizon_that_its_label_depends_on(window: int, least: int, most: int) -> None:
    X, y = wandering(6_000, window)
    model = OnlineClassifier(seed=0)
    model.test_then_train(X, y)
    assert least <= horizons(model)[0] <= most
    assert horizons(model)[1] == LENGTHS[USUAL]  # noise has no reason for another


@pytest.mark.parametrize("window", [8, 600])
def test_the_horizon_that_was_chosen_makes_fewer_errors_than_the_usual_one(window: int) -> None:
    X, y = wandering(6_000, window)
    chooses, keeps = OnlineClassifier(seed=0), OnlineClassifier(seed=0)
    keeps.test_then_train(X[:1], y[:1])
    keeps._core.state.lookback.labels[1] = np.inf
    chooses.test_then_train(X[:1], y[:1])
    assert errors(chooses, X[1:], y[1:]) < 0.9 * errors(keeps, X[1:], y[1:])


def test_where_the_past_tells_nothing_every_feature_keeps_the_usual_horizon() -> None:
    drawn = np.random.default_rng(1)
    X = drawn.normal(size=(4_500, 6))
    y = (X[:, 0] + X[:, 1] ** 2 > 1).astype(int) + (X[:, 2] > 0.5)
    model = OnlineClassifier(seed=0)
    model.test_then_train(X, y)
    assert horizons(model) == [LENGTHS[USUAL]] * 6


def test_labels_that_come_late_choose_the_same_horizon() -> None:
    X, y = wandering(2_600, 8)
    model = OnlineClassifier(seed=0)
    kept = []
    for i, (row, label) in enumerate(zip(X, y, strict=True)):
        f = model.forecast_one(dict(enumerate(row.tolist())))
        model.observe(f)
        kept.append((f, label))
        if i >= 40:
            model.learn(*kept[i - 40])
    assert horizons(model) == [6.0, LENGTHS[USUAL]]


def test_a_number_to_be_forecast_chooses_a_horizon_as_well() -> None:
    X, _ = wandering(4_500, 8)
    before = np.concatenate([np.zeros(5), X[:-5, 0]])
    model = OnlineRegressor(seed=0)
    model.test_then_train(X, X[:, 0] - before)
    assert horizons(model)[0] < LENGTHS[USUAL]


def test_missing_values_are_not_counted() -> None:
    past = lookback.allocate(2)
    tried = np.zeros((TRIED, 2), np.float32)
    tried[:, 1] = np.nan
    learn(past, np.zeros(6), 3, tried.ravel(), 1)
    assert past.seen.tolist() == [1.0, 0.0]
    assert past.cells[0].sum() == TRIED + 1
    assert past.cells[1].sum() == 0
    assert past.labels[0] == 1


def test_counts_are_halved_so_that_they_are_bounded_and_later_labels_weigh_more() -> None:
    past = lookback.allocate(1)
    past.seen[:], past.cells[...], past.labels[:] = lookback.MOST - 1, 1.0, (lookback.MOST - 1, lookback.MOST)
    learn(past, np.zeros(3), 3, np.zeros(TRIED, np.float32), 0)
    assert past.seen.tolist() == [lookback.MOST / 2]
    assert past.cells.max() <= 1.0
    for _ in range(2):
        learn(past, np.zeros(3), 3, np.zeros(TRIED, np.float32), 0)
    assert past.labels[1] == 2 * lookback.MOST  # so many labels later


def test_a_learner_goes_on_from_a_snapshot_to_the_bit_while_it_chooses(tmp_path: Any) -> None:
    X, y = wandering(2_400, 8)
    model = OnlineClassifier(seed=0)
    model.test_then_train(X[:900], y[:900])
    model.save(tmp_path / "model")
    other = OnlineClassifier.load(tmp_path / "model")
    rest = slice(900, None)
    assert np.array_equal(model.test_then_train(X[rest], y[rest]), other.test_then_train(X[rest], y[rest]))
    assert horizons(other)[0] == horizons(model)[0] == 6.0


def test_forecasts_and_snapshots_of_before_are_read_and_keep_the_usual_horizon() -> None:
    """As a learner wrote them that had averages over 2 and 24 events: no Lookback, shorter records."""
    X, y = wandering(2_400, 8)
    model = OnlineClassifier(seed=0)
    model.test_then_train(X[:500], y[:500])
    kept = [model.forecast_one({0: 1.0 + i, 1: 0.5}) for i in range(3)]
    arrays, meta = model.state()
    held = model._core.state.lookback
    for name in ("short", "long"):
        place = lookback.SHORT if name == "short" else USUAL
        arrays[f"encoder.{name}"] = held.mean[place].copy()
    arrays = {name: array for name, array in arrays.items() if not name.startswith("lookback.")}
    dim = model._core.dim
    arrays["watch.record"] = arrays["watch.record"][:, : dim.at_tried].copy()
    packed, described = model.pack(kept)
    packed["records"] = np.concatenate([f.record[: dim.at_tried] for f in kept])

    old = OnlineClassifier.from_state(arrays, meta)
    again = old.unpack(packed, described)
    assert all(
        np.array_equal(a.record[: dim.at_tried], b.record[: dim.at_tried])
        for a, b in zip(again, kept, strict=True)
    )
    for f in again:
        old.learn(f, "above")
    assert old._core.state.lookback.seen.tolist() == [0.0, 0.0]  # nothing is known of their contexts
    whole = OnlineClassifier.from_state(*model.state())
    whole._core.state.lookback.labels[1] = np.inf
    for f in kept:
        whole.learn(f, "above")
    whole._core.state = whole._core.state._replace(watch=watch.resized(old._core.state.watch, dim))
    assert np.array_equal(old.test_then_train(X[500:], y[500:]), whole.test_then_train(X[500:], y[500:]))
    assert horizons(old) == [LENGTHS[USUAL]] * 2


def test_a_kept_forecast_keeps_its_contexts_when_features_appear() -> None:
    model = OnlineClassifier(seed=0)
    X, y = wandering(60, 8)
    for row, label in zip(X, y, strict=True):
        model.learn_one({"a": row[0], "b": row[1]}, label)
    kept = model.forecast_one({"a": 1.0, "b": 2.0})
    dim = model._core.dim
    before = kept.record[dim.at_tried :].view(np.float32)[: TRIED * 2].reshape(TRIED, 2).copy()
    model.learn_one({"a": 1.0, "b": 2.0, "c": 3.0}, "above")
    model.learn(kept, "below")
    dim = model._core.dim
    after = kept.record[dim.at_tried :].view(np.float32)[: TRIED * 3].reshape(TRIED, 3)
    assert np.array_equal(after[:, :2], before)
    assert np.isnan(after[:, 2]).all()
    assert model._core.state.lookback.seen.tolist() == [61.0, 61.0, 0.0]  # not where a feature is new


def test_only_numbers_have_a_horizon_and_without_context_nothing_has() -> None:
    model = OnlineClassifier(seed=0)
    assert model.context_horizons() == {}
    for i in range(40):
        model.learn_one({"load": float(i), "kind": "ab"[i % 2]}, i % 3)
    assert model.context_horizons() == {"load": LENGTHS[USUAL]}
    without = OnlineClassifier(seed=0, context=False)
    without.learn_one({"load": 1.0}, 1)
    assert without.context_horizons() == {}


@njit
def bucket_of(dim: Any, prior: Any, target: float) -> int:
    return steps.bucket_of(dim, prior, target)


def test_labels_fall_into_buckets_by_class_and_by_distance_from_the_mean_of_those_before() -> None:
    X, y = wandering(40, 8)
    classifier, regressor = OnlineClassifier(seed=0), OnlineRegressor(seed=0)
    classifier.test_then_train(X, y)
    regressor.test_then_train(X, X[:, 0])
    mean_10_deviation_2 = np.array([50.0, 10.0, 200.0])
    found = [bucket_of(classifier._core.dim, mean_10_deviation_2, c) for c in (0.0, 7.0, 8.0, 19.0)]
    assert found == [0, 7, 0, 3]
    values = (-1e300, -math.inf, 5.9, 6.1, 9.9, 10.0, 10.9, 11.1, 13.1, 1e30, math.inf)
    found = [bucket_of(regressor._core.dim, mean_10_deviation_2, value) for value in values]
    assert found == [0, 0, 0, 0, 3, 4, 4, 5, 7, 7, 7]


def test_a_rare_feature_of_noise_is_not_judged_by_a_few_values() -> None:
    drawn = np.random.default_rng(5)
    X = drawn.normal(size=(2_200, 40))
    X[drawn.random(X.shape) > 0.02] = np.nan
    model = OnlineClassifier(seed=0)
    model.test_then_train(X, drawn.integers(0, 4, 2_200))
    assert model.counters()["labels"] > lookback.FIRST
    assert horizons(model) == [LENGTHS[USUAL]] * 40


def test_numbers_whose_labels_come_after_all_forecasts_fall_into_several_buckets() -> None:
    drawn = np.random.default_rng(2)
    model, kept = OnlineRegressor(seed=0), []
    for i in range(300):
        kept.append(model.forecast_one({"a": drawn.normal()}, id=i))
        model.observe(kept[-1])
    for f in kept:
        model.learn(f, 1_000.0 + drawn.normal())
    by_bucket = model._core.state.lookback.cells[0, 0].sum(axis=0)
    assert (by_bucket[2:6] > 20).all()


def test_a_record_of_no_known_length_is_refused() -> None:
    X, y = wandering(60, 8)
    model = OnlineClassifier(seed=0)
    model.test_then_train(X, y)
    packed, described = model.pack([model.forecast_one({0: 1.0, 1: 2.0})])
    packed["records"] = packed["records"][:-1]
    with pytest.raises(ValueError, match=r"records have \d+ numbers; expected \d+, or \d+ of an earlier"):
        model.unpack(packed, described)
