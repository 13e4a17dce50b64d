"""A part of a source: up to a position or a time, as fast as it can be read or at a pace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from streams.clock import SystemClock
from streams.event import Malformed, Position, Record, TopicPartition
from streams.protocols import Clock, Source


class Ordered(Source, Protocol):
    """A source with an order over its partitions: `MergedSource`, or `HistoryThenLive`."""

    def stages(self) -> list[dict[TopicPartition, int]]:
        """The ends up to which records are merged, one after the other."""

    def begun(self) -> list[dict[TopicPartition, int]]:
        """The stages that were begun since this was asked last."""

    def follow(
        self, stages: Sequence[Mapping[TopicPartition, int]], alone: TopicPartition | None = None
    ) -> None:
        """Merge up to these ends first; to be called after `seek`."""


class Stretch:
    """What a merged source delivers, up to a place in its order.

    until: ends in front of the record at this position, or in front of the first behind it where a log has gaps.
    before: ends in front of the first record of this event time or later. speed: event time runs so many times
    as fast as the clock's, from the first record on; None: as fast as it can be read. What cannot be read as an
    event or label has no time of its own and comes with what is before it.

    >>> from streams.event import Event
    >>> from streams.merge import MergedSource
    >>> from streams.replay import ListSource
    >>> events = [Event(id=name, time=float(i), features={}) for i, name in enumerate("abcd")]
    >>> part = Stretch(MergedSource(ListSource(events)), until=Position("events", 0, 2))
    >>> [record.item.id for record in part.poll(10)], part.exhausted, part.reached
    (['a', 'b'], True, True)
    """

    def __init__(
        self,
        source: Ordered,
        *,
        until: Position | None = None,
        before: float | None = None,
        speed: float | None = None,
        clock: Clock | None = None,
    ) -> None:
        if speed is not None and not speed > 0:
            raise ValueError(f"speed is {speed}; expected above 0, or None for full speed")
        self._source, self._until, self._before = source, until, before
        self._speed, self._clock = speed, clock or SystemClock()
        self._forget()

    def _forget(self) -> None:
        self._read: list[Record] = []  # and not due yet
        self._over = False
        self._began: tuple[float, float] | None = None  # event time and the clock's

    @property
    def exhausted(self) -> bool:
        """True once the last record in front of the end was delivered."""
        return not self._read and (self._over or self._source.exhausted)

    @property
    def reached(self) -> bool:
        """Whether the end that was asked for was come to; where none was, True."""
        if self._over or (self._until is None and self._before is None):
            return True
        if self._until is None:
            return False
        topic, number, offset = self._until
        return self._source.positions().get(TopicPartition(topic, number), 0) >= offset

    def poll(self, max_records: int, timeout: float = 0.0) -> Sequence[Record]:
        """Up to `max_records` further records; waits up to `timeout` seconds for one that is due."""
        if not self._read and not self._over:
            self._read = list(self._source.poll(max_records, timeout))
            for i, record in enumerate(self._read):
                if self._ends(record):
                    self._over = True
                    del self._read[i:]
                    break
        due = self._due(timeout)
        found, self._read = self._read[: min(due, max_records)], self._read[min(due, max_records) :]
        return found

    def _ends(self, record: Record) -> bool:
        if self._until is not None and record.position[:2] == self._until[:2]:
            return record.position.offset >= self._until.offset
        timed = not isinstance(record.item, Malformed)
        return self._before is not None and timed and record.item.time >= self._before

    def _due(self, timeout: float) -> int:
        """How many of what was read may be delivered now."""
        if self._speed is None or not self._read:
            return len(self._read)
        timed = [record for record in self._read if not isinstance(record.item, Malformed)]
        if self._began is None and timed:
            self._began = timed[0].item.time, self._clock.monotonic()
        if self._began is None:
            return len(self._read)
        event, clock = self._began
        waits = [
            0.0 if isinstance(r.item, Malformed) else clock + (r.item.time - event) / self._speed
            for r in self._read
        ]
        self._clock.sleep(min(timeout, waits[0] - self._clock.monotonic()))
        now = self._clock.monotonic()
        return next((i for i, wait in enumerate(waits) if wait > now), len(waits))

    def positions(self) -> dict[TopicPartition, int]:
        """The source's, which may have read ahead."""
        return self._source.positions()

    def seek(self, positions: Mapping[TopicPartition, int]) -> None:
        """Go to these offsets."""
        self._forget()
        self._source.seek(positions)

    def stages(self) -> list[dict[TopicPartition, int]]:
        """The source's."""
        return self._source.stages()

    def begun(self) -> list[dict[TopicPartition, int]]:
        """The source's."""
        return self._source.begun()

    def follow(
        self, stages: Sequence[Mapping[TopicPartition, int]], alone: TopicPartition | None = None
    ) -> None:
        """Merge up to these ends first; to be called after `seek`."""
        self._source.follow(stages, alone)

    def fingerprints(self, at: Mapping[TopicPartition, int]) -> dict[TopicPartition, str | None]:
        """The source's."""
        return self._source.fingerprints(at)

    def close(self) -> None:
        """Close the source; closing twice is allowed."""
        self._source.close()
