"""Tables in files as streams: CSV, TSV, Parquet and JSON lines, read with pyarrow.

Text columns get their kind from the majority of the first 1,000 rows (`streams.columns`); in CSV an empty
cell and NA, N/A, #N/A, NaN, null, None and ? are missing. JSON lines are decoded one by one, because
pyarrow's reader gives up the whole file where one value of a column is of another kind.
"""

from __future__ import annotations

import codecs
import gzip
import warnings
from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

import msgspec

from streams.columns import MISSING, Column, Misfit, from_text, from_values, plain, seconds, weights
from streams.errors import MessyTable, TableError
from streams.event import Event, Label, Malformed, Record, TopicPartition
from streams.replay import ListSource
from streams.table import Table, check_column

FORMATS = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet", ".jsonl", ".jsonl.gz", ".ndjson", ".json")


def read_table(
    path: str | Path,
    target: str | None = None,
    *,
    ignore: Sequence[str] = (),
    time: str | None = None,
    label_time: str | None = None,
    key: Sequence[str] = (),
    weight: str | None = None,
    task: Literal["classification", "regression"] | None = None,
) -> Table:
    """The rows of a file as a table; its columns but target, times, weight and ignored ones are features.

    target: the column of labels. ignore: columns to leave out. key: columns that name entities.
    time, label_time: columns that say when a row happened and when its label was known.
    weight: the column that says what a row counts, from 0 to 1,000,000.
    Values that are not of their column's kind become missing, with one MessyTable warning per column.
    Raises TableError for a file that does not exist, is of unknown form or empty, and for columns that
    it does not have.
    """
    path = Path(path)
    columns, misfits = _read(path)
    names = list(columns)
    asked = {"target": target, "time": time, "label_time": label_time, "weight": weight}
    for parameter, column in asked.items():
        if column is not None:
            check_column(str(path), column, names, parameter)
    if label_time is not None and time is None:
        raise TableError(
            f"{path}: label_time is {label_time!r} without time; expected both: name the column that says when "
            "a row happened too, or labels would be measured by another clock than events"
        )
    for column in ignore:
        check_column(str(path), column, names, "ignore")
        if column == target:
            raise TableError(f"{path}: ignore names the target {target!r}; leave out one of the two")
    if weight is not None and weight == target:
        raise TableError(f"{path}: weight names the target {target!r}; expected a column of its own")
    apart = {column for column in asked.values() if column is not None} | set(ignore)
    shown = [misfit for misfit in misfits if misfit.column not in ignore]
    for misfit in shown:
        warnings.warn(f"{path}: {misfit}", MessyTable, stacklevel=2)
    import pyarrow as pa

    return Table(
        stem(path),
        pa.table({name: column for name, column in columns.items() if name not in apart}),
        target=None if target is None else columns[target],
        time=None if time is None else seconds(time, columns[time]),
        label_time=None if label_time is None else seconds(label_time, columns[label_time]),
        weight=None if weight is None else weights(weight, columns[weight]),
        task=task,
        key=key,
        misfits=shown,
        target_name=target,
    )


def suffix(path: Path) -> str:
    """The file's suffix in lower case, `.gz` with the one before it."""
    parts = [part.lower() for part in path.suffixes[-2:]]
    return "".join(parts) if parts and parts[-1] == ".gz" else "".join(parts[-1:])


def stem(path: Path) -> str:
    """The file's name without its suffix."""
    ending = suffix(path)
    return path.name[: -len(ending)] if ending else path.name


def _read(path: Path) -> tuple[dict[str, Column], list[Misfit]]:
    """All columns of a file by name, and what did not fit."""
    if path.is_dir():
        raise TableError(f"{path} is a folder; expected a file of one of {', '.join(FORMATS)}")
    if not path.is_file():
        near = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        close = get_close_matches(path.name, near, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else "."
        raise TableError(
            f"there is no file {str(path)!r}{hint} Expected a file of one of {', '.join(FORMATS)}"
        )
    ending = suffix(path)
    if ending not in FORMATS:
        raise TableError(f"{path} ends in {ending!r}; expected one of {', '.join(FORMATS)}")
    import pyarrow as pa

    try:
        if ending == ".parquet":
            return _parquet(path), []
        if ending.startswith((".csv", ".tsv")):
            return _csv(path, "\t" if ending.startswith(".tsv") else ",")
        return _json_lines(path)
    except (pa.ArrowException, OSError, EOFError, UnicodeDecodeError) as error:
        empty = path.stat().st_size == 0 or "Empty CSV" in str(error)
        what = (
            "the stream is empty; expected at least one row"
            if empty
            else f"not readable as {ending}: {str(error)[:200].encode('ascii', 'backslashreplace').decode()}"
        )
        raise TableError(f"{path}: {what}") from error


def _parquet(path: Path) -> dict[str, Column]:
    import pyarrow.parquet as pq

    found = pq.read_table(path)
    _unique(path, found.column_names)
    return {name: plain(name, found.column(name)) for name in found.column_names}


def _csv(path: Path, delimiter: str) -> tuple[dict[str, Column], list[Misfit]]:
    import pyarrow as pa
    from pyarrow import csv

    broken: list[tuple[int, str]] = []

    def skip(row: Any) -> Literal["skip"]:
        broken.append((row.number or 0, row.text or ""))
        return "skip"

    _text(path)
    parse = csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=skip)
    names = csv.open_csv(path, parse_options=parse).schema.names
    _unique(path, names)
    other = [mark for mark in ";\t|" if mark in names[0]] if len(names) == 1 else []
    if other:
        raise TableError(
            f"{path}: one column is named {names[0][:80]!r}; its cells seem to be parted by {other[0]!r}; "
            f"expected {delimiter!r}; convert the file, or name it .tsv where tabs part the cells"
        )
    broken.clear()
    found = csv.read_csv(
        path,
        read_options=csv.ReadOptions(use_threads=False),
        parse_options=parse,
        convert_options=csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            null_values=list(MISSING),
            strings_can_be_null=True,
        ),
    )
    columns: dict[str, Column] = {}
    misfits: list[Misfit] = []
    if broken:
        number, text = broken[0]
        misfits.append(Misfit("", f"row of {len(names)} cells", len(broken), number, text[:80]))
    for name in names:
        columns[name], misfit = from_text(name, found.column(name))
        misfits += [misfit] if misfit else []
    return columns, misfits


def _text(path: Path) -> None:
    """UnicodeDecodeError where the first mebibyte is no UTF-8."""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        codecs.getincrementaldecoder("utf-8")().decode(file.read(1 << 20))


def _json_lines(path: Path) -> tuple[dict[str, Column], list[Misfit]]:
    raw = path.read_bytes()
    lines = (gzip.decompress(raw) if path.suffix == ".gz" else raw).splitlines()
    decoder = msgspec.json.Decoder(dict[str, Any])
    rows: list[dict[str, Any]] = []
    broken: list[tuple[int, str]] = []
    for number, line in enumerate(lines):
        if not line.strip():
            continue
        try:
            rows.append(decoder.decode(line))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            broken.append((number, line[:80].decode(errors="replace")))
    if broken and not rows:
        raise TableError(
            f"{path}: no line is a JSON object; expected one object per line, found {broken[0][1]!r}"
        )
    columns: dict[str, Column] = {}
    misfits: list[Misfit] = []
    if broken:
        misfits.append(Misfit("", "JSON object", len(broken), *broken[0]))
    for name in dict.fromkeys(name for row in rows for name in row):
        columns[name], misfit = from_values(name, [row.get(name) for row in rows])
        misfits += [misfit] if misfit else []
    return columns, misfits


def _unique(path: Path, names: Sequence[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise TableError(f"{path}: the columns {twice} appear twice; give every column its own name")


class _Events:
    """A table's rows as events, made when they are asked for."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, rows: slice, /) -> Sequence[Event | Malformed]:
        return self._table.events(rows.start, rows.stop)


class _Labels:
    """A table's labels in the order they became known, made when they are asked for."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._order = table.label_order()

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, rows: slice, /) -> Sequence[Label | Malformed]:
        return self._table.late_labels(self._order[rows])


class FileSource:
    """A table as a bounded source: offsets are row numbers, ids "<stem>:<row>".

    path: a file as `read_table` takes it, with the same further arguments, or a table that is there already.
    Without `label_time` the labels travel with their events, in partition 0 of the topic named by the file's
    stem. With it they are messages of their own in the topic "<stem>.labels", in the order they became known;
    wrap the source in `MergedSource` to have both in the order of time.
    """

    def __init__(
        self,
        path: str | Path | Table,
        target: str | None = None,
        *,
        ignore: Sequence[str] = (),
        time: str | None = None,
        label_time: str | None = None,
        key: Sequence[str] = (),
    ) -> None:
        if not isinstance(path, Table):
            path = read_table(path, target, ignore=ignore, time=time, label_time=label_time, key=key)
        self.table = path
        parts: dict[TopicPartition, _Events | _Labels] = {TopicPartition(path.name, 0): _Events(path)}
        if path.has_label_time:
            parts[TopicPartition(f"{path.name}.labels", 0)] = _Labels(path)
        self._source = ListSource(parts)

    @property
    def exhausted(self) -> bool:
        """True once the last row has been delivered."""
        return self._source.exhausted

    def poll(self, max_records: int, timeout: float = 0.0) -> Sequence[Record]:
        """Up to `max_records` further rows; never waits."""
        return self._source.poll(max_records, timeout)

    def positions(self) -> dict[TopicPartition, int]:
        """The next row of every partition."""
        return self._source.positions()

    def end_offsets(self) -> dict[TopicPartition, int]:
        """The number of rows of every partition."""
        return self._source.end_offsets()

    def latest_offsets(self) -> dict[TopicPartition, int]:
        """The same: a table does not grow."""
        return self._source.latest_offsets()

    def seek(self, positions: Mapping[TopicPartition, int]) -> None:
        """Go to these rows; ValueError names a partition or a row that is not here."""
        self._source.seek(positions)

    def pause(self, partitions: Collection[TopicPartition]) -> None:
        """Deliver nothing from these until they are resumed."""
        self._source.pause(partitions)

    def resume(self, partitions: Collection[TopicPartition]) -> None:
        """Deliver from these again."""
        self._source.resume(partitions)

    def fingerprints(self, at: Mapping[TopicPartition, int]) -> dict[TopicPartition, str | None]:
        """The fingerprint of what each of these rows holds; None where there is no such row."""
        return self._source.fingerprints(at)

    def close(self) -> None:
        """Nothing to release: the file was read when the source was made."""
        self._source.close()
