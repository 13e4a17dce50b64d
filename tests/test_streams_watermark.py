"""Event time follows the majority of recent records: no single clock moves it, and it always recovers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.watermark import FAR, MEMORY, WINDOW, Watermark

FINITE = st.floats(allow_nan=False, allow_infinity=False, width=64)
ANY = st.one_of(FINITE, st.floats(0, 1000), st.just(math.inf), st.just(math.nan))
JUMP = 10.0


def fed(times: list[float], window: int = WINDOW) -> Watermark:
    clock = Watermark(JUMP, window)
    for time in times:
        clock.observe(time)
    return clock


def median(times: list[float]) -> float:
    return sorted(times)[(len(times) - 1) // 2]


@given(st.lists(ANY, max_size=200), st.integers(1, 9), st.integers(0, 9))
def test_event_time_is_between_the_recent_median_and_a_jump_beyond_or_a_leap_is_waited_for(
    times: list[float], window: int, more: int
) -> None:
    clock = Watermark(JUMP, window, window + more)
    for time in times:
        clock.observe(time)
    finite = [time for time in times if math.isfinite(time)]
    if not finite:
        assert clock.now == -math.inf
        return
    middle, later = median(finite[-window:]), median(finite[-window - more :])
    if clock.now < middle:  # a leap forwards, for which the longer memory does not speak yet
        assert later <= clock.now + FAR * JUMP
    elif clock.now > middle + JUMP:
        assert later >= clock.now - FAR * JUMP


@given(st.integers(0, MEMORY), st.integers(0, MEMORY // 2), st.sampled_from([1e12, -1e12, 200.0, -200.0]))
def test_a_burst_of_wrong_times_moves_nothing_while_it_is_shorter_than_half_of_the_memory(
    before: int, burst: int, wrong: float
) -> None:
    """Also where it fills the window of recent records."""
    clock, right = fed([i * 1e-3 for i in range(before + MEMORY)]), (before + MEMORY) * 1e-3
    for i in range(burst - 1):
        assert clock.observe(wrong + i * 1e-3) <= right
    for i in range(MEMORY):
        assert 0.0 <= clock.observe(right + i * 1e-3) <= right + i * 1e-3
    assert clock.now == right + (MEMORY - 1) * 1e-3


@given(st.lists(st.floats(0, JUMP / WINDOW), min_size=1, max_size=200))
def test_an_ordered_stream_is_followed_to_its_latest_record(steps: list[float]) -> None:
    clock, time = Watermark(JUMP), 0.0
    for step in steps:
        time += step
        assert clock.observe(time) == time


@given(st.lists(st.tuples(st.floats(100, 200), st.none() | FINITE), min_size=1, max_size=200))
def test_wrong_clocks_of_a_minority_move_nothing(records: list[tuple[float, float | None]]) -> None:
    """Wherever fewer than half of the recent records are wrong, event time is within what the others say."""
    clock = Watermark(JUMP)
    recent: list[tuple[float, bool]] = []
    for right, wrong in records:
        recent = [*recent, (right if wrong is None else wrong, wrong is None)][-WINDOW:]
        now = clock.observe(recent[-1][0])
        if sum(good for _, good in recent) > len(recent) / 2:
            good = [time for time, fine in recent if fine]
            assert min(good) <= now <= max(good) + JUMP


@given(st.lists(FINITE, max_size=2 * WINDOW) | st.just([0.0] * 2 * MEMORY), st.floats(-1e12, 1e12))
def test_after_any_gap_half_of_the_memory_is_enough(before: list[float], start: float) -> None:
    clock = fed(before)
    times = [start + i * JUMP / WINDOW / 100 for i in range(MEMORY // 2 + 1)]
    for time in times:
        clock.observe(time)
    assert times[0] <= clock.now <= times[-1] + JUMP
    for i in range(WINDOW):
        clock.observe(times[-1] + i * JUMP / WINDOW)
    assert clock.now == times[-1] + (WINDOW - 1) * JUMP / WINDOW


@given(st.floats(1.0, FAR * JUMP))
def test_after_a_gap_that_is_no_leap_half_a_window_is_enough(gap: float) -> None:
    clock = fed([0.0] * 2 * MEMORY)
    for _ in range(WINDOW // 2 + 1):
        clock.observe(gap)
    assert clock.now == gap


def test_a_first_record_from_the_future_is_set_right_by_the_second() -> None:
    clock = fed([4e9])
    assert clock.now == 4e9
    assert clock.observe(1.0) == 1.0


@given(st.lists(ANY, max_size=150) | st.just([0.0, 1e9] * MEMORY), st.lists(ANY, max_size=150))
def test_a_restored_clock_goes_on_as_the_one_it_was_taken_from(
    before: list[float], after: list[float]
) -> None:
    clock, again = fed(before), Watermark(JUMP)
    again.restore(clock.snapshot())
    assert [again.observe(time) for time in after] == [clock.observe(time) for time in after]
    assert np.array_equal(again.snapshot(), clock.snapshot())


@pytest.mark.parametrize(
    "options",
    [
        {"max_jump": 0.0},
        {"max_jump": math.nan},
        {"max_jump": 1.0, "window": 0},
        {"max_jump": 1.0, "memory": 9},
    ],
)
def test_a_clock_that_could_not_run_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=list(options)[-1]):
        Watermark(**options)  # type: ignore[arg-type]  # the numbers fit their fields
