"""What a learner, its forecasts and the metrics wrote before names and what waits were arrays, in their form.

Each function gives back what has the present form already.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.evaluate.auc import BINS
from engine.layout import MANY
from engine.name_table import NameTable
from engine.names import from_json
from engine.packed import pack
from memory import lookback

Arrays = Mapping[str, NDArray[Any]]
Meta = Mapping[str, Any]


def learner_of(arrays: Arrays, meta: Meta) -> tuple[Arrays, Meta]:
    """The state of a learner; before, its meta held key_rows, experience, overdue and counts of categories.

    Up to contents version 3 it had two averages per feature and no `memory.lookback`.
    """
    arrays = _looking_back(arrays, meta)
    if not {"key_rows", "experience", "overdue"} <= set(meta):
        return arrays, meta
    fields = dict(meta["fields"])
    categories, fields["seen"] = categories_of(fields.pop("counts"), fields.pop("category_rows"))
    kept = [(from_json(id), time, _names(keys)) for _, id, time, keys in meta["experience"]]
    rows = NameTable((i, from_json(value)) for i, value in meta["key_rows"])
    fresh = {
        **{f"fields.{name}": array for name, array in categories.items()},
        **{f"overdue.{name}": array for name, array in _overdue(meta["overdue"]).items()},
        "key_rows": rows.snapshot(),
        "experience.serial": np.array([serial for serial, *_ in meta["experience"]], np.int64),
        "experience.events": pack(kept),
    }
    others = {k: v for k, v in meta.items() if k not in ("key_rows", "experience", "overdue")}
    return {**arrays, **fresh}, {**others, "fields": fields}


def _looking_back(arrays: Arrays, meta: Meta) -> Arrays:
    """Two averages per feature as a `Lookback` that keeps to them; nothing where the learner has no context."""
    if "encoder.long" not in arrays:
        return arrays
    rest = {name: array for name, array in arrays.items() if name not in ("encoder.short", "encoder.long")}
    few = meta["options"]["context"] and len(arrays["encoder.long"]) <= MANY
    held = lookback.before(arrays["encoder.short"], arrays["encoder.long"]) if few else lookback.allocate(0)
    return {**rest, **{f"lookback.{name}": getattr(held, name) for name in held._fields}}


def _names(values: Iterable[Any]) -> tuple[Hashable, ...]:
    return tuple(from_json(value) for value in values)


def categories_of(
    counts: list[tuple[Any, dict[str, int]]], rows: list[tuple[Any, str]]
) -> tuple[dict[str, NDArray[Any]], list[list[Any]]]:
    """What `Categories.from_state` takes, from JSON.

    counts: per field, of all values under "" and of each under "=value"; rows: (field, value) from row 1 on.
    """
    held = {(from_json(field), value): (0, row) for row, (field, value) in enumerate(rows, 1)}
    for field, seen in counts:
        for value, n in seen.items():
            name = (from_json(field), value[1:])
            if value:
                held[name] = (n, held.get(name, (0, 0))[1])
    return {
        "names": NameTable(held).snapshot(),
        "counts": np.array([n for n, _ in held.values()], np.int64),
        "rows": np.array([row for _, row in held.values()], np.int32),
    }, [[field, seen[""], len(seen) - 1] for field, seen in counts]


def _overdue(before: Meta) -> dict[str, NDArray[Any]]:
    fields = len(before["error"])
    waiting, due = before["waiting"], {number: when for when, number in before["due"]}
    delays = np.zeros((2, 1 + max((row for row, *_ in before["delays"]), default=-1)))
    for row, *known in before["delays"]:
        delays[:, row] = known
    return {
        "number": np.array([number for number, *_ in waiting], np.int64),
        "time": np.array([time for _, time, *_ in waiting], np.float64),
        "rows": np.array([rows for *_, rows, _ in waiting], np.int32).reshape(-1, fields),
        "due": np.array([due.get(number, math.inf) for number, *_ in waiting], np.float64),
        "late": np.array([late for *_, late in waiting], np.bool_),
        "delays": delays,
        "error": np.array(before["error"], np.float64),
        "everywhere": np.array(before["everywhere"], np.float64),
    }


def forecasts_of(arrays: Arrays, meta: Meta) -> tuple[Arrays, Meta]:
    """Kept forecasts; before, meta described each."""
    if "forecasts" not in meta or "records" not in arrays:
        return arrays, meta
    before = meta["forecasts"]
    names = [
        (
            from_json(f["id"]),
            _names(f["keys"]),
            {from_json(name): value for name, value in f["categories"]},
            {(from_json(n), part): math.nan if v is None else v for n, part, v in f["unknown"]},
        )
        for f in before
    ]
    sizes = [tuple(f["sizes"]) for f in before]
    rows = {row: at for at, row in enumerate(dict.fromkeys(sizes))}
    return {
        **arrays,
        "names": pack(names),
        "times": np.array([f["time"] for f in before], np.float64),
        "versions": np.array([f["version"] for f in before], np.int64),
        "infinite": np.array([f["infinite"] for f in before], np.int64),
        "labels": np.array([f["labels"] for f in before], np.int64),
        "sizes": np.array(list(rows), np.int64).reshape(-1, 4),
        "sizes_row": np.array([rows[row] for row in sizes], np.int64),
    }, {name: value for name, value in meta.items() if name != "forecasts"}


def metrics_of(arrays: Arrays, meta: Meta) -> tuple[Arrays, Meta]:
    """Prequential figures; before, meta held the ranks, class by class."""
    if "ranks" not in meta:
        return arrays, meta
    ranks, others = meta["ranks"], {name: value for name, value in meta.items() if name != "ranks"}
    if ranks is None:
        return arrays, others
    bins = [kind * BINS + place for kind, places in enumerate(ranks["bins"]) for place in places]
    weights = [weight for row in ranks["weights"] for weight in row]
    return {
        **arrays,
        "ranks.bins": np.array(bins, np.int32),
        "ranks.weights": np.array(weights, np.float64),
    }, others
