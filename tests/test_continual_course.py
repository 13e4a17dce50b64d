"""One pass over a scenario: forecasts before labels, held-out events asked only, figures that add up."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
import pytest

from engine import OnlineClassifier
from engine.evaluate.continual.course import follow
from engine.evaluate.continual.drawing import Asked
from engine.evaluate.continual.scenarios import make
from engine.evaluate.continual.tasks import Examples


class LastTwo:
    """Knows the two labels it learned last, and tells an event's own label where that is among them."""

    def __init__(self) -> None:
        self.classes_: tuple[Hashable, ...] = ()
        self.recent: list[Hashable] = []
        self.learned: list[float] = []
        self.asked: list[float] = []
        self.ends: list[int] = []

    def _answers(self, X: Any) -> np.ndarray[Any, Any]:
        P = np.zeros((len(X), len(self.classes_)))
        for i, row in enumerate(np.asarray(X)):
            label = int(row[1])
            if label in self.recent:
                P[i, self.classes_.index(label)] = 1.0
        return P

    def predict_proba(self, X: Any) -> np.ndarray[Any, Any]:
        self.asked += np.asarray(X)[:, 0].tolist()
        return self._answers(X)

    def test_then_train(self, X: Any, y: Any) -> np.ndarray[Any, Any]:
        said = self._answers(X)
        for row, label in zip(np.asarray(X), y, strict=True):
            self.learned.append(float(row[0]))
            if label not in self.classes_:
                self.classes_ = (*self.classes_, label)
            self.recent = [*[known for known in self.recent if known != label], label][-2:]
        return np.hstack([said, np.zeros((len(said), len(self.classes_) - said.shape[1]))])

    def end_task(self) -> None:
        self.ends.append(len(self.learned))

    def memory_bytes(self) -> int:
        return 17


def examples() -> Examples:
    labels: list[Hashable] = [k // 50 for k in range(300)]
    return Examples("made", np.column_stack([np.arange(300.0), np.asarray(labels, float)]), labels)


def test_a_learner_that_knows_the_last_task_alone_forgets_all_others() -> None:
    model = LastTwo()
    scenario = make("class-incremental", examples(), Asked())
    course = follow(model, scenario, chunk=20)
    assert np.array_equal(course.R, np.eye(3))
    found = course.result()
    assert (found["average_accuracy"], found["forgetting"], found["learning_accuracy"]) == (1 / 3, 1.0, 1.0)
    assert (found["final_accuracy"], found["tests"], found["events"]) == (1 / 3, 60, 240)
    assert found["forward_transfer"] == pytest.approx(-1 / 6)
    assert found["memory_bytes"] == 17
    assert model.ends == [80, 160, 240]
    # 80 events, looks after every 16: the first 16 are forecast before their labels are known
    assert found["live_by_part"] == [64 / 80] * 3
    assert course.right[:16].sum() == 0


def test_held_out_events_are_asked_and_never_learned() -> None:
    model = LastTwo()
    follow(model, make("class-incremental", examples(), Asked()))
    assert len(model.learned) == len(set(model.learned)) == 240
    assert not set(model.learned) & set(model.asked)
    assert len(set(model.asked)) == 60


def test_looks_on_the_way_are_at_the_tasks_begun() -> None:
    course = follow(LastTwo(), make("class-incremental", examples(), Asked()), chunk=20, probes=4)
    assert [(n, sorted(each)) for n, each in course.looks] == [
        (20 * k, list(range((20 * k + 79) // 80))) for k in range(1, 13)
    ]
    found = course.result()
    expected = np.mean([1.0] * 4 + [0.5] * 4 + [1 / 3] * 4)
    assert found["anytime_accuracy"] == pytest.approx(expected)
    assert found["looks"][-1] == {"events": 240, "accuracy": 1 / 3, "tasks": {"0": 0.0, "1": 0.0, "2": 1.0}}
    assert found["live"][-1][0] == 240


def test_shuffled_events_have_the_figures_that_need_no_order() -> None:
    scenario = make("class-incremental", examples(), Asked()).shuffled(0)
    found = follow(LastTwo(), scenario, ordered=False).result()
    assert found["events"] == 240
    assert "final_accuracy" in found
    assert "forgetting" not in found
    assert "matrix" not in found


def test_the_clock_runs_while_the_learner_learns_and_not_while_it_is_tested() -> None:
    now = [0.0]

    class Slow(LastTwo):
        def test_then_train(self, X: Any, y: Any) -> np.ndarray[Any, Any]:
            now[0] += 0.5 * len(y)
            return super().test_then_train(X, y)

        def predict_proba(self, X: Any) -> np.ndarray[Any, Any]:
            now[0] += 1000.0
            return super().predict_proba(X)

    scenario = make("class-incremental", examples(), Asked())
    course = follow(Slow(), scenario, clock=lambda: now[0])
    assert course.result()["us_per_event"] == pytest.approx(0.5e6)


def test_the_engine_learns_arrays_images_and_dicts() -> None:
    rng = np.random.default_rng(0)
    labels: list[Hashable] = [k % 4 for k in range(200)]
    X = rng.normal(size=(200, 4)) + 4.0 * np.eye(4)[[k % 4 for k in range(200)]]
    rows = [
        {"a": x[0], "b": x[1], "c": x[2], "d": x[3], "kind": "xy"[k % 2]} for k, x in enumerate(X.tolist())
    ]
    for given in (X, X.reshape(200, 2, 2), rows):
        scenario = make("class-incremental", Examples("made", given, labels), Asked())
        course = follow(OnlineClassifier(seed=0), scenario)
        assert course.R[0, 0] > 0.8
        assert course.right.mean() > 0.6
        assert course.result()["memory_bytes"] > 1000
