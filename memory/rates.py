"""Outcomes per key, decayed by event time: what followed this carrier, this airport, lately, and what is due.

Every value of a key field (or of a tuple of fields) has a row; per horizon h it holds sums that decay as
exp(−age/h): A_c labels of class c, B labels, N events, O events whose label is overdue (see memory.overdue).
Ages count from the event, not from its label, so that labels may come in any order. A forecast reads

    (A_c + m π_c) / (B + m),   ln(1 + B),   ln(1 + N),   ln(1 + O)        with m = 2, π the class frequencies.

Row 0 holds all events together. For regression A is the sum of targets and π their mean.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

FAST = {"reassoc", "contract", "nsz"}
STRENGTH = 2.0
COUNTS = 3
WIDEST = 32

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


class Rates(NamedTuple):
    """The flat arrays of outcome statistics with room for n rows.

    total: (n, J, outputs + 3) float64 — A_c, B, N, O per horizon, decayed to the row's time.
    time: (n,) float64, event time of the row's latest event; −inf for a row without one.
    horizon: (J,) float64, in the units of time.
    """

    total: F64
    time: F64
    horizon: F64


def allocate(rows: int, horizons: F64, outputs: int) -> Rates:
    """Empty statistics with `rows` rows."""
    return Rates(
        total=np.zeros((rows, len(horizons), outputs + COUNTS)),
        time=np.full(rows, -np.inf),
        horizon=np.asarray(horizons, np.float64).copy(),
    )


@njit(fastmath=FAST, nogil=True, error_model="numpy")
def rate_columns(outputs: int) -> int:
    """Columns of rates per key and horizon: one for two classes, else one per class; none past 32 classes."""
    if outputs <= 2:
        return 1
    return outputs if outputs <= WIDEST else 0


@njit(fastmath=FAST, nogil=True, error_model="numpy")
def read(table: Any, keys: I64, now: float, prior: F64, outputs: int, counts: bool, out: F64) -> None:
    """Fill out with what the keys' rows say at time `now`; a row of −1 is a value never seen.

    prior: (outputs,) float64 frequencies of the classes, or (1,) the target's mean. counts: whether ln(1 + B),
    ln(1 + N), ln(1 + O) follow the rates of each key and horizon.
    """
    columns = rate_columns(outputs)
    at = 0
    for k in range(keys.shape[0]):
        row = keys[k]
        for j in range(table.horizon.shape[0]):
            fade = 0.0
            if row >= 0:
                fade = math.exp(-max(now - table.time[row], 0.0) / table.horizon[j])
            labels = table.total[row, j, outputs] * fade if row >= 0 else 0.0
            for i in range(columns):
                c = 1 if outputs == 2 else i
                a = table.total[row, j, c] * fade if row >= 0 else 0.0
                out[at] = (a + STRENGTH * prior[c]) / (labels + STRENGTH)
                at += 1
            if counts:
                for i in range(COUNTS):
                    count = table.total[row, j, outputs + i] * fade if row >= 0 else 0.0
                    out[at] = math.log(1.0 + max(count, 0.0))
                    at += 1


@njit(fastmath=FAST, nogil=True, error_model="numpy")
def arrive(table: Any, row: int, now: float, outputs: int) -> None:
    """An event of this row happened at time `now`: sums decay to it and N counts it."""
    passed = now - table.time[row]
    for j in range(table.horizon.shape[0]):
        h = table.horizon[j]
        if passed > 0.0:
            fade = math.exp(-passed / h)
            for i in range(table.total.shape[2]):
                table.total[row, j, i] *= fade
            table.total[row, j, outputs + 1] += 1.0
        else:
            table.total[row, j, outputs + 1] += math.exp(passed / h)
    if passed > 0.0:
        table.time[row] = now


@njit(fastmath=FAST, nogil=True, error_model="numpy")
def outcome(
    table: Any, row: int, when: float, target: float, weight: float, outputs: int, regression: bool
) -> None:
    """The label of an event of time `when` came: it counts as much as if it had come with its event."""
    age = max(table.time[row] - when, 0.0)
    for j in range(table.horizon.shape[0]):
        g = weight * math.exp(-age / table.horizon[j])
        if regression:
            table.total[row, j, 0] += g * target
        else:
            table.total[row, j, int(target)] += g
        table.total[row, j, outputs] += g


def overdue(table: Rates, row: int, when: float, outputs: int, sign: float) -> None:
    """An event of time `when` enters (+1) or leaves (−1) the overdue of its row."""
    age = max(float(table.time[row]) - when, 0.0)
    table.total[row, :, outputs + 2] += sign * np.exp(-age / table.horizon)
