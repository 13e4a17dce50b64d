"""Where streams stand: the embedded log in a file or the topics of a broker, opened the same way."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    from streams.event import Record, TopicPartition
    from streams.flights import Appendable
    from streams.merge import BoundedSource
    from streams.protocols import Sink, Source

Start: TypeAlias = "Literal['beginning', 'end'] | Mapping[TopicPartition, int]"


class Journal(Protocol):
    """Topics that can be read, written and continued."""

    def prepare(self, topics: Sequence[str]) -> None:
        """Make these topics, one partition each, where they are not there."""

    def source(self, topics: Sequence[str], *, start: Start, bounded: bool) -> BoundedSource:
        """Records of these topics; bounded: up to where they end now."""

    def sink(self, topic: str) -> Sink:
        """Appends to a topic's partition 0."""

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

    def prepare(self, topics: Sequence[str]) -> None:
        """Nothing: a topic is there once it is written to."""

    def source(self, topics: Sequence[str], *, start: Start, bounded: bool) -> BoundedSource:
        """Records of these topics."""
        from streams.log_source import LogSource

        return LogSource(self._log, topics, start=start, bounded=bounded)

    def sink(self, topic: str) -> Sink:
        """Appends to a topic's partition 0."""
        from streams.log import LogSink

        return LogSink(self._log, topic)

    @contextmanager
    def log(self) -> Iterator[Appendable]:
        """The log itself."""
        yield self._log

    def close(self) -> None:
        """Close the file."""
        self._log.close()


class BrokerJournal:
    """Topics of the Kafka broker at `address`, "host:port"; options: kafka-python's settings for every client."""

    def __init__(self, address: str, options: Mapping[str, Any] | None = None) -> None:
        self._address, self._options = address, options

    def prepare(self, topics: Sequence[str]) -> None:
        """Make the topics that are not there; BrokerUnavailable where no broker answers."""
        from streams.broker import ensure_topics

        ensure_topics(self._address, dict.fromkeys(topics, 1), options=self._options)

    def source(self, topics: Sequence[str], *, start: Start, bounded: bool) -> BoundedSource:
        """Records of these topics."""
        from streams.kafka import KafkaSource

        return KafkaSource(self._address, topics, start=start, bounded=bounded, options=self._options)

    def sink(self, topic: str) -> Sink:
        """Appends to a topic's partition 0."""
        from streams.kafka import KafkaSink

        return KafkaSink(self._address, topic, options=self._options)

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
