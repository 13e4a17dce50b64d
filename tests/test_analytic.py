"""The analytic memory: what it folds, factors and solves event by event is what the formulas say of all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numba import njit
from numpy.typing import NDArray

from memory import analytic, analytic_kernels
from memory.analytic import (
    ACTIVE,
    BLOCK,
    FACTORED,
    FACTORING,
    FOLDED,
    FOLDED_EVENTS,
    LOG_T,
    PHASE,
    ROW,
    SEEN,
    SOLVING,
    Analytic,
)

F64 = NDArray[np.float64]


@njit
def learn(memory: Any, Z: Any, y: Any, w: Any) -> None:  # pragma: no cover
    scratch = np.zeros(Z.shape[1])
    for i in range(len(y)):
        analytic_kernels.learn(memory, Z[i], y[i], w[i], scratch)


@njit
def temper(memory: Any, Z: Any, y: Any, classes: int) -> None:  # pragma: no cover
    s, p = np.zeros(classes), np.zeros(classes)
    for i in range(len(y)):
        analytic_kernels.temper(memory, Z[i], classes, y[i], s, p)


@njit
def say(memory: Any, Z: Any, classes: int) -> Any:  # pragma: no cover
    out = np.zeros((len(Z), classes))
    for i in range(len(Z)):
        analytic_kernels.say(memory, Z[i], classes, out[i])
    return out


def events(seed: int, n: int, d: int, classes: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Gaussian classes with one covariance, one after the other in halves of the classes."""
    rng = np.random.default_rng(seed)
    centre = rng.normal(size=(classes, d))
    shape = rng.normal(size=(d, d)) / np.sqrt(d) + np.eye(d)
    y = np.concatenate(
        [part[rng.integers(len(part), size=n // 2)] for part in np.split(np.arange(classes), 2)]
    )
    return (centre[y] + rng.normal(size=(len(y), d)) @ shape).astype(np.float32), y


def told(Z: NDArray[np.float32], y: NDArray[np.int64], w: F64) -> tuple[F64, F64, F64]:
    """Means, weights and scatter within classes, in float64, of all at once."""
    classes, X = int(y.max()) + 1, Z.astype(np.float64)
    count = np.array([w[y == c].sum() for c in range(classes)])
    mean = np.array([(w[y == c][:, None] * X[y == c]).sum(0) / count[c] for c in range(classes)])
    apart = X - mean[y]
    return mean, count, (apart * w[:, None]).T @ apart


def test_the_statistics_are_those_of_all_events() -> None:
    Z, y = events(0, 1_000, 19, 4)
    w = np.random.default_rng(1).choice([0.5, 1.0, 3.0], size=len(y))
    memory = analytic.allocate(19, 4)
    for at in range(0, len(y), 7):
        learn(memory, Z[at : at + 7], y[at : at + 7], w[at : at + 7])
        if at % 217 == 0:
            mean, count, scatter = told(Z[: at + 7], y[: at + 7], w[: at + 7])
            n = len(count)
            np.testing.assert_allclose(memory.mean[:n], mean, rtol=1e-9, atol=1e-9)
            np.testing.assert_allclose(memory.seen[:n], count)
            np.testing.assert_allclose(analytic.scatter(memory), scatter, rtol=1e-5, atol=1e-4)
    assert memory.total[SEEN] == pytest.approx(w.sum())


def test_scores_are_those_of_linear_discriminant_analysis() -> None:
    Z, y = events(2, 4_000, 23, 4)
    Z[:, 5] = 0.0  # says nothing and must do no harm
    memory = analytic.allocate(23, 4)
    learn(memory, Z, y, np.ones(len(y)))
    n = int(memory.total[FACTORED])
    mean, count, scatter = told(Z[:n], y[:n], np.ones(n))
    deviation = np.sqrt(np.diag(scatter) / n)
    some = deviation > 0
    sigma = scatter[np.ix_(some, some)] / n / np.outer(deviation[some], deviation[some])
    sigma += (30 / n + 1e-4) * np.eye(some.sum())
    centre = mean[:, some] / deviation[some]
    w = np.linalg.solve(sigma, centre.T).T
    which = memory.place[ACTIVE]
    length = memory.length[which]
    assert length == pytest.approx(22, rel=0.3)
    want = Z[:, some] / deviation[some] @ w.T - 0.5 * ((w * centre).sum(axis=1) - length / count)
    want = np.exp((want - want.max(axis=1, keepdims=True)) / np.exp(memory.total[LOG_T]))
    got = say(memory, Z, 4)
    np.testing.assert_allclose(got, want / want.sum(axis=1, keepdims=True), atol=0.02)
    assert (got.argmax(axis=1) == want.argmax(axis=1)).mean() > 0.999


def test_features_that_depend_on_each_other_do_not_shake_the_factor_in_32_bits() -> None:
    base, y = events(5, 6_000, 30, 4)
    rng = np.random.default_rng(6)
    Z = (base @ rng.normal(size=(30, 150)) / np.sqrt(30)).astype(np.float32)  # of rank 30
    Z = np.hstack([Z, np.repeat(Z[:, :1], 40, axis=1), 1e4 * Z[:, :10]])
    memory = analytic.allocate(200, 4)
    learn(memory, Z, y, np.ones(len(y)))
    exact = analytic.merged(memory, analytic.allocate(200, 4))  # factored and solved in 64 bits
    got, want = say(memory, Z, 4), say(exact, Z, 4)
    assert (got.argmax(axis=1) == want.argmax(axis=1)).mean() > 0.99
    np.testing.assert_allclose(got, want, atol=0.1)
    assert abs(got - want).mean() < 0.005


def test_the_order_of_events_does_not_count() -> None:
    Z, y = events(3, 2_000, 12, 4)
    order = np.random.default_rng(0).permutation(len(y))
    answers = []
    for rows in (np.arange(len(y)), order):
        memory = analytic.allocate(12, 4)
        learn(memory, Z[rows], y[rows], np.ones(len(y)))
        answers.append(say(memory, Z, 4))
    sorted_, shuffled = answers
    assert (sorted_.argmax(axis=1) == shuffled.argmax(axis=1)).mean() > 0.99
    assert (sorted_.argmax(axis=1) == y).mean() > 0.8


def test_single_events_chunks_and_copies_give_the_same_bits() -> None:
    Z, y = events(4, 1_200, 17, 4)
    w = np.ones(len(y))
    whole, single = analytic.allocate(17, 4), analytic.allocate(17, 4)
    learn(whole, Z, y, w)
    for i in range(len(y)):
        if i % 101 == 0:
            single = Analytic(*(np.array(part) for part in single))
        learn(single, Z[i : i + 1], y[i : i + 1], w[i : i + 1])
    for name in Analytic._fields:
        np.testing.assert_array_equal(getattr(whole, name), getattr(single, name), err_msg=name)


def test_two_halves_add_up_to_the_whole() -> None:
    Z, y = events(5, 3_000, 15, 4)
    whole, first, second = (analytic.allocate(15, 4) for _ in range(3))
    for memory, rows in ((whole, slice(None)), (first, slice(0, 1_111)), (second, slice(1_111, None))):
        learn(memory, Z[rows], y[rows], np.ones(len(y[rows])))
    both = analytic.merged(first, second)
    np.testing.assert_allclose(both.mean, whole.mean, rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(both.seen, whole.seen)
    np.testing.assert_allclose(analytic.scatter(both), analytic.scatter(whole), rtol=1e-5, atol=1e-4)
    same = say(both, Z, 4).argmax(axis=1) == say(whole, Z, 4).argmax(axis=1)
    assert same.mean() > 0.995
    learn(both, Z[:500], y[:500], np.ones(500))  # and it goes on learning
    assert both.total[SEEN] == 3_500


def test_memories_of_other_sizes_are_not_added() -> None:
    with pytest.raises(ValueError, match=r"\(2, 3\) and \(3, 3\)"):
        analytic.merged(analytic.allocate(3, 2), analytic.allocate(3, 3))


def test_ten_million_events_lose_no_digits() -> None:
    Z = np.array(
        [[1e3, 0.25, 1.0], [1e3 + 1, 0.5, 1.0], [1e3 + 2, 0.125, 1.0], [1e3 + 3, 1.0, 1.0]], np.float32
    )
    y = np.array([0, 0, 1, 1])
    memory, events = analytic.allocate(3, 2), 10_000_000
    Z, y = np.tile(Z, (2_500, 1)), np.tile(y, 2_500)
    for _ in range(events // len(y)):
        learn(memory, Z, y, np.ones(len(y)))
    mean, _, scatter = told(Z[:4], y[:4], np.ones(4))
    np.testing.assert_allclose(memory.mean, mean, rtol=1e-10)
    np.testing.assert_allclose(analytic.scatter(memory) / events, scatter / 4, rtol=1e-6, atol=1e-9)
    assert memory.seen.tolist() == [events / 2, events / 2]


def test_a_class_that_is_new_is_answered_after_its_first_events() -> None:
    Z, y = events(6, 2_000, 12, 4)
    memory = analytic.allocate(12, 4)
    learn(memory, Z[:1_000], y[:1_000], np.ones(1_000))
    assert set(say(memory, Z[1_000:], 4).argmax(axis=1).tolist()) <= {0, 1}
    learn(memory, Z[1_000:1_020], y[1_000:1_020], np.ones(20))
    right = say(memory, Z[1_020:], 4).argmax(axis=1) == y[1_020:]
    assert right.mean() > 0.8


def test_no_event_pays_for_a_factor() -> None:
    """Multiplications of folding and factoring, by how far either came with each event."""
    d = 96
    Z, y = events(7, 2_000, d, 4)
    memory = analytic.allocate(d, 4)
    folding, factoring, solving, factors = [], [], 0, 0
    for i in range(len(y)):
        at, row, phase = int(memory.place[FOLDED]), int(memory.place[ROW]), int(memory.place[PHASE])
        learn(memory, Z[i : i + 1], y[i : i + 1], np.ones(1))
        if memory.place[FOLDED] > at:
            slices = int(memory.place[FOLDED_EVENTS])
            first, last = (analytic.row_at(d, at + k, slices) for k in (0, 1))
            folding.append(slices * sum(range(first + 1, last + 1)))
        if phase == FACTORING:
            factoring.append(sum(k * k // 2 for k in range(row, int(memory.place[ROW]))))
        solving += phase == SOLVING
        factors += phase == FACTORING and memory.place[PHASE] == SOLVING
    assert max(folding) < 2 * d * (d + 1) / 2
    assert max(factoring) < d**3 / 6 / 64 + 4 * d * d / 2
    assert len(factoring) >= 15 * factors
    assert solving >= 17 * factors
    assert factors > 5
    assert memory.total[FACTORED] > 2_000 / analytic_kernels.GROWTH - 2 * BLOCK


def test_more_classes_leave_what_was_known() -> None:
    Z, y = events(8, 1_000, 9, 2)
    memory = analytic.allocate(9, 2)
    learn(memory, Z, y, np.ones(len(y)))
    more = analytic.grown(memory, 5)
    assert analytic.grown(more, 4) is more
    np.testing.assert_array_equal(say(more, Z, 5)[:, :2].argmax(axis=1), say(memory, Z, 2).argmax(axis=1))
    learn(more, Z[:5], np.full(5, 4), np.ones(5))
    assert more.seen.tolist()[2:] == [0, 0, 5]


def test_scores_become_probabilities() -> None:
    """Log loss of the tempered scores comes near to that of the best single temperature."""
    Z, y = events(9, 6_000, 12, 4)
    rng = np.random.default_rng(0)
    order = rng.permutation(len(y))
    Z, y = Z[order], y[order]
    y = np.where(rng.random(len(y)) < 0.2, rng.integers(4, size=len(y)), y)
    memory = analytic.allocate(12, 4)
    losses = []
    for at in range(0, len(y), 50):
        rows = slice(at, at + 50)
        p = say(memory, Z[rows], 4)
        losses.append(-np.log(p[np.arange(len(p)), y[rows]]).mean())
        temper(memory, Z[rows], y[rows], 4)
        learn(memory, Z[rows], y[rows], np.ones(50))
    learned = np.mean(losses[-40:])
    best = np.inf
    for log_t in np.linspace(-1, 3, 41):
        memory.total[LOG_T] = log_t
        p = say(memory, Z[-2_000:], 4)
        best = min(best, -np.log(p[np.arange(2_000), y[-2_000:]]).mean())
    assert learned < best + 0.05


def test_its_bytes_are_those_of_its_arrays() -> None:
    memory = analytic.allocate(37, 6)
    assert analytic.bytes_of(37, 6) == sum(part.nbytes for part in memory)
