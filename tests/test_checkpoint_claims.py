"""Who may write to a store: one process holds a shard, and the one before it can do no harm any more."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from engine.checkpoint import CheckpointStore, SnapshotNotWritten, StaleWriter
from engine.checkpoint.store import shards
from engine.crashpoints import watch

ARRAYS = {"weights": np.arange(12.0).reshape(3, 4), "steps": np.array(7)}
META = {"events": 3}


def events_of(found: CheckpointStore) -> int:
    latest = found.latest()
    assert latest is not None
    return int(latest.meta["events"])


def test_a_process_that_was_replaced_can_neither_write_nor_outrank(tmp_path: Path) -> None:
    old, new = CheckpointStore(tmp_path), CheckpointStore(tmp_path)
    for events in range(3):
        old.save(ARRAYS, {"events": events})
    assert new.claim() == old.claim() + 1
    with pytest.raises(StaleWriter, match="taken over"):
        old.save(ARRAYS, {"events": 99})
    new.save(ARRAYS, {"events": 3})
    latest = new.latest()
    assert latest is not None
    assert (latest.generation, latest.meta) == (2, {"events": 3})


def after_a_claim(old: CheckpointStore, new: CheckpointStore, place: str, events: int) -> None:
    """`old` saves, and is overtaken by the claim of `new` at this place."""

    def overtake(name: str) -> None:
        if name == place:
            watch(None)
            new.claim()

    watch(overtake)
    try:
        with pytest.raises(StaleWriter, match="generation 2, this process holds 1; stop this process"):
            old.save(ARRAYS, {"events": events})
    finally:
        watch(None)


@pytest.mark.parametrize(
    "place",
    ["before_write", "half_written", "before_fsync", "before_rename", "after_rename", "durable"],
)
def test_a_process_overtaken_while_it_writes_neither_outranks_nor_removes(tmp_path: Path, place: str) -> None:
    old, new = CheckpointStore(tmp_path, keep=1), CheckpointStore(tmp_path, keep=2)
    old.save(ARRAYS, {"events": 1})
    after_a_claim(old, new, f"checkpoint.{place}", events=2)
    seen = events_of(new)
    assert seen in (1, 2)
    for events in (3, 4):
        new.save(ARRAYS, {"events": events})
    with pytest.raises(StaleWriter):
        old.save(ARRAYS, {"events": 99})
    assert events_of(CheckpointStore(tmp_path)) == 4
    assert {entry.generation for entry in new.ls()} == {2}
    assert len(new.ls()) == 2
    assert not list(tmp_path.glob("*.writing"))


def test_an_older_generation_removes_nothing_of_a_newer_one(tmp_path: Path) -> None:
    old, new = CheckpointStore(tmp_path, keep=1), CheckpointStore(tmp_path, keep=5)
    old.save(ARRAYS, {"events": 1})
    new.claim()
    for events in (2, 3, 4):
        new.save(ARRAYS, {"events": events})
    old._prune(1)  # as if it had looked before the claim
    assert [entry.generation for entry in new.ls()] == [1, 2, 2, 2]


def test_a_look_tells_whether_another_has_claimed(tmp_path: Path) -> None:
    old, new = CheckpointStore(tmp_path), CheckpointStore(tmp_path)
    old.check()  # nothing is held, nothing lost
    old.claim()
    old.check()
    new.claim()
    new.check()
    with pytest.raises(StaleWriter, match="shard 0 was taken over by generation 2, this process holds 1"):
        old.check()
    newest = CheckpointStore(tmp_path)
    newest.claim()
    for stale in (old, new):
        with pytest.raises(StaleWriter, match="generation 3"):
            stale.check()
    newest.check()


def test_a_look_tells_of_every_state_that_a_claim_passes(tmp_path: Path) -> None:
    held = CheckpointStore(tmp_path)
    held.claim()
    own, after, later = (tmp_path / f"0-g{n:06d}.claim" for n in (1, 2, 3))
    states: list[Callable[[], object]] = [after.touch, own.unlink, later.touch, after.unlink]
    held.check()
    for state in states:
        state()
        with pytest.raises(StaleWriter):
            held.check()


def test_claims_are_removed_the_oldest_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in (3, 1, 4, 2):
        (tmp_path / f"0-g{n:06d}.claim").touch()
    removed: list[str] = []
    unlink = Path.unlink
    monkeypatch.setattr(
        Path, "unlink", lambda path, missing_ok=False: (removed.append(path.name), unlink(path, missing_ok))
    )
    assert CheckpointStore(tmp_path).claim() == 5
    assert removed == [f"0-g{n:06d}.claim" for n in (1, 2, 3, 4)]


def test_a_claim_removed_by_hand_stops_nobody(tmp_path: Path) -> None:
    held = CheckpointStore(tmp_path)
    held.save(ARRAYS, META)
    (tmp_path / "0-g000001.claim").unlink()
    held.check()
    held.save(ARRAYS, META)
    assert CheckpointStore(tmp_path).claim() == 2
    with pytest.raises(StaleWriter):
        held.check()


def test_a_look_at_a_folder_that_is_gone_is_no_takeover(tmp_path: Path) -> None:
    held = CheckpointStore(tmp_path / "snapshots")
    held.claim()
    (tmp_path / "snapshots").rename(tmp_path / "aside")
    with pytest.raises(SnapshotNotWritten, match="the folder is gone"):
        held.check()


RACER = """
import json, sys, time
from pathlib import Path
from engine.checkpoint import CheckpointStore, StaleWriter
folder, me, shards = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
stores = [CheckpointStore(folder / "snapshots", str(n)) for n in range(shards)]
def meet(name):
    (folder / f"{name}.{me}").touch()
    while not (folder / name).exists():
        time.sleep(0.001)
meet("ready")
held = [store.claim() for store in stores]
meet("claimed")
kept = []
for store in stores:
    try:
        store.check()
        store.save({}, {"by": me})
        kept.append(1)
    except StaleWriter:
        kept.append(0)
print(json.dumps([held, kept]))
"""


def test_of_processes_that_claim_at_once_exactly_one_may_write(tmp_path: Path) -> None:
    racers, of = 5, 20
    command = [sys.executable, "-c", RACER, str(tmp_path)]
    running = [
        subprocess.Popen([*command, str(me), str(of)], stdout=subprocess.PIPE, text=True)
        for me in range(racers)
    ]
    for place in ("ready", "claimed"):
        while len(list(tmp_path.glob(f"{place}.*"))) < racers:
            assert all(process.poll() in (None, 0) for process in running)
            time.sleep(0.005)
        (tmp_path / place).touch()
    said = [process.communicate()[0] for process in running]
    assert [process.returncode for process in running] == [0] * racers
    rows = [json.loads(text) for text in said]
    for shard in range(of):
        generations = [row[0][shard] for row in rows]
        assert len(set(generations)) == racers
        winner = generations.index(max(generations))
        assert [row[1][shard] for row in rows] == [int(me == winner) for me in range(racers)]
        latest = CheckpointStore(tmp_path / "snapshots", str(shard)).latest()
        assert latest is not None
        assert (latest.meta, latest.generation) == ({"by": str(winner)}, max(generations))
    assert shards(tmp_path / "snapshots") == sorted(map(str, range(of)))
