"""How tasks are drawn from a data set: what is held out, groups of classes, orders of events."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.evaluate.continual.tasks import Examples, Ints, Part, ScenarioError

TEST_SHARE = 0.2
DOMAINS = 50  # values of a column that make tasks, at most


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What may be asked of a scenario; None is its own default, `make` says which."""

    tasks: int | None = None
    classes_per_task: int | None = None
    test_share: float | None = None
    events_per_task: int | None = None
    visits: int = 4
    blur: float = 0.1


def check(name: str, examples: Examples, asked: Asked) -> None:
    if len(set(examples.labels)) < 2:
        raise ScenarioError(
            f"{examples.name} has the labels {sorted(map(str, set(examples.labels)))}; expected at least "
            "two classes"
        )
    if asked.test_share is not None and not 0.0 < asked.test_share < 1.0:
        raise ScenarioError(f"--test-share is {asked.test_share}; expected a share above 0 and below 1")
    if not 0.0 <= asked.blur < 1.0:
        raise ScenarioError(f"--blur is {asked.blur}; expected a share of at least 0 and below 1")
    for option, value, least in (
        ("--tasks", asked.tasks, 2),
        ("--classes-per-task", asked.classes_per_task, 1),
        ("--visits", asked.visits, 2),
        ("--events-per-task", asked.events_per_task, 1),
    ):
        if value is not None and value < least:
            raise ScenarioError(f"{option} is {value}; expected at least {least}")
    if asked.classes_per_task is not None and name in ("permuted", "recurring"):
        raise ScenarioError(
            f"--classes-per-task is {asked.classes_per_task}; every task of {name} has all classes: leave it out"
        )
    if examples.domain is not None:
        if name not in ("domain-incremental", "recurring"):
            raise ScenarioError(
                f"--domain makes the tasks of domain-incremental and recurring; leave it out for {name}"
            )
        if asked.tasks is not None or asked.classes_per_task is not None:
            raise ScenarioError("--domain says what the tasks are; leave out --tasks and --classes-per-task")


class Maker:
    """The parts that scenarios are made from: held-out rows, groups of classes, blocks of events."""

    def __init__(self, examples: Examples, asked: Asked, random: np.random.Generator) -> None:
        self.examples, self.asked, self.random = examples, asked, random
        self.labels = np.empty(len(examples.labels), dtype=object)
        self.labels[:] = examples.labels
        self.classes: list[Hashable] = sorted(set(examples.labels), key=_order)
        self.domains = list(dict.fromkeys(examples.domain or ()))
        self.held_out = self._held_out()

    def _held_out(self) -> NDArray[np.bool_]:
        """Of every label, within its domain, the share for tests; one event at least, and one left to learn."""
        if self.examples.held_out is not None and self.asked.test_share is None:
            return self.examples.held_out
        share = TEST_SHARE if self.asked.test_share is None else self.asked.test_share
        kinds: dict[Hashable, list[int]] = {}
        for row, label in enumerate(self.examples.labels):
            domain = None if self.examples.domain is None else self.examples.domain[row]
            kinds.setdefault((domain, label), []).append(row)
        held = np.zeros(len(self.labels), dtype=np.bool_)
        for rows in kinds.values():
            if len(rows) > 1:
                n = min(max(round(share * len(rows)), 1), len(rows) - 1)
                held[self.random.permutation(rows)[:n]] = True
        return held

    def groups(self) -> list[list[Hashable]]:
        """The classes of each task, in the order of labels."""
        classes, asked = self.classes, self.asked
        if asked.tasks is not None and asked.classes_per_task is None:
            if asked.tasks > len(classes):
                raise ScenarioError(
                    f"--tasks is {asked.tasks}, but {self.examples.name} has {len(classes)} classes; "
                    "expected at "
                    "most one task per class"
                )
            return [list(group) for group in np.array_split(np.array(classes, dtype=object), asked.tasks)]
        size = asked.classes_per_task or 2
        groups = [classes[at : at + size] for at in range(0, len(classes), size)]
        if len(groups) < 2:
            raise ScenarioError(
                f"{self.examples.name} has {len(classes)} classes, one task with {size} per task; "
                "expected two tasks "
                "at least: use a smaller --classes-per-task, or another scenario such as permuted"
            )
        if asked.tasks is not None and asked.tasks != len(groups):
            raise ScenarioError(
                f"--tasks is {asked.tasks} and --classes-per-task {size}, but {len(classes)} classes make "
                f"{len(groups)} tasks of {size}; leave out one of the two"
            )
        return groups

    def rows(self, wanted: NDArray[np.bool_], *, test: bool) -> Ints:
        """The rows that are wanted, held out or not, in their order."""
        found: Ints = np.flatnonzero(wanted & (self.held_out == test))
        return found

    def of_classes(self, group: Sequence[Hashable]) -> NDArray[np.bool_]:
        """(n,): whether the label is among these."""
        wanted = set(group)
        return np.fromiter((label in wanted for label in self.labels), np.bool_, len(self.labels))

    def of_domain(self, domain: Hashable) -> NDArray[np.bool_]:
        """(n,): whether the event is of this domain."""
        values = self.examples.domain or ()
        return np.fromiter((value == domain for value in values), np.bool_, len(self.labels))

    def mixed(self, rows: Ints) -> Ints:
        """The rows in a drawn order, as many as a task may have."""
        return self.random.permutation(rows)[: self.asked.events_per_task]

    def part(self, rows: Ints, task: int, new: Callable[[Hashable], Hashable] | None = None) -> Part:
        """Rows as a part of this task; new: what their labels are called there."""
        if not len(rows):
            raise ScenarioError(
                f"{self.examples.name}: task {task} has no event to learn or to test; expected at least "
                "two of each "
                "label: use fewer tasks, another --test-share, or more rows"
            )
        labels: list[Hashable] = self.labels[rows].tolist()
        return Part(
            rows,
            labels if new is None else [new(label) for label in labels],
            np.full(len(rows), task, dtype=np.intp),
        )

    def check_domains(self) -> None:
        """ScenarioError where the column makes no tasks."""
        if not 2 <= len(self.domains) <= DOMAINS:
            raise ScenarioError(
                f"the column of --domain has {len(self.domains)} different values; expected 2 to "
                f"{DOMAINS}, each a "
                "task: name another column, or write ranges of its values into one"
            )


def _order(label: Hashable) -> tuple[str, Any]:
    return ("number", label) if isinstance(label, int | float) else (type(label).__name__, label)
