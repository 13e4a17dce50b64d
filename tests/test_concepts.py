"""Concepts that return are recognised, and what was learned of them comes back; nothing else depends on them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numba import njit
from numpy.typing import NDArray
from small_models import contents, one_by_one

from engine import Expert, OnlineClassifier, OnlineRegressor, race, watch
from engine.concepts import own_number, room
from engine.layout import Sizes

F64 = NDArray[np.float64]
SMALL: dict[str, Any] = {"layers": 1, "width": 8, "concepts": True, "seed": 1}
BLOCK = 400


def classifier(**options: Any) -> OnlineClassifier:
    return OnlineClassifier(**SMALL | options)


def stagger(concepts: str, block: int = BLOCK, seed: int = 0) -> tuple[F64, list[bool]]:
    """STAGGER (Schlimmer and Granger 1986): three attributes of three values, concepts A, B and C in blocks."""
    X = np.random.default_rng(seed).integers(0, 3, (block * len(concepts), 3)).astype(np.float64)
    size, colour, shape = X.T
    means = {
        "A": (size == 0) & (colour == 0),
        "B": (colour == 1) | (shape == 2),
        "C": (size == 1) | (size == 2),
    }
    return X, np.select(
        [np.repeat(list(concepts), block) == name for name in means], list(means.values())
    ).tolist()


def right(model: Any, X: F64, y: list[bool]) -> NDArray[np.bool_]:
    P = model.test_then_train(X, y)
    known = np.array(model.classes_)[P.argmax(axis=1)]
    return np.array(known == np.array(y), np.bool_)


def until(model: Any, X: F64, y: list[bool], there: Any) -> int:
    """Learn events one by one until `there(core)`; how many."""
    for i, (x, label) in enumerate(zip(X, y, strict=True), 1):
        model.learn_one(dict(enumerate(x.tolist())), label)
        if there(model._core):
            return i
    raise AssertionError("it never was so")


def racing(core: Any) -> bool:
    return bool(core.state.watch.place[watch.MODE] == watch.RACE)


# -- the test of losses --------------------------------------------------------------------------------------


@njit
def followed(held: Any, losses: F64, risen: F64, stops: NDArray[np.int64]) -> None:
    record = np.zeros(held.record.shape[1])
    for i in range(losses.shape[0]):
        held.place[watch.STOP] = watch.NOTHING
        record[0] = i
        watch.follow(held, record, 1.0, losses[i], i)
        risen[i], stops[i] = held.sums[watch.RISEN], held.place[watch.STOP]


def watched(losses: F64, threshold: float = 10.0) -> tuple[watch.Watch, F64, NDArray[np.int64]]:
    held = watch.allocate(2, on=True, threshold=threshold)
    risen, stops = np.zeros(len(losses)), np.zeros(len(losses), np.int64)
    followed(held, losses, risen, stops)
    return held, risen, stops


def test_the_cumulative_sum_is_pages() -> None:
    losses = np.random.default_rng(0).exponential(0.4, 700)
    losses[500:520] += 1.0
    _, risen, _ = watched(losses, threshold=math.inf)
    mean = variance = g = 0.0
    for i, loss in enumerate(np.minimum(losses, watch.MOST)):
        away = loss - mean
        z = away / max(math.sqrt(variance), watch.FLOOR)
        g = max(0.0, g + min(z, watch.STEP) - watch.SLACK) if i >= watch.FEWEST else 0.0
        share = 1.0 / min(i + 1.0, watch.HORIZON)
        mean, variance = mean + share * away, variance + share * ((1.0 - share) * away * away - variance)
        assert risen[i] == pytest.approx(g, abs=1e-9)


def test_losses_that_rise_are_an_alarm_and_those_that_stay_or_fall_are_none() -> None:
    losses = np.random.default_rng(1).uniform(0.2, 0.4, 1_000)
    _, _, stops = watched(losses)
    assert watch.ALARM not in stops
    assert watch.WELL in stops
    losses[600:] = 0.05
    assert watch.ALARM not in watched(losses)[2]
    losses[600:] = 0.9
    alarms = np.flatnonzero(watched(losses)[2] == watch.ALARM)
    assert 600 <= alarms[0] <= 605


def test_the_last_events_stay_as_they_were() -> None:
    held, _, _ = watched(np.linspace(0.1, 0.5, 100))
    assert sorted(held.serial) == list(range(100 - watch.RING, 100))
    assert (held.record[:, 0] == held.serial).all()
    assert held.loss[99 % watch.RING] == 0.5


# -- concepts that return ------------------------------------------------------------------------------------


def test_a_concept_that_returns_is_known_again_within_a_few_events() -> None:
    X, y = stagger("ABCABCABC", block=600)
    model, without = classifier(), classifier(concepts=False)
    known, learned = right(model, X, y), right(without, X, y)
    late = [range(at, at + 50) for at in range(3 * 600, len(y), 600)]
    assert model.counters()["returns"] >= len(late) - 1
    assert np.mean([known[part] for part in late]) > 0.8
    assert np.mean([learned[part] for part in late]) < np.mean([known[part] for part in late]) - 0.15
    assert (~known).sum() < (~learned).sum()


def test_numbers_whose_meaning_returns_are_known_again() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(6 * 500, 2))
    sign = np.repeat([1.0, -1.0] * 3, 500)
    y = sign * (3.0 * X[:, 0] + X[:, 1]) + rng.normal(scale=0.3, size=len(X))
    error = {}
    for on in (True, False):
        model = OnlineRegressor(**SMALL | {"concepts": on})
        error[on] = np.abs(model.test_then_train(X, y) - y)
        if on:
            assert model.counters()["returns"] >= 3
    late = np.concatenate([np.arange(at, at + 100) for at in range(1_000, 3_000, 500)])
    assert error[True][late].mean() < 0.8 * error[False][late].mean()


def test_a_burst_of_wrong_labels_is_no_concept() -> None:
    X, y = stagger("A", block=1_500)
    for i in range(800, 806):
        y[i] = not y[i]
    model = classifier()
    model.test_then_train(X, y)
    concepts = model._core.concepts
    assert concepts.copied > 800  # there was an alarm, and a copy was taken
    assert concepts.stored == []
    assert model.counters()["concepts"] == model.counters()["returns"] == 0


def test_a_stream_that_stays_as_it_is_is_learned_as_without_concepts() -> None:
    rng = np.random.default_rng(3)
    X = rng.normal(size=(3_000, 3))
    y = ((X[:, 0] > 0) ^ (rng.random(3_000) < 0.1)).tolist()
    model, without = classifier(), classifier(concepts=False)
    assert (model.test_then_train(X, y) == without.test_then_train(X, y)).all()
    assert model.counters()["returns"] == 0


def test_what_is_asked_of_concepts_is_paid_for(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = stagger("ABC" * 6, block=150)  # too short to be told apart before the next one comes
    model, asked = classifier(), 0
    ask = model._core.ask

    def counted(*arguments: Any) -> Any:
        nonlocal asked
        asked += 1
        return ask(*arguments)

    monkeypatch.setattr(model._core, "ask", counted)
    model.test_then_train(X, y)
    rewards = race.REWARD * model.counters()["returns"]
    overdrawn = (room(model._core.sizes, 1 << 28) + 1) * watch.RING
    assert 0 < asked <= race.SAVED + race.SHARE * len(y) + rewards + overdrawn


# -- the same to the bit -------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [1, 7, 256])
def test_chunks_and_single_events_race_alike_to_the_bit(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    from engine import arrays

    X, y = stagger("ABAB", block=350)
    single = classifier()
    answers = one_by_one(single, X, y)
    assert single.counters()["returns"] >= 1
    monkeypatch.setattr(arrays, "CHUNK", chunk)
    together = classifier()
    P = together.test_then_train(X, y)
    assert [p.get(label, 0.0) for p, label in zip(answers, y, strict=True)] == P[
        np.arange(len(y)), [together.classes_.index(label) for label in y]
    ].tolist()
    assert described(together) == described(single)


def described(model: Any) -> dict[str, Any]:
    """What is in a learner, but for the room that trees have, which grows ahead of a chunk."""
    held = contents(model)
    return {name: value for name, value in held.items() if "forest." not in name}


@pytest.mark.parametrize("there", ["race", "returned", "well"])
def test_a_snapshot_continues_to_the_bit_in_a_race_and_after_a_return(there: str) -> None:
    X, y = stagger("ABABA", block=350)
    model = classifier()
    wanted = {
        "race": lambda core: racing(core) and len(core.concepts.stored) > 1,
        "returned": lambda core: core.concepts.returns > 0 and not racing(core),
        "well": lambda core: core.concepts.well is not None and core.concepts.stored,
    }[there]
    at = until(model, X, y, wanted)
    again = OnlineClassifier.from_state(*model.state())
    assert contents(again) == contents(model)
    assert (again.test_then_train(X[at:], y[at:]) == model.test_then_train(X[at:], y[at:])).all()
    assert contents(again) == contents(model)


def test_asking_as_an_event_was_seen_says_what_was_said() -> None:
    class Half:
        """A model of the caller's own."""

        def predict_proba_one(self, x: Any) -> dict[bool, float]:
            return {True: 0.75, False: 0.25}

        def learn_one(self, x: Any, y: Any) -> None:
            """Nothing to learn."""

    X, y = stagger("A", block=300)
    for options in ({}, {"label_history": True}, {"experts": [Expert(Half(), name="half")]}):
        model = classifier(**options)
        one_by_one(model, X, y)
        core = model._core
        kept = model.forecast_one({0: 1.0, 1: 2.0, 2: 0.0})
        given = np.array([0.25, 0.75]) if "experts" in options else None
        if given is not None:
            first = core.dim.at_logp + (core.dim.experts - 1) * core.dim.outputs
            given = np.exp(kept.record[first : first + core.dim.outputs])
        said = core.ask(core._bind(), kept.record.copy(), given).copy()
        assert said == pytest.approx(kept.probabilities, abs=1e-12)


def test_labels_that_come_late_are_raced_with_the_events_as_they_were_seen() -> None:
    X, y = stagger("ABABAB", block=500)
    model = classifier()
    waiting: list[Any] = []
    for i, x in enumerate(X):
        kept = model.forecast_one(dict(enumerate(x.tolist())))
        model.observe(kept)
        waiting.append((kept, y[i]))
        if len(waiting) > 20:
            model.learn(*waiting.pop(0))
    assert model.counters()["returns"] >= 2


# -- what goes on around it ----------------------------------------------------------------------------------


def test_what_is_forgotten_is_in_no_concept() -> None:
    X, y = stagger("ABA", block=400)
    model = classifier()
    model.test_then_train(X, y, ids=[f"e{i}" for i in range(len(y))])
    core = model._core
    assert core.concepts.stored
    assert len(core.concepts.runs) > 1
    for number in (50, 350, 500, 820, 1_100):
        for state, runs in [
            (core.state, core.concepts.runs),
            *((concept.state, concept.runs) for concept in core.concepts.all()),
        ]:
            own = own_number(runs, number)
            if max(0, state.forest.place[1]) <= own < state.forest.place[0]:
                values = X[number].astype(np.float32)
                assert (state.forest.x[own % len(state.forest.y)] == values).all()  # it is this event
        states = [(core.state, core.concepts.runs)]
        states += [(concept.state, concept.runs) for concept in core.concepts.all()]
        assert model.forget(f"e{number}") == 1
        assert model.forget(f"e{number}") == 0
        assert number not in core.stored()
        assert number not in core.state.watch.serial
        for state, runs in states:
            own = own_number(runs, number)
            if 0 <= own < state.forest.place[0]:
                assert not state.forest.alive[own % len(state.forest.y)]
                assert np.isnan(state.forest.x[own % len(state.forest.y)]).all()
    model.test_then_train(*stagger("BA", block=400, seed=5))


def test_names_and_classes_may_appear_in_a_race() -> None:
    X, y = stagger("ABABA", block=350)
    model = classifier()
    at = until(model, X, y, lambda core: racing(core) and len(core.concepts.stored) > 1)
    model.learn_one({0: 1.0, 1: 0.0, 2: 2.0, "new": 3.0}, True)
    core = model._core
    for concept in core.concepts.all():
        assert concept.state.near.logw.shape[0] >= core.sizes.features == 4
        assert concept.state.forest.x.shape[1] == 4
    labels = ["yes" if label else "no" for label in y]
    texts = classifier()
    until(texts, X, labels, lambda core: racing(core) and len(core.concepts.stored) > 1)
    texts.learn_one({0: 1.0, 1: 0.0, 2: 2.0}, "perhaps")
    assert all(concept.state.prior.shape[1] == 3 for concept in texts._core.concepts.all())
    again = OnlineClassifier.from_state(*texts.state())
    assert (again.test_then_train(X[at:], labels[at:]) == texts.test_then_train(X[at:], labels[at:])).all()


def test_what_is_stored_is_bounded() -> None:
    X, y = stagger("ABCABCABCABC", block=300)
    model = classifier()
    most = 0
    for at in range(0, len(y), 50):
        model.test_then_train(X[at : at + 50], y[at : at + 50])
        concepts = model._core.concepts
        most = max(most, len(concepts.all()))
        assert concepts.credit > -200.0
    assert 2 <= most <= race.room(model._core.sizes, model.memory_budget) + 2
    assert model.bytes_by_memory()["concepts"] == model._core.concepts.nbytes() > 0
    poor = classifier(memory_budget=1 << 20)
    assert room(poor._core.sizes, 1 << 20) == 0
    poor.test_then_train(X, y)
    assert poor._core.concepts.all() == []


def test_where_many_features_are_read_there_are_no_concepts() -> None:
    X, y = stagger("AB", block=400)
    model = classifier()
    until(model, X, y, lambda core: core.concepts.stored)
    model.learn_one({f"n{i}": float(i) for i in range(200)}, True)
    assert model._core.concepts.all() == []
    assert model._core.state.watch.place[watch.MODE] == watch.OFF
    OnlineClassifier.from_state(*model.state())


def test_without_concepts_nothing_of_them_is_kept() -> None:
    model = classifier(concepts=False)
    model.test_then_train(*stagger("AB", block=300))
    assert not [name for name in model.state()[0] if name.startswith(("watch", "concepts"))]
    assert "returns" not in model.counters()


def test_room_follows_the_budget() -> None:
    sizes: Sizes = classifier()._core.sizes
    rooms = [room(sizes, megabytes << 20) for megabytes in (1, 16, 64, 256, 1024)]
    assert rooms == sorted(rooms)
    assert rooms[0] == 0
    assert rooms[-1] == 4
