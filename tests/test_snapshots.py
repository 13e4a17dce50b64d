"""Snapshots in the background: durable before anybody is told, one at a time, errors where the loop sees them."""

from __future__ import annotations

import errno
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.checkpoint import CheckpointStore, SnapshotNotWritten, SnapshotWriter, StaleWriter
from engine.crashpoints import watch


@contextmanager
def held_at(place: str) -> Iterator[threading.Event]:
    """Until the event is set, a write does not get past this place."""
    release = threading.Event()
    watch(lambda name: release.wait(30) and None if name == place else None)
    try:
        yield release
    finally:
        release.set()
        watch(None)


def latest_meta(store: CheckpointStore) -> Any:
    latest = store.latest()
    return None if latest is None else latest.meta


@pytest.mark.parametrize(
    "place", ["checkpoint.before_fsync", "checkpoint.before_rename", "checkpoint.durable"]
)
def test_nobody_is_told_before_the_snapshot_is_durable(tmp_path: Path, place: str) -> None:
    told: list[str] = []
    writer = SnapshotWriter(CheckpointStore(tmp_path))
    with held_at(place) as release:
        writer.submit({"w": np.ones(3)}, {"n": 1}, lambda: told.append("then"))
        writer.settle()
        assert told == []
        assert writer.busy
        assert writer.last is None
        release.set()
        writer.wait()
    assert told == ["then"]
    assert not writer.busy
    assert writer.last is not None
    assert writer.last.entry == writer.store.ls()[-1]
    writer.settle()
    writer.wait()
    assert told == ["then"]


def test_then_runs_in_the_callers_thread_and_in_the_order_of_the_snapshots(tmp_path: Path) -> None:
    told: list[tuple[int, int, int]] = []
    store = CheckpointStore(tmp_path)

    def then(n: int) -> Callable[[], None]:
        return lambda: told.append((n, threading.get_ident(), latest_meta(store)["n"]))

    with SnapshotWriter(store) as writer:
        for n in range(4):
            writer.submit({}, {"n": n}, then(n))
    assert told == [(n, threading.get_ident(), n) for n in range(4)]


def test_a_further_snapshot_waits_for_the_one_under_way(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    with held_at("checkpoint.before_rename") as release, SnapshotWriter(store) as writer:
        writer.submit({}, {"n": 1})
        assert writer.waited == 0.0
        threading.Timer(0.05, release.set).start()
        writer.submit({}, {"n": 2})
        assert latest_meta(store)["n"] in (1, 2)
        assert writer.waited > 0.0
    assert latest_meta(store) == {"n": 2}


def test_meta_may_change_once_it_is_submitted_and_comes_back_as_it_was(tmp_path: Path) -> None:
    meta = {
        "names": ["a"],
        "big": 2**130,
        "odd": [float("inf"), -0.0, 1e-320],
        "text": "\ud800",
        "none": None,
    }
    store = CheckpointStore(tmp_path)
    with held_at("checkpoint.before_write") as release, SnapshotWriter(store) as writer:
        writer.submit({}, meta)
        meta["names"].append("b")
        release.set()
    assert latest_meta(store) == {**meta, "names": ["a"]}
    with SnapshotWriter(store) as writer:
        writer.submit({}, {"names": ["a"], "nan": float("nan"), "pair": (1, 2.5)})
    assert latest_meta(store)["pair"] == [1, 2.5]
    assert np.isnan(latest_meta(store)["nan"])


def test_a_background_snapshot_has_the_bytes_that_save_writes(tmp_path: Path) -> None:
    meta = {"rows": [[i, i * 0.1, f"ü{i}"] for i in range(3000)], "deep": {"a": {"b": list(range(2000))}}}
    arrays = {"w": np.arange(20_000.0), "n": np.array(3, np.int32)}
    with SnapshotWriter(CheckpointStore(tmp_path / "a")) as writer:
        writer.submit(arrays, meta)
    entry = CheckpointStore(tmp_path / "b").save(arrays, meta)
    assert entry.path.read_bytes() == writer.store.ls()[0].path.read_bytes()


@pytest.mark.parametrize("how", ["settle", "wait", "submit"])
def test_an_error_is_raised_once_in_the_callers_thread_and_the_writer_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    told: list[str] = []
    store = CheckpointStore(tmp_path)
    writer = SnapshotWriter(store)
    writer.submit({}, {"n": 0})
    writer.wait()

    def refuse(handle: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    array = np.zeros(1000)
    alive = weakref.ref(array)
    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", refuse)
        writer.submit({"w": array}, {"n": 1}, lambda: told.append("never"))
        del array
        while writer.busy:
            pass
        assert alive() is None
    calls = {"settle": writer.settle, "wait": writer.wait, "submit": lambda: writer.submit({}, {"n": 2})}
    with pytest.raises(SnapshotNotWritten, match="Input/output error"):
        calls[how]()
    writer.settle()
    assert told == []
    assert latest_meta(store) == {"n": 0}
    writer.submit({}, {"n": 3}, lambda: told.append("then"))
    writer.wait()
    assert (told, latest_meta(store)) == (["then"], {"n": 3})


def test_a_writer_that_was_replaced_hears_of_it(tmp_path: Path) -> None:
    old, new = SnapshotWriter(CheckpointStore(tmp_path)), CheckpointStore(tmp_path)
    old.submit({}, {"n": 1})
    old.wait()
    with held_at("checkpoint.before_rename") as release:
        old.submit({}, {"n": 2}, lambda: pytest.fail("was told although it had been replaced"))
        new.claim()  # between the look and the renaming
        release.set()
        with pytest.raises(StaleWriter):
            old.wait()
    new.save({}, {"n": 3})
    assert latest_meta(CheckpointStore(tmp_path)) == {"n": 3}


def test_what_no_file_can_hold_is_told(tmp_path: Path) -> None:
    writer = SnapshotWriter(CheckpointStore(tmp_path))
    for meta in ({"what": object()}, {"what": b"bytes"}, {"what": [object()]}):
        with pytest.raises(TypeError, match="not JSON serializable"):
            writer.submit({}, meta)
    writer.submit({"w": np.array([{}])}, {})
    with pytest.raises(TypeError, match="dtype object"):
        writer.wait()
    assert writer.store.ls() == []


def test_arrays_are_released_once_they_are_written(tmp_path: Path) -> None:
    writer = SnapshotWriter(CheckpointStore(tmp_path))
    array = np.zeros(1000)
    alive = weakref.ref(array)
    writer.submit({"w": array}, {})
    del array
    while writer.busy:
        pass
    assert alive() is None
    writer.close()


def test_close_waits_and_calls_nobody(tmp_path: Path) -> None:
    writer = SnapshotWriter(CheckpointStore(tmp_path))
    writer.submit({}, {"n": 1}, lambda: pytest.fail("was called"))
    writer.close()
    writer.close()
    assert latest_meta(writer.store) == {"n": 1}
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".writing")]


def test_after_an_error_of_the_caller_nobody_is_told(tmp_path: Path) -> None:
    def fail() -> None:
        with SnapshotWriter(CheckpointStore(tmp_path)) as writer:
            writer.submit({}, {"n": 2}, lambda: pytest.fail("was called"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert latest_meta(CheckpointStore(tmp_path)) == {"n": 2}
