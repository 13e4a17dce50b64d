"""`everlearn produce`: writes a stream into topics at the pace in which it happened, for a run to learn from."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.journal import Journal
    from streams.flights import FlightsLog

TELL_SECONDS = 10.0


def produce(
    broker: str | None,
    broker_config: Path | None,
    log: Path | None,
    *,
    months: Sequence[int],
    speed: float,
    limit: int | None,
    say: Callable[[str], None],
) -> None:
    """Replay the flights into a broker's topics or an embedded log, until they end or a signal comes.

    Topics are made where they are not there; see `replay_flights`. say: gets a line now and then, and the last.
    Raises StreamError's kinds, each with what to do.
    """
    from engine.stop_signals import StopSignals
    from streams.flights import EVENTS, LABELS
    from streams.flights_live import replay_flights

    next_line = time.monotonic()

    def told(flights: FlightsLog) -> None:
        nonlocal next_line
        if time.monotonic() >= next_line:
            next_line = time.monotonic() + TELL_SECONDS
            say(_standing(flights))

    with StopSignals() as stop, contextlib.closing(_journal(broker, broker_config, log)) as journal:
        journal.prepare([EVENTS, LABELS])
        with journal.log() as topics:
            events, labels = replay_flights(topics, months, speed=speed, limit=limit, stop=stop, told=told)
    say(f"wrote {events:,} events and {labels:,} labels")


def _journal(broker: str | None, broker_config: Path | None, log: Path | None) -> Journal:
    from engine.journal import BrokerJournal, EmbeddedJournal
    from streams.broker_config import read_options
    from streams.errors import StreamError

    if broker is not None and log is None:
        return BrokerJournal(broker, read_options(broker_config))
    if log is not None and broker is None:
        return EmbeddedJournal(log)
    raise StreamError("expected one of --broker ADDRESS and --log FILE")


def _standing(flights: FlightsLog) -> str:
    at = max(flights.times[flights.at_event - 1] if flights.at_event else 0.0, 0.0)
    moment = datetime.fromtimestamp(float(at), UTC).strftime("%Y-%m-%d %H:%M")
    return f"{moment} UTC: {flights.at_event:,} events and {flights.at_label:,} labels in the log"
