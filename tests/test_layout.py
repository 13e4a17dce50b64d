"""Growth: what was learned keeps its place and its worth when features, classes and keys appear."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import state
from engine.layout import PLAIN_WIDEST, Sizes
from memory import metric, neighbours, tiles
from memory.lookback import TRIED
from tests.small_models import classifier, finite, regressor

HORIZONS = ((60.0, 600.0, 6_000.0), (1_000.0, 10_000.0))


def sizes(**given_sizes: Any) -> Sizes:
    """Small sizes, with some of them as given."""
    plain = {
        "features": 3,
        "outputs": 2,
        "keys": 1,
        "categories": 1,
        "contexts": 3,
        "recall": True,
        "history": False,
        "neighbours": 4,
        "networks": 2,
        "depth": 2,
        "width": 4,
        "activation": 0,
        "regression": False,
        "metric": True,
        "trees": True,
        "early": True,
        "heads": True,
        "key_horizons": len(HORIZONS[0]),
        "category_horizons": len(HORIZONS[1]),
    }
    return Sizes(**plain | given_sizes)


@st.composite
def grown(draw: st.DrawFn) -> tuple[Sizes, Sizes]:
    """Sizes before and after some of them grew."""
    regression = draw(st.booleans())
    old = sizes(
        features=draw(st.integers(0, 12)),
        outputs=1 if regression else draw(st.sampled_from([1, 2, 3, 5, 31, 32])),
        keys=draw(st.integers(0, 3)),
        categories=draw(st.integers(0, 2)),
        contexts=draw(st.sampled_from([1, 3])),
        recall=draw(st.booleans()),
        history=draw(st.booleans()),
        regression=regression,
    )
    new = replace(
        old,
        features=old.features + draw(st.sampled_from([0, 1, 5, 70])),
        outputs=old.outputs + (0 if regression else draw(st.integers(0, 3))),
        categories=old.categories + draw(st.integers(0, 2)),
    )
    return old, new


def named_inputs(s: Sizes) -> list[Any]:
    """A name for every input of a layer, the same whatever else there is."""
    names: list[Any] = []
    if s.recall:
        names += [("recall", e, c) for e in range(s.recalled) for c in range(s.outputs)]
    if s.history:
        names += [("last", c) for c in range(s.outputs)]
    return names + named_rates(s) + [("x", f, part) for f in range(s.features) for part in range(s.contexts)]


def named_rates(s: Sizes) -> list[Any]:
    """A name for every outcome column; one column of two classes and many columns are different numbers."""
    kind = "one" if s.rate_columns == 1 else "each"
    columns = [(kind, c) for c in range(s.rate_columns)]
    counts = [("labels",), ("events",), ("overdue",)]
    names = [
        ("key", k, h, c) for k in range(s.key_cells) for h in range(s.key_horizons) for c in columns + counts
    ]
    return names + [
        ("category", k, h, c)
        for k in range(s.categories)
        for h in range(s.category_horizons)
        for c in columns
    ]


def expected(new: list[Any], old: list[Any]) -> list[int]:
    """For each name its place before, or −1."""
    at = {name: i for i, name in enumerate(old)}
    return [at.get(name, -1) for name in new]


@settings(max_examples=150, deadline=None)
@given(pair=grown())
def test_every_input_and_outcome_column_continues_the_one_of_its_name(pair: tuple[Sizes, Sizes]) -> None:
    old, new = pair
    assert new.inputs == len(named_inputs(new))
    assert new.rates == len(named_rates(new))
    assert new.input_source(old).tolist() == expected(named_inputs(new), named_inputs(old))
    assert new.rate_source(old).tolist() == expected(named_rates(new), named_rates(old))


@settings(max_examples=100, deadline=None)
@given(pair=grown())
def test_the_plain_inputs_keep_the_constant_and_what_of_a_feature_is_still_read(
    pair: tuple[Sizes, Sizes],
) -> None:
    old, new = pair

    def named(s: Sizes) -> list[Any]:
        features = [("x", f, part) for f in range(s.features) for part in range(s.plain_stride)]
        return [("constant",), *(named_rates(s) if s.plain_rates else []), *features]

    assert new.plain == len(named(new)) <= PLAIN_WIDEST
    assert new.plain_source(old).tolist() == expected(named(new), named(old))


@settings(max_examples=50, deadline=None)
@given(pair=grown())
def test_sizes_that_stay_map_onto_themselves(pair: tuple[Sizes, Sizes]) -> None:
    for s in pair:
        assert s.input_source(s).tolist() == list(range(s.inputs))
        assert s.rate_source(s).tolist() == list(range(s.rates))
        assert s.plain_source(s).tolist() == list(range(s.plain))


@settings(max_examples=50, deadline=None)
@given(pair=grown())
def test_parts_of_a_record_lie_side_by_side_without_overlap(pair: tuple[Sizes, Sizes]) -> None:
    for s in pair:
        d = s.dim
        ends = [d.at_raw, d.at_rate, d.at_input, d.at_slot, d.at_logp, d.at_each, d.at_p, d.at_wide, d.record]
        lengths = np.diff(ends).tolist()
        assert lengths[:3] == [s.features, s.rates, s.inputs]
        assert lengths[3] == 2 * (1 + 2 * s.neighbours)
        assert lengths[4] == s.experts * s.outputs
        assert lengths[-2] == s.outputs
        assert d.at_tried == d.at_wide  # no wide vector
        assert lengths[-1] == (TRIED * s.compared + 1) // 2


@settings(max_examples=25, deadline=None)
@given(pair=grown(), seed=st.integers(0, 99))
def test_a_grown_state_has_the_shapes_of_a_new_one_and_is_the_same_every_time(
    pair: tuple[Sizes, Sizes], seed: int
) -> None:
    old, new = pair
    budget = 4 << 20
    start = state.make(old, seed, budget, HORIZONS)
    once, again = (state.flatten(state.grow(start, old, new, seed, budget, HORIZONS)) for _ in range(2))
    fresh = state.flatten(state.make(new, seed, budget, HORIZONS))
    for name, array in once.items():
        assert array.tobytes() == again[name].tobytes(), name
        if not name.startswith(("near.", "context.")):  # these keep room for more
            assert array.shape == fresh[name].shape, name
    assert once["near.buffer"].shape[1] >= new.features
    assert once["context.buffer"].shape[1] >= state.query_size(new)


@settings(max_examples=40, deadline=None)
@given(
    d=st.integers(1, 20),
    more=st.integers(0, 8),
    stored=st.integers(0, 300),
    events=st.sampled_from([128, 256]),
    fewer=st.booleans(),
    moved=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_a_widened_memory_holds_the_newest_events_under_their_metric_in_order_of_age(
    d: int, more: int, stored: int, events: int, fewer: bool, moved: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    full = d <= metric.FULL_METRIC
    memory = neighbours.allocate(d, events, full=full)
    data = rng.normal(size=(stored, d)).astype(np.float32)
    search = neighbours.searching(d, 3)
    for serial, x in enumerate(data):
        neighbours.store(memory, search, x, d, float(serial % 3), serial)
    memory.logw[:] = rng.normal(size=d)
    source = np.concatenate([np.full(more, -1), np.arange(d)]) if moved else state.continued(d + more, d)
    room = 128 if fewer else events
    wide = state.widen(memory, d + more, room, source, full=d + more <= metric.FULL_METRIC)
    held = int(wide.place[1])
    assert held == min(stored, events, len(wide.target))
    size = len(wide.target)
    oldest = int(wide.place[0]) if held == size else 0
    order = (oldest + np.arange(held)) % size
    assert wide.serial[order].tolist() == list(range(stored - held, stored))
    assert wide.target[order].tolist() == [float(s % 3) for s in range(stored - held, stored)]
    for i, was in enumerate(source.tolist()):
        assert np.array_equal(
            tiles.table(wide.buffer)[i, order],
            data[stored - held :, was] if was >= 0 else np.zeros(held),
        )
        assert wide.logw[i] == (memory.logw[was] if was >= 0 else 0.0)
    assert int(wide.place[3]) == int(d + more <= metric.FULL_METRIC)


@settings(max_examples=30, deadline=None)
@given(stored=st.integers(1, 300), gone=st.integers(0, 320), full=st.booleans(), seed=st.integers(0, 2**16))
def test_a_memory_without_one_event_holds_all_others(stored: int, gone: int, full: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    memory = neighbours.allocate(3, 256, full=full)
    search = neighbours.searching(3, 3)
    for serial in range(stored):
        neighbours.store(memory, search, rng.normal(size=3).astype(np.float32), 3, 0.0, serial)
    before = set(memory.serial[memory.serial >= 0].tolist())
    fresh, found = state.without(memory, gone)
    assert found == (gone in before)
    left = fresh.serial[fresh.serial >= 0].tolist()
    assert sorted(left) == sorted(before - {gone})
    where = {int(s): i for i, s in enumerate(memory.serial)}
    for i, serial in enumerate(left):
        assert np.array_equal(tiles.table(fresh.buffer)[:, i], tiles.table(memory.buffer)[:, where[serial]])
        if full:
            now, was = tiles.table(fresh.projected), tiles.table(memory.projected)
            assert np.array_equal(now[:, i], was[:, where[serial]])


def stream(n: int) -> list[tuple[dict[str, Any], int]]:
    """Numbers and a category with two classes."""
    rng = np.random.default_rng(0)
    out = []
    for _ in range(n):
        a, b = rng.normal(size=2)
        out.append(({"a": float(a), "b": float(b), "c": "xyz"[int(rng.integers(3))]}, int(a + b > 0)))
    return out


@pytest.mark.parametrize("make", [classifier, regressor])
def test_a_feature_that_appears_leaves_forecasts_without_it_nearly_as_they_were(make: Any) -> None:
    model = make(keys=("c",))
    events = stream(150)
    for x, y in events:
        model.learn_one(x, y)

    def said() -> np.ndarray:
        answers = [model.forecast_one(x) for x, _ in events[:30]]
        return np.array([f.probabilities if make is classifier else [f.value] for f in answers])

    before = said()
    kept = model.forecast_one({"late": 1.0})
    model.observe(kept)
    after = said()
    assert model.counters()["features"] >= 3
    np.testing.assert_allclose(after, before, atol=0.1)


def test_a_feature_that_appears_alone_moves_no_statistic_of_another() -> None:
    model = classifier(keys=("c",))
    for x, y in stream(60):
        model.learn_one(x, y)
    before, _ = model.state()
    model.observe(model.forecast_one({"late": 3.0}))
    after, _ = model.state()
    n = len(before["encoder.mean"])
    for name in ("mean", "square", "seen", "step"):
        assert np.array_equal(after[f"encoder.{name}"][:n], before[f"encoder.{name}"]), name
    assert np.array_equal(after["lookback.mean"][:, :n], before["lookback.mean"])
    for name in ("chosen", "cells", "square", "seen"):
        assert np.array_equal(after[f"lookback.{name}"][:n], before[f"lookback.{name}"]), name
    assert after["encoder.seen"][n:].tolist() == [1.0]
    assert after["encoder.mean"][n:].tolist() == [3.0]
    for name in ("near.serial", "near.target", "mixer.weight", "mixer.belief", "prior", "fast.V", "slow.V"):
        assert np.array_equal(after[name], before[name]), name


def test_a_class_that_appears_keeps_what_was_known_of_the_others() -> None:
    model = classifier(keys=("c",))
    events = stream(150)
    for x, y in events:
        model.learn_one(x, y)
    before = {label: model.predict_proba_one(events[3][0])[label] for label in (0, 1)}
    columns = model.state()[0]["fast.V"].shape[1]
    model.learn_one({"a": 50.0, "b": -50.0}, 2)
    arrays, _ = model.state()
    assert columns == 2
    assert arrays["fast.V"].shape[1] == 3
    after = model.predict_proba_one(events[3][0])
    assert max(before, key=lambda label: before[label]) == max(after, key=lambda label: after[label])
    assert after[2] < 0.3
    assert finite(model)


def test_thirty_classes_with_three_keys_keep_the_second_order_experts_small() -> None:
    model = classifier(keys=("a", "b", ("a", "b")))
    rng = np.random.default_rng(0)
    right, widths = 0, []
    for i in range(900):
        label = int(rng.integers(min(2 + i // 20, 36)))
        x = {"a": label % 6, "b": label // 6, "noise": float(rng.normal())}
        right += i >= 600 and model.predict_one(x) == label
        model.learn_one(x, label, time=60.0 * i)
        widths.append(model.state()[0]["plain.weight"].shape[2])
    assert max(widths) <= PLAIN_WIDEST
    assert max(widths[:200]) > 200  # every outcome column of up to 12 classes
    assert widths[500] == 1 + 3 * 3  # none of 27 classes, features with their context
    assert widths[-1] == 1 + 4 * 4 * 3 + 3 * 3  # past 32 classes the counts alone are left
    assert right > 200
    assert finite(model)


def test_accuracy_is_the_same_whether_a_feature_is_there_from_the_start_or_not() -> None:
    rng = np.random.default_rng(2)
    X = rng.normal(size=(600, 24))
    y = (X[:, 0] + X[:, 1] > 0).astype(int)
    whole, slow = classifier(), classifier()
    right = [0, 0]
    for i in range(600):
        x = dict(enumerate(X[i].tolist()))
        part = {j: v for j, v in x.items() if j < 2 + i // 12}
        for which, (model, event) in enumerate(((whole, x), (slow, part))):
            right[which] += i >= 200 and model.predict_one(event) == y[i]
            model.learn_one(event, int(y[i]))
    assert slow.counters()["features"] == whole.counters()["features"] == 24
    assert right[1] > right[0] - 40
    assert right[1] > 320
