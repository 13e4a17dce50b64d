"""lookback: is a number above its mean of the last so many events? With a horizon that chooses itself, and 24."""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.tables import Findings, shares
from engine import OnlineClassifier
from engine.learner import warmup
from streams import datasets
from streams.datasets import VARIABLE

WINDOWS = (8, 24, 48, 192, 480, 1_000)
EVENTS = 10_000
SEEDS = (0, 1, 2)
COLUMNS = {
    "numbers": 0,
    "mean over": 0,
    "horizon taken": 0,
    "accuracy": 4,
    "with 24 held": 4,
    "error ratio": 3,
    "from": 3,
    "to": 3,
}

F64 = NDArray[np.float64]


def run() -> Findings:
    """The same learner with and without the choice, on the same events."""
    found = Findings(
        name="lookback",
        title="Context over a horizon that chooses itself",
        about=(
            f"{EVENTS:,} events, {len(SEEDS)} seeds, test then train, the defaults. The label says whether the "
            "first number of an event is above its mean of the last so many events; no learner is told which. "
            "A wandering number (autoregressive, 0.995) beside one of noise; and the price of elec2 beside its "
            "other seven columns. Error ratio: the errors of the learner over those of one that keeps to the "
            "usual horizon of 24 events, below 1 where choosing helps; from, to: its 95 % interval over the "
            "paired seeds."
        ),
        columns=COLUMNS,
    )
    warmup()
    for window in WINDOWS:
        streams = [wandering(window, seed) for seed in SEEDS]
        found.add(**judged("wandering", window, 0, streams))
    if os.environ.get(VARIABLE):
        rows = datasets.load("elec2").arrays()
        price = rows.columns.index("nswprice")
        X = rows.X[:EVENTS] if rows.X is not None else np.zeros((0, 0))
        for window in WINDOWS:
            found.add(**judged("elec2", window, price, [(X, above_mean(X[:, price], window))] * len(SEEDS)))
    else:
        found.notes.append(f"Without elec2, for {VARIABLE} names no folder.")
    return found


def wandering(window: int, seed: int) -> tuple[F64, NDArray[np.bool_]]:
    """(EVENTS, 2) numbers and the labels of the first."""
    drawn = np.random.default_rng(1_000 + seed)
    x = np.zeros(EVENTS)
    for i in range(1, EVENTS):
        x[i] = 0.995 * x[i - 1] + drawn.normal()
    return np.column_stack([x, drawn.normal(size=EVENTS)]), above_mean(x, window)


def above_mean(x: F64, window: int) -> NDArray[np.bool_]:
    """(n,) whether each is above the mean of the last `window`, itself included."""
    sums = np.concatenate([[0.0], np.cumsum(x)])
    first = np.maximum(0, np.arange(len(x)) - window + 1)
    return x > (sums[1:] - sums[first]) / (np.arange(len(x)) + 1 - first)


def judged(
    name: str, window: int, feature: int, streams: list[tuple[F64, NDArray[np.bool_]]]
) -> dict[str, Any]:
    """A row: both learners on each stream."""
    errors, taken = [], []
    for seed, (X, labels) in zip(SEEDS, streams, strict=True):
        y = labels.astype(int)
        free, held = OnlineClassifier(seed=seed), OnlineClassifier(seed=seed)
        for learner in (free, held):
            learner.test_then_train(X[:1], y[:1])
        hold(held)
        errors.append([wrong(learner, X[1:], y[1:]) for learner in (free, held)])
        taken.append(int(free.context_horizons()[feature]))
    logs = [math.log(a / b) for a, b in errors]
    mean, half = shares(logs)
    accuracy, usual = (1.0 - sum(column) / len(SEEDS) for column in zip(*errors, strict=True))
    return {
        "numbers": name,
        "mean over": window,
        "horizon taken": ", ".join(str(events) for events in sorted(set(taken))),
        "accuracy": accuracy,
        "with 24 held": usual,
        "error ratio": math.exp(mean),
        "from": math.exp(mean - half),
        "to": math.exp(mean + half),
    }


def hold(learner: OnlineClassifier) -> None:
    """The learner never chooses."""
    learner._core.state.lookback.labels[1] = np.inf


def wrong(learner: OnlineClassifier, X: F64, y: NDArray[np.int64]) -> float:
    """The share of wrong answers."""
    p = learner.test_then_train(X, y)
    return float((np.array(learner.classes_)[p.argmax(axis=1)] != y).mean())
