"""Labelled events that are learned together: the same to the bit as one after the other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from engine import OnlineClassifier, OnlineRegressor
from engine.evaluate.metrics import PrequentialMetrics
from engine.shard import TOGETHER, Shard
from streams.event import Event, Label, Malformed, Position, Record
from streams.join import PendingForecasts
from streams.join_limits import JoinLimits


def some_records(seed: int, n: int, *, regression: bool) -> list[Record]:
    """Numbers, categories, keys and names old and new, labels inside, late, missing, twice and unusable."""
    rng = np.random.default_rng(seed)
    items: list[Any] = []
    waits: list[str] = []
    for i in range(n):
        x: dict[str, Any] = {"a": float(rng.normal()), "b": int(rng.integers(5)), "c": bool(rng.integers(2))}
        y: Any = float(x["a"] + x["b"]) if regression else ["low", "high"][int(x["a"] + x["b"] > 2)]
        if rng.random() < 0.8:
            x["shop"] = f"s{int(rng.zipf(1.5)) % 40}"
        if rng.random() < 0.1:
            x["colour"] = str(rng.choice(["red", "green", "blue"]))
        if rng.random() < 0.02:
            x[f"new{int(rng.integers(9))}"] = 1.0
        if rng.random() < 0.05:
            x["a"] = float(rng.choice([np.nan, np.inf]))
        if rng.random() < 0.01:
            x["a"] = {"no": "number"}
        if not regression and rng.random() < 0.01:
            y = f"class{int(rng.integers(3))}"
        if rng.random() < 0.01:
            y = None if regression else float("nan")
        weight = float(rng.choice([1.0, 0.0, 2.5], p=[0.9, 0.03, 0.07]))
        time = float(i) + float(rng.choice([0.0, -500.0, 1e7], p=[0.96, 0.02, 0.02]))
        id = f"e{i if rng.random() > 0.02 else max(0, i - 5)}"
        kind = rng.random()
        if kind < 0.1 and waits:
            items.append(Label(id=waits.pop(0), time=time, label=y if y is not None else 0))
        elif kind < 0.11:
            items.append(Malformed(raw=b"?", error="no message"))
        elif kind < 0.3:
            items.append(Event(id=id, time=time, features=x))
            waits.append(id)
        else:
            items.append(Event(id=id, time=time, features=x, label=y, weight=weight))
    return [Record(Position("t", 0, i), item) for i, item in enumerate(items)]


def a_shard(*, regression: bool, **options: Any) -> Shard:
    kind = OnlineRegressor if regression else OnlineClassifier
    model = kind(seed=1, layers=2, width=8, neighbours=3, **options)
    limits = JoinLimits(max_age=600.0, corrections="learn")
    task = "regression" if regression else "classification"
    return Shard(model, PrequentialMetrics(task), PendingForecasts[Any](limits))


def same(a: Shard, b: Shard) -> None:
    arrays, meta = a.state()
    others, other = b.state()
    assert arrays.keys() == others.keys()
    for name, array in arrays.items():
        assert array.tobytes() == others[name].tobytes(), name
    assert repr(meta) == repr(other)


@pytest.mark.parametrize("regression", [False, True])
@pytest.mark.parametrize("keys", [None, ("shop", ("shop", "c"))])
@pytest.mark.parametrize("history", [False, True])
@pytest.mark.parametrize("seed", [0, 1])
def test_together_is_as_one_by_one(*, regression: bool, keys: Any, history: bool, seed: int) -> None:
    options = {"keys": keys, "label_history": history, "max_features": 24, "horizons": (50.0, 400.0)}
    options["anomaly"] = seed == 1
    records = some_records(seed, 900, regression=regression)
    alone, together = a_shard(regression=regression, **options), a_shard(regression=regression, **options)
    alone._chunk = None
    chance = np.random.default_rng(seed + 100)
    expected = [decision for record in records if (decision := alone.step(record)) is not None]
    found, most = [], 0
    for i, record in enumerate(records):
        together.take(record)
        most = max(most, together.gathered)
        if chance.random() < 0.03 or i == 450:
            together.finish()
            found += [answer.decision for answer in together.answers]
            together.answers.clear()
        if i == 450:  # as after a kill
            arrays, meta = together.state()
            together = a_shard(regression=regression, **options)
            together.restore(arrays, meta)
    together.finish()
    found += [answer.decision for answer in together.answers]
    assert most > 5
    assert found == expected
    same(alone, together)


def test_no_more_than_fit_are_gathered() -> None:
    shard = a_shard(regression=False)
    for i in range(200):
        shard.take(
            Record(
                Position("t", 0, i),
                Event(id=f"e{i}", time=float(i), features={"a": float(i % 7)}, label=i % 2),
            )
        )
        assert shard.gathered <= TOGETHER
    shard.finish()
    assert [answer.decision.id for answer in shard.answers] == [f"e{i}" for i in range(200)]
    assert shard.counts.learned == shard.counts.answered == shard.counts.events == 200


def test_what_must_go_alone_changes_nothing() -> None:
    model = OnlineClassifier(seed=0, keys=("shop",))
    for i in range(30):
        model.learn_one({"x": float(i), "shop": "a"}, i % 2)
    before, meta = model.state()
    chunk = model.chunk(size=2)
    x = {"x": 1.0, "shop": "a"}
    assert not chunk.add({**x, "y": 1.0}, 1)  # a name
    assert not chunk.add({"x": 1.0, "shop": "b"}, 1)  # a key and a category
    assert not chunk.add(x, 2)  # a class
    assert not chunk.add(x, 1, 0.0)
    assert not chunk.add(x, 1, -1.0)
    assert not chunk.add(x, "text")
    assert not chunk.add(x, [])
    assert not chunk.add(x, 1, time=float("inf"))
    assert not chunk.add({"x": object()}, 1)
    assert len(chunk) == 0
    assert chunk.learn() == []
    after, meta_after = model.state()
    assert all(before[name].tobytes() == after[name].tobytes() for name in before)
    assert meta == meta_after
    assert chunk.add(x, 1)
    assert chunk.add(x, 0)
    assert not chunk.add(x, 1)
    assert [said.version for said in chunk.learn()] == [30, 31]


def test_ids_and_times_are_kept_as_single_events_keep_them() -> None:
    model = OnlineClassifier(seed=0)
    for i in range(30):
        model.learn_one({"x": float(i)}, i % 2)
    chunk = model.chunk()
    assert chunk.add({"x": 1.0}, 1, id=np.int64(7), time=float("nan"))
    chunk.learn()
    model.learn_one({"x": 1.0}, 1, id=np.int64(8), time=float("nan"))
    one, other = list(model._core.experience.values())[-2:]
    assert (one[1:], type(one[0])) == (other[1:], type(other[0]))
    assert model.forget(7) == model.forget(8) == 1


def plain_records(n: int) -> list[Record]:
    return [
        Record(
            Position("t", 0, i),
            Event(id=f"e{i}", time=float(i), features={"a": i % 7, "b": i % 5}, label=i % 3),
        )
        for i in range(n)
    ]


def test_a_snapshot_of_events_that_were_not_learned_is_refused() -> None:
    shard = a_shard(regression=False)
    for record in plain_records(40):
        shard.take(record)
    assert shard.gathered
    with pytest.raises(RuntimeError, match="events were taken and not learned; expected none, call finish"):
        shard.state()
    shard.finish()
    shard.state()


def test_many_events_together_are_as_one_by_one() -> None:
    alone, together = a_shard(regression=False), a_shard(regression=False)
    alone._chunk = None
    most = 0
    for record in plain_records(500):
        alone.step(record)
        together.take(record)
        most = max(most, together.gathered)
    together.finish()
    assert most == TOGETHER
    same(alone, together)
