"""Topics of a broker, as tests fill, read and cut them."""

from __future__ import annotations

import time
from typing import Any

from streams.broker import KafkaLog
from streams.clients import Client
from streams.codecs import encode_event
from streams.event import Event, Label
from streams.kafka import KafkaSource


def rows(*names: str) -> list[tuple[str, float, bytes]]:
    return [(name, 0.0, encode_event(Event(id=name, time=0.0, features={}))) for name in names]


def append(broker: str, topic: str, *names: str, partition: int = 0) -> None:
    log = KafkaLog(broker)
    log.append_many(topic, partition, rows(*names))
    log.close()


def ids(source: KafkaSource, count: int, seconds: float = 20.0) -> list[str]:
    found: list[str] = []
    deadline = time.monotonic() + seconds
    while len(found) < count and time.monotonic() < deadline:
        for record in source.poll(count - len(found), 0.2):
            assert isinstance(record.item, Event | Label)
            found.append(record.item.id)
    return found


def keys_of(broker: str, topic: str, client: Client) -> list[str]:
    """The keys of all messages that a topic holds."""
    source = KafkaSource(broker, topic, start="beginning", bounded=True, client=client)
    found: list[str] = []
    while not source.exhausted:
        found += [(record.key or b"").decode() for record in source.poll(100, 1.0)]
    source.close()
    return found


def cut(admin: Any, topic: str, before: int) -> None:
    from kafka import TopicPartition as KafkaPartition

    admin.delete_records({KafkaPartition(topic, 0): before})
