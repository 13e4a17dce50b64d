"""What can go wrong with a checkpoint, each as an error that says what was found and what to do."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

_ADVICE = {
    errno.ENOSPC: "make room on that disk and start again",
    errno.EDQUOT: "make room within the quota, or raise it, and start again",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f) and start again",
    errno.EROFS: "mount it writable and start again",
    errno.EACCES: "let this user write there and start again",
    errno.EPERM: "let this user write there and start again",
    errno.ENOENT: "the folder is gone: mount or restore it and start again",
    errno.ESTALE: "the shared folder has changed on its server: mount it anew and start again",
    errno.ENOTDIR: "use a path that is a folder",
    errno.EEXIST: "use a path that is a folder",
}


class CheckpointError(Exception):
    """A checkpoint that is missing, damaged, foreign or too new; the text says which and what to do."""


class NewerFormat(CheckpointError):
    """Written by a later release; older ones beside it must not silently take its place."""


class StaleWriter(CheckpointError):
    """Another process has taken over this shard; this one must stop."""


class SnapshotNotWritten(CheckpointError, OSError):
    """The disk did not take it; nothing half-written stays, and what was written before is whole.

    `errno` is the system's number. The text names the folder, the bytes needed and free, and what to do.
    """


def not_written(path: Path, needed: int, error: OSError) -> SnapshotNotWritten:
    """The error for a file of `needed` bytes at `path` that the system refused.

    >>> print(not_written(Path("gone/a"), 5_000, OSError(errno.ENOENT, "No such file or directory")))
    gone/a: not written (No such file or directory); 5,000 bytes are needed in gone, and how many are free there \
cannot be told; what was written before is whole; the folder is gone: mount or restore it and start again
    """
    try:
        free = f"{shutil.disk_usage(path.parent).free:,} are free"
    except OSError:
        free = "and how many are free there cannot be told"
    advice = _ADVICE.get(error.errno or 0, "check the disk and start again")
    if error.errno == errno.ENOENT and path.parent.is_dir():
        advice = "another program removes files there: keep the folder for snapshots alone, and start again"
    told = SnapshotNotWritten(
        f"{path}: not written ({error.strerror or error}); {needed:,} bytes are needed in {path.parent}, {free}; "
        f"what was written before is whole; {advice}"
    )
    told.errno = error.errno
    return told


def strerror(error: OSError) -> str:
    """The system's words for an error.

    >>> strerror(OSError(errno.EIO, "Input/output error"))
    'Input/output error'
    """
    return error.strerror or os.strerror(error.errno or 0)
