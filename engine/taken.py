"""How far every partition was taken, and by which record it can be seen that a log is still the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from streams.errors import LogChanged
from streams.event import Record, TopicPartition
from streams.fingerprint import fingerprint_of
from streams.protocols import Source


class Taken:
    """The next offset of every partition, and offset and fingerprint of the last record that was taken of it.

    >>> from streams.event import Event, Position
    >>> taken = Taken({TopicPartition("events", 0): 7})
    >>> taken.add(Record(Position("events", 0, 7), Event(id="a", time=0.0, features={})))
    >>> taken.next
    {TopicPartition(topic='events', partition=0): 8}
    >>> taken.state()
    {'positions': [['events', 0, 8]], 'last': [['events', 0, 7, '28be6361fd61d8f6']]}
    """

    def __init__(self, positions: Mapping[TopicPartition, int]) -> None:
        self.next = dict(positions)
        self._last: dict[TopicPartition, tuple[int, str]] = {}
        self._records: dict[TopicPartition, Record] = {}  # of which no fingerprint is made yet
        self._at = TopicPartition("", 0)  # of the record before, which is mostly that of the next one

    def add(self, record: Record) -> None:
        """This record was taken."""
        topic, number, offset = record.position
        partition = self._at
        if partition[1] != number or partition[0] != topic:
            partition = self._at = TopicPartition(topic, number)
        self.next[partition] = offset + 1
        self._records[partition] = record

    def state(self) -> dict[str, Any]:
        """Positions and last records, ready for JSON."""
        self._last |= {
            p: (taken.position.offset, fingerprint_of(taken)) for p, taken in self._records.items()
        }
        self._records.clear()
        last = [[*partition, *last] for partition, last in sorted(self._last.items())]
        return {"positions": listed(self.next), "last": last}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Taken:
        """What `state` described."""
        self = cls(offsets(state["positions"]))
        self._last = {TopicPartition(t, number): (offset, mark) for t, number, offset, mark in state["last"]}
        return self

    def compare(self, source: Source, where: str) -> list[str]:
        """Whether the source still holds the last records; notes on those that have expired.

        where: what the positions were read from. Raises LogChanged where another record stands in place of one.
        """
        found = source.fingerprints({partition: offset for partition, (offset, _) in self._last.items()})
        notes = []
        for partition, (offset, mark) in self._last.items():
            topic, number = partition
            if found[partition] is None:
                notes.append(
                    f"topic {topic!r} partition {number}: the record at {offset}, the last one taken, has "
                    "expired; it cannot be seen whether the log is still the same"
                )
            elif found[partition] != mark:
                raise LogChanged(
                    f"topic {topic!r} partition {number} holds another record at {offset} than the one that "
                    f"{where} was written after: the log was cut back and written anew, or is another one. "
                    "Attach to the log it was, or begin anew with an empty folder for snapshots"
                )
        return notes


def listed(positions: Mapping[TopicPartition, int]) -> list[list[Any]]:
    """Positions, ready for JSON.

    >>> listed({TopicPartition("events", 0): 7})
    [['events', 0, 7]]
    """
    return [[*partition, offset] for partition, offset in sorted(positions.items())]


def offsets(rows: Sequence[Sequence[Any]]) -> dict[TopicPartition, int]:
    """What `listed` was given."""
    return {TopicPartition(topic, partition): offset for topic, partition, offset in rows}
