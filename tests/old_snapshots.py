"""Files that earlier releases wrote, in `tests/fixtures`, and the program that wrote them.

    PYTHONPATH=<checkout of the release> python tests/old_snapshots.py loop     # at 5eaac20: contents version 1
    PYTHONPATH=<checkout of the release> python tests/old_snapshots.py format   # at 36584cb: format version 1
    PYTHONPATH=<checkout of the release> python tests/old_snapshots.py loop2    # at 31312ce: contents version 2
    PYTHONPATH=<checkout of the release> python tests/old_snapshots.py learner  # at 31312ce: contents version 2
    PYTHONPATH=<checkout of the release> python tests/old_snapshots.py model    # at 31312ce: `model.save`

Those of a loop are the last snapshot of a small run that was stopped between two records: labels wait for their
event and forecasts for their label. The tests build the same run again and go on from it. That of a learner and
that of a model hold what waits, is overdue, counted and remembered under names of every kind; they are mostly
zeros, and compressed.
"""

from __future__ import annotations

import inspect
import lzma
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

FIXTURES = Path(__file__).resolve().parent / "fixtures"
LOOP = FIXTURES / "loop-contents-1.safetensors"
LOOP_2 = FIXTURES / "loop-contents-2.safetensors"
LEARNER = FIXTURES / "learner-contents-2.safetensors.xz"
MODEL = FIXTURES / "model-1.safetensors.xz"
FORMAT = FIXTURES / "format-1.safetensors"
STOPPED_AFTER = 150
"""Records that the first run took."""
LEARNER_STOPPED_AFTER = 260
MODEL_SAVED_AFTER = 150
"""Events that the first model learned or observed."""
CONFIG = {"events": "e", "labels": "l", "keys": [["a", "b"]]}

ARRAYS = {
    "weights": np.arange(12.0).reshape(3, 4),
    "steps": np.array(7),
    "none": np.zeros((0, 3), np.float32),
}
META = {"events": 3, "seen": ["ü", 1, True, None, 0.1], "nested": {"b": 1, "a": float("inf")}}


LATER = {"trees": False, "early": False, "sleep": False, "concepts": False, "recall_heads": False}
"""Parts that learners of before did not have; those that ask for none of them are as they were."""


def as_before(kind: Any) -> dict[str, Any]:
    """The options without which a learner is one of before, those that this code knows."""
    return {name: off for name, off in LATER.items() if name in inspect.signature(kind).parameters}


def source() -> Any:
    """120 events and eight pieces of garbage in two partitions, labels in a third, some before their event."""
    from streams.event import Event, Label, Malformed, TopicPartition
    from streams.merge import MergedSource
    from streams.replay import ListSource

    chance = random.Random(3)
    events: tuple[list[Event | Malformed], ...] = ([], [])
    labels = []
    for i in range(120):
        x = {"a": chance.gauss(0, 1), "b": chance.gauss(0, 1), "c": None}
        y = int(x["a"] - 0.5 * x["b"] > 0)
        place = events[chance.random() < 0.4]
        place.append(Event(id=f"e{i}", time=float(i), features=x))
        labels.append(Label(id=f"e{i}", time=i + chance.uniform(-3, 30), label=y))
        if i % 15 == 7:
            place.append(Malformed(raw=b"{garbage", error="no JSON", time=float(i)))
    parts = {TopicPartition("e", n): items for n, items in enumerate(events)}
    parts[TopicPartition("l", 0)] = sorted(labels, key=lambda label: label.time)
    return MergedSource(ListSource(parts), ahead=50)


def loop(folder: str | Path | None, **options: Any) -> Any:
    """A loop over them that keeps its answers in a list, with snapshots in `folder`."""
    from plain_learner import PlainLearner

    from engine.checkpoint import CheckpointStore
    from engine.evaluate.metrics import PrequentialMetrics
    from engine.run import Loop, Shard
    from engine.witness import Witness
    from streams.replay import ListSink

    return Loop(
        Shard(PlainLearner(), PrequentialMetrics(), witness=Witness(of=1, after=50)),
        source(),
        ListSink(),
        None if folder is None else CheckpointStore(folder),
        dead=ListSink(),
        config=CONFIG,
        every_records=100,
        **options,
    )


SMALL: dict[str, Any] = {
    "layers": 1,
    "width": 2,
    "neighbours": 2,
    "keys": ("shop", ("shop", "colour")),
    "horizons": (40.0,),
    "category_horizons": (500.0,),
    "context": False,
    "max_features": 12,
    "memory_budget": 1 << 20,
    "seed": 3,
}
COLOURS = ("red", "blue", "grün", "a very long \U0001f308 name", "")


def learner_source() -> Any:
    """200 events and their labels: inside, late, early or missing; shops and colours keep appearing."""
    from streams.event import Event, Label, TopicPartition
    from streams.merge import MergedSource
    from streams.replay import ListSource

    chance = random.Random(5)
    events, labels = list[Event](), list[Label]()
    for i in range(200):
        x: dict[str, Any] = {"a": chance.gauss(0, 1), "b": chance.gauss(0, 1)}
        x["shop"] = f"s{int(chance.paretovariate(0.7))}"
        if chance.random() < 0.8:
            x["colour"] = chance.choice(COLOURS[: 1 + i // 30])
        if chance.random() < 0.1:
            x["size"] = [1.0, float("inf"), i]
        y = ("no", "yes", "perhaps")[int(x["a"] > 0) + int(x["b"] > 1 and i > 50)]
        inside = chance.random() < 0.3
        events.append(Event(id=f"e{i}", time=float(i), features=x, label=y if inside else None))
        if not inside and chance.random() < 0.85:
            labels.append(Label(id=f"e{i}", time=i + chance.uniform(-3, 30), label=y))
    labels.sort(key=lambda label: label.time)
    parts: dict[TopicPartition, list[Any]] = {TopicPartition("e", 0): events, TopicPartition("l", 0): labels}
    return MergedSource(ListSource(parts), ahead=50)


def learner_loop(folder: str | Path | None) -> Any:
    """A loop over them with a learner that keeps everything it can keep."""
    from engine import OnlineClassifier
    from engine.checkpoint import CheckpointStore
    from engine.evaluate.metrics import PrequentialMetrics
    from engine.run import Loop, Shard
    from streams.replay import ListSink

    return Loop(
        Shard(OnlineClassifier(**SMALL, **as_before(OnlineClassifier)), PrequentialMetrics()),
        learner_source(),
        ListSink(),
        None if folder is None else CheckpointStore(folder),
        dead=ListSink(),
        config=CONFIG,
        every_records=1000,
    )


ODD: tuple[Any, ...] = ("a", 7, True, 2.5, -0.0, ("pair", 1, None), 2**70, "\ud800", "")
"""Ids and names of features, of every kind that a file can hold."""


def teach(model: Any, begin: int, end: int, waiting: dict[int, Any]) -> None:
    """Event after event of a stream whose names, ids and keys are of every kind; labels come 7 events later."""
    for i in range(begin, end):
        chance = random.Random(i)
        x: dict[Any, Any] = {name: chance.gauss(0, 1) for name in ODD if chance.random() < 0.5}
        x[("colour", i % 2)] = chance.choice(["red", "\ud801", "b" * 300])
        x["shop"] = chance.choice([None, "s", 1, 2.5, True, 2**80, f"s{i // 20}", "\udfff"])
        x["colour"] = chance.choice(COLOURS)
        kept = model.forecast_one(x, id=ODD[i % len(ODD)], time=None if i % 11 == 0 else float(i))
        if i % 3:
            model.observe(kept)
        if i % 10 != 9:
            waiting[i] = kept
        if i - 7 in waiting:
            model.learn(waiting.pop(i - 7), chance.random() < 0.4, 0.0 if i % 17 == 0 else 1.0)


def write_loop(to: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = loop(folder)
        assert not run.run(lambda: run.records >= STOPPED_AFTER)
        to.write_bytes(run.store.ls()[-1].path.read_bytes())


def write_learner(to: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = learner_loop(folder)
        assert not run.run(lambda: run.records >= LEARNER_STOPPED_AFTER)
        to.write_bytes(lzma.compress(run.store.ls()[-1].path.read_bytes(), preset=9))


def write_model(to: Path) -> None:
    from engine import OnlineClassifier

    model = OnlineClassifier(**SMALL, **as_before(OnlineClassifier))
    teach(model, 0, MODEL_SAVED_AFTER, {})
    with tempfile.TemporaryDirectory() as folder:
        model.save(saved := Path(folder) / "model")
        to.write_bytes(lzma.compress(saved.read_bytes(), preset=9))


def unpacked(fixture: Path, to: Path) -> Path:
    """The file that was compressed, at `to`."""
    to.write_bytes(lzma.decompress(fixture.read_bytes()))
    return to


def write_format(to: Path) -> None:
    from engine.checkpoint import write

    write(to, ARRAYS, META)


WRITERS = {
    "loop": (write_loop, LOOP),
    "loop2": (write_loop, LOOP_2),
    "learner": (write_learner, LEARNER),
    "model": (write_model, MODEL),
    "format": (write_format, FORMAT),
}

if __name__ == "__main__":
    FIXTURES.mkdir(exist_ok=True)
    write, path = WRITERS[sys.argv[1]]
    write(path)
