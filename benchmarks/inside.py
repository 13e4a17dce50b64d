"""What stands inside the mixture: each expert alone, the mixture without it, and what probabilities come true."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine import mixing
from engine.evaluate.calibration import expected_error, expected_error_by_chance
from engine.evaluate.paired import paired
from engine.evaluate.prequential import evaluate
from engine.forecast import Forecast
from streams.table import Table

F64 = NDArray[np.float64]
WHOLE, HEATED = "the mixture", "with a temperature"
LEAST = 1e-15


class Losses:
    """Whether each forecast's likeliest class came, and its log loss, in the order of labels."""

    def __init__(self) -> None:
        self.wrong: list[bool] = []
        self.loss: list[float] = []

    def add(self, p: F64, label: int) -> None:
        """p: (classes known,), any sum; label: a class's number, which may be beyond them."""
        known = label < len(p)
        self.wrong.append(not known or int(p.argmax()) != label)
        said = max(float(p[label] / p.sum()), LEAST) if known else LEAST
        self.loss.append(
            -math.log(said if len(p) else 0.5)
        )  # nothing said: an even guess, as metrics count it

    def figures(self) -> dict[str, float]:
        """error, the share of wrong answers, and the mean log loss."""
        n = max(len(self.wrong), 1)
        return {"error": sum(self.wrong) / n, "log_loss": math.fsum(self.loss) / n}


class Temperature:
    """p^β over its sum, β by Newton's steps on the log loss: what recalibration would make of a mixture.

    β ← β + g/H with g = ln p(y) − Σ q ln p, H the decayed Σ of the variance of ln p under q, from β = 1 on.
    """

    def __init__(self, prior: float = 100.0, decay: float = 0.9995) -> None:
        self.beta, self.prior, self.decay, self.curvature = 1.0, prior, decay, prior

    def say(self, p: F64) -> F64:
        """(classes,) probabilities."""
        z = self.beta * np.log(np.maximum(p, LEAST))
        q = np.exp(z - z.max())
        return np.asarray(q / q.sum())

    def learn(self, p: F64, label: int) -> None:
        """The label of a forecast p came."""
        logs, q = np.log(np.maximum(p, LEAST)), self.say(p)
        mean = float(q @ logs)
        self.curvature = self.curvature * self.decay + float(q @ logs**2) - mean * mean
        self.curvature += self.prior * (1.0 - self.decay)
        self.beta = min(max(self.beta + (float(logs[label]) - mean) / self.curvature, 0.5), 2.0)


class Watched:
    """A classifier that is watched, with mixtures beside its own that lack one expert each."""

    def __init__(self, learner: Any) -> None:
        self.learner = learner
        sizes = learner._core.sizes
        self.names: list[str] = sizes.expert_names()
        self._without = {name: mixing.allocate(sizes.experts - 1, sizes.mixers) for name in self.names}
        self._without[WHOLE] = mixing.allocate(sizes.experts, sizes.mixers)
        self._said: dict[Any, dict[str, tuple[F64, F64]]] = {}  # by row number
        self._heat = Temperature()
        self.alone = {name: Losses() for name in self.names}
        self.lacking = {name: Losses() for name in self._without}
        self.whole, self.heated = Losses(), Losses()
        self.told: list[float] = []
        self.hits: list[bool] = []

    def forecast_one(self, x: Mapping[Hashable, Any], id: Any = None, time: float | None = None) -> Forecast:
        """The learner's, and what each of the other mixtures says."""
        kept: Forecast = self.learner.forecast_one(x, id=id, time=time)
        said = self._said[id] = {}
        for name, mixer in self._without.items():
            rows = self._rows(kept, name)
            each, out = np.zeros((kept.sizes.mixers, rows.shape[1])), np.zeros(rows.shape[1])
            mixing.mix(mixer, rows, len(rows), rows.shape[1], each, out)
            said[name] = each, out
        return kept

    def _rows(self, kept: Forecast, without: str) -> F64:
        dim = kept.sizes.dim
        table = kept.record[dim.at_logp : dim.at_each].reshape(dim.experts, dim.outputs)
        return table.copy() if without == WHOLE else np.delete(table, self.names.index(without), axis=0)

    def observe(self, kept: Forecast) -> None:
        """As the learner's."""
        self.learner.observe(kept)

    def learn(self, kept: Forecast, y: Any, w: float = 1.0) -> None:
        """Judge what everybody said, then let all learn."""
        n = len(kept.labels)
        label = self.learner._core.classes.get(y, n)
        said = self._said.pop(kept.id)
        p = kept.probabilities
        if n:
            self.told.append(float(p.max()))
            self.hits.append(int(p.argmax()) == label)
        for name, row in zip(self.names, self._rows(kept, WHOLE), strict=True):
            self.alone[name].add(np.exp(row[:n]), label)
        for name, (_, out) in said.items():
            self.lacking[name].add(out[:n], label)
        self.whole.add(p, label)
        self.heated.add(self._heat.say(p) if n else p, label)
        if label < n:
            self._heat.learn(p, label)
        self.learner.learn(kept, y, w)
        for name, (each, _) in said.items():
            rows = self._rows(kept, name)
            wide = np.zeros((len(each), rows.shape[1]))
            wide[:, : each.shape[1]] = each
            number = self.learner._core.classes[y]
            mixing.weigh(self._without[name], rows, len(rows), rows.shape[1], wide, number, w)


def figures(learner: Any, table: Table, rows: int) -> dict[str, Any]:
    """accuracy and log loss; `calibration`; `experts`: name → alone and without it, error and log loss each."""
    watched = Watched(learner)
    evaluate(watched, table, limit=rows, arrays=False)
    whole, heated = watched.whole.figures(), watched.heated.figures()
    gain = paired(watched.whole.loss, watched.heated.loss)
    told, hits = np.array(watched.told), np.array(watched.hits)
    chance = expected_error_by_chance(told)
    return {
        "evaluated": len(watched.whole.wrong),
        "accuracy": 1.0 - whole["error"],
        "log_loss": whole["log_loss"],
        "calibration": {
            "told": float(told.mean()),
            "came": float(hits.mean()),
            "error": expected_error(told, hits),
            "by_chance": chance,
            "log_loss_with_temperature": heated["log_loss"],
            "gain": gain.difference,
            "half_width": gain.half_width,
            "temperature": watched._heat.beta,
        },
        "experts": {
            name: {"alone": watched.alone[name].figures(), "without": watched.lacking[name].figures()}
            for name in watched.names
        },
    }
