"""Where streams stand: the embedded log in a file or the topics of a broker, opened the same way."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    from streams.clients import Client
    from streams.event import Record, TopicPartition
    from streams.flights import Appendable
    from streams.merge import BoundedSource
    from streams.protocols import Decode, Sink, Source

Start: TypeAlias = "Literal['beginning', 'end'] | float | Mapping[TopicPartition, int]"
"""Where to begin: an end, a time in seconds since 1970-01-01 UTC, or positions."""


@dataclass(frozen=True)
class Reading:
    """How topics are read.

    bounded: up to where they end now. decoders: topic → how its bytes are read, canonical JSON where it is not
    named. partitions: read these numbers of every topic only; None: all.
    """

    start: Start = "beginning"
    bounded: bool = False
    decoders: Mapping[str, Decode] = field(default_factory=dict)
    partitions: Collection[int] | None = None


class Journal(Protocol):
    """Topics that can be read, written and continued."""

    def prepare(self, topics: Sequence[str], partitions: int = 1) -> None:
        """Make these topics where they are not there, with so many partitions or more."""

    def partitions(self, topic: str) -> int:
        """How many partitions a topic has; UnknownStream where it does not exist."""

    def source(self, topics: Sequence[str], reading: Reading) -> BoundedSource:
        """Records of these topics."""

    def sink(self, topic: str, partition: int = 0, *, transactional: bool = False) -> Sink:
        """Appends to a partition of a topic."""

    def log(self) -> AbstractContextManager[Appendable]:
        """The topics as a log that can be continued at its end."""

    def close(self) -> None:
        """Release the file; sources and sinks are closed by their owners, before."""


class EmbeddedJournal:
    """Topics of an embedded log in the file `path`."""

    def __init__(self, path: Path) -> None:
        from streams.log import EmbeddedLog

        self._log = EmbeddedLog(path)

    def topics(self) -> list[str]:
        """The names of all topics that hold records."""
        return self._log.topics()

    def prepare(self, topics: Sequence[str], partitions: int = 1) -> None:
        """Nothing: a topic is there once it is written to."""

    def partitions(self, topic: str) -> int:
        """How many partitions a topic has, up to the last that holds records; UnknownStream for none."""
        from streams.errors import UnknownStream

        numbers = [number for name, number in self._log.end_offsets() if name == topic]
        if not numbers:
            raise UnknownStream(
                f"{topic!r} is no topic of {self._log.path}; there are: {', '.join(self.topics()) or 'none'}"
            )
        return max(numbers) + 1

    def source(self, topics: Sequence[str], reading: Reading) -> BoundedSource:
        """Records of these topics, of all their partitions."""
        from streams.log_source import LogSource

        return LogSource(
            self._log, topics, start=reading.start, bounded=reading.bounded, decoders=reading.decoders
        )

    def sink(self, topic: str, partition: int = 0, *, transactional: bool = False) -> Sink:
        """Appends to a partition of a topic, each flush in one transaction."""
        from streams.log import LogSink

        return LogSink(self._log, topic, partition)

    @contextmanager
    def log(self) -> Iterator[Appendable]:
        """The log itself."""
        yield self._log

    def close(self) -> None:
        """Close the file."""
        self._log.close()


class BrokerJournal:
    """Topics of the Kafka broker at `address`, "host:port".

    options: kafka-python's settings for every client. client: which library reads and writes.
    """

    def __init__(
        self, address: str, options: Mapping[str, Any] | None = None, client: Client = "kafka-python"
    ) -> None:
        self._address, self._options, self._client = address, options, client

    def prepare(self, topics: Sequence[str], partitions: int = 1) -> None:
        """Make the topics that are not there; BrokerUnavailable where no broker answers."""
        from streams.broker import ensure_topics

        wanted = dict.fromkeys(topics, partitions)
        ensure_topics(self._address, wanted, options=self._options, at_least=True)

    def partitions(self, topic: str) -> int:
        """How many partitions a topic has; UnknownStream where it does not exist."""
        from streams.broker import connect_consumer, partitions_of

        with contextlib.closing(connect_consumer(self._address, options=self._options)) as consumer:
            return len(partitions_of(consumer, self._address, topic))

    def source(self, topics: Sequence[str], reading: Reading) -> BoundedSource:
        """Records of these topics."""
        from streams.kafka import KafkaSource

        return KafkaSource(
            self._address,
            topics,
            start=reading.start,
            bounded=reading.bounded,
            partitions=reading.partitions,
            client=self._client,
            decoders=reading.decoders,
            options=self._options,
        )

    def sink(self, topic: str, partition: int = 0, *, transactional: bool = False) -> Sink:
        """Appends to a partition of a topic."""
        from streams.kafka_sink import KafkaSink

        return KafkaSink(
            self._address,
            topic,
            partition,
            transactional=transactional,
            client=self._client,
            options=self._options,
        )

    def log(self) -> AbstractContextManager[Appendable]:
        """A pair of connections, closed with the context."""
        from streams.broker import KafkaLog

        return contextlib.closing(KafkaLog(self._address, options=self._options))

    def close(self) -> None:
        """Nothing is held here."""


class FirstRecords:
    """The first records of a source whose partitions begin at offset 0, as if it ended there."""

    def __init__(self, source: Source, limit: int) -> None:
        self._source, self._limit = source, limit

    def _left(self) -> int:
        return self._limit - sum(self._source.positions().values())

    @property
    def exhausted(self) -> bool:
        """True after the last of them."""
        return self._left() <= 0 or self._source.exhausted

    def poll(self, max_records: int, timeout: float = 0.0) -> Sequence[Record]:
        """Further records, never more than are left."""
        room = min(max_records, self._left())
        return self._source.poll(room, timeout) if room > 0 else []

    def positions(self) -> dict[TopicPartition, int]:
        """The source's."""
        return self._source.positions()

    def seek(self, positions: Mapping[TopicPartition, int]) -> None:
        """The source's."""
        self._source.seek(positions)

    def fingerprints(self, at: Mapping[TopicPartition, int]) -> dict[TopicPartition, str | None]:
        """The source's."""
        return self._source.fingerprints(at)

    def close(self) -> None:
        """The source's."""
        self._source.close()
