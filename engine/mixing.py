"""Many experts, one forecast: log-space mixing at several rates, and a Bayesian mixture over the rates.

One mixer forecasts q = softmax(z), z_c = Σ_k w_k log p_k(c), and follows its log loss:

    w_k ← w_k + η (1 + 3/√(i+1)) g_k / rms(g_k),     g_k = Σ_c (t_c − q_c) log p_k(c)

(gated linear mixing, Mattern 2013; Veness et al. 2017). Mixers with several η forecast side by side. The
answer is p = Σ_m v_m q_m with v_m ∝ v_m q_m(y)^0.1, then v_m ← (1 − α) v_m + α/M: fixed share (Herbster and
Warmuth 1998) with a tempered likelihood, for neighbouring events are not independent.

One more mixer takes Newton steps (`newton_step`), and one is Bayes' rule over the experts (`posterior_step`).

For regression the mixers forecast f = Σ_k w_k f_k, g_k = f_k (t − f)/s with (t − f)/s within ±1 and s the best
mixer's mean absolute error; the likelihood, Bayes' rule's included, is Laplace's of scale s.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

RATES = np.array([1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2])
FLOOR = 1e-4
TEMPER = 0.1
HEAVIEST = 100.0  # a heavier event says no more about who foretold it, lest every belief become 0
SHARE = 1e-4
NEWTON_PRIOR = 0.001
NEWTON_LAMBDA = 0.9999
POSTERIOR_SHARE = 1e-3
VALUE_SHARE = 0.03
MIXERS = len(RATES) + 2
NEWTON, POSTERIOR = len(RATES), len(RATES) + 1
SQUARE_DECAY = 0.99
FAST = {"reassoc", "contract", "nsz"}

F64 = NDArray[np.float64]


class Mixer(NamedTuple):
    """The flat arrays of the mixture of K experts by M mixers.

    weight, square: (M, K) float64 — mixing weights and the mean square of their gradients.
    belief: (M,) float64 — v_m, sums to 1.  step: (2,) float64 — labels seen; running mean absolute error.
    """

    weight: F64
    square: F64
    belief: F64
    step: F64
    covariance: F64


def allocate(experts: int, mixers: int = MIXERS) -> Mixer:
    """Mixers that weigh all experts alike."""
    return Mixer(
        weight=np.full((mixers, experts), 1.0 / experts),
        square=np.zeros((mixers, experts)),
        belief=np.full(mixers, 1.0 / mixers),
        step=np.zeros(2),
        covariance=NEWTON_PRIOR * np.eye(experts),
    )


def grown(mixer: Mixer, at: int, more: int) -> Mixer:
    """The same mixers with so many more experts, in columns from `at` on, each weighed as one of all."""
    mixers, have = mixer.weight.shape
    fresh = allocate(have + more, mixers)
    old = np.concatenate([np.arange(at), np.arange(at + more, have + more)])
    fresh.weight[:, at : at + more] = 1.0 / (at + more)
    fresh.weight[:, old] = mixer.weight
    fresh.square[:] = mixer.square[:, :at].mean(axis=1, keepdims=True)
    fresh.square[:, old] = mixer.square
    fresh.covariance[np.ix_(old, old)] = mixer.covariance
    if mixers > POSTERIOR:
        fresh.weight[POSTERIOR] /= fresh.weight[POSTERIOR].sum()
    return fresh._replace(belief=mixer.belief, step=mixer.step)


@njit(fastmath=FAST, nogil=True, error_model="numpy")
def say_mean(weight: F64, logp: F64, experts: int, classes: int, q: F64) -> None:
    """q_c ← Σ_k w_k p_k(c)."""
    for c in range(classes):
        total = 0.0
        for k in range(experts):
            total += weight[k] * math.exp(logp[k, c])
        q[c] = total


@njit(fastmath=FAST, nogil=True, error_model="numpy")
def say_mean_of_logs(weight: F64, logp: F64, experts: int, classes: int, q: F64) -> None:
    """q_c ← exp(z_c) over the largest, z_c = Σ_k w_k log p_k(c)."""
    top = -np.inf
    for c in range(classes):
        z = 0.0
        for k in range(experts):
            z += weight[k] * logp[k, c]
        q[c] = z
        top = max(top, z)
    for c in range(classes):
        q[c] = math.exp(q[c] - top)


@njit(fastmath=FAST, nogil=True, error_model="numpy")
def mix(mixer: Any, logp: F64, experts: int, classes: int, each: F64, out: F64) -> None:
    """each ← every mixer's forecast q (M, C), out ← the mixture p (C,), from logp (K, C)."""
    for c in range(classes):
        out[c] = 0.0
    for m in range(each.shape[0]):
        if m == POSTERIOR:
            say_mean(mixer.weight[m], logp, experts, classes, each[m])
        else:
            say_mean_of_logs(mixer.weight[m], logp, experts, classes, each[m])
        total = 0.0
        for c in range(classes):
            total += each[m, c]
        for c in range(classes):
            each[m, c] /= total
            out[c] += mixer.belief[m] * each[m, c]
    total = 0.0
    for c in range(classes):
        total += out[c]
    for c in range(classes):
        out[c] /= total


@njit(fastmath=FAST, nogil=True, error_model="numpy", _nrt=True)  # it allocates
def newton_step(
    mixer: Any, m: int, logp: F64, experts: int, classes: int, q: F64, label: int, weight: float
) -> None:
    """One Newton step of mixer m: P takes Σ_c q_c x_c x_cᵀ, x_c = log p(c) − Σ_b q_b log p(b); w ← w + P g."""
    P = mixer.covariance
    mean = np.empty(experts)
    x = np.empty(experts)
    u = np.empty(experts)
    for k in range(experts):
        total = 0.0
        for c in range(classes):
            total += q[c] * logp[k, c]
        mean[k] = total
    for c in range(classes):
        if q[c] < 1e-3:
            continue
        for k in range(experts):
            x[k] = logp[k, c] - mean[k]
        quadratic = 0.0
        for a in range(experts):
            total = 0.0
            for b in range(experts):
                total += P[a, b] * x[b]
            u[a] = total
            quadratic += total * x[a]
        force = weight * q[c] / (1.0 + weight * q[c] * quadratic)
        for a in range(experts):
            for b in range(experts):
                P[a, b] -= force * u[a] * u[b]
    trace = 0.0
    for a in range(experts):
        total = 0.0
        for b in range(experts):
            total += P[a, b] * (logp[b, label] - mean[b])
        mixer.weight[m, a] += weight * total
        trace += P[a, a]
    if trace < experts * NEWTON_PRIOR:
        for a in range(experts):
            for b in range(experts):
                P[a, b] /= NEWTON_LAMBDA


@njit(fastmath=FAST, nogil=True, error_model="numpy")
def posterior_step(mixer: Any, m: int, logp: F64, experts: int, label: int, weight: float) -> None:
    """Bayes' rule over the experts with fixed share: v_k ∝ v_k p_k(y), then v ← (1 − α) v + α/K."""
    total = 0.0
    v = mixer.weight[m]
    for k in range(experts):
        v[k] *= math.exp(min(weight, HEAVIEST) * max(logp[k, label], -20.0)) + 1e-300
        total += v[k]
    for k in range(experts):
        v[k] = (1.0 - POSTERIOR_SHARE) * v[k] / total + POSTERIOR_SHARE / experts


@njit(fastmath=FAST, nogil=True, error_model="numpy")
def weigh(mixer: Any, logp: F64, experts: int, classes: int, each: F64, label: int, weight: float) -> None:
    """Learn from the label of a forecast: logp (K, C) and each (M, C) are what was said then."""
    mixer.step[0] += 1.0
    step = mixer.step[0]
    warm = 1.0 + 3.0 / math.sqrt(step)
    correction = 1.0 - SQUARE_DECAY**step
    mixers = each.shape[0]
    total = 0.0
    for m in range(mixers):
        if m == NEWTON:
            newton_step(mixer, m, logp, experts, classes, each[m], label, weight)
        elif m == POSTERIOR:
            posterior_step(mixer, m, logp, experts, label, weight)
        else:
            for k in range(experts):
                g = logp[k, label]
                for c in range(classes):
                    g -= each[m, c] * logp[k, c]
                g *= weight
                square = SQUARE_DECAY * mixer.square[m, k] + (1.0 - SQUARE_DECAY) * g * g
                mixer.square[m, k] = square
                mixer.weight[m, k] += RATES[m] * warm * g / (math.sqrt(square / correction) + 1e-12)
        mixer.belief[m] *= max(each[m, label], 1e-12) ** (TEMPER * min(weight, HEAVIEST))
        total += mixer.belief[m]
    for m in range(mixers):
        mixer.belief[m] = (1.0 - SHARE) * mixer.belief[m] / total + SHARE / mixers


@njit(fastmath=FAST, nogil=True, error_model="numpy")
def mix_values(mixer: Any, value: F64, experts: int, each: F64) -> float:
    """each ← every mixer's forecast (M, 1), from value (K, 1); the mixture's forecast is returned."""
    out = 0.0
    for m in range(each.shape[0]):
        said = 0.0
        for k in range(experts):
            said += mixer.weight[m, k] * value[k, 0]
        each[m, 0] = said
        out += mixer.belief[m] * said
    return out


@njit(fastmath=FAST, nogil=True, error_model="numpy")
def posterior_values(
    mixer: Any, m: int, value: F64, experts: int, target: float, spread: float, weight: float
) -> None:
    """Bayes' rule for values: v_k ∝ v_k exp(−|f_k − t|/s), then v ← (1 − α) v + α/K."""
    nearest = np.inf
    for k in range(experts):
        nearest = min(nearest, abs(value[k, 0] - target))
    total = 0.0
    v = mixer.weight[m]
    for k in range(experts):
        farther = min((abs(value[k, 0] - target) - nearest) / spread, 50.0)
        v[k] *= math.exp(-min(weight, HEAVIEST) * farther) + 1e-300
        total += v[k]
    for k in range(experts):
        v[k] = (1.0 - VALUE_SHARE) * v[k] / total + VALUE_SHARE / experts


@njit(fastmath=FAST, nogil=True, error_model="numpy")
def weigh_values(mixer: Any, value: F64, experts: int, each: F64, target: float, weight: float) -> None:
    """Learn from the target of a forecast: each mixer steps against its error, within ±s; one is Bayes' rule."""
    mixer.step[0] += 1.0
    step = mixer.step[0]
    warm = 1.0 + 3.0 / math.sqrt(step)
    correction = 1.0 - SQUARE_DECAY**step
    mixers = each.shape[0]
    best = np.inf
    for m in range(mixers):
        best = min(best, abs(each[m, 0] - target))
    mixer.step[1] += (best - mixer.step[1]) / min(step, 1000.0)
    spread = mixer.step[1] + 1e-6
    total = 0.0
    for m in range(mixers):
        error = target - each[m, 0]
        direction = weight * min(max(error / spread, -1.0), 1.0)
        if m == POSTERIOR:
            posterior_values(mixer, m, value, experts, target, spread, weight)
        else:
            rate = RATES[m] if m < RATES.shape[0] else 1e-3
            for k in range(experts):
                g = direction * value[k, 0]
                square = SQUARE_DECAY * mixer.square[m, k] + (1.0 - SQUARE_DECAY) * g * g
                mixer.square[m, k] = square
                mixer.weight[m, k] += rate * warm * g / (math.sqrt(square / correction) + 1e-9)
        mixer.belief[m] *= math.exp(-TEMPER * min(weight, HEAVIEST) * min((abs(error) - best) / spread, 50.0))
        total += mixer.belief[m]
    for m in range(mixers):
        mixer.belief[m] = (1.0 - SHARE) * mixer.belief[m] / total + SHARE / mixers
