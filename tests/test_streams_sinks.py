"""The promises of every sink, checked on the one in memory, the log's and Kafka's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from streams.broker import connect_consumer, ensure_topics
from streams.errors import PositionLost
from streams.kafka import KafkaSink
from streams.log import EmbeddedLog, LogSink
from streams.protocols import Sink
from streams.replay import ListSink

Read = Callable[[], list[tuple[str, Any]]]


class Case:
    """A sink, a way to open it anew, and what a reader sees who drops repeats by key."""

    def __init__(self, open_sink: Callable[[], Sink], read: Read) -> None:
        self.open, self.read = open_sink, read


def in_memory() -> Iterator[Case]:
    sink = ListSink()
    yield Case(lambda: sink, lambda: list(sink.messages))


def in_log(folder: Path) -> Iterator[Case]:
    with EmbeddedLog(folder / "log.db") as log:
        yield Case(
            lambda: LogSink(log, "answers"),
            lambda: [(row.key, msgspec.json.decode(row.value)) for row in log.read("answers", 0, 0, 1000)],
        )


def in_kafka(address: str, topic: str) -> Iterator[Case]:
    ensure_topics(address, {topic: 1})
    opened: list[KafkaSink] = []

    def open_sink() -> Sink:
        opened.append(KafkaSink(address, topic))
        return opened[-1]

    def read() -> list[tuple[str, Any]]:
        from kafka import TopicPartition

        consumer, where = connect_consumer(address), TopicPartition(topic, 0)
        consumer.assign([where])
        consumer.seek_to_beginning(where)
        end, found = consumer.end_offsets([where])[where], {}
        while consumer.position(where) < end:
            for records in consumer.poll(timeout_ms=1000).values():
                found |= {record.key.decode(): msgspec.json.decode(record.value) for record in records}
        consumer.close()
        return list(found.items())

    yield Case(open_sink, read)
    for sink in opened:
        sink.close()


@pytest.fixture(params=["list", "log", pytest.param("kafka", marks=pytest.mark.kafka)])
def case(request: pytest.FixtureRequest, tmp_path: Path, topic: Callable[[str], str]) -> Iterator[Case]:
    if request.param == "kafka":
        yield from in_kafka(request.getfixturevalue("broker"), topic("answers"))
    elif request.param == "log":
        yield from in_log(tmp_path)
    else:
        yield from in_memory()


def write(sink: Sink, *keys: str) -> None:
    for key in keys:
        sink.write(key, {"id": key, "p": [0.25, 0.75], "time": 3.0})


def test_what_was_flushed_can_be_read_in_its_order(case: Case) -> None:
    sink = case.open()
    write(sink, "a", "b", "c")
    sink.flush()
    expected = [(key, {"id": key, "p": [0.25, 0.75], "time": 3.0}) for key in "abc"]
    assert case.read() == expected


def test_the_cursor_counts_what_was_written_flushed_or_not(case: Case) -> None:
    sink = case.open()
    start = sink.cursor()
    write(sink, "a", "b")
    assert sink.cursor() == start + 2
    sink.flush()
    assert sink.cursor() == start + 2


def test_a_sink_opened_again_goes_on_behind_what_is_there(case: Case) -> None:
    first = case.open()
    write(first, "a", "b")
    first.flush()
    second = case.open()
    assert second.cursor() == 2
    write(second, "c")
    second.flush()
    assert [key for key, _ in case.read()] == ["a", "b", "c"]


def test_after_a_rewind_what_is_written_again_stands_once(case: Case) -> None:
    sink = case.open()
    write(sink, "a")
    cursor = sink.cursor()
    write(sink, "b", "c")
    sink.flush()
    write(sink, "d")
    again = case.open()
    again.rewind(cursor)
    assert again.cursor() == cursor
    write(again, "b", "c", "d", "e")
    again.flush()
    assert [key for key, _ in case.read()] == ["a", "b", "c", "d", "e"]


def test_what_waited_behind_the_cursor_is_never_written(case: Case) -> None:
    sink = case.open()
    write(sink, "a", "b", "c")
    sink.rewind(1)
    sink.flush()
    assert [key for key, _ in case.read()] == ["a"]


def test_a_cursor_that_the_sink_never_reached_is_an_error_that_names_it(case: Case) -> None:
    with pytest.raises((ValueError, PositionLost), match="cursor is 7"):
        case.open().rewind(7)


def test_a_value_without_a_json_form_is_refused_when_it_is_written(case: Case) -> None:
    with pytest.raises(TypeError, match="object"):
        case.open().write("a", {"value": object()})


def test_closing_flushes_and_closing_twice_is_allowed(case: Case) -> None:
    sink = case.open()
    write(sink, "a")
    sink.close()
    sink.close()
    assert [key for key, _ in case.read()] == ["a"]
