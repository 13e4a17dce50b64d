"""A broker that is stopped or killed in the middle: nothing is lost or comes twice, and the wait has an end."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, get_args

import pytest

from streams.broker import KafkaLog, ensure_topics
from streams.clients import Client
from streams.clock import ManualClock
from streams.codecs import encode_event
from streams.errors import BrokerUnavailable, LogChanged, PositionLost
from streams.event import Event, TopicPartition
from streams.kafka import KafkaSink, KafkaSource
from tests.restartable_broker import RestartableBroker

pytestmark = pytest.mark.kafka
Name = Callable[[str], str]
QUICK = {"reconnect_backoff_max_ms": 200}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RestartableBroker]:
    """A broker that looks for expired records more often than is usual."""
    often = ("log.retention.check.interval.ms=300", "log.initial.task.delay.ms=300")
    node = RestartableBroker(tmp_path_factory.mktemp("node"), often)
    yield node
    node.stop()


def fill(address: str, topic: str, *numbers: int) -> None:
    log = KafkaLog(address, options=QUICK)
    for number in numbers:
        event = Event(id=f"e{number}", time=float(number), features={})
        log.append_many(topic, number % 2, [(event.id, 0.0, encode_event(event))])
    log.close()


def ids(source: KafkaSource, count: int, seconds: float = 60.0) -> list[str]:
    """Ids of `count` records; fewer where they do not come in time."""
    found: list[str] = []
    deadline = time.monotonic() + seconds
    while len(found) < count and time.monotonic() < deadline:
        found += [record.item.id for record in source.poll(count - len(found), 0.5)]  # type: ignore[union-attr]
    return found


class Both:
    """One source and one sink of a client, on topics of their own; both clients live through the same fault."""

    def __init__(self, address: str, topic: Name, client: Client) -> None:
        self.address, self.client = address, client
        self.events, self.answers = topic(f"events-{client}"), topic(f"answers-{client}")
        ensure_topics(address, {self.events: 2, self.answers: 1})
        fill(address, self.events, *range(10))
        more: dict[str, Any] = {"client": client, "options": QUICK}
        self.source = KafkaSource(address, self.events, start="beginning", refresh=3.0, **more)
        self.sink = KafkaSink(address, self.answers, **more)
        self.seen = ids(self.source, 10)

    def answer(self, names: list[str]) -> None:
        for name in names:
            self.sink.write(name, {"id": name})

    def answered(self) -> list[str]:
        reader = KafkaSource(self.address, self.answers, start="beginning", bounded=True, client=self.client)
        found: list[str] = []
        while not reader.exhausted:
            found += [(record.key or b"").decode() for record in reader.poll(100, 1.0)]
        reader.close()
        return found


@pytest.fixture
def both(node: RestartableBroker, topic: Name) -> list[Both]:
    """Both clients, five answers of ten acknowledged and the others written."""
    both = [Both(node.address, topic, client) for client in get_args(Client)]
    for one in both:
        one.answer(one.seen[:5])
        one.sink.flush()
    return both


def away(node: RestartableBroker, both: list[Both], *, kill: bool) -> threading.Thread:
    """The broker goes; five more answers are written, nothing comes; it is about to be back."""
    if kill:
        node.kill()
    else:
        node.stop()
    for one in both:
        one.answer(one.seen[5:])
        for _ in range(5):
            assert one.source.poll(10, 0.2) == []
    back = threading.Thread(target=node.start)
    back.start()
    return back


def went_on(node: RestartableBroker, both: list[Both], back: threading.Thread) -> None:
    """Every record and every answer is there once, and in order."""
    for one in both:
        one.sink.flush()  # waits for the broker
        assert one.sink.cursor()[0] == 10
    back.join()
    for one in both:
        fill(node.address, one.events, *range(10, 16))
        one.seen += ids(one.source, 6)
        assert sorted(one.seen, key=lambda name: int(name[1:])) == [f"e{i}" for i in range(16)]
        assert one.source.poll(10, 0.2) == []
        one.source.close()
        one.sink.close()
        assert one.answered() == one.seen[:10]


def test_a_broker_that_is_stopped_and_comes_back_costs_neither_a_record_nor_an_answer(
    node: RestartableBroker, both: list[Both]
) -> None:
    went_on(node, both, away(node, both, kill=False))


def test_a_broker_that_is_killed_costs_neither_a_record_nor_an_answer(
    node: RestartableBroker, both: list[Both]
) -> None:
    """With Apache Kafka the writers go on.

    The stand-in saves what it acknowledged once a second, and forgets in a kill what idempotent writers sent:
    with it, new sinks go on from the cursor, as a run that is started again does.
    """
    if not node.keeps:
        time.sleep(1.5)
    cursors = [one.sink.cursor() for one in both]
    back = away(node, both, kill=True)
    if not node.keeps:
        back.join()
        for one, cursor in zip(both, cursors, strict=True):
            one.sink._writer.close()  # what is on its way is dropped
            one.sink = KafkaSink(node.address, one.answers, client=one.client, options=QUICK)
            one.sink.rewind(cursor)
            one.answer(one.seen[5:])
    went_on(node, both, back)


def test_a_broker_that_stays_away_is_an_error_after_the_patience_and_the_delivery_timeout(
    node: RestartableBroker, topic: Name
) -> None:
    events = topic("events")
    ensure_topics(node.address, {events: 2})
    clock = ManualClock()
    short = QUICK | {"delivery_timeout_ms": 1500, "request_timeout_ms": 1000, "fetch_max_wait_ms": 100}
    sources, sinks = [], []
    for client in get_args(Client):
        more: dict[str, Any] = {"client": client, "options": short}
        sources.append(KafkaSource(node.address, events, start="beginning", clock=clock, **more))
        sinks.append(KafkaSink(node.address, events, **more))
    node.stop()
    try:
        for _ in range(2):
            clock.advance(149.0)
            assert [source.away() for source in sources] == [None, None]  # one look alone says nothing
            assert [list(source.poll(10, 0.0)) for source in sources] == [[], []]
        assert [source.away() for source in sources] == [298.0, 298.0]
        clock.advance(10.0)
        for source in sources:
            with pytest.raises(BrokerUnavailable, match=r"from the broker at .* for 308 s, .* than 300 s"):
                source.poll(10, 0.0)
        for sink in sinks:
            sink.write("a", {"id": "a"})
            with pytest.raises(BrokerUnavailable, match=node.address):
                sink.flush()
    finally:
        node.start()
    for source in sources:
        deadline = time.monotonic() + 60.0
        while source.away() is not None and time.monotonic() < deadline:
            clock.advance(10.0)
            with contextlib.suppress(BrokerUnavailable):
                source.poll(10, 0.2)
        assert source.away() is None
    for end in (*sources, *sinks):
        end.close()


def test_records_that_expire_before_they_are_read_are_an_error(node: RestartableBroker, topic: Name) -> None:
    """With Apache Kafka by retention; the stand-in has none: there they are cut by the admin client."""
    from kafka import KafkaAdminClient
    from kafka import TopicPartition as KafkaPartition

    events = topic("events")
    admin = KafkaAdminClient(bootstrap_servers=node.address)
    short = {"retention.ms": "100"} if node.keeps else {}
    wanted = {"num_partitions": 2, "replication_factor": -1, "configs": short}
    admin.create_topics({events: wanted}, wait_for_metadata=True)
    sources = [
        KafkaSource(node.address, events, start="beginning", client=client) for client in get_args(Client)
    ]
    first = TopicPartition(events, 0)
    fill(node.address, events, 0, 2, 4)
    if not node.keeps:
        admin.delete_records({KafkaPartition(*first): 3})
    admin.close()
    deadline = time.monotonic() + 30.0
    while sources[0].latest_offsets()[first] < 3 or fingerprint_at(sources[0], first) is not None:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    for source in sources:
        with pytest.raises(PositionLost, match="was cut or its records have expired") as told:
            ids(source, 1)
        assert not isinstance(told.value, LogChanged)
        source.close()


def fingerprint_at(source: KafkaSource, partition: TopicPartition) -> str | None:
    return source.fingerprints({partition: 0})[partition]
