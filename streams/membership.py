"""Which shards this process owns now, and what its loops must do when that changes.

    gained  → open the shard, from its latest snapshot
    revoked → finish the record, snapshot, close, then say `released`: another process waits for it
    lost    → close without a snapshot: another process may have it already

`Alone` is the membership of a process without a group; `streams.group` has the one of a consumer group.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from streams.event import TopicPartition

Shards: TypeAlias = Literal["all", "partition"]
"""How partitions become shards: one shard of all of them, or one per partition number."""


@dataclass(frozen=True)
class Changes:
    """What the caller must do now: leave what is lost, hand over what is revoked, then open what is gained.

    A shard may be lost and gained at once: it was away in between.
    """

    gained: frozenset[str] = frozenset()
    revoked: frozenset[str] = frozenset()
    lost: frozenset[str] = frozenset()


class Membership(Protocol):
    """Who owns which shard. Shards are named "0" where one holds all partitions, else by partition number.

    >>> member: Membership = Alone()
    >>> member.changes()
    Changes(gained=frozenset({'0'}), revoked=frozenset(), lost=frozenset())
    >>> print(member.changes(), sorted(member.owned()))
    None ['0']
    """

    @property
    def patience(self) -> float:
        """Seconds within which it would have heard that a shard is another's."""

    def owned(self) -> frozenset[str]:
        """The shards this process owns now; those being handed over belong to it until they are released."""

    def changes(self) -> Changes | None:
        """What must be done since the last call, None for nothing; never waits.

        To be called again and again while a loop runs: who does not ask is taken for dead.
        Raises GroupError where this process can no longer be a member; it must then leave all shards.
        """

    def released(self, shard: str) -> None:
        """The caller has let this shard go: its snapshot is durable, its answers are flushed, all is closed."""

    def commit(self, positions: Mapping[TopicPartition, int]) -> None:
        """Tell the group how far a durable snapshot has come (next offsets); for display, never used to resume.

        Never waits and never fails: what cannot be committed is counted, and the next one says more.
        """

    def close(self) -> None:
        """Leave, once everything was released; closing twice is allowed."""


class Alone:
    """A membership without a group: this process owns all shards from the start to the end.

    partitions: None for the one shard "0", else a shard for each of so many partitions.

    >>> sorted(Alone(partitions=3).changes().gained)
    ['0', '1', '2']
    """

    def __init__(self, *, partitions: int | None = None) -> None:
        if partitions is not None and partitions < 1:
            raise ValueError(f"partitions is {partitions}; expected at least 1, or None for one shard of all")
        self.patience = 0.0
        self._owned = {str(number) for number in range(partitions or 1)}
        self._told = False

    def owned(self) -> frozenset[str]:
        """All shards that were not released."""
        return frozenset(self._owned)

    def changes(self) -> Changes | None:
        """All shards at the first call, then nothing."""
        if self._told:
            return None
        self._told = True
        return Changes(gained=self.owned())

    def released(self, shard: str) -> None:
        """The shard is no longer owned."""
        self._owned.discard(shard)

    def commit(self, positions: Mapping[TopicPartition, int]) -> None:
        """Nobody asks how far it is."""

    def close(self) -> None:
        """Nothing to leave."""


class Ledger:
    """What a group has said and what the loops know of it: safe between the group's thread and theirs.

    `join`, `assign`, `revoke` and `lose` are the group's side, `take` and `release` the loops'. A change that
    was taken back before the loops heard of it is never told.

    A group's generations are numbered one by one. A member that joins says what it owns, and until the next
    generation nobody else is given that. Where one is missing, the group went on without this member: another
    may have owned its shards in between, so that they are lost, even those that come back.

    >>> ledger = Ledger()
    >>> ledger.join(0)
    >>> ledger.assign({"0", "1"}, generation=1)
    >>> print(sorted(ledger.take().gained), ledger.take())
    ['0', '1'] None
    >>> ledger.revoke({"1"}), sorted(ledger.take().revoked), ledger.waiting()
    (frozenset({'1'}), ['1'], frozenset({'1'}))
    >>> ledger.release("1")
    >>> ledger.waiting(), sorted(ledger.owned())
    (frozenset(), ['0'])
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owned: set[str] = set()
        self._waiting: set[str] = set()  # revoked, and not yet released
        self._gained: set[str] = set()  # these three: not yet told
        self._revoked: set[str] = set()
        self._lost: set[str] = set()
        self._joined = -1

    def join(self, generation: int) -> None:
        """This member is about to join; the last generation that it joined, negative where it was put out."""
        with self._lock:
            self._joined = generation
            if generation < 0:
                self._lose(self._owned)

    def assign(self, shards: Collection[str], generation: int) -> None:
        """The group has given these shards to this member, in its generation of that number."""
        with self._lock:
            if generation not in (self._joined, self._joined + 1):
                self._lose(self._owned)
            new = set(shards) - self._owned
            self._owned |= new
            self._gained |= new

    def revoke(self, shards: Collection[str]) -> frozenset[str]:
        """The group wants these back; those that a loop must release first."""
        with self._lock:
            there = self._owned & set(shards)
            unheard = there & self._gained
            self._gained -= unheard
            self._owned -= unheard
            known = there - unheard
            self._revoked |= known
            self._waiting |= known
            return frozenset(known)

    def lose(self, shards: Collection[str] | None = None) -> frozenset[str]:
        """These, or all, belong to others now; those of them that this member owned."""
        with self._lock:
            return self._lose(self._owned if shards is None else shards)

    def _lose(self, shards: Collection[str]) -> frozenset[str]:
        gone = self._owned & set(shards)
        self._lost |= gone - self._gained
        for told in (self._owned, self._waiting, self._gained, self._revoked):
            told -= gone
        return frozenset(gone)

    def take(self) -> Changes | None:
        """What the loops have not been told yet; None for nothing."""
        with self._lock:
            if not (self._gained or self._revoked or self._lost):
                return None
            changes = Changes(frozenset(self._gained), frozenset(self._revoked), frozenset(self._lost))
            for told in (self._gained, self._revoked, self._lost):
                told.clear()
            return changes

    def release(self, shard: str) -> None:
        """A loop has let this shard go; nothing happens where it was lost meanwhile."""
        with self._lock:
            for told in (self._owned, self._waiting, self._gained, self._revoked):
                told.discard(shard)

    def waiting(self) -> frozenset[str]:
        """Revoked shards that no loop has released yet."""
        with self._lock:
            return frozenset(self._waiting)

    def owned(self) -> frozenset[str]:
        """All shards of this member, those that are being handed over included."""
        with self._lock:
            return frozenset(self._owned)
