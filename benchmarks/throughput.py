"""What an event costs in one process from topic to topic, beside a bare client and the learner alone."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import get_args

from benchmarks.brokers import a_broker, called
from benchmarks.loops import Turn, bare_loop, engine_loop, learn_all
from benchmarks.tables import Findings
from engine import OnlineClassifier
from engine.attach import spare_the_collector
from engine.learner import warmup
from streams.broker import KafkaLog, ensure_topics
from streams.clients import Client
from streams.codecs import encode_event
from streams.event import Event

EVENTS = 10_000
ROUNDS = 7
BOUNDS = {"kafka-python": 1.25, "confluent": 1.5}
COLUMNS = {
    "client": 0,
    "bare µs": 1,
    "learner µs": 1,
    "engine µs": 1,
    "engine / (bare + learner)": 3,
    "least": 3,
    "most": 3,
    "at most": 2,
    "CPU bare µs": 1,
    "CPU learner µs": 1,
    "CPU engine µs": 1,
    "CPU ratio": 3,
}


class Span:
    """Microseconds per event, of the clock and of the processor."""

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0

    @contextmanager
    def measured(self, events: int) -> Iterator[None]:
        """What happens to so many events within it."""
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.wall = 1e6 * (time.perf_counter() - wall) / events
        self.cpu = 1e6 * (time.process_time() - cpu) / events


def run() -> Findings:
    """Bare, learner, engine, in turn, several times, with each client."""
    found = Findings(
        name="throughput",
        title="From topic to topic in one process: the time per event",
        about=(
            f"elec2's first {EVENTS:,} rows as canonical JSON with the label inside, in a topic of {called()}. "
            "`bare`: the client's own consumer and idempotent producer, msgspec, a message of an answer's "
            "size. `learner`: `forecast_one` and `learn` on the same dicts, in memory. `engine`: the loop as "
            "`everlearn run` opens it. Both loops from the first events on to the flush after the last one. "
            f"Medians of {ROUNDS} rounds in which the three take turns; the ratio is that of each round, with "
            "the least and the most. CPU: of all threads of this process."
        ),
        columns=COLUMNS,
    )
    if not os.environ.get("EVERLEARN_DATA"):
        found.notes.append("Not run: EVERLEARN_DATA names no folder with elec2.")
        return found
    from streams import datasets

    rows = datasets.load("elec2").events(0, EVENTS)
    events = [row for row in rows if isinstance(row, Event)]
    warmup()
    with tempfile.TemporaryDirectory() as folder, a_broker(Path(folder)) as broker:
        topic = _written(broker, events)
        spare_the_collector()
        load = os.getloadavg()[0]
        for client in get_args(Client):
            _compare(found, client, broker, topic, events, Path(folder))
        found.notes.append(
            f"Load of the machine, one minute: {load:.1f} before, {os.getloadavg()[0]:.1f} after, on "
            f"{os.cpu_count()} cores, of which the broker takes its share."
        )
    return found


def _written(broker: str, events: list[Event]) -> str:
    topic = f"events-{uuid.uuid4().hex[:12]}"
    ensure_topics(broker, {topic: 1})
    with contextlib.closing(KafkaLog(broker)) as log:
        log.append_many(topic, 0, [(event.id, event.time, encode_event(event)) for event in events])
    return topic


def _compare(
    found: Findings, client: Client, broker: str, topic: str, events: list[Event], folder: Path
) -> None:
    bare, learner, engine = [], [], []
    for _ in range(ROUNDS):
        names = {part: f"{part}-{uuid.uuid4().hex[:12]}" for part in ("bare", "answers")}
        ensure_topics(broker, dict.fromkeys(names.values(), 1))
        with bare_loop(client, broker, topic, names["bare"]) as turn:
            bare.append(_through(turn))
        model, span = OnlineClassifier(), Span()
        with span.measured(EVENTS):
            learn_all(model, events)
        learner.append(span)
        snapshots = folder / names["answers"]
        with engine_loop(client, broker, topic, names["answers"], snapshots) as turn:
            engine.append(_through(turn))
    walls = [[span.wall for span in spans] for spans in (bare, learner, engine)]
    cpus = [[span.cpu for span in spans] for spans in (bare, learner, engine)]
    ratios = _ratios(walls)
    found.add(
        **{
            "client": client,
            "bare µs": median(walls[0]),
            "learner µs": median(walls[1]),
            "engine µs": median(walls[2]),
            "engine / (bare + learner)": median(ratios),
            "least": min(ratios),
            "most": max(ratios),
            "at most": BOUNDS[client],
            "CPU bare µs": median(cpus[0]),
            "CPU learner µs": median(cpus[1]),
            "CPU engine µs": median(cpus[2]),
            "CPU ratio": median(_ratios(cpus)),
        }
    )


def _ratios(parts: list[list[float]]) -> list[float]:
    return [c / (a + b) for a, b, c in zip(*parts, strict=True)]


def _through(turn: Turn) -> Span:
    """Seconds per event from the end of the first poll that found some to the flush after the last one.

    What comes before is the client's: it looks for the partition and waits for the first fetch.
    """
    span, first = Span(), 0
    while not first:
        first = turn(1.0)
    left = EVENTS - first
    with span.measured(left):
        while left > 0:
            left -= turn(1.0)
        turn(0.0)  # finds nothing more, and flushes
    return span
