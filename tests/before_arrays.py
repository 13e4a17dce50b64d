"""How contents version 2 and earlier releases' models kept names, what waits and ranks: plain dicts and lists.

What is arrays now must mean the same, and what stands in this form must be read.
"""

from __future__ import annotations

import heapq
import math
from collections import OrderedDict
from typing import Any

from engine.core import Core
from engine.encoders import categories, fields
from engine.evaluate.metrics import PrequentialMetrics
from engine.forecast import Forecast
from engine.names import to_json
from engine.shard import Shard
from memory import overdue
from memory.rates import Rates


class OverdueBefore:
    """`memory.overdue.Overdue` as it was."""

    def __init__(self, fields: int) -> None:
        self.waiting: OrderedDict[int, tuple[float, tuple[int, ...], bool]] = OrderedDict()
        self.due: list[tuple[float, int]] = []
        self.delays: dict[int, list[float]] = {}
        self.error = [[0.0, 0.0] for _ in range(fields)]
        self.everywhere = [0.0, 0.0]

    def next_due(self) -> float:
        while self.due and self.due[0][1] not in self.waiting:
            heapq.heappop(self.due)
        return self.due[0][0] if self.due else math.inf

    def advance(self, table: Rates, outputs: int, now: float) -> None:
        while self.due and self.due[0][0] < now:
            _, number = heapq.heappop(self.due)
            held = self.waiting.get(number)
            if held is None:
                continue
            when, rows, _ = held
            for row in rows:
                if row >= 0:
                    overdue.overdue(table, row, when, outputs, 1.0)
            self.waiting[number] = (when, rows, True)

    def arrive(self, table: Rates, outputs: int, number: int, when: float, rows: Any) -> None:
        rows = tuple(int(row) for row in rows)
        self.waiting[number] = (when, rows, False)
        if len(self.waiting) > overdue.LIMIT:
            self.drop(table, outputs, next(iter(self.waiting)))
        best = -1
        for field, row in enumerate(rows):
            known = row >= 0 and row in self.delays
            if known and (best < 0 or self.error[field][1] < self.error[best][1]):
                best = field
        if best >= 0:
            due = when + overdue.PATIENCE * math.exp(self._expected(rows[best]))
            heapq.heappush(self.due, (due, number))
        if len(self.due) > 2 * len(self.waiting) + overdue.SPARE:
            self.due = [entry for entry in self.due if entry[1] in self.waiting]
            heapq.heapify(self.due)

    def _expected(self, row: int) -> float:
        n, mean = self.delays.get(row, (0.0, 0.0))
        return (n * mean + 2.0 * self.everywhere[1]) / (n + 2.0)

    def label(self, table: Rates, outputs: int, number: int, now: float) -> None:
        held = self.drop(table, outputs, number)
        if held is None:
            return
        when, rows = held
        delay = math.log(min(max(now - when, overdue.SHORTEST), overdue.LONGEST))
        self.everywhere[0] += 1.0
        self.everywhere[1] += (delay - self.everywhere[1]) / min(self.everywhere[0], 1_000.0)
        for field, row in enumerate(rows):
            if row < 0:
                continue
            error = self.error[field]
            error[0] += 1.0
            error[1] += (abs(delay - self._expected(row)) - error[1]) / min(error[0], 2_000.0)
            known = self.delays.setdefault(row, [0.0, 0.0])
            known[0] += 1.0
            step = delay - known[1]
            if known[0] > overdue.STEADY:
                step = min(max(step, -overdue.STEP_LIMIT), overdue.STEP_LIMIT)
            known[1] += step / min(known[0], 50.0)

    def drop(self, table: Rates, outputs: int, number: int) -> tuple[float, tuple[int, ...]] | None:
        held = self.waiting.pop(number, None)
        if held is None:
            return None
        when, rows, counted = held
        if counted:
            for row in rows:
                if row >= 0:
                    overdue.overdue(table, row, when, outputs, -1.0)
        return when, rows

    def snapshot(self) -> dict[str, Any]:
        return {
            "waiting": [[n, when, list(rows), counted] for n, (when, rows, counted) in self.waiting.items()],
            "due": sorted(list(entry) for entry in self.due if entry[1] in self.waiting),
            "delays": [[row, *known] for row, known in self.delays.items()],
            "error": self.error,
            "everywhere": self.everywhere,
        }


class CategoriesBefore:
    """`counts` and `category_rows` of `Fields` as they were."""

    def __init__(self) -> None:
        self.counts: dict[Any, dict[str, int]] = {}
        self.rows: dict[Any, int] = {}

    def count(self, field: Any, value: str) -> int:
        seen = self.counts.setdefault(field, {"": 0})
        seen[""] += 1
        if "=" + value not in seen and len(seen) > categories.MAX_ROWS:
            return 0
        n = seen["=" + value] = seen.get("=" + value, 0) + 1
        return n

    def row(self, name: Any, *, admit: bool) -> int:
        row = self.rows.get(name)
        if row is not None:
            return row
        if len(self.rows) >= categories.MAX_ROWS:
            return 1 + fields.stable_hash(name, categories.MAX_ROWS)
        if not admit:
            return -1
        self.rows[name] = len(self.rows) + 1
        return len(self.rows)

    def state(self) -> tuple[list[Any], list[Any]]:
        """`counts` and `category_rows`, as they stood in the meta of a learner."""
        return (
            [[to_json(field), dict(counts)] for field, counts in self.counts.items()],
            [[to_json(field), value] for field, value in self.rows],
        )


def overdue_before(held: overdue.Overdue) -> dict[str, Any]:
    """`overdue` in the meta of a learner."""
    arrays = held.snapshot()
    numbers, due = arrays["number"].tolist(), arrays["due"].tolist()
    columns = (arrays[name].tolist() for name in ("time", "rows", "late"))
    labels, delay = arrays["delays"].tolist()
    return {
        "waiting": [list(row) for row in zip(numbers, *columns, strict=True)],
        "due": sorted([when, n] for when, n in zip(due, numbers, strict=True) if when < math.inf),
        "delays": [[row, n, delay[row]] for row, n in enumerate(labels) if n],
        "error": arrays["error"].tolist(),
        "everywhere": arrays["everywhere"].tolist(),
    }


def learner_before(core: Core, meta: dict[str, Any]) -> dict[str, Any]:
    """The meta of a learner, from what it is now."""
    held = core.fields.categories
    rows = {held._rows[place]: name for name, place in held.names.places.items() if held._rows[place]}
    counts: dict[Any, dict[str, int]] = {field: {"": held.events(field)} for field in held._fields}
    for name in held.names.places:
        if held.seen(name):
            counts[name[0]]["=" + name[1]] = held.seen(name)
    fields = {name: value for name, value in meta["fields"].items() if name != "seen"}
    return {
        **meta,
        "fields": {
            **fields,
            "counts": [[to_json(field), seen] for field, seen in counts.items()],
            "category_rows": [[to_json(rows[row][0]), rows[row][1]] for row in sorted(rows)],
        },
        "key_rows": [[i, to_json(value)] for i, value in core.key_rows.places],
        "experience": [
            [serial, to_json(id), time, [to_json(key) for key in keys]]
            for serial, (id, time, keys) in core.experience.items()
        ],
        "overdue": overdue_before(core.overdue),
    }


def forecasts_before(forecasts: list[Forecast]) -> dict[str, Any]:
    """What `pack` of kept forecasts gave as meta, beside their records."""
    grown = ("features", "outputs", "keys", "categories")
    return {
        "forecasts": [
            {
                "id": to_json(f.id),
                "time": f.time,
                "version": f.version,
                "infinite": f.infinite,
                "labels": len(f.labels),
                "sizes": [getattr(f.sizes, name) for name in grown],
                "keys": [to_json(key) for key in f.keys],
                "categories": [[to_json(name), value] for name, value in f.categories.items()],
                "unknown": [
                    [to_json(name), part, None if math.isnan(value) else value]
                    for (name, part), value in f.unknown.items()
                ],
            }
            for f in forecasts
        ]
    }


def metrics_before(metrics: PrequentialMetrics) -> dict[str, Any]:
    """`PrequentialMetrics.state` as it was."""
    ranks = None
    if metrics._ranks is not None:
        count = metrics._ranks._count
        ranks = {
            "bins": [row.nonzero()[0].tolist() for row in count],
            "weights": [row[row != 0].tolist() for row in count],
        }
    return {**metrics.state()[1], "ranks": ranks}


def shard_before(shard: Shard) -> tuple[dict[str, Any], dict[str, Any]]:
    """Arrays and meta of a shard in contents version 2."""
    arrays, meta = shard.state()
    added = ("learner/fields.", "learner/overdue.", "learner/key_rows", "learner/experience.", "metrics/")
    kept = {name: array for name, array in arrays.items() if not name.startswith((*added, "pending/"))}
    kept["pending/records"] = arrays["pending/records"]
    return kept, {
        **meta,
        "learner": learner_before(shard.model._core, meta["learner"]),  # type: ignore[attr-defined]
        "pending": forecasts_before(shard.pending.payloads()),
        "metrics": metrics_before(shard.metrics),
    }
