"""The order in which a shard takes its records, written down before an answer that depends on it leaves.

Between partitions there is no order but the one a run has chosen: it merges them by event time up to the ends
that it found, stage after stage. These ends are the order. They are numbered from the first run on and
appended to files beside the snapshots, whose names carry shard, generation and first number; what a
generation appends takes the place of what lower ones have from that number on. Whoever resumes or replays
follows them and takes the records in the same order. A stage takes 13 bytes and 2 to 10 for each end that has
moved: 17 where two have moved by less than 128 records. All of it is kept, so that any moment can be rebuilt;
who goes on reads no more than the file that holds its place and those behind it.

A file is a sequence of frames: length, CRC-32 of the length, CRC-32 of what follows (4 bytes each,
little-endian), MessagePack. The first frame is the head; {"partition": [topic, number]} gives a partition the
next index; [index, step, index, step, …] is a stage by how far each end moved; {"mark": …, "at": …} is a
mark. A frame cut short by a power cut is dropped: nothing depended on it yet.
"""

from __future__ import annotations

import os
import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import msgspec

from engine.checkpoint import CheckpointError, sync_folder
from engine.checkpoint.errors import not_written
from engine.crashpoints import crash_point
from streams.event import TopicPartition

FORMAT = "everlearn order"
VERSION = 1
SEGMENT = 16_384
"""Entries in one file."""

_HEADER = struct.Struct("<III")
_HEAD = _HEADER.size  # bytes in front of what a frame holds
_ENOUGH = 4096  # bytes that an entry needs at most, as disks give them

Offsets: TypeAlias = dict[TopicPartition, int]


class Stage(NamedTuple):
    """The ends up to which records are merged by event time."""

    ends: Offsets


class Mark(NamedTuple):
    """Something that holds from the positions `at` on: whether learning is frozen."""

    frozen: bool
    at: Offsets


Entry: TypeAlias = Stage | Mark


class Order:
    """What was recorded for one shard in a folder, and where to append.

    `append`, `sync` and `close` raise SnapshotNotWritten where the system does not take it. The file is then cut
    back to what is durable and released; `number` is that of the first entry that was lost.

    >>> import tempfile
    >>> order = Order(tempfile.mkdtemp())
    >>> order.begin(generation=1, number=0)
    >>> order.append(Stage({TopicPartition("events", 0): 7, TopicPartition("labels", 0): 3}))
    >>> order.sync()
    >>> order.close()
    >>> Order(order.folder).since(0)[0].ends[TopicPartition("labels", 0)]
    3
    """

    def __init__(self, folder: str | os.PathLike[str], shard: str = "0") -> None:
        self.folder = Path(folder)
        self.number = 0
        self._shard = shard
        self._name = re.compile(rf"{re.escape(shard)}-g(\d+)-n(\d+)\.order")
        self._generation = 0
        self._first = 0
        self._file: Any = None
        self._unsynced = False
        self._durable = (0, 0)  # bytes of the file, and the number of the entry behind them
        self._ends: Offsets = {}
        self._index: dict[TopicPartition, int] = {}

    def since(self, number: int) -> list[Entry]:
        """The entries from `number` on, those of the highest generation where several have one.

        Files that hold none of them are not read.
        Raises CheckpointError where entries are missing in between or a file is not of this format.
        """
        pieces: list[tuple[int, list[Entry]]] = []
        bound: int | None = None  # from here on files that were read have taken over
        for _, first, path in reversed(self._files()):
            if bound is not None and bound <= number:
                break
            if bound is not None and bound <= first:
                continue
            entries = _read(path, first, number, bound)
            if entries is not None:
                pieces.append((max(first, number), entries))
                bound = first
        found: list[Entry] = []
        for at, entries in reversed(pieces):
            if entries and at != number + len(found):
                raise CheckpointError(
                    f"{self.folder}: the recorded order of shard {self._shard} has a gap behind entry "
                    f"{number + len(found)}; restore the missing .order file, or begin anew in an empty folder"
                )
            found += entries
        return found

    def _files(self) -> list[tuple[int, int, Path]]:
        """Generation, first number and path of every file, in the order in which they count."""
        paths = self.folder.iterdir() if self.folder.is_dir() else ()
        matches = ((self._name.fullmatch(path.name), path) for path in paths)
        return sorted((int(match[1]), int(match[2]), path) for match, path in matches if match)

    def begin(self, generation: int, number: int) -> None:
        """Append from now on, in this generation's files; the next entry has this number."""
        self.close()
        self._generation = generation
        self.number = number

    def append(self, entry: Entry) -> None:
        """Add an entry; it is durable after `sync`."""
        if self._file is not None and self.number - self._first >= SEGMENT:
            self.close()
        with self._told():
            self._append(entry)
        self.number += 1
        self._unsynced = True

    def _append(self, entry: Entry) -> None:
        if self._file is None:
            self._create()
        crash_point("order.before_append")
        if isinstance(entry, Mark):
            self._write(
                {"mark": {"frozen": entry.frozen}, "at": [[*p, o] for p, o in sorted(entry.at.items())]}
            )
        else:
            steps: list[int] = []
            for partition, end in sorted(entry.ends.items()):
                if partition not in self._index:
                    self._index[partition] = len(self._index)
                    self._write({"partition": list(partition)})
                step = end - self._ends.get(partition, 0)
                if step:
                    steps += (self._index[partition], step)
            self._ends.update(entry.ends)
            self._write(steps)

    def _create(self) -> None:
        self._first, self._ends, self._index = self.number, {}, {}
        self.folder.mkdir(parents=True, exist_ok=True)
        self._durable = (0, self.number)
        self._file = self._path.open("xb", buffering=0)
        self._write({"format": FORMAT, "version": VERSION})
        os.fsync(self._file.fileno())
        sync_folder(self.folder)
        self._settle()

    def _write(self, content: Any) -> None:
        frame = _frame(content)
        half = len(frame) // 2
        self._put(frame[:half])
        crash_point("order.half_appended")
        self._put(frame[half:])

    def _put(self, data: bytes) -> None:
        """All of it: a disk that is nearly full takes a part without an error."""
        while data:
            data = data[self._file.write(data) :]

    @property
    def _path(self) -> Path:
        return self.folder / f"{self._shard}-g{self._generation:06d}-n{self._first:010d}.order"

    @contextmanager
    def _told(self) -> Iterator[None]:
        """The system's errors as errors that say what to do; the file is written to no more."""
        try:
            yield
        except OSError as error:
            file, self._file, self._unsynced = self._file, None, False
            if file is not None:
                self._cut(file)
            raise not_written(self._path, _ENOUGH, error) from error

    def _cut(self, file: Any) -> None:
        """Leave what is durable: of what was written behind it nobody can say how much will be there later."""
        size, self.number = self._durable
        with suppress(OSError):
            os.ftruncate(file.fileno(), size)
        with suppress(OSError):
            file.close()
        if self.number == self._first:  # no entry of it is left, and its name may be needed again
            with suppress(OSError):
                self._path.unlink(missing_ok=True)

    def _settle(self) -> None:
        self._durable = (os.fstat(self._file.fileno()).st_size, self.number)

    def sync(self) -> None:
        """Make what was appended durable."""
        if self._unsynced:
            crash_point("order.before_sync")
            with self._told():
                os.fdatasync(self._file.fileno())
                self._settle()
            self._unsynced = False
            crash_point("order.durable")

    def close(self) -> None:
        """Release the file; closing twice is allowed."""
        if self._file is not None:
            self.sync()
            with self._told():
                self._file.close()
            self._file = None


def _read(path: Path, first: int, number: int, bound: int | None) -> list[Entry] | None:
    """Those of a file's entries, the first of which has number `first`, from `number` to before `bound`.

    None where not even the head is whole. What is not asked for is passed over and not kept.
    """
    frames = _frames(path)
    head = next(frames, None)
    if head is None:
        return None
    if not isinstance(head, dict) or head.get("format") != FORMAT or head.get("version") != VERSION:
        raise CheckpointError(
            f"{path}: not a recorded order that this release reads, its head is {head!r}; "
            "use the release that wrote it"
        )
    partitions: list[TopicPartition] = []
    ends: Offsets = {}
    entries: list[Entry] = []
    at = first
    for content in frames:
        if at == bound:
            break
        if isinstance(content, list):
            for index, step in zip(content[::2], content[1::2], strict=True):
                ends[partitions[index]] = ends.get(partitions[index], 0) + step
            if at >= number:
                entries.append(Stage(dict(ends)))
        elif "partition" in content:
            topic, partition = content["partition"]
            partitions.append(TopicPartition(topic, partition))
            continue
        elif at >= number:
            where = {TopicPartition(topic, partition): offset for topic, partition, offset in content["at"]}
            entries.append(Mark(content["mark"]["frozen"], where))
        at += 1
    return entries


def _frame(content: Any) -> bytes:
    payload = msgspec.msgpack.encode(content)
    length = len(payload).to_bytes(4, "little")
    return _HEADER.pack(len(payload), zlib.crc32(length), zlib.crc32(payload)) + payload


def _frames(path: Path) -> Iterator[Any]:
    data = path.read_bytes()
    at = 0
    while at + _HEAD <= len(data):
        length, check, check_payload = _HEADER.unpack_from(data, at)
        behind = at + _HEAD + length
        if zlib.crc32(data[at : at + 4]) != check:
            whole = not any(data[at:])  # zeros at the end were never written
        elif behind > len(data):
            whole = True
        elif zlib.crc32(payload := data[at + _HEAD : behind]) == check_payload:
            yield msgspec.msgpack.decode(payload)
            at = behind
            continue
        else:
            whole = behind == len(data)
        if whole:
            return  # but for the last one, of which only parts reached the disk
        raise CheckpointError(
            f"{path}: damaged at byte {at:,} of {len(data):,}, its recorded order cannot be followed; "
            "restore the file from a copy, or begin anew in an empty folder"
        )


def same_place(a: Mapping[TopicPartition, int], b: Mapping[TopicPartition, int]) -> bool:
    """Whether two sets of positions are equal; a partition that is not named stands at 0.

    >>> same_place({TopicPartition("a", 0): 0}, {})
    True
    """
    return all(a.get(partition, 0) == b.get(partition, 0) for partition in {*a, *b})
