"""Several partitions as one stream in the order of event time, the same on every run."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from heapq import heapify, heappop, heapreplace
from typing import Protocol

from streams.event import Record, TopicPartition
from streams.protocols import Source


class BoundedSource(Source, Protocol):
    """A source that ends, and whose partitions can be held back one by one."""

    def end_offsets(self) -> dict[TopicPartition, int]:
        """Where each partition ends: the offset behind its last record."""

    def pause(self, partitions: Collection[TopicPartition]) -> None:
        """Deliver nothing from these until they are resumed."""

    def resume(self, partitions: Collection[TopicPartition]) -> None:
        """Deliver from these again."""


class MergedSource:
    """A bounded source whose records come by event time, then topic, partition, offset.

    Within a partition the order of its offsets stays; between partitions the record with the earliest time
    comes first (a malformed one counts as time 0: it comes as soon as it is its partition's next). The order
    depends on what the partitions hold, not on how it arrived: nothing is delivered before each partition
    that has not ended shows its next record.

    source: a bounded source of one or more partitions; closed with this one.
    ahead: how many records of a partition are read ahead at most before it is held back.

    >>> from streams.event import Event, Label
    >>> from streams.replay import ListSource
    >>> events = [Event(id="a", time=1.0, features={}), Event(id="b", time=3.0, features={})]
    >>> labels = [Label(id="a", time=2.0, label=1), Label(id="b", time=4.0, label=0)]
    >>> both = {TopicPartition("events", 0): events, TopicPartition("labels", 0): labels}
    >>> [record.item.time for record in MergedSource(ListSource(both)).poll(10)]
    [1.0, 2.0, 3.0, 4.0]
    """

    def __init__(self, source: BoundedSource, *, ahead: int = 4096) -> None:
        if ahead < 1:
            raise ValueError(f"ahead is {ahead}; expected at least 1 record per partition")
        self._source = source
        self._ahead = ahead
        self._ends = source.end_offsets()
        self._restart()

    def _restart(self) -> None:
        self._next = self._source.positions()
        self._buffers: dict[TopicPartition, list[Record]] = {partition: [] for partition in self._next}
        self._read = dict.fromkeys(self._next, 0)  # how far each buffer has been delivered
        self._held: set[TopicPartition] = set()
        self._source.resume(list(self._next))

    @property
    def exhausted(self) -> bool:
        """True once the last record of every partition has been delivered."""
        return self._source.exhausted and not any(self._left(partition) for partition in self._buffers)

    def _left(self, partition: TopicPartition) -> int:
        return len(self._buffers[partition]) - self._read[partition]

    def _lacking(self) -> list[TopicPartition]:
        """Partitions that have not ended and show no next record."""
        at = self._source.positions()
        return [p for p in self._buffers if not self._left(p) and at[p] < self._ends.get(p, 0)]

    def _fill(self, timeout: float) -> bool:
        """Read until every partition shows its next record or has ended; False where that did not happen."""
        while lacking := self._lacking():
            full = {p for p in self._buffers if self._left(p) >= self._ahead}
            if full - self._held:
                self._source.pause(list(full - self._held))
            if self._held - full:
                self._source.resume(list(self._held - full))
            self._held = full
            records = self._source.poll(self._ahead * len(lacking), timeout)
            for record in records:
                topic, partition, _ = record.position
                self._buffers[TopicPartition(topic, partition)].append(record)
            if not records and self._lacking():
                return False
        return True

    def poll(self, max_records: int, timeout: float = 0.0) -> Sequence[Record]:
        """Up to `max_records` further records in order; waits at most `timeout` seconds per empty read."""
        found: list[Record] = []
        while len(found) < max_records and self._fill(timeout):
            before = len(found)
            self._take(found, max_records)
            if len(found) == before:
                break
        return found

    def _take(self, found: list[Record], max_records: int) -> None:
        """Merge the buffers until one of them is empty or enough is found."""
        heap = []
        for partition, buffer in self._buffers.items():
            at = self._read[partition]
            if at < len(buffer):
                heap.append((buffer[at].item.time, partition, at, buffer))
        heapify(heap)
        room = max_records - len(found)
        while heap and room > 0:
            _, partition, at, buffer = heap[0]
            found.append(buffer[at])
            room -= 1
            at += 1
            if at < len(buffer):
                heapreplace(heap, (buffer[at].item.time, partition, at, buffer))
                continue
            self._deliver(partition, at)
            heappop(heap)
            break  # whether this partition has more must be known before another one goes on
        for _, partition, at, _ in heap:
            self._deliver(partition, at)

    def _deliver(self, partition: TopicPartition, read: int) -> None:
        """Note that the buffer has been delivered up to `read`."""
        buffer = self._buffers[partition]
        if read > self._read[partition]:
            self._next[partition] = buffer[read - 1].position.offset + 1
        if read == len(buffer):
            buffer.clear()
            read = 0
        elif read > self._ahead:
            del buffer[:read]
            read = 0
        self._read[partition] = read

    def positions(self) -> dict[TopicPartition, int]:
        """The offset behind each partition's last delivered record; what is read ahead does not count."""
        return dict(self._next)

    def end_offsets(self) -> dict[TopicPartition, int]:
        """Where each partition ends."""
        return dict(self._ends)

    def seek(self, positions: Mapping[TopicPartition, int]) -> None:
        """Go to these offsets; partitions that are not named stay where they were delivered to."""
        self._source.seek({**self._next, **positions})
        self._restart()

    def close(self) -> None:
        """Close the source; closing twice is allowed."""
        self._source.close()
