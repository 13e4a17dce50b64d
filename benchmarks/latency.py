"""How long an event waits for its forecast at 1,000 events a second, beside a bare client's loop."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from benchmarks.brokers import a_broker, called
from benchmarks.tables import Findings
from engine.learner import warmup
from streams.broker import connect_admin, connect_consumer
from streams.clients import Client
from streams.codecs import encode_event
from streams.event import Event

RATE = 1000  # events per second
WARM_UP, MEASURED = 5, 20  # seconds
ROUNDS = 2
BOUND = 1.3
COLUMNS = {
    "client": 0,
    "bare p50 ms": 1,
    "engine p50 ms": 1,
    "p50 ratio": 2,
    "bare p99 ms": 1,
    "engine p99 ms": 1,
    "p99 ratio": 2,
    "at most": 1,
}


def run() -> Findings:
    """Bare, engine, in turn, with each client."""
    found = Findings(
        name="latency",
        title=f"From an event's append to its forecast's, at {RATE:,} events a second",
        about=(
            f"elec2's rows as canonical JSON with the label inside, {RATE:,} a second for {MEASURED} s after "
            f"{WARM_UP} s of warming up, one process that writes them, one that answers, and {called()}. "
            "`engine`: `everlearn run` with its snapshots, metrics off. `bare`: the client's own consumer and "
            "idempotent producer, msgspec, a message of an answer's size, a flush where a poll was not full. "
            "Times are the broker's (LogAppendTime, in ms; percentiles are interpolated within a ms). Medians of "
            f"{ROUNDS} rounds in turn."
        ),
        columns=COLUMNS,
    )
    if not os.environ.get("EVERLEARN_DATA"):
        found.notes.append("Not run: EVERLEARN_DATA names no folder with elec2.")
        return found
    warmup()
    with tempfile.TemporaryDirectory() as folder, a_broker(Path(folder)) as broker:
        load = os.getloadavg()[0]
        for client in get_args(Client):
            waits: dict[str, list[tuple[float, float]]] = {"bare": [], "engine": []}
            for _ in range(ROUNDS):
                for kind, so_far in waits.items():
                    so_far.append(_percentiles(_waits(kind, client, broker, Path(folder))))
            _add(found, client, waits["bare"], waits["engine"])
        found.notes.append(
            f"Load of the machine, one minute: {load:.1f} before, {os.getloadavg()[0]:.1f} after, on "
            f"{os.cpu_count()} cores."
        )
    return found


def _add(
    found: Findings, client: str, bare: list[tuple[float, float]], engine: list[tuple[float, float]]
) -> None:
    half, most = (median(values) for values in zip(*bare, strict=True))
    engine_half, engine_most = (median(values) for values in zip(*engine, strict=True))
    found.add(
        **{
            "client": client,
            "bare p50 ms": half,
            "engine p50 ms": engine_half,
            "p50 ratio": engine_half / half,
            "bare p99 ms": most,
            "engine p99 ms": engine_most,
            "p99 ratio": engine_most / most,
            "at most": BOUND,
        }
    )


def _percentiles(waits: NDArray[np.int64]) -> tuple[float, float]:
    """p50 and p99 in ms; a difference of two whole ms stands for all times within half a ms around it."""
    spread = np.sort(waits) + (np.arange(len(waits)) * 0.6180339887498949) % 1.0 - 0.5
    half, most = np.percentile(spread, (50, 99))
    return float(half), float(most)


def _waits(kind: str, client: Client, broker: str, folder: Path) -> NDArray[np.int64]:
    """(events,) ms from append to append, of those after the warm-up."""
    name = f"{kind}-{uuid.uuid4().hex[:12]}"
    events, answers = f"{name}.events", f"{name}.answers"
    with contextlib.closing(connect_admin(broker)) as admin:
        stamped = {"num_partitions": 1, "configs": {"message.timestamp.type": "LogAppendTime"}}
        admin.create_topics({events: stamped, answers: stamped}, wait_for_metadata=True)
    command = [sys.executable, "-m", "benchmarks.loops", client, broker, events, answers]
    if kind == "engine":
        command = [sys.executable, "-m", "engine.cli", "run", "--config", str(folder / f"{name}.toml")]
        (folder / f"{name}.toml").write_text(
            f'[source]\nbroker = "{broker}"\nevents = "{events}"\nclient = "{client}"\nfrom = "beginning"\n'
            f'[forecasts]\ntopic = "{answers}"\n[snapshots]\nfolder = "{folder / name}"\n'
        )
    with _process(command, folder / f"{name}.txt"):
        _load(broker, events, answers)
    came, went = _stamps(broker, events), _stamps(broker, answers)
    if len(came) != len(went):
        raise RuntimeError(f"{kind} with {client}: {len(came)} events and {len(went)} answers")
    return (went - came)[RATE * WARM_UP :]


@contextmanager
def _process(command: list[str], output: Path) -> Iterator[None]:
    with output.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
    try:
        yield
        process.send_signal(signal.SIGTERM)
        if process.wait(60):
            raise RuntimeError(f"{command}: {output.read_text(errors='replace')}")
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _load(broker: str, topic: str, answers: str) -> None:
    """Write one event and wait for its answer, then write the others, each when its time has come."""
    from confluent_kafka import Consumer, Producer, TopicPartition

    from streams import datasets

    rows = [event for event in datasets.load("elec2").events() if isinstance(event, Event)]
    events = [
        Event(id=f"e{i}", time=float(i), features=row.features, label=row.label)
        for i, row in enumerate(islice(cycle(rows), RATE * (WARM_UP + MEASURED)))
    ]
    messages = [(event.id.encode(), encode_event(event)) for event in events]
    producer = Producer({"bootstrap.servers": broker, "linger.ms": 0})
    producer.produce(topic, messages[0][1], messages[0][0], 0)
    producer.flush()
    consumer = Consumer({"bootstrap.servers": broker, "group.id": "load"})
    consumer.assign([TopicPartition(answers, 0, 0)])
    if consumer.poll(120.0) is None:
        raise RuntimeError(f"no answer in {answers} within 120 s")
    consumer.close()
    began, chance = time.monotonic(), random.Random(0)
    for i, (key, message) in enumerate(messages[1:], start=1):
        due = began + (i + chance.random()) / RATE  # anywhere in its ms: the broker's stamps are whole ones
        while (early := due - time.monotonic()) > 0:
            time.sleep(early)
        producer.produce(topic, message, key, 0)
        producer.poll(0)
    producer.flush()
    time.sleep(2.0)  # for the last answers


def _stamps(broker: str, topic: str) -> NDArray[np.int64]:
    """(records,) when the broker appended each record of the topic, in ms."""
    from kafka import TopicPartition

    where = TopicPartition(topic, 0)
    with contextlib.closing(connect_consumer(broker)) as consumer:
        consumer.assign([where])
        consumer.seek_to_beginning(where)
        end = consumer.end_offsets([where])[where]
        found: list[int] = []
        while consumer.position(where) < end:
            for records in consumer.poll(timeout_ms=1000).values():
                found += [record.timestamp for record in records]
    return np.array(found, np.int64)
