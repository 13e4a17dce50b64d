"""The engine and its peers over the same rows: who runs, each one's figures, and what lies between them."""

from __future__ import annotations

import time as _time
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from engine.evaluate.metrics import PrequentialMetrics, Task
from engine.evaluate.paired import BLOCKS, paired
from engine.evaluate.peers import BACKPROP, BACKPROP_REGRESSORS, PEERS, make_peer, task_of
from engine.evaluate.processes import Failure
from engine.evaluate.report import as_json

if TYPE_CHECKING:
    from streams.table import Table

ENGINE, FAMILY = "everlearn", "backprop"
HEADLINE = {"classification": "accuracy", "regression": "mae"}
DEFAULTS: dict[str, tuple[str, ...]] = {
    "classification": (
        "river-logistic",
        "river-hat",
        "river-knn",
        "river-amf",
        "river-arf",
        "river-leveraging-bagging",
        "river-srp",
        FAMILY,
    ),
    "regression": (
        "river-linear-adagrad",
        "river-knn-regressor",
        "river-amrules",
        "river-amf-regressor",
        "river-arf-regressor",
        FAMILY,
    ),
}
_SAY_SECONDS = 0.2


@dataclass(frozen=True, kw_only=True)
class Job:
    """One learner, one table, one seed. options: the engine's. history: forecasts may use the labels before."""

    learner: str
    table: Table
    task: Task
    seed: int = 0
    delay: int = 0
    history: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Judged:
    """A learner's figures, and what every label said of it: (weights, headline, loss), each (labels,) float64."""

    figures: dict[str, Any]
    each: tuple[NDArray[np.float64], ...]


def chosen(names: Sequence[str], task: Task, classes: int) -> list[str]:
    """The peers to run: those named, or the task's defaults; ValueError names the known ones.

    "backprop" stands for all its optimisers and rates. classes: where there are more than two, softmax regression
    takes the place of logistic regression among the defaults.

    >>> chosen([], "regression", 0)[:2]
    ['river-linear-adagrad', 'river-knn-regressor']
    """
    if not names:
        return [
            "river-softmax" if name == "river-logistic" and classes > 2 else name for name in DEFAULTS[task]
        ]
    known = [FAMILY, *(name for name in PEERS if task_of(name) == task)]
    for name in names:
        if name not in known:
            what = f"is for {task_of(name)}" if name in PEERS else "is no peer"
            raise ValueError(f"--peers {name}: {what}; known for {task} are {', '.join(known)}")
    return list(dict.fromkeys(names))


def members(name: str, task: Task) -> tuple[str, ...]:
    """What runs for a name: the peer itself, or all of the backpropagation family."""
    if name != FAMILY:
        return (name,)
    return BACKPROP_REGRESSORS if task == "regression" else BACKPROP


def judge(job: Job, say: Callable[[tuple[int, float | None]], None]) -> Judged:
    """Run one job; `say((rows so far, headline so far))` a few times a second."""
    from engine.evaluate.lags import Lagged
    from engine.evaluate.prequential import evaluate

    each = (array("d"), array("d"), array("d"))
    metrics = PrequentialMetrics(job.task, each=each, window=max(50, len(job.table) // 60))
    said = 0.0

    def progress(rows: int, metrics: PrequentialMetrics) -> None:
        nonlocal said
        if _time.monotonic() - said >= _SAY_SECONDS:
            said = _time.monotonic()
            say((rows, metrics.headline()))

    model: Any
    if job.learner == ENGINE:
        model, about = _engine(job)
    else:
        peer = make_peer(job.learner, job.seed)
        about = {"title": peer.title, "about": peer.about}
        if job.table.has_weight and not peer.weighted:
            about["about"] += "; takes no weights"
        model = Lagged(peer) if job.history else peer
    chunk = 256 if job.learner == ENGINE else 16
    run = evaluate(
        model, job.table, task=job.task, metrics=metrics, delay=job.delay, chunk=chunk, progress=progress
    )
    say((run.rows, metrics.headline()))
    figures = {**about, **run.result(), "curve": metrics.curve()}
    return Judged(figures, tuple(np.frombuffer(column, dtype=np.float64).copy() for column in each))


def _engine(job: Job) -> tuple[Any, dict[str, str]]:
    from engine.learner import OnlineClassifier, OnlineRegressor, warmup

    warmup()
    make = OnlineRegressor if job.task == "regression" else OnlineClassifier
    model = make(seed=job.seed, label_history=job.history, **job.options)
    return model, {"title": "everlearn", "about": "its defaults"}


def over_seeds(runs: Sequence[Judged]) -> Judged:
    """Several seeds as one: figures that are numbers and what each label said are means, the rest is the first's.

    The figures of each seed that count most stand in `seeds`.
    """
    first = runs[0].figures
    if len(runs) == 1:
        return runs[0]
    figures = dict(first)
    for name, value in first.items():
        values = [run.figures.get(name) for run in runs]
        if isinstance(value, float) and all(isinstance(v, float) for v in values):
            figures[name] = fmean(v for v in values if isinstance(v, float))
    shown = ("accuracy", "log_loss", "mae", "rmse")
    figures["seeds"] = [{name: run.figures[name] for name in shown if name in run.figures} for run in runs]
    columns = zip(*(run.each for run in runs), strict=True)
    return Judged(figures, tuple(np.mean(column, axis=0) for column in columns))


def better(task: Task, a: Judged, b: Judged) -> bool:
    """Whether a's headline beats b's."""
    name = HEADLINE[task]
    return bool(
        a.figures[name] < b.figures[name] if task == "regression" else a.figures[name] > b.figures[name]
    )


def best_of(task: Task, tried: Mapping[str, Judged]) -> Judged:
    """The best of a family by its headline, in hindsight, with all that was tried beside it."""
    name = next(iter(tried))
    for other in tried:
        if better(task, tried[other], tried[name]):
            name = other
    best = tried[name]
    headline = HEADLINE[task]
    figures = {
        **best.figures,
        "about": f"{best.figures['about']}; the best of {len(tried)} optimisers and rates, in hindsight",
        "chosen": name,
        "tried": {other: run.figures[headline] for other, run in tried.items()},
    }
    return Judged(figures, best.each)


def between(engine: Judged, peer: Judged, task: Task) -> dict[str, dict[str, float | None]]:
    """The engine's headline and loss less the peer's, each {"difference", "half_width"} of a 95 % interval."""
    names = ("mae", "squared_error") if task == "regression" else ("accuracy", "log_loss")
    found = {}
    for name, mine, theirs in zip(names, engine.each[1:], peer.each[1:], strict=True):
        gap = paired(mine, theirs, engine.each[0])
        found[name] = {"difference": gap.difference, "half_width": gap.half_width}
    return found


ABOUT_INTERVALS = (
    f"everlearn's figure less the peer's, over the same labels; 95 % interval by Student's t over {BLOCKS} "
    "blocks of consecutive labels"
)


def jobs_of(
    names: Sequence[str],
    table: Table,
    task: Task,
    *,
    seeds: Sequence[int] = (0,),
    delay: int = 0,
    history: bool = False,
    options: Mapping[str, Any] | None = None,
) -> list[Job]:
    """The engine first, then every peer, once for each seed. options: the engine's alone."""
    learners = [ENGINE, *dict.fromkeys(member for name in names for member in members(name, task))]
    return [
        Job(
            learner=learner,
            table=table,
            task=task,
            seed=seed,
            delay=delay,
            history=history,
            options=(options or {}) if learner == ENGINE else {},
        )
        for learner in learners
        for seed in seeds
    ]


def report_of(
    names: Sequence[str], jobs: Sequence[Job], results: Sequence[Judged | Failure]
) -> dict[str, Any]:
    """All that `compare` tells, as plain JSON values, in the form of `engine.evaluate.report`.

    `everlearn` and the peers, best first, each with its figures; `stream`: what was asked; `intervals`: peer →
    figure → difference and half_width; `failed`: learner → reason. RuntimeError where the engine failed.
    """
    by_learner: dict[str, list[Judged | Failure]] = {}
    for job, result in zip(jobs, results, strict=True):
        by_learner.setdefault(job.learner, []).append(result)
    whole: dict[str, Judged] = {}
    failed: dict[str, str] = {}
    for learner, runs in by_learner.items():
        reasons = [run.reason for run in runs if isinstance(run, Failure)]
        if reasons:
            failed[learner] = reasons[0]
        else:
            whole[learner] = over_seeds([run for run in runs if isinstance(run, Judged)])
    if ENGINE in failed:
        raise RuntimeError(f"{ENGINE} failed: {failed[ENGINE]}")
    job = jobs[0]
    shown: dict[str, Judged] = {}
    for name in names:
        tried = {member: whole[member] for member in members(name, job.task) if member in whole}
        if tried:
            shown[name] = best_of(job.task, tried) if name == FAMILY else tried[name]
    headline = HEADLINE[job.task]
    order = sorted(
        shown, key=lambda name: shown[name].figures[headline], reverse=job.task == "classification"
    )
    found: dict[str, Any] = as_json(
        {
            ENGINE: whole[ENGINE].figures,
            **{name: shown[name].figures for name in order},
            "stream": {
                "name": job.table.name,
                "events": len(job.table),
                "target": job.table.target,
                "task": job.task,
                "headline": headline,
                "seeds": len(by_learner[ENGINE]),
                "delay": job.delay,
                "label_history": job.history,
                "unreadable_values": job.table.unreadable,
            },
            "intervals": {name: between(whole[ENGINE], shown[name], job.task) for name in order},
            "failed": failed,
        }
    )
    return found
