"""What a scenario is made of: examples, parts of a stream with one task each, and held-out events."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.intp]


class ScenarioError(ValueError):
    """A scenario that a data set does not fit."""


@dataclass(frozen=True)
class Examples:
    """A data set: X, an array of one event per row or a list of dicts, and labels.

    held_out: (n,) bool, where the set has a test set of its own. domain: (n,) values that may make tasks.
    """

    name: str
    X: NDArray[Any] | list[dict[str, Any]]
    labels: list[Hashable]
    held_out: NDArray[np.bool_] | None = None
    domain: list[Hashable] | None = None

    @property
    def arrays(self) -> bool:
        """Whether all features are numbers, in one array."""
        return isinstance(self.X, np.ndarray)


@dataclass(frozen=True)
class Part:
    """Consecutive events: rows (m,) of the examples, their labels, and the task of each, (m,)."""

    rows: Ints
    labels: list[Hashable]
    tasks: Ints

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class Scenario:
    """A stream of parts, one task each (order), and a test set per task.

    permutations: (tasks, d), how each task's columns stand, or None. ordered: events come as in the data set.
    contradicts: tasks give the same event different labels, so that no learner can know all of them at once.
    """

    name: str
    examples: Examples
    tasks: tuple[str, ...]
    parts: tuple[Part, ...]
    order: tuple[int, ...]
    tests: tuple[Part, ...]
    permutations: Ints | None = None
    contradicts: bool = False

    @property
    def classes(self) -> int:
        """How many different labels the stream has."""
        return len({label for part in self.parts for label in part.labels})

    def events(self, part: Part, at: slice = slice(None)) -> Any:
        """The events of a part as a learner sees them: an array, or a list of dicts."""
        rows = part.rows[at]
        if isinstance(self.examples.X, list):
            return [self.examples.X[row] for row in rows]
        X = self.examples.X[rows]
        if self.permutations is None:
            return X
        moved = np.take_along_axis(X.reshape(len(X), -1), self.permutations[part.tasks[at]], axis=1)
        return moved.reshape(X.shape)

    def shuffled(self, seed: int) -> Scenario:
        """The same events and test sets, all tasks mixed: what can be learned where nothing has to be kept.

        Raises ScenarioError where the tasks contradict each other.
        """
        if self.contradicts:
            raise ScenarioError(
                f"{self.name}: the concepts give the same event different labels, so that mixed they are "
                "no upper "
                "line; leave out --shuffled, or make concepts of a column with --domain"
            )
        rows = np.concatenate([part.rows for part in self.parts])
        tasks = np.concatenate([part.tasks for part in self.parts])
        labels = [label for part in self.parts for label in part.labels]
        mixed = np.random.default_rng((seed, 1)).permutation(len(rows))
        parts = tuple(
            Part(rows[at], [labels[i] for i in at], tasks[at])
            for at in np.array_split(mixed, len(self.parts))
        )
        return Scenario(
            self.name, self.examples, self.tasks, parts, self.order, self.tests, self.permutations
        )
