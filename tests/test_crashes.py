"""SIGKILL around every durable step, as the benchmark does it; the comparison sees a difference where one is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import crashes
from benchmarks.crashes import PLACES, compare, run_live, whole_log
from engine.checkpoint import CheckpointStore


def test_killed_at_every_named_place_a_run_ends_as_an_undisturbed_one() -> None:
    """In a process of its own, because it forks."""
    places = sum(map(len, PLACES.values()))
    command = [sys.executable, "-m", "benchmarks.crashes", str(places), "--seed", "11"]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent.parent)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    kills = {
        word
        for line in ended.stdout.splitlines()
        if "places:" in line
        for word in line.split()
        if word == "0,"
    }
    assert not kills


@pytest.mark.parametrize("partitions", [1, 2])
def test_a_run_that_is_left_alone_differs_in_nothing(tmp_path: Path, partitions: int) -> None:
    whole = whole_log(partitions, seed=5)
    run_live(tmp_path, whole, seed=5, crash="")
    assert compare(tmp_path, whole) == []
    snapshot = CheckpointStore(tmp_path / "snapshots").latest()
    assert snapshot is not None
    left = crashes.make_shard()
    left.restore(snapshot.arrays, snapshot.meta["shard"])
    counts, join = left.counts, left.pending.counts
    happened = (counts.malformed, join.duplicate_events, join.corrected, counts.unlearned + join.late)
    assert all(happened), "a scenario in which nothing happens shows nothing"


def test_the_comparison_sees_another_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = whole_log(2, seed=5)
    run_live(tmp_path, whole, seed=5, crash="")
    monkeypatch.setattr(crashes.Order, "since", lambda self, number: [])
    differences = compare(tmp_path, whole)
    assert "answers" in differences
    assert any(name.startswith("learner/") for name in differences)
