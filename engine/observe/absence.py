"""Since when no broker answers, shard by shard, and when that begins and ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from streams.clock import SystemClock
from streams.protocols import Clock

if TYPE_CHECKING:
    from engine.observe import Watched

Turn: TypeAlias = tuple[Literal["away", "back"], float]
"""A broker has gone away or come back, and for how many seconds it had not answered."""


class Absence:
    """Remembers of every loop since when no broker answers it; asked at every turn, told of by any thread."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._since: dict[str, float] = {}

    def look(self, loop: Watched) -> Turn | None:
        """What has changed since this loop was looked at last; None for nothing."""
        away, since = loop.away(), self._since.get(loop.name)
        if away is None:
            if since is None:
                return None
            del self._since[loop.name]
            return "back", self._clock.monotonic() - since
        if since is None:
            self._since[loop.name] = self._clock.monotonic() - away
            return "away", away
        return None

    def forget(self, loop: Watched) -> None:
        """The loop has ended."""
        self._since.pop(loop.name, None)

    def seconds(self, name: str) -> float | None:
        """For how long no broker has answered the loop of this name; None where one does."""
        since = self._since.get(name)
        return None if since is None else self._clock.monotonic() - since
