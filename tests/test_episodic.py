"""The episodic memory: what is kept is balanced over classes, prefers what surprised, and is found again."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit
from numpy.typing import NDArray

from memory import episodic, episodic_kernels
from memory.episodic import NONE, Episodic

F32 = NDArray[np.float32]


@njit
def keep(m: Any, x: Any, c: int, surprise: float, serial: int) -> int:  # pragma: no cover
    return episodic_kernels.keep(m, x, c, surprise, serial)


@njit
def rehearse(m: Any, withheld: int) -> int:  # pragma: no cover
    return episodic_kernels.rehearse(m, withheld)


@njit
def told(m: Any, slot: int, x: Any) -> None:  # pragma: no cover
    episodic_kernels.decode(m.code[slot], m.top[0], x)


@njit
def forget(m: Any, serial: int) -> bool:  # pragma: no cover
    return episodic_kernels.forget(m, serial)


def check(m: Episodic) -> None:
    """Rings, sizes and free slots agree with what stands in the slots."""
    for withheld in (0, 1):
        for c in range(m.cursor.shape[1]):
            members = {int(s) for s in np.flatnonzero(m.label == c) if (m.key[s] < 0) == bool(withheld)}
            assert m.held[withheld, c] == len(members)
            walked, at = [], int(m.cursor[withheld, c])
            while at != NONE and at not in walked:
                walked.append(at)
                assert m.before[m.after[at]] == at
                at = int(m.after[at])
            assert set(walked) == members
    free = m.label == NONE
    assert (m.serial[free] == NONE).all()
    assert not m.code[free].any()


def filled(labels: Any, slots: int, *, width: int = 3, surprise: float = 0.0, seed: int = 0) -> Episodic:
    m = episodic.allocate(slots, width, max(labels) + 1, seed)
    rng = np.random.default_rng(seed)
    for serial, c in enumerate(labels):
        keep(m, rng.normal(size=width).astype(np.float32) + 1, c, surprise, serial)
    return m


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=120), st.integers(1, 30), st.data())
def test_whatever_is_kept_and_forgotten_the_rings_hold(
    labels: list[int], slots: int, data: st.DataObject
) -> None:
    m = episodic.allocate(slots, 2, 4, 7)
    for serial, c in enumerate(labels):
        keep(m, np.array([serial + 1, c], np.float32), c, 0.0, serial)
        if data.draw(st.booleans()):
            gone = data.draw(st.integers(0, serial))
            held = gone in m.serial.tolist()
            assert forget(m, gone) == held
            assert gone not in m.serial.tolist()
        rehearse(m, 0), rehearse(m, 1)
        check(m)


def test_classes_are_balanced_whatever_came() -> None:
    m = filled([0] * 500 + [1] * 60 + [2] * 500, 90)
    held = Counter(m.label.tolist())
    assert held == {0: 30, 1: 30, 2: 30}
    serials = m.serial[m.label == 0]
    assert 150 < serials.mean() < 350  # a fair sample of the class, not its beginning or end


def test_a_tenth_is_withheld_of_every_class() -> None:
    m = filled([0, 1, 2] * 400, 120)
    assert m.held[1].sum() == pytest.approx(12, abs=3)
    assert m.held[1].min() >= 1


def test_surprising_events_stay_longer() -> None:
    m = episodic.allocate(200, 2, 1, 3)
    for serial in range(4_000):
        keep(m, np.ones(2, np.float32), 0, 3.0 if serial % 10 == 0 else 0.0, serial)
    share = float(np.mean(m.serial % 10 == 0))
    assert 0.2 < share < 0.5  # without preference 0.1


def test_rehearsal_takes_the_classes_in_turn_and_in_each_every_example() -> None:
    m = filled([0] * 30 + [1] * 10, 100)
    taken = [rehearse(m, 0) for _ in range(2 * int(m.held[0].max()))]
    assert Counter(int(m.label[slot]) for slot in taken) == {0: len(taken) // 2, 1: len(taken) // 2}
    of_zero = [slot for slot in taken if m.label[slot] == 0]
    assert len(set(of_zero)) == m.held[0, 0] == len(of_zero)
    assert not any(m.key[slot] < 0 for slot in taken)
    assert m.key[rehearse(m, 1)] < 0


def test_nothing_is_kept_in_no_bytes() -> None:
    m = episodic.allocate(episodic.slots_for(0, 784), 784, 2, 0)
    assert keep(m, np.ones(784, np.float32), 1, 1.0, 0) == NONE
    assert rehearse(m, 0) == NONE
    assert sum(part.nbytes for part in m) < 300


def test_slots_are_bytes_by_width() -> None:
    assert episodic.slots_for(7_840_000, 784) == 10_000
    assert episodic.slots_for(400_000, 784) == 510
    assert episodic.slots_for(783, 784) == 0
    m = episodic.allocate(100, 784, 10, 0)
    assert episodic.bytes_of(m)["kept"] == 78_400
    assert sum(episodic.bytes_of(m).values()) == sum(part.nbytes for part in m)


def test_numbers_are_told_back_nearly() -> None:
    rng = np.random.default_rng(0)
    x = (rng.normal(size=512) * rng.choice([0.01, 1.0, 4.0], size=512)).astype(np.float32)
    m = episodic.allocate(1, 512, 1, 0)
    keep(m, x, 0, 0.0, 0)
    back = np.zeros(512, np.float32)
    told(m, 0, back)
    top = float(m.top[0])
    assert np.all(np.abs(back - x) <= np.sqrt(np.abs(x) * top) / 127 + top / 127**2)


def test_a_copy_goes_on_to_the_bit() -> None:
    whole = filled([0, 1, 2, 1] * 200, 60, seed=5)
    half = filled([0, 1, 2, 1] * 100, 60, seed=5)
    half = Episodic(*(np.array(part) for part in half))
    rng = np.random.default_rng(5)
    rng.normal(size=(400, 3))
    for serial, c in enumerate([0, 1, 2, 1] * 100, 400):
        keep(half, rng.normal(size=3).astype(np.float32) + 1, c, 0.0, serial)
    for name in Episodic._fields:
        np.testing.assert_array_equal(getattr(half, name), getattr(whole, name), err_msg=name)


def test_more_classes_leave_what_is_kept() -> None:
    m = filled([0, 1] * 20, 30)
    more = episodic.grown(m, 5)
    assert episodic.grown(more, 3) is more
    check(more)
    keep(more, np.ones(3, np.float32), 4, 0.0, 99)
    check(more)
    assert more.held[:, 4].sum() == 1
