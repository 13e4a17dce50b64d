"""How many partitions there were when a run was first started: those that have come since hold nothing old."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

from engine.checkpoint import CheckpointError
from engine.checkpoint.errors import not_written
from engine.checkpoint.file import sync_folder
from engine.checkpoint.store import shards

NAME = "first-start.json"


def remember(folder: Path, partitions: int) -> int:
    """Keep the count in the folder of the snapshots at the first start; returns the one that is kept there.

    A folder of shards that were begun without it keeps as many as these shards are. Raises SnapshotNotWritten.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> remember(folder, 2), remember(folder, 3)
    (2, 2)
    """
    known = kept(folder)
    if known is not None:
        return known
    begun = [int(shard) for shard in shards(folder) if shard.isdigit()]
    count = max(begun) + 1 if begun else partitions
    target, beside = folder / NAME, folder / f"{NAME}.{os.getpid()}.writing"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with open(beside, "w") as file:
            json.dump({"partitions": count}, file)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):  # another process was faster
            os.link(beside, target)
        beside.unlink()
        sync_folder(folder)
    except OSError as error:
        raise not_written(target, 0, error) from error
    return kept(folder) or count


def kept(folder: Path) -> int | None:
    """The count that is kept in a folder; None where none is. CheckpointError where the file is damaged."""
    path = folder / NAME
    try:
        found = json.loads(path.read_text())["partitions"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        found = None
    if not isinstance(found, int) or found < 1:
        raise CheckpointError(
            f'{path}: damaged; expected {{"partitions": N}}, N being how many partitions the events topic had '
            "when the run was first started. Write it so"
        )
    return found


def came_since(folder: Path, partition: int) -> bool:
    """Whether a partition is younger than the first start.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = remember(folder, 2)
    >>> came_since(folder, 1), came_since(folder, 2)
    (False, True)
    """
    count = kept(folder)
    return count is not None and partition >= count
