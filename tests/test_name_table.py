"""Names of every kind come back as they were, and a table of them is copied as it stands."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine.name_table import NameTable
from engine.packed import decoded, encoded, pack, unpack

texts = st.text(st.characters(codec=None), max_size=5) | st.sampled_from(["\ud800", "", "ü", "=a", "a" * 300])
plain = (
    st.none() | st.booleans() | st.integers() | st.integers(2**62, 2**66) | st.floats(allow_nan=False) | texts
)
names = st.recursive(plain, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=6)


class Colour(StrEnum):
    RED = "red"


class Text(str):
    __slots__ = ()


class Whole(int):
    pass


def same(a: Any, b: Any) -> bool:
    """Equal, and of the same types."""
    if isinstance(a, tuple):
        return type(b) is tuple and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b and repr(a) == repr(b)


@settings(max_examples=300, deadline=None)
@given(names)
@example(-0.0)
@example(float("inf"))
@example((2**70, ("\ud800", None), True))
def test_a_name_comes_back_as_it_was(name: Any) -> None:
    assert same(decoded(encoded(name)), name)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(names, st.dictionaries(names, st.floats(allow_nan=False), max_size=3)), max_size=5))
def test_lists_and_dicts_of_names_come_back_as_they_were(values: list[Any]) -> None:
    found = unpack(pack(values))
    assert len(found) == len(values)
    for (name, held), (other, again) in zip(values, found, strict=True):
        assert same(name, other)
        assert same(tuple(held), tuple(again))
        assert list(held.values()) == list(again.values())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (np.str_("a"), "a"),
        (np.float64(2.5), 2.5),
        (np.int32(7), 7),
        (np.bool_(True), True),
        (Text("a"), "a"),
        (Whole(3), 3),
        (Colour.RED, "red"),
        ((Text("a"), np.int64(2**40)), ("a", 2**40)),
    ],
)
def test_what_is_a_name_by_its_base_comes_back_plain(name: Any, expected: Any) -> None:
    assert same(decoded(encoded(name)), expected)
    assert same(tuple(unpack(pack([{name: 1.0}]))[0]), (expected,))


def test_what_no_file_can_hold_is_refused_and_changes_nothing() -> None:
    table = NameTable(["a"])
    before = table.snapshot().tobytes()
    with pytest.raises(TypeError, match="cannot be saved"):
        table.add(object())  # type: ignore[arg-type]
    assert len(table) == 1
    assert table.snapshot().tobytes() == before


@settings(max_examples=100, deadline=None)
@given(st.lists(names, unique=True, max_size=20), st.integers(0, 20))
def test_a_table_that_was_restored_goes_on_as_the_one_that_was_not(added: list[Any], cut: int) -> None:
    whole, parts = NameTable(added), NameTable(added[:cut])
    kept = parts.snapshot()
    parts = NameTable.restored(kept)
    assert parts.snapshot().tobytes() == kept.tobytes()
    for name in added[cut:]:
        parts.add(name)
    assert kept.tobytes() == NameTable(added[:cut]).snapshot().tobytes()
    assert parts.snapshot().tobytes() == whole.snapshot().tobytes()
    assert same(tuple(parts.places), tuple(added))
    assert list(parts.places.values()) == list(range(len(added)))


def test_a_table_of_many_names() -> None:
    table = NameTable(range(70_000))
    assert len(NameTable.restored(table.snapshot())) == 70_000
