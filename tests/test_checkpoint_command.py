"""`everlearn checkpoint`: what there is, what it holds, whether it is whole, and going back."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import old_snapshots
import pytest

from engine import cli
from engine.checkpoint import CheckpointStore, StaleWriter, peek, read, write
from engine.checkpoint import file as checkpoint_file
from engine.checkpoint.contents import POSITION_KEYS


def everlearn(capsys: pytest.CaptureFixture[str], *arguments: Any) -> tuple[int, str, str]:
    """Exit code, standard output, standard error of `everlearn checkpoint …`."""
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.argv", ["everlearn", "checkpoint", *map(str, arguments)])
            cli.main()
        code = 0
    except SystemExit as ended:
        code = int(ended.code or 0)
    told = capsys.readouterr()
    return code, told.out, told.err


@pytest.fixture
def snapshots(tmp_path: Path) -> Path:
    """Those of a finished run: sequences 1 to 4 of generation 1, none removed."""
    loop = old_snapshots.loop(tmp_path / "snapshots")
    loop.store.keep = 10
    loop.run()
    assert [entry.sequence for entry in loop.store.ls()] == [1, 2, 3, 4]
    return tmp_path / "snapshots"


def test_ls_tells_what_was_learned_and_where_each_snapshot_stands(
    snapshots: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.utime(snapshots / "0-g000001-s00000002.safetensors", (0, 86_400))
    code, out, _ = everlearn(capsys, "ls", snapshots)
    assert code == 0
    second = out.splitlines()[1]
    assert second.startswith(
        "0-g000001-s00000002.safetensors  shard 0  generation 1  sequence 2  file of 1970-01-02T00:00:00"
    )
    meta = peek(snapshots / "0-g000001-s00000002.safetensors")
    counts = meta["shard"]["counts"]
    assert f"{counts['events']} events  {counts['learned']} labels learned  e-0 at " in second
    _, out, _ = everlearn(capsys, "ls", snapshots, "--json")
    row = json.loads(out)[1]
    assert set(row) == {
        *("file", "shard", "generation", "sequence", "written", "bytes", "events", "learned", "positions"),
    }
    assert row["positions"] == meta["positions"]
    assert row["bytes"] == (snapshots / row["file"]).stat().st_size


def test_ls_shows_all_shards_or_one_and_damaged_ones_with_the_reason(
    snapshots: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    CheckpointStore(snapshots, "events.1").save({}, {"some": "thing"})
    (snapshots / "0-g000001-s00000004.safetensors").write_bytes(b"")
    rows = json.loads(everlearn(capsys, "ls", snapshots, "--json")[1])
    assert [row["shard"] for row in rows] == ["0", "0", "0", "0", "events.1"]
    assert "truncated, 0 bytes" in rows[3]["error"]
    assert "positions" not in rows[4]
    assert "damaged: " in everlearn(capsys, "ls", snapshots)[1].splitlines()[3]
    assert len(everlearn(capsys, "ls", snapshots, "--shard", "events.1")[1].splitlines()) == 1


def test_inspect_of_a_folder_shows_the_newest_whole_one_and_tells_what_it_passed_over(
    snapshots: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    newest, before = (snapshots / f"0-g000001-s0000000{n}.safetensors" for n in (4, 3))
    _, out, err = everlearn(capsys, "inspect", snapshots)
    assert (json.loads(out)["file"], err) == (newest.name, "")
    assert everlearn(capsys, "inspect", newest)[1] == out
    newest.write_bytes(newest.read_bytes()[:-1])
    code, out, err = everlearn(capsys, "inspect", snapshots)
    assert (code, json.loads(out)["file"]) == (0, before.name)
    assert f"Passed over: {newest}" in err
    assert json.loads(out)["counts"] == peek(before)["shard"]["counts"]


def test_inspect_shows_a_saved_model_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "model", old_snapshots.ARRAYS, {"model": {"seed": 0}})
    shown = json.loads(everlearn(capsys, "inspect", tmp_path / "model")[1])
    assert shown["model"] == {"seed": 0}
    assert shown["arrays"]["weights"] == ["float64", [3, 4]]


def go_on(folder: Path, answers: Any, dead: Any) -> Any:
    """A run that resumes on these snapshots with the sinks of an earlier one."""
    loop = old_snapshots.loop(folder)
    loop.sink, loop.dead = answers, dead
    assert loop.resume()
    return loop


def state(loop: Any) -> Any:
    arrays, meta = loop.shard.state()
    return {name: array.tobytes() for name, array in arrays.items()}, meta


@pytest.mark.parametrize("to", ["2", "0-g000001-s00000002.safetensors", "elsewhere"])
def test_after_a_rollback_the_next_run_learns_again_what_came_after_and_ends_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], to: str
) -> None:
    folder = tmp_path / "snapshots"
    first = old_snapshots.loop(folder)
    first.store.keep = 10
    first.run()
    files = {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}
    second = folder / "0-g000001-s00000002.safetensors"
    if to == "elsewhere":
        to = str(shutil.copy(second, tmp_path / "copy.safetensors"))
    code, out, err = everlearn(capsys, "rollback", folder, "--to", to)
    assert (code, err) == (0, "")
    assert "0-g000002-s00000001.safetensors is now the newest" in out
    assert "positions kept, the records after it are learned again: e-0 at " in out
    assert "a run that is alive must stop: generation 2 has taken the shard over" in out
    assert "0-g000001-s00000004.safetensors" in out
    assert {path.name: path.read_bytes() for path in folder.glob("0-g000001-s*")} == files
    with pytest.raises(StaleWriter):
        first.snapshot()
    answers = list(first.sink.messages)
    again = go_on(folder, first.sink, first.dead)
    assert again.shard.counts.events == peek(second)["shard"]["counts"]["events"]
    assert len(again.sink.messages) < len(answers)
    assert again.run()
    assert again.sink.messages == answers
    assert state(again) == state(first)


def test_a_rollback_to_older_learning_at_the_latest_positions_leaves_out_what_is_between(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "snapshots"
    first = old_snapshots.loop(folder)
    first.store.keep = 10
    first.run()
    answers = list(first.sink.messages)
    old, new = (folder / f"0-g000001-s0000000{n}.safetensors" for n in (2, 4))
    code, out, _ = everlearn(capsys, "rollback", folder, "--to", "2", "--positions", "latest")
    assert code == 0
    assert "positions latest, of the newest snapshot before: e-0 at " in out
    (arrays, meta), (kept, was), (_, newest) = (
        read(p) for p in (folder / "0-g000002-s00000001.safetensors", old, new)
    )
    assert {name: a.tobytes() for name, a in arrays.items()} == {
        name: a.tobytes() for name, a in kept.items()
    }
    assert meta["shard"] == was["shard"]
    assert {key: meta[key] for key in POSITION_KEYS} == {key: newest[key] for key in POSITION_KEYS}
    again = go_on(folder, first.sink, first.dead)
    assert again.run()
    assert again.records == 0
    assert again.sink.messages == answers
    assert again.shard.counts.events == was["shard"]["counts"]["events"]


def test_a_rollback_can_be_rolled_back(snapshots: Path, capsys: pytest.CaptureFixture[str]) -> None:
    everlearn(capsys, "rollback", snapshots, "--to", "2")
    code, out, _ = everlearn(capsys, "rollback", snapshots, "--to", "4")
    assert code == 0
    assert "0-g000003-s00000001.safetensors is now the newest" in out
    latest = CheckpointStore(snapshots).latest()
    assert latest is not None
    assert latest.meta["positions"] == peek(snapshots / "0-g000001-s00000004.safetensors")["positions"]


def test_a_rollback_passes_a_snapshot_of_a_later_release(
    snapshots: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as later:
        later.setattr(checkpoint_file, "VERSION", checkpoint_file.VERSION + 1)
        CheckpointStore(snapshots, keep=10).save({}, {})
    code, _, err = everlearn(capsys, "rollback", snapshots, "--to", "4", "--positions", "latest")
    assert (code, "update everlearn" in err) == (2, True)
    assert everlearn(capsys, "rollback", snapshots, "--to", "4")[0] == 0


def test_a_rollback_tells_of_damaged_ones_that_it_passed_over(
    snapshots: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    newest, before = (snapshots / f"0-g000001-s0000000{n}.safetensors" for n in (4, 3))
    newest.write_bytes(newest.read_bytes()[:-1])
    code, _, err = everlearn(capsys, "rollback", snapshots, "--to", "2", "--positions", "latest")
    assert (code, f"Passed over: {newest}" in err) == (0, True)
    latest = CheckpointStore(snapshots).latest()
    assert latest is not None
    assert latest.meta["positions"] == peek(before)["positions"]


def with_two_shards(folder: Path) -> None:
    CheckpointStore(folder, "1").save({}, {})


def with_a_second_sequence_2(folder: Path) -> None:
    store = CheckpointStore(folder, keep=10)
    for _ in range(2):
        store.save({}, {})


def with_a_damaged_one(folder: Path) -> None:
    (folder / "0-g000001-s00000002.safetensors").write_bytes(b"\0" * 100)


def with_a_model(folder: Path) -> None:
    write(folder / "model", {}, {"model": {}})


def with_other_options(folder: Path) -> None:
    arrays, meta = read(folder / "0-g000001-s00000004.safetensors")
    CheckpointStore(folder, keep=10).save(arrays, {**meta, "config": {"events": "other"}})


def as_they_are(folder: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("made", "arguments", "said"),
    [
        (as_they_are, ["--to", "9"], "no snapshot of sequence 9 of shard 0; there are 1, 2, 3, 4"),
        (as_they_are, ["--to", "4"], "is the newest snapshot of shard 0; the next run goes on from it anyway"),
        (as_they_are, ["--to", "4", "--positions", "latest"], "is the newest whole snapshot of shard 0"),
        (as_they_are, ["--to", "none.safetensors"], "no such file"),
        (as_they_are, ["--to", "2", "--shard", "7"], "no snapshot of shard 7; there are those of shard 0, use"),
        (with_two_shards, ["--to", "2"], "holds snapshots of shards 0, 1; use --shard"),
        (with_two_shards, ["--to", "0-g000001-s00000002.safetensors", "--shard", "1"], "snapshot of shard 0"),
        (with_a_second_sequence_2, ["--to", "2"], "is that of 0-g000001-s00000002.safetensors, 0-g000002"),
        (with_a_damaged_one, ["--to", "2"], "not a checkpoint of everlearn, or its head is damaged"),
        (with_a_model, ["--to", "model"], "is no snapshot of a run (its contents are model)"),
        (with_other_options, ["--to", "2", "--positions", "latest"], "--positions kept takes those of its own"),
    ],
    ids=lambda value: value.__name__ if callable(value) else " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_a_rollback_that_cannot_be_changes_nothing_and_says_why(
    snapshots: Path, capsys: pytest.CaptureFixture[str], made: Any, arguments: list[str], said: str
) -> None:
    made(snapshots)
    before = sorted(os.listdir(snapshots))
    code, out, err = everlearn(capsys, "rollback", snapshots, *arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.splitlines()) == 1
    assert sorted(os.listdir(snapshots)) == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["ls", "file"], "file: is a file; expected a folder of snapshots"),
        (["ls", "empty"], "empty: holds no snapshot"),
        (["ls", "none"], "none: holds no snapshot"),
        (["inspect", "empty"], "empty: holds no snapshot of shard 0"),
        (["verify", "empty"], "empty: holds no snapshot"),
        (["rollback", "empty", "--to", "1"], "empty: holds no snapshot of shard 0; check the path"),
        (["rollback", "file", "--to", "1"], "file: is a file; expected a folder of snapshots"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_place_without_snapshots_is_told(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("text")
    (tmp_path / "empty").mkdir()
    code, _, err = everlearn(capsys, *arguments)
    assert code == 2
    assert said in err
    assert sorted(os.listdir(tmp_path)) == ["empty", "file"]
    assert os.listdir(tmp_path / "empty") == []
