"""The store of checkpoints: which one counts whatever is damaged, which stay, and who may write."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from engine.checkpoint import CheckpointError, CheckpointStore, NewerFormat, store
from engine.checkpoint import file as checkpoint_file

ARRAYS = {
    "weights": np.arange(12.0).reshape(3, 4),
    "steps": np.array(7),
    "none": np.zeros((0, 3), np.float32),
}
META = {"events": 3}
often = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def events_of(found: CheckpointStore) -> int:
    latest = found.latest()
    assert latest is not None
    assert set(latest.arrays) == set(ARRAYS)
    return int(latest.meta["events"])


def three(folder: Path) -> CheckpointStore:
    """A store with three checkpoints, of 1, 2 and 3 events."""
    made = CheckpointStore(folder)
    for path in folder.glob("*"):
        path.unlink()
    for events in (1, 2, 3):
        made.save(ARRAYS, {"events": events})
    return made


def test_the_newest_counts_and_only_the_last_few_stay(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep=2)
    for events in range(5):
        store.save(ARRAYS, {"events": events})
    assert [entry.sequence for entry in store.ls()] == [4, 5]
    latest = store.latest()
    assert latest is not None
    assert latest.meta == {"events": 4}


def at_times(times: list[float]) -> Any:
    """What writes checkpoints, the one of sequence n at the n-th of these times."""

    def write(path: Path, arrays: Any, meta: Any) -> None:
        checkpoint_file.write(path, arrays, meta)
        os.utime(path, (0, times[int(path.stem[-8:]) - 1]))

    return write


MOMENTS = st.lists(
    st.tuples(st.integers(0, 4), st.integers(-30, 90)).map(
        lambda step: step[0] * 11.3 * 3600 + step[1] * 60.0
    ),
    max_size=40,
)


@settings(max_examples=60)
@given(steps=MOMENTS, keep=st.integers(1, 3), hourly=st.integers(0, 4), daily=st.integers(0, 3))
def test_what_stays_is_what_the_rule_says_of_all_that_was_ever_written(
    tmp_path_factory: pytest.TempPathFactory, steps: list[float], keep: int, hourly: int, daily: int
) -> None:
    """By a rule of its own words: what one removal after the other leaves, whatever clocks said."""
    made = CheckpointStore(tmp_path_factory.mktemp("kept"), keep=keep, hourly=hourly, daily=daily)
    times = [1e9 + time for time in itertools.accumulate(steps)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "write", at_times(times))
        for number in range(len(times)):
            made.save({}, {"n": number + 1})
    wanted = set(range(len(times))[-keep:])
    for seconds, count in ((3600, hourly), (86400, daily)):
        last = {time // seconds: place for place, time in enumerate(times)}
        wanted |= set(sorted(last.values())[len(last) - min(count, len(last)) :])
    assert {entry.sequence - 1 for entry in made.ls()} == wanted
    assert len(wanted) <= keep + hourly + daily
    if times:
        latest = made.latest()
        assert latest is not None
        assert latest.meta == {"n": len(times)}


def test_a_kill_before_a_removal_leaves_more_and_the_next_one_puts_it_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(name: str) -> None:
        if name == "checkpoint.before_remove":
            raise KeyboardInterrupt

    monkeypatch.setattr(store, "write", at_times([3600.0 * hour for hour in range(9)]))
    made = CheckpointStore(tmp_path, keep=1, hourly=3)
    for events in range(3):
        made.save(ARRAYS, {"events": events})
    assert [entry.sequence for entry in made.ls()] == [1, 2, 3]
    with monkeypatch.context() as patch:
        patch.setattr(store, "crash_point", killed)
        with pytest.raises(KeyboardInterrupt):
            made.save(ARRAYS, {"events": 3})
    assert [entry.sequence for entry in made.ls()] == [1, 2, 3, 4]
    again = CheckpointStore(tmp_path, keep=1, hourly=3)
    assert events_of(again) == 3
    monkeypatch.setattr(store, "write", at_times([3600.0 * 4]))
    again.save(ARRAYS, {"events": 4})
    assert [(entry.generation, entry.sequence) for entry in again.ls()] == [(1, 3), (1, 4), (2, 1)]


def test_an_empty_store_has_no_latest(tmp_path: Path) -> None:
    assert CheckpointStore(tmp_path / "none").latest() is None
    assert CheckpointStore(tmp_path / "none").ls() == []


def test_a_damaged_newest_one_falls_back_to_the_one_before_and_is_reported(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    store.save(ARRAYS, {"events": 1})
    newest = store.save(ARRAYS, {"events": 2})
    newest.path.write_bytes(newest.path.read_bytes()[:-5])
    latest = store.latest()
    assert latest is not None
    assert latest.meta == {"events": 1}
    assert [path for path, _ in store.damaged] == [newest.path]


def test_a_store_with_nothing_whole_is_an_error_and_not_a_fresh_start(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    store.save(ARRAYS, META).path.write_bytes(b"")
    with pytest.raises(CheckpointError, match="none of 1 checkpoints"):
        store.latest()


def test_a_checkpoint_of_a_later_release_is_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = CheckpointStore(tmp_path)
    store.save(ARRAYS, {"events": 1})
    with monkeypatch.context() as later:
        later.setattr(checkpoint_file, "VERSION", checkpoint_file.VERSION + 1)
        store.save(ARRAYS, {"events": 2})
    with pytest.raises(NewerFormat):
        store.latest()


def test_shards_in_one_folder_do_not_see_each_other(tmp_path: Path) -> None:
    a, b = CheckpointStore(tmp_path, shard="a"), CheckpointStore(tmp_path, shard="a.b")
    a.save(ARRAYS, {"shard": "a"})
    assert b.latest() is None
    assert b.claim() == 1


def test_bad_options_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="shard is 'a/b'"):
        CheckpointStore(tmp_path, shard="a/b")
    with pytest.raises(ValueError, match="keep is 0"):
        CheckpointStore(tmp_path, keep=0)
    with pytest.raises(ValueError, match="hourly is 0, daily is -1; expected 0 or more"):
        CheckpointStore(tmp_path, daily=-1)


@often
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@example(place=0.1640625, bit=0)  # its version, 2, reads 3
def test_a_newest_one_with_a_flipped_bit_anywhere_falls_back(tmp_path: Path, place: float, bit: int) -> None:
    made = three(tmp_path)
    newest = made.ls()[-1].path
    data = bytearray(newest.read_bytes())
    data[int(place * len(data))] ^= 1 << bit
    newest.write_bytes(data)
    assert events_of(made) == 2
    ((path, reason),) = made.damaged
    assert path == newest
    assert str(newest) in reason


@often
@given(garbage=st.binary(min_size=1, max_size=40), place=st.floats(0, 1))
def test_a_newest_one_with_bytes_put_in_falls_back(tmp_path: Path, garbage: bytes, place: float) -> None:
    made = three(tmp_path)
    newest = made.ls()[-1].path
    data = newest.read_bytes()
    at = int(place * len(data))
    newest.write_bytes(data[:at] + garbage + data[at:])
    assert events_of(made) == 2
    assert [path for path, _ in made.damaged] == [newest]


def test_a_newest_one_torn_at_any_boundary_falls_back(tmp_path: Path) -> None:
    made = three(tmp_path)
    newest = made.ls()[-1].path
    data = newest.read_bytes()
    head = 8 + int.from_bytes(data[:8], "little")
    sectors = [
        *range(0, len(data), 64),
        1,
        7,
        8,
        9,
        head - 1,
        head,
        head + 1,
        head + 8,
        head + 96,
        len(data) - 1,
    ]
    for length in sectors:
        newest.write_bytes(data[:length])
        assert events_of(made) == 2
        newest.write_bytes(
            data[:length] + bytes(len(data) - length)
        )  # the length is there, the bytes are not
        assert data[length:].strip(b"\0") == b"" or events_of(made) == 2
    newest.write_bytes(data)
    assert events_of(made) == 3
    assert made.damaged == []


def remove(path: Path) -> None:
    path.unlink()


def make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def make_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def make_loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def lead_nowhere(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def make_unreadable(path: Path) -> None:
    path.unlink()
    path.symlink_to("/proc/self/mem")  # opens, and the kernel answers the first read with an I/O error


BAD = {
    "no such file": lead_nowhere,
    "truncated, 0 bytes": lambda path: path.write_bytes(b""),
    "is no file": make_folder,
    "is no file;": make_pipe,
    "Too many levels of symbolic links": make_loop,
    "cannot be read (Input/output error)": make_unreadable,
    "not a checkpoint of everlearn": lambda path: path.write_bytes(bytes(1000)),
}


@pytest.mark.parametrize("reason", BAD)
def test_a_newest_one_that_is_no_file_or_cannot_be_read_falls_back(tmp_path: Path, reason: str) -> None:
    made = three(tmp_path)
    newest = made.ls()[-1].path
    BAD[reason](newest)
    assert events_of(made) == 2
    ((path, told),) = made.damaged
    assert path == newest
    assert reason in told
    made.save(ARRAYS, {"events": 4})
    assert events_of(made) == 4


def test_a_newest_one_that_is_missing_falls_back(tmp_path: Path) -> None:
    made = three(tmp_path)
    made.ls()[-1].path.unlink()
    assert events_of(made) == 2


def test_several_damaged_ones_are_passed_over_and_all_reported_newest_first(tmp_path: Path) -> None:
    made = three(tmp_path)
    _, second, third = (entry.path for entry in made.ls())
    for path in (second, third):
        path.write_bytes(b"")
    assert events_of(made) == 1
    assert [path for path, _ in made.damaged] == [third, second]


def test_the_one_that_was_gone_back_to_stays_until_as_many_whole_ones_are_written(tmp_path: Path) -> None:
    three(tmp_path)
    first, second, third = (entry.path for entry in CheckpointStore(tmp_path).ls())
    for path in (second, third):
        path.write_bytes(b"")
    made = CheckpointStore(tmp_path, keep=2)
    assert events_of(made) == 1
    made.save(ARRAYS, {"events": 4})
    assert first.exists()  # or a fault of the new one would leave nothing
    made.save(ARRAYS, {"events": 5})
    assert [entry.path.exists() for entry in made.ls()] == [True, True]
    assert not any(path.exists() for path in (first, second, third))


def test_what_cannot_be_removed_does_not_stop_a_run(tmp_path: Path) -> None:
    made = three(tmp_path)
    make_folder(made.ls()[0].path)
    for events in (4, 5):
        made.save(ARRAYS, {"events": events})
    assert [entry.sequence for entry in made.ls()] == [1, 3, 4, 5]


def test_files_that_are_removed_while_the_newest_is_looked_for_are_looked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = CheckpointStore(tmp_path, keep=1), CheckpointStore(tmp_path)
    old.save(ARRAYS, {"events": 1})

    def overtaken(path: Path) -> object:
        monkeypatch.undo()
        old.save(ARRAYS, {"events": 2})  # and the one that was about to be read is gone
        return checkpoint_file.read(path)

    monkeypatch.setattr(store, "read", overtaken)
    assert events_of(new) == 2
