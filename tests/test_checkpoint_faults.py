"""Checkpoints and a system that does not take them: nothing half-written stays, what was before is whole."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.checkpoint import CheckpointError, CheckpointStore, SnapshotNotWritten, write

ARRAYS = {"w": np.arange(50_000.0)}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def begun(folder: Path) -> CheckpointStore:
    store = CheckpointStore(folder)
    store.save(ARRAYS, {"n": 1})
    return store


def assert_goes_on(store: CheckpointStore) -> None:
    """What was before counts, nothing unfinished stays, and the same store can write again."""
    latest = store.latest()
    assert latest is not None
    assert latest.meta == {"n": 1}
    assert store.damaged == []
    assert names(store.folder) == ["0-g000001-s00000001.safetensors", "0-g000001.claim"]
    store.save(ARRAYS, {"n": 9})
    latest = CheckpointStore(store.folder).latest()
    assert latest is not None
    assert latest.meta == {"n": 9}


def test_a_full_disk_is_told_with_the_folder_the_bytes_and_what_to_do(tmp_path: Path) -> None:
    store = begun(tmp_path)
    (tmp_path / "0-g000001-s00000002.safetensors.writing").symlink_to("/dev/full")  # the kernel's own ENOSPC
    told = (
        r"0-g000001-s00000002.safetensors: not written \(No space left on device\); 400,\d\d\d bytes are needed "
        r"in .*, [\d,]+ are free; what was written before is whole; make room on that disk and start again"
    )
    with pytest.raises(SnapshotNotWritten, match=told) as error:
        store.save(ARRAYS, {"n": 2})
    assert error.value.errno == errno.ENOSPC
    assert_goes_on(store)


LIMITED = """
import json, os, resource, signal, sys
import numpy as np
from engine.checkpoint import CheckpointStore, SnapshotNotWritten
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = CheckpointStore(sys.argv[1])
store.save({"w": np.zeros(100)}, {"n": 1})
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    store.save({"w": np.zeros(100_000)}, {"n": 2})
except SnapshotNotWritten as error:
    print(json.dumps([error.errno, str(error), sorted(os.listdir(sys.argv[1]))]))
store.save({"w": np.zeros(100)}, {"n": 3})
"""


@pytest.mark.parametrize("limit", [5_000, 400_000, 800_000])
def test_a_limit_that_is_met_at_the_start_in_the_middle_or_at_the_end(tmp_path: Path, limit: int) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path), str(limit)], check=True, capture_output=True, text=True
    )
    number, text, left = json.loads(ran.stdout)
    assert number == errno.EFBIG
    assert re.search(r"800,\d\d\d bytes are needed", text)
    assert "ulimit -f" in text
    assert left == ["0-g000001-s00000001.safetensors", "0-g000001.claim"]
    latest = CheckpointStore(tmp_path).latest()
    assert latest is not None
    assert latest.meta == {"n": 3}


@pytest.mark.parametrize("number", [errno.EIO, errno.EDQUOT, errno.ENOSPC])
@pytest.mark.parametrize("place", ["fsync", "replace"])
def test_any_step_that_fails_leaves_what_was_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, number: int
) -> None:
    store = begun(tmp_path)

    def refuse(*arguments: Any) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as broken:
        broken.setattr(os, place, refuse)
        with pytest.raises(SnapshotNotWritten, match=os.strerror(number)) as error:
            store.save(ARRAYS, {"n": 2})
    assert error.value.errno == number
    assert isinstance(error.value, CheckpointError)
    assert isinstance(error.value, OSError)
    assert_goes_on(store)


def test_a_folder_whose_names_cannot_be_made_durable_is_an_error_and_the_file_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = begun(tmp_path)
    durable = os.fsync

    def refuse(handle: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{handle}"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        durable(handle)

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", refuse)
        with pytest.raises(SnapshotNotWritten, match="check the disk"):
            store.save(ARRAYS, {"n": 2})
    latest = store.latest()
    assert latest is not None
    assert latest.meta == {"n": 2}
    assert store.damaged == []


def test_a_folder_that_vanishes_is_told_and_used_again_once_it_is_back(tmp_path: Path) -> None:
    folder, aside = tmp_path / "snapshots", tmp_path / "aside"
    store = begun(folder)
    folder.rename(aside)
    with pytest.raises(SnapshotNotWritten, match="the folder is gone"):
        store.save(ARRAYS, {"n": 2})
    with pytest.raises(SnapshotNotWritten, match="the folder is gone"):
        store.check()
    aside.rename(folder)
    store.check()
    assert_goes_on(store)


READ_ONLY = """
import os, sys
from engine.checkpoint import CheckpointStore, SnapshotNotWritten
store = CheckpointStore(sys.argv[1])
if sys.argv[2] == "claimed":
    store.claim()
os.chmod(sys.argv[1], 0o555)
if os.getuid() == 0:
    os.setuid(65534)  # root may write everywhere
try:
    store.save({}, {})
except SnapshotNotWritten as error:
    print(error)
"""


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can reach."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


@pytest.mark.parametrize("when", ["claimed", "before"])
def test_a_folder_that_became_read_only_is_told(open_folder: Path, when: str) -> None:
    begun(open_folder)
    ran = subprocess.run(
        [sys.executable, "-c", READ_ONLY, str(open_folder), when], check=True, capture_output=True, text=True
    )
    assert "not written (Permission denied)" in ran.stdout
    assert "let this user write there" in ran.stdout
    latest = CheckpointStore(open_folder).latest()
    assert latest is not None
    assert latest.meta == {"n": 1}


def test_a_path_that_is_no_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(SnapshotNotWritten, match="use a path that is a folder"):
            CheckpointStore(path).save({}, {})


def test_a_model_is_not_saved_where_there_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(SnapshotNotWritten, match="the folder is gone"):
        write(tmp_path / "none" / "model", ARRAYS, {})
