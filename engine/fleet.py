"""Runs the loops of all shards that this process owns, and opens and leaves them as the membership says.

    gained  → open the loop, resume from the latest snapshot
    revoked → snapshot, close, tell the membership that another may have it
    lost    → close without a snapshot

All loops are turned by one thread; whatever else a loop needs, it finds in its shard's snapshots.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from engine.checkpoint import StaleWriter
from streams.clock import SystemClock
from streams.errors import GroupError
from streams.membership import Changes, Membership
from streams.protocols import Clock

_log = logging.getLogger(__name__)


class Turns(Protocol):
    """What a fleet asks of a loop; `engine.run.Loop` gives it."""

    @property
    def exhausted(self) -> bool:
        """True once a bounded loop has taken its last record."""

    def resume(self) -> bool:
        """Take the shard over and go to its latest snapshot."""

    def turn(self, stop: Callable[[], bool], timeout: float) -> bool:
        """One poll, waiting at most `timeout` seconds, and all that comes of it; False where nothing came."""

    def snapshot(self) -> None:
        """Everything so far is durable when this returns."""

    def abandon(self) -> None:
        """Close; what came after the last snapshot is another's to learn."""

    def close(self) -> None:
        """Release connections and files after a snapshot."""


L = TypeVar("L", bound=Turns)


class Fleet(Generic[L]):
    """The loops of this process, turned one after the other.

    membership: says which shards are owned; closed at the end. open_loop: makes the loop of a shard; its
    `resume` is called here. clock: for waiting.

    An error of one loop ends the run with that error, once all other loops were snapshotted and released; its
    own shard stays as its last snapshot has it. An error of the membership abandons all loops. A loop whose
    shard another has claimed (StaleWriter) is abandoned, and it is an error only where the membership still
    names this process as the owner after its `patience`.

    >>> from streams.membership import Alone
    >>> class Three:
    ...     left = 3
    ...     exhausted = property(lambda self: self.left == 0)
    ...     def turn(self, stop, timeout):
    ...         self.left -= 1
    ...         return True
    ...     def resume(self): return False
    ...     def snapshot(self): print("snapshot")
    ...     def close(self): print("closed")
    ...     def abandon(self): print("abandoned")
    >>> Fleet(Alone(), lambda shard: Three()).run()
    snapshot
    closed
    True
    """

    def __init__(
        self, membership: Membership, open_loop: Callable[[str], L], *, clock: Clock | None = None
    ) -> None:
        self.membership = membership
        self.loops: dict[str, L] = {}
        self._open_loop = open_loop
        self._clock = clock or SystemClock()
        # shards that turned out to be another's: the error, and from when on it is one
        self._stale: dict[str, tuple[StaleWriter, float]] = {}
        self._came = False

    def run(self, stop: Callable[[], bool] = lambda: False, timeout: float = 0.2) -> bool:
        """Until all loops are exhausted (True) or `stop` says so (False); closes everything either way.

        timeout: seconds that a round without records may take.
        """
        finished = False
        try:
            while not (stop() or finished):
                self._follow(self.membership.changes())
                self._turn(stop, timeout)
                finished = bool(self.loops) and all(loop.exhausted for loop in self.loops.values())
        except BaseException as error:
            self._leave(error)
            raise
        self._leave()
        return finished

    def _follow(self, changes: Changes | None) -> None:
        if changes is not None:
            for shard in sorted(changes.lost, key=int):
                self._stale.pop(shard, None)
                self._abandon(shard)
            for shard in sorted(changes.revoked, key=int):
                self._stale.pop(shard, None)
                self._hand_over(shard)
            for shard in sorted(changes.gained, key=int):
                self._open(shard)
        for error, until in self._stale.values():
            if self._clock.monotonic() >= until:
                raise error

    def _open(self, shard: str) -> None:
        loop = self._open_loop(shard)
        try:
            loop.resume()
        except BaseException as error:
            _abandon(loop, shard)
            self._failed(shard, error)
        else:
            self.loops[shard] = loop

    def _turn(self, stop: Callable[[], bool], timeout: float) -> None:
        turning = [(shard, loop) for shard, loop in self.loops.items() if not loop.exhausted]
        if not turning:
            self._clock.sleep(0.0 if self.loops else timeout)
            return
        wait = timeout if len(turning) == 1 else 0.0 if self._came else timeout / len(turning)
        self._came = False
        for shard, loop in turning:
            if stop():
                return
            try:
                self._came |= loop.turn(stop, wait)
            except BaseException as error:
                self._abandon(shard)
                self._failed(shard, error)

    def _failed(self, shard: str, error: BaseException) -> None:
        """Raise a loop's error, unless it says that the shard is another's: the membership may yet say so."""
        if not isinstance(error, StaleWriter):
            error.add_note(f"in shard {shard}")
            raise error
        _log.warning("shard %s is another's: %s", shard, error)
        self._stale[shard] = error, self._clock.monotonic() + self.membership.patience

    def _hand_over(self, shard: str) -> None:
        loop = self.loops.pop(shard, None)
        try:
            if loop is not None:
                _keep(loop, shard)
        except StaleWriter as error:
            _log.warning("shard %s was another's before it was handed over: %s", shard, error)
        finally:
            self.membership.released(shard)

    def _abandon(self, shard: str) -> None:
        loop = self.loops.pop(shard, None)
        if loop is not None:
            _abandon(loop, shard)

    def _leave(self, error: BaseException | None = None) -> None:
        """Let all shards go, with a snapshot each where that is still ours to write, and leave the group.

        error: what the run ends with; without one, the first that comes up here is raised.
        """
        first = error
        for shard in list(self.loops):
            if isinstance(error, GroupError):
                self._abandon(shard)
                continue
            try:
                self._hand_over(shard)
            except BaseException as further:
                if first is None:
                    first = further
                    first.add_note(f"in shard {shard}")
                else:
                    first.add_note(f"and then, in shard {shard}: {further!r}")
        self.membership.close()
        if error is None and first is not None:
            raise first


def _keep(loop: Turns, shard: str) -> None:
    try:
        loop.snapshot()
    except BaseException:
        _abandon(loop, shard)
        raise
    loop.close()


def _abandon(loop: Turns, shard: str) -> None:
    try:
        loop.abandon()
    except Exception as error:  # nothing of it is needed any more
        _log.warning("while shard %s was abandoned: %s", shard, error)
