"""The demo: will a flight arrive late? From a log through the loop to a report, River's learners beside.

Everything lies in one folder: `demo.json` (what was asked for), `log.sqlite` (the flights and the forecasts,
unless a broker holds them), `snapshots/`, `peers/`, `report.html` and `report.json`. Ended at any point, by
SIGKILL as well, it goes on there and ends with the same forecasts and figures.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.crashpoints import crash_point

if TYPE_CHECKING:
    from engine.journal import Journal
    from engine.run import Loop
    from engine.terminal import Progress, View
    from streams.protocols import Source

FORECASTS = "flights.forecasts"
PEERS = ("river-logistic", "river-arf")
KEYS: tuple[str | tuple[str, ...], ...] = (
    "carrier",
    "origin",
    "dest",
    ("carrier", "origin"),
    ("hour", "origin"),
    "tailnum",
)
LATE = 1
SHOW_SECONDS = 0.5
_PEERS_COMMAND = """\
import sys
sys.path.append(sys.argv.pop(1))
from engine.peer_process import main
main(sys.argv[1:])
"""


class DemoError(Exception):
    """The demo cannot run here; the text says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class Demo:
    """What was asked for.

    folder: where everything goes. months: of 2013. broker: "host:port", None for the embedded log.
    broker_config: TOML file of settings for its clients. seed: of the learners. peers: names of
    `engine.evaluate.peers`. limit: only the first so many records, events and labels counted; None for all.
    """

    folder: Path
    months: tuple[int, ...] = (1, 2)
    broker: str | None = None
    broker_config: Path | None = None
    seed: int = 0
    peers: tuple[str, ...] = PEERS
    limit: int | None = None

    @property
    def peer_folder(self) -> Path:
        """Where the peers' process keeps its state."""
        return self.folder / "peers"

    @property
    def identity(self) -> dict[str, Any]:
        """What must not change when a folder is used again, ready for JSON."""
        found = asdict(self)
        del found["folder"], found["peers"], found["broker_config"]
        return {**found, "months": list(self.months)}

    @classmethod
    def kept(cls, folder: Path, broker_config: Path | None = None) -> Demo:
        """The demo that a folder was begun with, its peers left out; settings of a broker are never kept."""
        found = json.loads((folder / "demo.json").read_text(encoding="utf-8"))
        found["months"] = tuple(found["months"])
        return cls(folder=folder, broker_config=broker_config, peers=(), **found)


def open_journal(demo: Demo) -> Journal:
    """Where this demo's flights and forecasts stand."""
    from engine.journal import BrokerJournal, EmbeddedJournal
    from streams.broker_config import read_options

    if demo.broker is None:
        return EmbeddedJournal(demo.folder / "log.sqlite")
    return BrokerJournal(demo.broker, read_options(demo.broker_config))


def open_source(demo: Demo, journal: Journal) -> Source:
    """Departures and outcomes from the beginning, in the order of event time."""
    from engine.journal import FirstRecords, Reading
    from streams.flights import EVENTS, LABELS
    from streams.merge import MergedSource

    source = MergedSource(journal.source([EVENTS, LABELS], Reading(bounded=True)))
    return source if demo.limit is None else FirstRecords(source, demo.limit)


@contextlib.contextmanager
def owned(folder: Path, wait: float = 0.0) -> Iterator[None]:
    """One process at a time works in a folder; DemoError where another does for more than `wait` seconds.

    The lock is the operating system's and goes with the process, however that ends.
    """
    import fcntl

    folder.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + wait
    with open(folder / "lock", "w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise DemoError(
                        f"{folder}: another demo is at work in this folder; wait for it, or use --out"
                    ) from None
                time.sleep(0.05)
        yield


def run_demo(demo: Demo, view: View) -> bool:
    """Run or go on; True once everything is finished and the report written, False where a signal ended it.

    Raises DemoError where the folder holds something else or another process works in it, CheckpointError
    where no snapshot is whole, streams' errors where log or broker cannot be used.
    """
    from engine.stop_signals import StopSignals

    try:
        demo.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DemoError(f"--out {demo.folder}: cannot be used as a folder ({error.strerror})") from None
    with owned(demo.folder), StopSignals() as stop, contextlib.closing(view):
        _begin(demo)
        with contextlib.closing(open_journal(demo)) as journal:
            total = _write(demo, journal, view)
            crash_point("demo.written")
            with _peers_beside(demo) as beside:
                return _Run(demo, journal, total, view, beside).to_the_end(stop)


def _prepare(journal: Journal) -> None:
    from streams.flights import EVENTS, LABELS

    journal.prepare([EVENTS, LABELS, FORECASTS])


def _write(demo: Demo, journal: Journal, view: View) -> int:
    """Write what is missing of the flights; how many labels there are to come."""
    from streams.flights import LABELS, write_flights

    _prepare(journal)
    with journal.log() as log:
        events, labels = write_flights(log, demo.months)
        if events or labels:
            view.say(f"wrote {events:,} departures and {labels:,} outcomes to the log")
        total = log.end_offset(LABELS)
    return total if demo.limit is None else min(total, demo.limit // 2)


def _begin(demo: Demo) -> None:
    """Note what was asked for; DemoError where the folder was begun with something else."""
    path = demo.folder / "demo.json"
    if path.exists():
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            raise DemoError(f"{path}: damaged; remove the folder, or use --out") from None
        for name, value in demo.identity.items():
            if kept.get(name) != value:
                raise DemoError(
                    f"{demo.folder}: its run was begun with {name}={kept.get(name)!r}, asked for {value!r}; "
                    "use the same options, another --out, or remove the folder"
                )
        return
    ours = ("lock", "demo.json.writing")
    others = [entry.name for entry in demo.folder.iterdir() if entry.name not in ours]
    if others:
        raise DemoError(
            f"{demo.folder}: holds {sorted(others)[0]!r} and is not a demo's folder; use another --out"
        )
    if demo.broker is not None:
        _prepare(open_journal(demo))  # where no broker answers, nothing has begun
    _replace(path, json.dumps(demo.identity))
    crash_point("demo.begun")


def _replace(path: Path, text: str) -> None:
    beside = path.with_name(path.name + ".writing")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)


@contextlib.contextmanager
def _peers_beside(demo: Demo) -> Iterator[subprocess.Popen[bytes] | None]:
    """The peers' process, unless there are none or they are finished; ended with this block."""
    from engine.peer_process import told

    found = told(demo.peer_folder, demo.peers) if demo.peers else None
    if not demo.peers or (found is not None and found["finished"]):
        yield None
        return
    root = str(Path(__file__).resolve().parent.parent)
    arguments = [root, str(demo.folder), str(os.getpid()), str(demo.broker_config or ""), *demo.peers]
    process = subprocess.Popen([sys.executable, "-P", "-c", _PEERS_COMMAND, *arguments])
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class _Run:
    """One run of the demo, from resuming to the report."""

    def __init__(
        self, demo: Demo, journal: Journal, total: int, view: View, beside: subprocess.Popen[bytes] | None
    ) -> None:
        from engine.checkpoint import CheckpointStore
        from engine.evaluate.metrics import PrequentialMetrics
        from engine.learner import OnlineClassifier, warmup
        from engine.run import Loop
        from engine.shard import Shard
        from engine.witness import Witness

        warmup()  # compiling is no part of any event's latency
        self.demo, self.journal, self.view, self.beside = demo, journal, view, beside
        self.total = total
        shard = Shard(
            OnlineClassifier(seed=demo.seed, keys=KEYS),
            PrequentialMetrics(positive=LATE),
            witness=Witness(of=LATE, after=2000 if demo.limit is None else demo.limit // 8),
        )
        self.loop = Loop(
            shard,
            open_source(demo, journal),
            journal.sink(FORECASTS),
            CheckpointStore(demo.folder / "snapshots"),
            config=demo.identity,
            every_records=20_000 if demo.limit is None else max(demo.limit // 8, 1),
            on_batch=self._tick,
        )
        self.speed = _Speed(demo.folder / "speed.json")
        self._shown = 0.0

    def to_the_end(self, stop: Any) -> bool:
        view, loop = self.view, self.loop
        if loop.resume():
            counts = loop.shard.counts
            how = "holds a finished run" if loop.finished else "goes on where it was"
            view.say(f"{self.demo.folder} {how}: {counts.events:,} events, {counts.learned:,} labels")
        finished = loop.finished or loop.run(stop)
        self.speed.add(loop)
        loop.source.close()
        loop.sink.close()
        while finished and not stop() and self._peers_are_running():
            self._tick(loop)
            time.sleep(0.1)
        if stop() or not finished:
            view.say(f"stopped; the same command goes on: everlearn demo --out {self.demo.folder}")
            return False
        view.show(self.progress())
        view.close()
        crash_point("demo.before_report")
        self._report()
        return True

    def _peers_are_running(self) -> bool:
        if self.beside is None:
            return False
        code = self.beside.poll()
        if code:
            raise DemoError(
                f"the peers' process ended with {code}; its message stands above. "
                "Start again, or leave the peers out with --no-peers"
            )
        return code is None

    def _tick(self, loop: Loop) -> None:
        now = time.monotonic()
        if now - self._shown >= SHOW_SECONDS:
            self._shown = now
            self.speed.add(loop)
            self.view.show(self.progress())

    def _told(self) -> dict[str, Any]:
        from engine.peer_process import told

        return told(self.demo.peer_folder, self.demo.peers) or {"peers": {}, "wall_clock": {}}

    def progress(self) -> Progress:
        from engine.terminal import Progress, Row

        shard = self.loop.shard
        figures = shard.metrics.result()
        rows = [Row.of("everlearn", figures, self.speed.events_per_second)]
        peers = self._told()
        for name, found in peers["peers"].items():
            rows.append(Row.of(found["title"], found, peers["wall_clock"][name]["events_per_second"]))
        return Progress(
            rows=rows,
            total=self.total,
            time=figures["last_time"],
            experts=dict(shard.model.expert_weights()),
            drifts=figures["drifts"]["count"],
            last_drift=figures["drifts"]["last"],
        )

    def _report(self) -> None:
        from engine.demo_report import results, sentence
        from engine.evaluate.report import write_report
        from engine.journal import Reading
        from streams.flights import EVENTS

        peers = self._told()
        events = self.journal.source([EVENTS], Reading(bounded=True))
        found = results(self.demo, self.loop.shard, events, KEYS)
        clock = {"everlearn": self.speed.result(), **peers["wall_clock"]}
        page = write_report(self.demo.folder, {**found, **peers["peers"], "wall_clock": clock})
        for decision in found["decisions"]:
            self.view.say(sentence(decision))
        self.view.say(f"report: {page} and {page.with_suffix('.json').name} beside it")


class _Speed:
    """Events, seconds and latencies over all runs in a folder: the clock's figures, beside the snapshot."""

    def __init__(self, path: Path) -> None:
        from engine.evaluate.latency import Latency

        self._path = path
        self._before: dict[str, Any] = {"seconds": 0.0, "latency": Latency().state()}
        with contextlib.suppress(FileNotFoundError, ValueError):
            self._before = json.loads(path.read_text(encoding="utf-8"))
        self._latency, self._seconds = Latency.from_state(self._before["latency"]), self._before["seconds"]

    def add(self, loop: Loop) -> None:
        """Take over what the loop has measured so far in this process."""
        from engine.evaluate.latency import Latency

        self._latency = Latency.from_state(self._before["latency"])
        self._latency.merge(loop.latency)
        self._seconds = self._before["seconds"] + loop.busy_seconds
        _replace(self._path, json.dumps({"seconds": self._seconds, "latency": self._latency.state()}))

    @property
    def events_per_second(self) -> float | None:
        """Events answered per second of work, reading, labels and writing included."""
        return self._latency.count / self._seconds if self._seconds > 0 else None

    def result(self) -> dict[str, Any]:
        """The report's fields."""
        return {
            "events_per_second": self.events_per_second,
            "latency_us": self._latency.result(),
            "seconds": self._seconds,
        }
