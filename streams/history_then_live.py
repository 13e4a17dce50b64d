"""From history to what is live: one source that goes over to the topics without a gap or an overlap.

Live records follow once history is taken to its end. Live begins somewhat before that end, so that nothing is
missing, and events that history held already are taken out by id, so that nothing comes twice.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np

from streams.codecs import encode_json
from streams.event import Event, Headers, Label, Malformed, Record, TopicPartition
from streams.history import PREFIX
from streams.merge import BoundedSource, MergedSource
from streams.protocols import Sink, away_of, notes_of
from streams.replay import Items

OVERLAP = 3600.0
"""Seconds before history's end at which live begins, unless it is said otherwise."""

_PAGE = 4096
_SUPPORT = 32  # rows, or one in a hundred if that is more, whose times are near the end or later


class Row(NamedTuple):
    """A row of history: its topic and number there, the id and time in seconds that it names."""

    topic: str
    number: int
    id: str
    time: float


class Known:
    """Which events history holds, by id, and when it ends; read from it when it is first asked for.

    past: history's partitions, as `open_history` gives them. max_jump: seconds that may lie between its last
    rows, where what is before them spans no more: one row far in the future does not move its end.

    >>> rows = [Event(id=str(i), time=float(i), features={}) for i in range(9)]
    >>> known = Known({TopicPartition("history:orders", 0): [*rows, Event(id="x", time=4e9, features={})]})
    >>> known.begin, known.end, known.latest.id, known.rows
    (0.0, 8.0, 'x', 10)
    """

    def __init__(self, past: Mapping[TopicPartition, Items], *, max_jump: float = OVERLAP) -> None:
        self.past = dict(past)
        self._max_jump = max_jump
        self._ids: np.ndarray[Any, np.dtype[np.int64]] | None = None
        self._begin, self._end = np.inf, -np.inf
        self._latest: Row | None = None
        self._fingerprint = ""

    @property
    def rows(self) -> int:
        """How many rows history has."""
        return sum(map(len, self.past.values()))

    def _items(self) -> Iterator[tuple[TopicPartition, int, Event | Label | Malformed]]:
        for partition, items in sorted(self.past.items()):
            for start in range(0, len(items), _PAGE):
                for row, item in enumerate(items[start : min(start + _PAGE, len(items))], start):
                    yield partition, row, item

    def _look(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Read it, unless that was done; returns the hashes of all ids, sorted."""
        if self._ids is not None:
            return self._ids
        ids, times, digest = array("q"), array("d"), blake2b(digest_size=16)
        for partition, row, item in self._items():
            text = item.raw if isinstance(item, Malformed) else encode_json(item)
            digest.update(b"%d " % len(text) + text)
            if isinstance(item, Malformed):
                continue
            times.append(item.time)
            if self._latest is None or item.time > self._latest.time:
                self._latest = Row(partition.topic, row, item.id, item.time)
            if isinstance(item, Event):
                ids.append(_hash(item.id))
        self._fingerprint = digest.hexdigest()
        if times:
            ordered = np.sort(np.array(times))
            self._begin, self._end = float(ordered[0]), _supported_end(ordered, self._max_jump)
        self._ids = np.sort(np.array(ids, np.int64))
        return self._ids

    @property
    def begin(self) -> float:
        """The earliest event time in history, in seconds; inf where it holds nothing."""
        self._look()
        return float(self._begin)

    @property
    def end(self) -> float:
        """The latest event time in history that many rows support, in seconds; −inf where it holds nothing."""
        self._look()
        return float(self._end)

    @property
    def latest(self) -> Row | None:
        """The row with the latest event time of all, supported or not."""
        self._look()
        return self._latest

    @property
    def fingerprint(self) -> str:
        """A hash of all rows, 32 hexadecimal digits: another one where any of them was changed."""
        self._look()
        return self._fingerprint

    def __contains__(self, event: Event) -> bool:
        """Whether history held this event."""
        ids = self._look()
        if self._latest is None or event.time > self._latest.time:
            return False
        wanted = _hash(event.id)
        at = int(np.searchsorted(ids, wanted))
        return at < len(ids) and int(ids[at]) == wanted


class WithoutKnown:
    """A live source without the events that history held; a label that such an event carries comes as a label.

    It stands in front of the merge, so that the order of all else does not depend on what was taken out.
    """

    def __init__(self, source: BoundedSource, known: Known) -> None:
        self._source, self._known = source, known
        self.away = away_of(source)
        self.overlap = 0

    @property
    def exhausted(self) -> bool:
        """The source's."""
        return self._source.exhausted

    def poll(self, max_records: int, timeout: float = 0.0) -> Sequence[Record]:
        """Further records; as long as all that come are known, more are read."""
        while True:
            records = self._source.poll(max_records, timeout)
            kept = [kept for record in records if (kept := self._keep(record)) is not None]
            if kept or not records:
                return kept

    def _keep(self, record: Record) -> Record | None:
        event = record.item
        if not isinstance(event, Event) or event not in self._known:
            return record
        self.overlap += 1
        if event.label is None:
            return None
        label = Label(id=event.id, time=event.time, label=event.label, weight=event.weight)
        return Record(record.position, label, record.raw, record.key, record.headers)

    def positions(self) -> dict[TopicPartition, int]:
        """The source's."""
        return self._source.positions()

    def end_offsets(self) -> dict[TopicPartition, int]:
        """The source's."""
        return self._source.end_offsets()

    def latest_offsets(self) -> dict[TopicPartition, int]:
        """The source's."""
        return self._source.latest_offsets()

    def seek(self, positions: Mapping[TopicPartition, int]) -> None:
        """The source's."""
        self._source.seek(positions)

    def fingerprints(self, at: Mapping[TopicPartition, int]) -> dict[TopicPartition, str | None]:
        """The source's."""
        return self._source.fingerprints(at)

    def pause(self, partitions: Collection[TopicPartition]) -> None:
        """The source's."""
        self._source.pause(partitions)

    def resume(self, partitions: Collection[TopicPartition]) -> None:
        """The source's."""
        self._source.resume(partitions)

    def close(self) -> None:
        """The source's."""
        self._source.close()


class HistoryThenLive:
    """History to its end, by event time, and then what is live.

    history: bounded, its topics all beginning with PREFIX. live: the topics, through WithoutKnown. notes: what
    is worth saying about where live begins.

    >>> from streams.replay import ListSource
    >>> past = [Event(id=str(i), time=float(i), features={}) for i in range(3)]
    >>> now = [Event(id=str(i), time=float(i), features={}) for i in range(2, 5)]
    >>> history = {TopicPartition("history:orders", 0): past}
    >>> live = WithoutKnown(ListSource({TopicPartition("orders", 0): now}), Known(history))
    >>> both = HistoryThenLive(MergedSource(ListSource(history)), MergedSource(live))
    >>> [record.item.id for _ in range(2) for record in both.poll(10)]
    ['0', '1', '2', '3', '4']
    """

    def __init__(self, history: MergedSource, live: MergedSource, notes: Sequence[str] = ()) -> None:
        self._history, self._live, self.notes = history, live, list(notes)
        self.away = live.away

    @property
    def exhausted(self) -> bool:
        """True once history and a bounded live source were delivered."""
        return self._history.exhausted and self._live.exhausted

    def poll(self, max_records: int, timeout: float = 0.0) -> Sequence[Record]:
        """Further records of history, or else of what is live."""
        if not self._history.exhausted:
            records = self._history.poll(max_records, timeout)
            if records:
                return records
        return self._live.poll(max_records, timeout) if self._history.exhausted else []

    def positions(self) -> dict[TopicPartition, int]:
        """The next offset of every partition, history's among them."""
        return {**self._history.positions(), **self._live.positions()}

    def latest_offsets(self) -> dict[TopicPartition, int]:
        """Where each partition ends now."""
        return {**self._history.latest_offsets(), **self._live.latest_offsets()}

    def seek(self, positions: Mapping[TopicPartition, int]) -> None:
        """Go to these offsets."""
        past, now = _split(positions)
        self._history.seek(past)
        self._live.seek(now)

    def fingerprints(self, at: Mapping[TopicPartition, int]) -> dict[TopicPartition, str | None]:
        """The fingerprint of the record at each of these offsets."""
        past, now = _split(at)
        return {**self._history.fingerprints(past), **self._live.fingerprints(now)}

    def stages(self) -> list[dict[TopicPartition, int]]:
        """The ends up to which records are merged, history's first."""
        return [*self._history.stages(), *self._live.stages()]

    def begun(self) -> list[dict[TopicPartition, int]]:
        """The stages that were begun since this was asked last."""
        return [*self._history.begun(), *self._live.begun()]

    def follow(
        self, stages: Sequence[Mapping[TopicPartition, int]], alone: TopicPartition | None = None
    ) -> None:
        """Merge up to these ends first; to be called after `seek`."""
        parts = [_split(stage) for stage in stages]
        self._history.follow([past for past, _ in parts if past])
        self._live.follow([now for _, now in parts if now], alone)

    def close(self) -> None:
        """Close both; closing twice is allowed."""
        self._history.close()
        self._live.close()


class LiveAnswers:
    """A sink that lets the answers for live events pass; those for history's go nowhere."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def write(self, key: str, value: Mapping[str, Any], headers: Headers = ()) -> None:
        """Pass on what was not answered for an event of history."""
        if not str(value.get("topic", "")).startswith(PREFIX):
            self._sink.write(key, value, headers)

    def hurry(self) -> None:
        """The sink's."""
        self._sink.hurry()

    def flush(self) -> None:
        """The sink's."""
        self._sink.flush()

    def cursor(self) -> Any:
        """The sink's."""
        return self._sink.cursor()

    def rewind(self, cursor: Any) -> int:
        """The sink's."""
        return self._sink.rewind(cursor)

    @property
    def notes(self) -> list[str]:
        """The sink's."""
        return notes_of(self._sink)

    def close(self) -> None:
        """The sink's."""
        self._sink.close()

    def abandon(self) -> None:
        """The sink's."""
        self._sink.abandon()


def _split(
    offsets: Mapping[TopicPartition, int],
) -> tuple[dict[TopicPartition, int], dict[TopicPartition, int]]:
    """History's partitions, and the others."""
    past = {p: offset for p, offset in offsets.items() if p[0].startswith(PREFIX)}
    return past, {p: offset for p, offset in offsets.items() if p not in past}


def _supported_end(times: np.ndarray[Any, np.dtype[np.float64]], max_jump: float) -> float:
    """The latest of ascending times to which no gap leads that is wider than all before it and than max_jump."""
    later = min(len(times) // 2, max(_SUPPORT, len(times) // 100))
    middle = len(times) - 1 - later
    jump = max(max_jump, float(times[middle] - times[later // 2]))
    wide = np.flatnonzero(np.diff(times[middle:]) > jump)
    return float(times[middle + wide[0]] if len(wide) else times[-1])


def _hash(id: str) -> int:
    return int.from_bytes(blake2b(id.encode(errors="replace"), digest_size=8).digest(), "little", signed=True)
