"""The local rule: a layer with a head of its own learns from its own forecast error, in the forward sweep.

Layer l reads u = [h⁻ / rms_now(h⁻), x]: the output of the layer below and the network's input (the skip);
the first layer reads x alone. The first numbers of x are K forecasts s_k, as log p (or a number): a head adds
them to its own with learned weights, so that a layer learns what memory does not know. With the target
distribution t:

    a = W u + b,  h = φ(a),  p = softmax(V h + c + Σ_k R_k s_k),  e = p − t,  δ = (Vᵀ e) ∘ φ'(a)
    V ← V − η [e / rms(e)] ⊗ [h / rms(h)]         c ← c − η e / rms(e)
    W ← W − η [δ / rms(δ)] ⊗ [u / rms(u)]         b ← b − η δ / rms(δ)
    R_k ← R_k − η e·s_k / rms(e·s_k)

rms(·) is, per unit, the root of the bias-corrected running mean of squares (decay 0.99). The gradient of one
event has rank one, so normalising its two factors stands for RMSprop's per-weight normalisation at one
multiply-add per weight. Nothing here reads a layer above. For regression p = V h + c + Σ_k R_k s_k and t is a
number.

`numpy_forward` and `numpy_update` are the same formulas, written plainly; property tests hold the kernels
against them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

LEAKY_RELU, TANH, SIGMOID = 0, 1, 2
ACTIVATIONS = {"leaky_relu": LEAKY_RELU, "tanh": TANH, "sigmoid": SIGMOID}
LEAK = 0.01
SQUARE_DECAY = 0.99
TINY = 1e-6
ERROR_LIMIT = 3.0
FAST = {"reassoc", "contract", "nsz"}

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]


@njit(fastmath=FAST, nogil=True, error_model="numpy")
def over_rms(value: F32, square: F32, unbias: float, tiny: float, out: F32) -> None:
    """out ← value / rms(value), (n,) float32; the running mean squares advance by this event."""
    keep, take = np.float32(SQUARE_DECAY), np.float32(1.0 - SQUARE_DECAY)
    correction, least = np.float32(unbias), np.float32(tiny)
    for i in range(out.shape[0]):
        now = keep * square[i] + take * value[i] * value[i]
        square[i] = now
        out[i] = value[i] / (np.sqrt(now * correction) + least)


@njit(fastmath=FAST, nogil=True, error_model="numpy")
def activate(activation: int, h: F32, slope: F32) -> None:
    """h ← φ(h), slope ← φ'(h), both (H,) float32."""
    if activation == LEAKY_RELU:
        for j in range(h.shape[0]):
            slope[j] = np.float32(1.0) if h[j] > 0.0 else np.float32(LEAK)
            h[j] *= slope[j]
    elif activation == TANH:
        for j in range(h.shape[0]):
            h[j] = np.float32(math.tanh(h[j]))
            slope[j] = np.float32(1.0) - h[j] * h[j]
    else:
        for j in range(h.shape[0]):
            h[j] = np.float32(1.0 / (1.0 + math.exp(-h[j])))
            slope[j] = h[j] * (np.float32(1.0) - h[j])


@njit(fastmath=FAST, nogil=True, error_model="numpy")
def forward_layer(
    net: Any, layer: int, width: int, inputs: int, outputs: int, activation: int, regression: bool,
    below: F32, x: F32, hidden: F32, slope: F32, above: F32, p: F64,
) -> None:  # fmt: skip
    """Run one layer: fills hidden h (H,), slope φ'(a) (H,), above h / rms_now(h) (H,) and the forecast p (C,).

    below: (H,) float32, `above` of the layer beneath, not read by layer 0. x: (D,) float32, network input.
    """
    W, b, V, c_, R = net.W[layer], net.b[layer], net.V[layer], net.c[layer], net.R[layer]
    for j in range(width):
        row = W[j]
        a = b[j]
        if layer > 0:
            for i in range(width):
                a += row[i] * below[i]
        skip = row[width : width + inputs]
        for i in range(inputs):
            a += skip[i] * x[i]
        hidden[j] = a
    activate(activation, hidden, slope)
    energy = np.float32(0.0)
    for j in range(width):
        energy += hidden[j] * hidden[j]
    scale = np.float32(1.0 / math.sqrt(energy / width + TINY))
    for j in range(width):
        above[j] = hidden[j] * scale
    top = -np.inf
    for c in range(outputs):
        z = c_[c]
        head = V[c]
        for j in range(width):
            z += head[j] * hidden[j]
        for k in range(R.shape[0]):
            z += R[k] * x[k * outputs + c]
        p[c] = z
        top = max(top, float(z))
    if not regression:
        total = 0.0
        for c in range(outputs):
            p[c] = math.exp(p[c] - top)
            total += p[c]
        for c in range(outputs):
            p[c] /= total


@njit(fastmath=FAST, nogil=True, error_model="numpy")
def scale_input(net: Any, inputs: int, correction: float, x: F32, scaled: F32) -> None:
    """scaled ← x / rms(x), (D,), for all layers at once; the running mean squares advance by this event."""
    over_rms(x, net.square_x, 1.0 / correction, TINY, scaled[:inputs])


@njit(fastmath=FAST, nogil=True, error_model="numpy")
def _error(p: F64, c: int, regression: bool, target: float, weight: float) -> Any:
    """The weighted error of one output, float32."""
    if regression:
        return np.float32(weight * min(max(p[c] - target, -ERROR_LIMIT), ERROR_LIMIT))
    return np.float32(weight * (p[c] - (1.0 if c == int(target) else 0.0)))


@njit(fastmath=FAST, nogil=True, error_model="numpy")
def update_layer(
    net: Any, layer: int, width: int, inputs: int, outputs: int, regression: bool, rate: float,
    correction: float, target: float, weight: float, below: F32, x: F32, x_scaled: F32, hidden: F32, slope: F32,
    p: F64, delta: F32, sway: F32, scaled: F32,
) -> None:  # fmt: skip
    """One step of one layer towards `target` (class index, or a number).

    weight: of the event; it scales e, so that equal weights cancel in e / rms(e) and rare heavy ones count for
    at most ten.
    below, x, hidden, slope, p: what the layer read and said in `forward_layer`. x_scaled: (D,) from
    `scale_input`. delta, sway, scaled: (H,) float32 scratch.
    """
    keep, take = np.float32(SQUARE_DECAY), np.float32(1.0 - SQUARE_DECAY)
    unbias = 1.0 / correction
    eta = np.float32(rate)
    over_rms(hidden, net.square_h[layer], unbias, TINY, scaled)
    R, square_r = net.R[layer], net.square_r[layer]
    for k in range(R.shape[0]):
        pull = np.float32(0.0)
        for c in range(outputs):
            pull += _error(p, c, regression, target, weight) * x[k * outputs + c]
        square = keep * square_r[k] + take * pull * pull
        square_r[k] = square
        R[k] -= eta * pull / (np.float32(math.sqrt(square * np.float32(unbias))) + np.float32(TINY))
    for j in range(width):
        delta[j] = np.float32(0.0)
    for c in range(outputs):
        e = _error(p, c, regression, target, weight)
        square = keep * net.square_e[layer, c] + take * e * e
        net.square_e[layer, c] = square
        step = eta * e / (np.float32(math.sqrt(square * np.float32(unbias))) + np.float32(TINY))
        net.c[layer, c] -= step
        head = net.V[layer, c]
        for j in range(width):
            delta[j] += head[j] * e
            head[j] -= step * scaled[j]
    if layer > 0:
        over_rms(below, net.square_u[layer], unbias, TINY, scaled)
    for j in range(width):
        delta[j] *= slope[j]
    over_rms(delta, net.square_d[layer], unbias, 1e-12, sway)
    W, b = net.W[layer], net.b[layer]
    for j in range(width):
        step = eta * sway[j]
        b[j] -= step
        row = W[j]
        if layer > 0:
            for i in range(width):
                row[i] -= step * scaled[i]
        skip = row[width : width + inputs]
        for i in range(inputs):
            skip[i] -= step * x_scaled[i]


def numpy_forward(
    W: F32, b: F32, V: F32, c: F32, R: F32, u: F32, activation: int, regression: bool = False
) -> tuple[F64, F64, F64]:
    """(h, φ'(a), p) of a first layer with input u, as the module's formulas say."""
    a = W.astype(np.float64) @ u + b
    if activation == LEAKY_RELU:
        h, slope = np.where(a > 0, a, LEAK * a), np.where(a > 0, 1.0, LEAK)
    elif activation == TANH:
        h = np.tanh(a)
        slope = 1 - h * h
    else:
        h = 1 / (1 + np.exp(-a))
        slope = h * (1 - h)
    z = V.astype(np.float64) @ h + c + R @ _forecasts(u, len(R), len(c))
    if regression:
        return h, slope, z
    p = np.exp(z - z.max())
    return h, slope, p / p.sum()


def _forecasts(u: Any, K: int, outputs: int) -> F64:
    """The K forecasts that stand first in an input: (K, C)."""
    return np.asarray(u[: K * outputs], np.float64).reshape(K, outputs)


def numpy_update(
    parameters: dict[str, F64], squares: dict[str, F64], step: int, rate: float, u: F64, target: F64,
    activation: int, regression: bool = False, weight: float = 1.0,
) -> tuple[dict[str, F64], dict[str, F64]]:  # fmt: skip
    """New (parameters, squares) after one event; parameters W, b, V, c, R; squares of u, h, e, d, r.

    step: labels seen including this one. target: (C,) distribution, or (1,) number for regression.
    """
    W, b, V, c, R = (parameters[name] for name in "WbVcR")
    f = np.float32
    h, slope, p = numpy_forward(
        W.astype(f), b.astype(f), V.astype(f), c.astype(f), R.astype(f), u.astype(f), activation, regression
    )
    e = p - target
    if regression:
        e = np.clip(e, -ERROR_LIMIT, ERROR_LIMIT)
    e = weight * e
    d = (V.T @ e) * slope
    pull = _forecasts(u, len(R), len(c)) @ e
    new = {
        name: SQUARE_DECAY * squares[name] + (1 - SQUARE_DECAY) * value * value
        for name, value in {"u": u, "h": h, "e": e, "d": d, "r": pull}.items()
    }
    correction = 1 - SQUARE_DECAY**step

    def scaled(value: F64, name: str, tiny: float = TINY) -> F64:
        result: F64 = value / (np.sqrt(new[name] / correction) + tiny)
        return result

    se, sd = scaled(e, "e"), scaled(d, "d", 1e-12)
    return {
        "W": W - rate * np.outer(sd, scaled(u, "u")),
        "b": b - rate * sd,
        "V": V - rate * np.outer(se, scaled(h, "h")),
        "c": c - rate * se,
        "R": R - rate * scaled(pull, "r"),
    }, new
