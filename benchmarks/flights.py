"""flights: the demo's stream with late labels; the engine, River's peers, and trees retrained every night."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.nightly import boosted_nightly, matrix
from benchmarks.rates import outcome_rates
from benchmarks.tables import Findings
from engine import OnlineClassifier
from engine.demo import KEYS
from engine.evaluate.metrics import PrequentialMetrics
from engine.evaluate.peers import make_peer
from engine.evaluate.prequential import Evaluation, evaluate
from engine.learner import warmup
from streams.flights import flights_table
from streams.table import Table

MONTHS = (1, 2)
RIVER = ("river-logistic", "river-logistic-adagrad", "river-arf")
COLUMNS = {
    "learner": 0,
    "outcome rates": 0,
    "AUC": 4,
    "log loss": 4,
    "accuracy": 4,
    "events/s": 0,
    "p50 µs": 0,
    "p99 µs": 0,
}
BLOCKS = 30  # of the paired interval: about two days each


class Recorded:
    """A peer whose features also hold the row's outcome rates, or none; it notes what it said."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.said: list[float] = []

    def predict_proba_one(self, x: dict[str, Any]) -> dict[Any, float]:
        """The peer's answer; the probability of 1 is kept in the order of rows."""
        answer: dict[Any, float] = self.model.predict_proba_one(x)
        self.said.append(answer.get(1, 0.0) if answer else 0.5)
        return answer

    def learn_one(self, x: dict[str, Any], y: Any) -> None:
        """The peer learns."""
        self.model.learn_one(x, y)


class Kept:
    """The engine behind its kept forecasts; notes what was said in the order of rows."""

    def __init__(self, model: OnlineClassifier) -> None:
        self.model = model
        self.said: list[float] = []

    def forecast_one(self, x: dict[str, Any], id: Any = None, time: float | None = None) -> Any:
        """The engine's forecast."""
        kept = self.model.forecast_one(x, id=id, time=time)
        self.said.append(float(kept.proba.get(1, 0.0)) if kept.proba else 0.5)
        return kept

    def observe(self, kept: Any) -> None:
        """The event happened."""
        self.model.observe(kept)

    def learn(self, kept: Any, y: Any) -> None:
        """The label came."""
        self.model.learn(kept, y)


def run() -> Findings:
    """January and February: AUC and log loss of every learner, with and without the rates as features."""
    found = Findings(
        name="flights",
        title="Flights: will they arrive 15 minutes late, or not at all?",
        about=(
            "The 51,955 departures from New York in January and February 2013, forecast at scheduled "
            "departure, learned when the outcome is known, hours later; the same rows, features and late "
            "labels for all. “Outcome rates”: how often flights were late lately, per carrier, origin, "
            "destination, carrier at origin, hour at origin, tail number and over all, decayed over 1 hour, "
            "6 hours, 1 day and 10 days; the engine's context memory keeps them itself, peers get them as 28 "
            "more features."
        ),
        columns=COLUMNS,
    )
    table = flights_table(MONTHS)
    columns = {name: [row.x[name] for row in table.rows()] for name in table.columns}
    y = np.array(table.labels(), dtype=np.int64)
    time, label_time = np.array(table.times()), np.array(table.label_times())
    rates, names = outcome_rates(columns, KEYS, y, time, label_time)
    with_rates = joined(table, columns, rates, names)
    warmup()

    said: dict[str, NDArray[np.float64]] = {}
    for title, keys, rows, has in (
        ("everlearn", KEYS, table, "as context"),
        ("everlearn without keys", (), table, "no"),
        ("everlearn without keys", (), with_rates, "as features"),
    ):
        model = Kept(OnlineClassifier(seed=0, keys=keys))
        add(found, title, has, evaluate(model, rows))
        said[f"{title}, {has}"] = np.array(model.said)
    for name in RIVER:
        for rows, has in ((table, "no"), (with_rates, "as features")):
            peer = Recorded(make_peer(name))
            add(found, peer.model.title, has, evaluate(peer, rows))
            said[f"{peer.model.title}, {has}"] = np.array(peer.said)
    X, categories, _ = matrix(columns)
    for extra, has in ((None, "no"), (rates, "as features")):
        full = X if extra is None else np.hstack([X, extra])
        kinds = categories if extra is None else [*categories, *[False] * extra.shape[1]]
        p = boosted_nightly(full, kinds, y, time, label_time)
        said[f"trees every night, {has}"] = np.nan_to_num(p, nan=0.5)
        _judge(found, "gradient-boosted trees, trained every night", has, p, y, label_time)
    both = 0.5 * (
        said["trees every night, as features"] + said["River logistic regression, AdaGrad, as features"]
    )
    _judge(found, "the last and AdaGrad regression, averaged", "as features", both, y, label_time)
    said["both averaged, as features"] = both
    _intervals(found, said, y)
    return found


def joined(
    table: Table, columns: dict[str, list[Any]], rates: NDArray[np.float64], names: Sequence[str]
) -> Table:
    """The table with its rows' outcome rates (n, names) as further features."""
    import pyarrow as pa

    features = {**columns, **{name: rates[:, j] for j, name in enumerate(names)}}
    return Table(
        table.name,
        pa.table(features),
        target=pa.array(table.labels()),
        time=pa.array(table.times()),
        label_time=pa.array(table.label_times()),
        task="classification",
    )


def add(found: Findings, learner: str, has: str, run: Evaluation) -> None:
    """A learner's row; has: how it gets the outcome rates."""
    figures, latency = run.metrics.result(), run.latency.result()
    found.add(
        **{
            "learner": learner,
            "outcome rates": has,
            "AUC": figures["roc_auc"],
            "log loss": figures["log_loss"],
            "accuracy": figures["accuracy"],
            "events/s": run.events_per_second,
            "p50 µs": latency["p50"],
            "p99 µs": latency["p99"],
        }
    )


def _judge(
    found: Findings,
    learner: str,
    has: str,
    p: NDArray[np.float64],
    y: NDArray[np.int64],
    label_time: NDArray[np.float64],
) -> None:
    metrics = PrequentialMetrics()
    for i in np.argsort(label_time, kind="stable").tolist():
        answer = {} if math.isnan(p[i]) else {0: 1.0 - float(p[i]), 1: float(p[i])}
        metrics.update(int(y[i]), answer, time=float(label_time[i]))
    figures = metrics.result()
    found.add(
        **{
            "learner": learner,
            "outcome rates": has,
            "AUC": figures["roc_auc"],
            "log loss": figures["log_loss"],
            "accuracy": figures["accuracy"],
        }
    )


def _intervals(found: Findings, said: dict[str, NDArray[np.float64]], y: NDArray[np.int64]) -> None:
    """AUC of the engine minus each other's: 95 % interval of a bootstrap over blocks of neighbouring rows."""
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(0)
    blocks = np.array_split(np.arange(len(y)), BLOCKS)
    draws = [np.concatenate([blocks[b] for b in rng.integers(0, BLOCKS, BLOCKS)]) for _ in range(200)]
    own = "everlearn, as context"
    base = [roc_auc_score(y[rows], said[own][rows]) for rows in draws]
    for name, p in said.items():
        if name == own:
            continue
        gain = np.array(base) - [roc_auc_score(y[rows], p[rows]) for rows in draws]
        low, high = np.percentile(gain, [2.5, 97.5])
        found.notes.append(
            f"AUC of everlearn minus that of {name}: {gain.mean():+.4f} "
            f"({low:+.4f} to {high:+.4f}, 95 % of 200 bootstraps over {BLOCKS} blocks of rows)"
        )
