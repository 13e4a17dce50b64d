"""Concepts: frozen copies of what was learned, beside the one at work; how they race says `engine.race`.

What belongs to a concept is `OWN`: memories, layers, second-order experts, trees, mixing weights. All else
belongs to the present and is shared: encoders, outcome rates, counts of labels and events.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine import kernels, state
from engine.kernels import State
from engine.layout import Sizes
from memory import early

SWIFT = ("fast", "slow", "linear", "plain", "random", "mixer", "rival", "sleep", "prior")
SLOW = ("near", "context", "forest", "early")
OWN = (*SLOW, *SWIFT)
STORED = 4
Run = tuple[int, int, int]
ROLES = {"stored": 0, "earlier": 1, "spare": -1}


@dataclass(eq=False)
class Concept:
    """A frozen state; of its parts only those in `OWN` are there.

    mean, variance: of its loss while it was at work. until: the label number at which that ended.
    runs: see `Concepts`. evidence, excess, out: of the race. bound: what kernels take, and for which core state.
    """

    state: State
    mean: float
    variance: float
    until: int
    runs: list[Run]
    evidence: float = 0.0
    excess: float = 0.0
    out: bool = False
    bound: tuple[Any, Any] = field(default=(None, None), repr=False)

    def begins(self) -> None:
        """A race begins."""
        self.evidence, self.excess, self.out = 0.0, 0.0, False


class Concepts:
    """What a core keeps besides the state at work.

    stored: the concepts. earlier: the one among them that is an earlier self of the one at work. spare: an
    earlier self of before that was no other concept, for the next alarm. well: the swift parts, as they were
    when losses were low last. runs: when the state at work was so, (from label number, to label number, labels
    that it had learned itself by then), the last without an end (−1). returns: how often a concept came back.
    credit: forecasts that may be asked of others; paid: label number to which it was counted. caution: factor
    of the thresholds. since: label number since which the race lasts; onset: at which losses began to rise;
    copied: of the last copy; apart: labels until the next one.
    """

    def __init__(self, credit: float, apart: int) -> None:
        self.stored: list[Concept] = []
        self.earlier: Concept | None = None
        self.spare: Concept | None = None
        self.well: State | None = None
        self.runs: list[Run] = [(0, -1, 0)]
        self.returns = self.paid = self.since = self.onset = 0
        self.copied, self.apart = -apart, apart
        self.credit, self.caution = credit, 1.0

    def all(self) -> list[Concept]:
        """Every frozen state."""
        return self.stored if self.spare is None else [*self.stored, self.spare]

    def grow(self, core: Any, old: Sizes, new: Sizes) -> None:
        """The core, whose state still has the old sizes, is about to get new ones."""
        if not new.concepts:
            self.stored, self.earlier, self.spare = [], None, None
        options = core.options
        for concept in self.all():
            whole = joined(core.state, concept.state)
            grown = state.grow(whole, old, new, options.seed, options.memory_budget, core.horizons)
            concept.state = alone(grown, OWN)
        self.well = None

    def forget(self, core: Any, serial: int) -> bool:
        """Remove the event of a label number from the state at work, from all others and from the last events."""
        held = core.state.watch
        kept = held.serial == serial
        held.record[kept], held.serial[kept] = 0.0, -1
        core.state, found = without(core, core.state, self.runs, serial)
        for concept in self.all():
            concept.state, gone = without(core, concept.state, concept.runs, serial)
            found = found or gone
        return found

    def serials(self, present: State) -> list[NDArray[np.int64]]:
        """Label numbers of the events that the state at work and all others hold."""
        held = [(present, self.runs), *((concept.state, concept.runs) for concept in self.all())]
        return [serials for own, runs in held for serials in held_by(own, runs)]

    def nbytes(self) -> int:
        """Bytes of all frozen states."""
        return sum(
            array.nbytes for concept in self.all() for array in state.arrays_of(concept.state, OWN).values()
        )

    def snapshot(self) -> state.Arrays:
        """Everything, as arrays."""
        table, runs = [], []
        for c in self.all():
            role = "earlier" if c is self.earlier else "spare" if c is self.spare else "stored"
            table.append((c.mean, c.variance, c.until, c.evidence, c.excess, c.out, ROLES[role], len(c.runs)))
            runs += c.runs
        arrays: state.Arrays = {
            "table": np.array(table, np.float64).reshape(-1, 8),
            "runs": np.array(runs + self.runs, np.int64).reshape(-1, 3),
            "place": np.array(
                [self.returns, self.paid, self.since, self.onset, self.copied, self.apart], np.int64
            ),
            "credit": np.array([self.credit, self.caution]),
        }
        for i, concept in enumerate(self.all()):
            own = state.arrays_of(concept.state, OWN, trimmed=True)
            arrays |= {f"{i}.{name}": array.copy() for name, array in own.items()}
        if self.well is not None:
            swift = state.arrays_of(self.well, SWIFT)
            arrays |= {f"well.{name}": array.copy() for name, array in swift.items()}
        return arrays

    def restore(self, arrays: Mapping[str, NDArray[Any]], present: State) -> None:
        """What `snapshot` took, if anything; present: the state at work."""
        if "place" not in arrays:
            return
        self.returns, self.paid, self.since, self.onset, self.copied, self.apart = arrays["place"].tolist()
        self.credit, self.caution = arrays["credit"].tolist()
        runs = [tuple(run) for run in arrays["runs"].tolist()]
        for i, row in enumerate(arrays["table"].tolist()):
            mean, variance, until, evidence, excess, out, role, n = row
            own = alone(state.restored(present, arrays, f"{i}.", OWN), OWN)
            concept = Concept(own, mean, variance, int(until), runs[: int(n)], evidence, excess, bool(out))
            runs = runs[int(n) :]
            if role == ROLES["spare"]:
                self.spare = concept
                continue
            self.stored.append(concept)
            if role == ROLES["earlier"]:
                self.earlier = concept
        self.runs = runs
        if "well.prior" in arrays:
            self.well = alone(state.restored(present, arrays, "well.", SWIFT), SWIFT)


def joined(present: State, own: State) -> State:
    """One state's own parts, and all others of the present one."""
    return present._replace(**{name: getattr(own, name) for name in OWN})


def alone(whole: State, parts: Collection[str]) -> State:
    """Some parts of a state; nothing stands in the place of the others."""
    nothing: dict[str, Any] = dict.fromkeys(set(State._fields) - set(parts))
    return whole._replace(**nothing)


def own_labels(runs: list[Run]) -> int:
    """How many labels a frozen state has learned itself."""
    begun, ended, had = runs[-1]
    return had + ended - begun


def own_number(runs: list[Run], serial: int) -> int:
    """The number under which trees stored the event of a label number; −1: they did not.

    >>> own_number([(0, 100, 0), (250, -1, 100)], 260), own_number([(0, 100, 0), (250, -1, 100)], 120)
    (110, -1)
    """
    for begun, ended, had in runs:
        if begun <= serial and (serial < ended or ended < 0):
            return had + serial - begun
    return -1


def held_by(own: State, runs: list[Run]) -> list[NDArray[np.int64]]:
    """Label numbers of the events that a state's memories and trees hold."""
    trees, early_tree = own.forest, own.early
    numbers = np.arange(max(0, trees.place[0] - len(trees.y)), trees.place[0])
    numbers = numbers[trees.alive[numbers % len(trees.y)] == 1]
    first = np.flatnonzero(~np.isnan(early_tree.y[: early_tree.place[0]]))
    numbers = np.union1d(numbers, first)  # as this state learned them
    serials = [own.near.serial]  # the memory of context has none of others
    for begun, ended, had in runs:
        last = had + ended - begun if ended >= 0 else np.inf
        serials.append(numbers[(numbers >= had) & (numbers < last)] - had + begun)
    return serials


def lasting_runs(concept: Concept, *, trees: bool) -> list[Run]:
    """The runs of a frozen state of which trees may still hold an event."""
    held = concept.state.forest
    gone = int(held.place[0]) - len(held.y) if trees else own_labels(concept.runs)
    return [run for run in concept.runs if run[2] + run[1] - run[0] > gone or run[2] < early.EVENTS]


def without(core: Any, held: State, runs: list[Run], serial: int) -> tuple[State, bool]:
    """A state whose memories and trees do not hold the event of this label number; whether they did."""
    found = False
    for name in ("near", "context"):
        memory, gone = state.without(getattr(held, name), serial)
        held = held._replace(**{name: memory})  # type: ignore[arg-type] # a memory's name
        found = found or gone
    number = own_number(runs, serial)
    if core.sizes.forested and number >= 0:
        found = bool(kernels.forget_in_trees(held.forest, number, core.regression)) or found
    if core.options.early and number >= 0:
        found = early.forget(held.early, number) or found
    return held, found


def room(sizes: Sizes, budget: int) -> int:
    """How many concepts may be stored, so that all at their largest, and one on trial, fit into the budget."""
    near, context = state.windows(sizes, budget)
    largest = 4 * (2 * near * state.roomy(sizes.near_numbers) + context * state.roomy(sizes.context_numbers))
    largest += state.tree_window(sizes, budget) * state.tree_bytes(sizes)
    return max(0, min(STORED, budget // largest - 2))
