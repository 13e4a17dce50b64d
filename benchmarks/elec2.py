"""elec2: the engine in arrays and through dicts beside River's forest, and what its parts are worth."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from benchmarks.tables import Findings, shares
from engine import OnlineClassifier
from engine.evaluate.peers import make_peer
from engine.evaluate.prequential import Evaluation, evaluate
from engine.learner import warmup
from streams.table import Table

FIRST = 10_000
SEEDS = (0, 1, 2)
ROUNDS = 3
PARTS = ("context", "recall", "metric", "trees", "sleep")
COLUMNS = {
    "learner": 0,
    "rows": 0,
    "accuracy": 4,
    "log loss": 4,
    "kappa temporal": 3,
    "events/s": 0,
    "times ARF's": 1,
    "p50 µs": 0,
    "p99 µs": 0,
}


def run() -> Findings:
    """Accuracy and speed over the first 10,000 rows and over all 45,312, label history off."""
    found = Findings(
        name="elec2",
        title="elec2: half-hourly electricity prices, up or down against the last day's mean",
        about=(
            "One pass, test then train, label history off, the defaults; River's ARF-10 in the same run over "
            "the same rows. The label is by its definition the price against its mean of the last day, so "
            'context finds it. `kappa temporal` is against "same label as before". Durations: the learner\'s '
            "own calls; p50 and p99 of events handed over one at a time. The first four learners take turns, "
            f"{ROUNDS} times, and the fastest run of each counts. In arrays the features are in the file's "
            "order, in dicts in that of their names, which starts other weights."
        ),
        columns=COLUMNS,
    )
    if not os.environ.get("EVERLEARN_DATA"):
        found.notes.append("Not run: EVERLEARN_DATA names no folder with elec2.")
        return found
    from streams import datasets

    table = datasets.load("elec2")
    warmup()
    for rows in (FIRST, len(table)):
        fastest = _in_turns(
            {
                "River ARF-10": lambda n=rows: evaluate(make_peer("river-arf", seed=0), table, limit=n),
                "River logistic regression": lambda n=rows: evaluate(
                    make_peer("river-logistic"), table, limit=n
                ),
                "everlearn, arrays": lambda n=rows: _engine(table, n, arrays=True),
                "everlearn, dicts": lambda n=rows: _engine(table, n, arrays=False),
            }
        )
        for learner, measured in fastest.items():
            _add(found, learner, measured, fastest["River ARF-10"].events_per_second)
    _ablations(found, table)
    return found


def _in_turns(runs: dict[str, Callable[[], Evaluation]]) -> dict[str, Evaluation]:
    """Each run `ROUNDS` times, in turns; of each the fastest, for what else a machine does slows all of them."""
    found: dict[str, Evaluation] = {}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            measured = run()
            if name not in found or measured.events_per_second > found[name].events_per_second:
                found[name] = measured
    return found


def _engine(table: Table, rows: int, *, arrays: bool = True, **options: Any) -> Evaluation:
    return evaluate(OnlineClassifier(**{"seed": 0, **options}), table, limit=rows, arrays=arrays)


def _add(found: Findings, learner: str, run: Evaluation, forest: float | None) -> None:
    figures, latency = run.metrics.result(), run.latency.result()
    found.add(
        **{
            "learner": learner,
            "rows": run.rows,
            "accuracy": figures["accuracy"],
            "log loss": figures["log_loss"],
            "kappa temporal": figures["kappa_temporal"],
            "events/s": run.events_per_second,
            "times ARF's": None if forest is None else run.events_per_second / forest,
            "p50 µs": latency["p50"],
            "p99 µs": latency["p99"],
        }
    )


def _ablations(found: Findings, table: Table) -> None:
    rows = len(table)
    whole = [_accuracy(_engine(table, rows, seed=seed)) for seed in SEEDS]
    for part in PARTS:
        runs = [_engine(table, rows, seed=seed, **{part: False}) for seed in SEEDS]
        _add(found, f"everlearn without {part}", runs[0], None)
        lost, half = shares([a - _accuracy(b) for a, b in zip(whole, runs, strict=True)])
        found.notes.append(
            f"{part}: worth {100 * lost:+.2f} points of accuracy over all rows "
            f"(± {100 * half:.2f}, 95 % interval over {len(SEEDS)} paired seeds)"
        )
    none = dict.fromkeys(PARTS, False)
    _add(found, "everlearn without all five", _engine(table, rows, **none), None)


def _accuracy(run: Evaluation) -> float:
    return float(run.metrics.result()["accuracy"])
