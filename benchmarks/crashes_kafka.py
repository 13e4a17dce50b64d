"""The kills of `benchmarks.crashes` over a broker: with both clients, with transactions and without them.

Events and labels lie in two partitions each, labels cross them. A process learns live while a producer appends;
it is killed at a named place and started again until everything is learned. Then an undisturbed run follows the
recorded order: what was learned must be equal to the bit, and the topics of answers, dead letters and reports,
read committed, must hold the same messages. With transactions no message may stand there twice; without them
neither, since what a killed process had sent is found by the next one before it sends anything.

Clients have threads, and a process with threads must not be forked: whatever opens one does so in a child.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, get_args

from benchmarks.crashes import (
    ANSWERS,
    COUNT,
    DEAD,
    EVENTS,
    LABELS,
    PLACES,
    REPORTS,
    Written,
    contents,
    crashes_of,
    in_child,
    make_shard,
    whole_log,
)
from benchmarks.tables import Findings
from engine.checkpoint import CheckpointStore
from engine.crashpoints import arm, crash_point
from engine.learner import warmup
from engine.order import Order
from engine.run import Loop
from engine.switch import Switch
from streams.broker import KafkaLog, ensure_topics
from streams.clients import Client, Writer, open_reader
from streams.codecs import encode_json
from streams.event import Headers, TopicPartition
from streams.kafka import KafkaSink, KafkaSource
from streams.merge import MergedSource
from streams.replay import ListSink

PARTITIONS = 2
PLAIN = ("sink.sent", "sink.hurried", "sink.before_settle", "sink.settled")
TRANSACTIONAL = ("sink.begun", "sink.sent", "sink.before_commit", "sink.committed")
"""Around every step of a sink, beside those of `benchmarks.crashes`."""


class Kind(NamedTuple):
    """One way to be attached."""

    client: Client
    transactional: bool

    @property
    def name(self) -> str:
        """As the command line takes it."""
        return f"{self.client}+transactions" if self.transactional else self.client

    def places(self) -> list[str]:
        """All places at which it is killed."""
        return [*(TRANSACTIONAL if self.transactional else PLAIN), *(p for ps in PLACES.values() for p in ps)]


KINDS = {kind.name: kind for kind in (Kind(c, t) for c in get_args(Client) for t in (False, True))}


class Topics(NamedTuple):
    """The topics of one scenario at a broker, named so that no other has them."""

    address: str
    suffix: str

    def of(self, name: str) -> str:
        """The full name."""
        return f"{name}-{self.suffix}"


class Outcome(NamedTuple):
    """Kills by place, messages that stand in the topics more than once, and what is not equal."""

    kills: Counter[str]
    repeats: int
    differences: list[str]


class Watched:
    """A writer around whose steps the process can be ended."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self.abort, self.close = writer.abort, writer.close

    def begin(self) -> None:
        """The writer's."""
        self._writer.begin()
        crash_point("sink.begun")

    def send(self, key: bytes, value: bytes, headers: Headers) -> None:
        """The writer's."""
        self._writer.send(key, value, headers)
        crash_point("sink.sent")

    def hurry(self) -> None:
        """The writer's."""
        self._writer.hurry()
        crash_point("sink.hurried")

    def settle(self) -> int | None:
        """The writer's."""
        crash_point("sink.before_settle")
        behind = self._writer.settle()
        crash_point("sink.settled")
        return behind

    def commit(self) -> int | None:
        """The writer's."""
        crash_point("sink.before_commit")
        behind = self._writer.commit()
        crash_point("sink.committed")
        return behind


class Producer:
    """Appends what is missing of the log, some records of each partition at a time; freezes learning at times."""

    def __init__(self, topics: Topics, whole: Written, switch: Switch, seed: int) -> None:
        self._log = KafkaLog(topics.address)
        self._left = {}
        for (topic, number), rows in whole.items():
            name = topics.of(topic)
            self._left[(name, number)] = rows[self._log.end_offset(name, number) :]
        self._switch, self._chance = switch, random.Random(seed)

    def __call__(self, loop: Loop | None = None) -> None:
        if self._chance.random() < 0.1:
            self._switch.set(self._chance.random() < 0.3)
        for partition, rows in self._left.items():
            count = self._chance.choice((0, 3, 8, 20, 40))
            more, self._left[partition] = rows[:count], rows[count:]
            if more:
                self._log.append_many(*partition, more)

    def close(self) -> None:
        """Release the connections."""
        self._log.close()


def open_sink(topics: Topics, name: str, kind: Kind) -> KafkaSink:
    """A sink that can be killed at each of its steps."""
    sink = KafkaSink(topics.address, topics.of(name), client=kind.client, transactional=kind.transactional)
    sink._writer = Watched(sink._writer)
    return sink


def open_source(topics: Topics, kind: Kind, *, live: bool) -> MergedSource:
    """Events and labels, merged."""
    names = [topics.of(EVENTS), topics.of(LABELS)]
    source = KafkaSource(topics.address, names, start="beginning", bounded=not live, client=kind.client)
    return MergedSource(source, ahead=32, live=live)


def make_topics(topics: Topics) -> None:
    """All five of them."""
    inputs = {topics.of(name): PARTITIONS for name in (EVENTS, LABELS)}
    ensure_topics(topics.address, inputs | {topics.of(name): 1 for name in (ANSWERS, DEAD, REPORTS)})


def run_live(folder: Path, topics: Topics, kind: Kind, whole: Written, seed: int, crash: str) -> None:
    """One process's life: go on where the last one was, until everything is learned or the kill comes."""
    switch = Switch(folder)
    producer = Producer(topics, whole, switch, seed)
    producer()
    total = sum(map(len, whole.values()))
    loop = Loop(
        make_shard(),
        open_source(topics, kind, live=True),
        open_sink(topics, ANSWERS, kind),
        CheckpointStore(folder, keep=2),
        dead=open_sink(topics, DEAD, kind),
        report=open_sink(topics, REPORTS, kind),
        switch=switch,
        every_records=70,
        batch=16,
        on_batch=producer,
        on_durable=lambda positions: None,
    )
    arm(crash)
    loop.resume()
    loop.run(lambda: sum(loop.positions.values()) >= total, timeout=0.05)
    arm("")
    loop.close()
    producer.close()


def messages(topics: Topics, name: str, kind: Kind) -> list[tuple[str, bytes]]:
    """Key and value of every committed message of a topic."""
    reader = open_reader(kind.client, topics.address, timeout=30.0)
    where = TopicPartition(topics.of(name), 0)
    end = reader.ends([where], 30.0)[where]
    reader.read_from({where: 0})
    found: list[tuple[str, bytes]] = []
    while reader.passed()[where] < end:
        found += [((key or b"").decode(), raw) for _, _, _, key, raw, _ in reader.fetch(1000, 1.0)]
    reader.close()
    return found


def compare(folder: Path, topics: Topics, kind: Kind, whole: Written) -> tuple[int, list[str]]:
    """(messages that stand there again, what differs from an undisturbed run over the same recorded order)."""
    store = CheckpointStore(folder)
    snapshot = store.latest()
    assert snapshot is not None
    left = make_shard()
    left.restore(snapshot.arrays, snapshot.meta["shard"])
    sinks = {name: ListSink() for name in (ANSWERS, DEAD, REPORTS)}
    again = Loop(
        make_shard(),
        open_source(topics, kind, live=False),
        sinks[ANSWERS],
        dead=sinks[DEAD],
        report=sinks[REPORTS],
    )
    again.start(None, Order(folder).since(0))
    again.run()
    again.source.close()
    a, b = contents(left), contents(again.shard)
    differences = [name for name in sorted({*a, *b}) if a.get(name) != b.get(name)]
    if sum(offset for *_, offset in snapshot.meta["positions"]) != sum(map(len, whole.values())):
        differences.append("positions")
    repeats = 0
    for name, sink in sinks.items():
        found = messages(topics, name, kind)
        once = list(dict.fromkeys(found))
        repeats += len(found) - len(once)
        if once != [(key, encode_json(value)) for key, value in sink.messages]:
            differences.append(name)
        if name == ANSWERS and {key for key, _ in found} != {f"e{i}" for i in range(COUNT)}:
            differences.append("an event without an answer")
    if repeats and kind.transactional:
        differences.append(f"{repeats} messages twice in spite of transactions")
    return repeats, differences


def scenario(address: str, kind: Kind, crashes: Iterator[str], kills: int, seed: int) -> Outcome:
    """Live processes one after the other, killed at `kills` places at the most, then the comparison."""
    found: Counter[str] = Counter()
    topics = Topics(address, uuid.uuid4().hex[:12])
    with tempfile.TemporaryDirectory() as name:
        folder, whole = Path(name), whole_log(PARTITIONS, seed)
        result = folder / "compared.json"
        if in_child(lambda: make_topics(topics)):
            return Outcome(found, 0, ["the topics could not be made"])
        crash = next(crashes)
        for life in range(kills + 1):
            now = crash if life < kills else ""
            status = in_child(
                lambda now=now, life=life: run_live(
                    folder / "snapshots", topics, kind, whole, 1000 * seed + life, now
                )
            )
            if status == 0:
                break
            if not (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL):
                return Outcome(
                    found, 0, [f"a process ended by itself with {status}, to be killed at {now!r}"]
                )
            found[now.partition(":")[0]] += 1
            crash = next(crashes)

        def look() -> None:
            result.write_text(json.dumps(compare(folder / "snapshots", topics, kind, whole)))

        if in_child(look):
            return Outcome(found, 0, ["the comparison failed"])
        repeats, differences = json.loads(result.read_text())
        return Outcome(found, repeats, differences)


def run_kills(
    address: str, wanted: int, *, seed: int = 0, kinds: Sequence[Kind] = tuple(KINDS.values())
) -> Findings:
    """At least `wanted` kills at the broker, as many for each kind; the outcome as a table."""
    warmup()
    findings = Findings(
        "crashes_kafka",
        "SIGKILL around every durable step, over Kafka",
        "Live runs over two partitions of events and two of labels at a broker, killed and started again; then "
        "an undisturbed run over the same recorded order. Compared to the bit: parameters, memory, metrics, "
        "waiting forecasts and labels; and, read committed, all answers, dead letters and reports. `repeats`: "
        "messages that stand in their topic more than once.",
        {"client": 0, "transactions": 0, "kills": 0, "scenarios": 0, "repeats": 0, "differences": 0},
    )
    places: Counter[str] = Counter()
    for kind in kinds:
        chance = random.Random(seed)
        order = kind.places()
        chance.shuffle(order)  # a few kills come to different places for each kind
        crashes, kills, number, repeats = crashes_of(order, seed), 0, 0, 0
        differences: list[str] = []
        while kills * len(kinds) < wanted and number < wanted:
            outcome = scenario(address, kind, crashes, min(7, -(-wanted // len(kinds))), seed + number)
            kills, repeats, number = kills + outcome.kills.total(), repeats + outcome.repeats, number + 1
            places += outcome.kills
            differences += [
                f"{kind.name}, scenario {number} ({dict(outcome.kills)}): {d}" for d in outcome.differences
            ]
        findings.add(
            client=kind.client,
            transactions="yes" if kind.transactional else "no",
            kills=kills,
            scenarios=number,
            repeats=repeats,
            differences=len(differences),
        )
        findings.notes += differences
        seed += 1000
    findings.notes.append(
        "places: " + ", ".join(f"{place} {count}" for place, count in sorted(places.items()))
    )
    return findings


def run() -> Findings:
    """The benchmark: at least 200 kills, at the broker that KAFKA_BOOTSTRAP_SERVERS names; without it, none."""
    address = os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
    if address is None:
        return Findings(
            "crashes_kafka", "Needs a broker", "KAFKA_BOOTSTRAP_SERVERS names none.", {"client": 0}
        )
    return run_kills(address, 200)


def main() -> None:
    """`python -m benchmarks.crashes_kafka ADDRESS KILLS [--kind NAME ...] [--seed N] [--write]`.

    Exit code 1 where anything differs.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.crashes_kafka")
    parser.add_argument("address", help="host:port of a broker")
    parser.add_argument("kills", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=KINDS, action="append", help="these alone")
    parser.add_argument(
        "--write", action="store_true", help="write docs/benchmarks/crashes_kafka.md and .json"
    )
    parser.add_argument("--broker", help="what the broker is, for the page")
    asked = parser.parse_args()
    kinds = [KINDS[name] for name in asked.kind or KINDS]
    findings = run_kills(asked.address, asked.kills, seed=asked.seed, kinds=kinds)
    if asked.broker:
        findings.notes.append(f"broker: {asked.broker}")
    if asked.write:
        findings.write()
    print(findings.markdown())
    sys.exit(1 if any(row["differences"] for row in findings.rows) else 0)


if __name__ == "__main__":
    main()
