"""What hurrying does with a client's own producer: it waits for nothing, and tells what was refused."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from kafka.errors import KafkaTimeoutError, TopicAuthorizationFailedError
from kafka.future import Future

from streams import python_client
from streams.confluent_writer import ConfluentWriter
from streams.errors import BrokerUnavailable, Fenced, StreamError
from streams.event import TopicPartition

WHERE = TopicPartition("answers", 0)


class Sent(Future):  # type: ignore[misc]
    """A message on its way."""

    def get(self, timeout: float | None = None) -> Any:
        assert self.is_done
        if self.exception is not None:
            raise self.exception
        return self.value


class PythonProducer:
    """What kafka-python gives, without a broker: messages arrive when they are told to."""

    def __init__(self) -> None:
        self.config = {"delivery_timeout_ms": 1000}
        self.sent: list[Sent] = []
        self.flushes: list[float] = []

    def partitions_for(self, topic: str) -> set[int]:
        return {0}

    def send(self, *message: Any) -> Sent:
        self.sent.append(Sent())
        return self.sent[-1]

    def flush(self, timeout: float) -> None:
        self.flushes.append(timeout)
        if not all(sent.is_done for sent in self.sent):
            raise KafkaTimeoutError("not all has arrived")


class ConfluentProducer:
    """What confluent-kafka gives, without a broker: callbacks are called by the next flush."""

    def __init__(self, settings: dict[str, Any], logger: Any) -> None:
        self.flushes: list[float] = []
        self.told: list[Callable[..., None]] = []
        self.arrive: list[tuple[Any, int]] = []

    def list_topics(self, timeout: float) -> None:
        pass

    def produce(
        self, topic: str, value: bytes, key: bytes, partition: int, told: Callable[..., None]
    ) -> None:
        self.told.append(told)

    def poll(self, timeout: float) -> int:
        return 0

    def flush(self, timeout: float) -> int:
        self.flushes.append(timeout)
        for error, offset in self.arrive:
            self.told.pop(0)(error, SimpleNamespace(offset=lambda offset=offset: offset))
        self.arrive = []
        return len(self.told)


def python_writer(monkeypatch: pytest.MonkeyPatch) -> tuple[python_client.PythonWriter, PythonProducer]:
    producer = PythonProducer()
    monkeypatch.setattr(python_client, "connect_producer", lambda *args, **options: producer)
    writer = python_client.PythonWriter(
        "nowhere:1", WHERE, timeout=1.0, options=None, transactional_id=None, most=10_000
    )
    return writer, producer


def confluent_writer(monkeypatch: pytest.MonkeyPatch) -> tuple[ConfluentWriter, ConfluentProducer]:
    monkeypatch.setattr("confluent_kafka.Producer", ConfluentProducer)
    writer = ConfluentWriter(
        "nowhere:1", WHERE, timeout=1.0, options=None, transactional_id=None, most=10_000
    )
    producer: Any = writer._producer
    return writer, producer


def test_kafka_python_tells_at_the_next_hurry_what_was_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    writer, producer = python_writer(monkeypatch)
    writer.hurry()
    assert producer.flushes == []  # nothing is on its way
    for _ in range(4):
        writer.send(b"k", b"v", ())
    writer.hurry()
    producer.sent[0].success(SimpleNamespace(offset=7))
    producer.sent[2].failure(TopicAuthorizationFailedError("answers"))
    writer.hurry()  # the second one has not arrived
    assert len(writer._sent) == 3
    producer.sent[1].success(SimpleNamespace(offset=8))
    with pytest.raises(StreamError, match="TopicAuthorizationFailed"):
        writer.hurry()
    assert writer._last == 8
    assert not writer._sent


def test_kafka_python_tells_at_the_next_hurry_what_no_broker_took_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    writer, producer = python_writer(monkeypatch)
    writer.send(b"k", b"v", ())
    producer.sent[0].failure(KafkaTimeoutError("120 s have passed"))
    with pytest.raises(BrokerUnavailable, match="120 s have passed"):
        writer.hurry()


def test_confluent_tells_at_the_next_hurry_what_was_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    writer, producer = confluent_writer(monkeypatch)
    writer.hurry()
    assert producer.flushes == []
    for _ in range(3):
        writer.send(b"k", b"v", ())
    producer.arrive = [(None, 7)]
    writer.hurry()
    assert (writer._last, writer._open) == (7, 2)
    refusal = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)
    producer.arrive = [(refusal, -1), (None, 8)]
    with pytest.raises(StreamError, match="TOPIC_AUTHORIZATION_FAILED"):
        writer.hurry()
    asked = len(producer.flushes)
    writer.hurry()
    assert len(producer.flushes) == asked


def test_confluent_tells_a_producer_that_can_send_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    writer, producer = confluent_writer(monkeypatch)
    writer.send(b"k", b"v", ())

    def fatal(timeout: float) -> int:
        raise KafkaException(KafkaError(KafkaError._FENCED))

    monkeypatch.setattr(producer, "flush", fatal)
    with pytest.raises(StreamError):
        writer.hurry()


def test_confluent_tells_what_is_fatal_where_its_flush_ends_without_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    writer, producer = confluent_writer(monkeypatch)

    def nothing(timeout: float) -> int:
        raise SystemError("returned NULL without setting an exception")

    monkeypatch.setattr(producer, "flush", nothing)

    def why() -> None:
        raise KafkaException(KafkaError(KafkaError._FENCED, "a newer one", True))

    monkeypatch.setattr(producer, "begin_transaction", why, raising=False)
    with pytest.raises(Fenced, match="a newer one"):
        writer.settle()


def test_confluent_can_send_no_more_where_it_does_not_say_why(monkeypatch: pytest.MonkeyPatch) -> None:
    writer, producer = confluent_writer(monkeypatch)

    def nothing(timeout: float) -> int:
        raise SystemError("returned NULL without setting an exception")

    def not_configured() -> None:
        raise KafkaException(KafkaError(KafkaError._NOT_CONFIGURED))

    monkeypatch.setattr(producer, "flush", nothing)
    monkeypatch.setattr(producer, "begin_transaction", not_configured, raising=False)
    with pytest.raises(StreamError, match="start again from the last snapshot"):
        writer.settle()
