"""Scenarios: streams of tasks made from any data set, with held-out events for each task."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import numpy as np

from engine.evaluate.continual.drawing import Asked, Maker, check
from engine.evaluate.continual.tasks import Examples, Ints, Part, Scenario, ScenarioError


def make(name: str, examples: Examples, asked: Asked, seed: int = 0) -> Scenario:
    """The scenario of this name over the examples, drawn by the seed.

    - class-incremental: every task has classes of its own, `classes_per_task` of them (2), by their order.
    - domain-incremental: the same labels throughout. Tasks are the values of `domain`, as they appear; without
      it groups of classes, whose labels are their places in the group (van de Ven and Tolias 2019).
    - permuted: in every task the columns stand in another order, in the first one as they are (Goodfellow et
      al. 2013); `tasks` of them (5), each with all events.
    - recurring: concepts in turn, each `visits` times (4): the values of `domain`, or without it `tasks` (2)
      ways to call the classes: in concept k each goes by the label k places further on, around.
    - blurry: class-incremental, but a share `blur` (0.1) of each class's events is spread evenly over the other
      tasks (Bang et al. 2021, "Rainbow memory").

    Events are shuffled within a task, but for tasks made of `domain`, where they keep their order. Of each
    label of a task a share `test_share` (0.2) is held out, drawn by the seed, where the set has no test set of
    its own. `events_per_task` keeps the first so many of each task.
    Raises ScenarioError where the data does not fit.
    """
    if name not in SCENARIOS:
        raise ScenarioError(f"the scenario is {name!r}; expected one of {', '.join(SCENARIOS)}")
    check(name, examples, asked)
    return SCENARIOS[name](Maker(examples, asked, np.random.default_rng((seed, 0))))


def _named(group: Sequence[Hashable]) -> str:
    return ", ".join(map(str, group)) if len(group) <= 4 else f"{group[0]} … {group[-1]}"


def _by_class(maker: Maker) -> Scenario:
    groups = maker.groups()
    parts, tests = [], []
    for task, group in enumerate(groups):
        wanted = maker.of_classes(group)
        parts.append(maker.part(maker.mixed(maker.rows(wanted, test=False)), task))
        tests.append(maker.part(maker.rows(wanted, test=True), task))
    return _scenario("class-incremental", maker, [_named(group) for group in groups], parts, tests)


def _by_domain(maker: Maker) -> Scenario:
    parts, tests = [], []
    if maker.domains:
        maker.check_domains()
        for task, domain in enumerate(maker.domains):
            wanted = maker.of_domain(domain)
            rows = maker.rows(wanted, test=False)[: maker.asked.events_per_task]
            parts.append(maker.part(rows, task))
            tests.append(maker.part(maker.rows(wanted, test=True), task))
        return _scenario("domain-incremental", maker, list(map(str, maker.domains)), parts, tests)
    groups = maker.groups()
    if len({len(group) for group in groups}) > 1 or len(groups[0]) < 2:
        raise ScenarioError(
            f"{len(maker.classes)} classes make tasks of {', '.join(str(len(group)) for group in groups)}; "
            "domain-incremental expects tasks with equal numbers of classes, at least two: choose "
            "--classes-per-task, "
            "or name the column that tells tasks apart with --domain"
        )
    for task, group in enumerate(groups):
        place = {label: k for k, label in enumerate(group)}
        wanted = maker.of_classes(group)
        parts.append(maker.part(maker.mixed(maker.rows(wanted, test=False)), task, place.__getitem__))
        tests.append(maker.part(maker.rows(wanted, test=True), task, place.__getitem__))
    return _scenario("domain-incremental", maker, [_named(group) for group in groups], parts, tests)


def _permuted(maker: Maker) -> Scenario:
    X = maker.examples.X
    if isinstance(X, list):
        text = next((name for row in X for name, value in row.items() if isinstance(value, str)), "")
        raise ScenarioError(
            f"{maker.examples.name} has text in the column {text!r}; permuted expects numbers alone: "
            "leave such columns "
            "out with --ignore, or use another scenario"
        )
    width = int(np.prod(X.shape[1:]))
    if width < 3:
        raise ScenarioError(
            f"{maker.examples.name} has {width} columns; permuted expects at least 3, for others have no "
            "orders to draw"
        )
    tasks = maker.asked.tasks or 5
    drawn = [np.arange(width), *(maker.random.permutation(width) for _ in range(tasks - 1))]
    everything = np.ones(len(X), dtype=np.bool_)
    train, test = maker.rows(everything, test=False), maker.rows(everything, test=True)
    parts = [maker.part(maker.mixed(train), task) for task in range(tasks)]
    tests = [maker.part(test, task) for task in range(tasks)]
    names = ["as it is", *(f"order {task}" for task in range(1, tasks))]
    return _scenario("permuted", maker, names, parts, tests, permutations=np.array(drawn))


def _recurring(maker: Maker) -> Scenario:
    visits = maker.asked.visits
    if maker.domains:
        maker.check_domains()
        blocks, tests = [], []
        for task, domain in enumerate(maker.domains):
            wanted = maker.of_domain(domain)
            rows = maker.rows(wanted, test=False)[: maker.asked.events_per_task]
            blocks.append([maker.part(block, task) for block in np.array_split(rows, visits)])
            tests.append(maker.part(maker.rows(wanted, test=True), task))
        parts = [blocks[task][visit] for visit in range(visits) for task in range(len(blocks))]
        return _scenario("recurring", maker, list(map(str, maker.domains)), parts, tests)
    tasks, classes = maker.asked.tasks or 2, maker.classes
    if tasks > len(classes):
        raise ScenarioError(
            f"--tasks is {tasks}, but {len(classes)} classes can be exchanged in {len(classes)} ways "
            "only; expected at "
            "most as many concepts, or a column of them with --domain"
        )

    def called(task: int) -> Callable[[Hashable], Hashable]:
        return {label: classes[(k + task) % len(classes)] for k, label in enumerate(classes)}.__getitem__

    everything = np.ones(len(maker.labels), dtype=np.bool_)
    train, test = (
        maker.random.permutation(maker.rows(everything, test=False)),
        maker.rows(everything, test=True),
    )
    if maker.asked.events_per_task is not None:
        train = train[: tasks * maker.asked.events_per_task]
    pieces = np.array_split(train, tasks * visits)
    parts = [maker.part(rows, k % tasks, called(k % tasks)) for k, rows in enumerate(pieces)]
    tests = [maker.part(test, task, called(task)) for task in range(tasks)]
    names = [f"labels moved by {task}" if task else "as it is" for task in range(tasks)]
    return _scenario("recurring", maker, names, parts, tests, contradicts=True)


def _blurry(maker: Maker) -> Scenario:
    groups = maker.groups()
    pools: list[list[Ints]] = [[] for _ in groups]
    tests = []
    for task, group in enumerate(groups):
        wanted = maker.of_classes(group)
        rows = maker.random.permutation(maker.rows(wanted, test=False))
        away = round(maker.asked.blur * len(rows))
        pools[task].append(rows[away:])
        others = [other for other in range(len(groups)) if other != task]
        for other, few in zip(others, np.array_split(rows[:away], len(others)), strict=True):
            pools[other].append(few)
        tests.append(maker.part(maker.rows(wanted, test=True), task))
    parts = [maker.part(maker.mixed(np.concatenate(pool)), task) for task, pool in enumerate(pools)]
    return _scenario("blurry", maker, [_named(group) for group in groups], parts, tests)


def _scenario(
    name: str,
    maker: Maker,
    tasks: Sequence[str],
    parts: Sequence[Part],
    tests: Sequence[Part],
    *,
    permutations: Ints | None = None,
    contradicts: bool = False,
) -> Scenario:
    order = tuple(int(part.tasks[0]) for part in parts)
    return Scenario(
        name, maker.examples, tuple(tasks), tuple(parts), order, tuple(tests), permutations, contradicts
    )


SCENARIOS: dict[str, Callable[[Maker], Scenario]] = {
    "class-incremental": _by_class,
    "domain-incremental": _by_domain,
    "permuted": _permuted,
    "recurring": _recurring,
    "blurry": _blurry,
}
