"""From history to live: no gap, no overlap, and the same whatever is killed where."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from plain_learner import PlainLearner
from test_run_order import E1, E, Killed, L, Log, contents, make_log

from engine.checkpoint import CheckpointStore
from engine.evaluate.metrics import PrequentialMetrics
from engine.order import Order
from engine.run import Loop
from engine.shard import Shard
from engine.side_by_side import Answers
from streams.codecs import encode_event, encode_json, encode_label
from streams.errors import TableError
from streams.event import Event, Label, Malformed, TopicPartition
from streams.history import open_history
from streams.history_then_live import HistoryThenLive, Known, LiveAnswers, WithoutKnown
from streams.log import EmbeddedLog
from streams.merge import MergedSource
from streams.protocols import notes_of
from streams.replay import Items, ListSink, ListSource

HISTORY = {p: TopicPartition("history:" + p.topic, p.partition) for p in (E, E1, L)}


def split(log: Log, time: float, overlap: float) -> tuple[dict[TopicPartition, Items], Log]:
    """What of a log is history, up to a time, and what is live, beginning somewhat before."""
    past: dict[TopicPartition, Items] = {
        HISTORY[p]: [item for item in items if item.time <= time] for p, items in log.items()
    }
    return past, {p: [item for item in items if item.time >= time - overlap] for p, items in log.items()}


def open_loop(past: Any, log: Log, sink: ListSink, folder: Path | None, live: bool = True) -> Loop:
    source = HistoryThenLive(
        MergedSource(ListSource(past), ahead=7),
        MergedSource(WithoutKnown(ListSource(log), Known(past)), ahead=7, live=live),
    )
    store = None if folder is None else CheckpointStore(folder)
    shard = Shard(PlainLearner(), PrequentialMetrics())
    return Loop(shard, source, LiveAnswers(sink), store, batch=16, every_records=25)


class Noted(ListSink):
    """A sink that has something to say once it went back."""

    notes: Sequence[str] = ()

    def rewind(self, cursor: int) -> int:
        self.notes = ["answers have expired"]
        return super().rewind(cursor)


def test_what_a_sink_says_of_going_back_passes_whoever_wraps_it(tmp_path: Path) -> None:
    past, now = split(make_log(), 100.0, 30.0)
    sink = Noted()
    assert notes_of(LiveAnswers(sink)) == notes_of(Answers(sink)) == notes_of(LiveAnswers(ListSink())) == []
    assert open_loop(past, now, sink, tmp_path, live=False).run()
    again = open_loop(past, now, sink, tmp_path, live=False)
    assert again.resume()
    assert again.notes == ["answers have expired"]
    assert notes_of(Answers(LiveAnswers(sink))) == ["answers have expired"]


@pytest.mark.parametrize("overlap", [0.0, 30.0, 1e9])
def test_nothing_is_missing_and_nothing_is_learned_twice(overlap: float) -> None:
    log = make_log()
    past, now = split(log, 100.0, overlap)
    sink = ListSink()
    loop = open_loop(past, now, sink, None, live=False)
    assert loop.run()
    assert loop.shard.counts.answered == 200
    assert loop.shard.counts.learned == 200
    assert [message["time"] for _, message in sink.messages] == [float(i) for i in range(101, 200)]


@pytest.mark.parametrize("seed", range(8))
def test_killed_in_history_at_the_turn_or_live_it_ends_as_one_left_alone(tmp_path: Path, seed: int) -> None:
    whole = make_log()
    past, now = split(whole, 100.0, 20.0)
    known = sum(isinstance(item, Event) and item.time <= 100.0 for items in now.values() for item in items)
    total = sum(len(items) for items in past.values()) + sum(map(len, now.values())) - known
    history = sum(len(items) for items in past.values())
    log: Log = {partition: items[:30] for partition, items in now.items()}
    chance = random.Random(seed)
    kills = [history - 1, history, history + 1, *(chance.randrange(5, total - 30) for _ in range(3))]
    sink = ListSink()
    for kill in [*sorted(kills), 10**9]:
        loop = open_loop(past, log, sink, tmp_path)
        loop.resume()

        def stop(loop: Loop = loop, kill: int = kill) -> bool:
            if loop.records and loop.shard.counts.records >= kill:
                raise Killed
            return loop.shard.counts.records == total

        def grow(loop: Loop) -> None:
            for partition, items in now.items():
                grown = log[partition]
                grown += items[len(grown) : len(grown) + chance.choice([0, 1, 5])]

        loop.on_batch = grow
        try:
            loop.run(stop)
        except Killed:
            continue
    assert loop.shard.counts.answered == loop.shard.counts.learned == 200
    again_sink = ListSink()
    again = open_loop(past, now, again_sink, None)
    again.start(None, Order(tmp_path).since(0))
    again.run(lambda: again.shard.counts.records == loop.shard.counts.records)
    assert again_sink.messages == sink.messages
    assert contents(again) == contents(loop)


def test_a_known_event_that_brings_a_label_brings_it_to_the_forecast_that_waits() -> None:
    past = {HISTORY[E]: [Event(id=str(i), time=float(i), features={"a": 1.0}) for i in range(4)]}
    now: Log = {E: [Event(id="2", time=2.0, features={"a": 1.0}, label=1)]}
    loop = open_loop(past, now, ListSink(), None, live=False)
    assert loop.run()
    assert (loop.shard.counts.answered, loop.shard.counts.learned) == (4, 1)


# -- files ---------------------------------------------------------------------------------------------------

ROWS: list[dict[str, Any]] = [
    {"id": f"r{i}", "time": 10.0 + i, "amount": i / 2, "shop": "ab"[i % 2], "label": i % 2} for i in range(9)
]


def write(path: Path) -> Path:
    """The rows in the form that the file's name says."""
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)
    elif path.suffix in (".csv", ".tsv"):
        comma = "," if path.suffix == ".csv" else "\t"
        lines = [comma.join(ROWS[0]), *(comma.join(map(str, row.values())) for row in ROWS)]
        path.write_text("\n".join(lines))
    else:
        path.write_bytes(b"\n\n".join(map(encode_json, ROWS)) + b"\n")
    return path


@pytest.mark.parametrize("name", ["old.jsonl", "old.csv", "old.tsv", "old.parquet"])
def test_rows_of_a_file_are_events(tmp_path: Path, name: str) -> None:
    past = open_history(write(tmp_path / name))
    source = ListSource(past)
    items = [record.item for record in source.poll(100)]
    assert source.positions() == {TopicPartition("history:old", 0): 9}
    assert items == [
        Event(
            id=row["id"],
            time=row["time"],
            features={"amount": row["amount"], "shop": row["shop"]},
            label=row["label"],
        )
        for row in ROWS
    ]
    source.seek({TopicPartition("history:old", 0): 7})
    assert [record.item.id for record in source.poll(1) if isinstance(record.item, Event)] == ["r7"]
    assert Known(past).end == 18.0


def test_lines_may_be_canonical_messages_and_broken_ones_are_malformed(tmp_path: Path) -> None:
    event, label = Event(id="a", time=1.0, features={"x": 1}), Label(id="a", time=2.0, label=True)
    lines = [encode_event(event), b"{broken", encode_label(label), b"[1]", b'{"id": 7, "time": 3, "x": 2}']
    (tmp_path / "old.jsonl").write_bytes(b"\n".join(lines))
    items = [record.item for record in ListSource(open_history(tmp_path / "old.jsonl")).poll(9)]
    assert items[0] == event
    assert items[2] == label
    assert [type(item) for item in items[1:4:2]] == [Malformed, Malformed]
    assert items[4] == Event(id="7", time=3.0, features={"x": 2})


def test_a_decoder_reads_rows_of_any_layout(tmp_path: Path) -> None:
    def read(raw: bytes, key: bytes | None = None, timestamp: float | None = None) -> Event:
        row = json.loads(raw)
        return Event(id="x" + row["id"], time=row["time"], features={"a": row["amount"]})

    for name in ("old.csv", "old.jsonl"):
        source = ListSource(open_history(write(tmp_path / name), ["orders"], {"orders": read}))
        first = source.poll(1)[0].item
        assert first == Event(id="xr0", time=10.0, features={"a": 0.0})


def test_an_embedded_log_is_history_too(tmp_path: Path) -> None:
    with EmbeddedLog(tmp_path / "old.sqlite") as log:
        for partition, items in make_log(20).items():
            for item in items:
                raw = encode_event(item) if isinstance(item, Event) else encode_label(item)
                log.append(partition.topic, partition.partition, item.id, item.time, raw)
        log.append("other", 0, "", 0.0, b"{}")
    source = ListSource(open_history(tmp_path / "old.sqlite", ["e", "l"]))
    assert source.end_offsets() == {HISTORY[E]: 10, HISTORY[E1]: 10, HISTORY[L]: 20}
    times = [record.item.time for record in MergedSource(source).poll(99)]
    assert times == sorted(times)
    with pytest.raises(TableError, match="holds none of the topics x; there are: e, l, other"):
        open_history(tmp_path / "old.sqlite", ["x"])


@pytest.mark.parametrize("name", ["none.csv", "old.txt", "bad.parquet"])
def test_what_is_no_history_is_told(tmp_path: Path, name: str) -> None:
    if not name.startswith("none"):
        (tmp_path / name).write_bytes(b"no table")
    with pytest.raises(TableError, match=name):
        open_history(tmp_path / name)
