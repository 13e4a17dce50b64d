"""How long the parts of a run take, at a price that every event can pay: few calls are measured, for all."""

from __future__ import annotations

import time
from collections.abc import Callable

from engine.evaluate.latency import Latency
from streams.event import Event, Label, Malformed
from streams.protocols import Decode

_TOGETHER = 256  # delays that are counted at once
SAMPLED = 16  # of so many calls per event one is measured, and counted as so many


class Timer:
    """Durations of one kind; one call in `every` is measured and counts `every` times, the first among them.

    now: nanoseconds of a clock that never runs backwards.

    >>> ticks = iter(range(0, 10_000, 1_000))
    >>> timer = Timer(every=2, now=lambda: next(ticks))
    >>> for _ in range(4):
    ...     began = timer.begin()  # 0 where this call is not measured
    ...     timer.end(began)
    >>> timer.latency.count, f"{timer.latency.seconds:.6f}"
    (4, '0.000004')
    """

    __slots__ = ("_every", "_left", "_now", "latency")

    def __init__(self, every: int = 1, now: Callable[[], int] = time.perf_counter_ns) -> None:
        if every < 1:
            raise ValueError(f"every is {every}; expected at least 1")
        self.latency = Latency()
        self._every, self._left, self._now = every, 1, now

    def begin(self) -> int:
        """When this call began; 0 where it is not measured."""
        self._left -= 1
        if self._left:
            return 0
        self._left = self._every
        return self._now() or 1

    def end(self, began: int, events: int = 1) -> None:
        """The call that began then has ended; of several events each took its share of it."""
        if began:
            self.latency.add((self._now() - began) * 1e-9 / events, self._every * events)


class Timers:
    """Of one loop: decode, forecast and learn (one call in `SAMPLED`), flush of the sinks, journal of the order.

    together: forecasting and learning events that carry their labels.

    >>> timers = Timers()
    >>> began = timers.flush.begin()
    >>> timers.flush.end(began)
    >>> timers.flush.latency.count
    1
    """

    def __init__(self, now: Callable[[], int] = time.perf_counter_ns) -> None:
        self.decode = Timer(SAMPLED, now)
        self.forecast = Timer(SAMPLED, now)
        self.learn = Timer(SAMPLED, now)
        self.together = Timer(1, now)
        self.flush = Timer(1, now)
        self.journal = Timer(1, now)
        self._delay = Latency()
        self._delays: list[float] = []  # not counted yet: together they take half the time

    @property
    def delay(self) -> Latency:
        """Seconds of event time from an event to its label, of every label that is learned."""
        for seconds in self._delays:
            self._delay.add(seconds)
        self._delays.clear()
        return self._delay

    def delayed(self, seconds: float) -> None:
        """A label was learned so many seconds of event time after its event."""
        self._delays.append(seconds)
        if len(self._delays) >= _TOGETHER:
            self.delay  # noqa: B018 - counts them

    def decoding(self, decode: Decode) -> Decode:
        """The same decoder, measured."""
        timer = self.decode

        def measured(
            raw: bytes, key: bytes | None = None, timestamp: float | None = None
        ) -> Event | Label | Malformed:
            began = timer.begin()
            item = decode(raw, key, timestamp)
            timer.end(began)
            return item

        return measured
