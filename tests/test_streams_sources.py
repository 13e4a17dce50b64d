"""The promises of every source, checked on the one in memory, files, the log, Kafka, and merged ones."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from streams.broker import KafkaLog, ensure_topics
from streams.clients import Client
from streams.codecs import encode_event
from streams.event import Event, Position, Record, TopicPartition
from streams.files import FileSource
from streams.fingerprint import fingerprint_of
from streams.kafka import KafkaSource
from streams.log import EmbeddedLog
from streams.log_source import LogSource
from streams.merge import MergedSource
from streams.protocols import Source
from streams.replay import ListSource

COUNT = 60
Make = Callable[[], Source]


def event(i: int) -> Event:
    return Event(id=f"e{i:03d}", time=float(i), features={"x": float(i), "c": "abc"[i % 3]}, label=i % 2)


def list_source(_: Path, __: str) -> Make:
    items = {TopicPartition("events", p): [event(i) for i in range(p, COUNT, 2)] for p in (0, 1)}
    return lambda: ListSource(items)


def file_source(folder: Path, _: str) -> Make:
    path = folder / "rows.csv"
    with path.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["when", "x", "c", "y"])
        writer.writerows([i, float(i), "abc"[i % 3], i % 2] for i in range(COUNT))
    return lambda: FileSource(path, "y", time="when")


def fill(log: Any, topic: str) -> None:
    for partition in (0, 1):
        items = [event(i) for i in range(partition, COUNT, 2)]
        log.append_many(topic, partition, [(e.id, e.time, encode_event(e)) for e in items])


def log_source(folder: Path, topic: str) -> Make:
    with EmbeddedLog(folder / "log.db") as log:
        fill(log, topic)
        return lambda: LogSource(log, topic, bounded=True)


def kafka_source(address: str, topic: str, client: Client) -> Make:
    ensure_topics(address, {topic: 2})
    log = KafkaLog(address)
    fill(log, topic)
    log.close()
    return lambda: KafkaSource(address, topic, start="beginning", bounded=True, client=client)


def merged(make: Any) -> Make:
    return lambda: MergedSource(make(), ahead=7)


KAFKA: tuple[Client, ...] = get_args(Client)
LOCAL = {"list": list_source, "file": file_source, "log": log_source}


@pytest.fixture(
    params=[
        *LOCAL,
        *(f"merged {name}" for name in LOCAL),
        *(pytest.param(client, marks=pytest.mark.kafka) for client in KAFKA),
        *(pytest.param(f"merged {client}", marks=pytest.mark.kafka) for client in KAFKA),
    ]
)
def make(request: pytest.FixtureRequest, tmp_path: Path, topic: Callable[[str], str]) -> Iterator[Make]:
    name = request.param.removeprefix("merged ")
    inner = (
        kafka_source(request.getfixturevalue("broker"), topic("events"), name)
        if name in KAFKA
        else LOCAL[name](tmp_path, "events")
    )
    opened: list[Source] = []

    def open_one() -> Source:
        opened.append(merged(inner)() if request.param.startswith("merged") else inner())
        return opened[-1]

    yield open_one
    for source in opened:
        source.close()


def read(source: Source, count: int = COUNT, at_once: int = 11) -> list[Record]:
    """`count` records, or as many as there are until the source is exhausted."""
    found: list[Record] = []
    while len(found) < count and not source.exhausted:
        found += source.poll(min(at_once, count - len(found)), 1.0)
    return found


def offsets(records: list[Record]) -> dict[TopicPartition, list[int]]:
    found: dict[TopicPartition, list[int]] = {}
    for topic, partition, offset in (record.position for record in records):
        found.setdefault(TopicPartition(topic, partition), []).append(offset)
    return found


def test_every_record_comes_once_and_a_partition_in_the_order_of_its_offsets(make: Make) -> None:
    records = read(make())
    assert len(records) == COUNT
    for found in offsets(records).values():
        assert found == list(range(len(found)))


def test_what_was_written_is_what_comes(make: Make) -> None:
    found = sorted((record.item for record in read(make())), key=lambda item: item.time)
    assert [(e.time, e.features, e.label) for e in found] == [
        (e.time, e.features, e.label) for e in map(event, range(COUNT))
    ]


def test_a_source_is_exhausted_after_its_last_record_and_then_polls_nothing(make: Make) -> None:
    source = make()
    assert not source.exhausted
    read(source, COUNT - 1)
    assert not source.exhausted
    read(source)
    assert source.exhausted
    assert list(source.poll(10, 0.0)) == []


def test_no_poll_gives_more_than_was_asked_for(make: Make) -> None:
    source = make()
    while not source.exhausted:
        assert len(source.poll(4, 1.0)) <= 4


@pytest.mark.parametrize("count", [1, 17, 41])
def test_positions_name_the_next_offset_of_every_partition(make: Make, count: int) -> None:
    source = make()
    before = source.positions()
    records = read(source, count)
    expected = before | {partition: found[-1] + 1 for partition, found in offsets(records).items()}
    assert source.positions() == expected


@pytest.mark.parametrize("count", [0, 1, 17, 59])
def test_another_reader_goes_on_exactly_where_the_positions_say(make: Make, count: int) -> None:
    first, second = make(), make()
    read(first, count)
    second.seek(first.positions())
    assert offsets(read(second)) == offsets(read(first))


def test_seeking_back_delivers_the_same_records_again(make: Make) -> None:
    source = make()
    read(source, 13)
    positions = source.positions()
    once = offsets(read(source))
    source.seek(positions)
    assert source.positions() == positions
    assert offsets(read(source)) == once


def test_seeking_in_a_partition_that_is_not_read_is_an_error_that_names_it(make: Make) -> None:
    with pytest.raises(ValueError, match="elsewhere"):
        make().seek({TopicPartition("elsewhere", 0): 0})


def test_seeking_behind_the_end_is_an_error_that_names_the_offset(make: Make) -> None:
    source = make()
    partition = next(iter(source.positions()))
    with pytest.raises((ValueError, LookupError), match="999"):
        source.seek({partition: 999})


@pytest.mark.parametrize("count", [0, 17])
def test_fingerprints_are_those_of_the_records_and_asking_for_them_moves_nothing(
    make: Make, count: int
) -> None:
    source = make()
    read(source, count)
    positions = source.positions()
    asked = {partition: number for number, partition in enumerate(positions, 5)}
    found = source.fingerprints(asked)
    assert source.positions() == positions
    rest = read(source)
    assert len(rest) == COUNT - count
    of = {record.position: fingerprint_of(record) for record in read(make())}
    assert found == {p: of[Position(*p, offset)] for p, offset in asked.items()}


def test_where_no_record_stands_there_is_no_fingerprint(make: Make) -> None:
    source = make()
    partition = next(iter(source.positions()))
    assert source.fingerprints({partition: 999}) == {partition: None}


def test_closing_twice_is_allowed(make: Make) -> None:
    source = make()
    source.close()
    source.close()


def test_a_merged_source_delivers_in_the_order_of_time(make: Make, request: pytest.FixtureRequest) -> None:
    source = make()
    if isinstance(source, MergedSource):
        assert [record.item.time for record in read(source)] == [float(i) for i in range(COUNT)]
    else:
        assert len(read(MergedSource(source))) == COUNT  # type: ignore[arg-type]  # all of them are bounded
