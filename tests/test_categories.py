"""Counts and rows of categories mean what they meant when they stood in dicts, at their bounds too."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.encoders import categories
from engine.encoders.categories import Categories, row_of
from engine.name_table import NameTable
from engine.state_before import categories_of
from tests.before_arrays import CategoriesBefore

seen = st.tuples(st.sampled_from(["a", "b", ("c", 1)]), st.sampled_from(["", "x", "y", "=", "z", "w"]))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["count", "row", "look", "keep", "read"]), seen), max_size=60),
    st.integers(1, 6),
)
def test_counts_and_rows_are_what_they_were_in_dicts(steps: list[Any], most: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(categories, "MAX_ROWS", most)
        now, before = Categories(), CategoriesBefore()
        for step, name in steps:
            if step == "count":
                assert now.count(name) == before.count(*name)
            elif step == "keep":
                arrays, fields = now.state()
                now = Categories.from_state(arrays, fields)
                again, same_fields = now.state()
                assert fields == same_fields
                assert {k: a.tobytes() for k, a in arrays.items()} == {
                    k: a.tobytes() for k, a in again.items()
                }
            elif step == "read":  # from the form of then
                counts, rows = json.loads(json.dumps(before.state()))
                now = Categories.from_state(*categories_of(counts, rows))
            else:
                admit = step == "row"
                assert now.row(name, admit=admit) == before.row(name, admit=admit)
            field, value = name
            counts = before.counts.get(field, {})
            assert now.seen(name) == counts.get("=" + value, 0)
            assert now.events(field) == counts.get("", 0)
            assert now.rows == len(before.rows)


def test_keys_past_the_bound_share_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(categories, "MAX_ROWS", 3)
    rows, before = NameTable(), CategoriesBefore()
    for key in [(0, "a"), (1, "a"), (0, 7), (0, "b"), (0, 8), (0, "a")]:
        for admit in (False, True):
            assert row_of(rows, key, admit=admit) == before.row(key, admit=admit)
    assert len(rows) == 3
