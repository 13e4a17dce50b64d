"""The order in which an evaluation asks for forecasts and tells labels."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streams.table import Row, Table


def in_order(table: Table, rows: int, delay: int) -> Iterator[tuple[bool, Row, int]]:
    """(is it the label?, row, its number): forecasts and labels merged by time, labels after forecasts.

    Without label times the label of row i comes right after the forecast of row i + delay. Rows without a label
    are asked and never taught; what is outstanding at the end comes then.

    >>> import pyarrow as pa
    >>> from streams.table import Table
    >>> table = Table("tiny", pa.table({"a": [1, 2, 3]}), target=pa.array(["x", "y", "z"]))
    >>> [("label" if known else "forecast", row) for known, _, row in in_order(table, 3, delay=2)][:4]
    [('forecast', 0), ('forecast', 1), ('forecast', 2), ('label', 0)]
    """
    waiting: list[tuple[float, int, Row]] = []
    late: deque[Row] = deque()
    for row in table.rows(0, rows):
        number = row.meta.row
        if table.has_label_time:
            now = row.meta.time if row.meta.time is not None else float(number)
            while waiting and waiting[0][0] < now:
                _, known, earlier = heapq.heappop(waiting)
                yield True, earlier, known
        yield False, row, number
        if not table.has_label_time:
            late.append(row)
            if len(late) > delay and (known_row := late.popleft()).y is not None:
                yield True, known_row, known_row.meta.row
        elif row.y is not None and row.meta.label_time is not None:
            heapq.heappush(waiting, (row.meta.label_time, number, row))
    for row in late:
        if row.y is not None:
            yield True, row, row.meta.row
    while waiting:
        _, known, earlier = heapq.heappop(waiting)
        yield True, earlier, known
