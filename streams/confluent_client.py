"""What reader and writer of confluent-kafka (librdkafka) share: its errors in our words, its partitions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from streams.broker import refused, unavailable
from streams.broker_config import without_values
from streams.clients import Options
from streams.errors import BrokerConfigError, StreamError
from streams.event import TopicPartition


@contextmanager
def connecting(bootstrap: str, options: Options) -> Iterator[None]:
    """confluent-kafka's errors while a client is made, as errors that say what to do."""
    from confluent_kafka import KafkaError, KafkaException

    try:
        yield
    except (KafkaException, TypeError, ValueError) as error:
        if isinstance(error, BrokerConfigError):
            raise
        code = error.args[0].code() if isinstance(error, KafkaException) else KafkaError._INVALID_ARG
        if code in (KafkaError._INVALID_ARG, KafkaError._CONFLICT):
            raise BrokerConfigError(
                f"confluent-kafka cannot use these settings for {bootstrap} ({without_values(error, options)}); "
                "change or leave out what it names"
            ) from error
        raise unavailable(bootstrap, without_values(error, options)) from error


@contextmanager
def telling(bootstrap: str) -> Iterator[None]:
    """confluent-kafka's errors as errors that say what to do."""
    from confluent_kafka import KafkaException

    try:
        yield
    except KafkaException as error:
        raise told(bootstrap, error.args[0]) from error


def told(bootstrap: str, error: Any) -> StreamError:
    away = error.code() < 0 or error.retriable() or error.code() in passing()
    return unavailable(bootstrap, error) if away else refused(bootstrap, error)


def passing() -> set[int]:
    """A broker's errors that pass when a leader is found or a broker is back."""
    from confluent_kafka import KafkaError as E

    return {
        E.LEADER_NOT_AVAILABLE, E.NOT_LEADER_FOR_PARTITION, E.REQUEST_TIMED_OUT, E.BROKER_NOT_AVAILABLE,
        E.REPLICA_NOT_AVAILABLE, E.NETWORK_EXCEPTION, E.COORDINATOR_LOAD_IN_PROGRESS, E.NOT_COORDINATOR,
        E.COORDINATOR_NOT_AVAILABLE, E.NOT_ENOUGH_REPLICAS, E.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        E.KAFKA_STORAGE_ERROR, E.FENCED_LEADER_EPOCH, E.UNKNOWN_LEADER_EPOCH, E.OFFSET_NOT_AVAILABLE,
        E.LISTENER_NOT_FOUND, E.CONCURRENT_TRANSACTIONS, E.UNKNOWN_TOPIC_OR_PART,
    }  # fmt: skip


def theirs(partition: TopicPartition, offset: int | None = None) -> Any:
    """A partition as confluent-kafka names it."""
    from confluent_kafka import TopicPartition as ConfluentPartition

    return ConfluentPartition(*partition) if offset is None else ConfluentPartition(*partition, offset)


def first(chosen: Mapping[str, Any], timeout: float) -> float:
    """Seconds to wait for the broker's first answer, which settings may say too."""
    return float(chosen.get("bootstrap_timeout_ms", 1000 * timeout)) / 1000
