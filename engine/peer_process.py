"""The demo's peers, in a process of their own: the same log in the same order, with the same late labels.

Its state is one pickle in the demo's own folder, since River's models know no other form; it is read by
nothing else, and where it cannot be read the peers begin anew and end the same. The figures stand beside it
as JSON, replaced at once. The process ends with its parent.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import pickle
import signal
import sys
from pathlib import Path
from typing import Any, TypeAlias

from engine.crashpoints import crash_point
from engine.evaluate.latency import Latency
from engine.evaluate.metrics import PrequentialMetrics
from streams.event import Event, Label, Malformed, Record
from streams.join import PendingForecasts
from streams.protocols import Clock, Source

STATE, RESULTS = "peers.pickle", "peers.json"
FORM = 3  # of the state; one of another form is as good as none
SAVE_SECONDS, TELL_SECONDS = 20.0, 1.0
SAVE_SHARE = 40.0  # times as long is worked between two saves as the last one took
_PR_SET_PDEATHSIG = 1

Answers: TypeAlias = dict[str, dict[Any, float]]
"""Peer → label → probability."""


class PeerRun:
    """Peers that read one source: each event is forecast by all, its label learned by all when it comes.

    names: of `engine.evaluate.peers`. Forecasts and features wait for their label as in the engine's loop.
    """

    def __init__(self, names: tuple[str, ...], seed: int, clock: Clock) -> None:
        from engine.evaluate.peers import make_peer

        self.peers = {name: make_peer(name, seed) for name in names}
        self.metrics = {name: PrequentialMetrics() for name in names}
        self.forecast_time = {name: Latency() for name in names}
        self.seconds = dict.fromkeys(names, 0.0)
        self.pending: PendingForecasts[tuple[dict[str, Any], dict[str, dict[Any, float]]]] = (
            PendingForecasts()
        )
        self.clock = clock
        self.events = 0
        self.finished = False

    def step(self, record: Record) -> None:
        """Take one record; what is no event and no label is passed over."""
        item = record.item
        if not isinstance(item, Malformed):
            self.pending.advance(item.time)
        if isinstance(item, Event):
            self.events += 1
            said: Answers = {}
            began = self.clock.monotonic()
            for name, peer in self.peers.items():
                said[name] = peer.predict_proba_one(item.features)
                began, before = self.clock.monotonic(), began
                self.forecast_time[name].add(began - before)
                self.seconds[name] += began - before
            early = self.pending.put(item.id, (item.features, said))
            if early is not None:
                self._learn(item.features, said, early.label)
        elif isinstance(item, Label):
            kept = self.pending.match(item)
            if kept is not None:
                self._learn(*kept, item)

    def _learn(self, features: dict[str, Any], said: Answers, label: Label) -> None:
        for name, peer in self.peers.items():
            self.metrics[name].update(label.label, said[name], label.weight, label.time)
            began = self.clock.monotonic()
            peer.learn_one(features, label.label)
            self.seconds[name] += self.clock.monotonic() - began

    def results(self) -> dict[str, Any]:
        """Figures, curves and, apart from them, what the clock said, per peer."""
        figures, clock = {}, {}
        for name, peer in self.peers.items():
            metrics = self.metrics[name]
            figures[name] = {
                "title": peer.title,
                "about": f"{peer.about}; the same raw features and late labels",
                **metrics.result(),
                "curve": metrics.curve(),
            }
            seconds = self.seconds[name]
            clock[name] = {
                "events_per_second": self.events / seconds if seconds > 0 else None,
                "latency_us": self.forecast_time[name].result(),
                "seconds": seconds,
            }
        return {"finished": self.finished, "peers": figures, "wall_clock": clock}


def load(path: Path, names: tuple[str, ...]) -> dict[str, Any] | None:
    """The state kept at `path`; None where there is none of these peers or it cannot be read."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    if len(data) < 32 or hashlib.sha256(data[32:]).digest() != data[:32]:
        return None
    state: dict[str, Any] = pickle.loads(data[32:])
    return state if (state.get("form"), state["names"]) == (FORM, names) else None


def save(path: Path, names: tuple[str, ...], run: PeerRun, positions: dict[Any, int]) -> None:
    """Keep everything at `path`, replaced at once."""
    kept = {name: value for name, value in vars(run).items() if name != "clock"}
    data = pickle.dumps({"form": FORM, "names": names, "run": kept, "positions": positions}, protocol=5)
    beside = path.with_name(path.name + ".writing")
    with open(beside, "wb") as file:
        file.write(hashlib.sha256(data).digest() + data)
        file.flush()
        os.fsync(file.fileno())
    crash_point("peers.before_rename")
    os.replace(beside, path)


def follow(
    source: Source, folder: Path, names: tuple[str, ...], seed: int, clock: Clock, stop: Any, parent: int
) -> bool:
    """Run the peers over the source until it ends (True), `stop` says so, or the parent is gone (False)."""
    run = PeerRun(names, seed, clock)
    state = load(folder / STATE, names)
    if state is not None:
        vars(run).update(state["run"])
        source.seek(state["positions"])
    positions = dict(source.positions())
    saved = told = clock.monotonic()
    cost = 0.0  # seconds that the last save took: a forest's pickle is large
    while not (run.finished or stop() or os.getppid() != parent):
        records = source.poll(64, 0.2)
        for record in records:
            run.step(record)
        positions = dict(source.positions())
        run.finished = not records and source.exhausted
        crash_point("peers.batch")
        now = clock.monotonic()
        if now - told >= TELL_SECONDS:
            told = now
            tell(folder, run)
        if now - saved >= max(SAVE_SECONDS, SAVE_SHARE * cost):
            save(folder / STATE, names, run, positions)
            saved = clock.monotonic()
            cost = saved - now
    tell(folder, run)
    if run.finished:
        (folder / STATE).unlink(missing_ok=True)
    else:
        save(folder / STATE, names, run, positions)
    return run.finished


def tell(folder: Path, run: PeerRun) -> None:
    """Replace the file of results."""
    from engine.evaluate.report import as_json

    beside = folder / (RESULTS + ".writing")
    beside.write_text(json.dumps(as_json(run.results())), encoding="utf-8")
    os.replace(beside, folder / RESULTS)


def told(folder: Path, names: tuple[str, ...]) -> dict[str, Any] | None:
    """The results as they stand; None where there are none of exactly these peers."""
    try:
        found: dict[str, Any] = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return found if tuple(found["peers"]) == names else None


def die_with_parent(parent: int) -> None:
    """Ask the kernel (Linux) for SIGTERM when the parent ends; where it cannot, `follow` looks itself."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        raise SystemExit(0)


def main(arguments: list[str]) -> None:
    """FOLDER PARENT CONFIG NAME…: the demo's folder, its process id, its --broker-config or "", the peers."""
    from engine.demo import Demo, open_journal, open_source, owned
    from engine.stop_signals import StopSignals
    from streams.clock import SystemClock

    folder, parent, config, names = (
        Path(arguments[0]), int(arguments[1]), Path(arguments[2]) if arguments[2] else None, tuple(arguments[3:])
    )  # fmt: skip
    die_with_parent(parent)
    demo = Demo.kept(folder, config)
    with (
        StopSignals() as stop,
        owned(demo.peer_folder, wait=60.0),
        contextlib.closing(open_journal(demo)) as journal,
        contextlib.closing(open_source(demo, journal)) as source,
    ):
        follow(source, demo.peer_folder, names, demo.seed, SystemClock(), stop, parent)
