"""What a run tells of itself: few coarse calls from the loop, to whoever wants to count, write down or show them.

The loop knows `Observer` alone. `engine.observe.metrics` counts for Prometheus, `engine.observe.logs` writes
structured lines, `engine.observe.health` says whether a process is well. What they want to know of the loop they
read from it, at most a few times a second, so that an event costs next to nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    from engine.checkpoint import Entry
    from engine.deadletters.refusal import Refusal
    from engine.evaluate.latency import Latency
    from engine.observe.absence import Absence
    from engine.observe.timers import Timers
    from engine.shard import Shard
    from streams.event import Record, TopicPartition
    from streams.protocols import Source

Change: TypeAlias = Literal["gained", "revoked", "lost"]


class Watched(Protocol):
    """What an observer reads of a loop, in the loop's own thread."""

    @property
    def name(self) -> str:
        """The shard's."""

    @property
    def shard(self) -> Shard:
        """The model and what belongs to it."""

    @property
    def source(self) -> Source:
        """Where records come from."""

    @property
    def positions(self) -> Mapping[TopicPartition, int]:
        """The next offset of every partition."""

    @property
    def latency(self) -> Latency:
        """Seconds from taking an event to its answer."""

    @property
    def timers(self) -> Timers:
        """How long the parts take."""

    @property
    def absence(self) -> Absence:
        """Whether a broker is there."""


@dataclass(frozen=True, kw_only=True)
class Saved:
    """A snapshot that is durable: which one, and the seconds that copying and writing it took."""

    entry: Entry
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Resumed:
    """Where a run begins.

    entry: the snapshot it goes on from; None for a first run. again: answers that were given after it and will be
    given once more. notes: what is worth saying about it.
    """

    entry: Entry | None
    again: int = 0
    notes: Sequence[str] = ()


class Observer(Protocol):
    """Is told what happens in a process with one or more loops; every call returns soon and raises nothing.

    Of a loop it is told in the loop's thread, and `resumed` first.
    """

    def resumed(self, loop: Watched, how: Resumed) -> None:
        """The loop has found where it begins; again where it goes back to a snapshot."""

    def turned(self, loop: Watched, records: Sequence[Record]) -> None:
        """The loop has polled and taken these records; none where nothing came."""

    def refused(self, loop: Watched, refusal: Refusal) -> None:
        """A record could not be used."""

    def saved(self, loop: Watched, what: Saved) -> None:
        """A snapshot is durable."""

    def stopped(self, loop: Watched, reason: str) -> None:
        """The loop takes no more records: "finished", "stopped", or what went wrong."""

    def rebalanced(self, change: Change, shards: Sequence[str]) -> None:
        """This process has gained shards, had them revoked, or lost them."""

    def waiting(self, reason: str) -> None:
        """The process is well and has nothing to do: it stands by, or waits for what it needs."""


class Silent:
    """Observes nothing."""

    def resumed(self, loop: Watched, how: Resumed) -> None:
        """Nothing."""

    def turned(self, loop: Watched, records: Sequence[Record]) -> None:
        """Nothing."""

    def refused(self, loop: Watched, refusal: Refusal) -> None:
        """Nothing."""

    def saved(self, loop: Watched, what: Saved) -> None:
        """Nothing."""

    def stopped(self, loop: Watched, reason: str) -> None:
        """Nothing."""

    def rebalanced(self, change: Change, shards: Sequence[str]) -> None:
        """Nothing."""

    def waiting(self, reason: str) -> None:
        """Nothing."""


class Several:
    """Tells all of these, in this order.

    >>> Several(Silent(), Silent()).waiting("no partition is owned")
    """

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def resumed(self, loop: Watched, how: Resumed) -> None:
        """To all."""
        for observer in self._observers:
            observer.resumed(loop, how)

    def turned(self, loop: Watched, records: Sequence[Record]) -> None:
        """To all."""
        for observer in self._observers:
            observer.turned(loop, records)

    def refused(self, loop: Watched, refusal: Refusal) -> None:
        """To all."""
        for observer in self._observers:
            observer.refused(loop, refusal)

    def saved(self, loop: Watched, what: Saved) -> None:
        """To all."""
        for observer in self._observers:
            observer.saved(loop, what)

    def stopped(self, loop: Watched, reason: str) -> None:
        """To all."""
        for observer in self._observers:
            observer.stopped(loop, reason)

    def rebalanced(self, change: Change, shards: Sequence[str]) -> None:
        """To all."""
        for observer in self._observers:
            observer.rebalanced(change, shards)

    def waiting(self, reason: str) -> None:
        """To all."""
        for observer in self._observers:
            observer.waiting(reason)
