"""One pass over a scenario: every event is forecast, then learned; held-out events are asked and never "
"learned."""

from __future__ import annotations

import time as _time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.evaluate.continual.measures import anytime_accuracy, measures
from engine.evaluate.continual.recovery import Switch, by_visit, switches
from engine.evaluate.continual.tasks import Part, Scenario
from engine.evaluate.held import held

F64 = NDArray[np.float64]
Hits = NDArray[np.bool_]
PROBES = 5  # looks at the held-out events per part, the last one at all of them
PROBE_ROWS = 200  # of each task, at the others
LIVE_POINTS = 120  # of the live curve
BLOCK = 1_000  # held-out events asked at once


@dataclass
class Course:
    """What came out of one pass.

    R: (parts, tasks). right: (events,), whether each live forecast was right. starts: each part's first event.
    looks: events so far → accuracy on the held-out events of each task begun by then, by task.
    final: (right, all) held-out events of all tasks at the end. seconds: inside `test_then_train` alone.
    """

    scenario: Scenario
    R: F64
    right: Hits
    starts: list[int]
    looks: list[tuple[int, dict[int, float]]] = field(default_factory=list)
    final: tuple[int, int] = (0, 0)
    seconds: float = 0.0
    memory_bytes: int | None = None
    ordered: bool = True

    def switches(self) -> list[Switch]:
        """The stream's changes of task; none where the events are shuffled."""
        return switches(self.right, self.starts, self.scenario.order) if self.ordered else []

    def result(self) -> dict[str, Any]:
        """The figures, plain JSON values; docs/continual.md says what each means.

        Of shuffled events only those that do not depend on an order of tasks.
        """
        events = len(self.right)
        points = [(n, float(np.mean(list(each.values())))) for n, each in self.looks]
        found: dict[str, Any] = {
            "events": events,
            "tests": self.final[1],
            "final_accuracy": self.final[0] / self.final[1],
            "average_accuracy": float(self.R[-1].mean()),
            "live_accuracy": float(self.right.mean()),
            "anytime_accuracy": anytime_accuracy([n for n, _ in points], [a for _, a in points]),
            "us_per_event": 1e6 * self.seconds / events,
            "memory_bytes": self.memory_bytes,
        }
        if self.ordered:
            chance = 1.0 / self.scenario.classes
            found |= measures(self.R, self.scenario.order, chance)
            found |= {"chance": chance, "matrix": self.R.tolist()}
            found["live_by_part"] = [float(part.mean()) for part in np.split(self.right, self.starts[1:])]
            found["switches"] = list(by_visit(self.switches()))
        found["looks"] = [
            {"events": n, "accuracy": a, "tasks": {str(task): value for task, value in each.items()}}
            for (n, each), (_, a) in zip(self.looks, points, strict=True)
        ]
        found["live"] = self._live()
        return found

    def _live(self) -> list[list[float]]:
        """[[events so far, live accuracy since the point before], …]."""
        edges = np.unique(np.linspace(0, len(self.right), min(LIVE_POINTS, len(self.right)) + 1).astype(int))
        return [[int(b), float(self.right[a:b].mean())] for a, b in pairwise(edges)]


def follow(
    model: Any,
    scenario: Scenario,
    *,
    ordered: bool = True,
    chunk: int = 250,
    probes: int = PROBES,
    progress: Callable[[int, float], None] | None = None,
    clock: Callable[[], float] = _time.perf_counter,
) -> Course:
    """One pass of a learner over a scenario.

    model: with `test_then_train(X, y)`, `predict_proba(X)` and `classes_`, as OnlineClassifier has them; over
    events that are dicts with `predict_proba_one` and `learn_one`. It is told no task. Where it has
    `end_task()`, as some baselines need, that is called at the end of each part.
    ordered: False for a scenario whose events are shuffled. chunk: events handed over at once. probes: looks
    per part. progress: called with the events so far and the live accuracy. clock: what seconds are.

    >>> import numpy as np
    >>> from engine import OnlineClassifier
    >>> from engine.evaluate.continual.drawing import Asked
    >>> from engine.evaluate.continual.scenarios import make
    >>> from engine.evaluate.continual.tasks import Examples
    >>> X = np.random.default_rng(0).normal(size=(400, 3)) + np.repeat(np.arange(4), 100)[:, None]
    >>> examples = Examples("four", X, [i // 100 for i in range(400)])
    >>> course = follow(OnlineClassifier(seed=0), make("class-incremental", examples, Asked()))
    >>> course.R.shape, len(course.right)
    ((2, 2), 320)
    """
    learner = Learner(model)
    few = [_spread(part, PROBE_ROWS) for part in scenario.tests]
    R, starts, looks = [], [], []
    right: list[Hits] = []
    begun: set[int] = set()
    final = (0, 0)
    done, hits, seconds = 0, 0, 0.0
    for part in scenario.parts:
        starts.append(done)
        begun |= set(part.tasks.tolist())
        edges = np.unique(np.linspace(0, len(part), probes + 1).astype(int))
        for first, last in pairwise(edges):
            for at in range(first, last, chunk):
                piece = slice(at, min(at + chunk, last))
                events, labels = scenario.events(part, piece), part.labels[piece]
                before = clock()
                answers = learner.teach(events, labels)
                seconds += clock() - before
                right.append(learner.right(answers, labels))
                done += len(labels)
                hits += int(right[-1].sum())
                if progress is not None:
                    progress(done, hits / done)
            if last < len(part):
                looks.append((done, {task: learner.tested(scenario, few[task])[0] for task in sorted(begun)}))
        before = clock()
        if hasattr(model, "end_task"):
            model.end_task()
        seconds += clock() - before
        tests = [learner.tested(scenario, test) for test in scenario.tests]
        R.append([accuracy for accuracy, _ in tests])
        looks.append((done, {task: R[-1][task] for task in sorted(begun)}))
        final = (sum(n for _, n in tests), sum(len(test) for test in scenario.tests))
    return Course(
        scenario, np.array(R), np.concatenate(right), starts, looks, final, seconds, held(model), ordered
    )


def _spread(part: Part, n: int) -> Part:
    """At most n of a test set's events, at equal distances."""
    at = np.unique(np.linspace(0, len(part) - 1, min(n, len(part))).astype(int))
    return Part(part.rows[at], [part.labels[i] for i in at], part.tasks[at])


class Learner:
    """A learner's calls, for events in arrays or in dicts; an answer is the label forecast, None for none."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def teach(self, events: Any, labels: Sequence[Hashable]) -> Any:
        """Forecast each event, then learn its label: what was forecast."""
        if isinstance(events, list):
            answers = []
            for x, y in zip(events, labels, strict=True):
                answers.append(self.model.predict_proba_one(x))
                self.model.learn_one(x, y)
            return answers
        return self.model.test_then_train(events, labels)

    def tested(self, scenario: Scenario, part: Part) -> tuple[float, int]:
        """(share, number) of the part's events that are forecast right; nothing is learned."""
        found = 0
        for at in range(0, len(part), BLOCK):
            piece = slice(at, at + BLOCK)
            events = scenario.events(part, piece)
            if isinstance(events, list):
                answers: Any = [self.model.predict_proba_one(x) for x in events]
            else:
                answers = self.model.predict_proba(events)
            found += int(self.right(answers, part.labels[piece]).sum())
        return found / len(part), found

    def right(self, answers: Any, labels: Sequence[Hashable]) -> Hits:
        """(n,): whether the likeliest class is the label; nothing was forecast where all are 0."""
        if isinstance(answers, list):
            best = [max(p, key=lambda label: p[label]) if p else None for p in answers]
            return np.array([a == b for a, b in zip(best, labels, strict=True)], dtype=np.bool_)
        P = np.asarray(answers)
        if P.shape[1] == 0:
            return np.zeros(len(labels), dtype=np.bool_)
        column = {label: k for k, label in enumerate(self.model.classes_)}
        wanted = np.array([column.get(label, -1) for label in labels])
        found: Hits = (P.argmax(axis=1) == wanted) & (P.max(axis=1) > 0.0)
        return found
