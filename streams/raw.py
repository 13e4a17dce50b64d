"""Topics as bare bytes: read where they stand and appended again as they were, keys and headers included."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from streams.broker import (
    CONNECT,
    REQUEST,
    connect_consumer,
    connect_producer,
    ensure_topics,
    partitions_of,
    unavailable,
)
from streams.clients import Options
from streams.errors import StreamError
from streams.event import Headers
from streams.log import EmbeddedLog

KEPT = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}
"""A topic's settings by which nothing in it expires."""


class Raw(NamedTuple):
    """A message: bytes (None: a broker's empty one), key, headers, and when the log took it, in seconds."""

    value: bytes | None
    key: bytes | None
    headers: Headers
    time: float


class RawLog(Protocol):
    """An embedded log or a broker, message by message.

    near: whether reading one message is quick.
    """

    near: bool

    def partitions(self, topic: str) -> list[int]:
        """The numbers of a topic's partitions, sorted; empty where there is no such topic."""

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        """The first offset that is held, and the one behind the last."""

    def read(self, topic: str, partition: int, start: int, limit: int) -> list[tuple[int, Raw]]:
        """Up to `limit` messages with their offsets, from `start` on or from the first that is held."""

    def append(self, topic: str, partition: int, messages: Sequence[Raw]) -> None:
        """Append messages in order; durable when it returns."""

    def make(self, topic: str) -> None:
        """Make a topic of one partition that keeps everything for ever, where it is not there."""

    def close(self) -> None:
        """Release what is held; closing twice is allowed."""


class RawEmbedded:
    """The topics of an embedded log, which has keys of text and no headers.

    >>> import tempfile, os
    >>> log = RawEmbedded(os.path.join(tempfile.mkdtemp(), "log.db"))
    >>> log.append("a", 0, [Raw(b"{broken", b"key", (), 5.0)])
    >>> log.read("a", 0, 0, 10)
    [(0, Raw(value=b'{broken', key=b'key', headers=(), time=5.0))]
    >>> log.close()
    """

    near = True

    def __init__(self, path: str | Path) -> None:
        self._log = EmbeddedLog(path)

    def partitions(self, topic: str) -> list[int]:
        """The numbers of the partitions that hold records."""
        return [number for name, number in self._log.end_offsets() if name == topic]

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        """The first offset that is held, and the one behind the last."""
        begins = {tuple(p): offset for p, offset in self._log.begin_offsets().items()}
        return begins.get((topic, partition), 0), self._log.end_offset(topic, partition)

    def read(self, topic: str, partition: int, start: int, limit: int) -> list[tuple[int, Raw]]:
        """Up to `limit` messages with their offsets."""
        rows = self._log.read(topic, partition, start, limit)
        return [(row.offset, Raw(row.value, row.key.encode(), (), row.time)) for row in rows]

    def append(self, topic: str, partition: int, messages: Sequence[Raw]) -> None:
        """Append messages in one transaction; headers are left out, keys that are no text are read as such."""
        rows = [((m.key or b"").decode(errors="replace"), m.time, m.value or b"") for m in messages]
        self._log.append_many(topic, partition, rows)

    def make(self, topic: str) -> None:
        """Nothing: a topic is there once it is written to."""

    def close(self) -> None:
        """Close the file."""
        self._log.close()


class RawBroker:
    """The topics of a broker; what was written in transactions that were aborted is not read."""

    near = False

    def __init__(self, bootstrap: str, *, timeout: float = CONNECT, options: Options = None) -> None:
        self._bootstrap, self._options = bootstrap, options
        reading = {"isolation_level": "read_committed", **(options or {})}
        self._consumer = connect_consumer(bootstrap, timeout=timeout, options=reading)
        self._producer: Any = None

    def partitions(self, topic: str) -> list[int]:
        """The numbers of the topic's partitions."""
        return partitions_of(self._consumer, self._bootstrap, topic) if self._there(topic) else []

    def _there(self, topic: str) -> bool:
        return topic in self._consumer.topics()

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        """The first offset that is held, and the one behind the last; BrokerUnavailable where none answers."""
        from kafka.errors import KafkaError

        where = _theirs(topic, partition)
        try:
            begins, ends = self._consumer.beginning_offsets([where]), self._consumer.end_offsets([where])
        except KafkaError as error:
            raise unavailable(self._bootstrap, error) from error
        return int(begins[where]), int(ends[where])

    def read(self, topic: str, partition: int, start: int, limit: int) -> list[tuple[int, Raw]]:
        """Up to `limit` messages with their offsets; BrokerUnavailable where one that is held does not come."""
        where, (begin, end) = _theirs(topic, partition), self.bounds(topic, partition)
        self._consumer.assign([where])
        self._consumer.seek(where, max(start, begin))
        found: list[tuple[int, Raw]] = []
        quiet = 0
        while len(found) < limit and self._consumer.position(where) < end:
            got = self._consumer.poll(timeout_ms=1000, max_records=limit - len(found)).get(where, [])
            quiet = 0 if got else quiet + 1
            if quiet > REQUEST:
                raise unavailable(self._bootstrap, f"{topic!r} was not delivered in {REQUEST:.0f} s")
            found += [(r.offset, Raw(r.value, r.key, tuple(r.headers), r.timestamp / 1000)) for r in got]
        return found

    def append(self, topic: str, partition: int, messages: Sequence[Raw]) -> None:
        """Send messages and wait until the broker has all; times are the broker's own. StreamError where not."""
        from kafka.errors import KafkaError

        if self._producer is None:
            self._producer = connect_producer(self._bootstrap, options=self._options)
        try:
            sent = [
                self._producer.send(
                    topic, value=m.value, key=m.key, headers=list(m.headers), partition=partition
                )
                for m in messages
            ]
            self._producer.flush(timeout=REQUEST)
            for future in sent:
                future.get(timeout=0)
        except KafkaError as error:
            raise StreamError(
                f"the broker at {self._bootstrap} did not take all messages for topic {topic!r} ({error}); "
                "check the topic's settings and that this client may write there, then do the same again"
            ) from error

    def make(self, topic: str) -> None:
        """Make a topic of one partition that keeps everything for ever, where it is not there."""
        ensure_topics(self._bootstrap, {topic: 1}, options=self._options, settings=KEPT)

    def close(self) -> None:
        """Release both connections."""
        self._consumer.close(autocommit=False)
        if self._producer is not None:
            self._producer.close()
            self._producer = None


def _theirs(topic: str, partition: int) -> Any:
    from kafka import TopicPartition as KafkaPartition

    return KafkaPartition(topic, partition)
