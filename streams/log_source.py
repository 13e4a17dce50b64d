"""Reads topics of an embedded log as a source, up to their present ends or for ever."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Literal

from streams.clock import SystemClock
from streams.codecs import decode
from streams.errors import PositionLost
from streams.event import Position, Record, TopicPartition
from streams.fingerprint import fingerprint
from streams.log import EmbeddedLog
from streams.protocols import Clock, Decode
from streams.replay import unknown_partition

_NAP = 0.01  # seconds between two looks at a log that had nothing new


class LogSource:
    """A source over topics of an embedded log, through a connection of its own.

    log: the log, or one opened on the same file; it is not closed with the source.
    topics: names; all partitions of each are read, those that appear later too while the source is live.
    start: "beginning", "end", a time in seconds (of each partition the first record whose event time is that or
    later, and all behind it, earlier ones too; the end of a partition without one), or a position for every
    partition as `positions` gave them.
    decoders: topic → how its bytes are read; `streams.codecs.decode` for those that are not named.
    bounded: stop at the ends that the partitions have now; otherwise the source is live.
    partitions: the numbers of the partitions to read of every topic; None for all.
    Raises PositionLost where `start` or a `seek` names an offset that the log does not hold.

    >>> import tempfile, os
    >>> log = EmbeddedLog(os.path.join(tempfile.mkdtemp(), "log.db"))
    >>> _ = log.append("events", 0, "a", 1.0, b'{"id":"a","time":1.0,"features":{"x":2}}')
    >>> source = LogSource(log, "events", bounded=True)
    >>> [record.item.features for record in source.poll(10)], source.exhausted
    ([{'x': 2}], True)
    >>> source.close(), log.close()
    (None, None)
    """

    def __init__(
        self,
        log: EmbeddedLog,
        topics: Sequence[str] | str,
        *,
        start: Literal["beginning", "end"] | float | Mapping[TopicPartition, int] = "beginning",
        bounded: bool = False,
        partitions: Collection[int] | None = None,
        decoders: Mapping[str, Decode] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._topics = [topics] if isinstance(topics, str) else list(topics)
        if not self._topics:
            raise ValueError("topics is empty; expected the name of at least one topic of the log")
        self._numbers = None if partitions is None else sorted(set(partitions))
        self._log = EmbeddedLog(log.path)
        self._clock = clock or SystemClock()
        self._bounded = bounded
        self._decoders = dict(decoders or {})
        self._paused: set[TopicPartition] = set()
        self._next: dict[TopicPartition, int] = {}
        self._turn = 0
        self._ends = self._bounds(self._log.end_offsets())
        begins = self._bounds(self._log.begin_offsets())
        if isinstance(start, Mapping):
            self._next = dict.fromkeys(self._ends, 0) | begins
            self.seek(start)
        elif isinstance(start, int | float):
            since = {partition: self._log.offset_since(*partition, start) for partition in self._ends}
            self._next = self._ends | {p: offset for p, offset in since.items() if offset is not None}
        elif start in ("beginning", "end"):
            self._next = dict(begins if start == "beginning" else self._ends)
        else:
            raise ValueError(
                f"start is {start!r}; expected 'beginning', 'end', seconds or a mapping of positions"
            )

    def _bounds(self, offsets: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """Offsets of the topics read here; what does not exist yet counts as a partition at 0."""
        numbers = self._numbers
        found = {TopicPartition(topic, n): 0 for topic in self._topics for n in numbers or (0,)}
        found |= {
            partition: offset
            for partition, offset in offsets.items()
            if partition.topic in self._topics and (numbers is None or partition.partition in numbers)
        }
        return dict(sorted(found.items()))

    @property
    def exhausted(self) -> bool:
        """True once a bounded source has delivered every partition to the end it had at the start."""
        return self._bounded and all(self._next[p] >= end for p, end in self._ends.items())

    def poll(self, max_records: int, timeout: float = 0.0) -> Sequence[Record]:
        """Up to `max_records` further records; a live source waits up to `timeout` seconds for the first."""
        deadline = self._clock.monotonic() + timeout
        while True:
            found = self._read(max_records)
            if found or self._bounded:
                return found
            self._look_for_partitions()
            left = deadline - self._clock.monotonic()
            if left <= 0:
                return found
            self._clock.sleep(min(_NAP, left))

    def _read(self, max_records: int) -> list[Record]:
        found: list[Record] = []
        read: dict[TopicPartition, int] = {}  # moves on when all of it could be decoded
        partitions = [partition for partition in self._next if partition not in self._paused]
        for turn in range(len(partitions)):
            topic, number = partition = partitions[(self._turn + turn) % len(partitions)]
            start, room = self._next[partition], max_records - len(found)
            if self._bounded:
                room = min(room, self._ends[partition] - start)
            if room <= 0:
                continue
            records = self._records(topic, number, start, room)
            if records and records[0].position.offset != start:
                raise PositionLost(
                    f"{self._log.path}: topic {topic!r} partition {number} has nothing at {start}, its next "
                    f"record is {records[0].position.offset}; what stood between was dropped. "
                    "Start from 'beginning' or 'end'"
                )
            if records:
                read[partition] = records[-1].position.offset + 1
                found += records
        self._next.update(read)
        self._turn += 1
        return found

    def _records(self, topic: str, number: int, start: int, limit: int) -> list[Record]:
        read = self._decoders.get(topic)
        if read is None:
            rows = self._log.read_values(topic, number, start, limit)
            return [Record(Position(topic, number, offset), decode(value), value) for offset, value in rows]
        keyed = ((row, row.key.encode()) for row in self._log.read(topic, number, start, limit))
        return [
            Record(Position(topic, number, row.offset), read(row.value, key, row.time), row.value, key)
            for row, key in keyed
        ]

    def _look_for_partitions(self) -> None:
        for partition in self._bounds(self._log.end_offsets()):
            self._next.setdefault(partition, 0)

    def positions(self) -> dict[TopicPartition, int]:
        """The next offset of every partition."""
        return dict(self._next)

    def end_offsets(self) -> dict[TopicPartition, int]:
        """Where each partition ended when the source was made."""
        return dict(self._ends)

    def latest_offsets(self) -> dict[TopicPartition, int]:
        """Where each partition ends now; partitions that have appeared are read from now on."""
        if not self._bounded:
            self._look_for_partitions()
        return self._bounds(self._log.end_offsets())

    def seek(self, positions: Mapping[TopicPartition, int]) -> None:
        """Go to these offsets; ValueError for an unknown partition, PositionLost for an offset not held."""
        begins, ends = self._bounds(self._log.begin_offsets()), self._bounds(self._log.end_offsets())
        for partition, offset in positions.items():
            if partition not in self._next:
                raise unknown_partition(partition, self._next)
            first, behind = begins.get(partition, 0), ends.get(partition, 0)
            if not first <= offset <= behind:
                raise PositionLost(
                    f"{self._log.path}: offset {offset} of {partition[0]!r} partition {partition[1]} is "
                    f"not in the log, which holds {first} to {behind}; it was cut or is another log"
                )
        self._next.update({TopicPartition(*partition): offset for partition, offset in positions.items()})

    def fingerprints(self, at: Mapping[TopicPartition, int]) -> dict[TopicPartition, str | None]:
        """The fingerprint of the record at each of these offsets; None where none stands there."""
        found: dict[TopicPartition, str | None] = {}
        for partition, offset in at.items():
            rows = self._log.read_values(*partition, offset, 1)
            found[partition] = fingerprint(rows[0][1]) if rows and rows[0][0] == offset else None
        return found

    def pause(self, partitions: Collection[TopicPartition]) -> None:
        """Deliver nothing from these until they are resumed."""
        self._paused.update(partitions)

    def resume(self, partitions: Collection[TopicPartition]) -> None:
        """Deliver from these again."""
        self._paused.difference_update(partitions)

    def close(self) -> None:
        """Release the connection; closing twice is allowed."""
        self._log.close()
