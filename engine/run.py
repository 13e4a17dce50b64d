"""The loop that joins streams and learner: poll, forecast, answer, learn when the label comes, snapshot.

    source.poll → the order in which records are taken, made durable
                → shard.take → Decision → sink.write
    every N records or T seconds: one snapshot of everything, positions included

`Shard.take` is deterministic and does no input or output; `Loop` holds the source, the sinks and the store.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from engine.checkpoint import CheckpointError, CheckpointStore, NewerFormat, Snapshot, peek, read
from engine.checkpoint.contents import CONTENTS, up_to_date
from engine.checkpoint.store import entry_of
from engine.checkpoint.writer import SnapshotWriter
from engine.config.identity import check_identity
from engine.crashpoints import crash_point
from engine.deadletters.limits import Limits, RefusedLately
from engine.evaluate.latency import Latency
from engine.observe import Observer, Resumed, Saved, Silent
from engine.observe.absence import Absence
from engine.observe.timers import Timers
from engine.order import Entry, Mark, Offsets, Order, Stage, same_place
from engine.shard import TOGETHER, Shard
from engine.taken import Taken, listed, offsets
from streams.clock import SystemClock
from streams.event import Record, TopicPartition
from streams.protocols import Clock, Sink, Source, away_of, notes_of

_NONE: Mapping[str, Any] = {
    "positions": [],
    "last": [],
    "stages": [],
    "marks": [],
    "refused_lately": None,
}  # of a first run


@runtime_checkable
class Staged(Protocol):
    """What the loop asks of a source that merges partitions: the ends that its order depends on."""

    def stages(self) -> list[dict[TopicPartition, int]]:
        """The ends up to which records are merged, one after the other; those the last poll reached too."""

    def begun(self) -> list[dict[TopicPartition, int]]:
        """The stages that were begun since this was asked last."""

    def follow(
        self, stages: Sequence[Mapping[TopicPartition, int]], alone: TopicPartition | None = None
    ) -> None:
        """Merge up to these ends first; to be called after `seek`.

        alone: the only partition that the run before knew: what it holds now comes before any other.
        """


class Switch(Protocol):
    """Says from outside whether learning shall be frozen."""

    def frozen(self) -> bool:
        """Whether it shall be, now."""


class Loop:
    """Reads a source through a shard into a sink, and keeps snapshots from which it goes on.

    store: where snapshots go, and the recorded order beside them; None keeps none. dead: where refused records
    go; None: only `Shard.refusals` tells of them. report: where it goes what became of labels that were
    late, orphans, repeated or corrected; the join must be asked to report.
    switch: freezes and thaws learning; None: never.
    config: JSON-compatible; a snapshot of another configuration is refused. every_records, every_seconds:
    when to snapshot, whichever comes first. batch: records per poll. on_batch: called after each.
    on_durable: called with the positions of a snapshot once it is durable. observer: is told what happens.
    """

    def __init__(
        self,
        shard: Shard,
        source: Source,
        sink: Sink,
        store: CheckpointStore | None = None,
        *,
        dead: Sink | None = None,
        report: Sink | None = None,
        limits: Limits | None = None,
        past_refused: bool = False,
        switch: Switch | None = None,
        config: Mapping[str, Any] | None = None,
        every_records: int = 20_000,
        every_seconds: float = 30.0,
        batch: int = 256,
        clock: Clock | None = None,
        on_batch: Callable[[Loop], None] | None = None,
        on_durable: Callable[[Offsets], None] | None = None,
        observer: Observer | None = None,
    ) -> None:
        if every_records < 1 or not every_seconds > 0:
            raise ValueError(
                f"every_records is {every_records}, every_seconds is {every_seconds}; expected both above 0"
            )
        self.shard, self.source, self.sink, self.store, self.dead = shard, source, sink, store, dead
        self.report = report
        self.refused_lately = None if limits is None else RefusedLately(limits)
        self.past_refused = past_refused
        self.switch = switch
        self.order = None if store is None else Order(store.folder, store.shard)
        self.config = dict(config or {})
        self.every_records, self.every_seconds, self.batch = every_records, every_seconds, batch
        self.clock = clock or SystemClock()
        self.on_batch, self.on_durable = on_batch, on_durable
        self.observer = observer or Silent()
        self.absence = Absence(away_of(source), self.clock)
        self.name = "0" if store is None else store.shard
        self.latency = Latency()
        self.records = 0
        self.busy_seconds = 0.0
        self.finished = False
        self.notes: list[str] = []
        self._taken: Taken | None = None
        self._writer = None if store is None else SnapshotWriter(store)
        self._again = 0  # answers that had left before and are about to be given once more
        self._began: list[list[Any]] = []  # where the first run began
        self._marks: list[Mark] = []  # recorded, and not come to
        self._rest: list[Record] = []  # polled and not taken, because `stop` said so
        self._unsaved = 0
        self._saved_at = self.clock.monotonic()
        self._at_work = False  # as far as the observer was told

    @property
    def positions(self) -> Offsets:
        """The next offset of every partition; {} before `resume`."""
        return {} if self._taken is None else dict(self._taken.next)

    @property
    def timers(self) -> Timers:
        """How long the parts take."""
        return self.shard.timers

    @property
    def exhausted(self) -> bool:
        """True once everything that a bounded source holds was taken."""
        return self.source.exhausted and not self._rest

    def resume(self) -> bool:
        """Go to the latest snapshot, or note where a first run begins; True where there was a snapshot.

        Raises CheckpointError where no snapshot is whole or the latest is of another configuration, LogChanged
        where a log no longer holds what was read from it.
        """
        snapshot, again, unknown = None, 0, False  # unknown: of a sink that has come since the snapshot
        recorded: Sequence[Entry] = ()
        if self.store is not None and self.order is not None:
            self._check_identity(self.store)
            generation = self.store.claim()
            snapshot = self.store.latest()
            self.notes += [f"{text}; an earlier snapshot is used" for _, text in self.store.damaged]
            if snapshot is not None:
                snapshot = up_to_date(snapshot)
            number = 0 if snapshot is None else snapshot.meta["order"]["next"]
            recorded = self.order.since(number)
            self.order.begin(generation, number + len(recorded))
        self.start(snapshot, recorded)
        if snapshot is not None:
            again = self._again = self.sink.rewind(snapshot.meta["cursor"])
            for sink, name in ((self.dead, "dead_cursor"), (self.report, "report_cursor")):
                if sink is not None and snapshot.meta[name] is not None:
                    sink.rewind(snapshot.meta[name])
                unknown = unknown or (sink is not None and snapshot.meta[name] is None)
            for sink in self._sinks():  # where answers had expired behind a cursor
                self.notes += notes_of(sink)
            self.finished = snapshot.meta["finished"]
            self._stop_where_too_many_were_refused()
        self._tell_resumed(snapshot, again)
        if self._record_order() or recorded or snapshot is None or unknown:
            self.finished = False  # more has come; its order is settled before an answer leaves
            self.snapshot()
        crash_point("run.resumed")
        return snapshot is not None

    def _check_identity(self, store: CheckpointStore) -> None:
        """Before anything is taken over: a mistyped command must not end the run that is at work."""
        for entry in reversed(store.ls()):
            try:
                kept = _config_of(entry.path)
            except NewerFormat:
                raise
            except CheckpointError:
                continue  # damaged: the one before it counts
            if kept is not None:
                check_identity(self.config, kept, str(entry.path))
            return

    def start(self, snapshot: Snapshot | None, recorded: Sequence[Entry] = ()) -> None:
        """Begin from a snapshot, or where the source stands, and follow a recorded order; nothing is written.

        recorded: the entries behind the snapshot; `run` and `turn` take records in their order first.
        Raises LogChanged where a log no longer holds what was read from it.
        """
        snapshot = None if snapshot is None else up_to_date(snapshot)
        meta = _NONE if snapshot is None else snapshot.meta
        taken = Taken.from_state(meta)
        known = set(taken.next)
        if snapshot is not None:
            self.shard.restore(snapshot.arrays, meta["shard"])
            self.source.seek(taken.next)
            self.notes += taken.compare(self.source, str(snapshot.path))
        taken.next = {**self.source.positions(), **taken.next}
        self._taken = taken
        if self.refused_lately is not None and meta["refused_lately"] and not self.past_refused:
            self.refused_lately.restore(meta["refused_lately"])
        self._began = listed(taken.next) if snapshot is None else meta["began"]
        self._rest = []
        self._marks = [Mark(frozen, offsets(at)) for frozen, at in meta["marks"]]
        self._marks += [entry for entry in recorded if isinstance(entry, Mark)]
        if isinstance(self.source, Staged):
            ahead = [offsets(stage) for stage in meta["stages"]]
            ahead += [entry.ends for entry in recorded if isinstance(entry, Stage)]
            self.source.follow(ahead, next(iter(known)) if len(known) == 1 else None)

    def _tell_resumed(self, snapshot: Snapshot | None, again: int) -> None:
        kept = None
        if snapshot is not None:
            kept = entry_of(snapshot.path, snapshot.generation, snapshot.sequence)
        self._at_work = True
        self.observer.resumed(self, Resumed(entry=kept, again=again, notes=tuple(self.notes)))

    def _tell_stopped(self, reason: str) -> None:
        if self._at_work:
            self._at_work = False
            self.absence.end()
            self.observer.stopped(self, reason)

    def run(self, stop: Callable[[], bool] = lambda: False, timeout: float = 0.2) -> bool:
        """Until the source ends (True) or `stop` says so (False), and a last snapshot either way.

        `stop` is asked before every record; timeout: seconds that one poll may wait. Called again it goes on
        where it stopped.
        """
        if self._taken is None:
            self.resume()
        self.finished = False  # what an earlier run ended with says nothing about what has come since
        while not stop():
            if not self.turn(stop, timeout) and self.exhausted:
                self.finished = True
                break
        self.snapshot()
        self._tell_stopped("finished" if self.finished else "stopped")
        return self.finished

    def turn(self, stop: Callable[[], bool] = lambda: False, timeout: float = 0.2) -> bool:
        """One poll and all that follows from it; False where nothing came."""
        began = self.clock.monotonic()
        crash_point("run.before_poll")
        if self._rest:
            records, self._rest = self._rest, []
        else:
            records = list(self.source.poll(self.batch, timeout))
            crash_point("run.polled")
            self._check_owner()
            self._record_order()
            self._look_at_switch()
        if records:
            self._take(records, stop)
            self.busy_seconds += self.clock.monotonic() - began
        if len(records) < self.batch:  # caught up: answers leave at once, and nothing waits for them
            self._hurry()
        self._snapshot_when_due()
        crash_point("run.batch")
        self._at_work = True
        self.absence.look()
        self.observer.turned(self, records[: len(records) - len(self._rest)])
        if self.on_batch is not None:
            self.on_batch(self)
        if self._too_many_refused():
            self.snapshot()
            self._stop_where_too_many_were_refused()
        return bool(records)

    def _record_order(self) -> bool:
        """Make the stages durable that the source has begun, before a record of theirs is taken."""
        begun = self.source.begun() if isinstance(self.source, Staged) else []
        if begun and self.order is not None:
            since = self.timers.journal.begin()
            for ends in begun:
                self.order.append(Stage(ends))
            self.order.sync()
            self.timers.journal.end(since)
        return bool(begun)

    def _look_at_switch(self) -> None:
        """Freeze or thaw learning where that is asked for; where it happened is part of the recorded order."""
        if self.switch is None or self._marks or self._again > 0 or self.switch.frozen() == self.shard.frozen:
            return
        mark = Mark(not self.shard.frozen, self.positions)
        if self.order is not None:
            self.order.append(mark)
            self.order.sync()
        self.shard.frozen = mark.frozen

    def _come_to_marks(self) -> None:
        assert self._taken is not None
        while self._marks and same_place(self._marks[0].at, self._taken.next):
            self.shard.frozen = self._marks.pop(0).frozen

    def _take(self, records: Sequence[Record], stop: Callable[[], bool]) -> None:
        """Through the shard, few together: up to where a snapshot is due or learning is frozen or thawed."""
        while records:
            self._come_to_marks()
            some = records[: 1 if self._marks else min(TOGETHER, self.every_records - self._unsaved)]
            count = self._step(some, stop)
            refused = bool(self.shard.refused)
            self._bury()
            self._report()
            self._unsaved += count
            records = records[count:]
            if self._unsaved >= self.every_records:
                self._save()
            if self._too_many_refused() if refused else count < len(some):
                break
        self._rest = list(records)

    def _step(self, records: Sequence[Record], stop: Callable[[], bool]) -> int:
        """One after the other, up to one that is refused or until `stop` says so; how many were taken.

        Answers are written at the end: the code that writes is then in the processor's cache.
        """
        assert self._taken is not None
        shard, clock, add = self.shard, self.clock.monotonic, self._taken.add
        answers, refused = shard.answers, shard.refused
        count, spent, now = 0, 0.0, clock()
        answered, took = 0, list[tuple[float, int]]()
        for record in records:
            if refused or stop():
                break
            crash_point("run.before_step")
            shard.take(record)
            crash_point("run.stepped")
            add(record)
            count += 1
            self.records += 1
            before, now = now, clock()
            more = len(answers) - answered
            if more or shard.gathered:
                spent += now - before
            if more:
                took.append((spent / more, more))
                answered, spent = len(answers), 0.0
        if shard.gathered:
            shard.finish()
            more = len(answers) - answered
            took.append(((spent + clock() - now) / more, more))
        for decision, headers in answers:
            self.sink.write(decision.id, decision.message(), headers)
        self._again -= len(answers)
        answers.clear()
        for seconds, n in took:
            self.latency.add(seconds, n)
        return count

    def _too_many_refused(self) -> bool:
        lately = self.refused_lately
        return lately is not None and lately.excess(self.shard.counts.records) is not None

    def _stop_where_too_many_were_refused(self) -> None:
        if self.refused_lately is not None:
            self.refused_lately.check(self.shard.counts.records, self.shard.refusals.first)

    def _bury(self) -> None:
        for refusal in self.shard.refused:
            if self.refused_lately is not None:
                self.refused_lately.add(self.shard.counts.records, self.shard.refusals.place(refusal))
            if self.dead is not None:
                self.dead.write(refusal.key(), refusal.message(), refusal.headers())
            self.observer.refused(self, refusal)
        self.shard.refused.clear()

    def _report(self) -> None:
        """What became of labels that were not simply learned."""
        reports = self.shard.pending.reports or []
        for report in reports:
            if self.report is not None:
                self.report.write(report.key, report.message())
        reports.clear()

    def _snapshot_when_due(self) -> None:
        if self._writer is not None:
            self._writer.settle()
        due = self._unsaved and self.clock.monotonic() - self._saved_at >= self.every_seconds
        # a flush would wait for a broker that is away, and nobody would be told meanwhile
        if due and self.absence.away() is None:
            self._save()

    def _hurry(self) -> None:
        """Let all answers leave; StaleWriter, and nothing leaves, where another process has the shard."""
        self._check_owner()
        for sink in self._sinks():
            sink.hurry()

    def _flush(self) -> None:
        """Make all answers durable; StaleWriter, and nothing leaves, where another process has the shard."""
        self._check_owner()
        crash_point("run.before_flush")
        since = self.timers.flush.begin()
        for sink in self._sinks():
            sink.flush()
        self.timers.flush.end(since)
        crash_point("run.flushed")

    def _check_owner(self) -> None:
        """Before anything is told to others: some sinks send what they are given at once."""
        if self.store is not None:
            self.store.check()

    def _sinks(self) -> list[Sink]:
        return [sink for sink in (self.sink, self.dead, self.report) if sink is not None]

    def snapshot(self) -> None:
        """Make everything so far durable: answers, then one file of all that changes, positions included."""
        self._save()
        if self._writer is not None:
            self._writer.wait()

    def _save(self) -> None:
        """Flush, and copy what changes; it is written while learning goes on."""
        self._flush()
        crash_point("run.before_snapshot")
        self._saved_at = self.clock.monotonic()
        self._unsaved = 0
        if self._writer is None or self._taken is None:
            return
        arrays, shard = self.shard.state()
        meta, positions = self._meta(shard), self.positions
        self._writer.submit(arrays, meta, lambda: self._is_durable(positions))

    def _is_durable(self, positions: Offsets) -> None:
        assert self._writer is not None
        assert self._writer.last is not None
        written = self._writer.last
        self.observer.saved(self, Saved(entry=written.entry, seconds=written.seconds))
        if self.on_durable is not None:
            crash_point("run.before_commit")
            self.on_durable(positions)
            crash_point("run.committed")

    def _meta(self, shard: Mapping[str, Any]) -> dict[str, Any]:
        """What a snapshot says beside its arrays."""
        assert self._taken is not None
        return {
            "contents": CONTENTS,
            "config": self.config,
            "shard": shard,
            **self._taken.state(),
            "began": self._began,
            "stages": self._stages(),
            "marks": [[mark.frozen, listed(mark.at)] for mark in self._marks],
            "order": {"next": 0 if self.order is None else self.order.number},
            "cursor": self.sink.cursor(),
            "dead_cursor": None if self.dead is None else self.dead.cursor(),
            "report_cursor": None if self.report is None else self.report.cursor(),
            "finished": self.finished or self.exhausted,
            "refused_lately": None if self.refused_lately is None else self.refused_lately.state(),
        }

    def _stages(self) -> list[list[list[Any]]]:
        """The stages of the source that have not been taken to their end, ready for JSON."""
        at = self.positions
        stages = self.source.stages() if isinstance(self.source, Staged) else []
        return [listed(stage) for stage in stages if any(at.get(p, 0) < end for p, end in stage.items())]

    def close(self) -> None:
        """Release source, sinks and the recorded order; what was written is flushed."""
        self._tell_stopped("closed")
        if self._writer is not None:
            self._writer.close()
        self.source.close()
        for sink in self._sinks():
            sink.close()
        if self.order is not None:
            self.order.close()

    def abandon(self) -> None:
        """Release everything, make nothing durable: what came since the last snapshot is another's."""
        self._tell_stopped("lost")
        if self._writer is not None:
            self._writer.close()
        self.source.close()
        for sink in self._sinks():
            sink.abandon()
        if self.order is not None:
            self.order.close()


def _config_of(path: Path) -> Any:
    """The configuration in a snapshot; little is read, but where its head speaks of a later release."""
    try:
        return peek(path).get("config")
    except NewerFormat:
        return read(path)[1].get("config")  # says whether that is so, or a damaged head
