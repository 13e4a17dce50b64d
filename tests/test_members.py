"""Processes of one group come and go over a topic of two partitions: what was learned is what one would have."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from engine.checkpoint import CheckpointStore
from engine.run import Loop
from streams.broker import KafkaLog, connect_consumer, ensure_topics
from streams.codecs import encode_event, encode_json
from streams.event import Event, TopicPartition
from streams.replay import ListSink, ListSource
from tests.member_process import plain_shard

pytestmark = pytest.mark.kafka
LONG = 60.0  # seconds after which a test gives up
PART = 130  # events per partition between two things that happen


def events(partition: int, count: int) -> list[Event]:
    """The first events of a partition; always the same."""
    x = np.random.default_rng(partition).normal(size=(count, 3))
    return [
        Event(
            id=f"{partition}-{i}",
            time=float(i),
            features={"a": float(a), "b": float(b)},
            label="yes" if a - b + c > 0 else "no",
        )
        for i, (a, b, c) in enumerate(x)
    ]


class Topics:
    """The topic and its answers, as the test sees them."""

    def __init__(self, broker: str, topic: str) -> None:
        self.broker, self.topic, self.written = broker, topic, 0
        ensure_topics(broker, {topic: 2, f"{topic}-answers": 2})
        self._log = KafkaLog(broker)
        self._answers = connect_consumer(broker)
        from kafka import TopicPartition as KafkaPartition

        self._partitions = [KafkaPartition(f"{topic}-answers", partition) for partition in (0, 1)]
        self._answers.assign(self._partitions)
        self._answers.seek_to_beginning(*self._partitions)
        self.answers: list[tuple[str, bytes]] = []

    def append(self) -> None:
        """The next events of both partitions."""
        until = self.written + PART
        for partition in (0, 1):
            rows = [(e.id, e.time, encode_event(e)) for e in events(partition, until)[self.written :]]
            self._log.append_many(self.topic, partition, rows)
        self.written = until

    def answered(self) -> set[str]:
        for records in self._answers.poll(timeout_ms=100).values():
            self.answers += [(record.key.decode(), record.value) for record in records]
        return {key for key, _ in self.answers}

    def all_answered(self) -> bool:
        return self.answered() == {f"{p}-{i}" for p in (0, 1) for i in range(self.written)}

    def close(self) -> None:
        self._log.close()
        self._answers.close(autocommit=False)


class Process:
    """One member, and what it has said so far."""

    def __init__(self, topics: Topics, name: str, folder: Path) -> None:
        self.output = folder / f"{name}-{time.monotonic_ns()}.txt"
        command = [sys.executable, "-m", "tests.member_process", topics.broker, topics.topic, name]
        with self.output.open("wb") as out:
            self.process = subprocess.Popen(
                [*command, str(folder / "snapshots")],
                stdout=out,
                stderr=out,
                cwd=Path(__file__).resolve().parent.parent,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            )

    def said(self, text: str) -> int:
        return self.output.read_text().count(text)

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)


@contextmanager
def member(topics: Topics, name: str, folder: Path) -> Iterator[Process]:
    one = Process(topics, name, folder)
    try:
        yield one
    finally:
        one.process.kill()
        one.process.wait()


def until(condition: Callable[[], object], *members: Process) -> None:
    deadline = time.monotonic() + LONG
    while not condition():
        told = "\n".join(one.output.read_text() for one in members)
        assert time.monotonic() < deadline, f"it did not happen; the members said:\n{told}"
        assert all(one.process.poll() is None for one in members), told
        time.sleep(0.05)


def test_members_that_join_are_killed_started_again_and_replaced_leave_what_one_undisturbed_run_learns(
    broker: str, topic: Callable[[str], str], tmp_path: Path
) -> None:
    topics = Topics(broker, topic("events"))
    topics.append()
    with member(topics, "a", tmp_path) as a:
        until(topics.all_answered, a)
        assert (a.said("opens 0"), a.said("opens 1")) == (1, 1)
        with member(topics, "b", tmp_path) as b:
            until(lambda: b.said("opens 1"), a, b)  # handed over
            topics.append()
            until(topics.all_answered, a, b)
            a.send(signal.SIGKILL)
            topics.append()
            with member(topics, "a", tmp_path) as again:  # it has its shard back
                until(topics.all_answered, again, b)
                assert (again.said("opens 0"), again.said("opens 1"), b.said("opens")) == (1, 0, 1)
                b.send(signal.SIGSTOP)
                topics.append()
                with member(topics, "b", tmp_path) as other:  # under the name of one that still lives
                    until(topics.all_answered, again, other)
                    topics.append()
                    b.send(signal.SIGCONT)  # it takes itself for the owner
                    assert b.process.wait(LONG) == 1
                    assert b.said("FencedMember: another process runs as instance 'b'")
                    until(topics.all_answered, again, other)
                    stop(again, other)
    same_as_undisturbed(topics, tmp_path / "snapshots", tmp_path / "undisturbed")
    topics.close()


@pytest.mark.sessions
def test_members_that_are_silent_for_too_long_lose_their_shards_and_nothing_is_learned_twice(
    broker: str, topic: Callable[[str], str], tmp_path: Path
) -> None:
    topics = Topics(broker, topic("events"))
    topics.append()
    with member(topics, "a", tmp_path) as a, member(topics, "b", tmp_path) as b:
        until(lambda: topics.all_answered() and a.said("opens") and b.said("opens"), a, b)
        a.send(signal.SIGKILL)
        topics.append()
        until(topics.all_answered, b)  # taken over
        with member(topics, "a", tmp_path) as again:
            until(lambda: again.said("opens"), again, b)
            b.send(signal.SIGSTOP)  # for longer than its session
            topics.append()
            until(topics.all_answered, again)
            topics.append()
            b.send(signal.SIGCONT)  # it takes itself for the owner
            until(
                lambda: b.said("lost the shards") or b.said("is another's"), again, b
            )  # whichever it sees first
            opened = b.said("opens")
            until(topics.all_answered, again, b)
            until(lambda: b.said("opens") > opened, again, b)  # it is one of two again
            stop(again, b)
    same_as_undisturbed(topics, tmp_path / "snapshots", tmp_path / "undisturbed")
    topics.close()


def stop(*members: Process) -> None:
    """As an operator would: all end by themselves, in order."""
    for one in members:
        one.send(signal.SIGTERM)
    for one in members:
        assert one.process.wait(LONG) == 0, one.output.read_text()


def same_as_undisturbed(topics: Topics, found: Path, folder: Path) -> None:
    """The last snapshot of every shard, and every answer however often it was written."""
    said: dict[str, set[bytes]] = {}
    for key, value in topics.answers:
        said.setdefault(key, set()).add(value)
    for partition in (0, 1):
        source = ListSource({TopicPartition(topics.topic, partition): events(partition, topics.written)})
        sink, store = ListSink(), CheckpointStore(folder, shard=str(partition))
        assert Loop(plain_shard(), source, sink, store).run()
        expected, latest = store.latest(), CheckpointStore(found, shard=str(partition)).latest()
        assert expected is not None
        assert latest is not None
        assert latest.meta["shard"] == expected.meta["shard"]
        assert [topics.topic, partition, topics.written] in latest.meta["positions"]
        assert latest.arrays.keys() == expected.arrays.keys()
        for name, array in expected.arrays.items():
            assert latest.arrays[name].tobytes() == array.tobytes(), name
        assert {key: {encode_json(value)} for key, value in sink.messages} == {
            key: values for key, values in said.items() if key.startswith(f"{partition}-")
        }
