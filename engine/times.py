"""Moments as people write them."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from streams.errors import StreamError


class TimeError(StreamError, ValueError):
    """Text that is no moment."""


def seconds_of(text: str) -> float:
    """Seconds since 1970-01-01 UTC of ISO 8601 text, or of such seconds; without a zone it is UTC's. TimeError.

    >>> seconds_of("2013-01-01T06:00:00Z"), seconds_of("2013-01-01"), seconds_of("12.5")
    (1357020000.0, 1356998400.0, 12.5)
    """
    try:
        seconds = float(text)
    except ValueError:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            seconds = math.nan
        else:
            seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if not math.isfinite(seconds):
        raise TimeError(
            f"{text!r} is no time; expected one such as 2024-05-01T00:00:00Z, or seconds since 1970-01-01 UTC"
        )
    return seconds


def iso(seconds: float) -> str:
    """A moment as ISO 8601 text in UTC, to the second; the seconds themselves where no calendar has it.

    >>> iso(1357020000.4), iso(1e18)
    ('2013-01-01T06:00:00Z', '1e+18')
    """
    try:
        return f"{datetime.fromtimestamp(math.floor(seconds), UTC).replace(tzinfo=None).isoformat()}Z"
    except (ValueError, OverflowError, OSError):
        return f"{seconds:g}"
