"""Warns of features that tell the label all by themselves: often they were written down after the fact."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from streams.table import Table

SURE = 0.999
ROWS = 5_000


class Suspect(NamedTuple):
    """A feature, what it tells the label by, and how much of it (share of rows right, or R²)."""

    feature: str
    by: str
    share: float

    def __str__(self) -> str:
        return (
            f"the feature {self.feature!r} alone tells the label ({self.by}, {self.share:.2%}): if it is "
            f"known only after the fact, leave it out with --ignore {self.feature}"
        )


def suspects(table: Table, rows: int = ROWS) -> list[Suspect]:
    """Features that give the label away in the table's first rows.

    Classification: one value or one missing mark per label, or one threshold, right in 99.9 % of rows, where
    the commonest label has at most 99 %. Regression: a straight line with an R² of 99.9 %.

    >>> import pyarrow as pa
    >>> from streams.table import Table
    >>> made = Table("t", pa.table({"paid": [0, 1] * 50, "x": [3] * 100}), target=pa.array(["n", "y"] * 50))
    >>> [suspect.feature for suspect in suspects(made)]
    ['paid']
    """
    seen = [row for row in table.rows(0, rows) if row.y is not None]
    labels = [row.y for row in seen]
    if len(seen) < 50 or max(Counter(labels).values()) > 0.99 * len(seen):
        return []
    found = []
    for name in table.columns:
        values = [row.x[name] for row in seen]
        suspect = _line(name, values, labels) if table.task == "regression" else _rule(name, values, labels)
        if suspect is not None and suspect.share >= SURE:
            found.append(suspect)
    return found


def _rule(name: str, values: list[Any], labels: list[Any]) -> Suspect | None:
    n = len(values)
    if len(set(values)) <= max(2, n // 50):
        by_value: dict[Any, Counter[Any]] = defaultdict(Counter)
        for value, label in zip(values, labels, strict=True):
            by_value[value][label] += 1
        right = sum(max(counts.values()) for counts in by_value.values())
        return Suspect(name, "one label per value", right / n)
    if any(isinstance(value, str) for value in values):
        return None
    codes = {label: k for k, label in enumerate(dict.fromkeys(labels))}
    x = np.array([np.nan if value is None else float(value) for value in values])
    order = np.argsort(x, kind="stable")  # what is missing stands at the end
    hot = np.zeros((n, len(codes)))
    hot[np.arange(n), [codes[labels[i]] for i in order]] = 1.0
    below = hot.cumsum(axis=0)
    right = below.max(axis=1) + (below[-1] - below).max(axis=1)
    ordered = x[order]
    here = np.append(ordered[1:] > ordered[:-1], True)  # a threshold lies between two values that differ
    return Suspect(name, "one threshold", float(right[here].max()) / n)


def _line(name: str, values: list[Any], labels: list[Any]) -> Suspect | None:
    if any(isinstance(value, str) for value in values):
        return None
    x = np.array([np.nan if value is None else float(value) for value in values])
    y = np.array(labels, dtype=np.float64)
    whole = np.isfinite(x) & np.isfinite(y)
    x, y = x[whole], y[whole]
    if len(x) < 50 or x.std() == 0.0 or y.std() == 0.0:
        return None
    return Suspect(name, "a straight line", float(np.corrcoef(x, y)[0, 1] ** 2))
