"""Second-order experts: the kernel does what the formulas say, stays symmetric, and grows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import newton


class Expert:
    """One second-order model with the scratch its kernels need."""

    def __init__(self, inputs: int, classes: int, m: int = 1) -> None:
        self.model, self.m, self.d, self.classes = newton.allocate(inputs, classes), m, inputs, classes
        self.q, self.u = np.zeros(classes), np.zeros(inputs)

    def learn(
        self, x: np.ndarray, target: float, weight: float = 1.0, regression: bool = False
    ) -> np.ndarray:
        newton.say(self.model, self.m, x, self.d, self.classes, regression, self.q)
        said = self.q.copy()
        newton.learn(
            self.model, self.m, newton.PRIORS[self.m], x, self.d, self.classes, regression, self.q, target,
            weight, self.u,
        )  # fmt: skip
        return said


@settings(max_examples=30, deadline=None)
@given(inputs=st.integers(1, 21), classes=st.integers(2, 5), m=st.integers(0, 1), seed=st.integers(0, 2**16))
def test_the_kernel_does_what_the_formulas_say(inputs: int, classes: int, m: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    expert = Expert(inputs, classes, m)
    weight, covariance = np.zeros((classes, inputs)), newton.PRIORS[m] * np.eye(inputs)
    for _ in range(40):
        x, target = rng.normal(size=inputs), int(rng.integers(classes))
        said = expert.learn(x, float(target))
        q, weight, covariance = newton.numpy_step(weight, covariance, newton.PRIORS[m], x, target)
        np.testing.assert_allclose(said, q, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(expert.model.weight[m], weight, rtol=1e-7, atol=1e-10)
    np.testing.assert_allclose(expert.model.covariance[m], covariance, rtol=1e-7, atol=1e-12)
    assert not np.array_equal(weight, np.zeros_like(weight))


def test_a_covariance_stays_symmetric_to_the_bit_and_positive_over_many_events() -> None:
    rng = np.random.default_rng(0)
    expert = Expert(17, 2)
    for i in range(30_000):
        x = rng.normal(size=17) * (1.0 if i % 3 else 30.0)
        expert.learn(x, float(x[0] + rng.normal() > 0))
    covariance = expert.model.covariance[1]
    assert np.array_equal(covariance, covariance.T)
    assert np.linalg.eigvalsh(covariance).min() > 0


def test_the_answer_to_a_linear_question_is_found_within_a_hundred_events() -> None:
    rng = np.random.default_rng(1)
    expert, right = Expert(6, 2), 0
    for i in range(300):
        x = rng.normal(size=6)
        said = expert.learn(x, float(x[1] > x[4]))
        right += i >= 100 and bool(said.argmax() == (x[1] > x[4]))
    assert right > 180


def test_regression_follows_a_line() -> None:
    rng = np.random.default_rng(2)
    expert = Expert(3, 1)
    errors = []
    for _ in range(400):
        x = rng.normal(size=3)
        y = 0.5 * x[0] - 0.25 * x[2]
        errors.append(abs(expert.learn(x, y, regression=True)[0] - y))
    assert np.mean(errors[-100:]) < 0.05


def test_a_grown_model_says_the_same_where_new_inputs_are_zero() -> None:
    rng = np.random.default_rng(3)
    expert = Expert(4, 2)
    for _ in range(50):
        x = rng.normal(size=4)
        expert.learn(x, float(x[0] > 0))
    grown = newton.grow(expert.model, 3, np.array([0, -1, 1, 2, -1, 3]))
    x = rng.normal(size=4)
    wide = np.array([x[0], 0.0, x[1], x[2], 0.0, x[3]])
    assert grown.weight[1, :2] @ wide == pytest.approx(expert.model.weight[1] @ x)
    assert wide @ grown.covariance[1] @ wide == pytest.approx(x @ expert.model.covariance[1] @ x)
    assert np.array_equal(grown.covariance[1], grown.covariance[1].T)
