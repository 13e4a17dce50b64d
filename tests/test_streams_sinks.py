"""The promises of every sink, checked on the one in memory, the log's and Kafka's."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from streams.broker import connect_consumer, ensure_topics
from streams.clients import Client
from streams.errors import Fenced, PositionLost
from streams.kafka import KafkaSink
from streams.log import EmbeddedLog, LogSink
from streams.protocols import Sink
from streams.replay import ListSink

Read = Callable[[], list[tuple[str, Any]]]


class Case:
    """A sink, a way to open it anew, and what a reader sees."""

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


def in_kafka(address: str, topic: str, client: Client, transactional: bool) -> Iterator[Case]:
    ensure_topics(address, {topic: 1})
    opened: list[KafkaSink] = []

    def open_sink() -> Sink:
        opened.append(KafkaSink(address, topic, client=client, transactional=transactional))
        return opened[-1]

    def read() -> list[tuple[str, Any]]:
        from kafka import TopicPartition

        committed = {"isolation_level": "read_committed"}
        consumer, where = connect_consumer(address, options=committed), TopicPartition(topic, 0)
        consumer.assign([where])
        consumer.seek_to_beginning(where)
        end, found = consumer.end_offsets([where])[where], []
        while consumer.position(where) < end:
            for records in consumer.poll(timeout_ms=1000).values():
                found += [(record.key.decode(), msgspec.json.decode(record.value)) for record in records]
        consumer.close()
        return found

    yield Case(open_sink, read)
    for sink in opened:
        with suppress(Fenced):
            sink.close()


KAFKA = {
    f"{client}{' transactional' if transactional else ''}": (client, transactional)
    for client in get_args(Client)
    for transactional in (False, True)
}


@pytest.fixture(params=["list", "log", *(pytest.param(name, marks=pytest.mark.kafka) for name in KAFKA)])
def case(request: pytest.FixtureRequest, tmp_path: Path, topic: Callable[[str], str]) -> Iterator[Case]:
    if request.param in KAFKA:
        yield from in_kafka(request.getfixturevalue("broker"), topic("answers"), *KAFKA[request.param])
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


def test_what_is_hurried_can_soon_be_read_without_a_flush(case: Case) -> None:
    sink = case.open()
    for keys in ("ab", "c"):
        write(sink, *keys)
        sink.hurry()
    deadline = time.monotonic() + 20.0
    while [key for key, _ in case.read()] != ["a", "b", "c"]:
        assert time.monotonic() < deadline
    sink.hurry()  # nothing waits
    sink.flush()
    write(sink, "d")
    sink.flush()
    assert [key for key, _ in case.read()] == ["a", "b", "c", "d"]
    again = case.open()
    assert again.rewind(sink.cursor()) == 0


def test_the_cursor_is_json_and_says_after_a_flush_that_something_was_written(case: Case) -> None:
    sink = case.open()
    start = sink.cursor()
    assert sink.cursor() == start
    write(sink, "a", "b")
    sink.flush()
    behind = sink.cursor()
    assert behind != start
    assert msgspec.json.decode(msgspec.json.encode(behind)) == behind
    sink.flush()
    assert sink.cursor() == behind


def test_a_sink_opened_again_goes_on_behind_what_is_there(case: Case) -> None:
    first = case.open()
    write(first, "a", "b")
    first.flush()
    second = case.open()
    second.rewind(first.cursor())
    write(second, "c")
    second.flush()
    assert [key for key, _ in case.read()] == ["a", "b", "c"]


def test_after_a_rewind_what_is_written_again_stands_once(case: Case) -> None:
    sink = case.open()
    write(sink, "a")
    sink.flush()
    cursor = sink.cursor()
    write(sink, "b", "c")
    sink.flush()
    again = case.open()
    assert again.rewind(cursor) == 2
    assert again.cursor() == cursor
    write(again, "b", "c", "d", "e")
    again.flush()
    assert [key for key, _ in case.read()] == ["a", "b", "c", "d", "e"]


def test_a_run_may_be_repeated_from_any_of_its_cursors_and_in_other_portions(case: Case) -> None:
    sink, cursors = case.open(), []
    for key in "abcdef":
        cursors.append(sink.cursor())
        write(sink, key)
        sink.flush()
    for portion, cursor in enumerate(cursors, 1):
        sink = case.open()
        sink.rewind(msgspec.json.decode(msgspec.json.encode(cursor)))
        for number, key in enumerate("abcdef"[portion - 1 :], 1):
            write(sink, key)
            if number % portion == 0:
                sink.flush()
        sink.flush()
        assert sink.cursor()
    assert [key for key, _ in case.read()] == [*"abcdef"]


def test_equal_messages_stand_as_often_as_they_were_written(case: Case) -> None:
    sink = case.open()
    cursor = sink.cursor()
    write(sink, "a", "a", "b", "a")
    sink.flush()
    sink = case.open()
    sink.rewind(cursor)
    write(sink, "a", "a", "b", "a", "a")
    sink.flush()
    assert sorted(key for key, _ in case.read()) == ["a", "a", "a", "a", "b"]


def test_what_waited_behind_the_cursor_stands_once_when_it_is_written_again(case: Case) -> None:
    sink = case.open()
    write(sink, "a")
    sink.flush()
    cursor = sink.cursor()
    write(sink, "b", "c")
    sink.rewind(cursor)
    write(sink, "b", "c")
    sink.flush()
    assert [key for key, _ in case.read()] == ["a", "b", "c"]


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
