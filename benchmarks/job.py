"""One learner over one stream, in a process of its own with one thread: `python -m benchmarks.job JOB LIMIT`."""

from __future__ import annotations

import hashlib
import json
import resource
import sys
import time
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks import moa
from benchmarks.schedule import with_last_label
from engine.evaluate.prequential import Evaluation, evaluate
from engine.evaluate.report import as_json
from streams.table import Table

OWN = "everlearn"
WITHOUT = f"{OWN} without "
FIGURES = ("accuracy", "log_loss", "kappa_temporal", "mae", "rmse", "r2")
LEARNS = ("engine/*.py", "engine/encoders/*.py", "engine/rules/*.py", "memory/*.py")


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is measured.

    learner: "everlearn", "everlearn without PART" or a peer's permanent name. rows: the first so many, None for
    all. history: forecasts may use the labels before; peers get the last one known as one more feature.
    """

    stream: str
    learner: str
    rows: int | None
    seed: int = 0
    history: bool = False

    @property
    def own(self) -> bool:
        """Whether it is the engine's and not a peer's."""
        return self.learner.startswith(OWN)


@cache
def versions(learner: str) -> str | None:
    """What a figure of this learner depends on: a release, or the engine's sources; None if it is not here."""
    if learner in moa.PEERS:
        return moa.version()
    if not learner.startswith(OWN):
        return f"river {version('river')}" if learner.startswith("river-") else f"torch {version('torch')}"
    digest = hashlib.sha256()
    root = Path(__file__).parent.parent
    for path in sorted(path for pattern in LEARNS for path in root.glob(pattern)):
        digest.update(path.name.encode() + path.read_bytes())
    return f"sources {digest.hexdigest()[:12]}"


def table_of(stream: str, rows: int | None) -> Table:
    """The stream's table; of the flights no more months than the rows need."""
    from streams import datasets
    from streams.flights import flights_table

    if stream == "flights" and rows is not None and rows <= 27_000:  # January alone has more
        return flights_table((1,))
    return datasets.load(stream)


def run(job: Job) -> dict[str, Any]:
    """The job with its figures: rows evaluated, accuracy, log loss (or mae, rmse), versions, and the
    processor's seconds inside the learner's calls, which do not grow where others use the machine."""
    table = table_of(job.stream, job.rows)
    rows = len(table) if job.rows is None else min(job.rows, len(table))
    if job.history and not job.own:
        table = with_last_label(table, rows)
    found = _own(job, table, rows) if job.own else _peer(job, table, rows)
    figures = found.metrics.result()
    return {
        **asdict(job),
        "evaluated": found.rows,
        **{name: as_json(figures[name]) for name in FIGURES if name in figures},
        "cpu_seconds": round(found.seconds * found.rows / found.timed, 2),  # some rows are timed singly
        "versions": versions(job.learner),
    }


def _own(job: Job, table: Table, rows: int) -> Evaluation:
    from engine.demo import KEYS
    from engine.learner import OnlineClassifier, OnlineRegressor, warmup

    warmup()
    options: dict[str, Any] = {"seed": job.seed, "label_history": job.history}
    if job.stream == "flights":
        options["keys"] = KEYS
    if job.learner != OWN:
        options[job.learner.removeprefix(WITHOUT)] = False
    learner = OnlineRegressor if table.task == "regression" else OnlineClassifier
    return evaluate(learner(**options), table, limit=rows, clock=time.process_time)


def _peer(job: Job, table: Table, rows: int) -> Evaluation:
    from engine.evaluate.peers import make_peer

    if job.learner in moa.PEERS:
        return moa.judge(job.learner, table, rows=rows, seed=job.seed)
    name = job.learner
    if name == "river-logistic" and len(set(table.labels()[:rows])) > 2:
        name = "river-softmax"
    return evaluate(make_peer(name, job.seed), table, limit=rows, clock=time.process_time)


if __name__ == "__main__":
    limit = int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 10))
    print(json.dumps(run(Job(**json.loads(sys.argv[1])))))
