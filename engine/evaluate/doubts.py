"""What to doubt about a stream before believing its figures: leaks, columns of ids, labels that repeat."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from engine.evaluate.leaks import ROWS, Suspect, suspects

if TYPE_CHECKING:
    from streams.table import Table

FEWEST = 50  # rows with a value, below which nothing is said
DIFFERENT = 0.95  # share of a text column's values that are different, from which on it looks like an id
REPEATS = 0.2  # of what could lie between chance and "always the same as before"


class IdColumn(NamedTuple):
    """A feature that names rows: whole numbers that all rise or all fall, or text that is nearly always new."""

    feature: str
    share: float  # different values per row
    text: bool

    def __str__(self) -> str:
        if self.text:
            return (
                f"the feature {self.feature!r} looks like an id: {self.share:.1%} of its texts stand in one row "
                f"alone, so that nothing can be learned from them; leave it out with --ignore {self.feature}"
            )
        return (
            f"the feature {self.feature!r} looks like an id: it numbers the rows; leave it out with --ignore "
            f"{self.feature}, or name it with --time {self.feature} if it says when a row happened"
        )


class Repeats(NamedTuple):
    """How often a label is the one before it, and how often it would be if labels came in any order."""

    share: float
    by_chance: float

    def __str__(self) -> str:
        return (
            f"the label is the same as the one before in {self.share:.1%} of rows; by chance it would be in "
            f"{self.by_chance:.1%}. Saying the last label again is that accurate: look at kappa_temporal, which "
            "is 0 for it"
        )


@dataclass(frozen=True)
class Doubts:
    """All that was found; `str` of each is a sentence that says what to do."""

    leaks: tuple[Suspect, ...] = ()
    ids: tuple[IdColumn, ...] = ()
    repeats: Repeats | None = None

    def sentences(self) -> list[str]:
        """One sentence for each doubt."""
        found = [*self.leaks, *self.ids, *([] if self.repeats is None else [self.repeats])]
        return [str(doubt) for doubt in found]

    def fields(self) -> dict[str, Any]:
        """For JSON: `suspicious_features`, `id_columns`, and `label_repeats` {share, by_chance} or None."""
        return {
            "suspicious_features": [leak.feature for leak in self.leaks],
            "id_columns": [column.feature for column in self.ids],
            "label_repeats": None if self.repeats is None else self.repeats._asdict(),
        }


def doubts(table: Table, limit: int | None = None) -> Doubts:
    """What to doubt about the table's first `limit` rows; features are judged by at most 5,000 of them.

    >>> import pyarrow as pa
    >>> from streams.table import Table
    >>> made = Table("t", pa.table({"row": range(200)}), target=pa.array((["n"] * 10 + ["y"] * 10) * 10))
    >>> for sentence in doubts(made).sentences():
    ...     print(sentence[:60])
    the feature 'row' looks like an id: it numbers the rows; lea
    the label is the same as the one before in 90.5% of rows; by
    """
    rows = len(table) if limit is None else min(limit, len(table))
    first = min(rows, ROWS)
    return Doubts(
        leaks=tuple(suspects(table, first)),
        ids=tuple(id_columns(table, first)),
        repeats=repeats(table.labels()[:rows]) if table.task == "classification" else None,
    )


def id_columns(table: Table, rows: int = ROWS) -> list[IdColumn]:
    """Features of the first rows that name rows: see `IdColumn`. Keys are none, whatever they hold."""
    seen = [row.x for row in table.rows(0, rows)]
    found = []
    for name in table.columns:
        if name in table.key:
            continue
        values = [x[name] for x in seen if x[name] is not None]
        if len(values) < FEWEST:
            continue
        if isinstance(values[0], str):
            share = sum(count == 1 for count in Counter(values).values()) / len(values)
            if share >= DIFFERENT:
                found.append(IdColumn(name, share, True))
        elif type(values[0]) is int and len(values) == len(seen) and _one_way(values):
            found.append(IdColumn(name, 1.0, False))
    return found


def _one_way(values: Sequence[int]) -> bool:
    """Whether they all rise or all fall."""
    return all(a < b for a, b in pairwise(values)) or all(a > b for a, b in pairwise(values))


def repeats(labels: Sequence[Any]) -> Repeats | None:
    """How far labels repeat, where that is far above chance; None where it is not, or there are few.

    With frequencies p the chance is Σ p². Far above: a fifth of the way from there to 1.
    """
    known = [label for label in labels if label is not None]
    if len(known) < 2 * FEWEST:
        return None
    share = sum(a == b for a, b in pairwise(known)) / (len(known) - 1)
    chance = sum((n / len(known)) ** 2 for n in Counter(known).values())
    return Repeats(share, chance) if share - chance > REPEATS * (1.0 - chance) else None
