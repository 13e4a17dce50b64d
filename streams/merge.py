"""Several partitions as one stream in the order of event time, the same on every run."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from heapq import heapify, heappop, heapreplace
from typing import Protocol

from streams.errors import BrokerUnavailable, PositionLost
from streams.event import Record, TopicPartition
from streams.protocols import Source, away_of


class BoundedSource(Source, Protocol):
    """A source that knows where its partitions end, and can hold them back one by one."""

    def end_offsets(self) -> dict[TopicPartition, int]:
        """Where each partition ended when the source was made: the offset behind its last record."""

    def latest_offsets(self) -> dict[TopicPartition, int]:
        """Where each partition ends now."""

    def pause(self, partitions: Collection[TopicPartition]) -> None:
        """Deliver nothing from these until they are resumed."""

    def resume(self, partitions: Collection[TopicPartition]) -> None:
        """Deliver from these again."""


class MergedSource:
    """A source whose records come by event time, then topic, partition, offset.

    Within a partition the order of its offsets stays; between partitions the record with the earliest time
    comes first (a malformed one counts as time 0: it comes as soon as it is its partition's next). The order
    depends on what the partitions hold, not on how it arrived: nothing is delivered before each partition
    that has not ended shows its next record.

    The ends that partitions have when the source is made bound what is merged: they are a stage. A bounded
    source ends there. A live one goes on with stages of whatever has come since: many records after a stop,
    the few of one read where it keeps up. `begun` tells the stages that were begun, for a caller that records
    them; `stages` and `follow` carry them over to another run, which then merges in the same order, whatever has
    come in between. Where there is one partition only, its offsets are the order and there are no stages.

    source: one or more partitions; closed with this one.
    ahead: how many records of a partition are read ahead at most before it is held back.
    live: whether the source has no end.

    >>> from streams.event import Event, Label
    >>> from streams.replay import ListSource
    >>> events = [Event(id="a", time=1.0, features={}), Event(id="b", time=3.0, features={})]
    >>> labels = [Label(id="a", time=2.0, label=1), Label(id="b", time=4.0, label=0)]
    >>> both = {TopicPartition("events", 0): events, TopicPartition("labels", 0): labels}
    >>> [record.item.time for record in MergedSource(ListSource(both)).poll(10)]
    [1.0, 2.0, 3.0, 4.0]
    """

    def __init__(self, source: BoundedSource, *, ahead: int = 4096, live: bool = False) -> None:
        if ahead < 1:
            raise ValueError(f"ahead is {ahead}; expected at least 1 record per partition")
        self._source = source
        self.away = away_of(source)
        self._ahead = ahead
        self._live = live
        self._ends = source.end_offsets()
        self._restart()

    def _restart(self) -> None:
        self._next = self._source.positions()
        self._buffers: dict[TopicPartition, list[Record]] = {partition: [] for partition in self._next}
        self._read = dict.fromkeys(self._next, 0)  # how far each buffer has been delivered
        self._held: set[TopicPartition] = set()
        self._stages: list[dict[TopicPartition, int]] = []  # the present one, then those to come
        self._begun: list[dict[TopicPartition, int]] = []  # those that `begun` has not told yet
        self._passed: list[dict[TopicPartition, int]] = []  # those that the last poll came to the end of
        self._alone = len(self._next) == 1  # whether one partition's offsets are the order
        self._start(self._ends)
        self._source.resume(list(self._next))

    def _start(self, ends: Mapping[TopicPartition, int]) -> None:
        """Begin a stage up to these ends, where they hold anything that is not in a stage already."""
        reached = self._stages[-1] if self._stages else self._next
        if not self._alone and any(end > reached.get(partition, 0) for partition, end in ends.items()):
            self._stages.append(dict(ends))
            self._begun.append(self._stages[-1])
            self._expect(ends)

    def _expect(self, ends: Mapping[TopicPartition, int]) -> None:
        """Partitions of a stage of which no record has come yet are waited for like the others."""
        for partition in ends:
            if partition not in self._buffers:
                self._buffers[partition], self._read[partition] = [], 0
                self._next[partition] = self._source.positions().get(partition, 0)

    @property
    def exhausted(self) -> bool:
        """True once the last record of every partition has been delivered; never where it is live."""
        return not self._live and self._source.exhausted and not self._any_left()

    def _any_left(self) -> bool:
        return any(self._left(partition) for partition in self._buffers)

    def _left(self, partition: TopicPartition) -> int:
        return len(self._buffers[partition]) - self._read[partition]

    def _lacking(self) -> list[TopicPartition]:
        """Partitions that are not at the end of this stage and show no next record."""
        at, ends = self._source.positions(), self._stages[0]
        return [p for p in self._buffers if not self._left(p) and at.get(p, 0) < ends.get(p, 0)]

    def _fill(self, timeout: float) -> bool:
        """Read until every partition shows its next record or has ended; False where that did not happen."""
        while lacking := self._lacking():
            at, ends = self._source.positions(), self._stages[0]
            self._hold(
                {p for p in self._buffers if self._left(p) >= self._ahead or at.get(p, 0) >= ends.get(p, 0)}
            )
            records = self._source.poll(self._ahead * len(lacking), timeout)
            self._keep(records)
            if not records and self._lacking():
                return False
        return True

    def _hold(self, partitions: set[TopicPartition]) -> None:
        """Read from all partitions but these."""
        if partitions - self._held:
            self._source.pause(list(partitions - self._held))
        if self._held - partitions:
            self._source.resume(list(self._held - partitions))
        self._held = partitions

    def _keep(self, records: Sequence[Record]) -> None:
        for record in records:
            topic, number, offset = record.position
            partition = TopicPartition(topic, number)
            if partition not in self._buffers:  # it has appeared since
                self._buffers[partition], self._read[partition], self._next[partition] = [], 0, offset
            self._buffers[partition].append(record)

    def poll(self, max_records: int, timeout: float = 0.0) -> Sequence[Record]:
        """Up to `max_records` further records in order; waits at most `timeout` seconds per empty read."""
        found: list[Record] = []
        self._passed = []
        if self._alone and not self._stages:
            return self._pass(max_records, timeout)
        while len(found) < max_records:
            if not self._stages and (found or not self._begin(max_records, timeout)):
                break
            if not self._fill(timeout):
                break
            before = len(found)
            self._take(found, max_records)
            if len(found) == before:
                self._finish()
        return found

    def _finish(self) -> None:
        """The present stage has been delivered: what is left in front of its ends holds no record."""
        stage = self._stages.pop(0)
        self._passed.append(stage)
        self._next.update({p: max(end, self._next.get(p, 0)) for p, end in stage.items()})

    def _pass(self, max_records: int, timeout: float) -> Sequence[Record]:
        """Records of the only partition, as they come, until another partition appears."""
        records = self._source.poll(max_records, timeout)
        [(partition, at)] = self._next.items()
        if all(record.position[:2] == partition for record in records):
            self._next.update(self._source.positions())
            if len(self._next) == 1:
                return records
        self._alone = (
            False  # what was passed on is a stage by itself: another run may find both from the start
        )
        if at:
            self._begun.append({partition: at})
        self._next = dict.fromkeys(self._source.positions(), 0) | {partition: at}
        self._buffers = {known: [] for known in self._next}
        self._read = dict.fromkeys(self._next, 0)
        self._keep(records)
        if records:
            self._start(self._source.positions())
        return self.poll(max_records, timeout)

    def _begin(self, max_records: int, timeout: float) -> bool:
        """Begin a stage with what has come since the last one; False where nothing has."""
        if not self._any_left():
            self._hold(set())
            records = self._source.poll(max_records, timeout)
            self._keep(records)
            if len(records) < max_records:  # that was all
                if records:
                    self._start(self._source.positions())
                return bool(records)
        try:
            self._start(self._reached())
        except BrokerUnavailable:  # what was read goes on; the source says when it has waited long enough
            self._start(self._source.positions())
        return True

    def _reached(self) -> dict[TopicPartition, int]:
        """Where each partition ends now, and no earlier than it was read to."""
        at = self._source.positions()
        return at | {p: max(end, at.get(p, 0)) for p, end in self._source.latest_offsets().items()}

    def _take(self, found: list[Record], max_records: int) -> None:
        """Merge the buffers until one of them is empty or enough is found."""
        heap = []
        for partition, buffer in self._buffers.items():
            at, end = self._read[partition], self._stages[0].get(partition, 0)
            if at < len(buffer) and buffer[at].position.offset < end:
                heap.append((buffer[at].item.time, partition, at, buffer, end))
        heapify(heap)
        room = max_records - len(found)
        while heap and room > 0:
            _, partition, at, buffer, end = heap[0]
            found.append(buffer[at])
            room -= 1
            at += 1
            if at < len(buffer) and buffer[at].position.offset < end:
                heapreplace(heap, (buffer[at].item.time, partition, at, buffer, end))
                continue
            known = at < len(buffer)  # if not, whether this partition has more comes before another goes on
            self._deliver(partition, at)
            heappop(heap)
            if not known:
                break
        for _, partition, at, _, _ in heap:
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
        """Where each partition ended when the source was made."""
        return dict(self._ends)

    def latest_offsets(self) -> dict[TopicPartition, int]:
        """Where each partition ends now."""
        return self._source.latest_offsets()

    def stages(self) -> list[dict[TopicPartition, int]]:
        """The ends up to which records are merged, one after the other; those the last poll reached too."""
        return [dict(stage) for stage in (*self._passed, *self._stages)]

    def begun(self) -> list[dict[TopicPartition, int]]:
        """The stages that were begun since this was asked last, but for those of `follow`."""
        begun, self._begun = [dict(stage) for stage in self._begun], []
        return begun

    def follow(
        self, stages: Sequence[Mapping[TopicPartition, int]], alone: TopicPartition | None = None
    ) -> None:
        """Merge up to these ends first, as another run did; to be called after `seek`, before `poll`.

        alone: the only partition which that run knew. It passed its records on as they came: where no stage was
        recorded, what the partition holds now is one, in front of those that merge it with others.
        Raises PositionLost where a partition ends before a stage does: the log was cut back.
        """
        short = [p for stage in stages for p, end in stage.items() if end > self._ends.get(p, 0)]
        if (
            short and self._live
        ):  # the one that recorded them may have seen more than there was when this was made
            self._ends = self._reached()
        for stage in stages:
            for partition, end in stage.items():
                if end > self._ends.get(partition, 0):
                    raise PositionLost(
                        f"topic {partition[0]!r} partition {partition[1]} ends at "
                        f"{self._ends.get(partition, 0)}, but records up to {end} were taken from it or were "
                        "about to be; it was cut back, or is another one"
                    )
        self._stages, self._begun = [dict(stage) for stage in stages], []
        for stage in self._stages:
            self._expect(stage)
        if alone is not None and not stages:
            self._start({alone: self._ends.get(alone, 0)})
        self._start(self._ends)

    def seek(self, positions: Mapping[TopicPartition, int]) -> None:
        """Go to these offsets; partitions that are not named stay where they were delivered to.

        What is merged goes up to where the partitions ended when the source was made.
        """
        self._source.seek({**self._next, **positions})
        self._restart()

    def fingerprints(self, at: Mapping[TopicPartition, int]) -> dict[TopicPartition, str | None]:
        """The source's."""
        return self._source.fingerprints(at)

    def close(self) -> None:
        """Close the source; closing twice is allowed."""
        self._source.close()
