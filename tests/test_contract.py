"""The contract of OnlineClassifier and OnlineRegressor: what every caller may rely on, to the bit."""

from __future__ import annotations

import copy
import pickle
import threading
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import OnlineClassifier, OnlineRegressor, arrays, kernels, state
from tests.small_models import (
    as_array,
    classifier,
    contents,
    described,
    finite,
    one_by_one,
    regressor,
    row,
    streams,
)


def colours(n: int, seed: int = 0) -> list[tuple[dict[str, Any], str]]:
    """A stream of dicts with numbers, booleans and categories, and three classes."""
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(n):
        a, b = rng.normal(size=2)
        x = {"a": float(a), "b": float(b), "up": bool(a > b), "colour": "rgb"[int(rng.integers(3))]}
        out.append((x, "low" if a + b < -0.5 else "high" if a > b else "middle"))
    return out


# -- what a forecast is --------------------------------------------------------------------------------------


def test_probabilities_are_empty_before_the_first_label_and_sum_to_one_after() -> None:
    model = classifier()
    for i, (x, y) in enumerate(colours(120)):
        p = model.predict_proba_one(x)
        if i == 0:
            assert p == {}
            assert model.predict_one(x) is None
        else:
            assert sum(p.values()) == pytest.approx(1.0, abs=1e-12)
            assert all(v >= 0.0 for v in p.values())
            assert model.predict_one(x) == max(p, key=lambda label: p[label])
        assert model.learn_one(x, y) is None


def test_classes_follow_first_appearance_and_their_columns_never_move() -> None:
    model = classifier()
    y = ["b", "b", "a", "b", "c", "a"]
    X = np.arange(12.0).reshape(6, 2)
    p = model.test_then_train(X, y)
    assert model.classes_ == ("b", "a", "c")
    assert p.shape == (6, 3)
    assert p.dtype == np.float64
    assert not p[0].any()
    assert not p[:3, 1].any()
    assert not p[:5, 2].any()
    np.testing.assert_allclose(p[1:].sum(axis=1), 1.0)
    more = model.test_then_train(X, ["d", "c", "b", "a", "d", "b"])
    assert model.classes_ == ("b", "a", "c", "d")
    assert not more[0, 3]
    assert model.predict_proba(X).shape == (6, 4)
    assert list(model.predict_proba_one({0: 1.0})) == ["b", "a", "c", "d"]


def test_nothing_is_forecast_for_a_batch_before_the_first_label() -> None:
    model = classifier()
    assert model.predict_proba(np.ones((3, 2))).shape == (3, 0)
    assert model.test_then_train(np.ones((1, 2)), ["a"]).tolist() == [[0.0]]


@pytest.mark.parametrize("label", [3, -1, "text", True, ("a", 1), 2.5])
def test_labels_of_many_types_come_back_as_they_were_given(label: Any) -> None:
    model = classifier()
    model.learn_one({"x": 1.0}, label)
    found = model.predict_one({"x": 1.0})
    assert found == label
    assert type(found) is type(label)


def test_numpy_labels_become_pythons_own() -> None:
    model = classifier()
    model.test_then_train(np.ones((2, 1)), np.array([4, 9], np.int32))
    assert [type(label) for label in model.classes_] == [int, int]
    other = classifier()
    other.learn_one({"x": 1.0}, np.str_("yes"))
    assert type(other.classes_[0]) is str


@pytest.mark.parametrize("make", [classifier, regressor])
@pytest.mark.parametrize("history", [False, True])
def test_forecasting_changes_nothing(make: Any, history: bool) -> None:
    model = make(keys=("colour", ("colour", "up")), label_history=history)
    stream = colours(60)
    for i, (x, y) in enumerate(stream):
        model.learn_one(x, y if make is classifier else float(len(y)), time=60.0 * i, id=i)
    before = contents(model)
    strange = {"new": 1.0, "a": float("inf"), "b": None, "colour": "violet", 3: np.ones((2, 2)), "up": "text"}
    for x in (stream[3][0], {}, strange):
        model.forecast_one(x, id=7, time=1e9)
        model.predict_one(x)
        model.explain_one(x)
        model.explain_one(x, time=4_000.0)
        if make is classifier:
            model.predict_proba_one(x)
    model.expert_weights(), model.counters(), model.networks()
    (model.predict_proba if make is classifier else model.predict)(
        np.full((5, 9), np.nan), times=np.arange(5.0)
    )
    assert contents(model) == before


# -- two ways in, one result ---------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(data=streams(), history=st.booleans(), context=st.booleans())
def test_arrays_in_any_chunks_and_dicts_give_the_same_forecasts_to_the_bit(
    data: dict[str, Any], history: bool, context: bool
) -> None:
    X, y, times, w = data["X"], data["y"], data["times"], data["w"]
    options = {"keys": data["keys"], "label_history": history, "context": context}
    a, b, c = (classifier(**options) for _ in range(3))
    whole = a.test_then_train(X, y, times=times, w=w)
    singly = as_array(one_by_one(b, X, y, times, w), b.classes_)
    assert a.classes_ == b.classes_
    assert whole.tobytes() == singly.tobytes()
    assert contents(a)["tally"] == contents(b)["tally"]
    spare = {"key_rates.total", "key_rates.time"}  # how much room is kept ready may differ
    assert {k: v for k, v in contents(a).items() if k not in spare} == {
        k: v for k, v in contents(b).items() if k not in spare
    }
    bounds = [0, *data["cuts"], len(X)]
    for start, end in pairwise(bounds):
        said = c.test_then_train(
            X[start:end], y[start:end], times=None if times is None else times[start:end],
            w=None if w is None else w[start:end],
        )  # fmt: skip
        assert said.tobytes() == np.ascontiguousarray(whole[start:end, : said.shape[1]]).tobytes()
        assert not whole[start:end, said.shape[1] :].any()
    assert c.predict_proba(X, times=times).tobytes() == a.predict_proba(X, times=times).tobytes()
    later = [
        a.predict_proba_one(row(x), time=None if times is None else float(t))
        for x, t in zip(X, times if times is not None else np.zeros(len(X)), strict=True)
    ]
    assert as_array(later, a.classes_).tobytes() == a.predict_proba(X, times=times).tobytes()


@settings(max_examples=30, deadline=None)
@given(data=streams(labels=False), history=st.booleans())
def test_a_regressors_arrays_in_any_chunks_and_dicts_agree_to_the_bit(
    data: dict[str, Any], history: bool
) -> None:
    X, y, times, w = data["X"], data["y"], data["times"], data["w"]
    a, b, c = (regressor(keys=data["keys"], label_history=history) for _ in range(3))
    whole = a.test_then_train(X, y, times=times, w=w)
    assert whole.shape == (len(X),)
    assert whole.dtype == np.float64
    assert whole.tobytes() == np.array(one_by_one(b, X, y, times, w)).tobytes()
    bounds = [0, *data["cuts"], len(X)]
    parts = [
        c.test_then_train(
            X[s:e], y[s:e], times=None if times is None else times[s:e], w=None if w is None else w[s:e]
        )
        for s, e in pairwise(bounds)
    ]
    assert np.concatenate(parts).tobytes() == whole.tobytes()
    assert c.predict(X, times=times).tobytes() == b.predict(X, times=times).tobytes()


@settings(max_examples=40, deadline=None)
@given(
    parts=st.lists(
        st.one_of(st.integers(1, 300), st.tuples(st.integers(0, 60), st.integers(0, 60))), max_size=8
    ),
    keys=st.sampled_from([None, (0,)]),
    known=st.sampled_from(["ids", "times", "both", "neither"]),
    wide=st.booleans(),
)
def test_arrays_keep_id_time_and_keys_of_every_stored_event_as_single_events_do(
    parts: list[Any], keys: Any, known: str, wide: bool
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(state, "NEAR_EVENTS", 256)
        patch.setattr(state, "CONTEXT_EVENTS", 128)
        patch.setattr(arrays, "CHUNK", 150)
        budget = 1 << 20
        a, b = (classifier(layers=1, width=2, keys=keys, memory_budget=budget) for _ in range(2))
        i = 0
        for part in parts:
            if isinstance(part, tuple):
                assert a.forget(part[0]) == b.forget(part[0])
                continue
            n = np.arange(i, i + part)
            i += part
            X = np.column_stack([n % 5, n % 7]).astype(float)
            ids = [int(j) % 61 if j % 4 else None for j in n] if known in ("ids", "both") else None
            times = np.where(n % 3, 10.0 * n, np.nan) if known in ("times", "both") else None
            w = (n % 11 > 0).astype(float)
            a.test_then_train(X, n % 2, times=times, w=w, ids=ids)
            for j, at in enumerate(n):
                when = None if times is None or np.isnan(times[j]) else float(times[j])
                b.learn_one(row(X[j]), int(at) % 2, w[j], id=ids and ids[j], time=when)
            if wide:  # many features at once: there are kept examples after a while
                for model in (a, b):
                    model.learn_one({f"n{k}": 1.0 for k in range(1_400)}, 0, id="wide")
        assert described(a) == described(b)
        stored = set(a._core.stored().tolist())
        found = set(a.state()[0]["experience.serial"].tolist())
        assert found <= stored
        if keys:
            assert found == stored
        if known in ("ids", "both"):
            before = a.counters()["experiences"]
            assert before == sum(a.forget(j) for j in [*range(61), "wide"]) + a.counters()["experiences"]
            assert all(e["id"] is None for e in a.explain_one({0: 1.0, 1: 1.0})["recalled"])


@pytest.mark.parametrize("concepts", [True, False])
def test_an_event_that_trees_alone_still_hold_is_forgotten(concepts: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(state, "NEAR_EVENTS", 256)
        patch.setattr(state, "CONTEXT_EVENTS", 128)
        patch.setattr(state, "TREE_EVENTS", 600)
        model = classifier(concepts=concepts)
        X = np.random.default_rng(0).normal(size=(1_000, 2))
        model.test_then_train(X, X[:, 0] > 0, ids=[f"e{i}" for i in range(1_000)])
        core = model._core
        assert (
            core.state.near.serial.min() > 500
        )  # neighbours hold the last 256, the early tree the first 200,
        assert core.state.forest.place[1] == 400  # trees the last 600, and what is not overwritten yet
        assert core.stored().tolist() == [*range(200), *range(250, 1_000)]
        assert model.counters()["experiences"] == 950
        for number, times in ((150, 1), (220, 0), (300, 1), (500, 1), (900, 1)):
            assert model.forget(f"e{number}") == times
            assert model.forget(f"e{number}") == 0
            assert number not in core.stored()
        values = X[[150, 300, 500, 900]].astype(np.float32)
        held = model.state()[0]
        for name in ("forest.x", "early.x"):
            assert not any((held[name] == value).any() for value in values.ravel()), name
        assert model.counters()["experiences"] == 946


def test_events_learned_from_arrays_are_explained_and_forgotten_by_id() -> None:
    model = classifier(keys=(0,))
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(50, 2)).round(), rng.integers(0, 2, 50)
    model.test_then_train(X, y, times=60.0 * np.arange(50.0), ids=np.arange(100, 150))
    recalled = model.explain_one(row(X[7]), time=3_000.0)["recalled"]
    assert recalled
    for found in recalled:
        i = found["id"] - 100
        assert found["time"] == 60.0 * i
        assert found["keys"] == [X[i, 0]]
        assert found["label"] == y[i]
    assert model.forget(107) == 1
    assert model.counters()["experiences"] == 49
    numbers = regressor()
    numbers.test_then_train(X, y, ids=[f"row {i}" for i in range(50)])
    assert numbers.forget("row 3") == 1


def test_where_nothing_is_known_of_events_arrays_keep_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = classifier()
    monkeypatch.setattr(arrays, "experiences", None)  # would fail if called
    model.test_then_train(np.random.default_rng(0).normal(size=(300, 2)), np.arange(300) % 2)
    assert len(model.state()[0]["experience.serial"]) == 0


def test_the_length_of_inner_chunks_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(200, 3)), rng.integers(0, 3, 200)
    whole = classifier().test_then_train(X, y)
    for chunk in (1, 7, 64):
        monkeypatch.setattr(arrays, "CHUNK", chunk)
        assert classifier().test_then_train(X, y).tobytes() == whole.tobytes()


@pytest.mark.parametrize("shape", [(30, 3, 4), (30, 3, 4, 2)])
def test_an_image_per_row_is_the_dict_with_the_image_under_0(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(1)
    X = rng.random(shape).astype(np.float32)
    y = rng.integers(0, 2, len(X)).tolist()
    a, b = classifier(), classifier()
    said = a.test_then_train(X, y)
    assert said.tobytes() == as_array(one_by_one(b, X, y), b.classes_).tobytes()
    assert (
        np.asfortranarray(said).tobytes()
        == np.asfortranarray(classifier().test_then_train(np.asfortranarray(X), y)).tobytes()
    )
    assert (
        a.predict_proba(X[:2]).tobytes()
        == as_array([b.predict_proba_one({0: x}) for x in X[:2]], b.classes_).tobytes()
    )


@pytest.mark.parametrize("names", [range(12), np.arange(12)])
def test_new_names_take_places_by_type_and_name_whatever_the_order_in_the_event(names: Any) -> None:
    rng = np.random.default_rng(2)
    X, y = rng.normal(size=(40, 12)), rng.integers(0, 2, 40).tolist()
    a, b = classifier(), classifier()
    order = rng.permutation(12)
    for x, label in zip(X, y, strict=True):
        b.learn_one({names[j]: float(x[j]) for j in order}, label)
    a.test_then_train(X, y)
    assert a.predict_proba(X).tobytes() == b.predict_proba(X).tobytes()


def test_one_compiled_kernel_serves_every_way_in() -> None:
    X = np.random.default_rng(0).normal(size=(20, 3))
    y = (X[:, 0] > 0).tolist()
    for model in (classifier(keys=(0,), label_history=True), classifier()):
        times, w = np.arange(20.0), np.ones(20)
        times.flags.writeable = w.flags.writeable = X.flags.writeable = False
        model.test_then_train(X, y, times=times, w=w)
        model.predict_proba(np.asfortranarray(X)[::2], times=times[::2])
        model.learn_one({"a": 1, "b": "text"}, True)
    regressor().test_then_train(X, X[:, 0], times=times, w=w)
    assert len(kernels.run.signatures) == 1


# -- late labels ---------------------------------------------------------------------------------------------


def test_learn_one_is_forecast_then_observe_then_learn() -> None:
    a, b, c, d = (classifier(keys=("colour",)) for _ in range(4))
    for i, (x, y) in enumerate(colours(80)):
        a.learn_one(x, y, 2.0, id=i, time=60.0 * i)
        kept = b.forecast_one(x, id=i, time=60.0 * i)
        b.observe(kept)
        b.learn(kept, y, 2.0)
        c.learn(c.forecast_one(x, id=i, time=60.0 * i), y, 2.0)
        d.predict_one(x, time=60.0 * i)
        d.learn_one(x, y, 2.0, id=i, time=60.0 * i)
        d.predict_one(x)
    assert contents(a) == contents(b) == contents(c) == contents(d)


def test_observing_twice_is_observing_once() -> None:
    a, b = classifier(), classifier()
    for x, y in colours(30):
        kept, other = a.forecast_one(x), b.forecast_one(x)
        a.observe(kept)
        a.observe(kept)
        b.observe(other)
        a.learn(kept, y)
        b.learn(other, y)
        a.observe(kept)
    assert contents(a) == contents(b)
    assert a.counters()["events"] == a.counters()["labels"] == 30


def test_a_kept_forecast_is_its_owners_alone() -> None:
    model, other = classifier(), classifier()
    stream = colours(20)
    for x, y in stream:
        model.learn_one(x, y)
        other.learn_one(x, y)
    x = stream[0][0]
    kept = model.forecast_one(x, id="first")
    model.learn_one(dict(x), "low", id="second")
    assert kept.id == "first"
    assert not kept.observed
    model.learn(kept, "high")
    first = other.forecast_one(x, id="first")
    second = other.forecast_one(x, id="second")
    other.learn(second, "low")
    other.learn(first, "high")
    assert contents(model) == contents(other)
    assert model.counters()["events"] == 22


def test_an_array_changed_between_forecast_and_label_is_read_anew() -> None:
    a, b = classifier(), classifier()
    picture = np.zeros((2, 2))
    a.learn_one({"p": picture}, 0)
    b.learn_one({"p": picture}, 0)
    a.predict_one({"p": picture})
    picture[:] = 5.0
    a.learn_one({"p": picture}, 1)
    b.learn_one({"p": np.full((2, 2), 5.0)}, 1)
    assert contents(a) == contents(b)


def play(model: Any, moves: list[tuple[str, int]], stream: list[Any], kept: dict[int, Any]) -> list[Any]:
    """Forecast, observe or learn stream items in a given order; what was answered."""
    said = []
    for move, i in moves:
        x, y = stream[i % len(stream)]
        target = y if isinstance(model, OnlineClassifier) else float(len(y))
        if move == "new":
            kept[i] = model.forecast_one(x | {f"only in {i % 5}": 1.0}, id=i, time=30.0 * i)
            said.append(model.predict_one(x))
        elif move == "observe" and i in kept:
            model.observe(kept[i])
        elif move == "learn" and i in kept:
            model.learn(kept.pop(i), target, 1.0 + i % 2)
        elif move == "now":
            model.learn_one(x, target, id=i, time=30.0 * i)
    return said


moves = st.lists(
    st.tuples(st.sampled_from(["new", "new", "observe", "learn", "now"]), st.integers(0, 15)), max_size=40
)
ways = st.sampled_from(["save", "pickle", "deepcopy", "state"])


def carried(model: Any, kept: dict[int, Any], way: str, path: Path) -> tuple[Any, dict[int, Any]]:
    """The same learner and its pending forecasts after a round trip."""
    arrays_, meta = model.pack(list(kept.values()))
    if way == "save":
        model.save(path)
        copied = type(model).load(path)
    elif way == "pickle":
        copied = pickle.loads(pickle.dumps(model))
    elif way == "deepcopy":
        copied = copy.deepcopy(model)
    else:
        copied = type(model).from_state(*model.state())
    return copied, dict(zip(kept, copied.unpack(arrays_, meta), strict=True))


@settings(max_examples=50, deadline=None)
@given(
    before=moves, after=moves, way=ways, make=st.sampled_from([classifier, regressor]), history=st.booleans()
)
def test_a_copy_goes_on_to_the_bit_in_the_middle_of_a_stream_with_labels_pending(
    before: list[Any],
    after: list[Any],
    way: str,
    make: Any,
    history: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    stream = colours(16)
    options = {"keys": ("colour", ("up", "colour")), "label_history": history}
    model, again = make(**options), make(**options)
    kept, kept_again = {}, {}
    play(model, before, stream, kept)
    play(again, before, stream, kept_again)
    assert contents(model) == contents(again)
    copied, pending = carried(model, kept, way, tmp_path_factory.getbasetemp() / "model")
    assert contents(copied) == contents(model)
    said = play(copied, after, stream, pending)
    assert said == play(model, after, stream, kept) == play(again, after, stream, kept_again)
    assert contents(copied) == contents(model) == contents(again)
    assert [f.proba for f in pending.values()] == [f.proba for f in kept.values()]


def test_a_kept_forecast_survives_features_classes_and_categories_that_appear_before_its_label() -> None:
    model = classifier(keys=("colour",))
    stream = colours(40)
    for x, y in stream[:20]:
        model.learn_one(x, "low" if y == "low" else "high")
    kept = model.forecast_one(stream[0][0] | {"sometimes": 2.0}, time=5.0)
    said = kept.proba
    for i, (x, y) in enumerate(stream[20:]):
        model.learn_one(
            x | {f"late {i}": 1.0, "shape": f"s{i}", "sometimes": 1.0}, y if i % 3 else f"class {i}"
        )
    model.learn(kept, "class 0")
    assert kept.proba == {label: pytest.approx(p) for label, p in said.items()}
    assert model.counters()["labels"] == 41
    assert sum(model.predict_proba_one(stream[0][0]).values()) == pytest.approx(1.0)
    assert finite(model)


def test_a_label_learned_from_a_kept_forecast_counts_as_much_as_one_learned_at_once() -> None:
    now, late = classifier(), classifier()
    stream = colours(400, seed=5)
    waiting: list[Any] = []
    right = [0, 0]
    for i, (x, y) in enumerate(stream):
        kept = late.forecast_one(x)
        late.observe(kept)
        waiting.append((kept, y))
        if len(waiting) > 10:
            late.learn(*waiting.pop(0))
        if i >= 200:
            right[0] += now.predict_one(x) == y
            right[1] += kept.proba and max(kept.proba, key=lambda label: kept.proba[label]) == y
        now.learn_one(x, y)
    assert right[0] > 150
    assert right[1] > right[0] - 20


# -- the rest ------------------------------------------------------------------------------------------------


def test_one_seed_gives_one_result_and_another_another() -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 3)), rng.integers(0, 2, 60)
    first, again, other = (classifier(seed=s).test_then_train(X, y) for s in (1, 1, 2))
    assert first.tobytes() == again.tobytes()
    assert first.tobytes() != other.tobytes()


def test_label_history_is_off_by_default_and_finds_runs_when_on() -> None:
    rng = np.random.default_rng(3)
    X = rng.normal(size=(600, 2))
    y = (np.arange(600) // 20) % 3
    right = {}
    for history in (None, False, True):
        model = classifier() if history is None else classifier(label_history=history)
        p = model.test_then_train(X, y)
        right[history] = float((p.argmax(axis=1) == y)[100:].mean())
    assert right[None] == right[False] < 0.6
    assert right[True] > 0.85


def test_without_label_history_the_order_of_past_labels_alone_changes_no_forecast_much() -> None:
    model = classifier()
    names = list(model.forecast_one({"x": 1.0}).expert_forecasts())
    assert not {"last label", "transitions"} & set(names)
    assert {"last label", "transitions"} <= set(
        classifier(label_history=True).forecast_one({}).expert_forecasts()
    )


def test_a_regressors_history_finds_a_wandering_target() -> None:
    rng = np.random.default_rng(4)
    X, y = rng.normal(size=(600, 2)), np.cumsum(rng.normal(size=600)) + 100.0
    error = {
        h: np.abs(regressor(label_history=h).test_then_train(X, y) - y)[200:].mean() for h in (False, True)
    }
    assert error[True] < 0.7 * error[False]


@pytest.mark.parametrize("make", [classifier, regressor])
def test_forget_removes_the_experiences_of_an_id_and_the_rest_goes_on(make: Any) -> None:
    model = make()
    stream = colours(50)
    for i, (x, y) in enumerate(stream):
        model.learn_one(x, y if make is classifier else float(len(y)), id=i % 10)
    kept = model.forecast_one(stream[0][0])
    before = model.counters()["experiences"]
    assert model.forget(3) == 5
    assert model.forget(3) == 0
    assert model.forget("never seen") == 0
    assert model.counters()["experiences"] == before - 5
    assert 3 not in {e["id"] for x, _ in stream for e in model.explain_one(x)["recalled"]}
    copied = type(model).from_state(*model.state())
    for learner in (model, copied):
        for i, (x, y) in enumerate(stream):
            learner.learn_one(x, y if make is classifier else float(len(y)), id=100 + i)
    model.learn(kept, "low" if make is classifier else 1.0)
    assert model.counters()["experiences"] == before - 5 + 51


def test_forgetting_finds_events_that_came_before_new_features_and_after() -> None:
    model = classifier()
    for i in range(30):
        model.learn_one({"a": i % 7, f"f{i % 20}": 1.0}, i % 2, id=i)
    assert [model.forget(i) for i in range(30)] == [1] * 30
    assert model.counters()["experiences"] == 0
    assert model.explain_one({"a": 1})["recalled"] == []
    assert sum(model.predict_proba_one({"a": 3}).values()) == pytest.approx(1.0)
    model.learn_one({"a": 3}, 1)


def test_what_is_explained_is_what_was_answered() -> None:
    model = classifier(keys=("colour",))
    stream = colours(60)
    for i, (x, y) in enumerate(stream):
        model.learn_one(x, y, id=f"event {i}", time=60.0 * i)
    found = model.explain_one(stream[7][0], time=3_600.0)
    assert found["forecast"] == model.predict_proba_one(stream[7][0], time=3_600.0)
    assert set(model.expert_weights()) == {expert["name"] for expert in found["experts"]}
    assert found["recalled"]
    for recalled in found["recalled"]:
        number = int(recalled["id"].removeprefix("event "))
        assert recalled["time"] == 60.0 * number
        assert recalled["label"] == stream[number][1]
        assert recalled["keys"] == [stream[number][0]["colour"]]
    for expert in found["experts"]:
        assert sum(expert["forecast"].values()) == pytest.approx(1.0)
    share = next(entry["share"] for entry in found["keys"] if entry["horizon"] == 3_600.0)
    assert sum(share.values()) == pytest.approx(1.0)


@settings(max_examples=60, deadline=None)
@given(
    make=st.sampled_from([classifier, regressor]),
    steps=st.lists(
        st.sampled_from(["learn", "many", "keep", "forget", "feature", "class", "wide"]), max_size=14
    ),
    seed=st.integers(0, 99),
)
def test_a_kept_forecast_never_names_an_experience_that_it_did_not_recall(
    make: Any, steps: list[str], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    kept: list[tuple[Any, set[Any]]] = []
    names = ("memory", "id", "learned_as", "label", "distance")
    i = 0

    def named(entries: list[dict[str, Any]]) -> set[Any]:
        return {tuple(entry[name] for name in names) for entry in entries}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(state, "NEAR_EVENTS", 256)
        patch.setattr(state, "CONTEXT_EVENTS", 128)
        model = make(layers=1, width=2, memory_budget=1 << 20)

        def learn(n: int, **more: float) -> None:
            nonlocal i
            for a in rng.normal(size=n).tolist():
                model.learn_one({"a": a} | more, int(a > 0), id=i)
                i += 1

        learn(40)
        for step in ["keep", *steps, "keep"]:
            if step == "keep":
                forecast = model.forecast_one({"a": float(rng.normal())})
                found = model.explain(forecast)
                assert found["recalled_lost"] == 0
                kept.append((forecast, named(found["recalled"])))
            elif step == "forget":
                assert model.forget(i - 10) <= 1
            elif step == "class":
                model.learn_one({"a": 0.0}, 2 + i, id=i)
                i += 1
            elif step == "wide":
                learn(1, **{f"wide {k}": 1.0 for k in range(1_400)})
            else:
                learn(
                    *{"learn": (3,), "many": (150,), "feature": (1,)}[step],
                    **({f"f{i}": 1.0} if step == "feature" else {}),
                )
            for forecast, known in kept:
                found = model.explain(forecast)
                assert named(found["recalled"]) <= known
                assert len(found["recalled"]) + found["recalled_lost"] == len(known) == 24
        if not set(steps) & {"forget", "many", "wide"}:
            model.learn(kept[0][0], 1)
            assert model.explain(kept[0][0])["recalled_lost"] == 0


def test_after_forgetting_a_kept_forecast_says_that_its_experiences_are_no_longer_known() -> None:
    model = classifier()
    for i in range(40):
        model.learn_one({"a": float(i % 7)}, i % 2, id=i)
    kept = model.forecast_one({"a": 3.0})
    assert model.forget("nobody") == 0
    assert len(model.explain(kept)["recalled"]) == 24
    assert model.forget(5) == 1
    assert model.explain(kept)["recalled"] == []
    assert model.explain(kept)["recalled_lost"] == 24
    again = type(model).from_state(*model.state())
    assert again.explain(again.unpack(*model.pack([kept]))[0])["recalled_lost"] == 24


@pytest.mark.parametrize("make", [classifier, regressor])
def test_calls_from_several_threads_are_serialised(make: Any) -> None:
    model = make(keys=("colour",))
    stream = colours(40)
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for i, (x, y) in enumerate(stream):
                target = y if make is classifier else float(len(y))
                kept = model.forecast_one(x | {f"of {number}": i}, id=i)
                model.predict_one(x)
                model.observe(kept)
                model.learn_one(x, target)
                model.learn(kept, target)
                if i % 10 == number:
                    copy.deepcopy(model)
                    model.explain_one(x)
                    model.forget(-1)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert model.counters()["events"] == model.counters()["labels"] == 4 * 80


def test_a_weight_of_zero_teaches_no_weights_and_a_weight_of_two_teaches_more() -> None:
    stream = colours(60)
    models = [classifier() for _ in range(3)]
    for model in models:
        for x, y in stream:
            model.learn_one(x, y)
    before = models[0].state()[0]
    for model, w in zip(models, (0.0, 1.0, 2.0), strict=True):
        model.learn_one(stream[0][0], "low", w)
    none, one, two = (model.state()[0] for model in models)
    for name in (
        "fast.W",
        "fast.V",
        "fast.b",
        "fast.c",
        "slow.W",
        "slow.V",
        "linear.weight",
        "linear.bias",
        "mixer.weight",
    ):
        assert np.array_equal(none[name], before[name]), name
        if np.abs(one[name] - before[name]).max() > 0:
            assert np.abs(two[name] - before[name]).sum() > 1.3 * np.abs(one[name] - before[name]).sum(), name
    assert not np.array_equal(one["fast.W"], before["fast.W"])


@pytest.mark.parametrize("make", [classifier, regressor])
@pytest.mark.parametrize("history", [False, True])
def test_a_label_of_weight_zero_teaches_nothing_its_event_is_observed(make: Any, history: bool) -> None:
    a, b, c = (make(keys=("colour",), label_history=history) for _ in range(3))
    late: dict[int, Any] = {}
    for i, (x, y) in enumerate(colours(80)):
        target = y if make is classifier else float(len(y))
        w = 0.0 if i >= 20 and i % 3 else 1.0
        a.learn_one(x, target, w, id=i, time=60.0 * i)
        kept, late[i] = (m.forecast_one(x, id=i, time=60.0 * i) for m in (b, c))
        b.observe(kept)
        c.observe(late[i])
        if w:
            b.learn(kept, target)
            c.learn(late[i], target)
    assert a.counters()["events"] == 80
    assert a.counters()["labels"] == a.counters()["experiences"] == 40
    for i, kept in late.items():
        if i >= 20 and i % 3:
            c.learn(kept, target, 0.0)
    for waiting in list(b._core.overdue.waiting):  # there these labels are still awaited
        b._core.overdue.drop(b._core.state.key_rates, b._core.sizes.outputs, waiting)
    assert contents(a) == contents(b) == contents(c)


def test_a_new_class_of_weight_zero_gets_its_column_and_no_more() -> None:
    a, b = classifier(), classifier()
    X = np.arange(12.0).reshape(6, 2)
    y, w = ["b", "a", "c", "a", "d", "b"], np.array([0.0, 1.0, 0.0, 1.0, 0.0, 0.0])
    whole = a.test_then_train(X, y, w=w)
    assert whole.tobytes() == as_array(one_by_one(b, X, y, w=w), b.classes_).tobytes()
    assert contents(a) == contents(b)
    assert a.classes_ == ("b", "a", "c", "d")
    assert a.counters()["labels"] == a.counters()["experiences"] == 2
    assert a.predict_one({0: 6.0, 1: 7.0}) == "a"


def test_a_weight_in_arrays_is_the_weight_of_learn_one() -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(50, 2)), rng.integers(0, 2, 50)
    plain = classifier().test_then_train(X, y)
    assert classifier().test_then_train(X, y, w=np.ones(50)).tobytes() == plain.tobytes()
    assert classifier().test_then_train(X, y, w=np.full(50, 2.0)).tobytes() != plain.tobytes()


def test_a_regressor_answers_in_the_targets_own_unit() -> None:
    rng = np.random.default_rng(6)
    X = rng.normal(size=(800, 3))
    y = 1e6 + 2e4 * X[:, 0]
    model = regressor()
    said = model.test_then_train(X, y)
    assert said.shape == (800,)
    assert said[0] == 0.0
    assert np.abs(said - y)[400:].mean() < 8e3
    assert model.predict(X[:5]).shape == (5,)
    assert isinstance(model.predict_one({0: 1.0, 1: 0.0, 2: 0.0}), float)
    assert abs(model.predict_one({0: 1.0, 1: 0.0, 2: 0.0}) - 1.02e6) < 1e4


def test_a_key_that_decides_the_outcome_is_found_and_named_fields_alone_are_counted() -> None:
    rng = np.random.default_rng(7)
    X = np.column_stack([rng.integers(1000, 1020, 1500), rng.normal(size=1500)]).astype(float)
    y = (X[:, 0] * 7 % 20 < 10) ^ (rng.random(1500) < 0.05)
    plain, keyed = classifier(neighbours=2), classifier(neighbours=2, keys=(0,))
    right = [
        ((m.test_then_train(X, y).argmax(axis=1) == [m.classes_.index(v) for v in y.tolist()])[300:]).mean()
        for m in (plain, keyed)
    ]
    assert right[1] > 0.85
    assert keyed.explain_one({0: 1003.0})["keys"]
    assert plain.explain_one({0: 1003.0})["keys"] == []


def test_a_key_is_the_same_in_every_way_it_can_be_written() -> None:
    model = classifier(keys=("shop",))
    for i in range(20):
        model.learn_one({"shop": 4}, i % 2, time=float(i))
    counts = [
        model.explain_one({"shop": shop}, time=20.0)["keys"][0]["labels"] for shop in (4, 4.0, np.int64(4))
    ]
    assert len(set(counts)) == 1
    assert model.explain_one({"shop": None})["keys"] == []
    assert model.explain_one({"shop": float("nan")})["keys"] == []
    assert model.explain_one({})["keys"] == []


def test_parameters_are_torch_tensors_over_live_storage() -> None:
    model = OnlineRegressor(layers=3, width=5)
    model.learn_one({"a": 1.0}, 2.0)
    tensors = model.networks()["fast"]
    assert tensors["b"].shape == (3, 5)
    before = tensors["b"].clone()
    for i in range(20):
        model.learn_one({"a": float(i)}, float(i))
    assert not bool((before == model.networks()["fast"]["b"]).all())


def test_a_label_at_once_and_one_after_another_question_teach_the_same_to_the_bit() -> None:
    rows = colours(200)
    models = [OnlineClassifier(seed=2, layers=2, width=8) for _ in range(3)]
    for x, y in rows:
        at_once, asked_again, kept_apart = models
        at_once.learn(at_once.forecast_one(x), y)
        kept = asked_again.forecast_one(x)
        asked_again.predict_proba_one(rows[0][0])  # the layers have spoken of another event since
        asked_again.learn(kept, y)
        kept = kept_apart.forecast_one(x)
        kept_apart.observe(kept)
        kept_apart.learn(kept, y)
    first = models[0].state()[0]
    for model in models[1:]:
        for name, array in model.state()[0].items():
            assert np.array_equal(array, first[name], equal_nan=True), name


@pytest.mark.parametrize("w", [0.01, 100.0, 1_000.0])
def test_a_weight_that_all_events_have_matters_little(w: float) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 2))
    y = X[:, 0] - 0.5 * X[:, 1]
    errors = []
    for weight in (1.0, w):
        said = OnlineRegressor(seed=0).test_then_train(X, y, w=np.full(400, weight))
        errors.append(float(np.abs(said - y)[200:].mean()))
    assert errors[1] < 2.0 * errors[0] + 0.05


def test_a_forecast_is_learned_once() -> None:
    model = classifier()
    kept = model.forecast_one({"a": 1.0}, id="first")
    model.learn(kept, True)
    before = contents(model)
    with pytest.raises(ValueError, match=r"'first'.*learned before.*forecast_one"):
        model.learn(kept, True)
    assert contents(model) == before
    refused = model.forecast_one({"a": 1.0})
    with pytest.raises(ValueError, match="label"):
        model.learn(refused, float("nan"))
    model.learn(refused, False)
    assert model.counters()["labels"] == 2


def test_categorical_fields_past_a_bound_share_places_and_are_still_told_apart() -> None:
    model = classifier(max_features=10)
    for i in range(60):
        model.learn_one({f"field {i}": "x"}, i % 2 == 0)
    widths = model.networks()["fast"]["W"].shape
    for i in range(60, 120):
        model.learn_one({f"field {i}": "x"}, i % 2 == 0)
    assert model.networks()["fast"]["W"].shape == widths
    names = [{f"field {i}": "x", f"field {i + 1}": "y"} for i in range(100, 110)]
    for x in names:
        assert model.predict_proba_one(x) == model.predict_proba_one(dict(reversed(x.items())))


def test_long_texts_are_kept_short_and_told_apart(tmp_path: Path) -> None:
    model = classifier()
    for i in range(60):
        model.learn_one({"line": "x" * 90_000 + str(i % 2)}, i % 2 == 0)
    assert model.predict_one({"line": "x" * 90_000 + "1"}) is False
    assert model.predict_one({"line": "x" * 90_000 + "0"}) is True
    model.save(tmp_path / "model")
    assert (tmp_path / "model").stat().st_size < 20 << 20
    assert len(str(model.state()[1]["fields"])) < 10_000
