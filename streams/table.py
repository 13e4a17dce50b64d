"""Rows in order with a target: what files, data sets and generators have in common."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from streams.columns import Column, Misfit
from streams.errors import TableError
from streams.event import Event, Label, LabelValue, Malformed

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

_BLOCK = 4096


class Meta(NamedTuple):
    """What belongs to a row beside features and label: its number, times in seconds, and what it counts."""

    row: int
    time: float | None = None
    label_time: float | None = None
    weight: float = 1.0


class Row(NamedTuple):
    """One row: features by name (None is missing), the label (None is unknown), and its number and times."""

    x: dict[str, Any]
    y: LabelValue | None
    meta: Meta


class Arrays(NamedTuple):
    """A table as arrays: X (n, d) float64 with NaN for missing, or None where a column is text."""

    X: npt.NDArray[np.float64] | None
    columns: list[str]
    y: list[LabelValue | None]


class Table:
    """A finite stream of rows, held as columns.

    features: feature columns (int64, float64, bool or string), in order.
    target: the labels, or None where there are none.
    time, label_time: when a row happened and when its label was known, float64 seconds.
    ids: the rows' ids; "<name>:<row>" where they are not given.
    weight: what each row counts, float64 from 0 to 1,000,000; 1 where it is not given.
    task: "classification" or "regression"; without it regression where the target has fractions.
    key: names of the columns that name entities.
    misfits: what became missing while the table was read.

    >>> import pyarrow as pa
    >>> table = Table("tiny", pa.table({"a": [1, None]}), target=pa.array(["x", "y"]))
    >>> [(row.x, row.y) for row in table.rows()]
    [({'a': 1}, 'x'), ({'a': None}, 'y')]
    """

    def __init__(
        self,
        name: str,
        features: pa.Table,
        *,
        target: Column | None = None,
        time: Column | None = None,
        label_time: Column | None = None,
        ids: Column | None = None,
        weight: Column | None = None,
        task: Literal["classification", "regression"] | None = None,
        key: Sequence[str] = (),
        misfits: Sequence[Misfit] = (),
        target_name: str | None = None,
    ) -> None:
        if features.num_rows == 0:
            raise TableError(f"{name}: the stream is empty; expected at least one row")
        if label_time is not None and target is None:
            raise TableError(f"{name}: label_time is given without a target; name the target column too")
        self.name = name
        self.columns: list[str] = list(features.column_names)
        for column in key:
            check_column(name, column, self.columns, "key")
        self.key = tuple(key)
        self.target = target_name
        self.misfits = tuple(misfits)
        self._features = features.combine_chunks()
        self._target, self._time, self._label_time, self._ids = target, time, label_time, ids
        self._weight = weight
        self._task = task
        self._length: int = features.num_rows

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Row]:
        return self.rows()

    @property
    def unreadable(self) -> int:
        """How many values became missing because they were not of their column's kind."""
        return sum(misfit.n for misfit in self.misfits)

    @property
    def has_time(self) -> bool:
        """Whether rows carry a time of their own; without one the row number stands for it in events."""
        return self._time is not None

    @property
    def has_label_time(self) -> bool:
        """Whether labels become known at times of their own, after their events."""
        return self._label_time is not None

    @property
    def has_weight(self) -> bool:
        """Whether rows count differently."""
        return self._weight is not None

    @property
    def task(self) -> str:
        """ "classification" or "regression"."""
        if self._task is None:
            import pyarrow as pa
            import pyarrow.compute as pc

            target = self._target
            fractions = False
            if target is not None and pa.types.is_floating(target.type):
                fractions = bool(pc.any(pc.not_equal(pc.floor(target), target)).as_py())
            self._task = "regression" if fractions else "classification"
        return self._task

    def rows(self, start: int = 0, stop: int | None = None) -> Iterator[Row]:
        """Rows [start, stop) in order, each as (x, y, meta)."""
        stop = len(self) if stop is None else min(stop, len(self))
        for block in range(start, stop, _BLOCK):
            size = min(_BLOCK, stop - block)
            columns = [_list(column, block, size) for column in self._features.columns]
            features: Iterator[tuple[Any, ...]] = zip(*columns, strict=True) if columns else iter([()] * size)
            labels = self._part(self._target, block, size)
            times = self._part(self._time, block, size)
            label_times = self._part(self._label_time, block, size)
            weights = [1.0] * size if self._weight is None else _list(self._weight, block, size)
            for i, values in enumerate(features):
                x = dict(zip(self.columns, values, strict=True))
                yield Row(x, labels[i], Meta(block + i, times[i], label_times[i], weights[i]))

    def _part(self, column: Column | None, start: int, size: int) -> list[Any]:
        return [None] * size if column is None else _list(column, start, size)

    def labels(self) -> list[LabelValue | None]:
        """The labels of all rows, in order; None where one is unknown."""
        return self._part(self._target, 0, len(self))

    def times(self) -> list[float] | None:
        """The rows' times in seconds, or None where they have none."""
        return None if self._time is None else _list(self._time, 0, len(self))

    def label_times(self) -> list[float] | None:
        """When each label was known, in seconds, or None where they have no times of their own."""
        return None if self._label_time is None else _list(self._label_time, 0, len(self))

    def weights(self) -> list[float] | None:
        """What each row counts, or None where all count 1."""
        return None if self._weight is None else _list(self._weight, 0, len(self))

    def arrays(self) -> Arrays:
        """All rows at once: X (n, d) float64 with NaN for missing (None where a column is text), names, y."""
        import numpy as np
        import pyarrow as pa

        columns = self._features.columns
        if any(pa.types.is_string(column.type) for column in columns):
            return Arrays(None, list(self.columns), self.labels())
        X = np.empty((len(self), len(columns)), dtype=np.float64)
        for j, column in enumerate(columns):
            X[:, j] = column.cast(pa.float64(), safe=False).to_numpy()
        return Arrays(X, list(self.columns), self.labels())

    def events(self, start: int = 0, stop: int | None = None) -> list[Event | Malformed]:
        """Rows [start, stop) as events; the label travels with them unless labels have times of their own.

        A row whose time is missing becomes Malformed.
        """
        ids = self._ids_of(start, len(self) if stop is None else min(stop, len(self)))
        attached = self._label_time is None
        found: list[Event | Malformed] = []
        for id, (x, y, meta) in zip(ids, self.rows(start, stop), strict=True):
            time = meta.time if self._time is not None else float(meta.row)
            if time is None or not math.isfinite(time):
                error = f"the time of row {meta.row} is {time}; expected seconds since 1970, finite"
                found.append(Malformed(raw=id.encode(), error=error))
            else:
                label = y if attached else None
                found.append(Event(id=id, time=time, features=x, label=label, weight=meta.weight))
        return found

    def late_labels(self, order: Sequence[int]) -> list[Label | Malformed]:
        """The labels of these rows as messages of their own, at the time each became known.

        A row whose label or its time is missing becomes Malformed.
        """
        import pyarrow as pa

        rows = pa.array(order, pa.int64())
        labels = self._at(self._target, rows)
        times = self._at(self._label_time, rows)
        weights = [1.0] * len(order) if self._weight is None else self._at(self._weight, rows)
        ids = [f"{self.name}:{row}" for row in order] if self._ids is None else self._at(self._ids, rows)
        found: list[Label | Malformed] = []
        for row, id, y, time, weight in zip(order, ids, labels, times, weights, strict=True):
            if y is None or time is None or not math.isfinite(time):
                error = f"the label of row {row} is {y!r}, known at {time}; expected both"
                found.append(Malformed(raw=id.encode(), error=error))
            else:
                found.append(Label(id=id, time=time, label=y, weight=weight))
        return found

    def _at(self, column: Column | None, rows: Column) -> list[Any]:
        return [None] * len(rows) if column is None else _list(column.take(rows), 0, len(rows))

    def label_order(self) -> list[int]:
        """Row numbers in the order their labels became known; rows without label or time come first."""
        import numpy as np

        if self._label_time is None:
            raise ValueError(f"{self.name} has no label times; expected a table read with label_time=COLUMN")
        times = np.asarray(self._label_time.to_numpy(zero_copy_only=False), dtype=np.float64)
        known = np.where(np.isnan(times), -np.inf, times)
        return [int(row) for row in np.argsort(known, kind="stable")]

    def _ids_of(self, start: int, stop: int) -> list[str]:
        if self._ids is None:
            return [f"{self.name}:{row}" for row in range(start, stop)]
        return _list(self._ids, start, stop - start)

    def ids(self) -> list[str]:
        """The ids of all rows, in order."""
        return self._ids_of(0, len(self))

    def slice(self, start: int, stop: int) -> Table:
        """Rows [start, stop) as a table of their own, with the ids they have here."""
        import pyarrow as pa

        size = max(0, min(stop, len(self)) - start)
        return Table(
            self.name,
            self._features.slice(start, size),
            target=None if self._target is None else self._target.slice(start, size),
            time=None if self._time is None else self._time.slice(start, size),
            label_time=None if self._label_time is None else self._label_time.slice(start, size),
            ids=pa.array(self._ids_of(start, start + size), pa.string()),
            weight=None if self._weight is None else self._weight.slice(start, size),
            task="regression" if self.task == "regression" else "classification",
            key=self.key,
            misfits=self.misfits,
            target_name=self.target,
        )


def _list(column: Any, start: int, size: int) -> list[Any]:
    """Part of a column as Python values; NumPy's way where nothing is missing, as it is the faster."""
    import pyarrow as pa

    part = column.slice(start, size)
    if part.null_count or not (pa.types.is_floating(part.type) or pa.types.is_integer(part.type)):
        values: list[Any] = part.to_pylist()
    else:
        values = part.to_numpy().tolist()
    return values


def check_column(name: str, column: str, columns: Sequence[str], parameter: str) -> None:
    """TableError with the columns there are and the closest one, unless `column` is among them."""
    if column in columns:
        return
    lower = {name.lower(): name for name in columns}
    close = [lower[c] for c in get_close_matches(column.lower(), lower, n=1, cutoff=0.5)]
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    shown = ", ".join(columns[:60]) + (f", … {len(columns) - 60} more" if len(columns) > 60 else "")
    raise TableError(
        f"{name}: {parameter} is {column!r}, but there is no such column{hint}; there are: {shown}"
    )


def table_from_rows(
    name: str,
    rows: Sequence[tuple[Mapping[Any, Any], LabelValue]],
    *,
    task: Literal["classification", "regression"] | None = None,
) -> Table:
    """A table of (features, label) pairs, as River's data sets give them; an absent field is missing."""
    import pyarrow as pa

    names = list(dict.fromkeys(field for x, _ in rows for field in x))
    features = pa.table({str(field): [x.get(field) for x, _ in rows] for field in names})
    return Table(name, features, target=pa.array([y for _, y in rows]), task=task)
