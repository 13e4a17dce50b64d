"""Outcomes per key, decayed by event time: how often each class followed this carrier, this airport, lately.

Every value of a key field (or of a tuple of fields) has a row; per horizon h and class c it holds
s_c = Σ exp(−(t − t_i)/h) over the labels learned for that value, decayed to the row's own time. A forecast
reads, per key and horizon, log((s_c + m π_c) / (n + m)) − log π_c with n = Σ s_c: the evidence of that value
against π, the same statistic over all events.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

FAST = {"reassoc", "contract", "arcp", "nsz", "afn"}
STRENGTH = 4.0

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


class Rates(NamedTuple):
    """The flat arrays of outcome statistics with room for n rows; row 0 holds all events together.

    total: (n, J, C) float64, decayed outcomes per horizon and class (regression: sum and count).
    time: (n,) float64, the event time to which a row is decayed.
    horizon: (J,) float64, in the units of time.
    """

    total: F64
    time: F64
    horizon: F64


def allocate(rows: int, horizons: F64, classes: int) -> Rates:
    """Empty statistics with `rows` rows."""
    return Rates(
        total=np.zeros((rows, len(horizons), classes)),
        time=np.zeros(rows),
        horizon=np.asarray(horizons, np.float64).copy(),
    )


@njit(fastmath=FAST, nogil=True, error_model="numpy")
def columns_of(classes: int) -> int:
    """How many columns one key and horizon fill: one for two classes, else one per class; none past 32."""
    if classes <= 2:
        return 1
    return classes if classes <= 32 else 0


@njit(fastmath=FAST, nogil=True, error_model="numpy")
def read(table: Any, keys: I64, now: float, classes: int, regression: bool, out: F64) -> None:
    """Fill out (len(keys) · J · columns,) with the evidence of each key's row (−1: a value never seen)."""
    horizons = table.horizon.shape[0]
    columns = columns_of(classes)
    at = 0
    for k in range(keys.shape[0]):
        row = keys[k]
        for j in range(horizons):
            h = table.horizon[j]
            base_fade = math.exp(-max(now - table.time[0], 0.0) / h)
            fade = 0.0 if row < 0 else math.exp(-max(now - table.time[row], 0.0) / h)
            if regression:
                count0 = table.total[0, j, 1] * base_fade
                prior = table.total[0, j, 0] * base_fade / (count0 + 1.0)
                count = 0.0 if row < 0 else table.total[row, j, 1] * fade
                total = 0.0 if row < 0 else table.total[row, j, 0] * fade
                out[at] = (total + STRENGTH * prior) / (count + STRENGTH)
                at += 1
                continue
            everything = 0.0
            n = 0.0
            for c in range(classes):
                everything += table.total[0, j, c] * base_fade
                if row >= 0:
                    n += table.total[row, j, c] * fade
            for i in range(columns):
                c = 1 if classes == 2 else i
                pi = (table.total[0, j, c] * base_fade + 1.0 / classes) / (everything + 1.0)
                s = 0.0 if row < 0 else table.total[row, j, c] * fade
                rate = (s + STRENGTH * pi) / (n + STRENGTH)
                if classes == 2:
                    out[at] = math.log(rate / max(1.0 - rate, 1e-9)) - math.log(pi / max(1.0 - pi, 1e-9))
                else:
                    out[at] = math.log(rate / pi)
                at += 1


@njit(fastmath=FAST, nogil=True, error_model="numpy")
def learn(table: Any, row: int, now: float, target: float, weight: float, regression: bool) -> None:
    """Count one outcome for one row at time `now` (never moves a row's time back)."""
    horizons = table.horizon.shape[0]
    passed = max(now - table.time[row], 0.0)
    for j in range(horizons):
        fade = math.exp(-passed / table.horizon[j])
        for c in range(table.total.shape[2]):
            table.total[row, j, c] *= fade
        if regression:
            table.total[row, j, 0] += weight * target
            table.total[row, j, 1] += weight
        else:
            table.total[row, j, int(target)] += weight
    table.time[row] = max(table.time[row], now)
