"""Streams of tasks made from any labelled data: which rows come in which order, changed how, and tested by what.

Class-incremental and domain-incremental: van de Ven and Tolias, "Three scenarios for continual learning" (2019).
Permuted: Goodfellow et al. (2013). Blurry: Bang et al., "Rainbow Memory" (2021).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.encoders.fields import order

I64 = NDArray[np.int64]
Change = Callable[[NDArray[Any]], NDArray[Any]]
Relabel = Callable[[Hashable], Hashable]
NAMES = ("class-incremental", "domain-incremental", "permuted", "recurring", "blurry")
BLUR = 0.1
ROUNDS = 3


class ScenarioError(ValueError):
    """Data that a scenario cannot be made of."""


def _same(X: NDArray[Any]) -> NDArray[Any]:
    return X


def _as_it_is(y: Hashable) -> Hashable:
    return y


@dataclass(frozen=True, kw_only=True)
class Task:
    """Rows to learn from, in order, rows to be tested on, and how both are changed.

    train, test: (n,) int64 row numbers. change: rows of X → rows of X. relabel: label → label. test may be empty.
    """

    name: str
    train: I64
    test: I64
    change: Change = _same
    relabel: Relabel = _as_it_is


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """Tasks in the order in which they come. concept: for each task, which concept it is of (recurring)."""

    name: str
    tasks: tuple[Task, ...]
    concepts: tuple[int, ...] = ()


def held_out(labels: Sequence[Hashable], share: float, random: np.random.Generator) -> tuple[I64, I64]:
    """Rows for training and rows for tests, a share of every class; at least one of a class that has two."""
    if not 0.0 < share < 1.0:
        raise ScenarioError(f"test share is {share!r}; expected a number between 0 and 1, such as 0.2")
    train, test = [], []
    for rows in rows_of(labels).values():
        mixed = random.permutation(rows)
        n = min(max(1, round(share * len(mixed))), len(mixed) - 1)
        test.append(mixed[:n])
        train.append(mixed[n:])
    return np.sort(np.concatenate(train)), np.sort(np.concatenate(test))


def rows_of(labels: Sequence[Hashable]) -> dict[Hashable, I64]:
    """Class → its rows, classes in their natural order."""
    found: dict[Hashable, list[int]] = {}
    for row, label in enumerate(labels):
        found.setdefault(label, []).append(row)
    return {label: np.array(found[label], np.int64) for label in sorted(found, key=order)}


def make(
    name: str, X: NDArray[Any] | None, labels: Sequence[Hashable], train: I64, test: I64, *, tasks: int | None,
    seed: int,
) -> Scenario:  # fmt: skip
    """The scenario of this name over given rows; `X` is None where features are not numbers alone.

    tasks: how many; None for 5, or one per two classes where classes come one after the other. Raises
    ScenarioError where the data does not allow it.
    """
    random = np.random.default_rng([seed, 77])
    if name not in NAMES:
        raise ScenarioError(f"scenario is {name!r}; expected one of {', '.join(NAMES)}")
    if tasks is not None and tasks < 2:
        raise ScenarioError(f"tasks is {tasks}; expected at least 2")
    if name in ("class-incremental", "blurry"):
        return _by_class(name, labels, train, test, tasks, random)
    if name == "recurring":
        return _recurring(labels, train, tasks or 2, random)
    if X is None:
        raise ScenarioError(
            f"{name} changes numbers, and there are columns of text; leave them out with --ignore, or choose "
            "class-incremental, recurring or blurry"
        )
    return _by_change(name, X, train, test, tasks or 5, random)


def shuffled(scenario: Scenario, seed: int) -> Scenario:
    """The same events in random order, as one task, with the same tests: an upper line. ScenarioError if recurring."""
    if scenario.concepts:
        raise ScenarioError("recurring concepts contradict each other: there is no shuffled stream to compare with")
    return Scenario(name=f"{scenario.name}, shuffled", tasks=_mixed(scenario, seed))


def _mixed(scenario: Scenario, seed: int) -> tuple[Task, ...]:
    """Pieces of all tasks in turn, so short that no piece is a task of its own: 50 rows and their change."""
    random = np.random.default_rng([seed, 78])
    nothing = np.zeros(0, np.int64)
    plain = all(task.change is _same for task in scenario.tasks)
    if plain:
        rows = random.permutation(np.concatenate([task.train for task in scenario.tasks]))
        return (Task(name="all, shuffled", train=rows, test=nothing),)
    pieces = [
        Task(name=task.name, train=piece, test=nothing, change=task.change)
        for task in scenario.tasks
        for piece in np.array_split(random.permutation(task.train), max(1, len(task.train) // 50))
    ]
    return tuple(pieces[i] for i in random.permutation(len(pieces)))


def _by_class(
    name: str, labels: Sequence[Hashable], train: I64, test: I64, tasks: int | None, random: np.random.Generator
) -> Scenario:
    classes = list(rows_of(labels))
    n = tasks or max(2, len(classes) // 2)
    if len(classes) < n:
        raise ScenarioError(
            f"the target has {len(classes)} classes, {name} with {n} tasks needs at least {n}; use fewer --tasks, or "
            "domain-incremental, permuted or recurring"
        )
    groups = [list(part) for part in np.array_split(np.arange(len(classes)), n)]
    column = {label: i for i, label in enumerate(classes)}
    numbers = np.array([column[label] for label in labels])
    made = []
    trains = [random.permutation(train[np.isin(numbers[train], group)]) for group in groups]
    if name == "blurry":
        trains = _blurred(trains, random)
    for group, rows in zip(groups, trains, strict=True):
        shown = ", ".join(str(classes[i]) for i in group)
        made.append(Task(name=shown, train=rows, test=test[np.isin(numbers[test], group)]))
    return Scenario(name=name, tasks=tuple(made))


def _blurred(trains: list[I64], random: np.random.Generator) -> list[I64]:
    """A tenth of each task's rows is spread evenly over the other tasks."""
    n = len(trains)
    out: list[list[I64]] = [[] for _ in trains]
    for at, rows in enumerate(trains):
        away = round(BLUR * len(rows))
        out[at].append(rows[away:])
        for other, piece in zip(
            [k for k in range(n) if k != at], np.array_split(rows[:away], n - 1), strict=True
        ):
            out[other].append(piece)
    return [random.permutation(np.concatenate(pieces)) for pieces in out]


def _by_change(
    name: str, X: NDArray[Any], train: I64, test: I64, tasks: int, random: np.random.Generator
) -> Scenario:
    """Every task has rows of its own, seen through a change of its own; the first task's rows are as they are."""
    parts = np.array_split(random.permutation(train), tasks)
    tests = np.array_split(random.permutation(test), tasks)
    width = int(np.prod(X.shape[1:]))
    if name == "permuted" and width < 2:
        raise ScenarioError(f"X has {width} feature; permuted needs at least 2 to exchange")
    made = []
    spread = _spread(X) if name == "domain-incremental" and X.ndim == 2 else None
    for k, (rows, tested) in enumerate(zip(parts, tests, strict=True)):
        change: Change = _same
        if k and name == "permuted":
            change = _permutation(random.permutation(width))
        elif k and spread is not None:
            change = _affine(random.choice([-1.0, 1.0], width) * random.uniform(0.5, 2.0, width),
                             random.normal(size=width) * spread)  # fmt: skip
        elif k:
            change = _turned(180.0 * k / tasks)
        made.append(Task(name=f"{name.split('-')[0]} {k}", train=rows, test=tested, change=change))
    return Scenario(name=name, tasks=tuple(made))


def _spread(X: NDArray[Any]) -> NDArray[np.float64]:
    """Each feature's standard deviation; 1 where it never changes."""
    spread = np.nanstd(np.asarray(X, np.float64), axis=0)
    return np.where(spread > 0.0, spread, 1.0)


def _permutation(places: I64) -> Change:
    return lambda X: X.reshape(len(X), -1)[:, places].reshape(X.shape)


def _affine(scale: NDArray[np.float64], shift: NDArray[np.float64]) -> Change:
    return lambda X: X * scale + shift


def _turned(degrees: float) -> Change:
    """Images turned about their middle; what comes in from outside is 0."""
    from scipy.ndimage import rotate

    return lambda X: rotate(X, degrees, axes=(1, 2), reshape=False, order=1, mode="constant")


def _recurring(labels: Sequence[Hashable], train: I64, concepts: int, random: np.random.Generator) -> Scenario:
    """Concepts in turn, three rounds: in concept k the c-th class is called by the name of the (c + k)-th."""
    classes = list(rows_of(labels))
    if len(classes) < concepts:
        raise ScenarioError(
            f"the target has {len(classes)} classes, recurring with {concepts} concepts exchanges as many; use --tasks "
            f"{max(len(classes), 2)} or fewer" if len(classes) > 1 else
            "the target has 1 class; recurring concepts exchange classes: at least 2 are needed"
        )  # fmt: skip
    place = {label: i for i, label in enumerate(classes)}

    def called(k: int) -> Relabel:
        return lambda y: classes[(place[y] + k) % len(classes)]

    pieces = np.array_split(random.permutation(train), concepts * ROUNDS)
    nothing = np.zeros(0, np.int64)
    order_of = tuple(i % concepts for i in range(len(pieces)))
    return Scenario(
        name="recurring",
        tasks=tuple(
            Task(name=f"concept {k}", train=piece, test=nothing, relabel=called(k))
            for k, piece in zip(order_of, pieces, strict=True)
        ),
        concepts=order_of,
    )
