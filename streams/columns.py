"""What kind of values a column holds: numbers, booleans or text, and what to do with those that do not fit.

A column of text (CSV) or of mixed values (JSON) is what more than half of its values within the first 1,000
rows are, or of the whole column where those rows are empty; without such a majority it is text. In a column
of numbers or booleans a value of another kind becomes missing and is counted: one bad cell neither turns
a column of numbers into text nor stops a stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

from streams.errors import TableError

Column: TypeAlias = Any
"""A pyarrow.Array, or a ChunkedArray on the way in; pyarrow is imported when a table is read."""

SAMPLE = 1000
HEAVIEST = 1_000_000  # a sample weight, as the learners take it
MISSING = ("", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "NULL", "null", "None", "?")
_NUMBER = r"^[+-]?(\d+\.?\d*([eE][+-]?\d+)?|\.\d+([eE][+-]?\d+)?|(?i:inf(inity)?))$"
_WHOLE = r"^[+-]?\d{1,18}$"
_TRUTH = r"^(?i:true|false)$"


class Misfit(NamedTuple):
    """Values of one column that became missing, or rows left out (column ""): how many, and the first."""

    column: str
    kind: str
    n: int
    row: int
    value: str

    def __str__(self) -> str:
        if not self.column:
            return f"row {self.row}: {self.value!r} is not a {self.kind}; it is left out, {self.n} such rows"
        return (
            f"column {self.column!r}, row {self.row} (the first is 0): {self.value!r} is not a {self.kind}; "
            f"it counts as missing, {self.n} such in this column"
        )


def from_text(name: str, column: Column) -> tuple[Column, Misfit | None]:
    """A column of strings as int64, float64, bool or string, with what did not fit."""
    import pyarrow as pa

    pc = _compute()
    text = pc.utf8_trim_whitespace(column.combine_chunks())
    sample = text.slice(0, SAMPLE)
    if sample.null_count == len(sample):
        sample = text
    present = len(sample) - sample.null_count

    def is_most(pattern: str) -> bool:
        fits: int = pc.sum(pc.match_substring_regex(sample, pattern)).as_py() or 0
        return bool(2 * fits > present)

    if is_most(_NUMBER):
        kind, pattern = "number", _NUMBER
    elif is_most(_TRUTH):
        kind, pattern = "boolean", _TRUTH
    else:
        return text, None
    good = pc.match_substring_regex(text, pattern)
    clean = pc.if_else(good, text, None)
    misfit = None
    if clean.null_count > text.null_count:
        row = pc.index(pc.fill_null(good, True), False).as_py()
        misfit = Misfit(name, kind, clean.null_count - text.null_count, row, text[row].as_py()[:80])
    if kind == "boolean":
        return pc.equal(pc.utf8_lower(clean), "true"), misfit
    clean = pc.replace_substring_regex(clean, r"^\+", "")
    if pc.all(pc.match_substring_regex(clean, _WHOLE)).as_py():
        return pc.cast(clean, pa.int64()), misfit
    try:
        return pc.cast(clean, pa.float64()), misfit
    except pa.ArrowInvalid:  # a number beyond float64: Python reads it as infinity or zero
        return pa.array([None if v is None else float(v) for v in clean.to_pylist()], pa.float64()), misfit


def from_values(name: str, values: Sequence[Any]) -> tuple[Column, Misfit | None]:
    """A column of JSON values as float64, int64, bool or string, with what did not fit."""
    import pyarrow as pa

    sample = [_kind(v) for v in values[:SAMPLE] if v is not None] or [
        _kind(v) for v in values if v is not None
    ]
    kind = next((k for k in ("number", "boolean") if 2 * sample.count(k) > len(sample)), "text")
    clean: list[Any] = []
    count, first = 0, (0, "")
    for row, value in enumerate(values):
        found = _kind(value)
        fits = value is None or found == kind or (kind == "text" and found != "nested")
        if not fits:
            first = first if count else (row, str(value)[:80])
            count += 1
            value = None
        clean.append(str(value) if kind == "text" and value is not None else value)
    misfit = Misfit(name, kind, count, *first) if count else None
    if kind == "text":
        return pa.array(clean, pa.string()), misfit
    if kind == "boolean":
        return pa.array(clean, pa.bool_()), misfit
    if all(v is None or (isinstance(v, int) and abs(v) < 2**63) for v in clean):
        return pa.array(clean, pa.int64()), misfit
    return pa.array([None if v is None else float(v) for v in clean], pa.float64()), misfit


def _compute() -> Any:
    """pyarrow.compute, whose functions are made at run time and have no exact types."""
    import pyarrow.compute

    return pyarrow.compute


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    return "text" if isinstance(value, str) else "nested"


def plain(name: str, column: Column) -> Column:
    """A typed column as int64, float64, bool or string; dates become seconds since 1970-01-01 UTC.

    Raises TableError for lists and other nested types.
    """
    import pyarrow as pa

    pc = _compute()
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if pa.types.is_boolean(kind):
        return column.combine_chunks()
    if pa.types.is_signed_integer(kind) or (pa.types.is_unsigned_integer(kind) and kind.bit_width < 64):
        return column.cast(pa.int64()).combine_chunks()
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind) or pa.types.is_unsigned_integer(kind):
        return column.cast(pa.float64()).combine_chunks()
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return column.cast(pa.string()).combine_chunks()
    if pa.types.is_null(kind):
        return column.cast(pa.float64()).combine_chunks()
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        zone = kind.tz if pa.types.is_timestamp(kind) else None
        micros = column.cast(pa.timestamp("us", tz=zone), safe=False).cast(pa.int64())
        return pc.divide(micros.cast(pa.float64()), 1e6).combine_chunks()
    raise TableError(
        f"column {name!r} has the type {kind}; expected numbers, booleans, text or dates; ignore it"
    )


def seconds(name: str, column: Column) -> Column:
    """A column of times as float64 seconds since 1970-01-01 UTC.

    Numbers are seconds already; text is ISO 8601, in UTC where it names no zone. TableError otherwise.
    """
    import pyarrow as pa

    pc = _compute()
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        return column.cast(pa.float64())
    for kind in (pa.timestamp("us"), pa.timestamp("us", tz="UTC")):
        try:
            return pc.divide(pc.cast(column, kind).cast(pa.int64()).cast(pa.float64()), 1e6)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            continue
    example = next((v for v in column.to_pylist() if v is not None), None)
    raise TableError(
        f"column {name!r} holds times such as {example!r}; expected seconds since 1970 or ISO 8601 text "
        "like 2013-01-01T10:15:00Z"
    )


def weights(name: str, column: Column) -> Column:
    """A column of sample weights as float64; TableError unless every row has one from 0 to 1,000,000."""
    import pyarrow as pa

    number = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
    for row, value in enumerate(column.to_pylist()):
        if not number or value is None or not 0.0 <= value <= HEAVIEST:
            raise TableError(
                f"column {name!r} holds the weight {value!r} in row {row}; expected a number from 0 to "
                f"{HEAVIEST:,} in every row"
            )
    return column.cast(pa.float64())
