"""Single values of any format as those of JSON, and how a reason tells them."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from streams.codecs.message import Scalar, Unreadable, is_number, kind, shown

DEEPEST = 32  # objects inside objects, and lists inside lists
SCALARS = frozenset((bool, int, float, str, type(None)))


def numbers(name: str, value: list[Any]) -> list[Any]:
    """A list of numbers, or lists of one length of such, as floats; what is missing there is NaN."""
    array, _ = _array(name, value, 0)
    return array


def _array(name: str, value: list[Any], depth: int) -> tuple[list[Any], tuple[int, ...]]:
    if value and type(value[0]) is list:
        if depth == DEEPEST:
            raise Unreadable(f"{shown(name)} is an array of more than {DEEPEST} dimensions; exclude it")
        rows = [_array(name, row, depth + 1) if type(row) is list else ([], (-1,)) for row in value]
        if len({shape for _, shape in rows}) > 1:
            raise Unreadable(
                f"{shown(name)} holds arrays of different lengths; expected one length, or exclude it"
            )
        return [row for row, _ in rows], (len(value), *rows[0][1])
    return [_number(name, number) for number in value], (len(value),)


def _number(name: str, value: Any) -> float:
    value = plain(value)
    if value is None:
        return math.nan
    if isinstance(value, bool | int | float):
        return float(value) if is_number(value) or isinstance(value, bool) else math.nan
    raise Unreadable(
        f"{shown(name)} is an array that holds {found_as(value)}; expected numbers, or exclude it"
    )


def plain(value: Any) -> Any:
    """What JSON does not have as what it has: times as seconds, decimals as floats, UUIDs as text."""
    if type(value) in SCALARS:
        return value
    if isinstance(value, datetime):
        return (value if value.tzinfo is not None else value.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC).timestamp()
    if isinstance(value, time):
        return value.hour * 3600.0 + value.minute * 60.0 + value.second + value.microsecond / 1e6
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal):
        return float(value)
    return str(value) if isinstance(value, UUID) else value


def found_as(value: Any) -> str:
    """A value as a reason tells it: a scalar itself, anything else by its kind."""
    return shown(value) if isinstance(value, Scalar) else with_article(kind(value))


def with_article(word: str) -> str:
    if word == "null":
        return word
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"
