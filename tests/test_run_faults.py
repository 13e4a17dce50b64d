"""Faults under a loop: full disks, lost snapshots, processes that were replaced, clocks that are wrong.

Whatever happens: a clear error, nothing half-written is believed, and a run that goes on ends as one undisturbed.
"""

from __future__ import annotations

import random
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from plain_learner import PlainLearner

from benchmarks import crashes
from benchmarks.crashes import ANSWERS, COUNT, DEAD, EVENTS, LABELS, Written, compare
from engine.checkpoint import CheckpointStore, SnapshotNotWritten, StaleWriter, read
from engine.evaluate.metrics import PrequentialMetrics
from engine.order import Order
from engine.run import Loop
from engine.shard import Shard
from streams.broker import KafkaLog, ensure_topics
from streams.clients import Client
from streams.codecs import encode_event, encode_label
from streams.errors import LogFull
from streams.event import Event, Label, TopicPartition
from streams.join import PendingForecasts
from streams.join_limits import JoinLimits
from streams.kafka import KafkaSink, KafkaSource
from streams.log import EmbeddedLog, LogSink
from streams.log_source import LogSource
from streams.merge import MergedSource

Break = Callable[[Loop], None]


def make_shard() -> Shard:
    return Shard(PlainLearner(), PrequentialMetrics(), PendingForecasts(JoinLimits(max_age=500.0)))


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `compare` compares with learns as these loops do."""
    monkeypatch.setattr(crashes, "make_shard", make_shard)


def whole_log(wrong: dict[int, float] | None = None) -> Written:
    """Two partitions of events and of labels, labels cross them; wrong: event times that are off, by event."""
    chance = random.Random(5)
    written: Written = {TopicPartition(topic, p): [] for topic in (EVENTS, LABELS) for p in range(2)}
    labels = []
    for i in range(COUNT):
        x = {"a": chance.gauss(0, 1), "b": chance.gauss(0, 1)}
        event = Event(id=f"e{i}", time=(wrong or {}).get(i, float(i)), features=x)
        written[TopicPartition(EVENTS, i % 2)].append((event.id, event.time, encode_event(event)))
        label = Label(id=event.id, time=i + chance.uniform(0.5, 30), label=int(x["a"] > x["b"]))
        labels.append((label.time, chance.randrange(2), (label.id, label.time, encode_label(label))))
    for _, partition, raw in sorted(labels):
        written[TopicPartition(LABELS, partition)].append(raw)
    return written


class Producer:
    """Appends what is missing of the log, some records of each partition at a time."""

    def __init__(self, log: EmbeddedLog, whole: Written, seed: int) -> None:
        self._log, self._whole, self._chance = log, whole, random.Random(seed)

    def __call__(self, loop: Loop | None = None) -> None:
        for partition, rows in self._whole.items():
            end = self._log.end_offset(*partition)
            more = rows[end : end + self._chance.choice((0, 1, 3, 8, 20))]
            if more:
                self._log.append_many(*partition, more)


def open_loop(folder: Path, log: EmbeddedLog, producer: Break | None, **options: Any) -> Loop:
    return Loop(
        make_shard(),
        MergedSource(LogSource(log, [EVENTS, LABELS]), ahead=32, live=True),
        LogSink(log, ANSWERS),
        CheckpointStore(folder / "snapshots", keep=3),
        dead=LogSink(log, DEAD),
        **{"batch": 16, "every_records": 70, "on_batch": producer, **options},
    )


def live(folder: Path, whole: Written, seed: int = 0, *, fault: Break | None = None, **options: Any) -> Loop:
    """A run until everything is learned; fault: called with the loop before it begins. Closed at the end."""
    with EmbeddedLog(folder / "log.db") as log:
        producer = Producer(log, whole, seed)
        producer()
        loop = open_loop(folder, log, producer, **options)
        try:
            loop.resume()
            if fault is not None:
                fault(loop)
            total = sum(map(len, whole.values()))
            loop.run(lambda: sum(loop.positions.values()) >= total, timeout=0.0)
        except BaseException:
            loop.abandon()
            raise
        loop.close()
    return loop


def after(records: int, broken: Break) -> Break:
    """Break it once so many records were taken in this life."""

    def fault(loop: Loop) -> None:
        before, done = loop.on_batch, []

        def on_batch(loop: Loop) -> None:
            assert before is not None
            before(loop)
            if loop.records >= records and not done:
                done.append(True)
                broken(loop)

        loop.on_batch = on_batch

    return fault


@contextmanager
def limited(bytes: int) -> Iterator[None]:
    """The kernel takes files up to this size: a write that crosses it is cut short, the next one fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# -- disks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("room", [0, 1, 7, 13, 20])
def test_a_disk_that_is_full_while_the_order_is_appended(tmp_path: Path, room: int) -> None:
    """0 to 20 of the 21 or more bytes of a stage find room."""
    whole, entries = whole_log(), [0]

    def full(loop: Loop) -> None:
        assert loop.order is not None
        append = loop.order.append

        def appended(entry: Any) -> None:
            [path] = (tmp_path / "snapshots").glob("*.order")
            entries[0] = len(Order(tmp_path / "snapshots").since(0))
            with limited(path.stat().st_size + room):
                append(entry)

        loop.order.append = appended  # type: ignore[method-assign]

    with pytest.raises(
        SnapshotNotWritten, match=r"0-g000001-n\d+.order: not written \(File too large\);.*ulimit"
    ):
        live(tmp_path, whole, fault=after(100, full))
    assert entries[0] >= 2
    assert len(Order(tmp_path / "snapshots").since(0)) == entries[0]
    live(tmp_path, whole, seed=1)
    assert compare(tmp_path, whole) == []


def test_a_disk_that_fails_as_the_order_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, taken = whole_log(), []

    def failing(loop: Loop) -> None:
        taken.append(loop.records)

        def fdatasync(handle: int) -> None:
            raise OSError(5, "Input/output error")

        monkeypatch.setattr("engine.order.os.fdatasync", fdatasync)

    with pytest.raises(
        SnapshotNotWritten, match=r"order: not written \(Input/output error\);.*check the disk"
    ):
        live(tmp_path, whole, fault=after(100, failing))
    monkeypatch.undo()
    monkeypatch.setattr(crashes, "make_shard", make_shard)
    live(tmp_path, whole, seed=1)
    assert compare(tmp_path, whole) == []


def test_a_disk_that_is_full_while_a_snapshot_is_written_in_the_background(tmp_path: Path) -> None:
    whole = whole_log()

    def full(loop: Loop) -> None:
        for number in range(1, 20):  # those to come
            name = f"0-g000001-s{number:08d}.safetensors"
            if not (tmp_path / "snapshots" / name).exists():
                (tmp_path / "snapshots" / f"{name}.writing").unlink(missing_ok=True)
                (tmp_path / "snapshots" / f"{name}.writing").symlink_to("/dev/full")

    with pytest.raises(SnapshotNotWritten, match=r"not written \(No space left on device\);.*make room"):
        live(tmp_path, whole, fault=after(100, full))
    store = CheckpointStore(tmp_path / "snapshots")
    assert store.latest() is not None
    assert store.damaged == []
    live(tmp_path, whole, seed=1)
    assert compare(tmp_path, whole) == []


def test_a_disk_that_is_full_while_answers_are_written(tmp_path: Path) -> None:
    whole = whole_log()

    def full(loop: Loop) -> None:
        connection = loop.sink._log._connection  # type: ignore[attr-defined]
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")

    with pytest.raises(LogFull, match=r"no room is left for the log .*Make room on its disk and start again"):
        live(tmp_path, whole, fault=after(100, full))
    live(tmp_path, whole, seed=1)
    assert compare(tmp_path, whole) == []


# -- snapshots ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lost", ["torn", "empty", "missing", "version"])
def test_without_the_newest_snapshot_it_goes_on_from_the_one_before(tmp_path: Path, lost: str) -> None:
    whole = whole_log()

    class Stop(Exception):
        pass

    def stop(loop: Loop) -> None:
        loop.snapshot()
        raise Stop

    with pytest.raises(Stop):
        live(tmp_path, whole, fault=after(250, stop))
    *_, before, newest = CheckpointStore(tmp_path / "snapshots").ls()
    stood = sum(offset for *_, offset in read(before.path)[1]["positions"])
    assert stood < sum(offset for *_, offset in read(newest.path)[1]["positions"])
    if lost == "missing":
        newest.path.unlink()
    elif lost == "version":  # one bit of it: the file does not become one of a later release
        newest.path.write_bytes(newest.path.read_bytes().replace(b'version\\": 2', b'version\\": 3', 1))
    else:
        newest.path.write_bytes(newest.path.read_bytes()[: 0 if lost == "empty" else newest.bytes // 2])
    came: list[int] = []
    loop = live(tmp_path, whole, seed=1, fault=lambda loop: came.append(sum(loop.positions.values())))
    assert came == [stood]
    assert len(loop.notes) == (lost != "missing")
    assert all("an earlier snapshot is used" in note for note in loop.notes)
    assert compare(tmp_path, whole) == []


# -- processes that were replaced -----------------------------------------------------------------------------


def test_a_loop_that_was_replaced_stops_before_its_answers_leave(tmp_path: Path) -> None:
    whole = whole_log()
    with EmbeddedLog(tmp_path / "log.db") as log:
        producer = Producer(log, whole, 0)
        producer()
        zombie = open_loop(tmp_path, log, None)
        zombie.resume()
        zombie.turn(timeout=0.0)
        while log.end_offset(EVENTS) < 60:
            producer()
        owner = open_loop(tmp_path, log, None)
        owner.resume()
        before = log.end_offset(ANSWERS), sorted(path.name for path in (tmp_path / "snapshots").iterdir())
        taken = zombie.records
        with pytest.raises(StaleWriter, match="was taken over by generation 2"):
            zombie.turn(timeout=0.0)
        assert zombie.records == taken
        zombie.abandon()
        assert before == (
            log.end_offset(ANSWERS), sorted(path.name for path in (tmp_path / "snapshots").iterdir())
        )  # fmt: skip
        owner.close()
    live(tmp_path, whole, seed=1)
    assert compare(tmp_path, whole) == []


@pytest.mark.kafka
@pytest.mark.parametrize("transactional", [False, True])
def test_over_kafka_too(
    tmp_path: Path, broker: str, topic: Callable[[str], str], client: Client, transactional: bool
) -> None:
    events, answers = topic("events"), topic("answers")
    ensure_topics(broker, {events: 1, answers: 1})
    rows = whole_log()[TopicPartition(EVENTS, 0)]
    with closing(KafkaLog(broker)) as log:
        log.append_many(events, 0, rows[:20])

        def open_one() -> Loop:
            return Loop(
                make_shard(),
                MergedSource(KafkaSource(broker, events, start="beginning", client=client), live=True),
                KafkaSink(broker, answers, client=client, transactional=transactional),
                CheckpointStore(tmp_path),
                batch=64,
            )

        zombie = open_one()
        zombie.resume()
        until(zombie, 20)
        zombie.snapshot()
        owner = open_one()
        owner.resume()
        log.append_many(events, 0, rows[20:])
        before = log.end_offset(answers)
        with pytest.raises(StaleWriter, match="was taken over by generation 2"):
            until(zombie, len(rows))
        zombie.abandon()
        assert zombie.records == 20
        assert log.end_offset(answers) == before
        until(owner, len(rows) - 20)
        owner.close()
        source = KafkaSource(broker, answers, start="beginning", bounded=True, client=client)
        found: list[str] = []
        while not source.exhausted:
            found += [record.item.raw.decode().split('"')[3] for record in source.poll(500, 1.0)]  # type: ignore[union-attr]
        source.close()
        assert found == [key for key, *_ in rows]


def until(loop: Loop, records: int) -> None:
    deadline = time.monotonic() + 30.0
    while loop.records < records and time.monotonic() < deadline:
        loop.turn(timeout=0.2)
    assert loop.records == records


# -- time -----------------------------------------------------------------------------------------------------


class Jumping:
    """A clock that jumps days ahead and back at every look."""

    def __init__(self) -> None:
        self._chance, self._now = random.Random(3), 0.0

    def time(self) -> float:
        self._now += self._chance.uniform(-1e6, 1e6)
        return self._now

    monotonic = time

    def sleep(self, seconds: float) -> None:
        """It has already jumped."""


def test_clocks_that_jump_change_nothing_in_what_is_learned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, clock = whole_log(), Jumping()
    with monkeypatch.context() as patched:
        patched.setattr("time.time", clock.time)
        live(tmp_path / "jumps", whole, clock=clock)
    assert compare(tmp_path / "jumps", whole) == []
    live(tmp_path / "calm", whole)
    assert states(tmp_path / "jumps") == states(tmp_path / "calm")


def states(folder: Path) -> dict[str, Any]:
    """What the newest snapshot holds of the shard."""
    snapshot = CheckpointStore(folder / "snapshots").latest()
    assert snapshot is not None
    shard = make_shard()
    shard.restore(snapshot.arrays, snapshot.meta["shard"])
    return crashes.contents(shard)


@pytest.mark.parametrize("off", [1e15, -1e15, 1e8])
def test_event_times_that_jump_give_up_nothing_that_waits(tmp_path: Path, off: float) -> None:
    """A few events with a clock of their own among those of the right time; live, so that few wait for one."""
    whole = whole_log({i: i + off for i in range(7, COUNT, 31)})
    loop = live(tmp_path, whole)
    counts, join = loop.shard.counts, loop.shard.pending.counts
    assert (counts.answered, counts.learned, counts.refused) == (COUNT, COUNT, 0)
    assert (join.expired, join.orphans, join.late, len(loop.shard.pending)) == (0, 0, 0, 0)
    assert loop.shard.pending.now < 2 * COUNT
    assert compare(tmp_path, whole) == []
