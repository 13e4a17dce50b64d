"""Experts that earn nothing fall asleep and wake when they earn again; nothing else depends on who sleeps."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numba import njit
from numpy.typing import NDArray

from engine import OnlineClassifier, OnlineRegressor, mixing, sleep
from engine.layout import Sizes

SIZES = Sizes(
    features=1, outputs=2, keys=0, categories=0, contexts=1, recall=False, history=False, neighbours=2,
    networks=2, depth=1, width=2, activation=0, regression=False, metric=True, trees=True, early=False,
    heads=True, key_horizons=1, category_horizons=1,
)  # fmt: skip
DIM = SIZES.dim
LAYERS = [row for row in range(DIM.experts) if "layers" in SIZES.expert_names()[row]]
SMALL: dict[str, Any] = {"layers": 1, "width": 4, "trees": False, "memory_budget": 1 << 20}


@njit
def run(
    sleeping: Any, mixer: Any, rival: Any, dim: Any, said: NDArray[np.float64], labels: NDArray[np.int64],
    first: int, record: NDArray[np.float64], losses: NDArray[np.float64], awake: NDArray[np.int64],
) -> None:  # fmt: skip
    """The mixture and its rival alone: said (n, K, C) log p, labels (n,) from label number `first` on."""
    voices, each = np.zeros(said.shape[1:]), np.zeros((mixer.belief.shape[0], dim.outputs))
    others, p = np.zeros_like(each), np.zeros(dim.outputs)
    for i in range(labels.shape[0]):
        heard = sleep.hear(sleeping, 0, dim, said[i], record, voices)
        sleep.mix(mixer, dim, voices, heard, each, p)
        for c in range(dim.outputs):
            record[dim.at_p + c] = p[c]
        y = float(labels[i])
        loss = sleep.loss_before(sleeping, mixer, dim, record, True, voices, heard, others, p, y)
        losses[i] = loss
        awake[i] = sleeping.place[sleep.AWAKE]
        sleep.weigh(mixer, dim, voices, heard, each, y, 1.0)
        sleep.follow(sleeping, mixer, rival, dim, said[i], record, voices, others, p, y, 1.0, first + i, loss)


def forecasts(
    n: int, skill: dict[int, float], seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Labels and what each expert says of them: those in `skill` (row → how far from 1/2), 1/2 the others."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(2, size=n)
    said = np.full((n, DIM.experts, 2), 0.5)
    for row, strength in skill.items():
        sure = rng.uniform(-0.5, 1.0, n) * strength
        said[np.arange(n), row, labels] = 0.5 + sure
        said[np.arange(n), row, 1 - labels] = 0.5 - sure
    return np.log(said.clip(mixing.FLOOR)), labels


def start() -> tuple[Any, ...]:
    return (
        sleep.allocate(DIM.experts, on=True),
        mixing.allocate(DIM.experts, SIZES.mixers),
        mixing.allocate(DIM.experts, SIZES.mixers),
    )


def follow(
    state: tuple[Any, ...], said: NDArray[np.float64], labels: NDArray[np.int64], first: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    n = len(labels)
    losses, awake = np.zeros(n), np.zeros(n, np.int64)
    run(*state, DIM, said, labels, first, np.zeros(DIM.record), losses, awake)
    return losses, awake


def test_groups_stand_where_the_experts_do() -> None:
    names = SIZES.expert_names()
    assert names[sleep.FIRST :][: len(sleep.MEMBERS)] == [n for group in sleep.GROUPS.values() for n in group]
    assert sleep.MEMBERS.tolist() == [group for group, names in sleep.GROUPS.items() for _ in names]
    assert sum(sleep.GROUPS) == sleep.ALL
    assert all(one & sleep.ALL == one for one in sleep.SETS.tolist())


def test_what_earns_nothing_falls_asleep_and_what_earns_stays() -> None:
    state = start()
    said, labels = forecasts(12_000, {1: 0.5, LAYERS[0]: 0.5})
    losses, awake = follow(state, said, labels)
    assert awake[-1] == sleep.FAST_LAYERS
    assert (awake[:1_000] == sleep.ALL).all()
    everyone = start()
    everyone[0].place[sleep.PHASE] = sleep.OFF
    assert (follow(everyone, said, labels)[1] == sleep.ALL).all()
    assert losses.sum() < 1.01 * follow(everyone, said, labels)[0].sum()
    assert set(sleep.asleep(state[0])) == {
        "slow layers", "linear", "second order, firm", "second order, loose", "random features, firm",
        "random features, loose",
    }  # fmt: skip
    weights = sleep.by_expert(state[0], state[1].weight)
    assert (weights[:, [row for row in range(5, 12) if row != LAYERS[0]]] == 0.0).all()
    assert (weights[sleep.mixing.POSTERIOR].sum() - 1.0) < 1e-9


def test_what_earns_again_wakes_and_soon_after_a_drift() -> None:
    for drift in (False, True):
        state = start()
        said, labels = forecasts(6_000, {1: 0.45})
        assert not follow(state, said, labels)[1][-1] & 3
        until = int(state[0].until[0])
        assert 6_000 < until < 12_000
        later = {1: 0.0 if drift else 0.45, LAYERS[1]: 0.6}
        said, labels = forecasts(24_000, later, seed=1)
        _, awake = follow(state, said, labels, first=6_000)
        woke = 6_000 + int(np.flatnonzero(awake & sleep.SLOW_LAYERS)[0])
        assert woke >= (6_000 if drift else until) + sleep.PROBATION
        assert woke < (12_000 if drift else until + 12_000)
        assert (awake[woke - 6_000 : woke - 4_000] & sleep.SLOW_LAYERS).all()


def test_a_set_that_was_tried_in_vain_waits_twice_as_long() -> None:
    state = start()
    said, labels = forecasts(30_000, {1: 0.5})
    follow(state, said, labels)
    assert state[0].patience.max() in (2 * sleep.PATIENCE, 4 * sleep.PATIENCE)
    assert not state[0].place[sleep.AWAKE]


def test_a_rival_that_hears_the_same_is_the_mixture() -> None:
    state = start()
    said, labels = forecasts(700, {1: 0.4, 5: 0.3, 8: 0.2})
    state[0].place[sleep.NEXT] = 10**9
    follow(state, said, labels)

    @njit
    def arranged(sleeping: Any, mixer: Any, rival: Any, groups: int) -> int:
        return int(sleep.arrange(sleeping, mixer, rival, groups))

    assert arranged(*state, sleep.ALL) == DIM.experts
    for mine, theirs in zip(state[1], state[2], strict=True):
        assert mine.tobytes() == theirs.tobytes()
    n = arranged(*state, sleep.ALL & ~sleep.PLAIN)
    assert n == DIM.experts - 2
    assert state[0].order[1, n:].tolist() == [8, 9]
    steps = [m for m in range(SIZES.mixers) if abs(state[1].weight[m].sum()) > 0.1]
    assert np.allclose(state[2].weight[steps, :n].sum(axis=1), state[1].weight[steps].sum(axis=1))
    kept = state[0].order[1, :n]
    assert np.array_equal(state[2].covariance[:n, :n], state[1].covariance[np.ix_(kept, kept)])
    state[0].order[0], state[0].place[sleep.HEARD] = state[0].order[1], n
    assert arranged(state[0], state[2], state[1], sleep.ALL) == DIM.experts
    anew = np.flatnonzero(np.isin(state[0].order[1], [8, 9]))
    assert (np.delete(state[1].weight, mixing.POSTERIOR, axis=0)[:, anew] == 0.0).all()
    assert (state[1].weight[mixing.POSTERIOR] > 0.0).all()


def stream(n: int, *, regression: bool, seed: int = 0) -> tuple[NDArray[np.float64], list[Any]]:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3))
    noisy = np.sign(X[:, 0]) * (np.abs(X[:, 1]) > 0.4) + rng.normal(size=n) * 0.7
    return X, noisy.tolist() if regression else (noisy > 0).tolist()


@pytest.mark.parametrize("kind", [OnlineClassifier, OnlineRegressor])
def test_singles_chunks_and_snapshots_agree_to_the_bit_while_experts_fall_asleep(
    kind: Any, tmp_path: Path
) -> None:
    X, y = stream(6_000, regression=kind is OnlineRegressor)
    whole, parted = kind(**SMALL), kind(**SMALL)
    expected = whole.test_then_train(X, y)
    found, at, slept = [], 0, set()
    for size in (700, 800, 1, 900, 799, 1_300, 1_500):  # in the midst of trials, and at the end of some
        found.append(parted.test_then_train(X[at : at + size], y[at : at + size]))
        at += size
        slept.add(parted.asleep())
        parted.save(tmp_path / "model")
        parted = kind.load(tmp_path / "model")
    singles = kind(**SMALL)
    singles.test_then_train(X[:1_900], y[:1_900])
    for row, label in zip(X[1_900:2_600], y[1_900:2_600], strict=True):
        event = dict(enumerate(row.tolist()))
        singles.predict_one(event)
        singles.learn_one(event, label)
    singles.test_then_train(X[2_600:at], y[2_600:at])
    whole = kind(**SMALL)
    assert np.array_equal(np.concatenate(found), whole.test_then_train(X[:at], y[:at]))
    assert np.array_equal(np.concatenate(found), expected[:at])
    assert len(slept) > 1
    for model in (parted, singles):
        arrays, others = whole.state()[0], model.state()[0]
        assert all(array.tobytes() == others[name].tobytes() for name, array in arrays.items())


def test_labels_that_come_after_an_expert_woke_or_fell_asleep_are_learned() -> None:
    for regression in (False, True):
        model = (OnlineRegressor if regression else OnlineClassifier)(**SMALL)
        X, y = stream(4_000, regression=regression)
        events = [dict(enumerate(row.tolist())) for row in X]
        early = [model.forecast_one(event) for event in events[:20]]
        model.test_then_train(X, y)
        assert model.asleep()
        late = [model.forecast_one(event) for event in events[20:40]]
        assert set(late[0].expert_forecasts()) < set(early[0].expert_forecasts())
        for kept, label in zip(early, y[:20], strict=True):
            model.learn(kept, label)
        state = model._core.state
        state.sleep.place[sleep.AWAKE] = sleep.ALL  # as if all had been woken meanwhile
        state.sleep.place[sleep.HEARD] = state.mixer.weight.shape[1]
        state.sleep.place[sleep.PHASE] = sleep.IDLE
        for kept, label in zip(late, y[20:40], strict=True):
            model.learn(kept, label)
        arrays, _ = model.state()
        assert all(np.isfinite(array).all() for name, array in arrays.items() if name.startswith("mixer"))
        assert math.isfinite(float(np.sum(model.test_then_train(X[:50], y[:50]))))


def test_those_asleep_are_shown() -> None:
    model = OnlineClassifier(**SMALL)
    X, y = stream(6_000, regression=False)
    model.test_then_train(X, y)
    asleep = model.asleep()
    assert asleep
    why = model.explain_one(dict(enumerate(X[0].tolist())))
    assert tuple(why["asleep"]) == asleep
    weights = model.expert_weights()
    assert all(weights[name] == 0.0 for name in asleep)
    assert not set(asleep) & {expert["name"] for expert in why["experts"]}
    assert set(weights) == {*asleep, *(expert["name"] for expert in why["experts"])}


def test_without_sleep_and_in_a_learner_of_before_all_stay_awake() -> None:
    X, y = stream(4_000, regression=False)
    model = OnlineClassifier(sleep=False, **SMALL)
    model.test_then_train(X[:2_000], y[:2_000])
    arrays, meta = model.state()
    before = {name: array for name, array in arrays.items() if name.split(".")[0] not in ("rival", "sleep")}
    options = {name: value for name, value in meta["options"].items() if name != "sleep"}
    loaded = OnlineClassifier.from_state(before, {**meta, "options": options})
    assert not loaded.sleep
    assert np.array_equal(
        loaded.test_then_train(X[2_000:], y[2_000:]), model.test_then_train(X[2_000:], y[2_000:])
    )
    assert loaded.asleep() == model.asleep() == ()
    assert all(
        array.tobytes() == loaded.state()[0][name].tobytes() for name, array in model.state()[0].items()
    )
