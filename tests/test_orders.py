"""Whatever way calls are interleaved and copied, a learner ends as one that was told the same plainly."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import OnlineClassifier, arrays, state
from tests.small_models import classifier, contents, regressor, row

VALUES: list[Any] = [
    0.5, -3.0, 1e9, float("nan"), float("inf"), None, True, 4, 10**70, "red", "blue", "", np.float32(0.25),
    np.int64(3), np.bool_(False), np.str_("red"), 1e-300,
]  # fmt: skip
NAMES: list[Any] = ["a", "b", "shop", "colour", 0, 1, 2, True, ("pair", 1), 2.5, "10"]
IMAGE = [np.arange(4.0).reshape(2, 2), np.full((2, 2), np.nan), [1.0, 2.0], (3, 4, 5)]
KEYED: list[Any] = [None, ("shop",), ("shop", ("shop", "colour"), 0)]

events = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(VALUES), max_size=6)


@st.composite
def programs(draw: st.DrawFn) -> list[tuple[Any, ...]]:
    """Calls, each a name with what it is told."""
    number = st.integers(0, 9)
    times = st.one_of(st.none(), st.sampled_from([0.0, 60.0, 61.0, 900.0, 5_000.0, -40.0, 1e6]))
    weights = st.sampled_from([1.0, 1.0, 0.0, 2.5])
    event = st.builds(
        lambda x, picture: x | picture,
        events,
        st.sampled_from([{}, {}, {}, *({"image": im} for im in IMAGE)]),
    )
    call = st.one_of(
        st.tuples(st.just("look"), event, times),
        st.tuples(st.just("keep"), event, times, number),
        st.tuples(st.just("observe"), number),
        st.tuples(st.just("learn"), number, number, weights),
        st.tuples(st.just("now"), event, times, number, number, weights, st.integers(0, 3)),
        st.tuples(
            st.just("array"), st.integers(1, 12), st.integers(1, 3), times, st.integers(0, 999), weights
        ),
        st.tuples(st.just("run"), st.integers(10, 60), st.integers(0, 999), st.sampled_from([3, 20, 90])),
        st.tuples(st.just("images"), st.integers(1, 6), st.integers(0, 999)),
        st.tuples(st.just("forget"), number),
        st.tuples(st.just("copy"), st.sampled_from(["save", "pickle", "deepcopy", "state", "clone"])),
    )
    return draw(st.lists(call, min_size=1, max_size=25))


def target_of(model: Any, number: int) -> Any:
    """A label, common ones more often than rare ones; or a number."""
    return "nnnnyyymzq"[number] if isinstance(model, OnlineClassifier) else number / 3.0 - 1.0


def copied(model: Any, kept: dict[int, Any], way: str, path: Path) -> tuple[Any, dict[int, Any]]:
    """The learner and its kept forecasts after a round trip."""
    packed = model.pack(list(kept.values()))
    if way == "save":
        model.save(path)
        model = type(model).load(path)
    elif way == "pickle":
        model = pickle.loads(pickle.dumps(model))
    elif way == "deepcopy":
        model = copy.deepcopy(model)
    elif way == "clone":
        model = model.clone(include_attributes=True)
    else:
        model = type(model).from_state(*model.state())
    return model, dict(zip(kept, model.unpack(*packed), strict=True))


def plainly(model: Any, x: Any, time: Any, id: Any, target: Any, w: float) -> Any:
    """Forecast, observe, learn; what was said."""
    kept = model.forecast_one(x, id=id, time=time)
    said = kept.proba if isinstance(model, OnlineClassifier) else kept.value
    model.observe(kept)
    model.learn(kept, target, w)
    return said


def shuffled(x: dict[Any, Any], rng: np.random.Generator) -> dict[Any, Any]:
    """The same event with its names in another order."""
    names = list(x)
    return {names[i]: x[names[i]] for i in rng.permutation(len(names))}


@settings(max_examples=400, deadline=None)
@given(
    program=programs(),
    make=st.sampled_from([classifier, regressor]),
    keys=st.sampled_from(KEYED),
    history=st.booleans(),
    narrow=st.booleans(),
    order=st.one_of(st.none(), st.integers(0, 99)),
)
def test_calls_in_any_interleaving_end_as_the_same_told_plainly(
    program: list[tuple[Any, ...]], make: Any, keys: Any, history: bool, narrow: bool, order: int | None,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:  # fmt: skip
    path = tmp_path_factory.getbasetemp() / "ordered"
    mix = None if order is None else np.random.default_rng(order)
    options = {
        "keys": keys,
        "label_history": history,
        "max_features": 12 if narrow else 4_096,
        "horizons": (60.0, 900.0),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(state, "NEAR_EVENTS", 128)
        patch.setattr(state, "CONTEXT_EVENTS", 128)
        patch.setattr(arrays, "CHUNK", 5)
        model, plain = make(**options), make(**options)
        kept: dict[int, Any] = {}
        waiting: dict[int, Any] = {}
        for step in program:
            name, *told = step
            x = told[0]
            if mix is not None and isinstance(x, dict):
                x = shuffled(x, mix)
            if name == "look":
                model.forecast_one(x, time=told[1])
                model.explain_one(x, time=told[1])
                model.predict_one(x)
                if make is classifier:
                    model.predict_proba(np.ones((2, 3)))
            elif name == "keep":
                kept[told[2]] = model.forecast_one(x, id=told[2], time=told[1])
                waiting[told[2]] = plain.forecast_one(told[0], id=told[2], time=told[1])
            elif name == "observe" and x in kept:
                model.observe(kept[x])
                plain.observe(waiting[x])
            elif name == "learn" and x in kept:
                target = target_of(model, told[1])
                model.learn(kept.pop(x), target, told[2])
                other = waiting.pop(x)
                plain.observe(other)
                plain.learn(other, target, told[2])
            elif name == "now":
                _, time, id, number, w, way = told
                target = target_of(model, number)
                if way == 0:
                    model.learn_one(x, target, w, id=id, time=time)
                elif way == 1:
                    model.predict_one(x, time=time)
                    model.learn_one(x, target, w, id=id, time=time)
                elif way == 2:
                    model.learn(model.forecast_one(x, id=id, time=time), target, w)
                else:
                    plainly(model, x, time, id, target, w)
                plainly(plain, told[0], time, id, target, w)
            elif name == "array" or (name == "images" and keys != KEYED[2]):  # an image is no key
                n = told[0]
                rng = np.random.default_rng(told[-2] if name == "array" else told[-1])
                shape = (n, told[1]) if name == "array" else (n, 2, 2)
                X = rng.normal(size=shape).round()
                X[rng.random(shape) < 0.2] = np.nan
                targets = [target_of(model, int(number)) for number in rng.integers(0, 10, n)]
                times = None if name == "images" or told[2] is None else told[2] + 30.0 * np.arange(n)
                ids = rng.integers(0, 10, n).tolist()
                w = np.where(rng.random(n) < 0.3, told[-1], 1.0) if name == "array" else np.ones(n)
                model.test_then_train(X, targets, times=times, w=w, ids=ids)
                for i in range(n):
                    plainly(plain, row(X[i]), None if times is None else times[i], ids[i], targets[i], w[i])
            elif name == "run":
                rng = np.random.default_rng(told[1])
                for i in range(told[0]):
                    width = int(rng.integers(told[2]))
                    x = {f"f{j}": float(rng.normal()) for j in rng.integers(0, told[2], width)}
                    x |= {
                        name: "rgbcmyk"[int(rng.integers(7)) // 2]
                        for name in ("colour", "shop")
                        if rng.random() < 0.8
                    }
                    target, time, w = (
                        target_of(model, int(rng.integers(10))),
                        45.0 * i,
                        float(rng.integers(3)),
                    )
                    one, other = (
                        model.forecast_one(x, id=i, time=time),
                        plain.forecast_one(x, id=i, time=time),
                    )
                    plain.observe(other)
                    if i % 3 == 0 and i // 3 < 10:  # the label comes later, or never
                        model.observe(one)
                        kept[i // 3], waiting[i // 3] = one, other
                        continue
                    model.learn_one(dict(x), target, w, id=i, time=time)
                    plain.learn(other, target, w)
            elif name == "forget":
                assert model.forget(x) == plain.forget(x)
            elif name == "copy":
                model, kept = copied(model, kept, x, path)
            for event in ({}, {"a": 1.0, "colour": "red", "shop": 4}, {0: 1.0, 1: 0.0}):
                one, other = (m.forecast_one(event, time=1_000.0) for m in (model, plain))
                assert one.answers().tobytes() == other.answers().tobytes(), step
                if make is classifier:
                    assert one.proba == other.proba
        for one, other in zip(kept.values(), waiting.values(), strict=True):
            assert one.answers().tobytes() == other.answers().tobytes()
        if mix is None:
            spare = {"key_rates.total", "key_rates.time", "category_rates.total", "category_rates.time"}
            one, other = contents(model), contents(plain)
            for name in one:
                if name not in spare:
                    assert one[name] == other[name], name
