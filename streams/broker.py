"""A Kafka broker as the rest of `streams` sees it: connections, topics, and appending to a topic's end."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from streams.broker_config import options_of, without_values
from streams.clients import Options
from streams.errors import (
    BrokerConfigError,
    BrokerUnavailable,
    Fenced,
    MessageTooLarge,
    PositionLost,
    StreamError,
    UnknownStream,
)
from streams.header_names import read_any_header_name

if TYPE_CHECKING:
    from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer

CONNECT = 5.0  # seconds to wait for a broker's first answer
REQUEST = 30.0  # seconds to wait for any later one
DELIVERY = 120.0  # seconds in which a message must be acknowledged, whatever happens to brokers in between


def unavailable(bootstrap: str, error: object) -> BrokerUnavailable:
    """The error of an address where no broker answers."""
    return BrokerUnavailable(
        f"no Kafka broker answers at {bootstrap} ({error}); check that it runs, that host and port are "
        "those of a listener, that its advertised.listeners can be reached from here, and that security "
        "settings are those that the listener expects"
    )


def refused(bootstrap: str, error: object) -> StreamError:
    """The error of a broker that answers and will not do what it is asked."""
    return StreamError(
        f"the broker at {bootstrap} refused ({error}); check that this client may read the topic, and the "
        "topic's settings"
    )


def unknown_topic(bootstrap: str, topic: str, there: Collection[str]) -> UnknownStream:
    """The error of a topic that does not exist, with those that do."""
    return UnknownStream(
        f"the broker at {bootstrap} has no topic {topic!r}; create it first. Its topics are: "
        f"{', '.join(sorted(there)) or 'none'}"
    )


@contextmanager
def _connecting(bootstrap: str, options: Options) -> Iterator[None]:
    """kafka-python's errors while a client is made, as errors that say what to do."""
    from kafka.errors import KafkaConfigurationError, KafkaError

    try:
        yield
    except (KafkaConfigurationError, ValueError, TypeError) as error:
        if isinstance(error, BrokerConfigError):
            raise
        raise BrokerConfigError(
            f"kafka-python cannot use these settings for {bootstrap} ({without_values(error, options)}); "
            "change or leave out what it names"
        ) from error
    except (KafkaError, OSError) as error:
        raise unavailable(bootstrap, without_values(error, options)) from error


def connect_consumer(bootstrap: str, *, timeout: float = CONNECT, options: Options = None) -> KafkaConsumer:
    """A consumer without a group that never moves by itself: positions are always set by its owner.

    options: kafka-python's settings (a `group_id` may be among them); those of other clients are passed over.
    Raises BrokerUnavailable, and BrokerConfigError for settings that cannot be used.
    """
    from kafka import KafkaConsumer

    read_any_header_name()
    with _connecting(bootstrap, options):
        return KafkaConsumer(
            **{"bootstrap_timeout_ms": int(1000 * timeout)} | options_of(KafkaConsumer, options),
            bootstrap_servers=bootstrap,
            enable_auto_commit=False,
            auto_offset_reset="none",
            allow_auto_create_topics=False,
        )


def connect_producer(
    bootstrap: str,
    *,
    timeout: float = CONNECT,
    options: Options = None,
    transactional_id: str | None = None,
) -> KafkaProducer:
    """An idempotent producer that waits for all replicas; options and errors as for `connect_consumer`."""
    from kafka import KafkaProducer

    usual = {
        "bootstrap_timeout_ms": int(1000 * timeout),
        "linger_ms": 20,
        "batch_size": 128 * 1024,
        "max_block_ms": int(1000 * REQUEST),
        "delivery_timeout_ms": int(1000 * DELIVERY),
    }
    with _connecting(bootstrap, options):
        return KafkaProducer(
            **usual | options_of(KafkaProducer, options),
            bootstrap_servers=bootstrap,
            acks="all",
            enable_idempotence=True,
            transactional_id=transactional_id,
            allow_auto_create_topics=False,
        )


def connect_admin(bootstrap: str, *, timeout: float = CONNECT, options: Options = None) -> KafkaAdminClient:
    """A client that describes and makes topics; options and errors as for `connect_consumer`."""
    from kafka import KafkaAdminClient

    with _connecting(bootstrap, options):
        return KafkaAdminClient(
            **{"bootstrap_timeout_ms": int(1000 * timeout)} | options_of(KafkaAdminClient, options),
            bootstrap_servers=bootstrap,
        )


def ensure_topics(
    bootstrap: str,
    topics: Mapping[str, int],
    *,
    timeout: float = CONNECT,
    options: Options = None,
    at_least: bool = False,
    settings: Mapping[str, str] | None = None,
) -> None:
    """Create the topics that are not there yet; topic → number of partitions; options: kafka-python's settings.

    at_least: one that is there may have more, and is given more where it has fewer. settings: of the topics that
    are made, by Kafka's names. Raises BrokerUnavailable, BrokerConfigError for settings that cannot be used, and
    StreamError where a topic is there with another number of partitions.
    """
    from kafka.errors import KafkaError, TopicAlreadyExistsError

    wrong = {topic: count for topic, count in topics.items() if count < 1}
    if wrong:
        raise ValueError(f"topics asks for {wrong}; expected at least 1 partition each")
    admin = connect_admin(bootstrap, timeout=timeout, options=options)
    try:
        there = set(admin.list_topics())
        for topic, count in topics.items():
            if topic not in there:
                made = {"num_partitions": count, "replication_factor": -1, "configs": dict(settings or {})}
                with suppress(TopicAlreadyExistsError):  # another process was faster: it is checked below
                    admin.create_topics({topic: made}, wait_for_metadata=True)
        for found in admin.describe_topics(list(topics)) if topics else ():  # none would mean all
            topic, count = found["name"], len(found["partitions"])
            if count < topics[topic] and at_least:
                admin.create_partitions({topic: topics[topic]})
            elif count < topics[topic] or (count > topics[topic] and not at_least):
                raise StreamError(
                    f"topic {topic!r} at {bootstrap} has {count} partitions, expected {topics[topic]}; "
                    "use another name, or ask for the number it has"
                )
    except KafkaError as error:
        raise StreamError(
            f"the broker at {bootstrap} refused to make topics {dict(topics)}: {error}"
        ) from error
    finally:
        admin.close()


def partitions_of(consumer: KafkaConsumer, bootstrap: str, topic: str) -> list[int]:
    """The partitions of a topic, sorted; UnknownStream where the broker has no such topic."""
    found = consumer.partitions_for_topic(topic)
    if not found:
        raise unknown_topic(bootstrap, topic, consumer.topics())
    return sorted(found)


class KafkaLog:
    """Topics of a broker as a log that can be continued at its end, as the embedded log can.

    timeout: seconds to wait for the broker's first answer. options: kafka-python's settings.
    """

    def __init__(self, bootstrap: str, *, timeout: float = CONNECT, options: Options = None) -> None:
        self._bootstrap = bootstrap
        self._consumer = connect_consumer(bootstrap, timeout=timeout, options=options)
        self._producer = connect_producer(bootstrap, timeout=timeout, options=options)

    def end_offset(self, topic: str, partition: int = 0) -> int:
        """The offset behind the partition's last record."""
        where = self._partition(topic, partition)
        return int(self._consumer.end_offsets([where])[where])

    def _partition(self, topic: str, partition: int) -> Any:
        from kafka import TopicPartition as KafkaPartition

        partitions_of(self._consumer, self._bootstrap, topic)
        return KafkaPartition(topic, partition)

    def last_key(self, topic: str, partition: int = 0) -> str | None:
        """The key of the partition's last record; None where it is empty or the record has none."""
        where = self._partition(topic, partition)
        end = self.end_offset(topic, partition)
        if end == 0:
            return None
        self._consumer.assign([where])
        self._consumer.seek(where, end - 1)
        for _ in range(int(REQUEST)):
            for records in self._consumer.poll(timeout_ms=1000, max_records=1).values():
                key = records[0].key
                return None if key is None else key.decode(errors="replace")
        raise unavailable(
            self._bootstrap, f"the last record of {topic!r} was not delivered in {REQUEST:.0f} s"
        )

    def append_many(
        self, topic: str, partition: int, rows: Iterable[tuple[str, float, bytes]], *, at: int | None = None
    ) -> int:
        """Append (key, time, value) rows in order; returns the offset of the first once all are durable.

        at: the end offset the caller expects; PositionLost where another producer has moved it.
        """
        start = self.end_offset(topic, partition)
        if at is not None and at != start:
            raise PositionLost(
                f"topic {topic!r} partition {partition} at {self._bootstrap} ends at {start}, expected {at}; "
                "another process writes to it, stop one of them"
            )
        send_all(self._producer, self._bootstrap, topic, partition, rows)
        return start

    def close(self) -> None:
        """Release both connections; closing twice is allowed."""
        self._consumer.close()
        self._producer.close(timeout=REQUEST)


def send_all(
    producer: KafkaProducer,
    bootstrap: str,
    topic: str,
    partition: int,
    rows: Iterable[tuple[str, float, bytes]],
) -> None:
    """Send (key, time, value) rows to a partition, and wait until the broker has taken every one of them.

    The event's time stays inside the message: as the record's timestamp it would make the broker's retention
    drop what is replayed from long ago.

    Raises MessageTooLarge for a message above what client or broker take, StreamError where the broker refuses
    one for another reason, BrokerUnavailable where it does not answer. How many are durable is then unknown,
    but they are the first ones, in order.
    """
    from kafka.errors import KafkaError

    sent, largest = [], 0
    try:
        for key, _, value in rows:
            largest = max(largest, len(key.encode()) + len(value))
            sent.append(producer.send(topic, value=value, key=key.encode(), partition=partition))
        producer.flush(timeout=REQUEST)
        for future in sent:
            future.get(timeout=0)
    except KafkaError as error:
        raise not_taken(bootstrap, topic, largest, error) from error


def not_taken(bootstrap: str, topic: str, largest: int, error: Exception) -> StreamError:
    """Why a message did not reach a topic; largest: bytes of the largest one that was sent."""
    from kafka.errors import (
        BrokerResponseError,
        InvalidProducerEpochError,
        MessageSizeTooLargeError,
        ProducerFencedError,
        RecordListTooLargeError,
    )

    if isinstance(error, MessageSizeTooLargeError | RecordListTooLargeError):
        return too_large(bootstrap, topic, largest, error)
    if isinstance(error, ProducerFencedError | InvalidProducerEpochError):
        return fenced(bootstrap, topic, error)
    if isinstance(error, BrokerResponseError) and not error.retriable:
        return not_allowed(bootstrap, topic, error)
    return unavailable(bootstrap, error)


def too_large(bootstrap: str, topic: str, largest: int, error: object) -> MessageTooLarge:
    """The error of a message above what the client or the broker takes; largest: its bytes."""
    return MessageTooLarge(
        f"a message of {largest:,} bytes for topic {topic!r} at {bootstrap} is too large ({error}); expected "
        "at most the client's max_request_size and the topic's max.message.bytes, both about 1 MiB unless "
        "set otherwise; raise both, or write less"
    )


def not_allowed(bootstrap: str, topic: str, error: object) -> StreamError:
    """The error of a broker that answers and does not take a message."""
    return StreamError(
        f"the broker at {bootstrap} refused a message for topic {topic!r} ({error}); check that this client "
        "may write there, and the topic's settings"
    )


def fenced(bootstrap: str, topic: str, error: object) -> Fenced:
    """The error of a writer whose transactional id another one has taken over."""
    return Fenced(
        f"another writer with the same transactional id writes to topic {topic!r} at {bootstrap} ({error}); "
        "this one was fenced off and nothing of its open transaction counts: end this process"
    )
