"""Labels that should have come: what waits is bounded, what is counted is taken back, arrays go on in chunks."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import arrays
from memory import awaited, overdue, rates
from memory.overdue import SPARE, Overdue
from tests.before_arrays import OverdueBefore, overdue_before
from tests.small_models import as_array, classifier, contents, one_by_one, regressor, row

OUTPUTS = 2


def table(rows: int = 3) -> rates.Rates:
    """Empty outcome statistics of two classes."""
    return rates.allocate(rows, np.array([1e9]), OUTPUTS)


def counted(statistics: rates.Rates, now: float) -> list[float]:
    """How many events each row counts as overdue, decay taken out."""
    age = np.where(np.isfinite(statistics.time), now - statistics.time, 0.0)
    return (statistics.total[:, 0, OUTPUTS + 2] * np.exp(age / 1e9)).round(3).tolist()


def late_of(waiting: Any) -> int:
    """How many wait whose label is late."""
    return int(waiting.snapshot()["late"].sum())


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    """The same arrays to the bit."""
    pairs = [(a[name], b[name]) for name in a]
    return a.keys() == b.keys() and all(
        x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes() for x, y in pairs
    )


def test_labels_that_come_long_before_they_are_due_leave_nothing_behind() -> None:
    waiting, statistics = Overdue(2), table()
    waiting.arrive(statistics, OUTPUTS, 0, 0.0, (0, 1))
    waiting.label(statistics, OUTPUTS, 0, 1e6)
    for number in range(1, 5_000):
        when = float(number)
        waiting.advance(statistics, OUTPUTS, when)
        waiting.arrive(statistics, OUTPUTS, number, when, (0, 1))
        waiting.drop(statistics, OUTPUTS, number)
    assert len(waiting.waiting) == 0
    assert len(waiting.due) <= SPARE + 2
    assert waiting.next_due() == math.inf


def test_an_event_that_gives_way_is_counted_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overdue, "LIMIT", 3)
    waiting, statistics = Overdue(2), table()
    waiting.arrive(statistics, OUTPUTS, 0, 0.0, (0, 1))
    waiting.label(statistics, OUTPUTS, 0, 10.0)
    for number in range(1, 30):
        when = 100.0 * number
        waiting.advance(statistics, OUTPUTS, when)
        for of in (0, 1):
            rates.arrive(statistics, of, when, OUTPUTS)
        waiting.arrive(statistics, OUTPUTS, number, when, (0, 1))
        late = late_of(waiting)
        assert late == min(number - 1, 2)
        assert counted(statistics, when) == [late, late, 0.0]
    for number in list(waiting.waiting):
        waiting.drop(statistics, OUTPUTS, number)
    assert counted(statistics, when) == [0.0, 0.0, 0.0]


@settings(max_examples=40, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.floats(0.0, 50.0), st.booleans(), st.integers(0, 6)), min_size=1, max_size=60
    ),
    cut=st.integers(0, 60),
)
def test_what_is_counted_is_what_waits_past_its_time_before_and_after_a_snapshot(
    steps: list[tuple[float, bool, int]], cut: int
) -> None:
    waiting, statistics = Overdue(2), table()
    waiting.arrive(statistics, OUTPUTS, 0, 0.0, (0, 1))
    waiting.label(statistics, OUTPUTS, 0, 20.0)
    now = 0.0
    for number, (passed, labelled, back) in enumerate(steps, 1):
        now += passed
        if number == cut:
            content = waiting.snapshot()
            waiting = Overdue(2)
            waiting.restore(content)
            assert same(waiting.snapshot(), content)
        due = waiting.next_due()
        before = late_of(waiting)
        waiting.advance(statistics, OUTPUTS, now)
        late = late_of(waiting)
        assert (late > before) == (due < now)
        waiting.arrive(statistics, OUTPUTS, number, now, (0, 1))
        if labelled:
            waiting.label(statistics, OUTPUTS, number - back, now)
        late = late_of(waiting)
        assert counted(statistics, now) == [late, late, 0.0]


@settings(max_examples=150, deadline=None)
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["arrive", "arrive", "label", "drop", "advance", "due", "keep"]),
            st.sampled_from([0.0, 0.5, 3.0, 40.0, 900.0, -20.0]),
            st.integers(0, 9),
            st.tuples(st.integers(-1, 3), st.integers(-1, 3)),
        ),
        max_size=120,
    ),
    limit=st.sampled_from([2, 5, 1000]),
)
def test_all_is_to_the_bit_as_it_was_in_dicts_and_lists(steps: list[Any], limit: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(overdue, "LIMIT", limit)
        patch.setattr(overdue, "SPARE", 3)
        patch.setattr(awaited, "SPARE", 3)
        now, before = Overdue(2), OverdueBefore(2)
        tables = table(4), table(4)
        time, number = 0.0, 0
        for step, passed, back, rows in steps:
            time += passed
            if step == "arrive":
                number += 1 + back // 8
                for waiting, statistics in zip((now, before), tables, strict=True):
                    waiting.arrive(statistics, OUTPUTS, number, time, rows)
            elif step == "label":
                for waiting, statistics in zip((now, before), tables, strict=True):
                    waiting.label(statistics, OUTPUTS, number - back, time)
            elif step == "drop":
                found = [
                    waiting.drop(statistics, OUTPUTS, number - back)
                    for waiting, statistics in zip((now, before), tables, strict=True)
                ]
                assert found[0] == found[1]
            elif step == "advance":
                for waiting, statistics in zip((now, before), tables, strict=True):
                    waiting.advance(statistics, OUTPUTS, time)
            elif step == "due":
                assert now.next_due() == before.next_due()
            else:
                arrays = now.snapshot()
                now = Overdue(2)
                now.restore(arrays)
                assert same(now.snapshot(), arrays)
            assert list(now.waiting) == list(before.waiting)
            assert len(now.waiting) == len(before.waiting)
        kept, expected = overdue_before(now), before.snapshot()
        assert kept | {"delays": sorted(kept["delays"])} == expected | {"delays": sorted(expected["delays"])}
        assert tables[0].total.tobytes() == tables[1].total.tobytes()


def test_gaps_are_closed() -> None:
    waiting = awaited.Awaited(1)
    for number in range(10_000):
        waiting.add(number, float(number), (number % 5,), due=number + 5.0)
        if number % 50:
            waiting.remove(waiting.find(number - 1 if number % 2 else number))
        assert len(waiting._numbers) <= 2 * len(waiting) + awaited.SPARE + 1
    assert list(waiting) == sorted(waiting)
    assert [waiting.number(waiting.find(number)) for number in waiting] == list(waiting)
    assert waiting.dues() == [(number + 5.0, number) for number in waiting]


# -- arrays while labels are awaited -------------------------------------------------------------------------


def waiting_model(make: Any, open_events: int, delays: int = 12) -> Any:
    """A learner that knows how late labels come, and has observed events whose labels never came."""
    model = make(keys=(0, (0, 1)), horizons=(60.0, 600.0))
    rng = np.random.default_rng(3)
    late = []
    for i in range(delays):
        kept = model.forecast_one(row(rng.normal(size=2).round()), time=10.0 * i)
        model.observe(kept)
        late.append(kept)
        if i >= 3:
            model.learn(late.pop(0), i % 2)
    for i in range(open_events):
        model.observe(model.forecast_one(row(rng.normal(size=2).round()), time=200.0 + i))
    return model


@settings(max_examples=40, deadline=None)
@given(
    make=st.sampled_from([classifier, regressor]),
    open_events=st.integers(0, 8),
    gaps=st.lists(st.sampled_from([0.0, 1.0, 7.0, 40.0, 900.0, -30.0, None]), min_size=1, max_size=40),
    cuts=st.lists(st.integers(0, 40), max_size=3),
    seed=st.integers(0, 99),
)
def test_arrays_and_single_events_agree_to_the_bit_while_labels_are_awaited(
    make: Any, open_events: int, gaps: list[float | None], cuts: list[int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    n = len(gaps)
    X = rng.normal(size=(n, 2)).round()
    y, w = (rng.integers(0, 3, n)).tolist(), rng.integers(0, 3, n) / 2.0
    times = 200.0 + np.cumsum([gap or 0.0 for gap in gaps])
    times[[gap is None for gap in gaps]] = np.nan
    a, b, c = (waiting_model(make, open_events) for _ in range(3))
    said = a.test_then_train(X, y, times=times, w=w)
    singly = one_by_one(b, X, y, times, w)
    if make is classifier:
        singly = as_array(singly, b.classes_)
    assert said.tobytes() == np.array(singly).tobytes()
    places = [0, *sorted(min(cut, n) for cut in cuts), n]
    for start, end in pairwise(places):
        c.test_then_train(X[start:end], y[start:end], times=times[start:end], w=w[start:end])
    spare = {"key_rates.total", "key_rates.time"}  # how much room is kept ready may differ
    one, two, three = ({k: v for k, v in contents(m).items() if k not in spare} for m in (a, b, c))
    assert one == two
    assert one == three
    for name in spare:
        first, second = (m.state()[0][name] for m in (a, b))
        held = min(len(first), len(second))
        assert first[:held].tobytes() == second[:held].tobytes()


def test_a_label_that_never_comes_costs_arrays_one_row_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    singly = 0
    one = arrays.one

    def counting(*what: Any) -> Any:
        nonlocal singly
        singly += 1
        return one(*what)

    monkeypatch.setattr(arrays, "one", counting)
    model = waiting_model(classifier, 5)
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(500, 2)).round(), rng.integers(0, 2, 500)
    model.test_then_train(X, y, times=205.0 + np.arange(500.0))
    assert len(model._core.overdue.waiting) == 8
    assert 1 <= singly <= 8
    model.test_then_train(X, y, times=800.0 + np.arange(500.0))
    assert singly <= 8
