"""Mixing: the kernels are the formulas, and the mixture follows its best expert."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import mixing


def by_formula(weight: np.ndarray, belief: np.ndarray, logp: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    z = weight @ logp
    q = np.exp(z - z.max(axis=1, keepdims=True))
    q[-1] = weight[-1] @ np.exp(logp)  # the last one is Bayes' mixture of the forecasts themselves
    q /= q.sum(axis=1, keepdims=True)
    return q, belief @ q


@settings(max_examples=40, deadline=None)
@given(experts=st.integers(1, 6), classes=st.integers(2, 5), seed=st.integers(0, 2**16))
def test_forecast_and_step_are_the_formulas(experts: int, classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    mixer = mixing.allocate(experts)
    each, out = np.zeros((mixing.MIXERS, classes)), np.zeros(classes)
    weight, belief = mixer.weight.copy(), mixer.belief.copy()
    steps = len(mixing.RATES)
    square = np.zeros((steps, experts))
    covariance = mixing.NEWTON_PRIOR * np.eye(experts)
    for i in range(1, 20):
        logp = np.log(rng.dirichlet(np.ones(classes), size=experts).clip(mixing.FLOOR))
        label = int(rng.integers(classes))
        mixing.mix(mixer, logp, experts, classes, each, out)
        q, p = by_formula(weight, belief, logp)
        np.testing.assert_allclose(each, q, rtol=1e-9)
        np.testing.assert_allclose(out, p / p.sum(), rtol=1e-9)
        mixing.weigh(mixer, logp, experts, classes, each, label, 1.0)
        g = logp[:, label] - q @ logp.T
        square = mixing.SQUARE_DECAY * square + (1 - mixing.SQUARE_DECAY) * g[:steps] ** 2
        rms = np.sqrt(square / (1 - mixing.SQUARE_DECAY**i))
        step = (mixing.RATES * (1 + 3 / np.sqrt(i)))[:, None] * g[:steps] / (rms + 1e-12)
        around = (logp.T - logp @ q[steps])[q[steps] >= 1e-3]
        seen = q[steps][q[steps] >= 1e-3]
        covariance = np.linalg.inv(np.linalg.inv(covariance) + (around.T * seen) @ around)
        posterior = weight[-1] * np.exp(logp[:, label])
        posterior = (
            1 - mixing.POSTERIOR_SHARE
        ) * posterior / posterior.sum() + mixing.POSTERIOR_SHARE / experts
        weight = np.vstack([weight[:-1] + np.vstack([step, covariance @ g[steps]]), posterior])
        if np.trace(covariance) < experts * mixing.NEWTON_PRIOR:
            covariance = covariance / mixing.NEWTON_LAMBDA
        belief = belief * q[:, label] ** mixing.TEMPER
        belief = (1 - mixing.SHARE) * belief / belief.sum() + mixing.SHARE / len(belief)
        np.testing.assert_allclose(mixer.weight, weight, rtol=1e-7, atol=1e-10)
        np.testing.assert_allclose(mixer.belief, belief, rtol=1e-9)


def test_the_mixture_is_nearly_as_good_as_its_best_expert_and_follows_when_the_best_changes() -> None:
    rng = np.random.default_rng(3)
    mixer = mixing.allocate(3)
    each, out = np.zeros((mixing.MIXERS, 2)), np.zeros(2)
    losses: list[float] = []
    experts: list[np.ndarray] = []
    for i in range(6000):
        label = int(rng.random() < 0.5)
        good = 0 if i < 3000 else 1
        p = np.full((3, 2), 0.5)
        right = rng.random() < 0.9
        p[good] = [0.9, 0.1] if (label == 0) == right else [0.1, 0.9]
        p[1 - good] = rng.dirichlet([5, 5])
        logp = np.log(p.clip(mixing.FLOOR))
        mixing.mix(mixer, logp, 3, 2, each, out)
        losses.append(-float(np.log(out[label])))
        experts.append(-logp[:, label])
        mixing.weigh(mixer, logp, 3, 2, each, label, 1.0)
    best = np.concatenate([np.array(experts)[:3000, 0], np.array(experts)[3000:, 1]])
    assert np.mean(losses) < best.mean() + 0.03
    assert np.mean(losses[5000:]) < best[5000:].mean() + 0.01


@settings(max_examples=40, deadline=None)
@given(experts=st.integers(1, 6), seed=st.integers(0, 2**16), weight=st.sampled_from([0.5, 1.0, 3.0]))
def test_a_step_of_values_is_the_formulas(experts: int, seed: int, weight: float) -> None:
    rng = np.random.default_rng(seed)
    mixer = mixing.allocate(experts)
    each = np.zeros((mixing.MIXERS, 1))
    weights, belief = mixer.weight.copy(), mixer.belief.copy()
    rates = np.append(mixing.RATES, 1e-3)[:, None]
    square = np.zeros((len(rates), experts))
    mean = 0.0
    for i in range(1, 20):
        value, target = rng.normal(size=(experts, 1)), rng.normal()
        said = mixing.mix_values(mixer, value, experts, each)
        np.testing.assert_allclose(each[:, 0], weights @ value[:, 0], rtol=1e-9)
        np.testing.assert_allclose(said, belief @ weights @ value[:, 0], rtol=1e-9)
        mixing.weigh_values(mixer, value, experts, each, target, weight)
        error = target - weights @ value[:, 0]
        mean += (abs(error).min() - mean) / i
        scale = mean + 1e-6
        g = weight * np.clip(error[:-1] / scale, -1.0, 1.0)[:, None] * value.T
        square = mixing.SQUARE_DECAY * square + (1 - mixing.SQUARE_DECAY) * g**2
        step = rates * (1 + 3 / np.sqrt(i)) * g / (np.sqrt(square / (1 - mixing.SQUARE_DECAY**i)) + 1e-9)
        away = abs(value[:, 0] - target)
        posterior = weights[-1] * np.exp(-weight * np.minimum((away - away.min()) / scale, 50.0))
        posterior = (1 - mixing.VALUE_SHARE) * posterior / posterior.sum() + mixing.VALUE_SHARE / experts
        weights = np.vstack([weights[:-1] + step, posterior])
        worse = np.minimum((abs(error) - abs(error).min()) / scale, 50.0)
        belief = belief * np.exp(-mixing.TEMPER * weight * worse)
        belief = (1 - mixing.SHARE) * belief / belief.sum() + mixing.SHARE / len(belief)
        np.testing.assert_allclose(mixer.weight, weights, rtol=1e-7, atol=1e-10)
        np.testing.assert_allclose(mixer.belief, belief, rtol=1e-7)


def test_after_fifty_values_a_mixture_says_what_the_expert_that_is_right_says() -> None:
    rng = np.random.default_rng(5)
    mixer = mixing.allocate(14)
    each = np.zeros((mixing.MIXERS, 1))
    errors = []
    for _ in range(60):
        target = rng.normal()
        value = rng.normal(size=(14, 1))
        value[3] = target + 0.01 * rng.normal()
        errors.append(abs(mixing.mix_values(mixer, value, 14, each) - target))
        mixing.weigh_values(mixer, value, 14, each, target, 1.0)
    assert np.mean(errors[50:]) < 0.1


def test_a_mixture_of_values_leans_on_the_expert_that_is_right() -> None:
    rng = np.random.default_rng(4)
    mixer = mixing.allocate(2)
    each = np.zeros((mixing.MIXERS, 1))
    errors = []
    for _ in range(3000):
        target = rng.normal()
        value = np.array([[target + 0.05 * rng.normal()], [rng.normal()]])
        said = mixing.mix_values(mixer, value, 2, each)
        errors.append(abs(said - target))
        mixing.weigh_values(mixer, value, 2, each, target, 1.0)
    assert np.mean(errors[2000:]) < 0.1
