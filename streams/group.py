"""Membership by a consumer group of a broker: who owns which shard is what the group says.

The group decides about ownership alone. A consumer of its own subscribes to the events' topic, with every
partition paused, so that no record comes through it; loops read by other consumers at positions of their
snapshots. It is polled by a thread of its own, so that a long step, a snapshot or a compilation in the loop
never gets the process evicted.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from streams.broker import CONNECT, connect_consumer, partitions_of
from streams.clients import Options
from streams.errors import BrokerConfigError, FencedMember, GroupError, StreamError, UnequalPartitions
from streams.event import TopicPartition
from streams.membership import Changes, Ledger, Shards

if TYPE_CHECKING:
    from kafka import KafkaConsumer

_log = logging.getLogger(__name__)

STALL = 900.0  # seconds without a call of `changes` after which a process is taken for hung
_POLL = 0.2  # seconds that one poll of the group's consumer waits
_LOOK = 0.02  # seconds between two looks at whether a revoked shard was released
_AGAIN = 1.0  # seconds before another try to connect
_LEAVE = 5.0  # seconds that leaving the group may take


class GroupMembership:
    """Owns the shards that a consumer group assigns to this process.

    bootstrap: "host:port" of a broker, or several joined by commas. group: the group's name. events: the
    topic whose partitions decide: in mode "all" the owner of partition 0 owns the one shard "0" and other
    members stand by, in mode "partition" the owner of partition k owns shard k. topics: all input topics; in
    mode "partition" they must have equally many partitions.
    instance: this member's permanent name; None: the machine's. A process that is started again under its
    name within the session's timeout has its shards back at once, nobody else notices; one that stays away
    loses them only then. static=False: no such name; leaving hands over at once, and so does every restart.
    options: settings by kafka-python's names; `session_timeout_ms` (45,000) is how long a member may be
    silent, `max_poll_interval_ms` (300,000) how long the others wait for one that hands over.
    hand_over: seconds a loop may take to release what is revoked, before it counts as lost; None: four fifths
    of `max_poll_interval_ms`. stall: seconds without a call of `changes` after which this process leaves.

    Raises BrokerUnavailable, BrokerConfigError, UnknownStream for a topic that is not there, UnequalPartitions.

    With `address` that of a broker, and `readings` the name of a new topic:

    >>> import time
    >>> from streams.broker import ensure_topics
    >>> ensure_topics(address, {readings: 1})
    >>> member = GroupMembership(address, "learners", readings)
    >>> while not (changes := member.changes()):
    ...     time.sleep(0.01)
    >>> sorted(changes.gained)
    ['0']
    >>> member.released("0")
    >>> member.close()
    """

    def __init__(
        self,
        bootstrap: str,
        group: str,
        events: str,
        *,
        topics: Sequence[str] = (),
        shards: Shards = "all",
        instance: str | None = None,
        static: bool = True,
        options: Options = None,
        hand_over: float | None = None,
        stall: float = STALL,
        timeout: float = CONNECT,
    ) -> None:
        if shards not in ("all", "partition"):
            raise ValueError(f"shards is {shards!r}; expected 'all' or 'partition'")
        if not group:
            raise ValueError("group is empty; expected the name of a consumer group")
        settings = dict(options or {})
        limit = settings.setdefault("max_poll_interval_ms", 300_000) / 1000
        self.hand_over = 0.8 * limit if hand_over is None else hand_over
        if not 0 < self.hand_over < limit:
            raise ValueError(
                f"hand_over is {hand_over} s; expected above 0 and below max_poll_interval_ms, {limit:g} s"
            )
        self.patience = settings.get("session_timeout_ms", 45_000) / 1000
        self.instance = (instance or socket.gethostname()) if static else None
        self.rebalances = self.revoked = self.lost = self.uncommitted = 0  # how often, for whoever observes
        self._bootstrap, self._group, self._events = bootstrap, group, events
        self._topics = sorted({events, *topics})
        self._shards, self._stall, self._timeout = shards, stall, timeout
        settings.setdefault("reconnect_backoff_max_ms", 1000)  # a broker that is back must be heard in time
        settings.setdefault("heartbeat_interval_ms", 1000)  # so long a shard may wait for its new owner
        self._settings = settings | {"group_id": group, "group_instance_id": self.instance}
        self._ledger = Ledger()
        self._partitions: frozenset[tuple[str, int]] = frozenset()  # of this member, whatever the mode
        self._commits: dict[TopicPartition, int] = {}
        self._lock = threading.Lock()  # over the commits
        self._closing = threading.Event()
        self._error: StreamError | None = None
        self._asked = time.monotonic()
        consumer = self._connect()
        try:
            self._count = self._partition_count(consumer)
        except BaseException:
            consumer.close(autocommit=False)
            raise
        self._thread = threading.Thread(
            target=self._run, args=(consumer,), name=f"everlearn-group-{group}", daemon=True
        )
        self._thread.start()

    def owned(self) -> frozenset[str]:
        """The shards of this process; those being handed over belong to it until they are released."""
        return self._ledger.owned()

    def changes(self) -> Changes | None:
        """What the loops must do now; GroupError, FencedMember among them, where this process is out for good."""
        self._asked = time.monotonic()
        if self._error is not None:
            raise self._error
        return self._ledger.take()

    def released(self, shard: str) -> None:
        """A loop has let this shard go."""
        self._ledger.release(shard)

    def commit(self, positions: Mapping[TopicPartition, int]) -> None:
        """Queued; what the broker does not take is counted in `uncommitted` and logged."""
        with self._lock:
            self._commits.update(positions)

    def close(self) -> None:
        """Leave the group; a static member only disconnects, and keeps its place for the session's timeout."""
        self._closing.set()
        self._thread.join(_LEAVE + self._timeout)

    def _connect(self) -> KafkaConsumer:
        from streams.assignor import StickyRange

        assignor = StickyRange(lambda: self._claim(consumer), self._assign)
        consumer = connect_consumer(
            self._bootstrap,
            timeout=self._timeout,
            options=self._settings | {"partition_assignment_strategy": (assignor,)},
        )
        return consumer

    def _partition_count(self, consumer: KafkaConsumer) -> int:
        """How many partitions the events' topic has; in mode "partition" all others must have as many."""
        counts = {topic: len(partitions_of(consumer, self._bootstrap, topic)) for topic in self._topics}
        if self._shards == "partition" and len(set(counts.values())) > 1:
            listed = ", ".join(f"{topic} {count}" for topic, count in counts.items())
            raise UnequalPartitions(
                f"shards is 'partition', but the topics at {self._bootstrap} have different numbers of "
                f"partitions: {listed}; expected equal ones. Add partitions, the events' topic last, or use "
                "shards = 'all'"
            )
        return counts[self._events]

    # The thread: one session after the other, each with a consumer of its own.

    def _run(self, consumer: KafkaConsumer | None) -> None:
        while True:
            try:
                consumer = consumer or self._connect()
                self._session(consumer)
            except Exception as error:
                self._error = _final(error, self._bootstrap, self._group, self.instance)
                if self._error is None:
                    _log.warning("group %s: %s; joining anew", self._group, error)
            finally:
                self._lose()
                if consumer is not None:
                    _leave(consumer)
                consumer = None
            if self._error is not None or self._closing.wait(_AGAIN):
                return
            while self._stalled():
                if self._closing.wait(_POLL):
                    return

    def _session(self, consumer: KafkaConsumer) -> None:
        from kafka.errors import KafkaError

        consumer.subscribe([self._events], listener=_listener(self, consumer))
        troubled = False
        while not self._closing.is_set():
            if self._stalled():
                _log.error(
                    "group %s: the loop has not asked for changes for %.0f s; this process leaves, so that "
                    "another can take its shards",
                    self._group,
                    self._stall,
                )
                return
            try:
                consumer.poll(timeout_ms=int(1000 * _POLL))
                if len(consumer.partitions_for_topic(self._events) or ()) > self._count:
                    self._count = self._partition_count(consumer)
                troubled = False
            except KafkaError as error:  # while a broker is away its group waits, and so does this member
                if _final(error, self._bootstrap, self._group, self.instance) is not None:
                    raise
                if not troubled:
                    _log.warning("group %s: %s; trying on", self._group, error)
                troubled = True
                self._closing.wait(_POLL)
            _notice(consumer)
            self._send_commits(consumer)
        self._send_commits(consumer, wait=True)

    def _stalled(self) -> bool:
        return time.monotonic() - self._asked > self._stall

    def _of(self, partitions: Collection[tuple[str, int]]) -> set[str]:
        """The shards that go with these partitions of the events' topic."""
        numbers = {number for _, number in partitions}
        return {str(n) for n in numbers} if self._shards == "partition" else {"0"} if 0 in numbers else set()

    def _claim(self, consumer: KafkaConsumer) -> frozenset[tuple[str, int]]:
        """What this member owns, said whenever it joins."""
        generation = consumer.group_metadata().generation_id
        if generation < 0:
            self._partitions = frozenset()
        self._ledger.join(generation)
        return self._partitions

    def _assign(self, partitions: Collection[tuple[str, int]], generation: int) -> None:
        self.rebalances += 1
        self._partitions = frozenset((topic, number) for topic, number in partitions)
        self._ledger.assign(self._of(partitions), generation)

    def _lose(self, partitions: Collection[tuple[str, int]] | None = None) -> None:
        """Nothing of this was handed over: whoever has it now begins at the last snapshot."""
        self._partitions = frozenset() if partitions is None else self._partitions - {*partitions}
        gone = self._ledger.lose(None if partitions is None else self._of(partitions))
        if gone and not self._closing.is_set():  # a member that leaves has released all it had
            self.lost += len(gone)
            with self._lock:
                self._commits.clear()
            _log.warning("group %s: lost the shards %s", self._group, ", ".join(sorted(gone)))

    async def _hand_over(self, consumer: KafkaConsumer, partitions: Collection[tuple[str, int]]) -> None:
        """Wait until the loops have released these; runs in the client's own thread, heartbeats go on."""
        asked = self._ledger.revoke(self._of(partitions))
        self.revoked += len(asked)
        until = time.monotonic() + self.hand_over
        while (late := self._ledger.waiting() & asked) and time.monotonic() < until:
            if self._closing.is_set() or self._stalled():
                break
            await consumer._net.sleep(_LOOK)  # the client offers no public way to wait in a listener
        self._send_commits(consumer)
        if late:
            _log.error(
                "group %s: shards %s were not handed over in time", self._group, ", ".join(sorted(late))
            )
            self._lose([(topic, number) for topic, number in partitions])

    def _send_commits(self, consumer: KafkaConsumer, *, wait: bool = False) -> None:
        from kafka import OffsetAndMetadata
        from kafka import TopicPartition as KafkaPartition

        with self._lock:
            positions, self._commits = self._commits, {}
        if not positions:
            return
        offsets = {KafkaPartition(*where): OffsetAndMetadata(at) for where, at in positions.items()}
        if not wait:
            consumer.commit_async(offsets, callback=self._committed)
            return
        try:
            consumer.commit(offsets, timeout_ms=int(1000 * _LEAVE))
        except Exception as error:
            self._committed(offsets, error)

    def _committed(self, offsets: Mapping[Any, Any], result: object) -> None:
        if isinstance(result, Exception):
            self.uncommitted += 1
            _log.warning("group %s: offsets were not committed (%s)", self._group, result)


def _listener(member: GroupMembership, consumer: KafkaConsumer) -> Any:
    """What the client tells about partitions, passed on to the member."""
    from kafka import AsyncConsumerRebalanceListener

    class Listener(AsyncConsumerRebalanceListener):  # type: ignore[misc]  # kafka-python carries no types
        async def on_partitions_assigned(self, assigned: Collection[Any]) -> None:
            for partition in assigned:  # a position, so that the client looks for none; and no data
                consumer.seek(partition, 0)
                consumer.pause(partition)

        async def on_partitions_revoked(self, revoked: Collection[Any]) -> None:
            await member._hand_over(consumer, revoked)

        async def on_partitions_lost(self, lost: Collection[Any]) -> None:
            member._lose(lost)

    return Listener()


def _notice(consumer: KafkaConsumer) -> None:
    """Two things that kafka-python 3.0 passes over between two polls.

    A heartbeat that is told that another has this instance name ends all heartbeats, while the client takes
    itself for a member: raised here. A join that began because the topic had changed is forgotten where a poll
    ends before the broker's answer: the client would be silent for ever, so it is told to go on joining.
    """
    from kafka.errors import FencedInstanceIdError

    coordinator = consumer._coordinator
    if coordinator.stable() and not coordinator._heartbeat_enabled:
        raise FencedInstanceIdError
    if coordinator.rejoining and not coordinator.need_rejoin():
        coordinator.request_rejoin()


def _leave(consumer: KafkaConsumer) -> None:
    try:
        consumer.close(autocommit=False, timeout_ms=int(1000 * _LEAVE))
    except Exception as error:  # a broker that is gone is left as well
        _log.warning("while a consumer was closed: %s", error)


def _final(error: Exception, bootstrap: str, group: str, instance: str | None) -> StreamError | None:
    """The error for whoever runs the loops; None where joining anew may help."""
    from kafka.errors import (
        BrokerResponseError,
        FencedInstanceIdError,
        IllegalGenerationError,
        KafkaError,
        UnknownMemberIdError,
    )

    if isinstance(error, FencedInstanceIdError):
        return FencedMember(
            f"another process runs as instance {instance!r} of group {group!r}; give each its own "
            "name (source.instance, or EVERLEARN_SOURCE__INSTANCE)"
        )
    if isinstance(error, BrokerConfigError | UnequalPartitions):
        return error
    passing = isinstance(error, IllegalGenerationError | UnknownMemberIdError)
    if isinstance(error, BrokerResponseError) and not error.retriable and not passing:
        return GroupError(
            f"the broker at {bootstrap} refuses this member of group {group!r} ({error}); check that this client "
            "may use the group, that all its members are of this kind, and session_timeout_ms"
        )
    if isinstance(error, KafkaError | StreamError | OSError):
        return None
    return GroupError(f"membership of group {group!r} at {bootstrap} failed: {error!r}")
