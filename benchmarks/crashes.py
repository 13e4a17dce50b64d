"""Kills at named places around every durable step: what was learned equals an undisturbed run, to the bit.

A process learns live from an embedded log while a producer appends to it; it is killed by SIGKILL at a named
place, started again, and killed again, until everything is learned. Then an undisturbed run follows the recorded
order over the same log: parameters, memory, metrics, waiting forecasts and labels, answers, dead letters and
reports must be equal to the bit. Labels are paced, late, repeated and corrected; learning is frozen and thawed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.tables import Findings
from engine.checkpoint import CheckpointStore
from engine.crashpoints import arm
from engine.evaluate.metrics import PrequentialMetrics
from engine.learner import OnlineClassifier, warmup
from engine.order import Order
from engine.run import Loop
from engine.shard import Shard
from engine.switch import Switch
from streams.codecs import encode_event, encode_label
from streams.event import Event, Label, TopicPartition
from streams.join import PendingForecasts
from streams.join_limits import JoinLimits
from streams.log import EmbeddedLog, LogSink
from streams.log_source import LogSource
from streams.merge import MergedSource
from streams.pacing import LabelPacer

EVENTS, LABELS = "events", "labels"
ANSWERS, DEAD, REPORTS = "answers", "dead", "reports"
COUNT = 240  # events of one scenario

PLACES = {
    "poll": ("run.before_poll", "run.polled"),
    "order": ("order.before_append", "order.half_appended", "order.before_sync", "order.durable"),
    "learn": ("run.before_step", "shard.before_learn", "shard.learned", "run.stepped"),
    "flush": ("run.before_flush", "run.flushed", "run.batch"),
    "snapshot": ("run.before_snapshot", "checkpoint.before_write", "checkpoint.half_written"),
    "fsync": ("checkpoint.before_fsync", "checkpoint.after_fsync"),
    "rename": ("checkpoint.before_rename", "checkpoint.after_rename"),
    "folder fsync": ("checkpoint.before_folder_fsync", "checkpoint.durable", "checkpoint.before_remove"),
    "commit": ("run.before_commit", "run.committed"),
    "resume": ("checkpoint.claimed", "run.resumed"),
}
"""Step → the places before, within and after it."""

RARE = {"checkpoint.claimed", "run.resumed"}
"""Passed once per start."""

Raw = tuple[str, float, bytes]
Written = dict[TopicPartition, list[Raw]]


class Outcome(NamedTuple):
    """What one scenario showed: how many kills at which place, and what was not equal, if anything was."""

    kills: Counter[str]
    differences: list[str]


def whole_log(partitions: int, seed: int) -> Written:
    """All that the producer will write: events, late labels that cross partitions, and some that are wrong."""
    chance = random.Random(seed)
    written: Written = {TopicPartition(topic, p): [] for topic in (EVENTS, LABELS) for p in range(partitions)}
    labels: list[tuple[float, int, Raw]] = []
    for i in range(COUNT):
        x = {"a": chance.gauss(0, 1), "b": chance.gauss(0, 1), "shop": f"s{chance.randrange(5)}"}
        y = "yes" if x["a"] - 0.5 * x["b"] + chance.gauss(0, 0.3) > 0 else "no"
        where = TopicPartition(EVENTS, i % partitions)
        event = Event(id=f"e{i}", time=float(i), features=x)
        written[where].append((event.id, event.time, encode_event(event)))
        if chance.random() < 0.05:  # sent twice
            written[where].append((event.id, event.time, encode_event(event)))
        if chance.random() < 0.03:
            written[where].append(("?", event.time, b"\xff not a message"))
        for times in range(1 + (chance.random() < 0.1)):
            told = y if times == 0 or chance.random() < 0.5 else "other"  # repeated, or corrected
            label = Label(id=event.id, time=i + chance.uniform(0.5, 30) + times, label=told)
            labels.append(
                (label.time, chance.randrange(partitions), (label.id, label.time, encode_label(label)))
            )
    for _, partition, raw in sorted(labels):
        written[TopicPartition(LABELS, partition)].append(raw)
    return written


def make_shard() -> Shard:
    """A small learner with everything on that changes state."""
    model = OnlineClassifier(layers=2, width=8, keys=("shop",), seed=3)
    limits = JoinLimits(max_age=25.0, window=200, max_held=40, corrections="learn", correct_within=30)
    pending = PendingForecasts[Any](limits, report=True)
    return Shard(model, PrequentialMetrics(), pending, pacer=LabelPacer(9, 8.0))


def open_source(log: EmbeddedLog, *, live: bool) -> MergedSource:
    """Events and labels, merged."""
    return MergedSource(LogSource(log, [EVENTS, LABELS], bounded=not live), ahead=32, live=live)


class Producer:
    """Appends what is missing of the log, some records of each partition at a time; freezes learning at times."""

    def __init__(self, log: EmbeddedLog, whole: Written, switch: Switch, chance: random.Random) -> None:
        self._log, self._whole, self._switch, self._chance = log, whole, switch, chance

    def __call__(self, loop: Loop | None = None) -> None:
        if self._chance.random() < 0.1:
            self._switch.set(self._chance.random() < 0.3)
        for partition, rows in self._whole.items():
            end = self._log.end_offset(*partition)
            more = rows[end : end + self._chance.choice((0, 1, 3, 8, 20))]
            if more:
                self._log.append_many(*partition, more)


def run_live(folder: Path, whole: Written, seed: int, crash: str) -> None:
    """One process's life: go on where the last one was, until everything is learned or the kill comes."""
    log = EmbeddedLog(folder / "log.db")
    switch = Switch(folder / "snapshots")
    producer = Producer(log, whole, switch, random.Random(seed))
    producer()
    total = sum(map(len, whole.values()))
    loop = Loop(
        make_shard(),
        open_source(log, live=True),
        LogSink(log, ANSWERS),
        CheckpointStore(folder / "snapshots", keep=2),
        dead=LogSink(log, DEAD),
        report=LogSink(log, REPORTS),
        switch=switch,
        every_records=70,
        batch=16,
        on_batch=producer,
        on_durable=lambda positions: None,
    )
    arm(crash)
    loop.resume()
    loop.run(lambda: sum(loop.positions.values()) >= total, timeout=0.0)
    arm("")
    loop.close()
    log.close()


def in_child(work: Callable[[], None]) -> int:
    """Run `work` in a forked process; its wait status."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    return os.waitpid(child, 0)[1]


def contents(shard: Shard) -> dict[str, Any]:
    """All that a shard is, comparable."""
    arrays, meta = shard.state()
    found: dict[str, Any] = {name: (a.dtype.str, a.shape, a.tobytes()) for name, a in arrays.items()}
    return found | {f"meta {name}": json.dumps(value, sort_keys=True) for name, value in meta.items()}


def compare(folder: Path, whole: Written) -> list[str]:
    """What differs between what the killed processes left and an undisturbed run over the same recorded order."""
    log = EmbeddedLog(folder / "log.db")
    store = CheckpointStore(folder / "snapshots")
    snapshot = store.latest()
    assert snapshot is not None
    left = make_shard()
    left.restore(snapshot.arrays, snapshot.meta["shard"])
    undisturbed_log = EmbeddedLog(folder / "undisturbed.db")
    again = Loop(
        make_shard(),
        open_source(log, live=False),
        LogSink(undisturbed_log, ANSWERS),
        dead=LogSink(undisturbed_log, DEAD),
        report=LogSink(undisturbed_log, REPORTS),
    )
    again.start(None, Order(store.folder).since(0))
    again.run()
    a, b = contents(left), contents(again.shard)
    differences = [name for name in sorted({*a, *b}) if a.get(name) != b.get(name)]
    total = sum(map(len, whole.values()))
    if sum(offset for *_, offset in snapshot.meta["positions"]) != total:
        differences.append("positions")
    for topic in (ANSWERS, DEAD, REPORTS):
        rows = [(r.key, r.value) for r in log.read(topic, 0, 0, 10 * total)]
        expected = [(r.key, r.value) for r in undisturbed_log.read(topic, 0, 0, 10 * total)]
        if rows != expected:
            differences.append(topic)
    if {row.key for row in log.read(ANSWERS, 0, 0, 10 * total)} != {f"e{i}" for i in range(COUNT)}:
        differences.append("an event without an answer")
    log.close()
    undisturbed_log.close()
    return differences


def scenario(crashes: Iterator[str], kills: int, *, partitions: int, seed: int) -> Outcome:
    """Live processes one after the other, killed at `kills` places at the most, then the comparison."""
    found: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name:
        folder, whole = Path(name), whole_log(partitions, seed)
        crash = next(crashes)
        for life in range(kills + 1):
            now = crash if life < kills else ""
            status = in_child(lambda now=now, life=life: run_live(folder, whole, 1000 * seed + life, now))
            if status == 0:
                break
            if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
                found[now.partition(":")[0]] += 1
                crash = next(crashes)
                continue
            return Outcome(
                found, [f"a process ended by itself with {status}, to be killed at {now or 'no place'}"]
            )
        return Outcome(found, compare(folder, whole))


def crashes_of(places: list[str], seed: int) -> Iterator[str]:
    """For ever: a place, the next one each time, at a random one of its turns."""
    chance = random.Random(seed)
    while True:
        for place in places:
            often = place.startswith(("run.before_step", "run.stepped", "shard."))
            yield f"{place}:{1 if place in RARE else chance.randint(1, 60 if often else 4)}"


def run_kills(wanted: int, *, seed: int = 0, every_place: bool = True) -> Findings:
    """At least `wanted` kills over all places, in one and in two partitions; the outcome as a table."""
    warmup()
    findings = Findings(
        "crashes",
        "SIGKILL around every durable step",
        "Live runs over an embedded log, killed and started again; then an undisturbed run over the same "
        "recorded order. Compared to the bit: parameters, memory, metrics, waiting forecasts and labels, "
        "answers, dead letters, reports of labels.",
        {"step": 0, "kills": 0, "scenarios": 0, "differences": 0},
    )
    steps = {place: step for step, places in PLACES.items() for place in places}
    kills: Counter[str] = Counter()
    scenarios: Counter[str] = Counter()
    differences: list[str] = []
    crashes = crashes_of(list(steps), seed)
    number = 0
    while sum(kills.values()) < wanted or (every_place and not all(kills[place] for place in steps)):
        outcome = scenario(crashes, 6, partitions=1 + number % 2, seed=seed + number)
        kills += outcome.kills
        for step in {steps[place] for place in outcome.kills}:
            scenarios[step] += 1
        differences += [f"scenario {number} ({dict(outcome.kills)}): {what}" for what in outcome.differences]
        number += 1
        if number > 20 + wanted:
            differences.append(f"after {number} scenarios only {dict(kills)}")
            break
    for step, places in PLACES.items():
        findings.add(
            step=step,
            kills=sum(kills[p] for p in places),
            scenarios=scenarios[step],
            differences=len(differences),
        )
    findings.add(step="all", kills=sum(kills.values()), scenarios=number, differences=len(differences))
    findings.notes += [*differences, f"places: {', '.join(f'{place} {kills[place]}' for place in steps)}"]
    return findings


def run() -> Findings:
    """The benchmark: at least 200 kills."""
    return run_kills(200)


def main() -> None:
    """`python -m benchmarks.crashes KILLS [--seed N]`: exit code 1 where anything differs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.crashes")
    parser.add_argument("kills", type=int)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    findings = run_kills(asked.kills, seed=asked.seed)
    print(findings.markdown())
    sys.exit(1 if findings.rows[-1]["differences"] else 0)


if __name__ == "__main__":
    main()
