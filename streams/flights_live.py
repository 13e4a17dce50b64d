"""The flights written into a log as if they happened now, some times faster than they did."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from streams.clock import SystemClock
from streams.flights import Appendable, FlightsLog
from streams.protocols import Clock

TICK = 0.1  # seconds between two writes


def replay_flights(
    log: Appendable,
    months: Sequence[int] = (1, 2),
    *,
    speed: float = 3600.0,
    limit: int | None = None,
    clock: Clock | None = None,
    stop: Callable[[], bool] = lambda: False,
    told: Callable[[FlightsLog], None] = lambda _: None,
) -> tuple[int, int]:
    """Write each event and label when it is due: `speed` seconds of their time pass in one of the clock's.

    The clock begins at the first flight that is not in the log yet, so that the same call goes on after a stop or
    a kill. limit: events to write, at most; the labels due by then are written too. stop: asked ten times a
    second. told: called after each write. Times stay those of 2013.
    Returns how many events and labels were written by this call.
    Raises ValueError for a speed or limit that is not above 0, StreamError where the topics hold something else.

    >>> from streams.clock import ManualClock
    >>> from streams.log import EmbeddedLog
    >>> with EmbeddedLog(":memory:") as log:
    ...     replay_flights(log, (1,), speed=600.0, limit=20, clock=ManualClock())
    (20, 0)
    """
    if not (speed > 0 and math.isfinite(speed)):
        raise ValueError(f"speed is {speed}; expected a number above 0")
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}; expected at least 1 event")
    clock = clock or SystemClock()
    flights = FlightsLog(log, months)
    size, first_event, first_label = len(flights), flights.at_event, flights.at_label
    last = size if limit is None else min(size, first_event + limit)
    start = min(
        flights.times[first_event] if first_event < size else math.inf,
        flights.known[first_label] if first_label < size else math.inf,
    )
    began = clock.monotonic()
    while not stop() and (flights.at_event < last or (last == size and flights.at_label < size)):
        now = start + (clock.monotonic() - began) * speed
        events = min(int(flights.times.searchsorted(now, side="right")), last)
        if events == last < size:
            now = min(now, flights.times[last - 1])
        labels = int(flights.known.searchsorted(now, side="right"))
        if events > flights.at_event or labels > flights.at_label:
            flights.write(events, labels)
            told(flights)
        clock.sleep(TICK)
    return flights.at_event - first_event, flights.at_label - first_label
