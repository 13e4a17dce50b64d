"""The demo on a slice of its stream: killed at any point it ends as one that was left alone."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from kafka import TopicPartition as KafkaPartition

from engine.demo import FORECASTS, owned
from engine.evaluate.report import without_wall_clock
from streams.broker import connect_consumer
from streams.log import EmbeddedLog

LIMIT = 1600
PEER = "river-logistic"
SERVER = multiprocessing.get_context("forkserver")


@pytest.fixture(scope="module", autouse=True)
def preloaded() -> None:
    """Runs are forked from a process that has loaded everything: no run pays for start-up again."""
    folders = [str(Path(__file__).parent), *filter(None, sys.path)]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(folders))
    SERVER.set_forkserver_preload(["demo_preload"])


class Run:
    """One run of the demo in a process of its own, on a slice of its stream."""

    def __init__(self, folder: Path, *more: str, crash: str = "", peers: bool = False) -> None:
        arguments = ["demo", "--out", str(folder), "--limit", str(LIMIT)]
        arguments += ["--peer", PEER] if peers else ["--no-peers"]
        self._files = [Path(f"{folder}.out"), Path(f"{folder}.err")]
        self.process = SERVER.Process(
            target=demo_preload_run, args=([*arguments, *more], crash, *self._files)
        )
        self.process.start()

    def end(self) -> int:
        """The exit code, negative for a signal."""
        self.process.join(timeout=300)
        assert self.process.exitcode is not None
        return self.process.exitcode

    @property
    def out(self) -> str:
        return self._files[0].read_text()

    @property
    def err(self) -> str:
        return self._files[1].read_text()


def demo_preload_run(*arguments: Any) -> None:
    import demo_preload

    demo_preload.run(*arguments)


def demo(folder: Path, *more: str, crash: str = "", peers: bool = False) -> Run:
    run = Run(folder, *more, crash=crash, peers=peers)
    run.end()
    return run


def killed(folder: Path, *more: str, crash: str, peers: bool = False) -> bool:
    return demo(folder, *more, crash=crash, peers=peers).process.exitcode == -signal.SIGKILL


def finished(folder: Path, *more: str, peers: bool = False) -> Run:
    run = demo(folder, *more, peers=peers)
    assert run.process.exitcode == 0, run.err
    return run


def forecasts(folder: Path) -> list[tuple[str, dict[str, Any]]]:
    with EmbeddedLog(folder / "log.sqlite") as log:
        rows = log.read(FORECASTS, 0, 0, LIMIT)
    return [(row.key, json.loads(row.value)) for row in rows]


def forecasts_at(broker: str) -> dict[str, dict[str, Any]]:
    """What stands in the broker's topic; of repeats the last, as its readers would keep it."""
    with closing(connect_consumer(broker)) as consumer:
        where = KafkaPartition(FORECASTS, 0)
        end = consumer.end_offsets([where])[where]
        consumer.assign([where])
        consumer.seek(where, 0)
        found = {}
        while consumer.position(where) < end:
            for record in consumer.poll(timeout_ms=500).get(where, []):
                found[record.key.decode()] = json.loads(record.value)
    return found


def figures(folder: Path) -> dict[str, Any]:
    return without_wall_clock(json.loads((folder / "report.json").read_text()))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    finished(folder, peers=True)
    return folder


def test_the_report_holds_the_engine_its_peer_and_three_decisions(undisturbed: Path) -> None:
    report = json.loads((undisturbed / "report.json").read_text())
    wanted = {"events", "accuracy", "log_loss", "kappa_temporal", "balanced_accuracy", "roc_auc"}
    assert wanted | {"events_per_second", "latency_us"} <= set(report["everlearn"])
    assert wanted <= set(report[PEER])
    assert report[PEER]["events"] == report["everlearn"]["events"] > 700
    assert len(report["decisions"]) == 3
    assert all(decision["title"] != decision["id"] for decision in report["decisions"])
    assert all(decision["experts"] and decision["context"] for decision in report["decisions"])
    assert report["everlearn"]["experts"]["weights"]


def test_the_terminal_tells_of_three_decisions(undisturbed: Path) -> None:
    out = finished(undisturbed, peers=True).out
    assert out.count("strongest experts") == 3
    assert "wrong, " in out
    assert "right, late it was" in out


def test_every_departure_is_answered_once_and_in_order(undisturbed: Path) -> None:
    answers = forecasts(undisturbed)
    assert len({key for key, _ in answers}) == len(answers) > 700
    times = [message["time"] for _, message in answers]
    assert times == sorted(times)
    assert [message["offset"] for _, message in answers] == list(range(len(answers)))


@pytest.mark.parametrize(
    "places",
    [
        ["demo.begun", "demo.written", "checkpoint.claimed", "run.batch:3", "run.before_snapshot:4"],
        ["checkpoint.half_written:3", "checkpoint.before_rename:2", "checkpoint.after_rename:2"],
        ["run.before_flush:2", "checkpoint.before_remove:1", "run.resumed", "demo.before_report"],
    ],
    ids=["begin", "write", "end"],
)
def test_killed_at_a_named_place_it_ends_the_same(
    tmp_path: Path, undisturbed: Path, places: list[str]
) -> None:
    for place in places:
        assert killed(tmp_path, crash=place), place
    finished(tmp_path)
    assert forecasts(tmp_path) == forecasts(undisturbed)
    alone = figures(undisturbed)
    del alone[PEER]
    assert figures(tmp_path) == alone


def test_killed_at_random_moments_it_ends_the_same_peer_included(tmp_path: Path, undisturbed: Path) -> None:
    chance = random.Random(5)
    for _ in range(5):
        run = Run(tmp_path, peers=True)
        time.sleep(chance.uniform(0.1, 2.0))
        run.process.kill()
        run.end()
    finished(tmp_path, peers=True)
    assert forecasts(tmp_path) == forecasts(undisturbed)
    assert figures(tmp_path) == figures(undisturbed)


@pytest.mark.kafka
def test_through_a_broker_killed_or_not_it_ends_the_same(
    tmp_path: Path, undisturbed: Path, broker: str
) -> None:
    alone = figures(undisturbed)
    del alone[PEER]
    for name, places in {
        "alone": [],
        "killed": ["demo.written", "run.batch:3", "run.before_snapshot:3", "checkpoint.before_rename:2"],
    }.items():
        for place in places:
            assert killed(tmp_path / name, "--broker", broker, crash=place), place
        finished(tmp_path / name, "--broker", broker)
        assert forecasts_at(broker) == dict(forecasts(undisturbed))
        assert figures(tmp_path / name) == alone


def test_without_a_broker_nothing_is_begun(tmp_path: Path) -> None:
    refused = demo(tmp_path, "--broker", "127.0.0.1:1")
    assert refused.process.exitcode == 2
    assert "no Kafka broker answers at 127.0.0.1:1" in refused.err
    assert killed(tmp_path, crash="demo.begun")


def test_peers_that_are_killed_go_on_with_the_next_start(tmp_path: Path, undisturbed: Path) -> None:
    first = demo(tmp_path, crash="peers.batch:9", peers=True)
    assert first.process.exitcode == 2
    assert "peers' process ended" in first.err
    finished(tmp_path, peers=True)
    assert figures(tmp_path) == figures(undisturbed)


def test_a_signal_stops_it_cleanly_and_says_how_to_go_on(tmp_path: Path, undisturbed: Path) -> None:
    run = Run(tmp_path)
    while not list((tmp_path / "snapshots").glob("*.safetensors")):
        time.sleep(0.005)
    run.process.terminate()
    assert run.end() == 0, run.err
    assert "the same command goes on" in run.out
    finished(tmp_path)
    assert forecasts(tmp_path) == forecasts(undisturbed)


def test_a_finished_run_is_shown_again_and_says_so(undisturbed: Path) -> None:
    before = figures(undisturbed)
    (undisturbed / "report.html").unlink()
    assert "holds a finished run" in finished(undisturbed, peers=True).out
    assert figures(undisturbed) == before
    assert (undisturbed / "report.html").exists()


def test_a_folder_of_another_run_is_refused(undisturbed: Path) -> None:
    refused = demo(undisturbed, "--seed", "7")
    assert refused.process.exitcode == 2
    assert refused.err.count("\n") == 1
    assert "seed=0, asked for 7" in refused.err


def test_a_folder_in_which_another_demo_works_is_refused(tmp_path: Path) -> None:
    with owned(tmp_path):
        refused = demo(tmp_path)
    assert refused.process.exitcode == 2
    assert "another demo is at work" in refused.err


def test_a_folder_with_other_files_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    refused = demo(tmp_path)
    assert refused.process.exitcode == 2
    assert "'thesis.txt'" in refused.err
    assert not (tmp_path / "log.sqlite").exists()


def test_the_peer_process_ends_with_its_parent(tmp_path: Path) -> None:
    run = Run(tmp_path, peers=True)
    children = Path(f"/proc/{run.process.pid}/task/{run.process.pid}/children")
    while not (found := children.read_text().split()):
        time.sleep(0.005)
    run.process.kill()
    run.end()
    deadline = time.monotonic() + 60
    while Path(f"/proc/{found[0]}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
