"""Millions of events through one process: speed, memory, disk and snapshots must not change with their number.

A producer appends to an embedded log: events, most with the label inside, others with a late one or none,
some twice, some unreadable, with names that have not been seen before all the time. The loop answers, learns and
writes snapshots; log and answers are cut behind the oldest snapshot that is kept. One row per 500,000 events.
"""

from __future__ import annotations

import argparse
import gc
import heapq
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.tables import Findings
from engine.attach import spare_the_collector
from engine.checkpoint import CheckpointStore
from engine.evaluate.metrics import PrequentialMetrics
from engine.learner import OnlineClassifier, warmup
from engine.observe import Saved, Silent
from engine.run import Loop
from engine.shard import Shard
from streams.codecs import encode_event, encode_label
from streams.event import Event, Label, TopicPartition
from streams.join import PendingForecasts
from streams.join_limits import JoinLimits
from streams.log import EmbeddedLog, LogSink
from streams.log_source import LogSource
from streams.merge import MergedSource

EVENTS, LABELS, ANSWERS, DEAD = "events", "labels", "answers", "dead"
BATCH = 1024
RATE = 100.0  # events per second of event time
KEEP = 2  # snapshots
SPAN = 300.0  # seconds that a forecast waits

COLUMNS = {
    "million": 2,
    "events/s": 0,
    "memory MB": 1,
    "collected MB": 1,
    "objects": 0,
    "log MB": 1,
    "snapshot MB": 2,
    "stopped ms": 1,
    "written ms": 1,
    "waiting": 0,
    "ids": 0,
    "order KB": 1,
}
STEADY = (
    "memory MB",
    "collected MB",
    "objects",
    "log MB",
    "snapshot MB",
    "stopped ms",
    "written ms",
    "waiting",
    "ids",
)
"""What must not grow with the number of events; the recorded order does, by 17 bytes per stage of two ends."""


class Producer:
    """Appends batches of events and of the labels that are due by then, `events` in all; the seed decides."""

    def __init__(self, log: EmbeddedLog, events: int, seed: int) -> None:
        self.log, self.events, self.number = log, events, 0
        self.appended = 0  # records
        self._chance = np.random.default_rng(seed)
        self._due: list[tuple[float, str, str]] = []

    def __call__(self, loop: Loop | None = None) -> None:
        n = min(BATCH, self.events - self.number)
        taken = 0 if loop is None else sum(loop.positions.values())
        if self.appended - taken > BATCH or (n == 0 and not self._due):
            return
        x, where = self._chance.normal(size=(n, 4)), self._chance.random((n, 3))
        late, shops = self._chance.exponential(60.0, n), self._chance.zipf(1.3, n)
        rows: list[tuple[str, float, bytes]] = []
        for i in range(n):
            at = self.number / RATE
            row, u = x[i], where[i]
            score = row[0] - 0.5 * row[1] * (1 if (self.number // 400_000) % 2 else -1) + 0.3 * row[3]
            features = {"a": row[0].item(), "b": row[1].item(), "c": row[2].item(), "shop": f"s{shops[i]}"}
            answer = "yes" if score > 0 else "no"
            label = answer if u[0] < 0.6 else None
            event = Event(id=f"e{self.number}", time=at, features=features, label=label)
            raw = encode_event(event)
            rows += [(event.id, at, raw)] * (2 if u[1] < 0.01 else 1)
            if u[1] > 0.999:
                rows.append(("?", at, b"\xff not a message"))
            if 0.6 <= u[0] < 0.95:  # one in twenty never gets one
                heapq.heappush(self._due, (at + late[i].item(), event.id, answer))
            if u[2] < 0.01:  # a second one, another one in half of the cases
                heapq.heappush(
                    self._due, (at + 2 * late[i].item(), event.id, "no" if u[2] < 0.005 else answer)
                )
            self.number += 1
        labels: list[tuple[str, float, bytes]] = []
        now = self.number / RATE if self.number < self.events else np.inf
        while self._due and self._due[0][0] <= now:
            known, id, y = heapq.heappop(self._due)
            labels.append((id, known, encode_label(Label(id=id, time=known, label=y))))
        self.log.append_many(EVENTS, 0, rows)
        self.log.append_many(LABELS, 0, labels)
        self.appended += len(rows) + len(labels)


class Cutting(Silent):
    """Cuts the log behind the oldest snapshot that is kept, and notes what snapshots take."""

    def __init__(self, log: EmbeddedLog) -> None:
        self._log = log
        self._marks: list[dict[tuple[str, int], int]] = []
        self.written: list[float] = []
        self.sizes: list[int] = []
        self.pauses: list[float] = []

    def saved(self, loop: Any, saved: Saved) -> None:
        """A snapshot is durable."""
        self.written.append(saved.seconds)
        self.sizes.append(saved.entry.bytes)

    def durable(self, positions: Mapping[TopicPartition, int]) -> None:
        """Nobody reads what stands before the oldest snapshot, but for the last record, which tells this log."""
        behind = {(topic, number): at - 1 for (topic, number), at in positions.items()}
        behind |= {(topic, 0): self._log.end_offset(topic) for topic in (ANSWERS, DEAD)}
        self._marks.append(behind)
        if len(self._marks) > KEEP:
            for (topic, number), at in self._marks.pop(0).items():
                self._log.drop_before(topic, number, at)


class Timed(Loop):
    """A loop that notes how long it stands still for a snapshot."""

    pauses: list[float]

    def _save(self) -> None:
        began = time.perf_counter()
        super()._save()
        self.pauses.append(time.perf_counter() - began)


def open_loop(log: EmbeddedLog, folder: Path, producer: Producer, cutting: Cutting, every: int) -> Timed:
    """A small learner with every part that keeps something, all of them bounded within the first million."""
    model = OnlineClassifier(
        layers=1,
        width=4,
        neighbours=2,
        keys=("shop",),
        horizons=(3600.0,),
        category_horizons=(2000.0,),
        max_features=1024,
        memory_budget=4 << 20,
        seed=3,
    )
    limits = JoinLimits(max_age=SPAN, window=50_000, remembered=50_000, max_held=2_000)
    loop = Timed(
        Shard(model, PrequentialMetrics(), PendingForecasts(limits)),
        MergedSource(LogSource(log, [EVENTS, LABELS]), live=True),
        LogSink(log, ANSWERS),
        CheckpointStore(folder / "snapshots", keep=KEEP),
        dead=LogSink(log, DEAD),
        every_records=every,
        every_seconds=3600.0,
        batch=BATCH,
        on_batch=producer,
        on_durable=cutting.durable,
        observer=cutting,
    )
    loop.pauses = cutting.pauses
    return loop


def resident() -> float:
    """Resident memory in MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def bytes_of(folder: Path, pattern: str) -> int:
    """What the files of a folder take together."""
    return sum(path.stat().st_size for path in folder.glob(pattern))


def slope(millions: list[float], values: list[float]) -> tuple[float, float]:
    """Change per million events, as a share of the mean, and half its 95 % interval (least squares)."""
    from scipy import stats

    x, y = np.asarray(millions), np.asarray(values)
    if len(values) < 3 or not y.any():
        return (0.0, 0.0) if len(values) >= 3 else (float("nan"), float("nan"))
    fit = stats.linregress(x, y)
    mean = float(y.mean())
    return float(fit.slope) / mean, float(stats.t.ppf(0.975, len(y) - 2) * fit.stderr) / mean


def run_soak(
    events: int, *, step: int = 500_000, every: int = 50_000, seed: int = 0, seconds: float = float("inf")
) -> Findings:
    """`events` events, one row for every `step`, a divisor; stops after `seconds` with what was reached.

    every: records from snapshot to snapshot.
    """
    findings = Findings(
        "soak",
        "Millions of events in one process",
        f"An embedded log, {events:,} events asked for: labels inside, late, missing, repeated and corrected, "
        f"messages repeated and unreadable, new names all the time. Snapshots every {every:,} records, log and "
        "answers cut behind them. `memory`: resident; `collected`: after a collection; `objects`: what the "
        "collector tracks; `stopped`: median time for which the loop stands still for a snapshot; `written`: "
        "median time in which it becomes durable meanwhile; `ids`: remembered by the label join; `order`: the "
        "recorded order, of which all is kept.",
        COLUMNS,
    )
    warmup()
    spare_the_collector()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        log = EmbeddedLog(folder / "log.db")
        producer, cutting = Producer(log, events, seed), Cutting(log)
        producer()
        loop = open_loop(log, folder, producer, cutting, every)
        loop.resume()
        began = since = time.monotonic()
        for wanted in range(step, events + 1, step):
            while loop.shard.counts.answered < wanted and time.monotonic() - began < seconds:
                loop.turn(timeout=0.0)
            if loop.shard.counts.answered < wanted:
                findings.notes.append(
                    f"Stopped after {seconds:,.0f} s: {loop.shard.counts.answered:,} of {events:,} events."
                )
                break
            took = time.monotonic() - since
            findings.add(**_row(loop, cutting, folder, wanted / 1e6, step / took))
            since = time.monotonic()
        loop.on_batch = None  # no more is appended
        while loop.turn(timeout=0.0):
            pass
        loop.snapshot()
        _verdict(findings, loop)
        loop.close()
        log.close()
    return findings


def _row(loop: Timed, cutting: Cutting, folder: Path, million: float, rate: float) -> dict[str, Any]:
    before = resident()
    gc.collect()
    pending = loop.shard.pending
    row = {
        "million": million,
        "events/s": rate,
        "memory MB": before,
        "collected MB": resident(),
        "objects": len(gc.get_objects()),
        "log MB": bytes_of(folder, "log.db*") / 1e6,
        "snapshot MB": statistics.median(cutting.sizes) / 1e6,
        "stopped ms": 1e3 * statistics.median(cutting.pauses),
        "written ms": 1e3 * statistics.median(cutting.written),
        "waiting": len(pending),
        "ids": len(pending._answered) + len(pending._fates) + pending.held,
        "order KB": bytes_of(folder / "snapshots", "*.order") / 1e3,
    }
    for kept in (cutting.sizes, cutting.pauses, cutting.written):
        kept.clear()
    return row


def _verdict(findings: Findings, loop: Timed) -> None:
    """Whether what must be steady is, over the last three quarters."""
    rows = findings.rows[len(findings.rows) // 4 :]
    grows = []
    for name in STEADY:
        change, half = slope([row["million"] for row in rows], [float(row[name]) for row in rows])
        grows += [name] if change - half > 0.001 else []
        findings.notes.append(f"{name}: {change:+.2%} ± {half:.2%} per million events")
    counts, join = loop.shard.counts, loop.shard.pending.counts
    findings.notes.append(
        f"{counts.answered:,} events answered, {counts.learned:,} labels learned, {join.duplicate_events:,} "
        f"repeated events, {join.expired:,} forecasts given up, {join.orphans:,} orphans, "
        f"{join.duplicate_labels:,} repeated and {join.corrected:,} corrected labels, {counts.malformed:,} "
        "unreadable messages."
    )
    findings.notes.append(
        f"Grows over the last three quarters: {', '.join(grows) or 'nothing'} (more than 0.1 % per million, at "
        "95 %)."
    )


def run() -> Findings:
    """The benchmark: ten million events."""
    return run_soak(10_000_000)


def main() -> None:
    """`python -m benchmarks.soak EVENTS [--step N] [--seconds S] [--write]`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak")
    parser.add_argument("events", type=int)
    parser.add_argument("--step", type=int, default=500_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks/soak.md and .json")
    asked = parser.parse_args()
    findings = run_soak(asked.events, step=asked.step, seed=asked.seed, seconds=asked.seconds)
    print(findings.markdown())
    if asked.write:
        findings.write()
    sys.exit(0)


if __name__ == "__main__":
    main()
