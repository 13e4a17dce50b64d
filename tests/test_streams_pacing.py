"""At most so many labels are learned per interval of event time."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.pacing import REMEMBERED, LabelPacer


@given(st.lists(st.floats(-1000, 1000)), st.integers(1, 4), st.sampled_from([0.1, 1.0, 100.0]))
def test_no_interval_learns_more_than_its_labels_even_where_time_goes_back(
    times: list[float], at_most: int, per_seconds: float
) -> None:
    pace, learned = LabelPacer(at_most, per_seconds), dict[float, int]()
    for now in times:
        interval = now / per_seconds // 1
        if len(learned) <= REMEMBERED:
            assert pace.left(now) == at_most - learned.get(interval, 0)
        if pace.left(now):
            pace.spend(now)
            learned[interval] = learned.get(interval, 0) + 1
        again = LabelPacer(at_most, per_seconds)
        again.restore(json.loads(json.dumps(pace.snapshot())))
        assert again.snapshot() == pace.snapshot()


def test_what_is_remembered_is_bounded() -> None:
    pace = LabelPacer(1, 1.0)
    for i in range(1_000):
        pace.spend(float(i))
    assert len(pace.snapshot()) == REMEMBERED
    assert pace.left(999.5) == 0


@pytest.mark.parametrize("now", [-float("inf"), 1e308, -1e308])
def test_no_time_is_too_far(now: float) -> None:
    pace = LabelPacer(2, 1e-3)
    pace.spend(now)
    assert pace.left(now) == 1


@pytest.mark.parametrize(
    ("at_most", "per_seconds"), [(0, 1.0), (1, 0.0), (1, float("inf")), (1, float("nan"))]
)
def test_a_pace_that_learns_nothing_is_refused(at_most: int, per_seconds: float) -> None:
    with pytest.raises(ValueError, match="at_most" if at_most < 1 else "per_seconds"):
        LabelPacer(at_most, per_seconds)
