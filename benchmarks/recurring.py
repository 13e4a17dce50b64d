"""recurring: concepts that come back, with and without concept memory, beside River's ARF-10."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.tables import Findings
from engine import OnlineClassifier
from engine.evaluate.continual.course import Learner
from engine.evaluate.continual.recovery import AFTER, Switch, recovery, shortfall, switches
from engine.evaluate.peers import make_peer

CONCEPTS, VISITS, BLOCK = 3, 4, 1_500
CONTEXTS, CONTEXT_BLOCK = 2, 2_500
SEEDS = (10, 11, 12, 13, 14)
FEATURES, NOISE, HYPERPLANE_NOISE = 10, 0.1, 0.05
COLUMNS = {
    "stream, learner": 0,
    "accuracy": 4,
    "± over seeds": 4,
    "recovery: first": 0,
    "first return": 0,
    "later": 0,
    "shortfall: first": 1,
    "of first return": 1,
    "of later ones": 1,
    "± of these": 1,
    "returns known": 0,
    "µs per event": 0,
}

F64 = NDArray[np.float64]
Stream = tuple[F64, list[Any], list[int], list[int]]


class Turned:
    """A hyperplane through the middle of the cube, in any direction: Σ_i w_i (x_i − 1/2) > 0, w_i ~ U(−1, 1).

    River's have weights from 0 to 1: two of them differ in few events.
    """

    def __init__(self, seed: int) -> None:
        self.drawn = np.random.default_rng(seed)
        self.weight = self.drawn.uniform(-1.0, 1.0, FEATURES)

    def take(self, n: int) -> Iterator[tuple[dict[int, float], int]]:
        """n events with their labels."""
        for _ in range(n):
            x = self.drawn.uniform(0.0, 1.0, FEATURES)
            wrong = self.drawn.random() < HYPERPLANE_NOISE
            yield dict(enumerate(x.tolist())), int(((x - 0.5) @ self.weight > 0.0) != wrong)


def generators(name: str, seed: int) -> list[Any]:
    """One generator per concept, River's but for the turned hyperplanes."""
    from river.datasets import synth

    made: Callable[[int], Any] = {
        "STAGGER": lambda k: synth.STAGGER(classification_function=k, seed=seed * CONCEPTS + k),
        "SEA": lambda k: synth.SEA(variant=k, noise=NOISE, seed=seed * CONCEPTS + k),
        "hyperplanes": lambda k: synth.Hyperplane(
            seed=seed * CONCEPTS + k, n_features=FEATURES, noise_percentage=HYPERPLANE_NOISE
        ),
        "turned hyperplanes": lambda k: Turned(seed * CONCEPTS + k),
        "random trees": lambda k: synth.RandomTree(
            seed_tree=seed * CONCEPTS + k, seed_sample=seed * CONCEPTS + k, n_num_features=5, n_cat_features=0
        ),
    }[name]
    return [made(k) for k in range(CONCEPTS)]


GENERATED = ("STAGGER", "SEA", "hyperplanes", "turned hyperplanes", "random trees")


def generated(name: str, seed: int) -> Stream:
    """X, y, first event and concept of each block: concepts in turn, each going on where it was."""
    sources: list[Iterator[Any]] = [iter(each.take(VISITS * BLOCK)) for each in generators(name, seed)]
    order = list(range(CONCEPTS)) * VISITS
    events = [pair for k in order for pair in islice(sources[k], BLOCK)]
    X = np.array([[float(x[f]) for f in sorted(x)] for x, _ in events])
    return X, [int(y) for _, y in events], list(range(0, len(events), BLOCK)), order


def insects() -> Stream:
    """The two contexts of insects_wbf, which stand one behind the other in the file, in blocks in turn."""
    from streams import datasets

    table = datasets.load("insects_wbf").arrays()
    X, half = np.asarray(table.X), len(table.y) // CONTEXTS
    order = list(range(CONTEXTS)) * VISITS
    rows = [
        k * half + (i // CONTEXTS) * CONTEXT_BLOCK + np.arange(CONTEXT_BLOCK) for i, k in enumerate(order)
    ]
    at = np.concatenate(rows)
    return X[at], [table.y[i] for i in at], list(range(0, len(at), CONTEXT_BLOCK)), order


@dataclass
class Measured:
    """What one learner did on a stream, over the seeds."""

    accuracy: list[float] = field(default_factory=list)
    switches: list[list[Switch]] = field(default_factory=list)
    returns: list[int] = field(default_factory=list)
    us: list[float] = field(default_factory=list)

    def row(self, name: str) -> dict[str, Any]:
        """A row of the table: first visits, first returns, and later ones."""
        found: dict[str, Any] = {
            "stream, learner": name,
            "accuracy": float(np.mean(self.accuracy)),
            "± over seeds": float(np.std(self.accuracy, ddof=1)) if len(self.accuracy) > 1 else None,
            "returns known": float(np.mean(self.returns)) if self.returns else None,
            "µs per event": float(np.median(self.us)),
        }
        for visits, reaches, misses in (
            ((1,), "recovery: first", "shortfall: first"),
            ((2,), "first return", "of first return"),
            (range(3, VISITS + 1), "later", "of later ones"),
        ):
            mine = [[s for s in each if s.visit in visits] for each in self.switches]
            pooled = [s for each in mine for s in each]
            mean = np.mean([s.right for s in pooled], axis=0)
            found[reaches] = recovery(mean, float(np.mean([s.before for s in pooled])))
            by_seed = [float(np.mean([shortfall(s.right, s.before) for s in each])) for each in mine]
            found[misses] = float(np.mean(by_seed))
            found["± of these"] = float(np.std(by_seed, ddof=1)) if len(by_seed) > 1 else None
        return found


def follow(model: Any, stream: Stream, measured: Measured, *, dicts: bool = False) -> None:
    """One pass of a learner, in arrays or through dicts."""
    X, y, starts, order = stream
    learner, events = Learner(model), [dict(enumerate(x)) for x in X.tolist()] if dicts else X
    before = time.process_time()
    answers = learner.teach(events, y)
    measured.us.append(1e6 * (time.process_time() - before) / len(y))
    right = learner.right(answers, y)
    measured.accuracy.append(float(right.mean()))
    measured.switches.append(switches(right, starts, order))


def run(ours: bool = False, seeds: int = len(SEEDS)) -> Findings:
    """Measure stream by stream; ours: without ARF."""
    found = Findings(
        name="recurring",
        title="Concepts that come back",
        about=(
            f"{CONCEPTS} concepts of River's generators in turn, {BLOCK:,} events at a time, {VISITS} visits "
            f"each: STAGGER; SEA with {NOISE:.0%} of the labels wrong; hyperplanes in {FEATURES} dimensions, "
            f"{HYPERPLANE_NOISE:.0%} wrong, with weights from 0 to 1 as River has them, and turned, with weights "
            "from −1 to 1; random trees. insects_wbf: its two contexts in turn, "
            f"{CONTEXT_BLOCK:,} events at a time. Test then train, the defaults, {seeds} seeds (ARF: one); "
            "nobody is told when a concept changes. Recovery: events after a switch until accuracy over the "
            "next 50 is at 95 % of that before it, in the mean over switches and seeds; shortfall: right "
            f"answers missing in the {AFTER:,} events after a switch against the accuracy before it (below 0: "
            "there were more); for concepts that are new, that return for the first time, and later. ±: "
            "standard deviations over seeds. Returns known: how often a concept was taken up again, per run; "
            f"the streams have {CONCEPTS * (VISITS - 1)} returns, insects {CONTEXTS * (VISITS - 1)}."
        ),
        columns=COLUMNS,
    )
    for name in (*GENERATED, "insects_wbf"):
        if name not in GENERATED and not os.environ.get("EVERLEARN_DATA"):
            found.notes.append(f"{name}: not run, for EVERLEARN_DATA names no folder.")
            continue
        on, off, forest = Measured(), Measured(), Measured()
        for seed in SEEDS[:seeds]:
            stream = generated(name, seed) if name in GENERATED else insects()
            follow(OnlineClassifier(seed=seed, concepts=False), stream, off)
            model = OnlineClassifier(seed=seed)
            follow(model, stream, on)
            on.returns.append(model.counters()["returns"])
            if seed == SEEDS[0] and not ours:
                follow(make_peer("river-arf", seed), stream, forest, dicts=True)
        found.add(**on.row(f"{name}, everlearn"))
        found.add(**off.row(f"{name}, without concepts"))
        if not ours:
            found.add(**forest.row(f"{name}, River ARF-10"))
    return found
