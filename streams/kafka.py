"""Kafka topics as a source and a sink, behind the same protocols as the embedded log.

Positions belong to their owner: partitions are assigned, never subscribed, no offset is committed, and the
broker's reset policy is off, so that a position that the log no longer holds is an error with a clear text.
Messages are the JSON of `streams.codecs`, keyed by the event's id.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

from streams.broker import (
    CONNECT,
    REQUEST,
    Options,
    connect_consumer,
    connect_producer,
    partitions_of,
    send_all,
    unavailable,
)
from streams.codecs import decode, encode_json
from streams.errors import PositionLost
from streams.event import Headers, Position, Record, TopicPartition
from streams.fingerprint import fingerprint
from streams.protocols import Decode
from streams.replay import unknown_partition


class KafkaSource:
    """A source over all partitions of some topics of a broker.

    bootstrap: "host:port" of a broker, or several joined by commas.
    start: "beginning", "end", or a position for every partition as `positions` gave them; it has no default,
    because either end would be a silent choice.
    bounded: stop at the ends that the partitions have now; otherwise the source is live.
    timeout: seconds to wait for the broker's first answer.
    options: settings by kafka-python's names, security among them.
    decoders: topic → how its bytes are read; `streams.codecs.decode` for those that are not named.
    Raises BrokerUnavailable, BrokerConfigError for settings that cannot be used, UnknownStream for a topic that
    does not exist, and PositionLost where `start` or a `seek` names an offset that the broker does not hold.

    With `address` that of a broker, and `readings` the name of a new topic:

    >>> from streams.broker import KafkaLog, ensure_topics
    >>> ensure_topics(address, {readings: 1})
    >>> log = KafkaLog(address)
    >>> _ = log.append_many(readings, 0, [("a", 1.0, b'{"id":"a","time":1.0,"features":{"x":2}}')])
    >>> log.close()
    >>> source = KafkaSource(address, readings, start="beginning", bounded=True)
    >>> while not source.exhausted:
    ...     for record in source.poll(10, timeout=1.0):
    ...         print(record.position.offset, record.item.features)
    0 {'x': 2}
    >>> source.close()
    """

    def __init__(
        self,
        bootstrap: str,
        topics: Sequence[str] | str,
        *,
        start: Literal["beginning", "end"] | Mapping[TopicPartition, int],
        bounded: bool = False,
        timeout: float = CONNECT,
        options: Options = None,
        decoders: Mapping[str, Decode] | None = None,
    ) -> None:
        if not isinstance(start, Mapping) and start not in ("beginning", "end"):
            raise ValueError(f"start is {start!r}; expected 'beginning', 'end' or a mapping of positions")
        self._bootstrap = bootstrap
        self._bounded = bounded
        self._decoders = dict(decoders or {})
        self._closed = False
        self._next: dict[TopicPartition, int] = {}
        self._held: set[TopicPartition] = set()
        self._reading: list[TopicPartition] | None = None  # what the consumer is set to; None: set it anew
        self._consumer = connect_consumer(bootstrap, timeout=timeout, options=options)
        try:
            self._assign([topics] if isinstance(topics, str) else sorted(topics), start)
        except BaseException:
            self.close()
            raise

    def _assign(
        self, topics: Sequence[str], start: Literal["beginning", "end"] | Mapping[TopicPartition, int]
    ) -> None:
        if not topics:
            raise ValueError("topics is empty; expected the name of at least one topic")
        partitions = [
            TopicPartition(topic, number)
            for topic in topics
            for number in partitions_of(self._consumer, self._bootstrap, topic)
        ]
        self._next = dict.fromkeys(partitions, 0)
        begins, self._ends = self._bounds()
        at = self._ends if start == "end" else begins
        self.seek(dict(at) | dict(start) if isinstance(start, Mapping) else at)

    def _bounds(self) -> tuple[dict[TopicPartition, int], dict[TopicPartition, int]]:
        """The first offset that is held and the one behind the last, for every partition."""
        from kafka.errors import KafkaError

        asked = [_theirs(partition) for partition in self._next]
        try:
            begins, ends = self._consumer.beginning_offsets(asked), self._consumer.end_offsets(asked)
        except KafkaError as error:
            raise unavailable(self._bootstrap, error) from error
        return (
            {partition: int(begins[_theirs(partition)]) for partition in self._next},
            {partition: int(ends[_theirs(partition)]) for partition in self._next},
        )

    @property
    def exhausted(self) -> bool:
        """True once a bounded source has delivered every partition to the end it had at the start."""
        return self._bounded and all(self._is_over(partition) for partition in self._next)

    def poll(self, max_records: int, timeout: float = 0.0) -> Sequence[Record]:
        """Up to `max_records` further records; waits at most `timeout` seconds for the first.

        Raises PositionLost where the broker no longer holds the next record.
        """
        from kafka.errors import OffsetOutOfRangeError

        if self.exhausted:
            return []
        self._aim()
        if not self._reading:
            return []
        try:
            batches = self._consumer.poll(timeout_ms=int(1000 * timeout), max_records=max_records)
        except OffsetOutOfRangeError as error:
            raise PositionLost(
                f"the broker at {self._bootstrap} no longer holds what comes next ({error}): the topic was "
                "cut or its records have expired. Start from 'beginning' or 'end'; events are missing"
            ) from error
        found: list[Record] = []
        for (topic, number), records in batches.items():
            partition = TopicPartition(topic, number)
            end = self._ends[partition] if self._bounded else None
            read = self._decoders.get(topic, decode)
            for record in records:
                if end is None or record.offset < end:
                    raw, key = record.value or b"", record.key
                    found.append(
                        Record(
                            Position(topic, number, record.offset),
                            read(raw, key, record.timestamp / 1000),
                            raw,
                            key,
                            tuple(record.headers),
                        )
                    )
        for partition in self._reading:  # positions step over what holds no record, as after a transaction
            at = int(self._consumer.position(_theirs(partition)))
            self._next[partition] = min(at, self._ends[partition]) if self._bounded else at
        return found

    def _aim(self) -> None:
        """Set the consumer to the partitions that are wanted now.

        Assigning anew stands in for the consumer's own pause, under which one partition's half-read batch
        can keep all others from being delivered.
        """
        wanted = [p for p in self._next if p not in self._held and not self._is_over(p)]
        if wanted != self._reading:
            self._consumer.assign([_theirs(partition) for partition in wanted])
            for partition in wanted:
                self._consumer.seek(_theirs(partition), self._next[partition])
            self._reading = wanted

    def _is_over(self, partition: TopicPartition) -> bool:
        return self._bounded and self._next[partition] >= self._ends[partition]

    def positions(self) -> dict[TopicPartition, int]:
        """The next offset of every partition."""
        return dict(self._next)

    def end_offsets(self) -> dict[TopicPartition, int]:
        """Where each partition ended when the source was made."""
        return dict(self._ends)

    def latest_offsets(self) -> dict[TopicPartition, int]:
        """Where each partition ends now; BrokerUnavailable where no broker answers."""
        return self._bounds()[1]

    def seek(self, positions: Mapping[TopicPartition, int]) -> None:
        """Go to these offsets; ValueError for an unknown partition, PositionLost for an offset not held."""
        begins, ends = self._bounds()
        for partition, offset in positions.items():
            if partition not in self._next:
                raise unknown_partition(partition, self._next)
            if not begins[partition] <= offset <= ends[partition]:
                raise PositionLost(
                    f"offset {offset} of topic {partition[0]!r} partition {partition[1]} is not held by the "
                    f"broker at {self._bootstrap}, which has {begins[partition]} to {ends[partition]}; the "
                    "topic was cut, has expired or is another one"
                )
        self._next.update({TopicPartition(*partition): offset for partition, offset in positions.items()})
        self._reading = None

    def fingerprints(self, at: Mapping[TopicPartition, int]) -> dict[TopicPartition, str | None]:
        """The fingerprint of the record at each of these offsets; None where none stands there any more.

        Raises BrokerUnavailable where a record that the broker holds is not delivered.
        """
        begins, ends = self._bounds()
        found: dict[TopicPartition, str | None] = {}
        for partition, offset in at.items():
            held = begins.get(partition, 0) <= offset < ends.get(partition, 0)
            found[partition] = self._fingerprint(partition, offset) if held else None
        self._reading = None
        return found

    def _fingerprint(self, partition: TopicPartition, offset: int) -> str | None:
        where = _theirs(partition)
        self._consumer.assign([where])
        self._consumer.seek(where, offset)
        for _ in range(int(REQUEST)):
            for records in self._consumer.poll(timeout_ms=1000, max_records=1).values():
                same = records[0].offset == offset
                return fingerprint(records[0].value or b"") if same else None
            if self._consumer.position(where) > offset:  # nothing but a transaction's mark stands there
                return None
        raise unavailable(self._bootstrap, f"the record at {offset} was not delivered in {REQUEST:.0f} s")

    def pause(self, partitions: Collection[TopicPartition]) -> None:
        """Deliver nothing from these until they are resumed."""
        self._held.update(partitions)

    def resume(self, partitions: Collection[TopicPartition]) -> None:
        """Deliver from these again."""
        self._held.difference_update(partitions)

    def close(self) -> None:
        """Release the connection; closing twice is allowed."""
        if not self._closed:
            self._closed = True
            self._consumer.close(autocommit=False)


class KafkaSink:
    """Writes forecasts to one partition of a topic, idempotently and acknowledged by all replicas.

    Messages wait in memory and are sent at `flush`, or when `buffer` of them wait. The cursor counts
    messages: it starts at the topic's end, a snapshot's cursor is set by `rewind`. What was sent cannot be
    taken back: messages written again stand in the topic twice, and readers drop repeats by the key, the
    event's id. options: settings by kafka-python's names, security among them.

    With `address` that of a broker, and `answers` the name of a new topic:

    >>> from streams.broker import ensure_topics
    >>> ensure_topics(address, {answers: 1})
    >>> sink = KafkaSink(address, answers)
    >>> sink.write("a", {"id": "a", "time": 2.0, "forecast": 1})
    >>> sink.flush()  # from here on the broker has it
    >>> sink.cursor()
    1
    >>> sink.close()
    """

    def __init__(
        self,
        bootstrap: str,
        topic: str,
        partition: int = 0,
        *,
        buffer: int = 4096,
        timeout: float = CONNECT,
        options: Options = None,
    ) -> None:
        if buffer < 1:
            raise ValueError(f"buffer is {buffer}; expected at least 1 message")
        self._bootstrap, self._topic, self._partition, self._buffer = bootstrap, topic, partition, buffer
        self._waiting: list[tuple[str, float, bytes]] = []
        self._sent = self._end(timeout, options)
        self._producer: Any = connect_producer(bootstrap, timeout=timeout, options=options)

    def _end(self, timeout: float, options: Options) -> int:
        """The topic's end: also proof that topic and partition exist before anything is written."""
        consumer = connect_consumer(self._bootstrap, timeout=timeout, options=options)
        try:
            there = partitions_of(consumer, self._bootstrap, self._topic)
            if self._partition not in there:
                raise ValueError(
                    f"partition is {self._partition}, but topic {self._topic!r} has the partitions {there}"
                )
            where = _theirs(TopicPartition(self._topic, self._partition))
            return int(consumer.end_offsets([where])[where])
        finally:
            consumer.close(autocommit=False)

    def write(self, key: str, value: Mapping[str, Any], headers: Headers = ()) -> None:
        """Append one message; `key` becomes the record's key."""
        self._waiting.append((key, 0.0, encode_json(value)))
        if len(self._waiting) >= self._buffer:
            self.flush()

    def flush(self) -> None:
        """Send what waits and wait for the acknowledgements; BrokerUnavailable where they do not come."""
        if self._waiting:
            send_all(self._producer, self._bootstrap, self._topic, self._partition, self._waiting)
            self._sent += len(self._waiting)
            self._waiting.clear()

    def cursor(self) -> int:
        """How many messages have been written: the topic's end at the start, and all since."""
        return self._sent + len(self._waiting)

    def rewind(self, cursor: int) -> None:
        """Count from a snapshot's cursor again; what waited is dropped, what was sent stays in the topic.

        Raises PositionLost where the count is lower than the cursor: messages are missing.
        """
        if not 0 <= cursor <= self.cursor():
            raise PositionLost(
                f"cursor is {cursor}, but topic {self._topic!r} partition {self._partition} at "
                f"{self._bootstrap} holds {self.cursor()} messages; it is another topic or was made anew"
            )
        if cursor >= self._sent:
            del self._waiting[cursor - self._sent :]
            return
        self._waiting.clear()
        self._sent = cursor

    def close(self) -> None:
        """Flush and release the connection; closing twice is allowed."""
        if self._producer is not None:
            self.flush()
            self._producer.close()
            self._producer = None


def _theirs(partition: TopicPartition) -> Any:
    """A partition as kafka-python names it."""
    from kafka import TopicPartition as KafkaPartition

    return KafkaPartition(*partition)
