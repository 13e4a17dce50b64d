"""Snapshots that an earlier release wrote: a run goes on from them; those of a later one are refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import old_snapshots
import pytest

from engine.checkpoint import CheckpointError, NewerFormat, Snapshot, peek, read
from engine.checkpoint import contents as migrations
from engine.checkpoint.contents import CONTENTS, POSITION_KEYS, up_to_date

NOT_KEPT = {
    "join/answered/hashes",
    "join/answered/times",
    "join/fates/times",
    "join/fates/labels",
    "join/clock",
}
"""When ids were answered, and the labels learned for them: version 1 only told which ids were matched. Of the
times of recent records it told the last 64."""


def test_the_old_snapshot_is_old() -> None:
    meta = peek(old_snapshots.LOOP)
    assert not {"contents", "last", "order"} & set(meta)
    assert meta["shard"]["join"]["ids"]
    assert meta["shard"]["join"]["held"]
    assert old_snapshots.LOOP.stat().st_size < 50_000


def test_a_run_goes_on_from_a_snapshot_of_an_earlier_release_to_the_bit(tmp_path: Path) -> None:
    whole = old_snapshots.loop(None)
    assert whole.run()
    shutil.copy(old_snapshots.LOOP, tmp_path / "0-g000001-s00000002.safetensors")
    resumed = old_snapshots.loop(tmp_path)
    old = peek(old_snapshots.LOOP)
    for sink, of, cursor in (
        (resumed.sink, whole.sink, old["cursor"]),
        (resumed.dead, whole.dead, old["dead_cursor"]),
    ):
        sink.messages, sink.headers = of.messages[:cursor], of.headers[:cursor]  # what the first run wrote
    assert resumed.resume()
    assert resumed.run()
    assert resumed.records == whole.records - old_snapshots.STOPPED_AFTER
    assert resumed.sink.messages == whole.sink.messages
    assert resumed.dead.messages == whole.dead.messages
    (arrays, meta), (other, expected) = resumed.shard.state(), whole.shard.state()
    assert meta == expected
    differ = {name for name in arrays if arrays[name].tobytes() != other[name].tobytes()}
    assert set(arrays) == set(other)
    assert differ <= NOT_KEPT
    clock, expected_clock = arrays["join/clock"], other["join/clock"]
    assert clock[0] == expected_clock[0]
    assert clock[1:].tolist() == expected_clock[1 - len(clock) :].tolist()
    assert set(arrays["join/answered/hashes"].tolist()) == set(other["join/answered/hashes"].tolist())


def snapshot_of(meta: dict[str, Any]) -> Snapshot:
    return Snapshot(Path("a.safetensors"), 1, 1, {"w": np.zeros(1)}, meta)


def test_what_a_run_writes_is_up_to_date_and_has_all_that_says_where_it_stands(tmp_path: Path) -> None:
    run = old_snapshots.loop(tmp_path)
    run.run()
    written = run.store.latest()
    assert written.meta["contents"] == CONTENTS
    assert set(written.meta) == {*POSITION_KEYS, "config", "shard", "contents", "began", "refused_lately"}
    brought = up_to_date(written)
    assert brought.meta == written.meta
    assert brought.arrays is written.arrays


def test_what_is_brought_up_to_date_has_the_keys_and_arrays_of_what_is_written_now(tmp_path: Path) -> None:
    run = old_snapshots.loop(tmp_path)
    run.run(lambda: run.records >= old_snapshots.STOPPED_AFTER)
    written = run.store.latest()
    brought = up_to_date(Snapshot(old_snapshots.LOOP, 1, 1, *read(old_snapshots.LOOP)))
    assert set(brought.meta) == set(written.meta)
    assert set(brought.meta["shard"]) == set(written.meta["shard"])
    assert set(written.arrays) - set(brought.arrays) <= NOT_KEPT
    assert set(brought.arrays) <= set(written.arrays)
    assert brought.arrays["join/ids"].tobytes() == written.arrays["join/ids"].tobytes()
    assert up_to_date(brought) == brought


def test_every_step_is_taken_once_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    meta: dict[str, Any] = {"config": {}, "shard": {}, "positions": [], "steps": []}
    steps = [
        lambda arrays, meta, n=n: ({"w": arrays["w"] + n}, {**meta, "steps": [*meta["steps"], n]})
        for n in (1, 2, 4)
    ]
    monkeypatch.setattr(migrations, "STEPS", steps)
    monkeypatch.setattr(migrations, "CONTENTS", 4)
    for found, taken in ((None, [1, 2, 4]), (1, [1, 2, 4]), (3, [4]), (4, [])):
        given = snapshot_of(dict(meta) if found is None else {**meta, "contents": found})
        brought = up_to_date(given)
        assert brought.meta == {**meta, "contents": 4, "steps": taken}
        assert brought.arrays["w"].tolist() == [sum(taken)]
        assert brought.path == given.path
    assert meta["steps"] == []


def test_what_a_snapshot_says_is_kept_before_defaults() -> None:
    arrays, meta = read(old_snapshots.LOOP)
    kept = {**meta, "last": [["e", 0, 3, "ab"]], "order": {"next": 7}}
    brought = up_to_date(Snapshot(old_snapshots.LOOP, 1, 1, arrays, kept)).meta
    assert (brought["last"], brought["order"]) == ([["e", 0, 3, "ab"]], {"next": 7})


def test_contents_of_a_later_release_ask_for_an_update() -> None:
    meta = {"config": {}, "shard": {}, "positions": [], "contents": CONTENTS + 1}
    with pytest.raises(
        NewerFormat, match=f"a.safetensors: contents of version {CONTENTS + 1}.*update everlearn"
    ):
        up_to_date(snapshot_of(meta))


@pytest.mark.parametrize(
    "meta", [{}, {"model": {}}, {"config": {}, "shard": {}, "positions": [], "contents": "2"}]
)
def test_what_is_no_snapshot_of_a_run_is_told(meta: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match=r"a\.safetensors: is no snapshot of a run"):
        up_to_date(snapshot_of(meta))
