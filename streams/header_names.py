"""Names of headers that are not UTF-8, which Kafka allows: kafka-python reads them with what is wrong replaced.

By itself kafka-python takes a record with such a name for a broken one, and gives nothing more from the batch it
stands in: a source would never come past it.
"""

from __future__ import annotations

from typing import Any

_READ = "_everlearn_reads_any_name"


class _Text(bytearray):
    """A part of a batch: decoded as text, what is not UTF-8 becomes U+FFFD."""

    def decode(self, encoding: str = "utf-8", errors: str = "replace") -> str:
        return super().decode(encoding, "replace")


class _Batch(bytearray):
    """A batch whose parts are `_Text`."""

    def __getitem__(self, at: Any) -> Any:
        found = super().__getitem__(at)
        return _Text(found) if isinstance(at, slice) else found


def read_any_header_name() -> None:
    """From now on kafka-python's consumers read records whose headers have names that are not UTF-8.

    Batches without such a name are read as before, by the same code. Called again it does nothing.
    """
    from kafka.errors import CorruptRecordError
    from kafka.record.default_records import DefaultRecordBatch

    if hasattr(DefaultRecordBatch, _READ):
        return
    strict = DefaultRecordBatch.__next__

    def next_record(batch: Any) -> Any:
        try:
            return strict(batch)
        except CorruptRecordError as error:
            if not isinstance(error.__context__, UnicodeDecodeError):
                raise
            batch._buffer = _Batch(batch._buffer)  # it stands before the record, which is read again
        return strict(batch)

    DefaultRecordBatch.__next__ = next_record
    setattr(DefaultRecordBatch, _READ, True)
