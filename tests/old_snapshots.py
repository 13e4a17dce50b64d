"""Files that earlier releases wrote, in `tests/fixtures`, and the program that wrote them.

    PYTHONPATH=<checkout of the release> python tests/old_snapshots.py loop     # at 5eaac20: contents version 1
    PYTHONPATH=<checkout of the release> python tests/old_snapshots.py format   # at 36584cb: format version 1

The first is the last snapshot of a small run that was stopped between two records: labels wait for their event
and forecasts for their label. The tests build the same run again and go on from it.
"""

from __future__ import annotations

import random
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

FIXTURES = Path(__file__).resolve().parent / "fixtures"
LOOP = FIXTURES / "loop-contents-1.safetensors"
FORMAT = FIXTURES / "format-1.safetensors"
STOPPED_AFTER = 150
"""Records that the first run took."""
CONFIG = {"events": "e", "labels": "l", "keys": [["a", "b"]]}

ARRAYS = {
    "weights": np.arange(12.0).reshape(3, 4),
    "steps": np.array(7),
    "none": np.zeros((0, 3), np.float32),
}
META = {"events": 3, "seen": ["ü", 1, True, None, 0.1], "nested": {"b": 1, "a": float("inf")}}


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


def write_loop(to: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = loop(folder)
        assert not run.run(lambda: run.records >= STOPPED_AFTER)
        to.write_bytes(run.store.ls()[-1].path.read_bytes())


def write_format(to: Path) -> None:
    from engine.checkpoint import write

    write(to, ARRAYS, META)


if __name__ == "__main__":
    FIXTURES.mkdir(exist_ok=True)
    if sys.argv[1] == "loop":
        write_loop(LOOP)
    else:
        write_format(FORMAT)
