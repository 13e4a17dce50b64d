"""depth: time per event and what the last layer knows, local rule and backpropagation, 1 to 1,000 layers."""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from benchmarks.tables import Findings
from engine.network import Shape, allocate
from engine.rules.local import SIGMOID, SQUARE_DECAY, forward_layer, scale_input, update_layer
from streams import datasets

DEPTHS = (1, 3, 10, 100, 1000)
WIDTH = 32
EVENTS = 5_000
RATES = (0.001, 0.003, 0.01)
DEEP = 100  # from here on backpropagation takes the rate that was best one depth before
SHORT = 200  # events of backpropagation at 1,000 layers: enough to time it, not to learn

F32 = NDArray[np.float32]


def run() -> Findings:
    """Sigmoid layers of 32 units on elec2's first 5,000 rows (a synthetic stream where that is absent)."""
    recorded = bool(os.environ.get("EVERLEARN_DATA"))
    table = datasets.load("elec2" if recorded else "recurring_rbf")
    found = Findings(
        name="depth",
        title="Depth: sigmoid layers under the local rule and under backpropagation",
        about=(
            f"{table.name}, the first {EVENTS:,} rows, one event at a time; every layer has {WIDTH} sigmoid "
            "units; both learn from the same inputs (features standardised causally, and their differences "
            "to the averages of the last 2 and 24 events). With the skip each layer reads these besides "
            "the layer below. The local rule gives each layer a head and a step of its own; backpropagation "
            "has one head on top, RMSprop (α 0.99, no momentum), in torch on one thread. Accuracy is "
            "prequential, of the last layer's head."
        ),
        columns={"rule": 0, "skip": 0, "layers": 0, "rate": 4, "events": 0, "accuracy": 4, "µs per event": 0},
    )
    columns = table.arrays().X
    assert columns is not None
    X = inputs(columns[:EVENTS])
    names = list(dict.fromkeys(table.labels()[:EVENTS]))
    y = np.array([names.index(label) for label in table.labels()[:EVENTS]], dtype=np.int64)
    _local_pass(X[:5], y[:5], 2, True, len(names), RATES[0])  # compiles
    for skip in (True, False):
        for depth in DEPTHS:
            correct, seconds, best = max((*_local_pass(X, y, depth, skip, len(names), r), r) for r in RATES)
            found.add(**_row("local", skip, depth, best, EVENTS, correct, seconds))
    for skip in (True, False):
        best = RATES[0]
        for depth in DEPTHS:
            events = SHORT if depth >= 1000 else EVENTS
            tried = [best] if depth >= DEEP else RATES
            results = [
                (*backpropagation(X[:events], y[:events], depth, skip, len(names), r), r) for r in tried
            ]
            correct, seconds, best = max(results)
            found.add(**_row("backpropagation", skip, depth, best, events, correct, seconds))
    found.notes.append(
        f"Both take the best of the rates {RATES}, chosen with hindsight; from {DEEP} layers on "
        f"backpropagation takes the best of the depth before. At 1,000 layers it is timed on {SHORT} events; "
        "its accuracy there says nothing."
    )
    found.notes.append(
        "Much of torch's time at this width is the cost of calls; the local rule runs in one compiled call. "
        "What no implementation changes: backpropagation's first layer waits for all others, twice."
    )
    return found


def _row(
    rule: str, skip: bool, depth: int, rate: float, events: int, correct: float, seconds: float
) -> dict[str, Any]:
    return {
        "rule": rule,
        "skip": "yes" if skip else "no",
        "layers": depth,
        "rate": rate,
        "events": events,
        "accuracy": correct / events,
        "µs per event": seconds / events * 1e6,
    }


def inputs(columns: NDArray[np.float64]) -> F32:
    """(n, 3 d) float32: [z, z − E₂, z − E₂₄] with z standardised by what came so far, clipped to ±4."""
    n, d = columns.shape
    mean, square, recent = np.zeros(d), np.zeros(d), np.zeros((2, d))
    found = np.empty((n, 3 * d), dtype=np.float32)
    for i, x in enumerate(columns):
        change = x - mean
        mean += change / (i + 1)
        square += change * (x - mean)
        z = np.clip((x - mean) / np.sqrt(np.maximum(square / (i + 1), 1e-12)), -4.0, 4.0)
        found[i] = np.concatenate([z, z - recent[0], z - recent[1]])
        for k, span in enumerate((2, 24)):
            recent[k] += (z - recent[k]) / min(span, i + 1)
    return found


def _local_pass(
    X: F32, y: NDArray[np.int64], depth: int, skip: bool, classes: int, rate: float
) -> tuple[float, float]:
    """(events that the last head had right, seconds)."""
    net = allocate(Shape(depth=depth, width=WIDTH, inputs=X.shape[1], outputs=classes), seed=0)
    if not skip:  # the first layer alone reads the inputs
        net.W[1:, :, WIDTH:] = 0.0
        net.W[1:, :, :WIDTH] *= np.sqrt((WIDTH + X.shape[1]) / WIDTH)
    before = time.perf_counter()
    correct = _local(net, X, y, depth, skip, classes, rate)
    return correct, time.perf_counter() - before


@njit(fastmath={"reassoc", "contract", "arcp", "nsz", "afn"}, error_model="numpy")
def _local(
    net: Any, X: Any, y: Any, depth: int, skip: bool, classes: int, rate: float
) -> float:  # pragma: no cover - compiled
    n, d = X.shape
    width = net.b.shape[1]  # not the constant: loops of a known length come out slower
    hidden, slope = np.empty((depth, width), np.float32), np.empty((depth, width), np.float32)
    above = np.zeros((depth + 1, width), np.float32)
    p = np.empty((depth, classes))
    scaled_x = np.empty(d, np.float32)
    delta, sway, scaled = (
        np.empty(width, np.float32),
        np.empty(width, np.float32),
        np.empty(width, np.float32),
    )
    correct = 0.0
    for i in range(n):
        x = X[i]
        correction = 1.0 - SQUARE_DECAY ** (i + 1.0)
        for layer in range(depth):
            read = d if skip or layer == 0 else 0
            forward_layer(
                net, layer, width, read, classes, SIGMOID, False,
                above[layer], x, hidden[layer], slope[layer], above[layer + 1], p[layer],
            )  # fmt: skip
        best = 0
        for c in range(classes):
            if p[depth - 1, c] > p[depth - 1, best]:
                best = c
        correct += best == y[i]
        scale_input(net, d, correction, x, scaled_x)
        for layer in range(depth):
            read = d if skip or layer == 0 else 0
            update_layer(
                net, layer, width, read, classes, False, rate, correction, float(y[i]), 1.0,
                above[layer], x, scaled_x, hidden[layer], slope[layer], p[layer], delta, sway, scaled,
            )  # fmt: skip
    return correct


def backpropagation(
    X: F32, y: NDArray[np.int64], depth: int, skip: bool, classes: int, rate: float
) -> tuple[float, float]:
    """(events right, seconds) of the same net under RMSprop, all layers' weights in four tensors."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    d = X.shape[1]
    wide = WIDTH + d if skip else WIDTH
    bound = (3.0 / wide) ** 0.5
    first = torch.nn.Parameter((torch.rand(WIDTH, d) * 2 - 1) * (3.0 / d) ** 0.5)
    stack = torch.nn.Parameter((torch.rand(max(depth - 1, 1), WIDTH, wide) * 2 - 1) * bound)
    offsets = torch.nn.Parameter(torch.zeros(depth, WIDTH))
    head = torch.nn.Parameter(torch.zeros(classes, WIDTH + 1))
    optimiser = torch.optim.RMSprop([first, stack, offsets, head], lr=rate, alpha=0.99)
    events, labels = torch.from_numpy(X), torch.from_numpy(y)
    correct = 0
    before = time.perf_counter()
    for x, label in zip(events, labels, strict=True):
        each, offset = stack.unbind(0), offsets.unbind(0)
        h = torch.sigmoid(torch.mv(first, x) + offset[0])
        for layer in range(1, depth):
            u = h * torch.rsqrt((h * h).mean() + 1e-6)
            u = torch.cat((u, x)) if skip else u
            h = torch.sigmoid(torch.addmv(offset[layer], each[layer - 1], u))
        z = torch.mv(head[:, :WIDTH], h) + head[:, WIDTH]
        correct += int(z.detach().argmax()) == int(label)
        loss = torch.nn.functional.cross_entropy(z[None], label[None])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
    return float(correct), time.perf_counter() - before
