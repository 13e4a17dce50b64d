"""One file holds everything that changes: written whole or not at all, verified before it is believed.

A file is ordinary safetensors. Its `__metadata__` holds one short JSON text: the format's name and version, and
a SHA-256 over all of it, names, types, shapes and bytes of the arrays included. What the caller adds is JSON
too, and stands as bytes in an array of its own, because safetensors takes no head above 100 MB. The same
contents give the same bytes. A file is written beside its place, made durable, renamed, and its folder made
durable; a reader sees the old file or the new one.
`CheckpointStore` keeps the last few of a shard and says which one counts.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from engine.crashpoints import crash_point

FORMAT = "everlearn checkpoint"
VERSION = 2

Arrays: TypeAlias = dict[str, NDArray[Any]]
Meta: TypeAlias = dict[str, Any]
Migration: TypeAlias = Callable[[Arrays, Meta], tuple[Arrays, Meta]]

MIGRATIONS: dict[int, Migration] = {
    1: lambda arrays, meta: (arrays, meta),  # its meta stood in the head; `read` takes it from there
}
"""Format version → what turns a file of that version into one of the next."""

_FIELD = "everlearn"
_META = "everlearn.meta"
_BLANK = "0" * 64
_KINDS = "biuf"


class CheckpointError(Exception):
    """A checkpoint that is missing, damaged, foreign or too new; the text says which and what to do."""


class NewerFormat(CheckpointError):
    """Written by a later release; older ones beside it must not silently take its place."""


class StaleWriter(CheckpointError):
    """Another process has taken over this shard; this one must stop."""


def write(path: str | os.PathLike[str], arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> None:
    """Put arrays and JSON-compatible meta at `path`, atomically and durably.

    Arrays may be bool, integer or float, of any shape, 0-d and empty included; meta may be of any size. Raises
    TypeError for other arrays or for meta that has no JSON form, ValueError for a name that is the file's own,
    CheckpointError where the names of the arrays are more than a file can hold, OSError where the folder
    cannot be written.
    """
    target = Path(path)
    beside = target.with_name(target.name + ".writing")
    data = _pack(target, arrays, meta)
    crash_point("checkpoint.before_write")
    with open(beside, "wb") as file:
        half = len(data) // 2
        file.write(data[:half])
        file.flush()
        crash_point("checkpoint.half_written")
        file.write(data[half:])
        file.flush()
        os.fsync(file.fileno())
    crash_point("checkpoint.before_rename")
    os.replace(beside, target)
    crash_point("checkpoint.after_rename")
    sync_folder(target.parent)
    crash_point("checkpoint.durable")


def read(path: str | os.PathLike[str]) -> tuple[Arrays, Meta]:
    """What `write` put there, every byte verified, brought to the present format version.

    Raises CheckpointError: missing, truncated or altered, not one of ours; NewerFormat for a later version.
    """
    source = Path(path)
    try:
        data = source.read_bytes()
    except FileNotFoundError:
        raise CheckpointError(f"{source}: no such file; expected a checkpoint, check the path") from None
    except OSError as error:
        raise CheckpointError(f"{source}: cannot be read ({error.strerror}); expected a checkpoint") from None
    text, about = _about(source, data)
    version = _version(source, about)
    arrays = _tensors(source, data)
    checksum = str(about.get("sha256"))
    if checksum != _digest(text.replace(checksum, _BLANK, 1), arrays):
        raise CheckpointError(
            f"{source}: damaged, its contents do not match its checksum; use an earlier checkpoint"
        )
    meta: Meta = about["meta"] if version == 1 else _meta(source, arrays)
    while version < VERSION:
        if version not in MIGRATIONS:
            raise CheckpointError(
                f"{source}: format version {version} can no longer be read; expected {VERSION}, "
                "open it with the release that wrote it"
            )
        arrays, meta = MIGRATIONS[version](arrays, meta)
        version += 1
    return arrays, meta


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _pack(target: Path, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> bytes:
    from safetensors import SafetensorError
    from safetensors.numpy import save

    plain: Arrays = {_META: np.frombuffer(json.dumps(meta).encode(), np.uint8)}
    for name, value in arrays.items():
        if name in (_META, "__metadata__"):
            raise ValueError(f"arrays has the name {name!r}, which is the file's own; use another name")
        array = np.asarray(value, order="C")
        if array.dtype.kind not in _KINDS or array.dtype.itemsize > 8:
            raise TypeError(
                f"arrays[{name!r}] has dtype {array.dtype}; expected bool, integer or float of up to 64 bits"
            )
        plain[name] = array.astype(array.dtype.newbyteorder("<"), copy=False)
    text = json.dumps({"format": FORMAT, "version": VERSION, "sha256": _BLANK})
    try:
        return bytes(save(plain, {_FIELD: text.replace(_BLANK, _digest(text, plain), 1)}))
    except SafetensorError as error:
        raise CheckpointError(
            f"{target}: cannot be written ({error}); found {len(plain)} arrays whose names have "
            f"{sum(map(len, plain)):,} characters, expected below 100 MB with types and shapes. "
            "Use fewer arrays or shorter names"
        ) from error


def _digest(text: str, arrays: Arrays) -> str:
    digest = hashlib.sha256(f"{len(arrays)} {len(text)} {text}".encode())
    for name in sorted(arrays):
        array = arrays[name]
        head = json.dumps([name, array.dtype.str, list(array.shape)])
        digest.update(f"{len(head)} {head}".encode())
        digest.update(array.reshape(-1).view(np.uint8).data if array.size else b"")
    return digest.hexdigest()


def _about(source: Path, data: bytes) -> tuple[str, Meta]:
    """Our text in a safetensors header, as it stands and as JSON."""
    foreign = f"{source}: not a checkpoint of everlearn, or its head is damaged; use another file"
    if len(data) < 8:
        raise CheckpointError(f"{source}: truncated, {len(data)} bytes; use an earlier checkpoint")
    size = int.from_bytes(data[:8], "little")
    if size > len(data) - 8:
        if data[8:9] == b"{":
            raise CheckpointError(f"{source}: truncated within its head; use an earlier checkpoint")
        raise CheckpointError(foreign)
    try:
        text = json.loads(data[8 : 8 + size])["__metadata__"][_FIELD]
        about = json.loads(text)
    except (ValueError, KeyError, TypeError, RecursionError):
        raise CheckpointError(foreign) from None
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise CheckpointError(foreign)
    return text, about


def _version(source: Path, about: Meta) -> int:
    found = about.get("version")
    if not isinstance(found, int) or found < 1 or (found == 1 and "meta" not in about):
        raise CheckpointError(f"{source}: damaged, its version reads {found!r}; use an earlier checkpoint")
    if found > VERSION:
        raise NewerFormat(
            f"{source}: format version {found}, this release reads up to {VERSION}; "
            "update everlearn, or use a checkpoint that this release wrote"
        )
    return found


def _tensors(source: Path, data: bytes) -> Arrays:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        found = load(data)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{source}: truncated or damaged ({error}); use an earlier checkpoint"
        ) from None
    return {name: array if array.flags.writeable else array.copy() for name, array in found.items()}


def _meta(source: Path, arrays: Arrays) -> Meta:
    """What the caller added, taken from among the arrays."""
    if _META not in arrays:
        raise CheckpointError(f"{source}: damaged, it holds no array {_META!r}; use an earlier checkpoint")
    meta: Meta = json.loads(arrays.pop(_META).tobytes())
    return meta


class Entry(NamedTuple):
    """One checkpoint of a store by name: what it is and how big, its contents not yet verified."""

    path: Path
    generation: int
    sequence: int
    bytes: int


class Snapshot(NamedTuple):
    """One verified checkpoint of a store."""

    path: Path
    generation: int
    sequence: int
    arrays: Arrays
    meta: Meta


class CheckpointStore:
    """The last `keep` checkpoints of one shard in a folder.

    A file's name carries shard, generation and sequence. A process claims its generation by creating a file
    exclusively; the highest generation wins, so that one that was thought dead can neither overwrite nor
    outrank its successor: its next `save` raises StaleWriter.

    >>> import tempfile
    >>> store = CheckpointStore(tempfile.mkdtemp())
    >>> _ = store.save({"w": np.zeros(3)}, {"events": 7})
    >>> store.latest().meta
    {'events': 7}
    """

    def __init__(self, folder: str | os.PathLike[str], shard: str = "0", keep: int = 3) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_.]+", shard):
            raise ValueError(f"shard is {shard!r}; expected letters, digits, dots and underscores")
        if keep < 1:
            raise ValueError(f"keep is {keep}; expected 1 or more")
        self.folder = Path(folder)
        self.shard = shard
        self.keep = keep
        self.damaged: list[tuple[Path, str]] = []
        self._generation: int | None = None
        self._sequence = 0
        escaped = re.escape(shard)
        self._file = re.compile(rf"{escaped}-g(\d+)-s(\d+)\.safetensors")
        self._claim = re.compile(rf"{escaped}-g(\d+)\.claim")
        self._unfinished = re.compile(rf"{escaped}-g(\d+)-s\d+\.safetensors\.writing")

    def ls(self) -> list[Entry]:
        """The checkpoints of this shard, oldest first, unverified; empty where the folder does not exist."""
        found = []
        for path, match in self._matching(self._file):
            with contextlib.suppress(FileNotFoundError):  # another process removes old ones meanwhile
                found.append(Entry(path, int(match[1]), int(match[2]), path.stat().st_size))
        return sorted(found, key=lambda entry: (entry.generation, entry.sequence))

    def latest(self) -> Snapshot | None:
        """The newest checkpoint that is whole, or None where there is none at all.

        Newer ones that are damaged are listed in `damaged` with the reason. Raises CheckpointError where
        there are checkpoints but none is whole, NewerFormat where a later release wrote the newest whole one.
        """
        self.damaged = []
        for entry in reversed(self.ls()):
            try:
                arrays, meta = read(entry.path)
            except NewerFormat:
                raise
            except CheckpointError as error:
                self.damaged.append((entry.path, str(error)))
                continue
            return Snapshot(entry.path, entry.generation, entry.sequence, arrays, meta)
        if self.damaged:
            raise CheckpointError(
                f"{self.folder}: none of {len(self.damaged)} checkpoints of shard {self.shard} is whole; "
                f"the newest: {self.damaged[0][1]}. Restore a copy, or begin anew in an empty folder"
            )
        return None

    def claim(self) -> int:
        """Take this shard over and return the generation; later calls change nothing."""
        if self._generation is not None:
            return self._generation
        self.folder.mkdir(parents=True, exist_ok=True)
        while True:
            generation = self._highest() + 1
            path = self.folder / f"{self.shard}-g{generation:06d}.claim"
            try:
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
            except FileExistsError:
                continue
            if self._highest() == generation:
                break
        sync_folder(self.folder)
        crash_point("checkpoint.claimed")
        self._generation = generation
        for path, match in [*self._matching(self._claim), *self._matching(self._unfinished)]:
            if int(match[1]) < generation:
                path.unlink(missing_ok=True)
        return generation

    def save(self, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> Entry:
        """Write the next checkpoint and drop those beyond `keep`; StaleWriter after another's `claim`."""
        generation = self.claim()
        if self._highest() > generation:
            raise StaleWriter(
                f"{self.folder}: shard {self.shard} was taken over by generation {self._highest()}, "
                f"this process holds {generation}; stop this process"
            )
        self._sequence += 1
        path = self.folder / f"{self.shard}-g{generation:06d}-s{self._sequence:08d}.safetensors"
        write(path, arrays, meta)
        for entry in self.ls()[: -self.keep]:
            crash_point("checkpoint.before_remove")
            entry.path.unlink(missing_ok=True)
        return Entry(path, generation, self._sequence, path.stat().st_size)

    def _highest(self) -> int:
        found = [*self._matching(self._claim), *self._matching(self._file)]
        return max((int(match[1]) for _, match in found), default=0)

    def _matching(self, pattern: re.Pattern[str]) -> list[tuple[Path, re.Match[str]]]:
        if not self.folder.is_dir():
            return []
        pairs = ((path, pattern.fullmatch(path.name)) for path in self.folder.iterdir())
        return [(path, match) for path, match in pairs if match is not None]
