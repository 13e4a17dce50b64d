"""Checkpoints and SIGKILL: at every named place the store is left with a whole one, the old or the new."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from engine.checkpoint import CheckpointStore, SnapshotWriter
from engine.crashpoints import VARIABLE, watch

WRITER = """
import sys
import numpy as np
from engine.checkpoint import CheckpointStore, SnapshotWriter
store = CheckpointStore(sys.argv[1], keep=2)
latest = store.latest()
start = latest.meta["events"] + 1 if latest else 1
writer = SnapshotWriter(store)
for events in range(start, 7):
    arrays, meta = {"w": np.full(1000, float(events))}, {"events": events}
    if sys.argv[2] == "background":
        writer.submit(arrays, meta, lambda events=events: print(events, flush=True))
        writer.settle()
    else:
        store.save(arrays, meta)
        print(events, flush=True)
writer.wait()
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


def run_writer(folder: Path, how: str, crash: str = "") -> tuple[int, list[int]]:
    """The exit code, and the events of the snapshots that it was told are durable."""
    ran = subprocess.run(
        [sys.executable, "-c", WRITER, str(folder), how],
        env={**os.environ, VARIABLE: crash},
        check=False,
        stdout=subprocess.PIPE,
        text=True,
    )
    return ran.returncode, [int(line) for line in ran.stdout.split()]


@pytest.mark.parametrize("how", ["at once", "background"])
@pytest.mark.parametrize("place", PLACES)
def test_a_kill_at_a_named_place_leaves_a_whole_checkpoint_and_the_next_run_ends_the_same(
    tmp_path: Path, place: str, how: str
) -> None:
    count = 1 if place == "checkpoint.claimed" else 3
    code, told = run_writer(tmp_path, how, f"{place}:{count}")
    assert code == -signal.SIGKILL
    left = CheckpointStore(tmp_path).latest()
    if left is not None:
        assert (left.arrays["w"] == left.meta["events"]).all()
        assert left.meta["events"] >= max(told)
    assert (left is None) == (place == "checkpoint.claimed")
    assert run_writer(tmp_path, how)[0] == 0
    store = CheckpointStore(tmp_path)
    latest = store.latest()
    assert latest is not None
    assert latest.meta == {"events": 6}
    assert store.damaged == []
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".writing")]
    assert len(list(tmp_path.glob("*.claim"))) == 1


@pytest.mark.parametrize("background", [False, True])
def test_every_place_is_passed_in_its_order(tmp_path: Path, background: bool) -> None:
    passed: list[str] = []
    watch(passed.append)
    try:
        store = CheckpointStore(tmp_path, keep=1)
        if background:
            with SnapshotWriter(store) as writer:
                for _ in range(2):
                    writer.submit({"w": np.zeros(1)}, {}, lambda: passed.append("told"))
        else:
            for _ in range(2):
                store.save({"w": np.zeros(1)}, {})
                passed.append("told")
    finally:
        watch(None)
    assert passed == [*PLACES[:-1], "told", *PLACES[1:], "told"]
