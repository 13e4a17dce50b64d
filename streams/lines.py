"""Writes answers to a file, one JSON object a line."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from streams.codecs import encode_json
from streams.event import Headers


class LinesSink:
    """A new file of JSON lines; the cursor counts bytes. FileExistsError where the file is there already.

    >>> import tempfile
    >>> sink = LinesSink(Path(tempfile.mkdtemp()) / "answers.jsonl")
    >>> sink.write("a", {"id": "a", "forecast": 1})
    >>> sink.close()
    >>> sink.path.read_text()
    '{"id":"a","forecast":1}\\n'
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("xb")
        self._size = 0

    def write(self, key: str, value: Mapping[str, Any], headers: Headers = ()) -> None:
        """Append one message; key and headers are left out."""
        line = encode_json(value) + b"\n"
        self._size += len(line)
        self._file.write(line)

    def hurry(self) -> None:
        """Give what waits to the system; readers see it then."""
        self._file.flush()

    def flush(self) -> None:
        """Wait for the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def cursor(self) -> int:
        """How many bytes have been written."""
        return self._size

    def rewind(self, cursor: int) -> int:
        """Cut what stands behind the cursor, and say how much; ValueError where there is less."""
        if not 0 <= cursor <= self._size:
            raise ValueError(f"cursor is {cursor}, {self.path} holds {self._size} bytes; expected 0 to that")
        self._file.flush()
        self._file.truncate(cursor)
        self._file.seek(cursor)
        self._size, behind = cursor, self._size - cursor
        return behind

    def close(self) -> None:
        """Flush and release; closing twice is allowed."""
        if not self._file.closed:
            self.flush()
            self._file.close()

    def abandon(self) -> None:
        """Release."""
        self._file.close()


class NoSink:
    """Writes nothing, and counts."""

    def __init__(self) -> None:
        self._count = 0

    def write(self, key: str, value: Mapping[str, Any], headers: Headers = ()) -> None:
        """Count one."""
        self._count += 1

    def hurry(self) -> None:
        """Nothing waits."""

    def flush(self) -> None:
        """Nothing waits."""

    def cursor(self) -> int:
        """How many messages there were."""
        return self._count

    def rewind(self, cursor: int) -> int:
        """Count from there again."""
        self._count, behind = cursor, self._count - cursor
        return behind

    def close(self) -> None:
        """Nothing is held."""

    def abandon(self) -> None:
        """Nothing is held."""
