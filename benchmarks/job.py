"""One learner over one stream, in a process of its own with one thread: `python -m benchmarks.job JOB LIMIT`."""

from __future__ import annotations

import ast
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
from benchmarks.schedule import with_last_labels
from engine.evaluate.prequential import Evaluation, evaluate
from engine.evaluate.report import as_json
from streams.table import Table

OWN = "everlearn"
WITHOUT = f"{OWN} without "
INSIDE, BESIDE = f"{OWN} inside", f"{OWN} beside backpropagation"
FIGURES = ("accuracy", "log_loss", "kappa_temporal", "mae", "rmse", "r2")


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is measured.

    learner: "everlearn", "everlearn without PART", INSIDE (its experts), BESIDE (its layers and the same by
    backpropagation), or a peer's permanent name. rows: the first so many, None for all. history: forecasts may
    use the labels before; peers get the last three that are known as features.
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
    for name, text in sorted(sources("engine.learner").items()):
        digest.update(name.encode() + text)
    return f"sources {digest.hexdigest()[:12]}"


def sources(module: str) -> dict[str, bytes]:
    """The project's modules that this one imports, itself included, at whatever depth: name → text."""
    root = Path(__file__).parent.parent
    found: dict[str, bytes] = {}
    todo = [module]
    while todo:
        name = todo.pop()
        place = root.joinpath(*name.split("."))
        path = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
        if name in found or not path.is_file():  # seen, or no module but what one holds, or not the project's
            continue
        found[name] = path.read_bytes()
        for node in ast.walk(ast.parse(found[name])):
            if isinstance(node, ast.ImportFrom) and node.module:
                todo += [node.module, *(f"{node.module}.{part.name}" for part in node.names)]
            elif isinstance(node, ast.Import):
                todo += [part.name for part in node.names]
    return found


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
    if job.learner in (INSIDE, BESIDE):
        return {**asdict(job), **_looked_into(job, table, rows), "versions": versions(job.learner)}
    if job.history and not job.own:
        table = with_last_labels(table, rows)
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
    return evaluate(_learner(job, table), table, limit=rows, clock=time.process_time)


def _looked_into(job: Job, table: Table, rows: int) -> dict[str, Any]:
    from benchmarks import backprop, inside

    learner = _learner(job, table)
    if job.learner == INSIDE:
        return inside.figures(learner, table, rows)
    return backprop.figures(learner, table, rows, job.seed)


def _learner(job: Job, table: Table) -> Any:
    from engine.demo import KEYS
    from engine.learner import OnlineClassifier, OnlineRegressor, warmup

    warmup()
    options: dict[str, Any] = {"seed": job.seed, "label_history": job.history}
    if job.stream == "flights":
        options["keys"] = KEYS
    if job.learner.startswith(WITHOUT):
        options[job.learner.removeprefix(WITHOUT)] = False
    if job.learner in (INSIDE, BESIDE):
        options["sleep"] = False  # who sleeps says nothing
    learner = OnlineRegressor if table.task == "regression" else OnlineClassifier
    return learner(**options)


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
