"""Checkpoints, all that callers need of them: one verified file, a store of the last few, what can go wrong.

`engine/checkpoint/file.py` is the file, `engine/checkpoint/store.py` the folder and who may write to it,
`engine/checkpoint/writer.py` writes in the background, `engine/checkpoint/contents.py` brings what older
releases wrote up to date.
"""

from engine.checkpoint.errors import CheckpointError, NewerFormat, SnapshotNotWritten, StaleWriter
from engine.checkpoint.file import Arrays, Meta, peek, read, sync_folder, write
from engine.checkpoint.store import CheckpointStore, Entry, Snapshot
from engine.checkpoint.writer import SnapshotWriter

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
