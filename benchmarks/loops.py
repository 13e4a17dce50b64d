"""What the engine's loop is measured against: a bare client's loop, and the learner alone."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from engine import OnlineClassifier
from engine.attach import open_journal, open_loop
from engine.config.config import Config
from engine.stop_signals import StopSignals
from streams.broker import connect_consumer, connect_producer
from streams.clients import Client
from streams.event import Event

BATCH = 256
ANSWER = (
    b'{"id":"elec2:0","time":0.0,"forecast":1,"probabilities":{"1":0.75043869018554688,"0":0.24956130981445312},'
    b'"topic":"events-0123456789ab","partition":0,"offset":0,"version":0}'
)
"""A message of the size of an answer."""

Turn = Callable[[float], int]
"""One poll, which may wait so many seconds, and all that follows from it; how many events it answered."""


def learn_all(model: OnlineClassifier, events: Sequence[Event]) -> None:
    """The learner alone: each event is forecast and its label learned."""
    for event in events:
        forecast = model.forecast_one(event.features, id=event.id, time=event.time)
        model.learn(forecast, event.label)


@contextlib.contextmanager
def bare_loop(client: Client, broker: str, events: str, answers: str) -> Iterator[Turn]:
    """A client's own consumer and producer, set as the engine sets them; as there, a poll that is not full ends
    in a flush."""
    open_it = _confluent if client == "confluent" else _python
    with open_it(broker, events, answers) as turn:
        yield turn


@contextlib.contextmanager
def _python(broker: str, events: str, answers: str) -> Iterator[Turn]:
    from kafka import TopicPartition

    read = msgspec.json.Decoder(Event).decode
    where = TopicPartition(events, 0)
    with (
        contextlib.closing(connect_consumer(broker)) as consumer,
        contextlib.closing(connect_producer(broker)) as producer,
    ):
        producer.partitions_for(answers)
        consumer.assign([where])
        consumer.seek_to_beginning(where)

        def turn(wait: float) -> int:
            records = consumer.poll(timeout_ms=int(1000 * wait), max_records=BATCH).get(where, [])
            for record in records:
                producer.send(answers, ANSWER, read(record.value).id.encode(), partition=0)
            if len(records) < BATCH:
                producer.flush()
            return len(records)

        yield turn


@contextlib.contextmanager
def _confluent(broker: str, events: str, answers: str) -> Iterator[Turn]:
    from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

    read = msgspec.json.Decoder(Event).decode
    reading: dict[str, Any] = {
        "bootstrap.servers": broker,
        "group.id": "bare",
        "enable.auto.commit": False,
        "queued.min.messages": 20_000,
        "fetch.wait.max.ms": 50,
        "fetch.queue.backoff.ms": 5,
    }
    writing: dict[str, Any] = {
        "bootstrap.servers": broker,
        "acks": "all",
        "enable.idempotence": True,
        "linger.ms": 20,
    }
    consumer, producer = Consumer(reading), Producer(writing)
    producer.list_topics(answers)
    consumer.assign([TopicPartition(events, 0, OFFSET_BEGINNING)])

    def turn(wait: float) -> int:
        messages = consumer.consume(BATCH, 0)
        if not messages and (messages := consumer.consume(1, wait)):
            messages += consumer.consume(BATCH - 1, 0)
        for message in messages:
            producer.produce(answers, ANSWER, read(message.value()).id.encode(), 0)
        if len(messages) < BATCH:
            producer.flush()
        else:
            producer.poll(0)
        return len(messages)

    try:
        yield turn
    finally:
        producer.flush()
        consumer.close()


@contextlib.contextmanager
def engine_loop(client: Client, broker: str, events: str, answers: str, folder: Path) -> Iterator[Turn]:
    """The loop as `everlearn run` opens it, its snapshots in `folder`, resumed."""
    config = Config(
        source={"broker": broker, "events": events, "from": "beginning", "client": client, "batch": BATCH},
        forecasts={"topic": answers},
        snapshots={"folder": folder},
        metrics={"port": None},
    )
    with (
        StopSignals() as stop,
        contextlib.closing(open_journal(config)) as journal,
        contextlib.closing(open_loop(config, journal)) as loop,
    ):
        loop.resume()

        def turn(wait: float) -> int:
            before = loop.records
            loop.turn(stop, wait)
            return loop.records - before

        yield turn


def main() -> None:
    """Turn the bare loop until a signal comes; arguments: client, broker, topic of events, topic of answers."""
    client, broker, events, answers = sys.argv[1:]
    chosen: Client = "confluent" if client == "confluent" else "kafka-python"
    with StopSignals() as stop, bare_loop(chosen, broker, events, answers) as turn:
        while not stop():
            turn(0.2)


if __name__ == "__main__":
    main()
