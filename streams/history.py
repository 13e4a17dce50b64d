"""The past in a file, to be learned before what is live: rows of JSON lines, CSV or Parquet, or an embedded log.

Its partitions have topics of their own, `history:<stem>`, and offsets that are row numbers, so that positions,
snapshots and the recorded order cover them like any other.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from streams.codecs import decode as canonical
from streams.codecs import encode_json
from streams.errors import TableError
from streams.event import Event, Label, Malformed, TopicPartition
from streams.files import stem, suffix
from streams.protocols import Decode
from streams.replay import Items

PREFIX = "history:"

_LINES = (".jsonl", ".ndjson", ".json")
_TABLES = (".csv", ".tsv", ".parquet")
LOGS = (".sqlite", ".db", ".log")
_PAGE = 4096
_OURS = {"id", "time", "label", "weight"}


def open_history(
    path: Path, topics: Sequence[str] = (), decoders: Mapping[str, Decode] | None = None
) -> dict[TopicPartition, Items]:
    """A file of the past as partitions for `ListSource`.

    path: JSON lines, CSV, TSV or Parquet, a message a row, or an embedded log, of which `topics` are read.
    decoders: topic → how a message is read, of rows: the first of `topics`; without one a message has the
    canonical form, and a row either that or the columns id, time and perhaps label and weight, all others being
    features. Raises TableError for a file that is missing or of another form.
    """
    kind = suffix(path)
    if not path.is_file():
        raise TableError(
            f"{path}: no such file; expected history as JSON lines, CSV, Parquet or embedded log"
        )
    read = (decoders or {}).get(topics[0] if topics else "")
    if kind in LOGS:
        return _partitions_of(path, topics, decoders or {})
    if kind not in (*_LINES, *_TABLES):
        raise TableError(f"{path}: expected history as one of {', '.join((*_LINES, *_TABLES, *LOGS))}")
    rows: Items = _Lines(path, read) if kind in _LINES else _Table(path, kind, read)
    return {TopicPartition(PREFIX + stem(path), 0): rows}


class _Lines:
    """Lines of a file, read when they are asked for."""

    def __init__(self, path: Path, read: Decode | None) -> None:
        self._file = path.open("rb")
        self._read = read
        self._begins = array("q")
        at = 0
        for line in self._file:
            if line.strip():
                self._begins.append(at)
            at += len(line)

    def __len__(self) -> int:
        return len(self._begins)

    def __getitem__(self, rows: slice, /) -> Sequence[Event | Label | Malformed]:
        found = []
        for begin in self._begins[rows]:
            self._file.seek(begin)
            found.append(_of_line(self._file.readline().strip(), self._read))
        return found


class _Table:
    """Rows of a CSV, TSV or Parquet file."""

    def __init__(self, path: Path, kind: str, read: Decode | None) -> None:
        import pyarrow
        import pyarrow.csv
        import pyarrow.parquet

        try:
            if kind == ".parquet":
                self._table = pyarrow.parquet.read_table(path)
            else:
                asked = pyarrow.csv.ParseOptions(delimiter="\t" if kind == ".tsv" else ",")
                self._table = pyarrow.csv.read_csv(path, parse_options=asked)
        except pyarrow.ArrowException as error:
            raise TableError(f"{path}: cannot be read as {kind} ({error}); check the file") from error
        self._read = read

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __getitem__(self, rows: slice, /) -> Sequence[Event | Label | Malformed]:
        found = self._table.slice(rows.start, rows.stop - rows.start).to_pylist()
        return [_of_row(row, self._read) for row in found]


class _LogRows:
    """One partition of an embedded log; row 0 is its first record."""

    def __init__(self, log: Any, partition: TopicPartition, begin: int, end: int, read: Decode) -> None:
        self._log, self._partition, self._begin, self._end, self._read = log, partition, begin, end, read

    def __len__(self) -> int:
        return self._end - self._begin

    def __getitem__(self, rows: slice, /) -> Sequence[Event | Label | Malformed]:
        found = self._log.read(*self._partition, self._begin + rows.start, rows.stop - rows.start)
        return [self._read(row.value, row.key.encode(), row.time) for row in found]


def _partitions_of(
    path: Path, topics: Sequence[str], decoders: Mapping[str, Decode]
) -> dict[TopicPartition, Items]:
    from streams.log import EmbeddedLog

    log = EmbeddedLog(path)
    begins, found = log.begin_offsets(), dict[TopicPartition, Items]()
    for partition, end in log.end_offsets().items():
        if partition.topic in topics:
            read = decoders.get(partition.topic, canonical)
            rows = _LogRows(log, partition, begins[partition], end, read)
            found[TopicPartition(PREFIX + partition.topic, partition.partition)] = rows
    if not found:
        there = ", ".join(log.topics()) or "none"
        log.close()
        raise TableError(f"{path}: holds none of the topics {', '.join(topics)}; there are: {there}")
    return found


def _of_line(line: bytes, read: Decode | None) -> Event | Label | Malformed:
    if read is not None:
        return read(line)
    try:
        row = msgspec.json.decode(line)
    except (msgspec.MsgspecError, UnicodeError):
        return canonical(line)
    return _of_row(row, None) if isinstance(row, dict) and "features" not in row else canonical(line)


def _of_row(row: dict[str, Any], read: Decode | None) -> Event | Label | Malformed:
    if read is not None:
        return read(encode_json(row))
    if "id" in row and not (row.keys() <= _OURS):
        message = {name: row[name] for name in _OURS & row.keys() if row[name] is not None}
        message["id"] = str(row["id"]) if isinstance(row["id"], int) else row["id"]
        message["features"] = {name: value for name, value in row.items() if name not in _OURS}
        return canonical(encode_json(message))
    return canonical(encode_json(row))
