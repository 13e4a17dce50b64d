"""The loop that joins streams and learner: poll, forecast, answer, learn when the label comes, snapshot.

    source.poll → Event → forecast → observe → kept until its label → sink.write
                  Label → matched by id → learn, scored by what was answered
    every N records or T seconds: one snapshot of everything, positions included

`Shard.step` is deterministic and does no input or output; `Loop` holds the source, the sinks and the store.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence
from types import FrameType, TracebackType
from typing import Any, Protocol, runtime_checkable

import msgspec
import numpy as np

from engine.checkpoint import Arrays, CheckpointError, CheckpointStore, Meta
from engine.crashpoints import crash_point
from engine.decision import Decision, Refusal
from engine.evaluate.latency import Latency
from engine.evaluate.metrics import PrequentialMetrics
from engine.refusals import Refusals
from engine.witness import Witness
from streams.clock import SystemClock
from streams.event import Event, Label, Position, Record, TopicPartition
from streams.join import PendingForecasts
from streams.protocols import Clock, Sink, Source

REFUSED = (TypeError, ValueError, OverflowError)
"""What a learner raises for an event or a label that it cannot take; it has then changed nothing."""


class Learner(Protocol):
    """What the loop asks of a learner; OnlineClassifier and OnlineRegressor give it."""

    def forecast_one(self, x: Mapping[Any, Any], id: Any = None, time: float | None = None) -> Any:
        """A forecast that can be kept; changes nothing."""

    def observe(self, f: Any) -> None:
        """The event of this forecast happened."""

    def learn(self, f: Any, y: Any, w: float = 1.0) -> None:
        """The label of this forecast came."""

    def state(self) -> tuple[Arrays, Meta]:
        """A copy of all that changes, and the options."""

    def pack(self, forecasts: Sequence[Any]) -> tuple[Arrays, Meta]:
        """Kept forecasts, for the snapshot."""

    def unpack(self, arrays: Arrays, meta: Meta) -> list[Any]:
        """What `pack` took."""

    def explain(self, f: Any) -> Mapping[str, Any]:
        """Experts, recalled experiences and context behind a forecast."""

    def expert_weights(self) -> Mapping[str, float]:
        """How the experts are weighed now."""


@runtime_checkable
class Staged(Protocol):
    """What the loop asks of a source that merges partitions: the ends that its order depends on."""

    def stages(self) -> list[dict[TopicPartition, int]]:
        """The ends up to which records are merged, one after the other; those the last poll reached too."""

    def follow(self, stages: Sequence[Mapping[TopicPartition, int]]) -> None:
        """Merge up to these ends first; to be called after `seek`."""


class Counts(msgspec.Struct):
    """Records so far: events and labels read, events answered, labels learned, malformed and refused ones."""

    events: int = 0
    labels: int = 0
    answered: int = 0
    learned: int = 0
    malformed: int = 0
    refused: int = 0


class Shard:
    """One model and what belongs to it, deterministic: record in, decision out. No clock, no input or output.

    model: the learner. metrics: scores what was answered, when its label comes. pending: forecasts that wait.
    witness: remembers experts' weights and a few decisions for the report; None for none.
    refused: records that could not be used, with the reason, until the loop takes them away. refusals: how
    many there were for each reason, and the first.
    """

    def __init__(
        self,
        model: Learner,
        metrics: PrequentialMetrics,
        pending: PendingForecasts[Any] | None = None,
        witness: Witness | None = None,
    ) -> None:
        self.model = model
        self.metrics = metrics
        self.pending = PendingForecasts[Any]() if pending is None else pending
        self.witness = witness
        self.counts = Counts()
        self.refused: list[Refusal] = []
        self.refusals = Refusals()

    def step(self, record: Record) -> Decision | None:
        """Take one record: an event is answered, a label is learned; the unusable goes to `refused`."""
        item = record.item
        if isinstance(item, Event):
            return self._event(record, item)
        if isinstance(item, Label):
            self.counts.labels += 1
            self._label(record, item)
        else:
            self.counts.malformed += 1
            self._bury(record, item.error)
        return None

    def _event(self, record: Record, event: Event) -> Decision | None:
        self.counts.events += 1
        try:
            forecast = self.model.forecast_one(event.features, id=event.id, time=event.time)
        except REFUSED as error:
            self._refuse(record, error)
            return None
        own = None
        if event.label is not None:
            own = Label(id=event.id, time=event.time, label=event.label, weight=event.weight)
        if self.pending.repeats(event.id, event.time):  # it was answered, and it happened once
            if own is not None:
                self._label(record, own)
            return None
        self.model.observe(forecast)
        decision = self._decide(forecast, event, record.position)
        labels = [label for label in (own, self.pending.early(event.id)) if label is not None]
        if any(self._learn(record, forecast, label) for label in labels):  # the first that is taken
            self.pending.settle(event.id)
        else:
            self.pending.put(event.id, forecast, event.time)
        return decision

    def _label(self, record: Record, label: Label) -> None:
        """A label that is refused leaves its forecast waiting for one that can be learned."""
        forecast = self.pending.waiting_for(label)
        if forecast is None or self._learn(record, forecast, label):
            self.pending.match(label)

    def _learn(self, record: Record, forecast: Any, label: Label) -> bool:
        """Learn and score a label; False where the learner refused it and nothing has changed."""
        said = forecast.value if self.metrics.task == "regression" else forecast.proba
        try:
            self.model.learn(forecast, label.label, label.weight)
        except REFUSED as error:
            self._refuse(record, error)
            return False
        self.metrics.update(label.label, said, label.weight, label.time)
        self.counts.learned += 1
        if self.witness is not None:
            self.witness.saw(self.model, forecast, said, label.label, label.time)
        return True

    def _refuse(self, record: Record, error: Exception) -> None:
        self.counts.refused += 1
        self._bury(record, str(error))

    def _bury(self, record: Record, reason: str) -> None:
        refusal = Refusal(record.position, record.item.time, reason, record.item)
        self.refused.append(refusal)
        self.refusals.add(refusal)

    def _decide(self, forecast: Any, event: Event, position: Position) -> Decision:
        self.counts.answered += 1
        if self.metrics.task == "regression":
            return Decision(event.id, event.time, forecast.value, {}, forecast.version, position)
        proba = forecast.proba
        best = max(proba, key=proba.__getitem__) if proba else None
        return Decision(event.id, event.time, best, proba, forecast.version, position)

    def state(self) -> tuple[Arrays, Meta]:
        """All that a later `restore` needs to go on to the bit."""
        learner, learner_meta = self.model.state()
        packed, packed_meta = self.model.pack(self.pending.payloads())
        arrays = {f"learner/{name}": array for name, array in learner.items()}
        arrays |= {f"pending/{name}": array for name, array in packed.items()}
        meta = {
            "learner": learner_meta,
            "pending": packed_meta,
            "join": self.pending.snapshot(),
            "metrics": self.metrics.state(),
            "witness": None if self.witness is None else self.witness.state(),
            "counts": msgspec.to_builtins(self.counts),
            "refusals": self.refusals.state(),
        }
        return arrays, meta

    def restore(self, arrays: Mapping[str, np.ndarray[Any, Any]], meta: Mapping[str, Any]) -> None:
        """Go back to what `state` returned; the learner is made anew from it."""
        self.model = type(self.model).from_state(_under(arrays, "learner/"), meta["learner"])  # type: ignore[attr-defined]
        self.pending.restore(meta["join"], self.model.unpack(_under(arrays, "pending/"), meta["pending"]))
        self.metrics = PrequentialMetrics.from_state(meta["metrics"])
        self.witness = None if meta["witness"] is None else Witness.from_state(meta["witness"])
        self.counts = msgspec.convert(meta["counts"], Counts)
        self.refusals.restore(meta.get("refusals", []))


def _under(arrays: Mapping[str, np.ndarray[Any, Any]], prefix: str) -> Arrays:
    return {name[len(prefix) :]: array for name, array in arrays.items() if name.startswith(prefix)}


class Loop:
    """Reads a source through a shard into a sink, and keeps snapshots from which it goes on.

    store: where snapshots go; None keeps none. dead: where refused records go; None: only
    `Shard.refusals` tells of them.
    config: JSON-compatible; a snapshot of another configuration is refused. every_records, every_seconds:
    when to snapshot, whichever comes first. batch: records per poll. on_batch: called after each.
    """

    def __init__(
        self,
        shard: Shard,
        source: Source,
        sink: Sink,
        store: CheckpointStore | None = None,
        *,
        dead: Sink | None = None,
        config: Mapping[str, Any] | None = None,
        every_records: int = 20_000,
        every_seconds: float = 30.0,
        batch: int = 256,
        clock: Clock | None = None,
        on_batch: Callable[[Loop], None] | None = None,
    ) -> None:
        if every_records < 1 or not every_seconds > 0:
            raise ValueError(
                f"every_records is {every_records}, every_seconds is {every_seconds}; expected both above 0"
            )
        self.shard, self.source, self.sink, self.store, self.dead = shard, source, sink, store, dead
        self.config = dict(config or {})
        self.every_records, self.every_seconds, self.batch = every_records, every_seconds, batch
        self.clock = clock or SystemClock()
        self.on_batch = on_batch
        self.latency = Latency()
        self.records = 0
        self.busy_seconds = 0.0
        self.finished = False
        self._positions: dict[TopicPartition, int] | None = None
        self._rest: list[Record] = []  # polled and not taken, because `stop` said so
        self._unsaved = 0
        self._saved_at = self.clock.monotonic()

    def resume(self) -> bool:
        """Go to the latest snapshot, or note where a first run begins; True where there was a snapshot.

        Raises CheckpointError where no snapshot is whole or the latest is of another configuration.
        """
        snapshot = None
        if self.store is not None:
            self.store.claim()
            snapshot = self.store.latest()
        if snapshot is None:
            self._positions = dict(self.source.positions())
            self.snapshot()
            return False
        meta = snapshot.meta
        _same(self.config, meta["config"], str(snapshot.path))
        self.shard.restore(snapshot.arrays, meta["shard"])
        positions = _offsets(meta["positions"])
        self.source.seek(positions)
        self._rest = []
        self.sink.rewind(meta["cursor"])
        if self.dead is not None and meta["dead_cursor"] is not None:
            self.dead.rewind(meta["dead_cursor"])
        self._positions = {**self.source.positions(), **positions}
        self.finished = meta["finished"]
        stages = meta.get("stages", [])
        if isinstance(self.source, Staged):
            self.source.follow([_offsets(stage) for stage in stages])
        if self._stages() != stages:  # more has come; its order is settled before an answer leaves
            self.finished = False
            self.snapshot()
        crash_point("run.resumed")
        return True

    def run(self, stop: Callable[[], bool] = lambda: False, timeout: float = 0.2) -> bool:
        """Until the source ends (True) or `stop` says so (False), and a last snapshot either way.

        `stop` is asked before every record; timeout: seconds that one poll may wait. Called again it goes on
        where it stopped.
        """
        if self._positions is None:
            self.resume()
        self.finished = False  # what an earlier run ended with says nothing about what has come since
        while not stop():
            began = self.clock.monotonic()
            records, self._rest = self._rest or self.source.poll(self.batch, timeout), []
            if records:
                self._take(records, stop)
                self.busy_seconds += self.clock.monotonic() - began
            elif self.source.exhausted:
                self.finished = True
                break
            if len(records) < self.batch:  # caught up: answers leave at once
                self._flush()
            self._snapshot_when_due()
            crash_point("run.batch")
            if self.on_batch is not None:
                self.on_batch(self)
        self.snapshot()
        return self.finished

    def _take(self, records: Sequence[Record], stop: Callable[[], bool]) -> None:
        assert self._positions is not None
        now = self.clock.monotonic()
        for taken, record in enumerate(records):
            if stop():
                self._rest = list(records[taken:])
                return
            decision = self.shard.step(record)
            if decision is not None:
                self.sink.write(decision.id, decision.message())
            if self.shard.refused:
                self._bury()
            topic, partition, offset = record.position
            self._positions[TopicPartition(topic, partition)] = offset + 1
            self.records += 1
            self._unsaved += 1
            before, now = now, self.clock.monotonic()
            if decision is not None:
                self.latency.add(now - before)
            if self._unsaved >= self.every_records:
                self.snapshot()
                now = self.clock.monotonic()

    def _bury(self) -> None:
        for refusal in self.shard.refused:
            if self.dead is not None:
                self.dead.write(":".join(map(str, refusal.position)), refusal.message())
        self.shard.refused.clear()

    def _snapshot_when_due(self) -> None:
        if self._unsaved and self.clock.monotonic() - self._saved_at >= self.every_seconds:
            self.snapshot()

    def _flush(self) -> None:
        self.sink.flush()
        if self.dead is not None:
            self.dead.flush()

    def snapshot(self) -> None:
        """Make all answers durable, then write one file of everything that changes, positions included."""
        crash_point("run.before_flush")
        self._flush()
        crash_point("run.before_snapshot")
        self._saved_at = self.clock.monotonic()
        self._unsaved = 0
        if self.store is None or self._positions is None:
            return
        arrays, shard = self.shard.state()
        meta = {
            "config": self.config,
            "shard": shard,
            "positions": _listed(self._positions),
            "stages": self._stages(),
            "cursor": self.sink.cursor(),
            "dead_cursor": None if self.dead is None else self.dead.cursor(),
            "finished": self.finished,
        }
        self.store.save(arrays, meta)

    def _stages(self) -> list[list[list[Any]]]:
        """The stages of the source that have not been taken to their end, ready for JSON."""
        at = self._positions or {}
        stages = self.source.stages() if isinstance(self.source, Staged) else []
        return [_listed(stage) for stage in stages if any(at.get(p, 0) < end for p, end in stage.items())]


def _listed(offsets: Mapping[TopicPartition, int]) -> list[list[Any]]:
    return [[*partition, offset] for partition, offset in sorted(offsets.items())]


def _offsets(listed: Sequence[Sequence[Any]]) -> dict[TopicPartition, int]:
    return {TopicPartition(topic, partition): offset for topic, partition, offset in listed}


def _same(asked: Mapping[str, Any], kept: Mapping[str, Any], where: str) -> None:
    for name in sorted({*asked, *kept}):
        a = msgspec.json.decode(msgspec.json.encode(asked.get(name)))
        if a != kept.get(name):
            raise CheckpointError(
                f"{where}: {name} is {kept.get(name)!r} there, asked for {a!r}; "
                "run with the same options, or with another folder for snapshots"
            )


class StopSignals:
    """Within it, SIGTERM and SIGINT only set a flag, so that a step is finished and a snapshot written.

    >>> with StopSignals() as stop:
    ...     stop()
    False
    """

    def __init__(self) -> None:
        self._asked = False
        self._before: dict[int, Any] = {}

    def __call__(self) -> bool:
        """Whether a signal has come."""
        return self._asked

    def __enter__(self) -> StopSignals:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._ask)
        return self

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._asked = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
