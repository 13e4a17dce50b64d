"""Any recorded stretch once more, by the code that runs live: Loop, MergedSource, Shard.

A run over several partitions has recorded the order in which it took their records; a replay follows it, so that
the model as of any offset comes out to the bit. Where no order was recorded, records come by event time. Nothing
of the live run is written: no snapshot, no order, none of its topics.
"""

from __future__ import annotations

import re
import time as clocks
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.checkpoint import CheckpointError, CheckpointStore, Snapshot, read
from engine.evaluate.metrics import PrequentialMetrics
from engine.observe import Observer
from engine.order import Entry, Mark, Offsets, Order, Stage
from engine.run import Loop
from engine.shard import Shard
from engine.side_by_side import Losses
from streams.errors import PositionLost
from streams.event import Malformed, Position, TopicPartition
from streams.history import PREFIX
from streams.protocols import Clock, Sink
from streams.stretch import Ordered, Stretch

_FILE = re.compile(r"([A-Za-z0-9_.]+)-g(\d+)-s(\d+)\.safetensors")


class ReplayError(Exception):
    """What was asked for cannot be replayed; the text says why and what to do."""


@dataclass(frozen=True)
class Recorded:
    """From where a replay goes, and the order that was recorded behind it.

    snapshot: None: from scratch. began: where the first run began; {} where that is not known. identity: what
    the run was asked, as `engine.config.identity` tells it.
    """

    snapshot: Snapshot | None = None
    entries: Sequence[Entry] = ()
    began: Offsets = field(default_factory=dict)
    identity: Mapping[str, Any] = field(default_factory=dict)

    @property
    def history(self) -> bool:
        """Whether the run began with a file of history."""
        return any(topic.startswith(PREFIX) for topic, _ in self.began)


def recorded_from_scratch(folder: Path, shard: str = "0") -> Recorded:
    """The whole order of the runs whose snapshots are in a folder; CheckpointError where there are none."""
    latest = CheckpointStore(folder, shard).latest()
    if latest is None:
        raise CheckpointError(f"{folder}: holds no snapshot of shard {shard}; expected the folder of a run")
    config = latest.meta["config"]
    return Recorded(entries=Order(folder, shard).since(0), began=_began(latest.meta), identity=config)


def recorded_behind(file: Path) -> Recorded:
    """A snapshot by its file, and the order recorded behind it; CheckpointError where it is damaged."""
    name = _FILE.fullmatch(file.name)
    if name is None:
        raise ReplayError(f"{file.name} is no snapshot of a run; expected a name as `checkpoint ls` shows it")
    arrays, meta = read(file)
    entries = Order(file.parent, name[1]).since(int(meta.get("order", {"next": 0})["next"]))
    snapshot = Snapshot(file, int(name[2]), int(name[3]), arrays, meta)
    return Recorded(snapshot, entries, _began(meta), meta["config"])


def _began(meta: Mapping[str, Any]) -> Offsets:
    return {TopicPartition(topic, number): offset for topic, number, offset in meta.get("began", [])}


@dataclass
class Replayed:
    """What came of a replay.

    shard: as it was when the stretch ended. positions: the next offset of every partition then.
    figures: of the labels of this stretch alone. seconds: the clock's.
    """

    shard: Shard
    positions: Offsets
    records: int
    figures: dict[str, Any]
    seconds: float
    stopped: bool = False


def replay(
    shard: Shard,
    source: Ordered,
    sink: Sink,
    recorded: Recorded | None = None,
    *,
    since: float | None = None,
    until: Position | None = None,
    before: float | None = None,
    speed: float | None = None,
    clock: Clock | None = None,
    stop: Callable[[], bool] = lambda: False,
    observer: Observer | None = None,
    losses: Losses | None = None,
) -> Replayed:
    """Run a shard over a stretch of a bounded source.

    shard: one that has seen nothing; a snapshot fills it. since: begin, from scratch, with the first record of
    this event time or later. until, before, speed: as of Stretch. stop: asked before every record. losses: sees
    every label in the place of the shard's witness.
    Raises ReplayError where the end that was asked for never comes, PositionLost and LogChanged where the log
    no longer holds the stretch.
    """
    recorded = recorded or Recorded()
    if since is not None and recorded.snapshot is not None:
        raise ReplayError("a replay begins with a snapshot or at a time, not both; leave one of them out")
    part = Stretch(source, until=until, before=before, speed=speed, clock=clock)
    loop = Loop(shard, part, sink, clock=clock, observer=observer)
    _start(loop, source, recorded, since)
    if until is not None and loop.positions.get(TopicPartition(*until[:2]), 0) > until.offset:
        at = loop.positions[TopicPartition(*until[:2])]
        raise ReplayError(
            f"topic {until[0]!r} partition {until[1]} begins at {at}, which is behind {until.offset}; expected "
            "an earlier beginning, such as an older snapshot"
        )
    scores = PrequentialMetrics(shard.metrics.task)
    if losses is not None:
        shard.witness = losses  # type: ignore[assignment]  # it sees labels and has no state
    shard.metrics = _Both(shard.metrics, scores)  # type: ignore[assignment]  # all that a shard asks of them
    began = clocks.monotonic()
    stopped = not loop.run(stop)
    if not stopped and not part.reached:
        end = f"topic {until[0]!r} partition {until[1]} offset {until[2]}" if until else f"time {before:g}"
        raise ReplayError(f"{end} is not come to: what is read ends before; expected an earlier end, or none")
    shard.metrics = shard.metrics.whole  # type: ignore[attr-defined]
    seconds = clocks.monotonic() - began
    return Replayed(shard, loop.positions, loop.records, scores.result(), seconds, stopped)


def _start(loop: Loop, source: Ordered, recorded: Recorded, since: float | None) -> None:
    """Set the loop to where the stretch begins."""
    if recorded.snapshot is not None:
        loop.start(recorded.snapshot, recorded.entries)
        return
    if recorded.began:
        try:
            source.seek(recorded.began)
        except PositionLost as error:
            raise PositionLost(
                f"the run began with what is no longer there ({error}); replay from one of its snapshots"
            ) from error
    entries = list(recorded.entries)
    if since is not None:
        source.follow([entry.ends for entry in entries if isinstance(entry, Stage)])
        at = _positions_at(source, since)
        source.seek(at)
        behind = [e for e in entries if isinstance(e, Mark) and _behind(e.at, at)]
        entries = [entry for entry in entries if entry not in behind]
        loop.shard.frozen = bool(behind) and behind[-1].frozen
    loop.start(None, entries)


def _behind(mark: Offsets, at: Offsets) -> bool:
    return any(mark.get(partition, 0) < offset for partition, offset in at.items())


def _positions_at(source: Ordered, time: float) -> Offsets:
    """Where every partition stands in front of the first record of this event time or later."""
    at = source.positions()
    while not source.exhausted:
        for record in source.poll(4096, 1.0):
            if not isinstance(record.item, Malformed) and record.item.time >= time:
                return at
            topic, number, offset = record.position
            at[TopicPartition(topic, number)] = offset + 1
    raise ReplayError(f"no record is of time {time:g} or later; expected an earlier beginning")


class _Both:
    """A shard's figures, and those of the stretch beside them."""

    def __init__(self, whole: PrequentialMetrics, part: PrequentialMetrics) -> None:
        self.whole, self._part = whole, part
        self.task = whole.task

    def defer(self, y: Any, said: Any, w: float, time: float | None) -> None:
        self.whole.defer(y, said, w, time)
        self._part.defer(y, said, w, time)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.whole, name)
