"""The demo on a slice of its stream: killed at any point it ends as one that was left alone."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from kafka import TopicPartition as KafkaPartition

from engine.crashpoints import VARIABLE
from engine.demo import FORECASTS
from engine.evaluate.report import without_wall_clock
from streams.broker import connect_consumer
from streams.log import EmbeddedLog

LIMIT = 3000
PEER = "river-logistic"


def begin(folder: Path, *more: str, crash: str = "", peers: bool = False) -> subprocess.Popen[str]:
    arguments = ["demo", "--out", str(folder), "--limit", str(LIMIT)]
    arguments += ["--peer", PEER] if peers else ["--no-peers"]
    return subprocess.Popen(
        [sys.executable, "-m", "engine.cli", *arguments, *more],
        env={**os.environ, VARIABLE: crash},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def demo(folder: Path, *more: str, crash: str = "", peers: bool = False) -> subprocess.CompletedProcess[str]:
    process = begin(folder, *more, crash=crash, peers=peers)
    out, err = process.communicate(timeout=300)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


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
    result = demo(folder, peers=True)
    assert result.returncode == 0, result.stderr
    return folder


def test_the_report_holds_the_engine_its_peer_and_three_decisions(undisturbed: Path) -> None:
    report = json.loads((undisturbed / "report.json").read_text())
    wanted = {"events", "accuracy", "log_loss", "kappa_temporal", "balanced_accuracy", "roc_auc"}
    assert wanted | {"events_per_second", "latency_us"} <= set(report["everlearn"])
    assert wanted <= set(report[PEER])
    assert report[PEER]["events"] == report["everlearn"]["events"] > 1000
    assert len(report["decisions"]) == 3
    assert all(decision["title"] != decision["id"] for decision in report["decisions"])
    assert all(decision["experts"] and decision["context"] for decision in report["decisions"])
    assert report["everlearn"]["experts"]["weights"]


def test_every_departure_is_answered_once_and_in_order(undisturbed: Path) -> None:
    answers = forecasts(undisturbed)
    assert len({key for key, _ in answers}) == len(answers) > 1000
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
        assert demo(tmp_path, crash=place).returncode == -signal.SIGKILL, place
    assert demo(tmp_path).returncode == 0
    assert forecasts(tmp_path) == forecasts(undisturbed)
    alone = figures(undisturbed)
    del alone[PEER]
    assert figures(tmp_path) == alone


def test_killed_at_random_moments_it_ends_the_same_peer_included(tmp_path: Path, undisturbed: Path) -> None:
    chance = random.Random(5)
    for _ in range(4):
        process = begin(tmp_path, peers=True)
        time.sleep(chance.uniform(1.0, 3.5))
        process.kill()
        process.communicate()
    assert demo(tmp_path, peers=True).returncode == 0
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
            crashed = demo(tmp_path / name, "--broker", broker, crash=place)
            assert crashed.returncode == -signal.SIGKILL, crashed.stderr
        result = demo(tmp_path / name, "--broker", broker)
        assert result.returncode == 0, result.stderr
        assert forecasts_at(broker) == dict(forecasts(undisturbed))
        assert figures(tmp_path / name) == alone


def test_without_a_broker_nothing_is_begun(tmp_path: Path) -> None:
    refused = demo(tmp_path, "--broker", "127.0.0.1:1")
    assert refused.returncode == 2
    assert "no Kafka broker answers at 127.0.0.1:1" in refused.stderr
    assert demo(tmp_path, crash="demo.begun").returncode == -signal.SIGKILL


def test_peers_that_are_killed_go_on_with_the_next_start(tmp_path: Path, undisturbed: Path) -> None:
    assert demo(tmp_path).returncode == 0
    first = demo(tmp_path, crash="peers.batch:9", peers=True)
    assert first.returncode == 2
    assert "peers' process ended" in first.stderr
    assert demo(tmp_path, peers=True).returncode == 0
    assert figures(tmp_path) == figures(undisturbed)


def test_a_signal_stops_it_cleanly_and_says_how_to_go_on(tmp_path: Path, undisturbed: Path) -> None:
    process = begin(tmp_path)
    while not list((tmp_path / "snapshots").glob("*.safetensors")):
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "goes on" in out
    assert demo(tmp_path).returncode == 0
    assert forecasts(tmp_path) == forecasts(undisturbed)


def test_a_finished_run_is_shown_again_and_says_so(undisturbed: Path) -> None:
    before = figures(undisturbed)
    (undisturbed / "report.html").unlink()
    again = demo(undisturbed, peers=True)
    assert again.returncode == 0
    assert "holds a finished run" in again.stdout
    assert figures(undisturbed) == before
    assert (undisturbed / "report.html").exists()


def test_a_folder_of_another_run_is_refused(undisturbed: Path) -> None:
    result = demo(undisturbed, "--seed", "7")
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "seed=0, asked for 7" in result.stderr


def test_a_folder_with_other_files_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    result = demo(tmp_path)
    assert result.returncode == 2
    assert "'thesis.txt'" in result.stderr
    assert not (tmp_path / "log.sqlite").exists()


def test_the_peer_process_ends_with_its_parent(tmp_path: Path) -> None:
    process = begin(tmp_path, peers=True)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while not (found := children.read_text().split()):
        time.sleep(0.02)
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 60
    while Path(f"/proc/{found[0]}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
