"""The mixture keeps to its regret bound (docs/mathematics.md), whatever the experts say and the labels are."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import mixing

ROUNDS = 160
SWITCHES = 5


def best_sequences(losses: np.ndarray) -> list[float]:
    """The least total loss of a sequence of columns with 0, 1, … SWITCHES changes of column; losses: (T, K)."""
    experts = losses.shape[1]
    cost = np.full((SWITCHES + 1, experts), math.inf)
    cost[0] = losses[0]
    for loss in losses[1:]:
        after = cost.copy()
        for s in range(1, SWITCHES + 1):
            for k in range(experts):
                others = np.delete(cost[s - 1], k)
                after[s, k] = min(cost[s, k], others.min(initial=math.inf))
        cost = after + loss
    return [float(row.min()) for row in cost]


def price(experts: int, switches: int, rounds: int, share: float) -> float:
    """ln N + S ln(N/α) + (T − 1 − S) ln 1/(1 − α + α/N)."""
    kept = -math.log(1.0 - share + share / experts)
    return math.log(experts) + switches * math.log(experts / share) + (rounds - 1 - switches) * kept


def forecasts(kind: str, t: int, truth: int, good: int, shape: tuple[int, int],
              rng: np.random.Generator) -> np.ndarray:  # fmt: skip
    """(N, C) rows that sum to 1: drawn, extreme, or one row that is right where the others are wrong."""
    rows, classes = shape
    if kind == "drawn":
        return rng.dirichlet(np.full(classes, 0.3), size=rows)
    if kind == "constant":
        return np.eye(classes)[np.arange(rows) % classes]
    said = np.eye(classes)[np.full(rows, (truth + 1) % classes)]
    said[good] = np.eye(classes)[truth]
    return said


def label_of(kind: str, truth: int, p: np.ndarray, rng: np.random.Generator) -> int:
    """The next label: the truth that one expert knows, by chance, or the one that hurts most."""
    if kind == "truth":
        return truth
    return int(p.argmin()) if kind == "worst" else int(rng.integers(len(p)))


KINDS = st.sampled_from(["drawn", "constant", "one knows"])
LABELS = st.sampled_from(["truth", "worst", "chance"])


@settings(max_examples=60)
@given(
    experts=st.integers(1, 14), classes=st.integers(2, 6), seed=st.integers(0, 2**16), said=KINDS,
    labels=LABELS, block=st.integers(3, ROUNDS),
)  # fmt: skip
def test_log_loss_is_within_the_bound_of_the_best_sequence_of_experts(
    experts: int, classes: int, seed: int, said: str, labels: str, block: int
) -> None:
    mixers = mixing.MIXERS
    rng = np.random.default_rng(seed)
    mixer = mixing.allocate(experts)
    each, out = np.zeros((mixers, classes)), np.zeros(classes)
    whole, bayes = 0.0, 0.0
    losses, mixed = np.zeros((ROUNDS, experts)), np.zeros((ROUNDS, mixers))
    for t in range(ROUNDS):
        truth = int(rng.integers(classes))
        p = forecasts(said, t, truth, t // block % experts, (experts, classes), rng)
        logp = np.log(np.maximum(p, mixing.FLOOR))
        mixing.mix(mixer, logp, experts, classes, each, out)
        label = label_of(labels, truth, each[mixing.POSTERIOR] if seed % 2 else out, rng)
        whole -= math.log(out[label] + 1e-12)
        bayes -= math.log(each[mixing.POSTERIOR, label])
        losses[t] = -logp[:, label]
        mixed[t] = -np.log(np.maximum(each[:, label], 1e-12))
        mixing.weigh(mixer, logp, experts, classes, each, label, 1.0)
    floors = ROUNDS * math.log(1.0 + (classes - 1) * mixing.FLOOR)
    outer = price(mixers, 0, ROUNDS, mixing.SHARE) / mixing.TEMPER
    for s, best in enumerate(best_sequences(losses)):
        if math.isfinite(best):
            bound = best + price(experts, s, ROUNDS, mixing.POSTERIOR_SHARE) + floors
            assert bayes <= bound + 1e-6
            assert whole <= bound + outer + 1e-6
    for s, best in enumerate(best_sequences(mixed)):
        assert whole <= best + price(mixers, s, ROUNDS, mixing.SHARE) / mixing.TEMPER + 1e-6


@settings(max_examples=60)
@given(
    mixers=st.sampled_from([mixing.MIXERS - 1, mixing.MIXERS]), classes=st.integers(2, 6),
    seed=st.integers(0, 2**16), said=KINDS, labels=LABELS, block=st.integers(3, ROUNDS),
)  # fmt: skip
def test_log_loss_is_within_the_bound_of_the_best_sequence_of_mixers_whatever_these_say(
    mixers: int, classes: int, seed: int, said: str, labels: str, block: int
) -> None:
    """Mixers of the learner's own are much alike: here they say what an adversary lets them say."""
    rng = np.random.default_rng(seed)
    mixer = mixing.allocate(2, mixers)
    logp = np.log(np.full((2, classes), 1.0 / classes))
    whole, losses = 0.0, np.zeros((ROUNDS, mixers))
    for t in range(ROUNDS):
        truth = int(rng.integers(classes))
        each = forecasts(said, t, truth, t // block % mixers, (mixers, classes), rng)
        p = mixer.belief @ each
        label = label_of(labels, truth, p, rng)
        whole -= math.log(p[label] + 1e-12)
        losses[t] = -np.log(np.maximum(each[:, label], 1e-12))
        mixing.weigh(mixer, logp, 2, classes, each, label, 1.0)
    for s, best in enumerate(best_sequences(losses)):
        assert whole <= best + price(mixers, s, ROUNDS, mixing.SHARE) / mixing.TEMPER + 1e-6


@settings(max_examples=30)
@given(weight=st.floats(0.01, 1.0), seed=st.integers(0, 2**16), block=st.integers(3, ROUNDS))
def test_lighter_events_keep_the_bound_of_their_weighted_losses(weight: float, seed: int, block: int) -> None:
    rng = np.random.default_rng(seed)
    experts, classes = 5, 3
    mixer = mixing.allocate(experts)
    each, out = np.zeros((mixing.MIXERS, classes)), np.zeros(classes)
    bayes, losses = 0.0, np.zeros((ROUNDS, experts))
    for t in range(ROUNDS):
        truth = int(rng.integers(classes))
        heavy = weight if t % 2 else 1.0
        p = forecasts("one knows", t, truth, t // block % experts, (experts, classes), rng)
        logp = np.log(np.maximum(p, mixing.FLOOR))
        mixing.mix(mixer, logp, experts, classes, each, out)
        bayes -= heavy * math.log(each[mixing.POSTERIOR, truth])
        losses[t] = -heavy * logp[:, truth]
        mixing.weigh(mixer, logp, experts, classes, each, truth, heavy)
    floors = ROUNDS * math.log(1.0 + (classes - 1) * mixing.FLOOR)
    for s, best in enumerate(best_sequences(losses)):
        assert bayes <= best + price(experts, s, ROUNDS, mixing.POSTERIOR_SHARE) + floors + 1e-6


@pytest.mark.parametrize("switches", [0, 3])
def test_the_bound_of_bayes_rule_is_nearly_reached(switches: int) -> None:
    """So that it says something: an adversary comes within a third of it."""
    experts, classes = 14, 2
    mixer = mixing.allocate(experts)
    each, out = np.zeros((mixing.MIXERS, classes)), np.zeros(classes)
    block = ROUNDS // (switches + 1)
    loss = 0.0
    for t in range(ROUNDS):
        p = np.tile([1.0 - 1e-4, 1e-4], (experts, 1))
        p[t // block] = [1e-4, 1.0 - 1e-4]
        logp = np.log(p)
        mixing.mix(mixer, logp, experts, classes, each, out)
        loss -= math.log(each[mixing.POSTERIOR, 1])
        mixing.weigh(mixer, logp, experts, classes, each, 1, 1.0)
    assert loss > 2.0 / 3.0 * price(experts, switches, ROUNDS, mixing.POSTERIOR_SHARE)
