"""Raw events as other learners can take them: every field one kind, strings as they are or one-hot."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


class Row(dict[str, Any]):
    """An event whose strings are {"field=value": 1}: every other value's indicator reads as 0.

    A full one-hot encoding also writes those zeros: the same for a learner that asks by name, and a thousand
    times slower where a field has thousands of values.
    """

    def __missing__(self, name: str) -> float:
        return 0.0


class Fields:
    """Keeps each field's kind and, for numbers, its running mean.

    A field is a number or a string from its first value on; a value of the other kind is missing, and so are
    None, NaN and infinities. fill: a missing number is its mean so far, a missing string "missing". text: strings
    stay strings; otherwise they become {"field=value": 1}.

    >>> fields = Fields(fill=True, text=True)
    >>> fields.row({"wind": 4.0, "sky": "fog"}, learn=True)
    {'sky': 'fog', 'wind': 4.0}
    >>> fields.row({"wind": None})
    {'sky': 'missing', 'wind': 4.0}
    """

    def __init__(self, *, fill: bool, text: bool) -> None:
        self._fill, self._text = fill, text
        self._mean: dict[str, list[float]] = {}
        self._texts: set[str] = set()

    def row(self, x: Mapping[Any, Any], learn: bool = False) -> dict[str, Any]:
        """The event as numbers (float) and strings by name; learn: its values count from now on."""
        row: dict[str, Any] = {}
        for key, value in x.items():
            name = str(key)
            if isinstance(value, str):
                if name not in self._mean:
                    row[name] = value
                    if learn:
                        self._texts.add(name)
                continue
            number = math.nan if value is None else float(value)
            if math.isfinite(number) and name not in self._texts:
                row[name] = number
                if learn:
                    mean = self._mean.setdefault(name, [0.0, 0.0])
                    mean[0] += 1.0
                    mean[1] += (number - mean[1]) / mean[0]
        if self._fill:
            for name, (_, middle) in self._mean.items():
                row.setdefault(name, middle)
            for name in self._texts:
                row.setdefault(name, "missing")
        if not self._text:
            row = {
                f"{name}={value}" if isinstance(value, str) else name: 1 if isinstance(value, str) else value
                for name, value in row.items()
            }
        kind = dict if self._text else Row
        return kind((name, row[name]) for name in sorted(row)) if self._fill else kind(row)
