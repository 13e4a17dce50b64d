"""One file holds everything that changes: written whole or not at all, verified before it is believed.

A file is ordinary safetensors. Its `__metadata__` holds one short JSON text: the format's name and version, and
a SHA-256 over all of it, names, types, shapes and bytes of the arrays included. What the caller adds is JSON
too, and stands as bytes in an array of its own, because safetensors takes no head above 100 MB. The same
contents give the same bytes. A file is written beside its place, array after array without a copy of them,
made durable, renamed, and its folder made durable; a reader sees the old file or the new one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.checkpoint.errors import CheckpointError, NewerFormat, not_written, strerror
from engine.checkpoint.head import LONGEST, Place, arranged, packed_head, places, supported
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
_PIECE = 512
_NOT_FINITE = re.compile(rb"\xcb[\x7f\xff][\xf0-\xff]")  # of a float in MessagePack; seldom something else


def encoded(meta: Mapping[str, Any]) -> bytes:
    """Meta as `write` also takes it, a text that no longer changes. Raises TypeError where it has no JSON form.

    >>> encoded({"events": 7, "rate": float("inf"), "ids": ["a", "b"]})
    b'{"events": 7,"rate": Infinity,"ids": ["a","b"]}'
    """
    return b"".join(_json(meta))


def write(
    path: str | os.PathLike[str], arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any] | bytes
) -> None:
    """Put arrays and JSON-compatible meta, or what `encoded` made of it, at `path`, atomically and durably.

    Arrays may be bool, integer or float, of any shape, 0-d and empty included; meta may be of any size. Raises
    TypeError for other arrays or for meta that has no JSON form, ValueError for a name that is the file's own,
    CheckpointError where the names of the arrays are more than a file can hold, SnapshotNotWritten (an OSError
    too) where the system does not take it: what is unfinished is then removed.

    >>> import tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "a")
    >>> write(path, {"w": np.zeros(3)}, {"events": 7})
    >>> read(path)
    ({'w': array([0., 0., 0.])}, {'events': 7})
    """
    target = Path(path)
    beside = target.with_name(target.name + ".writing")
    head, plain, arrangement = _packed(target, arrays, meta)
    pieces = [memoryview(head), *(_bytes(plain[place.name]) for place in arrangement)]
    total = sum(map(len, pieces))
    crash_point("checkpoint.before_write")
    try:
        with open(beside, "wb") as file:
            _write_all(file, pieces, total)
            file.flush()
            crash_point("checkpoint.before_fsync")
            os.fsync(file.fileno())
        crash_point("checkpoint.after_fsync")
        crash_point("checkpoint.before_rename")
        os.replace(beside, target)
        crash_point("checkpoint.after_rename")
        crash_point("checkpoint.before_folder_fsync")
        sync_folder(target.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise not_written(target, total, error) from error
    crash_point("checkpoint.durable")


def read(path: str | os.PathLike[str]) -> tuple[Arrays, Meta]:
    """What `write` put there, every byte verified, brought to the present format version.

    Raises CheckpointError: missing, truncated or altered, not one of ours; NewerFormat for a later version.
    """
    source = Path(path)
    with _opened(source) as file:
        head = _head(source, file)
        arrays = {place.name: _array(source, file, place) for place in head.places}
    version = head.version
    if version > VERSION:
        raise _newer_or_damaged(source, head, arrays)
    if not _matches(head, head.text, arrays):
        raise CheckpointError(
            f"{source}: damaged, its contents do not match its checksum; use an earlier checkpoint"
        )
    meta: Meta = head.about["meta"] if version == 1 else _from_json(source, arrays.pop(_META))
    while version < VERSION:
        if version not in MIGRATIONS:
            raise CheckpointError(
                f"{source}: format version {version} can no longer be read; expected {VERSION}, "
                "open it with the release that wrote it"
            )
        arrays, meta = MIGRATIONS[version](arrays, meta)
        version += 1
    return arrays, meta


def peek(path: str | os.PathLike[str]) -> Meta:
    """The meta of a file alone, as it was written: little is read, and nothing verified but its form.

    Raises CheckpointError where the file is missing or cannot be one of ours, NewerFormat where it says that it
    is of a later version: whether that alone is damaged takes all of the file to tell, and `read` tells it.

    >>> import tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "a")
    >>> write(path, {"w": np.zeros(1_000_000)}, {"events": 7})
    >>> peek(path)
    {'events': 7}
    """
    source = Path(path)
    with _opened(source) as file:
        head = _head(source, file)
        if head.version > VERSION:
            raise _newer(source, head.version)
        if head.version == 1:
            meta: Meta = head.about["meta"]
            return meta
        place = next(place for place in head.places if place.name == _META)
        file.seek(head.bytes + place.begin)
        return _from_json(source, _array(source, file, place))


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _packed(
    target: Path, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any] | bytes
) -> tuple[bytes, Arrays, list[Place]]:
    """The head, the arrays as they are written, and in which order."""
    text = meta if isinstance(meta, bytes) else encoded(meta)
    plain: Arrays = {_META: np.frombuffer(text, np.uint8)}
    for name, value in arrays.items():
        if name in (_META, "__metadata__"):
            raise ValueError(f"arrays has the name {name!r}, which is the file's own; use another name")
        array = np.asarray(value, order="C")
        little = array.dtype.newbyteorder("<")
        if not supported(little):
            raise TypeError(
                f"arrays[{name!r}] has dtype {array.dtype}; expected bool, integer or float of up to 64 bits"
            )
        plain[name] = array.astype(little, copy=False)
    arrangement = arranged(plain)
    about = json.dumps({"format": FORMAT, "version": VERSION, "sha256": _BLANK})
    head = packed_head({_FIELD: about.replace(_BLANK, _digest(about, plain), 1)}, arrangement)
    if len(head) - 8 > LONGEST:
        raise CheckpointError(
            f"{target}: cannot be written (its head would have {len(head) - 8:,} bytes); found {len(plain)} "
            f"arrays whose names have {sum(map(len, plain)):,} characters, expected below 100 MB with types "
            "and shapes. Use fewer arrays or shorter names"
        )
    return head, plain, arrangement


def _json(value: Any) -> Iterator[bytes]:
    """Values as JSON, long lists by the faster encoder where it can: it knows neither NaN nor long integers."""
    if isinstance(value, Mapping):
        yield b"{"
        for place, (key, inner) in enumerate(value.items()):
            yield b"," * (place > 0) + json.dumps({key: 0})[1:-2].encode()
            yield from _json(inner)
        yield b"}"
    elif isinstance(value, list | tuple) and value:
        for start in range(0, len(value), _PIECE):
            piece = value[start : start + _PIECE]
            text = msgspec.json.encode(piece) if _plain(piece) else json.dumps(piece).encode()
            yield (b"," if start else b"[") + text[1:-1]
        yield b"]"
    else:
        yield json.dumps(value).encode()


def _plain(values: Sequence[Any]) -> bool:
    """Whether values are in MessagePack, and no float of it is NaN or infinite."""
    try:
        return _NOT_FINITE.search(msgspec.msgpack.encode(values)) is None
    except (TypeError, ValueError, OverflowError):
        return False


def _bytes(array: NDArray[Any]) -> memoryview:
    """The bytes of an array where they are; empty for none."""
    return array.reshape(-1).view(np.uint8).data if array.size else memoryview(b"")


def _digest(text: str, arrays: Mapping[str, NDArray[Any]]) -> str:
    digest = hashlib.sha256(f"{len(arrays)} {len(text)} {text}".encode())
    for name in sorted(arrays):
        array = arrays[name]
        head = json.dumps([name, array.dtype.str, list(array.shape)])
        digest.update(f"{len(head)} {head}".encode())
        digest.update(_bytes(array))
    return digest.hexdigest()


def _write_all(file: BinaryIO, pieces: Iterable[memoryview], total: int) -> None:
    left = total // 2  # until the place in the middle
    for piece in pieces:
        if 0 < left <= len(piece):
            file.write(piece[:left])
            file.flush()
            crash_point("checkpoint.half_written")
            file.write(piece[left:])
        else:
            file.write(piece)
        left -= len(piece)


class _Head(NamedTuple):
    text: str
    about: Meta
    version: int
    places: list[Place]
    bytes: int


@contextlib.contextmanager
def _opened(source: Path) -> Iterator[BinaryIO]:
    try:
        if not stat.S_ISREG(source.stat().st_mode):
            raise CheckpointError(f"{source}: is no file; expected a checkpoint, check the path")
        with open(source, "rb") as file:
            yield file
    except FileNotFoundError:
        raise CheckpointError(f"{source}: no such file; expected a checkpoint, check the path") from None
    except OSError as error:
        raise CheckpointError(
            f"{source}: cannot be read ({strerror(error)}); expected a checkpoint"
        ) from None


def _head(source: Path, file: BinaryIO) -> _Head:
    """What a file says about itself, its form verified; the file then stands behind it."""
    foreign = f"{source}: not a checkpoint of everlearn, or its head is damaged; use another file"
    first = file.read(9)
    length = os.fstat(file.fileno()).st_size
    if len(first) < 8:
        raise CheckpointError(f"{source}: truncated, {len(first)} bytes; use an earlier checkpoint")
    size = int.from_bytes(first[:8], "little")
    if size > length - 8:
        if first[8:] == b"{":
            raise CheckpointError(f"{source}: truncated within its head; use an earlier checkpoint")
        raise CheckpointError(foreign)
    if size > LONGEST:
        raise CheckpointError(foreign)
    file.seek(8)
    try:
        found = json.loads(file.read(size))
        text = found["__metadata__"][_FIELD]
        about = json.loads(text)
    except (ValueError, KeyError, TypeError, RecursionError):
        raise CheckpointError(foreign) from None
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise CheckpointError(foreign)
    version = _version(source, about)
    try:
        arrangement = places(found, length - 8 - size)
        if 1 < version <= VERSION and not any(place.name == _META for place in arrangement):
            raise ValueError(f"it holds no array {_META!r}")
    except ValueError as error:
        if version > VERSION:  # a later release may arrange it otherwise
            raise _newer(source, version) from None
        raise CheckpointError(
            f"{source}: truncated or damaged ({error}); use an earlier checkpoint"
        ) from None
    return _Head(text, about, version, arrangement, 8 + size)


def _version(source: Path, about: Meta) -> int:
    found = about.get("version")
    if not isinstance(found, int) or found < 1 or (found == 1 and "meta" not in about):
        raise CheckpointError(f"{source}: damaged, its version reads {found!r}; use an earlier checkpoint")
    return found


def _newer(source: Path, found: int) -> NewerFormat:
    return NewerFormat(
        f"{source}: format version {found}, this release reads up to {VERSION}; "
        "update everlearn, or use a checkpoint that this release wrote"
    )


def _newer_or_damaged(source: Path, head: _Head, arrays: Arrays) -> CheckpointError:
    """What a later version means: the checksum tells whether this release or an earlier one wrote the file."""
    for known in range(1, VERSION + 1):
        text = head.text.replace(f'"version": {head.version}', f'"version": {known}', 1)
        if _matches(head, text, arrays):
            return CheckpointError(
                f"{source}: damaged, its version reads {head.version} and was {known}; use an earlier checkpoint"
            )
    return _newer(source, head.version)


def _matches(head: _Head, text: str, arrays: Arrays) -> bool:
    """Whether the checksum that a head holds is that of this text and these arrays."""
    checksum = str(head.about.get("sha256"))
    return checksum == _digest(text.replace(checksum, _BLANK, 1), arrays)


def _array(source: Path, file: BinaryIO, place: Place) -> NDArray[Any]:
    """The next array of a file."""
    try:
        array: NDArray[Any] = np.empty(place.shape, place.dtype)
    except ValueError as error:  # no bytes at all, and yet a shape that no array can have
        raise CheckpointError(f"{source}: damaged ({error}); use an earlier checkpoint") from None
    if place.bytes and file.readinto(_bytes(array)) != place.bytes:  # type: ignore[attr-defined]  # a buffered file has it
        raise CheckpointError(f"{source}: truncated while it was read; use an earlier checkpoint")
    return array


def _from_json(source: Path, text: NDArray[Any]) -> Meta:
    """What the caller added."""
    try:
        meta = json.loads(text.tobytes())
    except (ValueError, RecursionError):
        meta = None
    if not isinstance(meta, dict):
        raise CheckpointError(f"{source}: damaged, its meta is no JSON object; use an earlier checkpoint")
    return meta
