"""Messages as others leave them: expired, with odd headers, of a registry that is away, of another writer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from kafka_topics import append, cut, ids, keys_of, rows

from streams.broker import ensure_topics
from streams.clients import Client
from streams.codecs import decode
from streams.errors import RegistryUnavailable, StreamError
from streams.event import Event, Label, Malformed, TopicPartition
from streams.kafka import KafkaSink, KafkaSource
from streams.raw import RawBroker

pytestmark = pytest.mark.kafka
Name = Callable[[str], str]


def test_answers_that_expired_behind_a_cursor_are_given_again_and_those_that_stand_are_not(
    broker: str, topic: Name, client: Client, admin: Any
) -> None:
    name = topic("answers")
    ensure_topics(broker, {name: 1})
    sink = KafkaSink(broker, name, client=client)
    sink.write("before", {"id": "before"})
    sink.flush()
    cursor = sink.cursor()
    for key in "abcd":
        sink.write(key, {"id": key})
    sink.close()
    cut(admin, name, 3)  # of what stood behind the cursor "c" and "d" are left
    again = KafkaSink(broker, name, client=client)
    assert again.rewind(cursor) == 2
    (note,) = again.notes
    assert "no longer holds what stood at 1 to 2" in note
    for key in "abcde":
        again.write(key, {"id": key})
    again.close()
    assert keys_of(broker, name, client) == ["c", "d", "a", "b", "e"]


def test_a_cursor_whose_messages_have_all_expired_is_gone_on_from(
    broker: str, topic: Name, client: Client, admin: Any
) -> None:
    name = topic("answers")
    ensure_topics(broker, {name: 1})
    sink = KafkaSink(broker, name, client=client)
    cursor = sink.cursor()
    for key in "abcd":
        sink.write(key, {"id": key})
    sink.close()
    cut(admin, name, 4)
    again = KafkaSink(broker, name, client=client)
    assert again.rewind(cursor) == 0
    assert again.cursor() == [4, None]
    again.write("d", {"id": "d"})
    again.flush()
    kept = again.cursor()
    assert again.rewind(kept) == 0
    assert len(again.notes) == 1  # nothing has expired behind this one
    again.close()
    assert keys_of(broker, name, client) == ["d"]


def test_a_message_of_another_writer_behind_the_cursor_is_not_compared_with_for_ever(
    broker: str, topic: Name
) -> None:
    name = topic("answers")
    ensure_topics(broker, {name: 1})
    sink, foreign = KafkaSink(broker, name), KafkaSink(broker, name)
    cursor = sink.cursor()
    for key in "abcd":
        sink.write(key, {"id": key})
    sink.flush()
    foreign.write("x", {"id": "x"})
    foreign.close()
    assert sink.rewind(cursor) == 5
    for key in "abcd":
        sink.write(key, {"id": key})
    assert sink._there  # the other writer's
    for number in range(1_001):
        sink.write(str(number), {"id": str(number)})
    assert sink._there
    sink.write("x", {"id": "x"})
    assert not sink._there
    sink.close()
    assert keys_of(broker, name, "kafka-python") == [*"abcdx", *map(str, range(1_001)), "x"]


def test_of_headers_that_would_make_an_answer_too_large_those_that_fit_are_sent(
    broker: str, topic: Name, client: Client
) -> None:
    name = topic("answers")
    ensure_topics(broker, {name: 1})
    sink = KafkaSink(broker, name, client=client)
    sink.write("a", {"id": "a"}, (("trace", b"1"), ("large", bytes(1_048_000)), ("source", b"2")))
    sink.write("b", {"id": "b"}, (("", b""),) * 500_000)
    sink.close()
    source = KafkaSource(broker, name, start="beginning", bounded=True, client=client)
    found: list[Any] = []
    while not source.exhausted:
        found += source.poll(10, 1.0)
    source.close()
    assert found[0].headers == (("trace", b"1"), ("source", b"2"))
    assert 1000 < len(found[1].headers) < 2000


def test_records_that_a_registry_was_away_for_come_again(broker: str, topic: Name, client: Client) -> None:
    names = [topic("events"), topic("labels")]
    ensure_topics(broker, dict.fromkeys(names, 1))
    for name in names:
        append(broker, name, *(f"{name}-{number}" for number in range(20)))
    asked = 0

    def read(raw: bytes, key: bytes | None, time: float | None) -> Event | Label | Malformed:
        nonlocal asked
        asked += 1
        if asked in (5, 6, 30):
            raise RegistryUnavailable("away")
        return decode(raw)

    decoders = dict.fromkeys(names, read)
    source = KafkaSource(
        broker, names, start="beginning", bounded=True, client=client, decoders=decoders, refresh=60.0
    )
    found: list[tuple[str, int]] = []
    refused = 0
    while not source.exhausted:
        before = source.positions()
        try:
            found += [(record.position.topic, record.position.offset) for record in source.poll(7, 1.0)]
        except RegistryUnavailable:
            refused += 1
            assert source.positions() == before
    source.close()
    assert refused == 3
    for name in names:
        assert [offset for there, offset in found if there == name] == list(range(20))


class NotText(str):
    """The name of a header as a producer that knows no UTF-8 writes it."""

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return b"\xff" + super().encode()


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_a_header_whose_name_is_not_utf_8_keeps_no_message_from_being_read(
    broker: str, topic: Name, client: Client, compression: str | None
) -> None:
    from kafka import KafkaProducer

    name, other = topic("events"), topic("other")
    ensure_topics(broker, {name: 1, other: 1})
    producer = KafkaProducer(bootstrap_servers=broker, linger_ms=200, compression_type=compression)
    headers = {"b": [("trace", b"1"), (NotText("h"), b"\xfe")], "d": [(NotText("h"), b"")]}
    for _ in range(100):  # until Python calls by its short ways
        producer.send(other, b"", headers=[("source", b"s")], partition=0)
    for key, _, raw in rows(*"abcde"):
        producer.send(name, raw, key.encode(), headers.get(key, [("source", b"s")]), 0)
    producer.close()
    assert len(keys_of(broker, other, client)) == 100
    source = KafkaSource(broker, name, start="beginning", bounded=True, client=client)
    found: list[Any] = []
    while not source.exhausted:
        found += source.poll(2, 1.0)
    assert [(record.key, record.position.offset) for record in found] == [
        (key.encode(), offset) for offset, key in enumerate("abcde")
    ]
    assert [record.raw for record in found] == [raw for _, _, raw in rows(*"abcde")]
    assert [found[i].headers for i in (0, 2, 4)] == [(("source", b"s"),)] * 3
    assert found[1].headers == ((("trace", b"1"), ("\ufffdh", b"\xfe")) if client == "kafka-python" else ())
    source.seek({TopicPartition(name, 0): 1})
    assert source.fingerprints({TopicPartition(name, 0): 1})[TopicPartition(name, 0)] is not None
    source.close()
    log = RawBroker(broker)
    assert [raw.key for _, raw in log.read(name, 0, 1, 2)] == [b"b", b"c"]
    log.close()


class Failure:
    """What librdkafka delivers where it has an error of no partition."""

    def __init__(self, code: int) -> None:
        self._code = code

    def topic(self) -> None:
        return None

    def partition(self) -> int:
        return -1

    def offset(self) -> int:
        return -1001

    def error(self) -> Any:
        from confluent_kafka import KafkaError

        return KafkaError(self._code)


def test_an_error_of_no_partition_is_told_as_what_it_is(
    broker: str, topic: Name, monkeypatch: pytest.MonkeyPatch
) -> None:
    from confluent_kafka import KafkaError

    name = topic("events")
    ensure_topics(broker, {name: 1})
    append(broker, name, "a")
    source = KafkaSource(broker, name, start="beginning", client="confluent")
    reader: Any = source._reader
    consumer = reader._consumer

    class Failing:
        codes: ClassVar = [KafkaError._ALL_BROKERS_DOWN, KafkaError.GROUP_AUTHORIZATION_FAILED]

        def consume(self, count: int, timeout: float) -> list[Any]:
            found = consumer.consume(count, timeout)
            return [*found, Failure(self.codes.pop(0))] if self.codes and found else found

        def __getattr__(self, asked: str) -> Any:
            return getattr(consumer, asked)

    monkeypatch.setattr(reader, "_consumer", Failing())
    assert ids(source, 1) == ["a"]  # no broker for a while is no error
    append(broker, name, "b", "c")
    with pytest.raises(StreamError, match=r"refused.*GROUP_AUTHORIZATION_FAILED"):
        ids(source, 1)
    assert ids(source, 2) == ["b", "c"]  # also what came with the error
    source.close()
