"""Models of the caller's own among the experts: alike on every path, followed where they know."""

from __future__ import annotations

import copy
import json
import math
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from river import checks, linear_model, naive_bayes, preprocessing, tree

from engine import Expert, OnlineClassifier, OnlineRegressor
from engine.checkpoint import CheckpointError
from engine.evaluate.metrics import PrequentialMetrics
from engine.shard import Shard
from streams.join import PendingForecasts
from streams.join_limits import JoinLimits


class Parity:
    """Knows that the label is the parity of a number's bits, which nothing else here can learn; counts labels."""

    def __init__(self, sure: float = 0.98) -> None:
        self.sure = sure
        self.learned: list[tuple[dict[Any, Any], Any, float]] = []

    def predict_proba_one(self, x: dict[Any, Any]) -> dict[Any, float]:
        odd = bin(int(x["n"])).count("1") % 2 == 1
        return {odd: self.sure, not odd: 1.0 - self.sure}

    def learn_one(self, x: dict[Any, Any], y: Any, w: float = 1.0) -> None:
        self.learned.append((x, y, w))


class Says:
    """Says what it was told to say, or raises it."""

    def __init__(self, said: Any, raised: bool = False) -> None:
        self.said, self.raised = said, raised

    def predict_proba_one(self, x: dict[Any, Any]) -> Any:
        if isinstance(self.said, Exception):
            raise self.said
        return self.said

    predict_one = predict_proba_one

    def learn_one(self, x: dict[Any, Any], y: Any) -> None:
        if self.raised:
            raise RuntimeError("no room left")


def odd_numbers(n: int, seed: int = 0) -> list[tuple[dict[str, Any], bool]]:
    drawn = random.Random(seed)
    numbers = [drawn.randrange(1 << 16) for _ in range(n)]
    return [({"n": k, "noise": drawn.random()}, bin(k).count("1") % 2 == 1) for k in numbers]


def table(n: int, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    """Three features, the third often missing; a third class from the middle on."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3)).astype(np.float32)
    X[rng.random(n) < 0.2, 2] = np.nan
    y = np.where(X[:, 0] + 0.3 * rng.normal(size=n) > 0.0, "up", "down")
    y[n // 2 :][X[n // 2 :, 1] > 1.0] = "out"
    return X, y.tolist()


def small(**more: Any) -> OnlineClassifier:
    return OnlineClassifier(layers=1, width=8, seed=1, **more)


def two() -> tuple[Any, ...]:
    return tree.HoeffdingTreeClassifier(grace_period=20), naive_bayes.GaussianNB()


def test_the_mixture_follows_a_model_that_understands_the_stream_better() -> None:
    alone, helped = small(), small(experts=(Parity(),))
    right = {id(alone): 0, id(helped): 0}
    events = odd_numbers(700)
    for i, (x, y) in enumerate(events):
        for model in (alone, helped):
            right[id(model)] += i >= 200 and model.predict_one(x) == y
            model.learn_one(x, y)
    assert right[id(helped)] > 480
    assert right[id(alone)] < 320
    weights = helped.expert_weights()
    assert max(weights, key=lambda name: weights[name]) == "Parity"


def test_a_regression_follows_a_model_that_understands_the_stream_better() -> None:
    class Bits(Says):
        def predict_one(self, x: dict[Any, Any]) -> float:
            return float(bin(int(x["n"])).count("1"))

    alone, helped = (OnlineRegressor(layers=1, width=8, experts=e) for e in (None, (Bits(0),)))
    errors: dict[int, list[float]] = {id(alone): [], id(helped): []}
    for x, _ in odd_numbers(500):
        target = bin(int(x["n"])).count("1") + 0.01 * x["noise"]
        for model in (alone, helped):
            errors[id(model)].append(abs(model.predict_one(x) - target))
            model.learn_one(x, target)
    assert np.mean(errors[id(helped)][200:]) < 0.15
    assert np.mean(errors[id(alone)][200:]) > 0.5


@pytest.mark.parametrize("history", [False, True])
def test_arrays_of_any_chunk_size_and_single_events_give_the_same_bits(history: bool) -> None:
    X, y = table(240)
    models = [small(experts=two(), label_history=history) for _ in range(4)]
    whole = models[0].test_then_train(X, y)
    parts = [models[1].test_then_train(X[i : i + 7], y[i : i + 7]) for i in range(0, len(X), 7)]
    singles = []
    for row, label in zip(X, y, strict=True):
        x = dict(enumerate(row.tolist()))
        singles.append(list(models[2].predict_proba_one(x).values()))
        models[2].learn_one(x, label)
    chunk, at, gathered = models[3].chunk(size=16), 0, list[list[float]]()
    while at < len(X):
        x = dict(enumerate(X[at].tolist()))
        if chunk.add(x, y[at]):
            at += 1
            continue
        gathered += [list(said.answer.values()) for said in chunk.learn()]
        if not chunk.add(x, y[at]):
            kept = models[3].forecast_one(x)
            gathered.append(list(kept.proba.values()))
            models[3].learn(kept, y[at])
            at += 1
        else:
            at += 1
    gathered += [list(said.answer.values()) for said in chunk.learn()]
    for i in range(len(X)):
        p = whole[i, : len(singles[i])].tolist()
        assert p == singles[i] == gathered[i]
        assert p == parts[i // 7][i % 7, : len(p)].tolist()
    np.testing.assert_array_equal(models[0].predict_proba(X[:9]), models[2].predict_proba(X[:9]))
    assert len(set(map(str, (model.expert_weights() for model in models)))) == 1


def test_a_late_label_finds_the_event_and_what_the_model_said_then() -> None:
    model = small(experts=(Parity(),), label_history=True)
    waiting = []
    for i, (x, y) in enumerate(odd_numbers(60)):
        kept = model.forecast_one(x, id=i)
        model.observe(kept)
        waiting.append((kept, x, y))
        if i >= 10:
            old, was, label = waiting.pop(0)
            if len(old.labels) == 2:
                said = dict(zip(old.labels, old.expert_forecasts()["Parity"].tolist(), strict=True))
                assert said == pytest.approx(Parity().predict_proba_one(was), rel=1e-6)
            model.learn(old, label, w=2.0)
            assert model._core.added.models[0].learned[-1] == (was, label, 2.0)
    assert model._core.added.models[0].learned[0][0] == odd_numbers(60)[0][0]


def test_forecasts_that_wait_in_a_snapshot_keep_their_events() -> None:
    model = small(experts=(Parity(),))
    events = odd_numbers(30)
    for x, y in events[:20]:
        model.learn_one(x, y)
    events[25] = ({**events[25][0], 7: 1.0, ("a", 2): True}, events[25][1])  # names of other kinds
    kept = [model.forecast_one(x, id=i) for i, (x, _) in enumerate(events[20:])]
    back = model.unpack(*model.pack(kept))
    other = copy.deepcopy(model)
    for one, two_, (_, y) in zip(kept, back, events[20:], strict=True):
        model.learn(one, y)
        other.learn(two_, y)
    learned = [m._core.added.models[0].learned for m in (model, other)]
    assert learned[0] == learned[1]
    assert len(learned[0]) == 30
    assert model.predict_proba_one(events[0][0]) == other.predict_proba_one(events[0][0])


def test_an_image_that_no_file_can_hold_is_not_learned_by_the_model_and_that_is_counted() -> None:
    model = small(experts=(Says({}),))
    model.learn_one({"image": np.zeros((2, 2))}, "a")
    (kept,) = model.unpack(*model.pack([model.forecast_one({"image": np.ones((2, 2))})]))
    model.learn(kept, "b")
    assert model.expert_faults()["Says"] == (1, "its event could not be kept until the label came")


NONSENSE = {
    "raises": ValueError("what?"),
    "NaN": {True: math.nan, False: 0.5},
    "infinite": {True: math.inf, False: 0.5},
    "too much": {True: 0.9, False: 0.9},
    "negative": {True: 1.5, False: -0.5},
    "no mapping": 3,
    "no number": {True: "yes", False: 0.5},
}


@pytest.mark.parametrize("kind", NONSENSE)
def test_a_bad_model_does_not_end_the_stream_and_is_counted(kind: str) -> None:
    model = small(experts=(Says(NONSENSE[kind], raised=True), Expert(Parity(), name="good")))
    events = odd_numbers(300)
    right = 0
    for i, (x, y) in enumerate(events):
        p = model.predict_proba_one(x)
        assert not p or math.fsum(p.values()) == pytest.approx(1.0)
        right += i >= 150 and max(p, key=lambda label: p[label]) == y
        model.learn_one(x, y)
    assert right > 140
    faults = model.expert_faults()
    assert faults["Says"] == (600, "RuntimeError: no room left")
    assert faults["good"] == (0, "")
    assert model.counters()["expert_faults"] == 600


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (NONSENSE["too much"], "its probabilities sum to 1.8"),
        (NONSENSE["raises"], "ValueError: what?"),
        (NONSENSE["no mapping"], "AttributeError: "),
    ],
)
def test_why_a_forecast_could_not_be_used_is_told(said: Any, told: str) -> None:
    model = small(experts=(Says(said),))
    model.learn_one({"a": 1.0}, True)
    count, why = model.expert_faults()["Says"]
    assert count == 1
    assert why.startswith(told)


def test_a_model_that_says_nothing_is_no_fault_and_leaves_the_weights_alone() -> None:
    model = small(experts=(Says({}),))
    added = model._core.sizes.expert_names().index("Says")
    for i, (x, y) in enumerate(odd_numbers(60)):
        if i == 20:  # both classes are known
            before = model._core.state.mixer.weight[:7].copy()
        model.learn_one(x, y)
    assert model.counters()["expert_faults"] == 0
    after = model._core.state.mixer.weight[:7]
    np.testing.assert_allclose(after[:, added], before[:, added], rtol=1e-5)
    assert (abs(after - before)[:, :added].max(axis=0) > 1e-4).all()


@pytest.mark.parametrize("said", [1e300, -1e9, math.nan, math.inf, None, "much"])
def test_a_regression_survives_models_that_run_away(said: Any) -> None:
    alone, beside = (OnlineRegressor(layers=1, width=8, experts=e) for e in (None, (Says(said),)))
    drawn = random.Random(2)
    errors: dict[int, list[float]] = {id(alone): [], id(beside): []}
    for _ in range(400):
        x = {"a": drawn.gauss(0.0, 1.0)}
        target = 5.0 + 3.0 * x["a"]
        for model in (alone, beside):
            value = model.predict_one(x)
            assert math.isfinite(value)
            errors[id(model)].append(abs(value - target))
            model.learn_one(x, target)
    assert np.mean(errors[id(beside)][200:]) < np.mean(errors[id(alone)][200:]) + 0.1


def test_classes_that_only_the_model_knows_are_left_out() -> None:
    known = naive_bayes.GaussianNB()
    for i in range(40):
        known.learn_one({"a": float(i % 4)}, ("low", "low", "high", "never")[i % 4])
    model = small(experts=(known,))
    for i in range(40):
        model.learn_one({"a": float(i % 3)}, ("low", "low", "high")[i % 3])
    said = model.forecast_one({"a": 3.0}).experts["GaussianNB"]
    assert set(said) == {"low", "high"}
    assert math.fsum(said.values()) == pytest.approx(1.0)


def test_a_classifier_that_names_its_class_alone_is_heard() -> None:
    class Names(Says):
        def predict_proba_one(self, x: dict[Any, Any]) -> Any:
            raise NotImplementedError

        def predict_one(self, x: dict[Any, Any]) -> Any:
            return bin(int(x["n"])).count("1") % 2 == 1

    model = small(experts=(Names(None),))
    events = odd_numbers(300)
    for x, y in events:
        model.learn_one(x, y)
    assert sum(model.predict_one(x) == y for x, y in events) > 280
    assert model.counters()["expert_faults"] == 0


def test_what_is_missing_is_not_there_and_kept_events_are_not_changed_by_the_model() -> None:
    class Greedy(Says):
        def predict_proba_one(self, x: dict[Any, Any]) -> Any:
            x.clear()
            return {}

    seen = Parity()
    model = small(experts=(Greedy(None), Expert(seen, name="sees")))
    for x in ({"n": 3, "a": None, "b": math.nan, "c": np.float32(0.5)}, {"n": 4}):
        model.learn_one(x, True)
    taught = model._core.added.models[1].learned
    assert [x for x, _, _ in taught] == [{"n": 3, "c": 0.5}, {"n": 4}]
    assert seen.learned == []  # the one that was given stays as it is


def line() -> Any:
    return preprocessing.StandardScaler() | linear_model.LogisticRegression()


def written(model: Any) -> bytes:
    return json.dumps([model.weights, model.intercept]).encode()


def read(data: bytes) -> Any:
    model = linear_model.LogisticRegression()
    weights, model.intercept = json.loads(data)
    model._weights.update({name: float(value) for name, value in weights.items()})
    return model


def taught(**more: Any) -> OnlineClassifier:
    model = small(**more)
    for x, y in odd_numbers(80):
        model.learn_one(x, y)
    return model


def same(a: OnlineClassifier, b: OnlineClassifier) -> None:
    for x, y in odd_numbers(40, seed=9):
        assert a.predict_proba_one(x) == b.predict_proba_one(x)
        a.learn_one(x, y)
        b.learn_one(x, y)


def test_a_learner_with_models_that_cannot_be_saved_says_so_and_can_be_copied(tmp_path: Path) -> None:
    model = taught(experts=(line(), Says({True: 2.0})))
    with pytest.raises(ValueError, match="the expert 'Pipeline' has no to_bytes") as told:
        model.save(tmp_path / "model")
    assert "copy.deepcopy" in str(told.value)
    assert not (tmp_path / "model").exists()
    copied = copy.deepcopy(model)
    assert copied.expert_faults() == model.expert_faults() == {
        "Pipeline": (0, ""), "Says": (80, model.expert_faults()["Says"][1]),
    }  # fmt: skip
    same(pickle.loads(pickle.dumps(model)), copied)
    fresh = model.clone()
    assert fresh.counters()["labels"] == 0
    assert fresh.predict_proba_one({"n": 1}) == {}
    same(fresh, small(experts=(line(), Says({True: 2.0}))))


def test_a_learner_with_models_that_can_be_saved_goes_on_to_the_bit(tmp_path: Path) -> None:
    def given() -> tuple[Any, ...]:
        one = Expert(linear_model.LogisticRegression(), name="line", to_bytes=written, from_bytes=read)
        trusted = Expert(tree.HoeffdingTreeClassifier(), to_bytes=pickle.dumps, from_bytes=pickle.loads)
        return one, trusted

    model = taught(experts=given())
    model.save(tmp_path / "model")
    again = OnlineClassifier.load(tmp_path / "model", experts=given())
    revived = model.again(*model.state())
    same(again, revived)
    for experts, found in ((None, "no model of the caller's own is given"), (given()[:1], "'line' is given")):
        with pytest.raises(CheckpointError, match=found):
            OnlineClassifier.load(tmp_path / "model", experts=experts)
    unread = (given()[0], Expert(tree.HoeffdingTreeClassifier()))
    with pytest.raises(CheckpointError, match="the expert 'HoeffdingTreeClassifier' has no from_bytes"):
        OnlineClassifier.load(tmp_path / "model", experts=unread)


def test_a_loop_goes_on_from_its_snapshot_with_the_models_it_was_given() -> None:
    def given() -> tuple[Expert, ...]:
        return (Expert(linear_model.LogisticRegression(), name="line", to_bytes=written, from_bytes=read),)

    def shard(model: OnlineClassifier) -> Shard:
        return Shard(model, PrequentialMetrics("classification"), PendingForecasts(JoinLimits()))

    before, after = shard(taught(experts=given())), shard(small(experts=given()))
    after.restore(*before.state())
    assert after.model.expert_weights()["line"] != 0.0
    same(after.model, before.model)


def test_bytes_are_expected_of_to_bytes() -> None:
    model = small(experts=(Expert(Says({}), to_bytes=repr),))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="to_bytes of the expert 'Says' gave a str"):
        model.state()


def test_names_tell_the_models_apart() -> None:
    model = small(experts=[Says({}), Says({}), Expert(Says({}), name="third")])
    assert list(model.expert_faults()) == ["Says", "Says 2", "third"]
    assert [name for name in model.expert_weights() if "Says" in name] == ["Says", "Says 2"]
    with pytest.raises(ValueError, match="experts holds one named 'trees', as another expert is"):
        small(experts=(Expert(Says({}), name="trees"),))


@pytest.mark.parametrize("given", [(3,), (Says,), (preprocessing.StandardScaler(),)])
def test_what_is_no_model_is_refused(given: Any) -> None:
    with pytest.raises(
        ValueError, match="expected a model with learn_one and predict_proba_one, made already"
    ):
        small(experts=given)


@pytest.mark.parametrize("given", ["tree", Says({}), {"a": Says({})}])
def test_experts_are_a_tuple_or_list(given: Any) -> None:
    with pytest.raises(ValueError, match="expected a tuple of models"):
        small(experts=given)


def test_rivers_checks_pass_with_a_model_of_rivers_inside() -> None:
    checks.check_estimator(small(experts=(naive_bayes.GaussianNB(),)))


def test_a_model_takes_memory() -> None:
    assert taught(experts=(line(),)).memory_bytes() > taught().memory_bytes()
