"""Test, then train: one pass over a table in which every forecast is made before its own label is learned."""

from __future__ import annotations

import heapq
import time as _time
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.evaluate.latency import Latency
from engine.evaluate.metrics import PrequentialMetrics, Task

if TYPE_CHECKING:
    from streams.table import Row, Table

SINGLE_EVERY = 16  # one block in so many is handed over row by row, so that single events are timed


@dataclass
class Evaluation:
    """What came out: the figures, the durations, and how many rows had no label or a label nobody awaited.

    seconds: time inside the learner's calls alone. `latency` counts single events: in arrays every
    sixteenth block is handed over row by row for it, and counts in no other duration; through dicts it is
    forecast and learning together. timed: the rows behind `seconds`.
    """

    metrics: PrequentialMetrics
    latency: Latency
    seconds: float = 0.0
    rows: int = 0
    timed: int = 0
    unlabelled: int = 0

    @property
    def events_per_second(self) -> float:
        """Rows per second of the learner's own time."""
        return self.timed / self.seconds if self.seconds > 0.0 else 0.0

    def wall_clock(self) -> dict[str, Any]:
        """`events_per_second`, `latency_us` and `seconds`."""
        return {
            "events_per_second": self.events_per_second,
            "latency_us": self.latency.result(),
            "seconds": self.seconds,
        }

    def result(self) -> dict[str, Any]:
        """The metrics' figures with `events_per_second` and `latency_us` beside them."""
        return {**self.metrics.result(), "unlabelled": self.unlabelled, **self.wall_clock()}


def evaluate(
    model: Any,
    table: Table,
    *,
    task: Task | None = None,
    metrics: PrequentialMetrics | None = None,
    arrays: bool | None = None,
    chunk: int = 256,
    limit: int | None = None,
    progress: Callable[[int, PrequentialMetrics], None] | None = None,
    clock: Callable[[], float] = _time.perf_counter,
) -> Evaluation:
    """One pass of `model` over `table`: forecast, then judge, then learn, row after row.

    model: anything with `predict_proba_one` (or `predict_one` for regression) and `learn_one`; with
    `test_then_train` all-number tables go through it in blocks of `chunk` rows, with `forecast_one`,
    `observe` and `learn` kept forecasts meet their labels. Where the table has label times, forecasts and
    labels are merged by time (at equal times the forecast comes first) and judged as labels arrive; labels
    still outstanding at the end are learned then.
    arrays: True or False asks for blocks or for dicts; None takes blocks where they are possible.
    progress: called with the rows so far and the metrics after every block.

    Raises ValueError where the table has no target, or blocks are asked for and not possible.
    """
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
        and None not in labels
        and not getattr(model, "keys", ())
    )
    if arrays is True and not possible:
        raise ValueError(
            f"{table.name}: arrays=True needs a model with test_then_train and without keys, and a table "
            "whose rows all have labels, known at once; use arrays=False"
        )
    X = table.arrays().X if possible and arrays is not False else None
    if arrays is True and X is None:
        raise ValueError(f"{table.name}: arrays=True needs columns of numbers alone; use arrays=False")
    if X is not None:
        _blocks(model, X[:rows], labels, table.times(), run, task, chunk, progress, clock)
    else:
        _dicts(model, table, rows, run, task, chunk, progress, clock)
    return run


def _blocks(
    model: Any,
    X: np.ndarray[Any, np.dtype[np.float64]],
    labels: list[Any],
    times: list[float] | None,
    run: Evaluation,
    task: Task,
    chunk: int,
    progress: Callable[[int, PrequentialMetrics], None] | None,
    clock: Callable[[], float],
) -> None:
    n = len(X)
    y = np.asarray(labels, dtype=np.float64) if task == "regression" else _objects(labels)
    when = None if times is None else np.asarray(times[:n], dtype=np.float64)

    def learn(part: slice) -> Any:
        if when is None:
            return model.test_then_train(X[part], y[part])
        return model.test_then_train(X[part], y[part], times=when[part])

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
        if task == "regression":
            run.metrics.update_many(y[start:stop], answers, times=_part(when, start, stop))
        else:
            classes: list[Hashable] = list(model.classes_)
            place = {label: k for k, label in enumerate(classes)}
            Y = np.fromiter(
                (place[label] for label in labels[start:stop]), dtype=np.int64, count=stop - start
            )
            run.metrics.update_many(Y, answers, classes, times=_part(when, start, stop))
        if progress is not None:
            progress(stop, run.metrics)
    if run.latency.count == 0 and n:  # one block alone
        run.latency.add(run.seconds / n, n)


def _part(when: np.ndarray[Any, Any] | None, start: int, stop: int) -> np.ndarray[Any, Any] | None:
    return None if when is None else when[start:stop]


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

    def learn(self, kept: Any, y: Any) -> None:
        """Its label came."""
        if self.keeps:
            self.model.learn(kept, y)
        else:
            self.model.learn_one(kept, y)


def _in_order(table: Table, rows: int) -> Iterator[tuple[bool, Row, int]]:
    """(is it the label?, row, its number): forecasts and labels merged by time, labels after forecasts."""
    waiting: list[tuple[float, int, Row]] = []
    for row in table.rows(0, rows):
        number = row.meta.row
        if table.has_label_time:
            now = row.meta.time if row.meta.time is not None else float(number)
            while waiting and waiting[0][0] < now:
                _, known, earlier = heapq.heappop(waiting)
                yield True, earlier, known
        yield False, row, number
        if row.y is None:
            continue
        if table.has_label_time and row.meta.label_time is not None:
            heapq.heappush(waiting, (row.meta.label_time, number, row))
        elif not table.has_label_time:
            yield True, row, number
    while waiting:
        _, known, earlier = heapq.heappop(waiting)
        yield True, earlier, known


def _dicts(
    model: Any,
    table: Table,
    rows: int,
    run: Evaluation,
    task: Task,
    chunk: int,
    progress: Callable[[int, PrequentialMetrics], None] | None,
    clock: Callable[[], float],
) -> None:
    caller = _Caller(model, task)
    asked: dict[int, tuple[Any, Any, float]] = {}
    labelled = 0
    for is_label, row, number in _in_order(table, rows):
        if not is_label:
            before = clock()
            kept, answer = caller.ask(row)
            if table.has_label_time or row.y is None:  # else learning observes it right away
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
        run.metrics.update(row.y, answer, time=known)
        before = clock()
        caller.learn(kept, row.y)
        took = clock() - before
        run.seconds += took
        run.latency.add(asking + took)
        labelled += 1
    run.unlabelled = run.rows - labelled
    if progress is not None:
        progress(run.rows, run.metrics)
