"""`everlearn run` as a process over a broker: killed, started again, stopped; what it leaves in the topics."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.checkpoint import CheckpointStore
from streams.broker import KafkaLog, connect_consumer, ensure_topics
from streams.clients import Client
from streams.codecs import encode_event, encode_label
from streams.event import Event, Label

pytestmark = pytest.mark.kafka
ROOT = Path(__file__).parent.parent
COUNT = 300
WAIT = 90.0  # seconds that anything may take before the test says that it does not come


def fill(address: str, events: str, labels: str, start: int, stop: int, partitions: int = 1) -> None:
    """Events whose labels come 20 events later, garbage now and then, a label twice, a label of no event."""
    rows: dict[tuple[str, int], list[tuple[str, float, bytes]]] = {}
    for i in range(start, stop):
        event = Event(id=f"e{i}", time=float(i), features={"a": i % 7, "b": (i * 5) % 11})
        label = Label(id=f"e{i}", time=i + 20.0, label="odd" if i % 7 > 3 else "even")
        at = i % partitions
        rows.setdefault((events, at), []).append((event.id, event.time, encode_event(event)))
        rows.setdefault((labels, at), []).append((label.id, label.time, encode_label(label)))
        if i % 50 == 7:
            rows[events, at].append(("?", 0.0, b"no message"))
            rows[labels, at].append((label.id, label.time, encode_label(label)))
    with contextlib.closing(KafkaLog(address)) as log:
        for (topic, partition), some in rows.items():
            log.append_many(topic, partition, some)


def configuration(folder: Path, address: str, events: str, labels: str, **more: Any) -> Path:
    tables: dict[str, dict[str, Any]] = {
        "source": {"broker": address, "events": events, "labels": labels, "from": "beginning"},
        "learner": {"layers": 1, "width": 4, "neighbours": 2},
        "snapshots": {"folder": str(folder / "snapshots"), "every_seconds": 0.5},
        "dead": {"topic": f"{events}.dead"},
        "labels": {"report": f"{events}.reports"},
        "log": {"format": "json"},
    }
    for path, value in more.items():
        section, _, name = path.partition("__")
        tables.setdefault(section, {})[name] = value
    lines = []
    for section, values in tables.items():
        lines += [f"[{section}]", *(f"{name} = {json.dumps(value)}" for name, value in values.items())]
    file = folder / "run.toml"
    file.write_text("\n".join(lines))
    return file


@contextlib.contextmanager
def running(config: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "engine.cli", "run", "--config", str(config), *options]
    process = subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=config.parent
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def stopped(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=WAIT)
    return process.returncode, out, err


class Reader:
    """What stands in a topic, read committed, from its beginning."""

    def __init__(self, address: str) -> None:
        self._consumer = connect_consumer(address, options={"isolation_level": "read_committed"})

    def ends(self, topic: str) -> dict[Any, int]:
        from kafka import TopicPartition

        there = self._consumer.partitions_for_topic(topic) or set()
        return (
            dict(self._consumer.end_offsets([TopicPartition(topic, p) for p in sorted(there)]))
            if there
            else {}
        )

    def messages(self, topic: str) -> list[tuple[int, dict[str, Any]]]:
        ends = self.ends(topic)
        self._consumer.assign(list(ends))
        for partition in ends:
            self._consumer.seek(partition, 0)
        found = []
        until = time.monotonic() + WAIT
        while any(self._consumer.position(partition) < end for partition, end in ends.items()):
            assert time.monotonic() < until
            for partition, records in self._consumer.poll(timeout_ms=500).items():
                found += [(partition.partition, json.loads(record.value)) for record in records]
        return found

    def until(self, topic: str, count: int) -> None:
        """Wait until so many messages stand in the topic."""
        until = time.monotonic() + WAIT
        while sum(self.ends(topic).values()) < count:
            assert time.monotonic() < until, f"{topic} has {self.ends(topic)}, expected {count}"
            time.sleep(0.1)

    def close(self) -> None:
        self._consumer.close(autocommit=False)


@pytest.fixture
def reader(broker: str) -> Iterator[Reader]:
    with contextlib.closing(Reader(broker)) as found:
        yield found


@pytest.mark.parametrize("transactional", [False, True], ids=["plain", "transactional"])
def test_killed_and_started_again_a_run_has_answered_and_buried_everything_once(
    broker: str,
    topic: Callable[[str], str],
    tmp_path: Path,
    reader: Reader,
    client: Client,
    transactional: bool,
) -> None:
    events, labels = topic("events"), topic("labels")
    ensure_topics(broker, {events: 1, labels: 1})
    fill(broker, events, labels, 0, 100)
    config = configuration(
        tmp_path, broker, events, labels, source__client=client, forecasts__transactional=transactional
    )
    answers = f"{events}.forecasts"
    with running(config) as process:
        reader.until(answers, 100)
        fill(broker, events, labels, 100, 200)
        reader.until(answers, 120)
        process.kill()
    fill(broker, events, labels, 200, COUNT)
    with running(config) as process:
        until = time.monotonic() + WAIT
        while len({m["id"] for _, m in reader.messages(answers)}) < COUNT:
            assert time.monotonic() < until
            time.sleep(0.3)
        time.sleep(0.7)  # labels that come behind the last answer
        code, out, err = stopped(process)
    assert code == 0, err
    assert f"{COUNT} events, {COUNT} labels learned, 6 records refused" in out
    said = reader.messages(answers)
    assert Counter(message["id"] for _, message in said) == Counter({f"e{i}": 1 for i in range(COUNT)})
    dead = reader.messages(f"{events}.dead")
    assert Counter(message["offset"] for _, message in dead) == Counter(
        message["offset"] for _, message in dead
    )
    assert len(dead) == len({message["offset"] for _, message in dead}) == 6
    assert {message["record"] for _, message in dead} == {"no message"}
    reports = reader.messages(f"{events}.reports")
    assert Counter(message["kind"] for _, message in reports) == {"duplicate": 6}
    lines = [json.loads(line) for line in err.splitlines() if line.startswith("{")]
    assert [line["event"] for line in lines if line["event"] in ("resumed", "stopped")] == [
        "resumed",
        "stopped",
    ]


def test_one_model_per_partition_answers_in_its_own_partition_and_commits_behind_its_snapshots(
    broker: str, topic: Callable[[str], str], tmp_path: Path, reader: Reader
) -> None:
    events, labels = topic("events"), topic("labels")
    ensure_topics(broker, {events: 2, labels: 2})  # outputs are made by the run, with as many partitions
    fill(broker, events, labels, 0, 120, partitions=2)
    group = topic("group")
    config = configuration(
        tmp_path,
        broker,
        events,
        labels,
        source__group=group,
        source__instance="one",
        source__shards="partition",
    )
    with running(config) as process:
        reader.until(f"{events}.forecasts", 120)
        time.sleep(1.5)  # a snapshot behind the last label
        code, _, err = stopped(process)
    assert code == 0, err
    said = reader.messages(f"{events}.forecasts")
    assert {(partition, int(message["id"][1:]) % 2) for partition, message in said} == {(0, 0), (1, 1)}
    committed = connect_consumer(broker, options={"group_id": group})
    from kafka import TopicPartition

    for shard in (0, 1):
        latest = CheckpointStore(tmp_path / "snapshots", str(shard)).latest()
        assert latest is not None
        for name, partition, offset in latest.meta["positions"]:
            assert partition == shard
            assert committed.committed(TopicPartition(name, partition)) == offset
    committed.close(autocommit=False)


def test_a_second_process_on_the_same_snapshots_takes_the_shard_over_and_the_first_ends_with_an_error(
    broker: str, topic: Callable[[str], str], tmp_path: Path, reader: Reader
) -> None:
    events, labels = topic("events"), topic("labels")
    ensure_topics(broker, {events: 1, labels: 1})
    fill(broker, events, labels, 0, 50)
    config = configuration(tmp_path, broker, events, labels)
    with running(config) as first:
        reader.until(f"{events}.forecasts", 50)
        with running(config) as second:
            _, err = first.communicate(timeout=WAIT)
            assert first.returncode == 2
            assert "was taken over by generation" in err
            fill(broker, events, labels, 50, 80)
            reader.until(f"{events}.forecasts", 80)
            code, _, err = stopped(second)
            assert code == 0, err
    said = Counter(message["id"] for _, message in reader.messages(f"{events}.forecasts"))
    assert said == Counter({f"e{i}": 1 for i in range(80)})
