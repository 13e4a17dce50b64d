"""Small learners, streams that are hard on them, and what tests compare them by."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
from hypothesis import strategies as st

from engine import OnlineClassifier, OnlineRegressor

SMALL: dict[str, Any] = {"layers": 2, "width": 8}


def classifier(**options: Any) -> OnlineClassifier:
    """A classifier small enough for a test."""
    return OnlineClassifier(**SMALL | options)


def regressor(**options: Any) -> OnlineRegressor:
    """A regressor small enough for a test."""
    return OnlineRegressor(**SMALL | options)


def contents(model: Any) -> dict[str, Any]:
    """Everything that changes in a learner, comparable with ==: bytes by array name, and its description."""
    return bits(*model.state())


def bits(arrays: dict[str, np.ndarray], meta: dict[str, Any]) -> dict[str, Any]:
    """Arrays and their description, comparable with ==."""
    found: dict[str, Any] = {name: (a.shape, a.dtype.str, a.tobytes()) for name, a in arrays.items()}
    return found | {"meta": json.dumps(meta)}


def described(model: Any) -> dict[str, Any]:
    """The same of names, counts and what is remembered alone, numbers that were learned left out."""
    arrays, meta = model.state()
    parts = ("fields.", "key_rows", "experience.", "overdue.")
    return bits({name: array for name, array in arrays.items() if name.startswith(parts)}, meta)


def finite(model: Any) -> bool:
    """Whether every number inside a learner is finite (a row without an event is of time −∞)."""
    endless = {"key_rates.time": -np.inf, "category_rates.time": -np.inf, "overdue.due": np.inf}
    return all(
        name.endswith(
            ("forest.x", "early.x", "watch.record")
        )  # what is missing, or was not said, is NaN there
        or (np.isfinite(array) | (array == endless.get(name, 0.0))).all()
        for name, array in model.state()[0].items()
    )


def row(x: np.ndarray) -> dict[Any, Any]:
    """One row of an array as the event it stands for."""
    return dict(enumerate(x.tolist())) if x.ndim == 1 else {0: x}


def one_by_one(model: Any, X: np.ndarray, y: list[Any], times: Any = None, w: Any = None) -> list[Any]:
    """Forecasts of a loop over dicts, each made before its label was learned."""
    said = []
    for i in range(len(X)):
        time = None if times is None or math.isnan(times[i]) else float(times[i])
        kept = model.forecast_one(row(X[i]), time=time)
        said.append(kept.proba if isinstance(model, OnlineClassifier) else kept.value)
        model.learn_one(row(X[i]), y[i], 1.0 if w is None else float(w[i]), time=time)
    return said


def as_array(said: list[dict[Any, float]], classes: tuple[Any, ...]) -> np.ndarray:
    """Dicts of probabilities as an array with a column per class, 0 where a class was not known."""
    return np.array([[p.get(label, 0.0) for label in classes] for p in said]).reshape(len(said), len(classes))


@st.composite
def streams(draw: st.DrawFn, labels: bool = True, rows: int = 40) -> dict[str, Any]:
    """X (n, d) with holes, infinities and constants; y with classes that come late; times, weights, cuts."""
    n, d = draw(st.integers(1, rows)), draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    X = rng.normal(size=(n, d)) * 10.0 ** rng.integers(-3, 4, size=d)
    X[rng.random((n, d)) < draw(st.sampled_from([0.0, 0.3]))] = np.nan
    X[rng.random((n, d)) < draw(st.sampled_from([0.0, 0.1]))] = np.inf
    X[rng.random((n, d)) < draw(st.sampled_from([0.0, 0.1]))] = -np.inf
    if draw(st.booleans()):
        X[:, 0] = rng.integers(0, 3, size=n)
    if draw(st.booleans()):
        X[:, -1] = 7.5
    layout = draw(st.sampled_from(["C", "F", "sliced"]))
    X = X.astype(dtype, order="F" if layout == "F" else "C")
    if layout == "sliced":
        X = np.repeat(X, 2, axis=1)[:, ::2]
    names = draw(st.sampled_from([["a", "b", "c"], [3, 1, 2], [False, True]]))
    y = (
        [names[min(int(rng.integers(len(names))), 3 * i // n)] for i in range(n)]
        if labels
        else rng.normal(50, 9, n)
    )
    times = draw(st.sampled_from(["none", "rising", "holes"]))
    when = None if times == "none" else np.cumsum(rng.random(n)) * 3_000.0
    if when is not None and times == "holes":
        when[rng.random(n) < 0.3] = np.nan
    return {
        "X": X,
        "y": y if labels else y.tolist(),
        "times": when,
        "w": draw(st.sampled_from([None, rng.integers(0, 4, n) / 2.0])),
        "cuts": sorted(draw(st.lists(st.integers(0, n), max_size=3))),
        "keys": draw(st.sampled_from([None, (0,), (0, (0, d - 1))])),
    }
