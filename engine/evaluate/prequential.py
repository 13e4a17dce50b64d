"""Test, then train: one pass over a table in which every forecast is made before its own label is learned."""

from __future__ import annotations

import time as _time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.evaluate.held import held
from engine.evaluate.latency import Latency
from engine.evaluate.metrics import PrequentialMetrics, Task
from engine.evaluate.ordering import in_order

if TYPE_CHECKING:
    from streams.table import Row, Table

SINGLE_EVERY = 16  # one block in so many is handed over row by row, so that single events are timed


@dataclass
class Evaluation:
    """What came out: the figures, the durations, and how many rows had no label or a label nobody awaited.

    seconds: time inside the learner's calls alone. `latency` counts single events: in arrays every
    sixteenth block is handed over row by row for it, and counts in no other duration; through dicts it is
    forecast and learning together. timed: the rows behind `seconds`. memory_bytes: what the learner holds at the
    end, as far as it can be told: the engine's state, or what the peer says.
    """

    metrics: PrequentialMetrics
    latency: Latency
    seconds: float = 0.0
    rows: int = 0
    timed: int = 0
    unlabelled: int = 0
    memory_bytes: int | None = None

    @property
    def events_per_second(self) -> float:
        """Rows per second of the learner's own time."""
        return self.timed / self.seconds if self.seconds > 0.0 else 0.0

    def wall_clock(self) -> dict[str, Any]:
        """`events_per_second`, `latency_us`, `latency_histogram` ([[µs, events], …]) and `seconds`."""
        return {
            "events_per_second": self.events_per_second,
            "latency_us": self.latency.result(),
            "latency_histogram": self.latency.histogram(),
            "seconds": self.seconds,
        }

    def result(self) -> dict[str, Any]:
        """The metrics' figures with `memory_bytes`, `events_per_second` and `latency_us` beside them."""
        beside = {"unlabelled": self.unlabelled, "memory_bytes": self.memory_bytes}
        return {**self.metrics.result(), **beside, **self.wall_clock()}


def evaluate(
    model: Any,
    table: Table,
    *,
    task: Task | None = None,
    metrics: PrequentialMetrics | None = None,
    arrays: bool | None = None,
    chunk: int = 256,
    limit: int | None = None,
    delay: int = 0,
    progress: Callable[[int, PrequentialMetrics], None] | None = None,
    clock: Callable[[], float] = _time.perf_counter,
) -> Evaluation:
    """One pass of `model` over `table`: forecast, then judge, then learn, row after row.

    model: anything with `predict_proba_one` (or `predict_one` for regression) and `learn_one`; with
    `test_then_train` all-number tables go through it in blocks of `chunk` rows, with `forecast_one`,
    `observe` and `learn` kept forecasts meet their labels. Where the table has label times, forecasts and
    labels are merged by time (at equal times the forecast comes first) and judged as labels arrive; labels
    still outstanding at the end are learned then.
    delay: without label times, each label is learned so many events later: right after the forecast of row
    i + delay comes the label of row i. Where the table has weights, they count in the figures and are told to the
    learner, whose `learn` or `learn_one` must take `w`.
    arrays: True or False asks for blocks or for dicts; None takes blocks where they are possible.
    progress: called with the rows so far and the metrics after every block.

    Raises ValueError where the table has no target, blocks are asked for and not possible, or a delay is asked
    for and label times say otherwise.
    """
    if delay < 0 or (delay and table.has_label_time):
        wanted = "0, for label times say when" if table.has_label_time else "at least 0 events"
        raise ValueError(f"delay={delay}: {table.name} expects {wanted}")
    task = task or ("regression" if table.task == "regression" else "classification")
    run = Evaluation(metrics or PrequentialMetrics(task), Latency())
    rows = len(table) if limit is None else min(limit, len(table))
    labels = table.labels()[:rows]
    if all(label is None for label in labels):
        raise ValueError(
            f"{table.name}: none of {rows} rows has a label; name the column to forecast as target"
        )
    possible = (
        hasattr(model, "test_then_train")
        and not table.has_label_time
        and not delay
        and None not in labels
        and not getattr(model, "keys", ())
    )
    if arrays is True and not possible:
        raise ValueError(
            f"{table.name}: arrays=True needs a model with test_then_train and without keys, and a table "
            "whose rows all have labels, known at once (delay 0); use arrays=False"
        )
    X = table.arrays().X if possible and arrays is not False else None
    if arrays is True and X is None:
        raise ValueError(f"{table.name}: arrays=True needs columns of numbers alone; use arrays=False")
    if X is not None:
        _blocks(model, X[:rows], labels, table, run, task, chunk, progress, clock)
    else:
        _dicts(model, table, rows, run, task, chunk, delay, progress, clock)
    run.memory_bytes = held(model)
    return run


def _blocks(
    model: Any,
    X: np.ndarray[Any, np.dtype[np.float64]],
    labels: list[Any],
    table: Table,
    run: Evaluation,
    task: Task,
    chunk: int,
    progress: Callable[[int, PrequentialMetrics], None] | None,
    clock: Callable[[], float],
) -> None:
    n = len(X)
    y = np.asarray(labels, dtype=np.float64) if task == "regression" else _objects(labels)
    when, heavy = _column(table.times(), n), _column(table.weights(), n)

    def learn(part: slice) -> Any:
        beside = {
            name: column[part] for name, column in (("times", when), ("w", heavy)) if column is not None
        }
        return model.test_then_train(X[part], y[part], **beside)

    for number, start in enumerate(range(0, n, chunk)):
        stop = min(start + chunk, n)
        if number % SINGLE_EVERY == 1:
            parts = []
            for i in range(start, stop):
                before = clock()
                parts.append(learn(slice(i, i + 1)))
                run.latency.add(clock() - before)
            answers = _stack(parts)
        else:
            before = clock()
            answers = np.asarray(learn(slice(start, stop)))
            run.seconds += clock() - before
            run.timed += stop - start
        run.rows = stop
        judged: dict[str, Any] = {"w": _part(heavy, start, stop), "times": _part(when, start, stop)}
        if task == "regression":
            run.metrics.update_many(y[start:stop], answers, **judged)
        else:
            classes: list[Hashable] = list(model.classes_)
            place = {label: k for k, label in enumerate(classes)}
            Y = np.fromiter(
                (place[label] for label in labels[start:stop]), dtype=np.int64, count=stop - start
            )
            run.metrics.update_many(Y, answers, classes, **judged)
        if progress is not None:
            progress(stop, run.metrics)
    if run.latency.count == 0 and n:  # one block alone
        run.latency.add(run.seconds / n, n)


def _column(values: list[float] | None, n: int) -> np.ndarray[Any, Any] | None:
    return None if values is None else np.asarray(values[:n], dtype=np.float64)


def _part(column: np.ndarray[Any, Any] | None, start: int, stop: int) -> np.ndarray[Any, Any] | None:
    return None if column is None else column[start:stop]


def _objects(labels: list[Any]) -> np.ndarray[Any, Any]:
    """(n,) object: the labels as they are, so that the learner's classes are Python's own values."""
    found = np.empty(len(labels), dtype=object)
    found[:] = labels
    return found


def _stack(parts: list[Any]) -> np.ndarray[Any, Any]:
    """Rows whose number of columns grew on the way, filled with zeros."""
    if parts[-1].ndim == 1:
        return np.concatenate(parts)
    found = np.zeros((len(parts), parts[-1].shape[1]))
    for i, row in enumerate(parts):
        found[i, : row.shape[1]] = row[0]
    return found


class _Caller:
    """A model's calls for one event, whichever of the two protocols it has."""

    def __init__(self, model: Any, task: Task) -> None:
        self.model = model
        self.regression = task == "regression"
        self.keeps = all(hasattr(model, name) for name in ("forecast_one", "observe", "learn"))

    def ask(self, row: Row) -> tuple[Any, Any]:
        """(what `learn` will need, the answer): label → probability, or a value."""
        if self.keeps:
            kept = self.model.forecast_one(row.x, id=row.meta.row, time=row.meta.time)
            return kept, kept.value if self.regression else kept.proba
        ask = self.model.predict_one if self.regression else self.model.predict_proba_one
        answer = ask(row.x)
        return row.x, 0.0 if answer is None else answer

    def observe(self, kept: Any) -> None:
        """The event happened; its label is not known yet."""
        if self.keeps:
            self.model.observe(kept)

    def learn(self, kept: Any, y: Any, w: float) -> None:
        """Its label came; w is told where it is not 1."""
        learn = self.model.learn if self.keeps else self.model.learn_one
        if w == 1.0:
            learn(kept, y)
        else:
            learn(kept, y, w=w)


def _dicts(
    model: Any,
    table: Table,
    rows: int,
    run: Evaluation,
    task: Task,
    chunk: int,
    delay: int,
    progress: Callable[[int, PrequentialMetrics], None] | None,
    clock: Callable[[], float],
) -> None:
    caller = _Caller(model, task)
    asked: dict[int, tuple[Any, Any, float]] = {}
    labelled = 0
    for is_label, row, number in in_order(table, rows, delay):
        if not is_label:
            before = clock()
            kept, answer = caller.ask(row)
            if table.has_label_time or delay or row.y is None:  # else learning observes it right away
                caller.observe(kept)
            took = clock() - before
            run.seconds += took
            asked[number] = kept, answer, took
            run.rows += 1
            run.timed += 1
            if progress is not None and run.rows % chunk == 0:
                progress(run.rows, run.metrics)
            if row.y is None or (table.has_label_time and row.meta.label_time is None):
                run.latency.add(took)
                del asked[number]
            continue
        kept, answer, asking = asked.pop(number)
        known = row.meta.label_time if row.meta.label_time is not None else row.meta.time
        run.metrics.update(row.y, answer, row.meta.weight, known)
        before = clock()
        caller.learn(kept, row.y, row.meta.weight)
        took = clock() - before
        run.seconds += took
        run.latency.add(asking + took)
        labelled += 1
    run.unlabelled = run.rows - labelled
    if progress is not None:
        progress(run.rows, run.metrics)
