"""Promises of the prequential figures: right, the same one by one and in blocks, and resumable to the bit."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from engine.evaluate.auc import RankHistogram, exact_auc
from engine.evaluate.curve import Curve
from engine.evaluate.drift import DriftMeter
from engine.evaluate.latency import Latency
from engine.evaluate.metrics import PrequentialMetrics
from tests.small_models import bits


def noisy_forecasts(n: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    Y = rng.integers(0, classes, n)
    score = rng.normal(size=(n, classes))
    score[np.arange(n), Y] += 1.0
    P = np.exp(score) / np.exp(score).sum(axis=1, keepdims=True)
    return Y, P


def test_classification_figures_agree_with_scikit_learn() -> None:
    Y, P = noisy_forecasts(3000, 2)
    metrics = PrequentialMetrics()
    metrics.update_many(Y, P, classes=[0, 1])
    result = metrics.result()
    guess = P.argmax(axis=1)
    assert result["events"] == 3000
    assert result["accuracy"] == pytest.approx(reference.accuracy_score(Y, guess), abs=1e-12)
    assert result["log_loss"] == pytest.approx(reference.log_loss(Y, P), abs=1e-12)
    assert result["balanced_accuracy"] == pytest.approx(reference.balanced_accuracy_score(Y, guess))
    assert result["kappa"] == pytest.approx(reference.cohen_kappa_score(Y, guess), abs=1e-12)
    assert result["macro_f1"] == pytest.approx(reference.f1_score(Y, guess, average="macro"))
    assert result["roc_auc"] == pytest.approx(reference.roc_auc_score(Y, P[:, 1]), abs=1e-5)


def test_weights_count_as_in_scikit_learn() -> None:
    Y, P = noisy_forecasts(2000, 2, seed=1)
    w = np.random.default_rng(2).uniform(0.1, 3.0, len(Y))
    metrics = PrequentialMetrics()
    metrics.update_many(Y, P, classes=["no", "yes"], w=w)
    result = metrics.result()
    assert result["log_loss"] == pytest.approx(reference.log_loss(Y, P, sample_weight=w), abs=1e-12)
    assert result["roc_auc"] == pytest.approx(reference.roc_auc_score(Y, P[:, 1], sample_weight=w), abs=1e-5)


def test_many_classes_have_no_area_under_the_curve() -> None:
    Y, P = noisy_forecasts(500, 5)
    metrics = PrequentialMetrics()
    metrics.update_many(Y, P, classes=list("abcde"))
    result = metrics.result()
    assert result["roc_auc"] is None
    assert result["accuracy"] == pytest.approx(reference.accuracy_score(Y, P.argmax(axis=1)))
    assert set(result["f1"]) == set("abcde")


def test_regression_figures_agree_with_scikit_learn() -> None:
    rng = np.random.default_rng(3)
    y = rng.normal(5.0, 2.0, 1000)
    value = y + rng.normal(size=1000)
    metrics = PrequentialMetrics("regression")
    metrics.update_many(y, value)
    result = metrics.result()
    assert result["mae"] == pytest.approx(reference.mean_absolute_error(y, value))
    assert result["rmse"] == pytest.approx(reference.root_mean_squared_error(y, value))
    assert result["r2"] == pytest.approx(reference.r2_score(y, value))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 4), st.integers(0, 300), st.integers(0, 10_000))
def test_blocks_and_single_updates_give_the_same_bits(classes: int, n: int, seed: int) -> None:
    Y, P = noisy_forecasts(n, classes, seed)
    rng = np.random.default_rng(seed)
    P[rng.random(n) < 0.1] = 0.0
    P[rng.random((n, classes)) < 0.02] = np.nan
    w = rng.choice([0.0, 1.0, 0.5], n)
    names = [f"c{k}" for k in range(classes)]
    single, block = PrequentialMetrics(window=20), PrequentialMetrics(window=20)
    for i in range(n):
        row = {name: float(p) for name, p in zip(names, P[i], strict=True) if p != 0.0}
        single.update(names[Y[i]], row, float(w[i]), time=float(i))
    half = n // 3
    for part in (slice(0, half), slice(half, n)):
        block.update_many(Y[part], P[part], names, w[part], np.arange(n, dtype=float)[part])
    assert bits(*single.state()) == bits(*block.state())


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_a_kept_state_goes_on_to_the_bit(task: str) -> None:
    Y, P = noisy_forecasts(3000, 2, seed=5)
    whole, parts = PrequentialMetrics(task, window=7), PrequentialMetrics(task, window=7)  # type: ignore[arg-type]
    forecasts = P if task == "classification" else P[:, 1]
    classes = [False, True] if task == "classification" else None
    times = np.arange(3000.0)
    whole.update_many(Y, forecasts, classes, times=times)
    for start in range(0, 3000, 500):
        part = slice(start, start + 500)
        parts.update_many(Y[part], forecasts[part], classes, times=times[part])
        arrays, meta = parts.state()
        parts = PrequentialMetrics.from_state(arrays, json.loads(json.dumps(meta)))
        assert bits(*parts.state()) == bits(arrays, meta)
    assert json.dumps(whole.result()) == json.dumps(parts.result())
    assert json.dumps(whole.curve()) == json.dumps(parts.curve())
    assert bits(*whole.state()) == bits(*parts.state())


def test_an_empty_forecast_is_wrong_and_costs_an_even_guess() -> None:
    metrics = PrequentialMetrics()
    metrics.update("a", {})
    result = metrics.result()
    assert result["accuracy"] == 0.0
    assert result["log_loss"] == pytest.approx(math.log(2))
    assert result["empty_forecasts"] == 1


def test_a_class_without_probability_is_clipped_at_1e_15() -> None:
    metrics = PrequentialMetrics()
    metrics.update("b", {"a": 1.0})
    assert metrics.result()["log_loss"] == pytest.approx(-math.log(1e-15))


def test_repeating_the_last_label_has_a_temporal_kappa_of_zero() -> None:
    rng = np.random.default_rng(0)
    metrics = PrequentialMetrics()
    last: dict[int, float] = {}
    for y in (rng.random(2000) < 0.2).astype(int).tolist():
        metrics.update(y, last)
        last = {y: 1.0}
    result = metrics.result()
    assert result["kappa_temporal"] == 0.0
    assert result["no_change_accuracy"] == result["accuracy"]


def test_forecasts_that_are_not_numbers_are_counted_and_survived() -> None:
    metrics = PrequentialMetrics()
    metrics.update(1, {0: float("nan"), 1: float("nan")})
    values = PrequentialMetrics("regression")
    values.update(1.0, 1.0)
    values.update(2.0, float("inf"))
    assert metrics.result()["bad_forecasts"] == 1
    assert values.result()["bad_forecasts"] == 1
    assert values.result()["mae"] == 0.5


def test_calibration_speaks_of_the_positive_class() -> None:
    metrics = PrequentialMetrics()
    for i in range(100):
        metrics.update(i % 4 == 0, {False: 0.75, True: 0.25} if i else {True: 0.25, False: 0.75})
    result = metrics.result()
    assert result["positive"] is True
    assert result["calibration"] == [[0.25, 0.25, 100.0]]


@pytest.mark.parametrize("spread", [0.3, 1.0, 5.0])
def test_the_rank_histogram_is_within_1e_5_of_the_exact_area(spread: float) -> None:
    rng = np.random.default_rng(8)
    positive = rng.random(20_000) < 0.3
    scores = rng.normal(size=20_000) * spread + positive * spread * 0.7
    ranks, other = RankHistogram(), RankHistogram()
    for i, (score, label) in enumerate(zip(scores.tolist(), positive.tolist(), strict=True)):
        (ranks if i % 2 else other).add(score, label)
    ranks.merge(other)
    assert ranks.area() == pytest.approx(reference.roc_auc_score(positive, scores), abs=1e-5)


def test_the_exact_area_treats_ties_as_halves() -> None:
    scores = [0.0, 1.0, 1.0, 1.0, 2.0, 0.0]
    positive = [True, True, False, True, True, False]
    assert exact_auc(scores, positive)[0] == pytest.approx(reference.roc_auc_score(positive, scores))


def test_a_curve_stays_bounded_and_its_windows_add_up() -> None:
    curve = Curve(window=10, points=8)
    for i in range(10_000):
        curve.add(1.0, float(i < 5000), 0.0, float(i), math.nan, False)
    points = curve.result(("accuracy", "log_loss"))
    assert 4 <= len(points) <= 8
    assert points[0]["accuracy"] == 1.0
    assert points[-1]["accuracy"] == 0.0
    assert points[-1]["events"] == 10_000


def test_steady_noise_is_no_drift_and_a_worse_learner_is_one() -> None:
    rng = np.random.default_rng(4)
    meter = DriftMeter()
    for i in range(20_000):
        meter.update(float(rng.random() < (0.1 if i < 15_000 else 0.4)), float(i))
    assert meter.count == 1
    assert meter.last is not None
    assert 15_000 < meter.last < 15_500


def test_latency_percentiles_are_right_to_a_percent() -> None:
    durations = np.random.default_rng(6).lognormal(-10.0, 1.0, 20_000)
    latency, other = Latency(), Latency()
    for i, duration in enumerate(durations.tolist()):
        (latency if i % 2 else other).add(duration)
    latency.merge(Latency.from_state(json.loads(json.dumps(other.state()))))
    for q in (50.0, 99.0, 99.9):
        exact = float(np.sort(durations)[round(20_000 * q / 100) - 1]) * 1e6
        assert latency.percentile(q) == pytest.approx(exact, rel=0.01)


def test_the_histogram_of_latencies_counts_every_event_at_its_own_time() -> None:
    latency, seconds = Latency(), np.random.default_rng(3).lognormal(-9.0, 1.0, 2000)
    for duration in seconds:
        latency.add(duration)
    bins = latency.histogram()
    assert sum(events for _, events in bins) == 2000
    at = [math.log10(microseconds) for microseconds, _ in bins]
    assert np.allclose(np.diff(at), 1 / 12)
    drawn = np.repeat(at, [int(events) for _, events in bins])
    assert np.abs(np.sort(drawn) - np.sort(np.log10(seconds * 1e6))).max() < 0.05
    assert Latency().histogram() == []


def test_wrong_shapes_and_kinds_are_named() -> None:
    metrics = PrequentialMetrics()
    with pytest.raises(ValueError, match=r"shape \(2, 3\)"):
        metrics.update_many([0, 1], np.zeros((2, 3)), classes=["a", "b"])
    with pytest.raises(TypeError, match="label → probability"):
        metrics.update("a", 0.5)
    with pytest.raises(ValueError, match="task='ranking'"):
        PrequentialMetrics("ranking")  # type: ignore[arg-type]
