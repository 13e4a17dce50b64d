"""An embedded durable log: topics of ordered, numbered records in one SQLite file, shared between processes.

Records are keyed (topic, partition, offset). SQLite runs in write-ahead mode: one writer at a time, any
number of readers that never wait for it; every append is one transaction with an fsync, so what `append`
returned for is on the disk.
"""

from __future__ import annotations

import math
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from streams.codecs import Encode, encode_json
from streams.errors import LogDamaged, LogFull, PositionLost
from streams.event import Headers, TopicPartition

_APPLICATION = 0x65766C67  # "evlg" in SQLite's header: tells this log from other databases
_SCHEMA = """
CREATE TABLE IF NOT EXISTS records (
  topic TEXT NOT NULL, partition INTEGER NOT NULL, offset INTEGER NOT NULL,
  key TEXT NOT NULL, time REAL NOT NULL, value BLOB NOT NULL,
  PRIMARY KEY (topic, partition, offset)
) WITHOUT ROWID
"""
_INSERT = "INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?, ?, ?)"
_BEHIND = "SELECT 1 + max(offset) FROM records WHERE topic = ? AND partition = ?"


class Row(NamedTuple):
    """One stored record: its offset, key, time in seconds and bytes."""

    offset: int
    key: str
    time: float
    value: bytes


class EmbeddedLog:
    """A durable log in one file, created where it does not exist; safe across threads and processes.

    path: the file; its folder is made. SQLite keeps two more files beside it while it is open.
    busy_timeout: seconds to wait for another writer before the append is an error.
    Raises LogDamaged where the file is no log or cannot be read.

    >>> import tempfile, os
    >>> log = EmbeddedLog(os.path.join(tempfile.mkdtemp(), "log.db"))
    >>> log.append("events", 0, "a", 1.0, b"{}"), log.append("events", 0, "b", 2.0, b"{}")
    (0, 1)
    >>> log.end_offsets()
    {TopicPartition(topic='events', partition=0): 2}
    >>> log.close()
    """

    def __init__(self, path: str | Path, *, busy_timeout: float = 30.0) -> None:
        self.path = Path(path)
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        with self._told():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                self.path, timeout=busy_timeout, isolation_level=None, check_same_thread=False
            )
        try:
            with self._told():
                self._prepare(self._connection, time.monotonic() + busy_timeout)
        except BaseException:
            self.close()
            raise

    def _prepare(self, connection: sqlite3.Connection, deadline: float) -> None:
        """Make an empty file a log, or see that the file is one; an existing log is not written to."""
        connection.execute("PRAGMA synchronous = FULL")
        (found,) = connection.execute("PRAGMA application_id").fetchone()
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type='table'")]
        if found == _APPLICATION and "records" in tables:
            return
        if tables and tables != ["records"]:
            raise LogDamaged(
                f"{self.path} is an SQLite database with the tables {sorted(tables)}, "
                "not an embedded log; pass another path"
            )
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                break
            except sqlite3.OperationalError as error:  # SQLite does not wait here by itself
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        connection.execute(_SCHEMA)
        connection.execute(f"PRAGMA application_id = {_APPLICATION}")

    @contextmanager
    def _told(self) -> Iterator[None]:
        """SQLite's errors as errors that say what to do."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
                raise TimeoutError(
                    f"{self.path}: another process has been writing for too long ({error})"
                ) from error
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
                raise LogFull(
                    f"{self.path}: no room is left for the log ({error}); what was acknowledged is in it, the "
                    "last append is not. Make room on its disk and start again"
                ) from error
            raise LogDamaged(
                f"{self.path} cannot be used as an embedded log ({error}); restore the file from a copy, "
                "check the disk and the rights, or pass another path"
            ) from error

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._told():
            connection = self._opened()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:  # SQLite itself rolls back where the disk is full or fails
                    connection.execute("ROLLBACK")
                raise

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            raise ValueError(f"the log {self.path} is closed; open a new EmbeddedLog to go on")
        return self._connection

    def append(self, topic: str, partition: int, key: str, time: float, value: bytes) -> int:
        """Append one record; returns its offset once it is durable. Raises as `append_many` does."""
        return self.append_many(topic, partition, [(key, time, value)])

    def append_many(
        self, topic: str, partition: int, rows: Iterable[tuple[str, float, bytes]], *, at: int | None = None
    ) -> int:
        """Append (key, time, value) rows in one transaction; returns the offset of the first.

        at: the end offset the caller expects; PositionLost where another writer has moved it.
        Raises LogFull where there is no room, ValueError for a time that is not finite; nothing is written then.
        """
        with self._transaction() as connection:
            (end,) = connection.execute(_BEHIND, (topic, partition)).fetchone()
            start = end or 0
            if at is not None and at != start:
                raise PositionLost(
                    f"{self.path}: topic {topic!r} partition {partition} ends at {start}, expected {at}; "
                    "another process writes to it, stop one of them"
                )
            connection.executemany(
                _INSERT,
                ((topic, partition, offset, *_timed(row)) for offset, row in enumerate(rows, start)),
            )
        return start

    def truncate(self, topic: str, partition: int, end: int) -> None:
        """Drop every record of the partition from offset `end` on; durable when it returns."""
        with self._transaction() as connection:
            connection.execute(
                "DELETE FROM records WHERE topic = ? AND partition = ? AND offset >= ?",
                (topic, partition, end),
            )

    def drop_before(self, topic: str, partition: int, begin: int) -> None:
        """Drop the partition's records in front of offset `begin`, as retention does; the last one stays."""
        with self._transaction() as connection:
            connection.execute(
                "DELETE FROM records WHERE topic = ?1 AND partition = ?2 AND offset < ?3 AND offset < "
                "(SELECT max(offset) FROM records WHERE topic = ?1 AND partition = ?2)",
                (topic, partition, begin),
            )

    def read(self, topic: str, partition: int, start: int, limit: int) -> list[Row]:
        """Up to `limit` records of a partition from offset `start` on, in order."""
        return [Row(*row) for row in self._select("offset, key, time, value", topic, partition, start, limit)]

    def read_values(self, topic: str, partition: int, start: int, limit: int) -> list[tuple[int, bytes]]:
        """As `read`, offsets and bytes alone; a third faster."""
        return self._select("offset, value", topic, partition, start, limit)

    def _select(self, columns: str, topic: str, partition: int, start: int, limit: int) -> list[Any]:
        with self._lock, self._told():
            return (
                self._opened()
                .execute(
                    f"SELECT {columns} FROM records WHERE topic = ? AND partition = ? AND offset >= ? "
                    "ORDER BY offset LIMIT ?",
                    (topic, partition, start, limit),
                )
                .fetchall()
            )

    def end_offsets(self) -> dict[TopicPartition, int]:
        """The offset behind the last record of every partition that holds any, in sorted order."""
        return {partition: last + 1 for partition, (_, last) in self._bounds().items()}

    def begin_offsets(self) -> dict[TopicPartition, int]:
        """The offset of the first record that is still there, for every partition, in sorted order."""
        return {partition: first for partition, (first, _) in self._bounds().items()}

    def end_offset(self, topic: str, partition: int = 0) -> int:
        """The offset behind the last record of one partition; 0 where there is none."""
        with self._lock, self._told():
            (end,) = self._opened().execute(_BEHIND, (topic, partition)).fetchone()
        return int(end or 0)

    def offset_since(self, topic: str, partition: int, time: float) -> int | None:
        """The offset of the first record whose time is `time` or later; None where there is none.

        Times need not ascend: what stands behind it may be earlier. Every record before it is looked at.
        """
        with self._lock, self._told():
            query = "SELECT min(offset) FROM records WHERE topic = ? AND partition = ? AND time >= ?"
            (found,) = self._opened().execute(query, (topic, partition, time)).fetchone()
        return None if found is None else int(found)

    def last_key(self, topic: str, partition: int = 0) -> str | None:
        """The key of the partition's last record; None where it is empty."""
        end = self.end_offset(topic, partition)
        rows = self.read(topic, partition, end - 1, 1) if end else []
        return rows[0].key if rows else None

    def topics(self) -> list[str]:
        """The names of all topics that hold records, sorted."""
        return sorted({partition.topic for partition in self._bounds()})

    def _bounds(self) -> dict[TopicPartition, tuple[int, int]]:
        """First and last offset of every partition, by jumping from key to key rather than by a scan."""
        found: dict[TopicPartition, tuple[int, int]] = {}
        at: tuple[str, int] = ("", -1)
        with self._lock, self._told():
            connection = self._opened()
            while True:
                row = connection.execute(
                    "SELECT topic, partition, offset FROM records WHERE (topic, partition) > (?, ?) "
                    "ORDER BY topic, partition, offset LIMIT 1",
                    at,
                ).fetchone()
                if row is None:
                    return found
                at = (row[0], row[1])
                (end,) = connection.execute(_BEHIND, at).fetchone()
                found[TopicPartition(*at)] = (row[2], end - 1)

    def close(self) -> None:
        """Release the file; closing twice is allowed."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def __enter__(self) -> EmbeddedLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _timed(row: tuple[str, float, bytes]) -> tuple[str, float, bytes]:
    key, time, _ = row
    if not math.isfinite(time):
        raise ValueError(f"time is {time} for key {key!r}; expected seconds since 1970-01-01 UTC, finite")
    return row


class LogSink:
    """Writes forecasts to one partition of an embedded log; the cursor is the next offset.

    Messages wait in memory and go to the file in one transaction at `flush`, or when `buffer` of them wait.
    log: where to write; it stays open when the sink is closed. encode: how a message becomes bytes.

    >>> import tempfile, os
    >>> log = EmbeddedLog(os.path.join(tempfile.mkdtemp(), "log.db"))
    >>> sink = LogSink(log, "answers")
    >>> sink.write("a", {"id": "a", "time": 2.0, "forecast": 1})
    >>> log.end_offset("answers"), sink.cursor()  # it waits
    (0, 1)
    >>> sink.flush()
    >>> log.read("answers", 0, 0, 10)
    [Row(offset=0, key='a', time=2.0, value=b'{"id":"a","time":2.0,"forecast":1}')]
    >>> log.close()
    """

    def __init__(
        self,
        log: EmbeddedLog,
        topic: str,
        partition: int = 0,
        *,
        buffer: int = 4096,
        encode: Encode = encode_json,
    ) -> None:
        if buffer < 1:
            raise ValueError(f"buffer is {buffer}; expected at least 1 message")
        self._log, self._topic, self._partition, self._buffer = log, topic, partition, buffer
        self._encode = encode
        self._end = log.end_offset(topic, partition)
        self._waiting: list[tuple[str, float, bytes]] = []

    def write(self, key: str, value: Mapping[str, Any], headers: Headers = ()) -> None:
        """Append one message; its field `time`, where it is a finite number, is stored beside it.

        The log has no headers: they are left out.
        """
        time = value.get("time")
        seconds = float(time) if isinstance(time, int | float) and math.isfinite(time) else 0.0
        self._waiting.append((key, seconds, self._encode(value)))
        if len(self._waiting) >= self._buffer:
            self.flush()

    def hurry(self) -> None:
        """Write what waits; readers see it then."""
        self.flush()

    def flush(self) -> None:
        """Write what waits and wait for the disk; PositionLost where someone else wrote to the partition."""
        if self._waiting:
            self._log.append_many(self._topic, self._partition, self._waiting, at=self._end)
            self._end += len(self._waiting)
            self._waiting.clear()

    def cursor(self) -> int:
        """The offset the next message will get."""
        return self._end + len(self._waiting)

    def rewind(self, cursor: int) -> int:
        """Drop all messages from `cursor` on, at once and durably; they will be written again. Says how many.

        Raises PositionLost where the partition ends before the cursor: messages are missing.
        """
        if not 0 <= cursor <= self.cursor():
            raise PositionLost(
                f"cursor is {cursor}, but topic {self._topic!r} partition {self._partition} of "
                f"{self._log.path} ends at {self.cursor()}; the log is another one or was cut"
            )
        dropped = self.cursor() - cursor
        if cursor >= self._end:
            del self._waiting[cursor - self._end :]
            return dropped
        self._waiting.clear()
        self._log.truncate(self._topic, self._partition, cursor)
        self._end = cursor
        return dropped

    def close(self) -> None:
        """Flush; the log stays open. Closing twice is allowed."""
        self.flush()

    def abandon(self) -> None:
        """Drop what waits; the log stays open."""
        self._waiting.clear()
