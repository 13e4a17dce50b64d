"""Kafka topics as a source, behind the same protocol as the embedded log.

Positions belong to their owner: partitions are assigned, never subscribed, no offset is committed, and the
broker's reset policy is off, so that a position that the log no longer holds is an error with a clear text.
Either client of `streams.clients` reads; what is promised is the same.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Literal, TypeAlias

from streams.broker import CONNECT, REQUEST, unavailable
from streams.clients import Client, Options, Row, open_reader
from streams.clock import SystemClock
from streams.codecs import decode
from streams.errors import BrokerUnavailable, LogChanged, PositionLost, UnknownStream
from streams.event import Position, Record, TopicPartition
from streams.fingerprint import fingerprint
from streams.kafka_sink import KafkaSink as KafkaSink
from streams.protocols import Clock, Decode
from streams.replay import unknown_partition

Start: TypeAlias = Literal["beginning", "end"] | float | Mapping[TopicPartition, int]

_QUIET = 1.0  # seconds that a look at the topics may wait while the source is read
_MISSED = 2  # looks in a row without an answer after which the broker counts as away
_FRESH = 0.1  # seconds for which the ends that the broker told are taken as the present ones


class KafkaSource:
    """A source over the partitions of some topics of a broker.

    bootstrap: "host:port" of a broker, or several joined by commas.
    start: "beginning", "end", a time in seconds since 1970-01-01 UTC (the first record that the log took then
    or later; the end of a partition without one), or a position for every partition as `positions` gave them
    (those that it does not name begin at their beginning); it has no default, because any would be a silent
    choice.
    bounded: stop at the ends that the partitions have now; otherwise the source is live, and partitions that
    are added to a topic later are read from their beginning.
    partitions: the numbers of the partitions to read of every topic; None for all.
    client: "kafka-python" or "confluent". options: settings by kafka-python's names, security among them; the
    messages of aborted transactions are never read unless `isolation_level` says so.
    timeout: seconds to wait for the broker's first answer. patience: seconds for which a broker may be away
    afterwards; `poll` gives nothing meanwhile and then goes on. refresh: seconds between looks at the topics.
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
        start: Start,
        bounded: bool = False,
        partitions: Collection[int] | None = None,
        client: Client = "kafka-python",
        timeout: float = CONNECT,
        patience: float = 300.0,
        refresh: float = 5.0,
        options: Options = None,
        decoders: Mapping[str, Decode] | None = None,
        clock: Clock | None = None,
    ) -> None:
        if not isinstance(start, Mapping | int | float) and start not in ("beginning", "end"):
            raise ValueError(
                f"start is {start!r}; expected 'beginning', 'end', seconds since 1970-01-01 UTC or a mapping of "
                "positions"
            )
        self._bootstrap, self._bounded = bootstrap, bounded
        self._topics = [topics] if isinstance(topics, str) else sorted(set(topics))
        self._numbers = None if partitions is None else sorted(set(partitions))
        self._patience, self._refresh = patience, refresh
        self._decoders = dict(decoders or {})
        self._clock = clock or SystemClock()
        self._closed = False
        self._next: dict[TopicPartition, int] = {}
        self._held: set[TopicPartition] = set()
        self._set: set[TopicPartition] | None = None  # what the reader holds back; None: set it anew
        self._reader = open_reader(client, bootstrap, timeout=timeout, options=options, metadata=refresh)
        try:
            self._assign(start)
        except BaseException:
            self.close()
            raise
        self._looked = self._hear()

    def _assign(self, start: Start) -> None:
        if not self._topics:
            raise ValueError("topics is empty; expected the name of at least one topic")
        self._next = dict.fromkeys(self._there(REQUEST), 0)
        begins = self._reader.begins(self._next, REQUEST)
        self._ends = self._reader.ends(self._next, REQUEST)
        self._latest, self._asked = dict(self._ends), self._clock.monotonic()
        if isinstance(start, Mapping):
            self.seek(begins | dict(start))
        elif isinstance(start, int | float):
            self._next = self._ends | self._reader.after(self._next, start, REQUEST)
        else:
            self._next = dict(begins if start == "beginning" else self._ends)

    def _there(self, timeout: float) -> list[TopicPartition]:
        """The partitions to read that the topics have now."""
        found = []
        for topic in self._topics:
            numbers = self._reader.partitions(topic, timeout)
            missing = [number for number in self._numbers or () if number not in numbers]
            if missing:
                raise UnknownStream(
                    f"topic {topic!r} at {self._bootstrap} has no partitions {missing}, only {numbers}; name "
                    "those that every topic has, or give all topics the same number"
                )
            found += [TopicPartition(topic, n) for n in (numbers if self._numbers is None else self._numbers)]
        return found

    @property
    def exhausted(self) -> bool:
        """True once a bounded source has delivered every partition to the end it had at the start."""
        return self._bounded and all(self._is_over(partition) for partition in self._next)

    def poll(self, max_records: int, timeout: float = 0.0) -> Sequence[Record]:
        """Up to `max_records` further records; waits at most `timeout` seconds for the first.

        Nothing comes while no broker answers. Raises BrokerUnavailable where that lasts longer than `patience`,
        PositionLost where the broker no longer holds the next record, LogChanged where the log is another one.
        After an error of a decoder (RegistryUnavailable) the same records come again.
        """
        if self.exhausted:
            return []
        self._aim()
        if self._set == self._next.keys():
            return []
        try:
            rows = self._reader.fetch(max_records, timeout)
            found = self._records(rows)
        except PositionLost as error:
            self._set = None
            self._check(REQUEST)  # says it in full
            if isinstance(error, LogChanged):
                raise
            raise self._lost(f"({error})") from error
        except BaseException:
            self._set = None  # what was fetched comes again
            raise
        for partition, at in self._reader.passed().items():
            self._next[partition] = min(at, self._ends[partition]) if self._bounded else at
        if rows:
            self._hear()
        if self._clock.monotonic() - self._looked >= self._refresh:
            self._look()
        return found

    def _hear(self) -> float:
        """The broker has answered, now."""
        self._missed, self._heard = 0, self._clock.monotonic()
        return self._heard

    def away(self) -> float | None:
        """Seconds for which no broker has answered; None where one does, or where one look alone found none."""
        return self._clock.monotonic() - self._heard if self._missed >= _MISSED else None

    def _records(self, rows: Sequence[Row]) -> list[Record]:
        if self._bounded:
            rows = [row for row in rows if row[1] < self._ends[row[0]]]
        found = []
        topic, read = "", decode
        for partition, offset, milliseconds, key, raw, headers in rows:
            if partition[0] != topic:
                topic = partition[0]
                read = self._decoders.get(topic, decode)
            item = read(raw, key, milliseconds / 1000 if milliseconds >= 0 else None)
            found.append(Record(Position(topic, partition[1], offset), item, raw, key, headers))
        return found

    def _aim(self) -> None:
        """Let the reader fetch from the partitions that are wanted now."""
        unwanted = {p for p in self._next if p in self._held or (self._bounded and self._is_over(p))}
        if self._set is None:
            self._reader.read_from(self._next)
            self._set = set()
        if unwanted != self._set:
            self._reader.hold(unwanted)
            self._set = unwanted

    def _is_over(self, partition: TopicPartition) -> bool:
        return self._bounded and self._next[partition] >= self._ends[partition]

    def _look(self) -> None:
        """See that a broker is there, that it holds what comes next, and whether there are new partitions."""
        self._looked = self._clock.monotonic()
        try:
            self._check(_QUIET)
            there = [] if self._bounded else self._there(_QUIET)
            fresh = [partition for partition in there if partition not in self._next]
            if fresh:
                self._next |= self._reader.begins(fresh, _QUIET)
                self._ends |= dict.fromkeys(fresh, 0)
                self._set = None
        except (BrokerUnavailable, UnknownStream) as error:
            self._missed += 1
            away = self._clock.monotonic() - self._heard
            if away > self._patience:
                raise BrokerUnavailable(
                    f"nothing was heard from the broker at {self._bootstrap} for {away:.0f} s, expected less "
                    f"than {self._patience:.0f} s ({error}); see to it and start again: nothing is lost"
                ) from error
            return
        self._hear()

    def _check(self, timeout: float) -> None:
        """PositionLost where the broker does not hold what comes next."""
        begins, ends = self._reader.begins(self._next, timeout), self._reader.ends(self._next, timeout)
        self._latest, self._asked = ends, self._clock.monotonic()
        for partition, offset in self._next.items():
            self._hold(partition, offset, begins[partition], ends[partition])

    def _hold(self, partition: TopicPartition, offset: int, begin: int, end: int) -> None:
        if begin <= offset <= end:
            return
        has = (
            f"offset {offset} of topic {partition[0]!r} partition {partition[1]} is not held by the broker at "
            f"{self._bootstrap}, which has {begin} to {end}"
        )
        if offset > end:
            raise LogChanged(
                f"{has}; the topic was cut back, or deleted and made anew: it is not the log that was read. "
                "Go on from a snapshot of this log, or start anew with other snapshots"
            )
        raise self._lost(f"({has})")

    def _lost(self, why: str) -> PositionLost:
        return PositionLost(
            f"the broker at {self._bootstrap} no longer holds what comes next {why}: the topic was cut or its "
            "records have expired. Start from 'beginning' or 'end'; events are missing"
        )

    def positions(self) -> dict[TopicPartition, int]:
        """The next offset of every partition."""
        return dict(self._next)

    def end_offsets(self) -> dict[TopicPartition, int]:
        """Where each partition ended when the source was made."""
        return dict(self._ends)

    def latest_offsets(self) -> dict[TopicPartition, int]:
        """Where each partition ends now; BrokerUnavailable where no broker answers.

        The broker is asked at most ten times a second; in between it is what it said, or what was read since.
        """
        now = self._clock.monotonic()
        if now - self._asked > _FRESH:
            try:
                self._latest, self._asked = self._reader.ends(self._next, CONNECT), now
            except BrokerUnavailable:
                self._missed = _MISSED  # it had more time than two looks have
                raise
            self._hear()
        return {partition: max(at, self._latest.get(partition, 0)) for partition, at in self._next.items()}

    def seek(self, positions: Mapping[TopicPartition, int]) -> None:
        """Go to these offsets; ValueError for an unknown partition, PositionLost for an offset not held."""
        begins, ends = self._reader.begins(self._next, REQUEST), self._reader.ends(self._next, REQUEST)
        for partition, offset in positions.items():
            if partition not in self._next:
                raise unknown_partition(partition, self._next)
            self._hold(TopicPartition(*partition), offset, begins[partition], ends[partition])
        self._next.update({TopicPartition(*partition): offset for partition, offset in positions.items()})
        self._set = None

    def fingerprints(self, at: Mapping[TopicPartition, int]) -> dict[TopicPartition, str | None]:
        """The fingerprint of the record at each of these offsets; None where none stands there any more.

        Raises BrokerUnavailable where a record that the broker holds is not delivered.
        """
        asked = [TopicPartition(*partition) for partition in at if partition in self._next]
        begins, ends = self._reader.begins(asked, REQUEST), self._reader.ends(asked, REQUEST)
        found: dict[TopicPartition, str | None] = {}
        for partition, offset in at.items():
            held = begins.get(partition, 0) <= offset < ends.get(partition, 0)
            found[partition] = self._fingerprint(TopicPartition(*partition), offset) if held else None
        self._set = None
        return found

    def _fingerprint(self, partition: TopicPartition, offset: int) -> str | None:
        self._reader.read_from({partition: offset})
        deadline = self._clock.monotonic() + REQUEST
        while self._clock.monotonic() < deadline:
            try:
                rows = self._reader.fetch(1, 1.0)
            except PositionLost:  # it has gone since the broker was asked
                return None
            for _, there, _, _, raw, _ in rows:
                return fingerprint(raw) if there == offset else None
            if self._reader.passed()[partition] > offset:  # nothing but a transaction's mark stands there
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
            self._reader.close()
