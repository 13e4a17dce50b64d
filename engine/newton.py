"""Second-order softmax regression: an expert that finds its own step sizes, for few and noisy events.

Online Newton steps (Bayesian logistic regression as an extended Kalman filter; Hazan et al. 2007), with one
covariance for all classes. With z = W x, q = softmax(z) and the kept x at the label:

    v = max((1 − Σ q²)/(C − 1), 0.001),   u = P x,   k = 1/(1 + v xᵀu)
    W_c ← W_c + k (t_c − q_c) u,          P ← (P − v k u uᵀ) f

f = 1/λ with λ = 0.9999 while trace P < d p₀, else 1. W = 0 and P = p₀ I at the start. For regression q = z,
v = `PRECISION`, t is the standardised target, and W ← W + k v (t − q) u with t − q within ±3. Two inputs x are
used, each with a strong and a weak prior p₀: the features as they are, and joined with random ReLU features of
them.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from engine.network import mixed_bits

PRIORS = np.array([0.0005, 0.05])
LAMBDA = 0.9999
SHRUNK = 1.0 - 1e-9  # less than the start's trace, by more than rounding
LEAST_VARIANCE = 1e-3
PRECISION = 4.0
FAST = {"reassoc", "contract", "nsz"}

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]


class SecondOrder(NamedTuple):
    """Two models of d inputs: weight (2, C, d), covariance (2, d, d), float64, symmetric to the bit."""

    weight: F64
    covariance: F64


def allocate(inputs: int, outputs: int) -> SecondOrder:
    """Two fresh models, one per prior."""
    covariance = np.zeros((len(PRIORS), inputs, inputs))
    for m, prior in enumerate(PRIORS):
        np.fill_diagonal(covariance[m], prior)
    return SecondOrder(weight=np.zeros((len(PRIORS), outputs, inputs)), covariance=covariance)


def grow(model: SecondOrder, outputs: int, source: NDArray[np.int64]) -> SecondOrder:
    """The same models with other inputs and outputs; source: for each input the old one or −1."""
    fresh = allocate(len(source), outputs)
    kept = np.flatnonzero(source >= 0)
    old = model.weight.shape[1]
    fresh.weight[:, :old, kept] = model.weight[:, :, source[kept]]
    models = np.arange(len(PRIORS))
    fresh.covariance[np.ix_(models, kept, kept)] = model.covariance[
        np.ix_(models, source[kept], source[kept])
    ]
    return fresh


def random_features(units: int, inputs: int, seed: int) -> tuple[F32, F32]:
    """(units, inputs) weights and (units,) offsets of ReLU features; scale 1.5 · 2^U(−1, 1)/√d per unit."""
    unit = np.arange(units)
    columns = np.arange(inputs)
    first = mixed_bits(seed, 77, unit[:, None], columns[None, :])
    second = mixed_bits(seed, 78, unit[:, None], columns[None, :])
    normal = np.sqrt(-2.0 * np.log1p(-first)) * np.cos(2.0 * np.pi * second)
    scale = 1.5 * 2.0 ** (2.0 * mixed_bits(seed, 79, unit) - 1.0) / np.sqrt(max(inputs, 1))
    offset = 1.5 * (mixed_bits(seed, 80, unit) - 0.5)
    return (scale[:, None] * normal).astype(np.float32), offset.astype(np.float32)


@njit(fastmath=FAST, nogil=True, error_model="numpy")
def relu_features(weight: F32, offset: F32, x: F32, inputs: int, out: F64) -> None:
    """out ← max(weight x + offset, 0), (units,)."""
    for r in range(weight.shape[0]):
        row = weight[r]
        total = offset[r]
        for i in range(inputs):
            total += row[i] * x[i]
        out[r] = max(total, np.float32(0.0))


@njit(fastmath=FAST, nogil=True, error_model="numpy")
def say(model: Any, m: int, x: F64, d: int, outputs: int, regression: bool, q: F64) -> None:
    """q ← softmax(W x), or W x for regression; (C,)."""
    top = -np.inf
    for c in range(outputs):
        row = model.weight[m, c]
        z = 0.0
        for i in range(d):
            z += row[i] * x[i]
        q[c] = z
        top = max(top, z)
    if not regression:
        total = 0.0
        for c in range(outputs):
            q[c] = math.exp(max(q[c] - top, -25.0))
            total += q[c]
        for c in range(outputs):
            q[c] /= total


@njit(fastmath=FAST, nogil=True, error_model="numpy")
def learn(
    model: Any, m: int, prior: float, x: F64, d: int, outputs: int, regression: bool, q: F64, target: float,
    weight: float, u: F64,
) -> None:  # fmt: skip
    """One Newton step; q: what the model says of x now. u: (d,) float64 scratch."""
    if outputs < 2 and not regression:
        return
    v = PRECISION
    if not regression:
        squares = 0.0
        for c in range(outputs):
            squares += q[c] * q[c]
        v = max((1.0 - squares) / (outputs - 1.0), LEAST_VARIANCE)
    v *= weight
    trace = 0.0
    for a in range(d):
        row = model.covariance[m, a]
        trace += row[a]
        total = 0.0
        for b in range(d):
            total += row[b] * x[b]
        u[a] = total
    quadratic = 0.0
    for a in range(d):
        quadratic += u[a] * x[a]
    k = 1.0 / (1.0 + v * quadratic)
    for c in range(outputs):
        if regression:
            e = min(max(target - q[c], -3.0), 3.0) * k * v
        else:
            e = ((1.0 if c == int(target) else 0.0) - q[c]) * k * weight
        row = model.weight[m, c]
        for a in range(d):
            row[a] += e * u[a]
    fade = 1.0 / LAMBDA if trace < SHRUNK * d * prior else 1.0
    root = math.sqrt(v * k * fade)
    for a in range(d):
        u[a] *= root
    for a in range(d):  # one product per pair, in either order: P stays symmetric, whatever the rounding
        row = model.covariance[m, a]
        force = u[a]
        for b in range(d):
            row[b] = row[b] * fade - force * u[b]


def numpy_step(weight: F64, covariance: F64, prior: float, x: F64, target: int) -> tuple[F64, F64, F64]:
    """(forecast, weight, covariance) after one labelled event, as the module's formulas say."""
    z = weight @ x
    q = np.exp(z - z.max())
    q /= q.sum()
    v = max((1 - (q * q).sum()) / (len(q) - 1), LEAST_VARIANCE)
    u = covariance @ x
    k = 1 / (1 + v * (x @ u))
    t = np.eye(len(q))[target]
    fade = 1 / LAMBDA if np.trace(covariance) < SHRUNK * len(x) * prior else 1.0
    return q, weight + k * np.outer(t - q, u), (covariance - v * k * np.outer(u, u)) * fade
