"""Where a first run begins, as a file, a variable or an option says it: a word, a time or a file."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, PlainSerializer

Start: TypeAlias = Literal["beginning", "end"] | float | Path

EXPECTED = "beginning, end, a time such as 2024-05-01T00:00:00Z, seconds since 1970-01-01 UTC, or a file"
LOGS = (".sqlite", ".db", ".log")


def start_of(value: Any) -> Start:
    """Where to begin. A time without a zone is UTC's; text that is neither word nor time is a file's path.

    ValueError where it is nothing of all that: text is taken for a file where the file exists, or where it looks
    like a path.

    >>> start_of("end"), start_of("1970-01-02"), start_of("1e3"), start_of("past/orders.parquet")
    ('end', 86400.0, 1000.0, PosixPath('past/orders.parquet'))
    """
    if isinstance(value, Path):
        return value
    if isinstance(value, datetime):
        return _seconds(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value) or value < 0:
            raise ValueError(f"expected {EXPECTED}")
        return float(value)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"expected {EXPECTED}")
    text = value.strip()
    if text == "beginning" or text == "end":
        return text  # type: ignore[return-value]  # one of the two words
    try:
        return start_of(float(text))
    except ValueError:
        pass
    try:
        return _seconds(datetime.fromisoformat(text))
    except ValueError:
        pass
    if Path(text).exists() or _like_a_path(text):
        return Path(text)
    near = get_close_matches(text, ("beginning", "end"), n=1)
    raise ValueError(f"expected {EXPECTED}{f'; the nearest is {near[0]}' if near else ''}")


def _seconds(moment: datetime) -> float:
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _like_a_path(text: str) -> bool:
    from streams.files import FORMATS

    return "/" in text or text.lower().endswith((*FORMATS, *LOGS))


def _shown(start: Start) -> str:
    """As `start_of` reads it again."""
    if isinstance(start, float):
        return datetime.fromtimestamp(start, UTC).isoformat()
    return str(start)


StartAt = Annotated[
    Start, BeforeValidator(start_of), PlainSerializer(_shown, return_type=str, when_used="json")
]
