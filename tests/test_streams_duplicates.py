"""Recent ids are known again, within a window and an age, through snapshots too."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.duplicates import RecentIds, fingerprint

IDS = st.sampled_from([f"e{i}" for i in range(12)])
CALLS = st.lists(st.tuples(IDS, st.floats(-5, 30), st.none() | st.sampled_from([0, "a", 2**70, True])))


@given(CALLS, st.integers(1, 6), st.sampled_from([10.0, math.inf]), st.integers(0, 40))
def test_recent_ids_are_those_of_a_plain_list(
    calls: list[tuple[str, float, Any]], window: int, max_age: float, snapshot_at: int
) -> None:
    recent, plain = RecentIds(window, max_age), list[list[Any]]()
    for i, (id, now, label) in enumerate(calls):
        if i == snapshot_at:
            arrays, recent = recent.snapshot(), RecentIds(window, max_age)
            recent.restore(arrays)
        recent.advance(now)
        if plain and plain[-1][1] > now + max_age:
            plain = [[known, min(time, now), value] for known, time, value in plain]
        while plain and plain[0][1] < now - max_age:
            plain.pop(0)
        found = [entry for entry in plain if entry[0] == id]
        assert recent.add(id, now, label) == (not found)
        if found:
            found[0][2] = label
        else:
            plain = [*plain, [id, now, label]][-window:]
        assert len(recent) == len(plain)
        assert [recent.get(known, "none") for known, _, _ in plain] == [value for _, _, value in plain]
        assert recent.snapshot()["times"].tolist() == [time for _, time, _ in plain]


def test_a_snapshot_is_few_numbers_per_id_and_none_of_them_is_text() -> None:
    recent = RecentIds(window=100_000)
    for i in range(150_000):
        recent.add(f"an id of which the length does not matter {i}", 0.0)
    arrays = recent.snapshot()
    assert {name: (array.dtype, array.shape) for name, array in arrays.items()} == {
        "hashes": (np.dtype(np.uint64), (100_000,)),
        "times": (np.dtype(np.float64), (100_000,)),
    }
    assert arrays["hashes"][0] == fingerprint("an id of which the length does not matter 50000")


def test_a_smaller_window_keeps_the_latest_of_a_snapshot() -> None:
    recent, smaller = RecentIds(10), RecentIds(3)
    for i in range(10):
        recent.add(str(i), float(i), i)
    smaller.restore(recent.snapshot())
    assert [i for i in range(10) if smaller.get(str(i), None) == i] == [7, 8, 9]


def test_ids_that_are_no_valid_text_and_long_ones_have_their_own_hash() -> None:
    ids = ["", "a", "b", "é", "\ud800", "x" * 10_000, "x" * 10_001]
    assert len({fingerprint(id) for id in ids}) == len(ids)


@pytest.mark.parametrize("options", [{"window": 0}, {"max_age": 0.0}])
def test_a_memory_that_keeps_nothing_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        RecentIds(**options)


def test_hashes_and_times_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="times has 1 entries for 2 hashes"):
        RecentIds().restore({"hashes": np.zeros(2, np.uint64), "times": np.zeros(1)})
