"""Two clocks: the machine's own, and one that only moves when it is told to."""

from __future__ import annotations

import time


class SystemClock:
    """The machine's clock."""

    def time(self) -> float:
        """Seconds since 1970-01-01 UTC."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds that never run backwards, from an arbitrary start."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait; nothing happens for zero or less."""
        if seconds > 0:
            time.sleep(seconds)


class ManualClock:
    """A clock in the hands of its owner: `sleep` returns at once and moves it on.

    >>> clock = ManualClock(100.0)
    >>> clock.sleep(2.5)
    >>> clock.time(), clock.monotonic()
    (102.5, 2.5)
    """

    def __init__(self, start: float = 0.0) -> None:
        self._start = start
        self._elapsed = 0.0

    def time(self) -> float:
        """Seconds since 1970-01-01 UTC: the start plus all that was advanced."""
        return self._start + self._elapsed

    def monotonic(self) -> float:
        """Seconds advanced so far."""
        return self._elapsed

    def sleep(self, seconds: float) -> None:
        """Move on by so many seconds without waiting; nothing happens for zero or less."""
        self._elapsed += max(0.0, seconds)

    def advance(self, seconds: float) -> None:
        """Move on; ValueError for a negative step."""
        if seconds < 0:
            raise ValueError(f"seconds is {seconds}; a clock only goes forward, pass 0 or more")
        self._elapsed += seconds
