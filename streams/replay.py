"""A source and a sink in memory: replay of what is known, and the doubles all others are checked against."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

from streams.codecs import encode_json
from streams.event import Event, Headers, Label, Malformed, Position, Record, TopicPartition
from streams.fingerprint import fingerprint_of


class Items(Protocol):
    """One partition in memory: a list, or anything that makes its items when a slice is asked for."""

    def __len__(self) -> int:
        """How many items there are."""

    def __getitem__(self, rows: slice, /) -> Sequence[Event | Label | Malformed]:
        """The items of rows [start, stop)."""


class ListSource:
    """A bounded source over partitions in memory; offsets are row numbers from 0.

    partitions: topic and partition → its items in order; items alone are partition 0 of the topic "events".
    It delivers one partition after the other, in sorted order; `MergedSource` orders them by time.

    >>> source = ListSource([Event(id="a", time=1.0, features={"x": 1})])
    >>> [record.item.id for record in source.poll(10)], source.exhausted
    (['a'], True)
    """

    def __init__(self, partitions: Mapping[TopicPartition, Items] | Items) -> None:
        if not isinstance(partitions, Mapping):
            partitions = {TopicPartition("events", 0): partitions}
        if not partitions:
            raise ValueError("partitions is empty; expected at least one topic and partition to read")
        self._items = {TopicPartition(*partition): partitions[partition] for partition in sorted(partitions)}
        self._next = dict.fromkeys(self._items, 0)
        self._paused: set[TopicPartition] = set()

    @property
    def exhausted(self) -> bool:
        """True once every partition has been delivered to its end."""
        return all(self._next[partition] >= len(items) for partition, items in self._items.items())

    def poll(self, max_records: int, timeout: float = 0.0) -> Sequence[Record]:
        """Up to `max_records` further records, from partitions that are not paused; never waits."""
        found: list[Record] = []
        for partition, items in self._items.items():
            start = self._next[partition]
            stop = min(len(items), start + max_records - len(found))
            if stop <= start or partition in self._paused:
                continue
            topic, number = partition
            found += [
                Record(Position(topic, number, offset), item)
                for offset, item in enumerate(items[start:stop], start)
            ]
            self._next[partition] = stop
        return found

    def positions(self) -> dict[TopicPartition, int]:
        """The next offset of every partition."""
        return dict(self._next)

    def end_offsets(self) -> dict[TopicPartition, int]:
        """Where each partition ends: the offset behind its last record."""
        return {partition: len(items) for partition, items in self._items.items()}

    def latest_offsets(self) -> dict[TopicPartition, int]:
        """As `end_offsets`; a list that has grown ends later."""
        return self.end_offsets()

    def seek(self, positions: Mapping[TopicPartition, int]) -> None:
        """Go to these offsets; ValueError names a partition or an offset that is not here."""
        for partition, offset in positions.items():
            if partition not in self._items:
                raise unknown_partition(partition, self._items)
            if not 0 <= offset <= len(self._items[partition]):
                raise ValueError(
                    f"offset {offset} of {tuple(partition)} does not exist; "
                    f"expected 0 to {len(self._items[partition])}"
                )
        self._next.update({TopicPartition(*partition): offset for partition, offset in positions.items()})

    def fingerprints(self, at: Mapping[TopicPartition, int]) -> dict[TopicPartition, str | None]:
        """The fingerprint of the item in each of these rows; None where there is no such row."""
        found: dict[TopicPartition, str | None] = {}
        for partition, offset in at.items():
            items = self._items[partition][offset : offset + 1] if partition in self._items else ()
            found[partition] = (
                fingerprint_of(Record(Position(*partition, offset), items[0])) if items else None
            )
        return found

    def pause(self, partitions: Collection[TopicPartition]) -> None:
        """Deliver nothing from these until they are resumed."""
        self._paused.update(partitions)

    def resume(self, partitions: Collection[TopicPartition]) -> None:
        """Deliver from these again."""
        self._paused.difference_update(partitions)

    def close(self) -> None:
        """Nothing to release; closing twice is allowed."""


class ListSink:
    """A sink that keeps its messages in a list of (key, value), in the form a reader would see them.

    headers: those of each message, in the same order.
    """

    def __init__(self) -> None:
        self.messages: list[tuple[str, dict[str, Any]]] = []
        self.headers: list[Headers] = []

    def write(self, key: str, value: Mapping[str, Any], headers: Headers = ()) -> None:
        """Append one message; TypeError where the value has no JSON form, as in every other sink."""
        encode_json(value)
        self.messages.append((key, dict(value)))
        self.headers.append(headers)

    def hurry(self) -> None:
        """Nothing waits."""

    def flush(self) -> None:
        """Nothing becomes more durable: this sink is memory."""

    def cursor(self) -> int:
        """How many messages stand in the list."""
        return len(self.messages)

    def rewind(self, cursor: int) -> int:
        """Drop all messages from `cursor` on, and say how many; ValueError where the list is shorter."""
        if not 0 <= cursor <= len(self.messages):
            raise ValueError(
                f"cursor is {cursor}; this sink holds {len(self.messages)} messages, expected 0 to that"
            )
        dropped = len(self.messages) - cursor
        del self.messages[cursor:], self.headers[cursor:]
        return dropped

    def close(self) -> None:
        """Nothing to release; closing twice is allowed."""

    def abandon(self) -> None:
        """Nothing waits, nothing is released."""


def unknown_partition(partition: TopicPartition, known: Collection[TopicPartition]) -> ValueError:
    """The error of a seek in a partition that a source does not read."""
    return ValueError(
        f"partition {tuple(partition)} is not read by this source; "
        f"expected one of {[tuple(name) for name in known]}"
    )
