"""Outcome rates per key as plain features, for peers that have no memory of their own.

For every key's value and horizon h: the decayed sums s_c = Σ exp(−(t − t_i)/h) over the labels of class c
that were known by t (t_i is when label i became known), shrunk towards all events' rate π of the same
horizon, p = (s_1 + m π)/(s_0 + s_1 + m) with m = 4; the feature is log p/(1 − p). All events together are a
key too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

HORIZONS = {"1h": 3600.0, "6h": 21600.0, "1d": 86400.0, "10d": 864000.0}
STRENGTH = 4.0
Key = str | tuple[str, ...]


def outcome_rates(
    columns: dict[str, list[Any]],
    keys: Sequence[Key],
    y: NDArray[np.int64],
    time: NDArray[np.float64],
    label_time: NDArray[np.float64],
) -> tuple[NDArray[np.float64], list[str]]:
    """(rates (n, (1 + keys) · horizons) float64, their names); y (n,) is 0 or 1, rows in the order of time.

    Row i reads labels known strictly before time[i], as the evaluation learns them.
    """
    n = len(y)
    codes = np.zeros((n, 1 + len(keys)), dtype=np.int64)
    for j, key in enumerate(keys, start=1):
        fields = (key,) if isinstance(key, str) else key
        seen: dict[Any, int] = {}
        values = zip(*(columns[field] for field in fields), strict=True)
        codes[:, j] = [seen.setdefault(value, len(seen)) for value in values]
    sizes = codes.max(axis=0) + 1
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    order = np.argsort(label_time, kind="stable")
    horizons = np.array(list(HORIZONS.values()))
    found = _merge(codes + starts, int(sizes.sum()), y, time, label_time, order, horizons)
    names = ["all", *("+".join((key,) if isinstance(key, str) else key) for key in keys)]
    return found, [f"late {name} {span}" for name in names for span in HORIZONS]


@njit
def _merge(
    codes: Any, rows: int, y: Any, time: Any, label_time: Any, order: Any, horizons: Any
) -> Any:  # pragma: no cover - compiled
    n, k = codes.shape
    h = horizons.shape[0]
    total = np.zeros((rows, h, 2))
    touched = np.zeros(rows)
    out = np.empty((n, k * h))
    known = 0
    for i in range(n):
        while known < n and label_time[order[known]] < time[i]:
            r = order[known]
            for j in range(k):
                row = codes[r, j]
                for a in range(h):
                    fade = np.exp((touched[row] - label_time[r]) / horizons[a])
                    total[row, a, 0] *= fade
                    total[row, a, 1] *= fade
                    total[row, a, y[r]] += 1.0
                touched[row] = label_time[r]
            known += 1
        for a in range(h):
            fade = np.exp((touched[0] - time[i]) / horizons[a])  # row 0 holds all events together
            all_0, all_1 = total[0, a, 0] * fade, total[0, a, 1] * fade
            base = (all_1 + 0.5) / (all_0 + all_1 + 1.0)
            for j in range(k):
                row = codes[i, j]
                fade = np.exp((touched[row] - time[i]) / horizons[a])
                s_0, s_1 = total[row, a, 0] * fade, total[row, a, 1] * fade
                p = (s_1 + STRENGTH * base) / (s_0 + s_1 + STRENGTH)
                out[i, j * h + a] = np.log(p / (1.0 - p))
    return out
