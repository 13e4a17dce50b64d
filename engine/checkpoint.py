"""Checkpoints, all that callers need of them: one verified file, a store of the last few, what can go wrong.

`engine/checkpoint_file.py` is the file, `engine/store.py` the folder and who may write to it,
`engine/snapshots.py` writes in the background, `engine/migrations.py` brings what older releases wrote up to
date.
"""

from engine.checkpoint_errors import CheckpointError, NewerFormat, SnapshotNotWritten, StaleWriter
from engine.checkpoint_file import Arrays, Meta, peek, read, sync_folder, write
from engine.snapshots import SnapshotWriter
from engine.store import CheckpointStore, Entry, Snapshot

__all__ = [
    "Arrays",
    "CheckpointError",
    "CheckpointStore",
    "Entry",
    "Meta",
    "NewerFormat",
    "Snapshot",
    "SnapshotNotWritten",
    "SnapshotWriter",
    "StaleWriter",
    "peek",
    "read",
    "sync_folder",
    "write",
]
