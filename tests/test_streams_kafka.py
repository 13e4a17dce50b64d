"""Kafka's own promises: positions are explicit, losses are told, and an absent broker is a clear error."""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import partial
from typing import get_args

import pytest

from streams.broker import KafkaLog, ensure_topics
from streams.clients import Client
from streams.codecs import encode_event
from streams.errors import (
    BrokerUnavailable,
    LogChanged,
    MessageTooLarge,
    PositionLost,
    StreamError,
    UnknownStream,
)
from streams.event import Event, Malformed, TopicPartition
from streams.kafka import KafkaSink, KafkaSource

pytestmark = pytest.mark.kafka
Name = Callable[[str], str]
CLIENTS: tuple[Client, ...] = get_args(Client)


@pytest.fixture
def nobody() -> str:
    """An address of this machine where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture
def events(broker: str, topic: Name) -> str:
    """A topic of one partition with the events e0 to e9."""
    name = topic("events")
    ensure_topics(broker, {name: 1})
    append(broker, name, *(f"e{i}" for i in range(10)))
    return name


def append(broker: str, topic: str, *keys: str) -> None:
    log = KafkaLog(broker)
    log.append_many(
        topic, 0, [(key, 0.0, encode_event(Event(id=key, time=0.0, features={}))) for key in keys]
    )
    log.close()


def ids(source: KafkaSource, count: int) -> list[str]:
    found: list[str] = []
    while len(found) < count:
        found += [record.item.id for record in source.poll(count - len(found), 1.0)]  # type: ignore[union-attr]
    return found


@pytest.mark.parametrize(
    "open_it",
    [
        *(
            partial(KafkaSource, topics="events", start="end", timeout=0.3, client=client)
            for client in CLIENTS
        ),
        *(partial(KafkaSink, topic="answers", timeout=0.3, client=client) for client in CLIENTS),
        lambda address: KafkaLog(address, timeout=0.3),
        lambda address: ensure_topics(address, {"events": 1}, timeout=0.3),
    ],
)
def test_no_broker_at_the_address_is_an_error_that_names_it_and_what_to_check(
    open_it: Callable[[str], object], nobody: str
) -> None:
    with pytest.raises(BrokerUnavailable, match=rf"{nobody} .*check that it runs.*advertised\.listeners"):
        open_it(nobody)


def test_a_topic_that_does_not_exist_is_an_error_with_those_that_do(
    broker: str, events: str, client: Client
) -> None:
    with pytest.raises(UnknownStream, match=f"no topic 'nowhere'.*{events}"):
        KafkaSource(broker, "nowhere", start="end", client=client)
    with pytest.raises(UnknownStream, match="no topic 'nowhere'"):
        KafkaSink(broker, "nowhere", client=client)


def test_the_start_has_to_be_said(broker: str, events: str, client: Client) -> None:
    with pytest.raises(ValueError, match="start is 'latest'; expected 'beginning', 'end', seconds"):
        KafkaSource(broker, events, start="latest")  # type: ignore[arg-type]  # what is tested


def test_a_source_at_the_end_sees_only_what_comes_later(broker: str, events: str, client: Client) -> None:
    source = KafkaSource(broker, events, start="end", client=client)
    append(broker, events, "later")
    assert ids(source, 1) == ["later"]
    assert not source.exhausted
    source.close()


def test_a_bounded_source_ends_where_the_topic_ended_when_it_was_made(
    broker: str, events: str, client: Client
) -> None:
    source = KafkaSource(broker, events, start="beginning", bounded=True, client=client)
    append(broker, events, "later")
    assert ids(source, 10) == [f"e{i}" for i in range(10)]
    assert source.exhausted
    source.close()


def test_a_source_starts_at_given_positions(broker: str, events: str, client: Client) -> None:
    source = KafkaSource(broker, events, start={TopicPartition(events, 0): 7}, client=client)
    assert ids(source, 3) == ["e7", "e8", "e9"]
    source.close()


def test_a_position_that_the_broker_does_not_hold_is_an_error_and_never_a_silent_restart(
    broker: str, events: str, client: Client
) -> None:
    with pytest.raises(PositionLost, match=r"offset 11 .* has 0 to 10; the topic was cut"):
        KafkaSource(broker, events, start={TopicPartition(events, 0): 11}, client=client)


def test_bytes_that_are_no_event_come_as_malformed(broker: str, events: str, client: Client) -> None:
    log = KafkaLog(broker)
    log.append_many(events, 0, [("bad", 0.0, b"garbage")])
    log.close()
    source = KafkaSource(broker, events, start={TopicPartition(events, 0): 10}, client=client)
    (record,) = source.poll(1, 5.0)
    assert isinstance(record.item, Malformed)
    source.close()


def test_held_back_partitions_wait_and_lose_nothing(broker: str, topic: Name, client: Client) -> None:
    name = topic("two")
    ensure_topics(broker, {name: 2})
    log = KafkaLog(broker)
    for partition in (0, 1):
        rows = [(f"{partition}-{i}", 0.0, b"{}") for i in range(50)]
        log.append_many(name, partition, rows)
    log.close()
    source = KafkaSource(broker, name, start="beginning", bounded=True, client=client)
    first = TopicPartition(name, 0)
    source.poll(5, 1.0)
    source.pause([first])
    before = source.positions()[first]
    while source.positions()[TopicPartition(name, 1)] < 50:
        source.poll(7, 1.0)
    assert source.positions()[first] == before
    source.resume([first])
    while not source.exhausted:
        source.poll(7, 1.0)
    source.close()


def test_topics_are_made_once_and_another_number_of_partitions_is_an_error(broker: str, topic: Name) -> None:
    name = topic("made")
    ensure_topics(broker, {name: 2})
    ensure_topics(broker, {name: 2})
    with pytest.raises(StreamError, match=f"'{name}' .* has 2 partitions, expected 3"):
        ensure_topics(broker, {name: 3})
    with pytest.raises(ValueError, match="at least 1 partition"):
        ensure_topics(broker, {topic("none"): 0})


def test_an_appender_that_expects_another_end_is_told(broker: str, events: str) -> None:
    log = KafkaLog(broker)
    assert (log.end_offset(events), log.last_key(events)) == (10, "e9")
    with pytest.raises(PositionLost, match="ends at 10, expected 4"):
        log.append_many(events, 0, [("x", 0.0, b"{}")], at=4)
    log.close()


def test_a_sink_names_a_partition_that_the_topic_lacks(broker: str, events: str, client: Client) -> None:
    with pytest.raises(ValueError, match=r"partition is 3, but .* has the partitions \[0\]"):
        KafkaSink(broker, events, 3, client=client)


def test_records_that_vanish_while_a_source_reads_are_an_error(
    broker: str, events: str, monkeypatch: pytest.MonkeyPatch, client: Client
) -> None:
    source = KafkaSource(broker, events, start="beginning", client=client)
    with monkeypatch.context() as before:  # as the broker answered before the loss
        before.setattr(source._reader, "ends", lambda *_: {TopicPartition(events, 0): 10**6})
        source.seek({TopicPartition(events, 0): 5000})
    with pytest.raises(LogChanged, match=r"offset 5000 .* which has 0 to 10; the topic was cut back, or"):
        ids(source, 1)
    source.close()


def test_a_message_that_is_too_large_is_told_apart_from_an_absent_broker(
    broker: str, events: str, client: Client
) -> None:
    sink = KafkaSink(broker, events, client=client)

    def send() -> None:
        sink.write("large", {"text": "x" * 1_100_000})
        sink.flush()

    with pytest.raises(MessageTooLarge, match=r"1,100,01\d bytes .*is too large .*max_request_size") as told:
        send()
    assert "no Kafka broker answers" not in str(told.value)
    sink.rewind(sink.cursor())
    sink.close()
