"""The figures of a scenario in words, and several runs' figures in one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from engine.evaluate.continual.course import Course
from engine.evaluate.continual.recovery import by_visit

SHOWN = {
    "final_accuracy": "accuracy at the end, all held-out events",
    "average_accuracy": "average accuracy over tasks",
    "learning_accuracy": "accuracy right after learning",
    "live_accuracy": "accuracy of live forecasts",
    "anytime_accuracy": "any-time accuracy",
    "forgetting": "forgetting",
    "largest_drop": "largest drop of a task",
    "backward_transfer": "backward transfer",
    "forward_transfer": "forward transfer",
}
"""Figures by name, in the order in which they are shown."""
_COUNTED = (*SHOWN, "us_per_event", "memory_bytes")


def together(courses: Sequence[Course]) -> dict[str, Any]:
    """Figures of several runs of one scenario: means, with `spread` and `runs` beside where there are several.

    spread: the standard deviation over runs (divisor n − 1). Recovery is taken from the switches of all runs.
    """
    results = [course.result() for course in courses]
    first = results[0]
    found = dict(first)
    for name in _COUNTED:
        values = [result[name] for result in results if result.get(name) is not None]
        if values:
            found[name] = float(np.mean(values)) if name != "memory_bytes" else int(np.mean(values))
    for name in ("matrix", "live_by_part"):
        if name in first:
            found[name] = np.mean([result[name] for result in results], axis=0).tolist()
    found["looks"] = [
        {
            "events": points[0]["events"],
            "accuracy": float(np.mean([point["accuracy"] for point in points])),
            "tasks": {
                task: float(np.mean([point["tasks"][task] for point in points]))
                for task in points[0]["tasks"]
            },
        }
        for points in zip(*(result["looks"] for result in results), strict=True)
    ]
    found["live"] = [
        [points[0][0], float(np.mean([value for _, value in points]))]
        for points in zip(*(result["live"] for result in results), strict=True)
    ]
    if "switches" in first:
        found["switches"] = list(by_visit([switch for course in courses for switch in course.switches()]))
    if len(results) > 1:
        found["spread"] = {
            name: float(np.std([result[name] for result in results], ddof=1))
            for name in _COUNTED
            if all(result.get(name) is not None for result in results)
        }
        found["runs"] = [{name: result.get(name) for name in _COUNTED} for result in results]
    return found


def visits(switch: dict[str, Any]) -> str:
    """Which visits a line of `switches` is about.

    >>> visits({"visit": 1, "and_later": False}), visits({"visit": 3, "and_later": True})
    ('first visits', 'visits from the 3rd on')
    """
    named = {1: "first visits", 2: "second visits"}
    return "visits from the 3rd on" if switch["and_later"] else named[switch["visit"]]
