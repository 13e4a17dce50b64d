"""Back to an older snapshot: it is written anew as the first of a new generation, and the next run begins there.

Nothing is removed. A run that is alive holds an older generation then, and stops at its next snapshot or flush.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any, Literal, NamedTuple

from engine.checkpoint.contents import POSITION_KEYS, up_to_date
from engine.checkpoint.errors import CheckpointError
from engine.checkpoint.file import read
from engine.checkpoint.store import CheckpointStore, Entry, Snapshot, shard_of, shards
from engine.config.identity import check_identity


class RolledBack(NamedTuple):
    """Where from, what was written with its meta, which newer ones stay, which damaged ones were passed over."""

    source: Path
    entry: Entry
    meta: dict[str, Any]
    newer: list[Entry]
    damaged: list[tuple[Path, str]]


def roll_back(folder: Path, shard: str, to: str, positions: Literal["kept", "latest"] = "kept") -> RolledBack:
    """Make the snapshot `to`, a sequence number, a name or a path, the one that the next run goes on from.

    positions: "kept", those of that snapshot, so that the records after it are learned again in the order that
    was recorded; "latest", those of the newest snapshot, so that the records between are neither answered nor
    learned again. Raises CheckpointError where the snapshot is not there, is damaged, is another shard's, is no
    snapshot of a run, is the newest anyway, or is of a run with other options than the newest.
    """
    store = CheckpointStore(folder, shard, keep=sys.maxsize)  # nothing is removed
    entries = store.ls()
    if not entries:
        there = shards(folder)
        hint = f"there are those of shard {', '.join(there)}, use --shard" if there else "check the path"
        raise CheckpointError(f"{folder}: holds no snapshot of shard {shard}; {hint}")
    source = _chosen(folder, shard, to, entries)
    snapshot = up_to_date(Snapshot(source, 0, 0, *read(source)))
    meta = snapshot.meta
    if positions == "latest":
        meta |= _stand(store, source, meta)
    elif source.resolve() == entries[-1].path.resolve():
        raise CheckpointError(
            f"{source}: is the newest snapshot of shard {shard}; the next run goes on from it anyway. "
            "Use an older one"
        )
    entry = store.save(snapshot.arrays, meta)
    newer = [other for other in entries if (other.generation, other.sequence) > _rank(source, entries)]
    return RolledBack(source, entry, meta, newer, store.damaged)


def _stand(store: CheckpointStore, source: Path, meta: dict[str, Any]) -> dict[str, Any]:
    """Where the newest snapshot stands."""
    newest = store.latest()
    assert newest is not None  # there are entries, so that it is a snapshot or an error
    if newest.path.resolve() == source.resolve():
        raise CheckpointError(
            f"{source}: is the newest whole snapshot of shard {store.shard}; the next run goes on from it "
            "anyway. Use an older one"
        )
    stand = up_to_date(newest).meta
    try:
        check_identity(stand["config"], meta["config"], str(source))
    except CheckpointError as error:
        raise CheckpointError(
            f"{error}. The positions of {newest.path} were asked for; --positions kept takes those of its own run"
        ) from None
    return {key: stand[key] for key in POSITION_KEYS}


def _chosen(folder: Path, shard: str, to: str, entries: list[Entry]) -> Path:
    """The file that `to` means."""
    if re.fullmatch(r"\d+", to):
        same = [entry.path for entry in entries if entry.sequence == int(to)]
        if len(same) > 1:
            names = ", ".join(path.name for path in same)
            raise CheckpointError(f"{folder}: sequence {int(to)} is that of {names}; name the file")
        if not same:
            there = ", ".join(str(entry.sequence) for entry in entries)
            raise CheckpointError(
                f"{folder}: holds no snapshot of sequence {int(to)} of shard {shard}; there are {there}"
            )
        return same[0]
    path = folder / to if (folder / to).exists() else Path(to)
    whose = shard_of(path.name)
    if whose not in (None, shard):
        raise CheckpointError(
            f"{path}: is a snapshot of shard {whose}, asked for {shard}; use --shard {whose}"
        )
    return path


def _rank(source: Path, entries: list[Entry]) -> tuple[int, int]:
    """Generation and sequence of a file of the folder; before all for one from elsewhere."""
    where = source.resolve()
    ranks = [(entry.generation, entry.sequence) for entry in entries if entry.path.resolve() == where]
    return ranks[0] if ranks else (0, 0)
