"""growth: time per event by features, classes, width, depth and experts; memory over a million events."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.plot import Panel, curves
from benchmarks.soak import resident
from benchmarks.tables import Findings

FEATURES, CLASSES = 8, 4
SIZES: dict[str, tuple[int, ...]] = {
    "features": (2, 8, 32, 128),
    "classes": (2, 4, 8, 32),
    "width": (16, 64, 256),
    "layers": (1, 3, 10, 30),
    "further experts": (1, 2, 4, 8, 16),
}
USUAL = {"features": FEATURES, "classes": CLASSES, "width": 64, "layers": 3, "further experts": 0}
PEER = "river-arf"
WARM, BLOCK, ROUNDS = 3_000, 128, 9
PEER_WARM, PEER_BLOCK = 300, 24
MILLION = 1_000_000

F64 = NDArray[np.float64]


class Constant:
    """An expert that says the same always: what is measured is what an expert costs the mixture."""

    def predict_proba_one(self, x: Mapping[Any, Any]) -> dict[Any, float]:
        """The first class, with probability 1."""
        return {0: 1.0}

    def learn_one(self, x: Mapping[Any, Any], y: Any) -> None:
        """Nothing to learn."""


def stream(features: int, classes: int, n: int, seed: int = 0) -> tuple[F64, NDArray[np.int64]]:
    """(n, features) numbers around a centre per class, (n,) classes; every class comes at the beginning."""
    drawn = np.random.default_rng(seed)
    centres = drawn.normal(size=(classes, features))
    y = drawn.integers(classes, size=n)
    y[:classes] = np.arange(classes)
    return centres[y] + drawn.normal(size=(n, features)), y


def run(events: int = MILLION) -> Findings:
    """Measure one size after the other beside the usual one and the peer; then the memory of a long stream."""
    found = Findings(
        name="growth",
        title="How cost grows",
        about=(
            f"A synthetic stream of {FEATURES} features and {CLASSES} classes unless said otherwise, in arrays; "
            f"one size changed at a time. Each learner has learned {WARM:,} events when it is timed; then it and "
            f"one with the defaults take turns, {ROUNDS} times {BLOCK} events, and so does River's ARF-10 on the "
            f"same rows, {PEER_BLOCK} events at a time, one by one as it takes them. The processor's time, "
            "medians. Further experts say the same always: what is measured is what the mixture pays for one, "
            "and two calls of Python."
        ),
        columns={
            "what": 0,
            "how many": 0,
            "µs per event": 1,
            "beside the defaults": 2,
            "River ARF-10, µs": 0,
            "times as fast": 1,
        },
    )
    panels = []
    for what, values in SIZES.items():
        own, peer = [], []
        for value in values:
            sizes = USUAL | {what: value}
            mine, usual, theirs = timed(sizes)
            own.append((float(value), mine))
            peer.append((float(value), theirs))
            found.add(
                **{
                    "what": what,
                    "how many": value,
                    "µs per event": mine,
                    "beside the defaults": mine / usual,
                    "River ARF-10, µs": theirs,
                    "times as fast": theirs / mine,
                }
            )
        panels.append(Panel(what, {"everlearn": own, "River ARF-10": peer}))
    found.plot = curves(panels, "µs per event")
    found.below.append(memory(events))
    return found


def timed(sizes: Mapping[str, int]) -> tuple[float, float, float]:
    """µs per event of these sizes, of the defaults beside them, and of the peer on the same rows."""
    from engine.evaluate.peers import make_peer

    n = WARM + ROUNDS * BLOCK
    rows, labels = stream(sizes["features"], sizes["classes"], n)
    usual_rows, usual_labels = stream(FEATURES, CLASSES, n)
    learner, usual, peer = _learner(sizes), _learner(USUAL), make_peer(PEER)
    learner.test_then_train(rows[:WARM], labels[:WARM])
    usual.test_then_train(usual_rows[:WARM], usual_labels[:WARM])
    dicts = [dict(enumerate(map(float, row))) for row in rows[: PEER_WARM + ROUNDS * PEER_BLOCK]]

    def one_by_one(start: int, stop: int) -> None:
        for x, y in zip(dicts[start:stop], labels[start:stop].tolist(), strict=True):
            peer.predict_proba_one(x)
            peer.learn_one(x, y)

    one_by_one(0, PEER_WARM)
    spent: list[tuple[float, float, float]] = []
    for turn in range(ROUNDS):
        block = slice(WARM + turn * BLOCK, WARM + (turn + 1) * BLOCK)
        at = PEER_WARM + turn * PEER_BLOCK
        spent.append(
            (
                _took(lambda part=block: learner.test_then_train(rows[part], labels[part])) / BLOCK,
                _took(lambda part=block: usual.test_then_train(usual_rows[part], usual_labels[part])) / BLOCK,
                _took(lambda first=at: one_by_one(first, first + PEER_BLOCK)) / PEER_BLOCK,
            )
        )
    mine, theirs, peers = (median(column) * 1e6 for column in zip(*spent, strict=True))
    return mine, theirs, peers


def _took(work: Callable[[], Any]) -> float:
    before = time.process_time()
    work()
    return time.process_time() - before


def _learner(sizes: Mapping[str, int]) -> Any:
    from engine.learner import OnlineClassifier

    experts = tuple(Constant() for _ in range(sizes["further experts"]))
    return OnlineClassifier(width=sizes["width"], layers=sizes["layers"], experts=experts or None)


def memory(events: int) -> Findings:
    """What the process and the learner hold as a stream of two classes goes on."""
    from engine.learner import OnlineClassifier

    found = Findings(
        name="",
        title="Memory",
        about="Three features and two classes, the defaults, in arrays. Process: resident memory.",
        columns={"events": 0, "process, MB": 1, "learner, MB": 2, "learner, bytes": 0},
    )
    learner = OnlineClassifier()
    step = min(1_000, events // 10)
    looks = {events // 10 // step * step * part for part in range(1, 11)}
    for start in range(0, max(looks), step):
        rows, labels = stream(3, 2, step, seed=start)
        learner.test_then_train(rows, labels)
        done = start + len(rows)
        if done in looks:
            held = learner.memory_bytes()
            found.add(
                **{
                    "events": done,
                    "process, MB": resident(),
                    "learner, MB": held / 1e6,
                    "learner, bytes": held,
                }
            )
    if len(found.rows) > 2:
        more = {name: found.rows[-1][name] - found.rows[1][name] for name in ("process, MB", "learner, MB")}
        found.notes.append(
            f"From {found.rows[1]['events']:,} to {found.rows[-1]['events']:,} events the process grew by "
            f"{more['process, MB']:.1f} MB, the learner by {more['learner, MB']:.2f} MB."
        )
    return found
