"""Promises of `score_one`: what is unlike earlier events is high, asking changes nothing, state is kept."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import OnlineClassifier, OnlineRegressor
from engine.evaluate.metrics import PrequentialMetrics
from engine.shard import Shard
from memory import surprise as memory
from streams.event import Event, Position, Record
from tests.small_models import classifier, contents, regressor, row

KINDS = [classifier, regressor]


def stream(n: int, seed: int = 0, d: int = 3) -> tuple[np.ndarray, list[int]]:
    """Two clusters of events, (n, d), and which of them each is from, one label in ten being wrong."""
    rng = np.random.default_rng(seed)
    side = rng.integers(0, 2, n)
    X = rng.normal(size=(n, d)) + 6.0 * side[:, None]
    wrong = rng.random(n) < 0.1
    return X, [int(s) for s in np.where(wrong, 1 - side, side)]


def taught(kind: Any = classifier, n: int = 400, **options: Any) -> Any:
    """A learner that has learned the stream's first events."""
    model = kind(anomaly=True, **options)
    model.test_then_train(*stream(n))
    return model


def observed(events: list[dict[str, Any]]) -> Any:
    """A learner that has seen these events and no label."""
    model = classifier(anomaly=True)
    for x in events:
        model.observe(model.forecast_one(x))
    return model


# -- what is high --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_an_event_far_from_all_others_scores_higher_than_one_among_them(kind: Any) -> None:
    model = taught(kind)
    assert model.score_one(row(np.array([3.0, -3.0, 30.0]))) > 0.99
    assert model.score_one(row(np.array([0.1, 0.0, -0.1]))) < 0.8


def test_values_that_occur_and_do_not_occur_together_score_high() -> None:
    events = [
        {"a": side + 0.1 * math.sin(i), "b": side + 0.1 * math.cos(i)} for i in range(400) for side in (0, 6)
    ]
    model = observed(events)
    assert model.score_one({"a": 0.0, "b": 6.0}) > 0.99
    assert model.score_one({"a": 6.1, "b": 6.0}) < 0.9


def test_events_that_are_only_observed_suffice() -> None:
    X, _ = stream(400)
    model = observed([row(x) for x in X])
    assert model.counters()["labels"] == 0
    assert model.score_one(row(np.array([0.0, 0.0, 30.0]))) > 0.99 > model.score_one(row(X[0]))


@pytest.mark.parametrize(("kind", "right", "wrong"), [(classifier, 1, 0), (regressor, 1.0, -7.0)])
def test_a_label_that_was_not_expected_scores_higher_than_the_expected_one(
    kind: Any, right: Any, wrong: Any
) -> None:
    model = taught(kind)
    x = row(np.array([6.0, 6.0, 6.0]))
    assert model.score_one(x, right) < 0.75 < model.score_one(x, wrong)


def test_a_label_never_seen_before_is_unexpected() -> None:
    model = taught()
    x = row(np.array([6.0, 6.0, 6.0]))
    assert model.score_one(x, 2) > 0.98 > model.score_one(x, 1)


def test_few_events_of_a_rare_kind_stay_unlike_the_others_however_close_together_they_are() -> None:
    X, _ = stream(3_000)
    rare = np.arange(3_000) % 50 == 49
    X[rare] = np.array([3.0, 3.0, -3.0]) + 0.01 * X[rare]
    model = observed([row(x) for x in X])
    scores = [model.score_one(row(x)) for x in X[rare]]
    assert min(scores) > 0.95


@pytest.mark.parametrize(
    "odd",
    [{"a": 1.0, "colour": "mauve"}, {"colour": "red"}, {"a": 1.0, "colour": "red", "new": 0.0}],
    ids=["a new category", "a missing number", "a new field"],
)
def test_what_is_new_or_missing_in_an_event_makes_it_unlike_the_others(odd: dict[str, Any]) -> None:
    events = [{"a": float(i % 5), "colour": ("red", "blue")[i % 3 == 0]} for i in range(400)]
    assert observed(events).score_one(odd) > 0.99


# -- what a score means --------------------------------------------------------------------------------------


@pytest.mark.parametrize("labelled", [False, True])
def test_about_one_event_in_a_hundred_is_above_0_99(labelled: bool) -> None:
    X, y = stream(6_000)
    model = taught(n=2_000)
    above = 0
    for x, label in zip(X[2_000:], y[2_000:], strict=True):
        kept = model.forecast_one(row(x))
        above += model.score(kept, label if labelled else None) > 0.99
        model.learn(kept, label)
    assert 0.005 < above / 4_000 < 0.015


def test_greater_surprises_above_all_recent_ones_score_higher_still() -> None:
    model = taught()
    scores = [model.score_one(row(np.array([0.0, 0.0, x]))) for x in (15.0, 20.0, 30.0)]
    assert scores == sorted(set(scores))
    assert scores[-1] <= 1.0


@given(st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0, math.inf, math.nan, 1e300]), min_size=1, max_size=40))
@settings(max_examples=25, deadline=None)
def test_a_score_lies_from_0_to_1_whatever_the_numbers_are(values: list[float]) -> None:
    model = observed([{"a": value, "b": -value} for value in values])
    for value in values:
        for label in (None, 1, 2):
            assert 0.0 <= model.score_one({"a": value}, label) <= 1.0


def test_a_fresh_learner_finds_nothing_anomalous() -> None:
    assert classifier(anomaly=True).score_one({"a": 1.0}) == 0.0
    assert regressor(anomaly=True).score_one({"a": 1.0}, 3.0) == 0.0


@pytest.mark.parametrize("kind", [OnlineClassifier, OnlineRegressor])
def test_a_learner_without_anomaly_says_how_to_get_scores(kind: Any) -> None:
    with pytest.raises(ValueError, match=rf"anomaly is False; expected {kind.__name__}\(anomaly=True\)"):
        kind(layers=1, width=2).score_one({"a": 1.0})


@given(st.integers(0, 30), st.integers(0, 5))
@settings(max_examples=10, deadline=None)
def test_events_that_come_in_turns_are_stored_in_all_groups_alike(period: int, seed: int) -> None:
    seen = memory.allocate(1, seed)
    for i in range(memory.EVENTS):
        memory.take(seen, np.array([float(i % (period + 2) == 0)]))
    first = seen.values[0].reshape(memory.GROUPS, memory.MEMBERS).sum(axis=1)
    share = first.sum() / memory.EVENTS
    assert first.var() < 2.0 * memory.MEMBERS * share * (1.0 - share)  # that of events drawn is 1


# -- what asking and keeping change --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_asking_for_a_score_changes_nothing(kind: Any) -> None:
    model = taught(kind)
    before = contents(model)
    model.score_one({0: 1e9, "new": "text"})
    model.score_one({0: 0.0}, 1)
    assert contents(model) == before


@pytest.mark.parametrize("kind", KINDS)
def test_forecasts_are_the_same_to_the_bit_with_and_without_anomaly(kind: Any) -> None:
    X, y = stream(300)
    assert np.array_equal(kind(anomaly=True).test_then_train(X, y), kind(anomaly=False).test_then_train(X, y))


def test_without_anomaly_no_forecast_has_a_surprise() -> None:
    assert classifier().forecast_one({"a": 1.0}).surprise is None


@pytest.mark.parametrize("kind", KINDS)
def test_arrays_and_single_events_leave_the_same_state(kind: Any) -> None:
    X, y = stream(300)
    weights = np.where(np.arange(300) % 9 == 0, 0.0, 1.0)
    ids = [f"e{i}" for i in range(300)]
    whole, single = kind(anomaly=True), kind(anomaly=True)
    whole.test_then_train(X, y, w=weights, ids=ids)
    for x, label, w, id in zip(X, y, weights, ids, strict=True):
        single.learn_one(row(x), label, float(w), id=id)
    assert contents(whole) == contents(single)


def test_events_learned_together_have_the_scores_and_leave_the_state_of_single_ones() -> None:
    X, y = stream(200)
    events = [{"a": float(x[0]), "b": float(x[1]), "c": "xyz"[i % 3]} for i, x in enumerate(X)]
    together, single = classifier(anomaly=True), classifier(anomaly=True)
    for x, label in zip(events[:100], y[:100], strict=True):
        together.learn_one(x, label)
        single.learn_one(x, label)
    chunk = together.chunk(16)
    said = []
    for x, label in zip(events[100:], y[100:], strict=True):
        if not chunk.add(x, label):
            said += chunk.learn()
            assert chunk.add(x, label)
    said += chunk.learn()
    alone = []
    for x, label in zip(events[100:], y[100:], strict=True):
        kept = single.forecast_one(x)
        alone.append(kept.surprise)
        single.learn(kept, label)
    assert [each.surprise for each in said] == alone
    assert contents(together) == contents(single)


@pytest.mark.parametrize("way", ["save", "deepcopy"])
def test_a_learner_that_was_kept_goes_on_to_the_bit(way: str, tmp_path: Path) -> None:
    X, y = stream(900)
    model = taught(n=700)
    if way == "save":
        model.save(tmp_path / "model")
        kept = OnlineClassifier.load(tmp_path / "model")
    else:
        kept = copy.deepcopy(model)
    for learner in (model, kept):
        learner.test_then_train(X[700:], y[700:], ids=range(200))
    assert contents(model) == contents(kept)
    assert model.score_one(row(X[0]), 1) == kept.score_one(row(X[0]), 1)


def test_forecasts_that_wait_in_a_snapshot_keep_their_surprise() -> None:
    model = taught()
    waiting = [model.forecast_one({0: value, 1: 0.0}) for value in (0.0, 99.0)]
    again = model.unpack(*model.pack(waiting))
    assert [(f.surprise, f.unlike) for f in again] == [(f.surprise, f.unlike) for f in waiting]
    assert again[0].surprise < again[1].surprise


def test_a_label_that_comes_late_is_ranked_with_what_was_said_at_the_time() -> None:
    late, at_once = taught(), taught()
    x = row(np.array([3.0, 3.0, 9.0]))
    kept = late.forecast_one(x)
    late.observe(kept)
    late.learn(kept, 1)
    at_once.learn_one(x, 1)
    assert contents(late) == contents(at_once)


def test_forget_removes_an_event_from_what_others_are_compared_with() -> None:
    X, y = stream(300)
    model = classifier(anomaly=True)
    model.test_then_train(X, y, ids=["customer" if i == 50 else f"e{i}" for i in range(300)])
    assert (model.state()[0]["surprise.values"][1] == X[50, 0]).sum() == 1
    assert model.forget("customer") == 1
    assert (model.state()[0]["surprise.values"][1] == X[50, 0]).sum() == 0
    assert model.forget("customer") == 0


def test_forget_finds_events_that_were_only_observed() -> None:
    model = classifier(anomaly=True)
    for i in range(30):
        model.observe(model.forecast_one({"a": float(i)}, id=f"e{i}"))
    assert [model.forget("e7"), model.forget("e7"), model.counters()["forgotten"]] == [1, 0, 1]


def test_what_is_kept_is_bounded_with_thousands_of_features() -> None:
    model = OnlineClassifier(layers=1, width=2, anomaly=True, trees=False, memory_budget=1 << 20)
    for i in range(3):
        model.observe(model.forecast_one({f"name {i} {j}": float(j) for j in range(3_000)}))
    kept = {name: array for name, array in model.state()[0].items() if name.startswith("surprise.")}
    assert sum(array.nbytes for array in kept.values()) < 22_000_000


# -- in a run ------------------------------------------------------------------------------------------------


def answers(inside: bool, **options: Any) -> list[dict[str, Any]]:
    """The messages of a shard for 120 events, their labels inside them or absent."""
    X, y = stream(120)
    shard = Shard(classifier(**options), PrequentialMetrics())
    for i, (x, label) in enumerate(zip(X, y, strict=True)):
        features = {"a": float(x[0]), "b": float(x[1])}
        event = Event(id=f"e{i}", time=float(i), features=features, label=label if inside else None)
        shard.take(Record(Position("t", 0, i), event))
    shard.finish()
    return [answer.decision.message() for answer in shard.answers]


@pytest.mark.parametrize("inside", [False, True])
def test_every_answer_carries_the_surprise_of_its_event(inside: bool) -> None:
    X, y = stream(120)
    model = classifier(anomaly=True)
    expected = []
    for i, (x, label) in enumerate(zip(X, y, strict=True)):
        kept = model.forecast_one({"a": float(x[0]), "b": float(x[1])}, time=float(i))
        expected.append(kept.surprise)
        if inside:
            model.learn(kept, label)
        else:
            model.observe(kept)
    assert [message["surprise"] for message in answers(inside, anomaly=True)] == expected


def test_answers_of_a_learner_without_anomaly_have_no_surprise() -> None:
    assert all("surprise" not in message for message in answers(True) + answers(False))


# -- the kernels beside plain NumPy --------------------------------------------------------------------------


def plain_surprise(earlier: np.ndarray, stored: list[list[int]], x: np.ndarray) -> float:
    """s by its formula; earlier: (n, d), all events so far; stored: per group the rows it holds."""
    everything = np.vstack([earlier, x])
    nearest = []
    for group in stored:
        distances = []
        for j in group:
            total = 0.0
            for f in range(len(x)):
                column = everything[:, f]
                there = column[~np.isnan(column)]
                a, b = x[f], earlier[j, f]
                if np.isnan(a) != np.isnan(b):
                    p = len(there) / len(column)
                    total += min(1.0 / math.sqrt(p * (1.0 - p)), 10.0)
                elif not np.isnan(a) and there.std() > 0.0:
                    total += min(abs(a - b) / there.std(), 10.0)
            distances.append(total)
        if distances:
            nearest.append(min(distances))
    return math.log(float(np.median(nearest)) + 1e-3)


@given(st.integers(1, 150), st.integers(1, 5), st.integers(0, 9))
@settings(max_examples=15, deadline=None)
def test_the_kernel_computes_the_formula(n: int, d: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n + 1, d)) * 10.0 ** rng.integers(-3, 4, d)
    X[rng.random(X.shape) < 0.1] = np.nan
    seen = memory.allocate(d, seed)
    stored: list[list[int]] = [[] for _ in range(memory.GROUPS)]
    for i in range(n):
        stored[memory.take(seen, X[i]) // memory.MEMBERS].append(i)
    found = memory.surprise(seen, X[n], 0.0, np.zeros(memory.EVENTS))
    assert found == pytest.approx(plain_surprise(X[:n], stored, X[n]), rel=1e-6, abs=1e-6)


@given(st.lists(st.integers(0, 20), min_size=1, max_size=60), st.integers(-3, 25))
@settings(max_examples=50, deadline=None)
def test_the_rank_counts_those_of_the_last_half_of_surprises_that_are_at_least_as_great(
    values: list[int], asked: int
) -> None:
    ring = memory.recent()
    for value in values:
        memory.push(ring, float(value))
    last = values[-((len(values) + 1) // 2) :]
    above = sum(value >= asked for value in last)
    rest = 0.5 if above else math.exp(max(last) - asked)
    assert memory.unlikely(ring, float(asked)) == pytest.approx((above + rest) / (len(last) + 1))


def test_the_rank_forgets_all_but_the_last_surprises() -> None:
    ring = memory.recent()
    for value in [0.0] * memory.RECENT + [9.0] * 10 + [0.0] * (memory.RECENT - 9):
        memory.push(ring, value)
    assert memory.unlikely(ring, 1.0) == pytest.approx(9.5 / (memory.RECENT + 1))
    for _ in range(9):
        memory.push(ring, 0.0)
    assert memory.unlikely(ring, 1.0) < 1e-3


def test_stored_events_are_8192_events_old_on_average() -> None:
    seen = memory.allocate(1, 0)
    n = 60_000
    for i in range(n):
        memory.take(seen, np.array([float(i)]))
    assert 6_500 < n - seen.values[0].mean() < 9_900
