"""Named tuples by reference in compiled code."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
from numba import njit
from numba.core.errors import TypingError

from engine.borrowed import borrow
from engine.kernels import Bound


class Inner(NamedTuple):
    """Fields of one type."""

    a: Any
    b: Any


class Outer(NamedTuple):
    """Fields of several types."""

    numbers: Any
    inner: Any
    matrix: Any
    count: int
    rate: float


uncounted = njit(_nrt=False)


@uncounted
def inner_sum(inner: Any) -> float:
    total = 0.0
    for i in range(inner.a.shape[0]):
        inner.b[i] += 1.0
        total += inner.a[i] * inner.b[i]
    return total


@uncounted
def work(outer: Any, sizes: Any) -> float:
    for i in range(sizes[0]):
        outer.numbers[i] = 10 * i
    return inner_sum(outer.inner) + outer.matrix[1, 2] + outer.count + outer.rate


@njit
def through(owner: Any) -> float:
    at = borrow(owner)
    return work(at.state, at.dim)


@njit
def kept(owner: Any) -> Any:
    return borrow(owner).state.matrix


@njit
def absent(owner: Any) -> Any:
    return borrow(owner).state.nothing


def owner() -> tuple[Bound, Outer]:
    inner = Inner(np.arange(3.0), np.ones(3))
    outer = Outer(np.zeros(4, np.int64), inner, np.arange(6.0).reshape(2, 3), 7, 0.25)
    return Bound(outer, 0.0, np.array([4]), 0.0), outer


def test_fields_are_read_and_written_where_they_lie() -> None:
    holder, outer = owner()
    assert through(holder) == pytest.approx((0 + 1 * 2 + 2 * 2) + 5.0 + 7 + 0.25)
    np.testing.assert_array_equal(outer.numbers, [0, 10, 20, 30])
    np.testing.assert_array_equal(outer.inner.b, [2.0, 2.0, 2.0])
    assert through(holder) == pytest.approx((0 + 1 * 3 + 2 * 3) + 5.0 + 7 + 0.25)


def test_an_array_that_is_handed_on_outlives_its_owner() -> None:
    holder, outer = owner()
    matrix = kept(holder)
    del holder, outer
    np.testing.assert_array_equal(matrix, np.arange(6.0).reshape(2, 3))


def test_a_field_that_is_not_there_is_told_when_compiling() -> None:
    with pytest.raises(TypingError, match="nothing"):
        absent(owner()[0])
