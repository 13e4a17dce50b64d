"""Checkpoints and SIGKILL: at every named place the store is left with a whole one, the old or the new."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from engine.checkpoint import CheckpointStore
from engine.crashpoints import VARIABLE, watch

WRITER = """
import sys
import numpy as np
from engine.checkpoint import CheckpointStore
store = CheckpointStore(sys.argv[1], keep=2)
latest = store.latest()
start = latest.meta["events"] + 1 if latest else 1
for events in range(start, 7):
    store.save({"w": np.full(1000, float(events))}, {"events": events})
"""

PLACES = [
    "checkpoint.claimed",
    "checkpoint.before_write",
    "checkpoint.half_written",
    "checkpoint.before_fsync",
    "checkpoint.after_fsync",
    "checkpoint.before_rename",
    "checkpoint.after_rename",
    "checkpoint.before_folder_fsync",
    "checkpoint.durable",
    "checkpoint.before_remove",
]


def run_writer(folder: Path, crash: str = "") -> int:
    environment = {**os.environ, VARIABLE: crash}
    return subprocess.run(
        [sys.executable, "-c", WRITER, str(folder)], env=environment, check=False
    ).returncode


@pytest.mark.parametrize("place", PLACES)
def test_a_kill_at_a_named_place_leaves_a_whole_checkpoint_and_the_next_run_ends_the_same(
    tmp_path: Path, place: str
) -> None:
    count = 1 if place == "checkpoint.claimed" else 3
    assert run_writer(tmp_path, f"{place}:{count}") == -signal.SIGKILL
    left = CheckpointStore(tmp_path).latest()
    if left is not None:
        assert (left.arrays["w"] == left.meta["events"]).all()
    assert (left is None) == (place == "checkpoint.claimed")
    assert run_writer(tmp_path) == 0
    store = CheckpointStore(tmp_path)
    latest = store.latest()
    assert latest is not None
    assert latest.meta == {"events": 6}
    assert store.damaged == []
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".writing")]


def test_every_place_is_passed_in_its_order(tmp_path: Path) -> None:
    passed: list[str] = []
    watch(passed.append)
    try:
        store = CheckpointStore(tmp_path, keep=1)
        store.save({"w": np.zeros(1)}, {})
        store.save({"w": np.zeros(1)}, {})
    finally:
        watch(None)
    assert passed == PLACES[:-1] + PLACES[1:]
