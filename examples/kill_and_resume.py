"""The loop over an embedded log: killed in the middle it goes on, and ends as if nothing had happened.

Two topics, orders and what became of them, in one file. A second process reads them, answers, learns, and is
killed by SIGKILL. The same code run again goes on from the last snapshot.
"""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from engine import OnlineClassifier
from engine.checkpoint import CheckpointStore
from engine.evaluate.metrics import PrequentialMetrics
from engine.run import Loop
from engine.shard import Shard
from streams.codecs import encode_event, encode_label
from streams.event import Event, Label
from streams.log import EmbeddedLog, LogSink
from streams.log_source import LogSource
from streams.merge import MergedSource


def write(folder: Path) -> None:
    """1,000 orders, each with its outcome 40 seconds later."""
    chance = random.Random(1)
    with EmbeddedLog(folder / "log.sqlite") as log:
        orders, outcomes = [], []
        for i in range(1000):
            x = {"amount": round(chance.expovariate(0.02), 2), "night": chance.random() < 0.3}
            paid = chance.random() > (0.8 if x["night"] and x["amount"] > 40 else 0.05)
            event = Event(id=f"o{i}", time=float(i), features=x)
            label = Label(id=f"o{i}", time=i + 40.0, label=paid)
            orders.append((event.id, event.time, encode_event(event)))
            outcomes.append((label.id, label.time, encode_label(label)))
        log.append_many("orders", 0, orders)
        log.append_many("outcomes", 0, outcomes)


def run(folder: Path, kill_after: int | None = None) -> Loop:
    """Answer every order and learn every outcome, in the order of their times."""

    def watch(loop: Loop) -> None:
        if kill_after is not None and loop.records >= kill_after:
            os.kill(os.getpid(), signal.SIGKILL)  # no goodbye: nothing more is written

    with EmbeddedLog(folder / "log.sqlite") as log:
        loop = Loop(
            Shard(OnlineClassifier(seed=0), PrequentialMetrics()),
            MergedSource(LogSource(log, ["orders", "outcomes"], bounded=True)),
            LogSink(log, "orders.forecasts"),
            CheckpointStore(folder / "snapshots"),
            every_records=500,
            on_batch=watch,
        )
        if loop.resume():
            print(f"goes on after {loop.shard.counts.events} orders")
        loop.run()
        loop.source.close()
        return loop


def forecasts(folder: Path) -> list[bytes]:
    """The answers as they stand in the log."""
    with EmbeddedLog(folder / "log.sqlite") as log:
        return [row.value for row in log.read("orders.forecasts", 0, 0, 10_000)]


if len(sys.argv) > 1:  # the process that is to be killed
    run(Path(sys.argv[1]), kill_after=1300)

with tempfile.TemporaryDirectory() as base:
    killed, whole = Path(base) / "killed", Path(base) / "whole"
    write(killed)
    ended = subprocess.run([sys.executable, __file__, str(killed)], check=False)
    print("first process ended by", signal.Signals(-ended.returncode).name)
    print("answers in the log by then:", len(forecasts(killed)))
    resumed = run(killed)

    write(whole)
    undisturbed = run(whole)
    print("answers in the end:", len(forecasts(killed)))
    print("last answer:", json.loads(forecasts(killed)[-1]))
    print("the same bytes as an undisturbed run:", forecasts(killed) == forecasts(whole))
    same = resumed.shard.metrics.result() == undisturbed.shard.metrics.result()
    print("the same figures:", same, f"- accuracy {resumed.shard.metrics.result()['accuracy']:.3f}")
