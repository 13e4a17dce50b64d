"""The flights as they happen: nothing before it is due, and the same topics however often it is stopped."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from streams.broker import KafkaLog, ensure_topics
from streams.clock import ManualClock
from streams.flights import EVENTS, LABELS, FlightsLog, flights_table, write_flights
from streams.flights_live import replay_flights
from streams.log import EmbeddedLog
from streams.log_source import LogSource


def contents(log: EmbeddedLog, topic: str, n: int) -> list[Any]:
    source = LogSource(log, [topic], start="beginning", bounded=True)
    return [record.item for record in source.poll(n)]


def test_everything_is_written_when_it_is_due_and_not_before() -> None:
    clock, speed = ManualClock(), 600.0
    seen = []

    def told(flights: FlightsLog) -> None:
        now = flights.times[0] + clock.monotonic() * speed
        assert flights.times[flights.at_event - 1] <= now
        assert flights.at_event == len(flights.times) or flights.times[flights.at_event] > now
        assert (
            flights.at_label == 0
            or flights.known[flights.at_label - 1] <= now < flights.known[flights.at_label]
        )
        seen.append(flights.at_event)

    with EmbeddedLog(":memory:") as log:
        replay_flights(log, (1,), speed=speed, clock=clock, told=told, stop=lambda: len(seen) >= 200)
    assert len(seen) == 200
    assert seen[-1] > 200
    day = 86400.0 / speed
    assert 0.2 * day < clock.monotonic() < 2 * day


def test_stopped_and_called_again_it_leaves_the_topics_that_one_call_leaves() -> None:
    with EmbeddedLog(":memory:") as parts, EmbeddedLog(":memory:") as whole:
        write_flights(whole, (1,))
        for limit in (1, 30, 400):
            replay_flights(parts, (1,), speed=3e4, limit=limit, clock=ManualClock())
        asked = iter(range(12))
        replay_flights(parts, (1,), speed=3e4, clock=ManualClock(), stop=lambda: next(asked, None) is None)
        events, labels = parts.end_offset(EVENTS), parts.end_offset(LABELS)
        assert events > 431
        assert 0 < labels < events
        assert contents(parts, EVENTS, events) == contents(whole, EVENTS, events)
        assert contents(parts, LABELS, labels) == contents(whole, LABELS, labels)


def test_the_last_label_ends_it() -> None:
    with EmbeddedLog(":memory:") as log:
        write_flights(log, (1,))
        assert replay_flights(log, (1,), clock=ManualClock()) == (0, 0)
    with EmbeddedLog(":memory:") as log:
        size = len(flights_table((1,)))
        assert replay_flights(log, (1,), speed=1e6, clock=ManualClock()) == (size, size)


@pytest.mark.parametrize(
    ("options", "words"), [({"speed": 0.0}, "speed is 0.0"), ({"limit": 0}, "limit is 0")]
)
def test_what_cannot_be_is_told(options: dict[str, Any], words: str) -> None:
    with EmbeddedLog(":memory:") as log, pytest.raises(ValueError, match=words):
        replay_flights(log, (1,), **options)


def test_the_command_writes_into_an_embedded_log_and_goes_on_there(tmp_path: Path) -> None:
    def produce(*options: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "engine.cli", "produce", "flights", "--speed", "36000", *options],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    path = tmp_path / "log.sqlite"
    for _ in range(2):
        code, text = produce("--log", str(path), "--limit", "40")
        assert code == 0, text
        assert "wrote 40 events" in text
    with EmbeddedLog(path) as log:
        assert log.end_offset(EVENTS) == 80
    assert produce()[0] == 2
    assert produce("--speed", "0", "--log", str(path))[0] == 2


@pytest.mark.kafka
def test_a_broker_takes_it_as_the_embedded_log_does(broker: str, topic: Callable[[str], str]) -> None:
    names = {EVENTS: topic("events"), LABELS: topic("labels")}

    class Renamed(KafkaLog):
        """Under names that no other test uses."""

        def _partition(self, name: str, partition: int) -> Any:
            return super()._partition(names.get(name, name), partition)

        def append_many(self, name: str, partition: int, rows: Any, *, at: int | None = None) -> int:
            return super().append_many(names.get(name, name), partition, rows, at=at)

    ensure_topics(broker, dict.fromkeys(names.values(), 1))
    log = Renamed(broker)
    try:
        for _ in range(2):
            replay_flights(log, (1,), speed=1e6, limit=60, clock=ManualClock())
        assert log.end_offset(EVENTS) == 120
        assert log.last_key(EVENTS) == flights_table((1,)).ids()[119]
    finally:
        log.close()
