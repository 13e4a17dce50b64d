"""The last few checkpoints of a shard in a folder, and which process may write them.

A file's name carries shard, generation and sequence. A process claims its generation by creating a file
exclusively; the highest generation wins. A process that was thought dead can neither overwrite nor outrank its
successor, nor remove what it wrote. What a shared folder must give for that: exclusive creation and renaming
that are atomic for all its clients.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import NDArray

from engine.checkpoint.errors import CheckpointError, NewerFormat, StaleWriter, not_written
from engine.checkpoint.file import Arrays, Meta, read, sync_folder, write
from engine.crashpoints import crash_point

_ANY = re.compile(r"([A-Za-z0-9_.]+)-g(\d+)-s(\d+)\.safetensors")


class Entry(NamedTuple):
    """One checkpoint of a store by name: what it is and how big, its contents not yet verified.

    written: the file's time, in seconds since 1970. A checkpoint holds none: equal runs write equal ones.
    """

    path: Path
    generation: int
    sequence: int
    bytes: int
    written: float


class Snapshot(NamedTuple):
    """One verified checkpoint of a store."""

    path: Path
    generation: int
    sequence: int
    arrays: Arrays
    meta: Meta


def shards(folder: str | os.PathLike[str]) -> list[str]:
    """The names of all shards that have checkpoints in a folder, sorted.

    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> _ = CheckpointStore(folder, "events.1").save({}, {})
    >>> shards(folder)
    ['events.1']
    """
    if not Path(folder).is_dir():
        return []
    return sorted({shard for name in os.listdir(folder) if (shard := shard_of(name)) is not None})


def shard_of(name: str) -> str | None:
    """The shard whose checkpoint has this file name; None where it is no such name.

    >>> shard_of("events.1-g000002-s00000007.safetensors"), shard_of("model.safetensors")
    ('events.1', None)
    """
    match = _ANY.fullmatch(name)
    return None if match is None else match[1]


class CheckpointStore:
    """The last `keep` checkpoints of one shard in a folder, and some older ones.

    shard: letters, digits, dots and underscores. keep: how many whole ones stay. hourly, daily: of how many hours
    and days the last one stays besides, by the time of its file.
    damaged: what the last `latest` passed over, with the reason.

    >>> import tempfile
    >>> import numpy as np
    >>> store = CheckpointStore(tempfile.mkdtemp())
    >>> _ = store.save({"w": np.zeros(3)}, {"events": 7})
    >>> store.latest().meta
    {'events': 7}
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        shard: str = "0",
        keep: int = 3,
        *,
        hourly: int = 0,
        daily: int = 0,
    ) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_.]+", shard):
            raise ValueError(f"shard is {shard!r}; expected letters, digits, dots and underscores")
        if keep < 1:
            raise ValueError(f"keep is {keep}; expected 1 or more")
        if hourly < 0 or daily < 0:
            raise ValueError(f"hourly is {hourly}, daily is {daily}; expected 0 or more of each")
        self.folder = Path(folder)
        self.shard = shard
        self.keep, self.hourly, self.daily = keep, hourly, daily
        self.damaged: list[tuple[Path, str]] = []
        self._generation: int | None = None
        self._sequence = 0
        self._own = self._next = ""
        escaped = re.escape(shard)
        self._file = re.compile(rf"{escaped}-g(\d+)-s(\d+)\.safetensors")
        self._claim = re.compile(rf"{escaped}-g(\d+)\.claim")
        self._unfinished = re.compile(rf"{escaped}-g(\d+)-s\d+\.safetensors\.writing")

    def ls(self) -> list[Entry]:
        """The checkpoints of this shard, oldest first, unverified; empty where the folder does not exist."""
        found = []
        for path, match in self._matching(self._file):
            with contextlib.suppress(FileNotFoundError):  # another process removes old ones meanwhile
                found.append(entry_of(path, int(match[1]), int(match[2])))
        return sorted(found, key=lambda entry: (entry.generation, entry.sequence))

    def latest(self) -> Snapshot | None:
        """The newest checkpoint that is whole, or None where there is none at all.

        Newer ones that are damaged are listed in `damaged` with the reason. Raises CheckpointError where
        there are checkpoints but none is whole, NewerFormat where a later release wrote the newest whole one.
        """
        while True:
            self.damaged = []
            entries = self.ls()
            for entry in reversed(entries):
                try:
                    arrays, meta = read(entry.path)
                except NewerFormat:
                    raise
                except CheckpointError as error:
                    self.damaged.append((entry.path, str(error)))
                    continue
                return Snapshot(entry.path, entry.generation, entry.sequence, arrays, meta)
            if not self.damaged:
                return None
            if self.ls() == entries:
                break  # otherwise the one that wrote before has meanwhile put newer ones in their place
        raise CheckpointError(
            f"{self.folder}: none of {len(self.damaged)} checkpoints of shard {self.shard} is whole; "
            f"the newest: {self.damaged[0][1]}. Restore a copy, or begin anew in an empty folder"
        )

    def claim(self) -> int:
        """Take this shard over and return the generation; later calls change nothing.

        Raises SnapshotNotWritten where the folder cannot be made or written to.
        """
        if self._generation is not None:
            return self._generation
        generation, path = 0, self.folder / "claim"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            while True:
                generation = self._highest() + 1
                path = self._claim_of(generation)
                try:
                    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
                except FileExistsError:
                    continue
                if self._highest() == generation:
                    break
            sync_folder(self.folder)
            crash_point("checkpoint.claimed")
            self._generation = generation
            self._own, self._next = str(path), str(self._claim_of(generation + 1))
            self._clear(generation)
        except OSError as error:
            raise not_written(path, 0, error) from error
        return generation

    def check(self) -> None:
        """Nothing while this process holds the shard; StaleWriter once another has claimed it.

        Costs two looks at names, a few microseconds. Whoever claims creates the name after ours first, and
        removes ours before that one: looked at in this order, one of the two tells.
        """
        if self._generation is None:
            return
        if not _there(self._next) and _there(self._own):
            return
        self._stop_if_stale(self._generation)
        if not self.folder.is_dir():
            raise not_written(
                Path(self._own), 0, FileNotFoundError(2, os.strerror(2))
            )  # else somebody has removed our claim by hand and nobody has taken over

    def save(self, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any] | bytes) -> Entry:
        """Write the next checkpoint and drop those beyond `keep`; meta: as `checkpoint_file.write` takes it.

        Raises StaleWriter after another's `claim`, SnapshotNotWritten where the system does not take it.
        """
        generation = self.claim()
        self._stop_if_stale(generation)
        self._sequence += 1
        path = self.folder / f"{self.shard}-g{generation:06d}-s{self._sequence:08d}.safetensors"
        try:
            write(path, arrays, meta)
            entry = entry_of(path, generation, self._sequence)
        except OSError:
            self._stop_if_stale(generation)  # who takes over removes what is unfinished
            raise
        self._stop_if_stale(generation)
        self._prune(generation)
        return entry

    def _prune(self, generation: int) -> None:
        """Remove what is older than the last `keep` that are not known to be damaged; never a later one's.

        Of what is older, `hourly` and `daily` spare some.
        """
        mine = [entry for entry in self.ls() if entry.generation <= generation]
        damaged = {path for path, _ in self.damaged}
        whole = [entry for entry in mine if entry.path not in damaged]
        if len(whole) <= self.keep:
            return
        stay = spared([entry.written for entry in whole], self.hourly, self.daily)
        paths = {whole[place].path for place in stay}
        for entry in mine[: mine.index(whole[-self.keep])]:
            if entry.path in paths:
                continue
            crash_point("checkpoint.before_remove")
            with contextlib.suppress(OSError):  # gone already, or no file: it stays, and counts no more
                entry.path.unlink()

    def _clear(self, generation: int) -> None:
        """Remove older claims, the oldest first, and what older generations left unfinished."""
        claims = self._matching(self._claim)
        for path, match in sorted(claims, key=lambda pair: int(pair[1][1])):
            if int(match[1]) < generation:
                path.unlink(missing_ok=True)
        for path, match in self._matching(self._unfinished):
            if int(match[1]) < generation:
                path.unlink(missing_ok=True)

    def _stop_if_stale(self, generation: int) -> None:
        highest = self._highest()
        if highest > generation:
            raise StaleWriter(
                f"{self.folder}: shard {self.shard} was taken over by generation {highest}, "
                f"this process holds {generation}; stop this process"
            )

    def _claim_of(self, generation: int) -> Path:
        return self.folder / f"{self.shard}-g{generation:06d}.claim"

    def _highest(self) -> int:
        found = [*self._matching(self._claim), *self._matching(self._file)]
        return max((int(match[1]) for _, match in found), default=0)

    def _matching(self, pattern: re.Pattern[str]) -> list[tuple[Path, re.Match[str]]]:
        if not self.folder.is_dir():
            return []
        pairs = ((name, pattern.fullmatch(name)) for name in os.listdir(self.folder))
        return [(self.folder / name, match) for name, match in pairs if match is not None]


def spared(written: Sequence[float], hourly: int, daily: int) -> set[int]:
    """Which of some checkpoints stay because of when they were written, by their places; the oldest first.

    The last of each of the `hourly` latest hours in which there is one, and of the `daily` latest days, of UTC.
    Hours and days without one do not count, so that a pause costs nothing. What is later in the list counts as
    later, whatever a clock said.

    >>> minutes = [0, 30, 59, 60, 119, 600]
    >>> sorted(spared([60.0 * m for m in minutes], hourly=2, daily=0))  # of the second hour, of the eleventh
    [4, 5]
    """
    found: set[int] = set()
    for seconds, count in ((3600.0, hourly), (86400.0, daily)):
        seen: set[float] = set()
        for place in reversed(range(len(written))):
            if len(seen) == count:
                break
            when = written[place] // seconds
            if when not in seen:
                seen.add(when)
                found.add(place)
    return found


def entry_of(path: Path, generation: int, sequence: int) -> Entry:
    """The checkpoint in this file, of which the name told generation and sequence."""
    about = path.lstat()
    return Entry(path, generation, sequence, about.st_size, about.st_mtime)


def _there(path: str) -> bool:
    try:
        os.stat(path)
    except OSError:
        return False
    return True
