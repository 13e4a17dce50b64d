"""Figures, moments and spans of time as a person reads them."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any


def number(value: Any, digits: int = 4) -> str:
    """A figure as text: fixed digits, thousands separated, an en dash for what is not known.

    >>> number(51955), number(0.70712, 3), number(2.4e9), number(None)
    ('51,955', '0.707', '2.4e+09', '–')
    """
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int) or digits == 0:
        return f"{value:,.0f}"
    if abs(value) >= 1e7:
        return f"{value:.3g}"
    return f"{value:,.{digits}f}" if abs(value) < 1000 else f"{value:,.1f}"


def moment(seconds: Any) -> str:
    """Seconds since 1970 as UTC to the minute.

    >>> moment(1357020900.0)
    '2013-01-01 06:15'
    """
    if not isinstance(seconds, int | float):
        return "–"
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")


def duration(seconds: float) -> str:
    """A span of time in the unit that fits it.

    >>> duration(90.0), duration(14400.0)
    ('1.5 min', '4.0 h')
    """
    for unit, length in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} s"


def size(n: Any) -> str:
    """Bytes in the unit that fits them; an en dash for what is not known.

    >>> size(512), size(81_234), size(5_300_000), size(None)
    ('512 B', '81 kB', '5.3 MB', '–')
    """
    if not isinstance(n, int | float):
        return "–"
    for unit, length in (("GB", 1e9), ("MB", 1e6)):
        if n >= length:
            return f"{n / length:.1f} {unit}"
    return f"{n / 1e3:.0f} kB" if n >= 1e3 else f"{n:.0f} B"
