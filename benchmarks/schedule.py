"""In which order forecasts are asked for and labels come, without a learner; answers given elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.evaluate.ordering import in_order
from streams.table import Table


@dataclass(frozen=True)
class Kept:
    """A forecast of which nothing is kept but its row, and what was said."""

    row: int
    proba: dict[Any, float]


class Told:
    """A model whose answers were given elsewhere: P (n, classes), row by row; a row of zeros is no answer."""

    def __init__(self, P: NDArray[np.float64], classes: list[Any]) -> None:
        self.P, self.classes = P, classes

    def forecast_one(self, x: dict[str, Any], id: int, time: float | None = None) -> Kept:
        """What was said of row `id`."""
        said = self.P[id].tolist()
        return Kept(id, dict(zip(self.classes, said, strict=True)) if any(said) else {})

    def observe(self, kept: Kept) -> None:
        """Nothing to do."""

    def learn(self, kept: Kept, y: Any) -> None:
        """Nothing to learn."""


def steps_of(table: Table, rows: int) -> list[int]:
    """The order of forecasts and labels over the first rows: i ≥ 0 forecasts row i, ~i learns its label."""
    return [~number if known else number for known, _, number in in_order(table, rows, delay=0)]


def with_last_label(table: Table, rows: int) -> Table:
    """The first rows with one more feature, "label before": the last label known when the row is forecast.

    Text for classes, the number itself for regression, missing before the first label.
    """
    import pyarrow as pa

    labels = table.labels()
    regression = table.task == "regression"
    before: list[Any] = [None] * rows
    last = None
    for step in steps_of(table, rows):
        if step >= 0:
            before[step] = last
        else:
            last = labels[~step] if regression else str(labels[~step])
    columns: dict[str, list[Any]] = {name: [] for name in table.columns}
    for row in table.rows(0, rows):
        for name, value in row.x.items():
            columns[name].append(value)
    times, label_times = table.times(), table.label_times()
    return Table(
        table.name,
        pa.table({**columns, "label before": before}),
        target=pa.array(labels[:rows]),
        time=None if times is None else pa.array(times[:rows]),
        label_time=None if label_times is None else pa.array(label_times[:rows]),
        task="regression" if regression else "classification",
    )
