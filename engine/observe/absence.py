"""Since when no broker answers a loop, and when that begins and ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

from streams.clock import SystemClock
from streams.protocols import Clock

Turn: TypeAlias = tuple[Literal["away", "back"], float]
"""A broker has gone away or come back, and for how many seconds it had not answered."""


class Absence:
    """Of one loop, which looks once in every turn; what it saw may be read by any thread.

    away: tells for how many seconds no broker has answered; None where one does. turn: what has changed with the
    last look; None for nothing.

    >>> absence = Absence(iter([None, 9.0, 10.0, None]).__next__)
    >>> [absence.look() for _ in range(3)], absence.turn
    ([None, None, None], None)
    >>> absence.look()
    >>> absence.turn[0], absence.seconds
    ('back', None)
    """

    def __init__(self, away: Callable[[], float | None], clock: Clock | None = None) -> None:
        self.away = away
        self.turn: Turn | None = None
        self._clock = clock or SystemClock()
        self._since: float | None = None

    def look(self) -> None:
        """See whether a broker answers now."""
        away, now, since = self.away(), self._clock.monotonic(), self._since
        self.turn = None
        if away is None and since is not None:
            self._since, self.turn = None, ("back", now - since)
        elif away is not None and since is None:
            self._since, self.turn = now - away, ("away", away)

    def end(self) -> None:
        """The loop turns no more: what was seen says nothing about the next time."""
        self._since = self.turn = None

    @property
    def seconds(self) -> float | None:
        """For how long no broker has answered by now; None where one did at the last look."""
        since = self._since
        return None if since is None else self._clock.monotonic() - since
