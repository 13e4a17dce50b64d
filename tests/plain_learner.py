"""A small deterministic learner with the loop's interface: online logistic regression over named numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class PlainForecast:
    id: Any
    time: float | None
    version: int
    x: dict[str, float]
    p: float
    labels: list[Any] = field(default_factory=list)
    observed: bool = False

    @property
    def proba(self) -> dict[Any, float]:
        if len(self.labels) < 2:
            return dict.fromkeys(self.labels, 1.0)
        return {self.labels[0]: 1.0 - self.p, self.labels[1]: self.p}

    @property
    def value(self) -> float:
        return self.p


class PlainLearner:
    """Refuses features that are no numbers, a third label, and labels of another type."""

    def __init__(self, rate: float = 0.05) -> None:
        self.rate = rate
        self.names: list[str] = []
        self.weights: list[float] = []
        self.labels: list[Any] = []
        self.version = 0
        self.observed = 0

    def forecast_one(self, x: dict[str, Any], id: Any = None, time: float | None = None) -> PlainForecast:
        numbers = {name: float(value or 0.0) for name, value in x.items()}
        known = dict(zip(self.names, self.weights, strict=True))
        score = sum(known.get(name, 0.0) * value for name, value in numbers.items())
        return PlainForecast(
            id, time, self.version, numbers, 1.0 / (1.0 + math.exp(-score)), list(self.labels)
        )

    def observe(self, f: PlainForecast) -> None:
        if not f.observed:
            f.observed = True
            self.observed += 1

    def learn(self, f: PlainForecast, y: Any, w: float = 1.0) -> None:
        if self.labels and type(y) is not type(self.labels[0]):
            raise TypeError(f"y is {y!r}; expected {type(self.labels[0]).__name__}")
        if y not in self.labels:
            if len(self.labels) == 2:
                raise ValueError(f"y is {y!r}; expected one of {self.labels}")
            self.labels.append(y)
        self.observe(f)
        error = (self.labels.index(y) == 1) - f.p
        for name, value in f.x.items():
            if name not in self.names:
                self.names.append(name)
                self.weights.append(0.0)
            self.weights[self.names.index(name)] += self.rate * w * error * value
        self.version += 1

    def forget(self, id: Any) -> int:
        return 0  # it stores no experience

    def expert_weights(self) -> dict[str, float]:
        return {"linear": 1.0 + self.version * 1e-6, "prior": 0.0}

    def explain(self, f: PlainForecast) -> dict[str, Any]:
        return {
            "experts": [{"name": "linear", "weight": 1.0, "forecast": f.proba}],
            "recalled": [],
            "context": [],
        }

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        meta = {"names": self.names, "labels": self.labels, "counts": [self.version, self.observed]}
        return {"weights": np.array(self.weights)}, {**meta, "rate": self.rate}

    @classmethod
    def from_state(cls, arrays: dict[str, np.ndarray], meta: dict[str, Any]) -> PlainLearner:
        self = cls(meta["rate"])
        self.names, self.labels = list(meta["names"]), list(meta["labels"])
        self.weights = arrays["weights"].tolist()
        self.version, self.observed = meta["counts"]
        return self

    def pack(self, forecasts: list[PlainForecast]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        rows = [[f.id, f.time, f.version, f.x, f.labels, f.observed] for f in forecasts]
        return {"p": np.array([f.p for f in forecasts])}, {"rows": rows}

    def unpack(self, arrays: dict[str, np.ndarray], meta: dict[str, Any]) -> list[PlainForecast]:
        pairs = zip(meta["rows"], arrays["p"].tolist(), strict=True)
        return [
            PlainForecast(
                id, time, version, x, p, labels, False not in observed
            )  # once, all were that waited
            for (id, time, version, x, labels, *observed), p in pairs
        ]
