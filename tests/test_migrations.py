"""Snapshots that an earlier release wrote: a run goes on from them; those of a later one are refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import old_snapshots
import pytest

from engine import migrations
from engine.checkpoint import CheckpointError, NewerFormat, peek, read
from engine.migrations import CONTENTS, POSITION_KEYS, up_to_date


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
    assert {name: a.tobytes() for name, a in arrays.items()} == {n: a.tobytes() for n, a in other.items()}
    assert meta == expected


def test_what_a_run_writes_can_be_brought_up_to_date_and_has_all_that_says_where_it_stands(
    tmp_path: Path,
) -> None:
    run = old_snapshots.loop(tmp_path)
    run.run()
    meta = run.store.latest().meta
    assert up_to_date(up_to_date(meta, "it"), "it") == up_to_date(meta, "it")
    assert set(up_to_date(meta, "it")) >= {*POSITION_KEYS, "config", "shard"}


def test_every_step_is_taken_once_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    meta: dict[str, Any] = {"config": {}, "shard": {}, "positions": [], "steps": []}
    steps = [lambda meta, n=n: {**meta, "steps": [*meta["steps"], n]} for n in (1, 2, 3)]
    monkeypatch.setattr(migrations, "STEPS", steps)
    monkeypatch.setattr(migrations, "CONTENTS", 4)
    for found, taken in ((None, [1, 2, 3]), (1, [1, 2, 3]), (3, [3]), (4, [])):
        given = dict(meta) if found is None else {**meta, "contents": found}
        assert up_to_date(given, "it") == {**meta, "contents": 4, "steps": taken}
    assert meta["steps"] == []


def test_what_a_snapshot_says_is_kept_before_defaults() -> None:
    _, meta = read(old_snapshots.LOOP)
    kept = {**meta, "last": [["e", 0, 3, "ab"]], "order": {"next": 7}, "contents": CONTENTS}
    assert up_to_date(kept, "it") == kept
    assert up_to_date(meta, "it")["order"] == {"next": 0}


def test_contents_of_a_later_release_ask_for_an_update() -> None:
    meta = {"config": {}, "shard": {}, "positions": [], "contents": CONTENTS + 1}
    with pytest.raises(
        NewerFormat, match=f"a.safetensors: contents of version {CONTENTS + 1}.*update everlearn"
    ):
        up_to_date(meta, "a.safetensors")


@pytest.mark.parametrize(
    "meta", [{}, {"model": {}}, {"config": {}, "shard": {}, "positions": [], "contents": "2"}]
)
def test_what_is_no_snapshot_of_a_run_is_told(meta: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match=r"a\.safetensors: is no snapshot of a run"):
        up_to_date(meta, "a.safetensors")
