"""Arrays in, arrays out: the chunked path of a learner, which gives what single events would, to the bit."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from engine.added import usable as ready
from engine.core import Core, Kept
from engine.encoders.fields import usable
from engine.kernels import FORECAST, LEARN, LIVE, OBSERVE
from engine.names import storable

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
CHUNK = 4_096
CHUNK_WIDE = 256  # events with a wide vector
HEAVIEST = 1e6  # a weight; heavier events overflow what is learned


def table(X: ArrayLike, name: str = "X") -> NDArray[Any]:
    """X as an array of n rows; ValueError names what it is where it is no table of numbers."""
    array = np.asarray(X)
    if array.ndim < 2 or array.dtype.kind not in "biuf":
        raise ValueError(
            f"{name} has shape {array.shape} and type {array.dtype}; expected numbers of shape (n, features), "
            "(n, height, width) or (n, height, width, channels); encode strings first, or pass dicts one by one"
        )
    return array


def column(values: Any, n: int, name: str, default: float) -> F64:
    """(n,) float64 of times or weights; the default where nothing was given."""
    if values is None:
        return np.full(n, default)
    array = np.asarray(values)
    if array.shape != (n,) or array.dtype.kind not in "biuf":
        raise ValueError(
            f"{name} has shape {array.shape} and type {array.dtype}; expected ({n},), one number per row of X"
        )
    array = np.array(array, np.float64, order="C")  # a copy: read-only arrays would compile another kernel
    wrong = np.isinf(array) if name == "times" else ~((array >= 0.0) & (array <= HEAVIEST))
    if wrong.any():
        at = int(wrong.argmax())
        wanted = "finite seconds, NaN where unknown" if name == "times" else f"numbers from 0 to {HEAVIEST:g}"
        raise ValueError(f"{name}[{at}] is {array[at]}; expected {wanted}")
    return array


def id_column(ids: Any, n: int) -> list[Hashable] | None:
    """n ids as Python's own values, None where an event has none; TypeError names one no file can hold."""
    if ids is None:
        return None
    column = ids.tolist() if isinstance(ids, np.ndarray) else list(ids)
    if len(column) != n:
        raise ValueError(f"ids has {len(column)} entries, X has {n} rows; expected one per row")
    return [id if type(id) is str or type(id) is int else storable("the id", id) for id in column]


def row_dict(row: NDArray[Any]) -> dict[Hashable, Any]:
    """The event that a row of X stands for: {column: number}, or {0: image}."""
    return dict(enumerate(row.tolist())) if row.ndim == 1 else {0: row}


class Rows(NamedTuple):
    """n events as the kernels read them; bad: how many infinite numbers were in them, which are missing now.

    values: (n, F) float64 by slots, NaN for missing; wide: (n, wide + 1) float32, see `engine.wide`.
    """

    values: F64
    wide: F32
    bad: int


def slotted(core: Core, X: NDArray[Any]) -> Rows | None:
    """X by slots; None where rows must go one by one: a column has no slot, or a map is still to be learned."""
    if X.ndim > 2 and core.fields.is_image(0, X.shape[1:]):
        return pictured(core, X)
    if not core.wide.settled({}, many=core.sizes.many):
        return None
    width = math.prod(X.shape[1:])
    flat = X.reshape(len(X), width)
    if X.ndim > 2:
        slots = core.fields.slots
        found = [slots.get((0, j), -1) for j in range(width)]
        at = np.array(found, np.int64)
        if (at < 0).any():
            return None
    else:
        maybe = core.fields.columns(width)
        if maybe is None:
            return None
        at = maybe
    values = np.full((len(X), core.sizes.features), np.nan)
    values[:, at] = flat
    bad = usable(values)
    wide = np.zeros((len(X), core.sizes.wide + 1), np.float32)
    if core.sizes.wide:
        for row, out in zip(values, wide, strict=True):
            core.wide.encode({}, row, out)
    return Rows(values, wide, bad)


def pictured(core: Core, X: NDArray[Any]) -> Rows | None:
    """The same for images, one per row."""
    if 0 not in core.fields.images or not core.wide.settled({0: None}, many=core.sizes.many):
        return None
    values = np.zeros((len(X), core.sizes.features))
    wide = np.zeros((len(X), core.sizes.wide + 1), np.float32)
    bad = 0
    for image, row, out in zip(X, values, wide, strict=True):
        encoded = core.fields.encode({0: image})
        if encoded.unknown:
            return None
        row[:] = encoded.values
        core.wide.encode(encoded.images, row, out)
        bad += encoded.bad
    return Rows(values, wide, bad)


def key_values(core: Core, X: NDArray[Any]) -> list[tuple[Hashable, ...]]:
    """The key fields' values of every row."""
    if not core.options.keys:
        return []
    return [core.key_values(row_dict(row)) for row in X]


def forecasts(core: Core, X: NDArray[Any], times: F64) -> F64:
    """(n, outputs): a forecast for each row; nothing is learned."""
    out = np.zeros((len(X), core.sizes.outputs))
    rows = slotted(core, X)
    if rows is None:
        for i, row in enumerate(X):
            kept = core.forecast(row_dict(row), None, None if math.isnan(times[i]) else float(times[i]))
            out[i] = kept.answers()
        return out
    n = len(X)
    keys = core.chunk_keys(key_values(core, X), n, admit=False)
    ones = np.ones(n)
    given = None
    if core.added:
        said = [core.added.say(ready(row_dict(row)), core.classes, core.sizes.outputs) for row in X]
        given = np.array(said).reshape(n, -1)
    return core.run_chunk(
        FORECAST, rows.values, rows.wide, times, keys, no_categories(core, n), ones, ones, given=given
    )


def no_categories(core: Core, n: int) -> NDArray[np.int64]:
    """No categorical field is present in an array."""
    return np.full((n, core.sizes.categories), -1, np.int64)


def test_then_train(
    core: Core, X: NDArray[Any], targets: Sequence[Any], times: F64, weights: F64, ids: Sequence[Any] | None
) -> F64:
    """(n, outputs): row i was forecast before target i was learned. Classes met on the way widen the result."""
    known = ids is not None or core.options.keys or core.experience or not np.isnan(times).all()
    n = len(X)
    out = np.zeros((n, core.sizes.outputs))
    at = 0
    while at < n:
        end = first_overdue(core, times, at, min(n, at + (CHUNK_WIDE if core.sizes.wide else CHUNK)))
        if not core.regression:
            end = first_new_class(core, targets, at, end)
        rows = slotted(core, X[at:end]) if end > at else None
        if rows is None:
            id = None if ids is None else ids[at]
            said = one(core, X[at], targets[at], float(times[at]), float(weights[at]), id)
            end = at + 1
        else:
            m = end - at
            core.counts["infinite_values"] += rows.bad
            numbers = numbered(core, targets, at, end)
            key_rows = key_values(core, X[at:end])
            keys = core.chunk_keys(key_rows, m, admit=True)
            if known:
                core.keep(experiences(times[at:end], weights[at:end], ids and ids[at:end], key_rows))
            given = None
            if core.added:
                events = [row_dict(row) for row in X[at:end]]
                given = core.added.follow(
                    events, targets[at:end], weights[at:end], core.classes, core.sizes.outputs
                )
            said = core.run_chunk(
                FORECAST | OBSERVE | LEARN | LIVE, rows.values, rows.wide, times[at:end], keys,
                no_categories(core, m), numbers, weights[at:end], ids=None if ids is None else ids[at:end],
                given=given,
            )  # fmt: skip
        if out.shape[1] < core.sizes.outputs:
            out = np.hstack([out, np.zeros((n, core.sizes.outputs - out.shape[1]))])
        out[at:end, : said.shape[1]] = said
        at = end
    return out


def experiences(
    times: F64, weights: F64, ids: Sequence[Any] | None, keys: Sequence[tuple[Hashable, ...]]
) -> list[Kept]:
    """Id, time and keys of the rows that teach something."""
    when = [None if math.isnan(time) else time for time in times.tolist()]
    nothing: tuple[Hashable, ...] = ()
    rows = zip(ids or repeat(None), when, keys or repeat(nothing), (weights > 0.0).tolist(), strict=False)
    return [(id, time, values) for id, time, values, taught in rows if taught]


def first_overdue(core: Core, times: F64, at: int, limit: int) -> int:
    """The first row from `at` at whose time a label that is awaited is overdue."""
    due = core.overdue.next_due()
    if due == math.inf:
        return limit
    numbers = int(core.state.tally[0]) + np.arange(limit - at)
    now = np.where(np.isnan(times[at:limit]), numbers, times[at:limit])
    late = np.flatnonzero(now > due)
    return at + int(late[0]) if len(late) else limit


def first_new_class(core: Core, targets: Sequence[Any], at: int, limit: int) -> int:
    """The first row from `at` whose label has no column yet."""
    known = core.classes
    for i in range(at, limit):
        if targets[i] not in known:
            return i
    return limit


def numbered(core: Core, targets: Sequence[Any], at: int, end: int) -> F64:
    """Targets as the kernels read them: column numbers of known classes, or numbers."""
    if core.regression:
        return np.array(targets[at:end], np.float64)
    known = core.classes
    return np.array([known[target] for target in targets[at:end]], np.float64)


def one(core: Core, row: NDArray[Any], target: Any, time: float, weight: float, id: Hashable | None) -> F64:
    """A single row by the path of single events: (1, outputs at forecast time)."""
    kept = core.forecast(row_dict(row), id, None if math.isnan(time) else time, live=True)
    answer = kept.answers()
    core.learn(kept, target, weight)
    return answer[None, :]
