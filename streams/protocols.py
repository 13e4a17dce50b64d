"""The edges of the engine: where events come from, where forecasts go, and what time it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from streams.event import Event, Headers, Label, Malformed, Record, TopicPartition


class Decode(Protocol):
    """How the bytes of one topic become events and labels; `streams.codecs.decode` is the usual one."""

    def __call__(
        self, raw: bytes, key: bytes | None = None, timestamp: float | None = None
    ) -> Event | Label | Malformed:
        """What the bytes hold; what cannot be read comes back as Malformed with the reason.

        key: the message's. timestamp: when the log took it, in seconds since 1970-01-01 UTC, where it says so.
        No message makes it raise. RegistryUnavailable says that what it needs for any message is not there; a
        source lets it pass and stays in front of all that the poll would have delivered.
        """


class Source(Protocol):
    """An ordered, resumable stream of records.

    A source delivers each partition's records in the order of their offsets; `positions` names, per
    partition, the next offset that `poll` will deliver, and `seek` goes back to any such mapping.

    >>> from streams.event import Event
    >>> from streams.replay import ListSource
    >>> source: Source = ListSource([Event(id=name, time=0.0, features={}) for name in "abc"])
    >>> before = source.positions()
    >>> [record.item.id for record in source.poll(2)], source.positions()
    (['a', 'b'], {TopicPartition(topic='events', partition=0): 2})
    >>> source.seek(before)
    >>> [record.item.id for record in source.poll(10)], source.exhausted
    (['a', 'b', 'c'], True)
    """

    @property
    def exhausted(self) -> bool:
        """True once a bounded source has delivered its last record; a live source never is."""

    def poll(self, max_records: int, timeout: float = 0.0) -> Sequence[Record]:
        """Up to `max_records` further records, waiting at most `timeout` seconds for the first."""

    def positions(self) -> dict[TopicPartition, int]:
        """The next offset of every partition this source reads."""

    def seek(self, positions: Mapping[TopicPartition, int]) -> None:
        """Go to these offsets; ValueError names a partition this source does not read."""

    def fingerprints(self, at: Mapping[TopicPartition, int]) -> dict[TopicPartition, str | None]:
        """The fingerprint of the record at each of these offsets (`streams.fingerprint`).

        None where no record stands there any more because it has expired. What is delivered next does not
        change. A caller that remembers the last record it took sees by it whether a log is still the same.
        """

    def close(self) -> None:
        """Release connections and files; closing twice is allowed."""


@runtime_checkable
class MayBeAway(Protocol):
    """What a source has beside the above where its broker may be away while it waits."""

    def away(self) -> float | None:
        """Seconds for which no broker has answered; None where one does. Any thread may ask."""


def away_of(source: object) -> Callable[[], float | None]:
    """How a source, whatever it is, is asked for how long its broker has been away.

    >>> from streams.replay import ListSource
    >>> away_of(ListSource([]))() is None
    True
    """
    return source.away if isinstance(source, MayBeAway) else _here


def _here() -> None:
    return None


class Sink(Protocol):
    """Where forecasts go. What is written is durable once `flush` has returned.

    >>> from streams.replay import ListSink
    >>> sink: Sink = ListSink()
    >>> sink.write("a", {"forecast": 1})
    >>> kept = sink.cursor()
    >>> sink.write("b", {"forecast": 0})
    >>> sink.rewind(kept)  # "b" will be written again
    1
    >>> sink.cursor()
    1
    """

    def write(self, key: str, value: Mapping[str, Any], headers: Headers = ()) -> None:
        """Append one message (JSON-compatible values); `key` is the event's id.

        headers: what travels beside it; a sink whose log has no headers leaves them out.
        """

    def hurry(self) -> None:
        """Let everything written so far leave soon: a sink that sends begins to, and waits for no answer.

        Raises what `flush` would, where it is known already that something was refused.
        """

    def flush(self) -> None:
        """Make everything written so far durable."""

    def cursor(self) -> Any:
        """Where the next message goes, asked after `flush`; JSON-compatible, kept in the snapshot.

        Only the sink that gave it, or one opened on the same log, can read it.
        """

    def rewind(self, cursor: Any) -> int:
        """Go back to a cursor from a snapshot: what stands behind it will be written again. How much that is.

        Local sinks drop it; a topic keeps it, and its sink does not send again what is written equal to it.
        Either way it stands there once.
        """

    def close(self) -> None:
        """Flush and release; closing twice is allowed."""

    def abandon(self) -> None:
        """Release without a flush: what waits is another's to write; allowed after `close` too."""


@runtime_checkable
class Noting(Protocol):
    """What a source has beside the above after it is opened, or a sink after `rewind`, to say what is no error.

    Whoever wraps one passes it on.
    """

    @property
    def notes(self) -> Sequence[str]:
        """What ought to be known, a sentence each."""


def notes_of(part: object) -> list[str]:
    """The notes of a source or a sink; none where it has no such thing to say.

    >>> from streams.replay import ListSink
    >>> notes_of(ListSink())
    []
    """
    return list(part.notes) if isinstance(part, Noting) else []


class Clock(Protocol):
    """Where time comes from, passed in so that tests and replay are in command of it.

    >>> from streams.clock import ManualClock
    >>> clock: Clock = ManualClock()
    >>> before = clock.monotonic()
    >>> clock.sleep(1.5)
    >>> clock.monotonic() - before
    1.5
    """

    def time(self) -> float:
        """Seconds since 1970-01-01 UTC."""

    def monotonic(self) -> float:
        """Seconds that never run backwards, for durations."""

    def sleep(self, seconds: float) -> None:
        """Wait."""
