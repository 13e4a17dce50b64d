"""The label join's snapshot as it was before it held arrays, brought to the present form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from streams.duplicates import RecentIds
from streams.event import Label
from streams.join import PendingForecasts


def arrays_of(before: Mapping[str, Any]) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Arrays and meta for `PendingForecasts.restore`, from the JSON that `snapshot` gave before.

    before: ids, times, held, matched, counts, now. Labels that had been learned were not kept: a second one for
    them counts as late, which teaches nothing, as a duplicate did.

    >>> before = {"ids": ["a"], "times": [1.0], "held": [], "matched": [["b", 2.0]], "counts": {}, "now": 2.0}
    >>> pending = PendingForecasts[str]()
    >>> pending.restore(*arrays_of(before), ["forecast of a"])
    >>> pending.ids(), pending.repeats("b"), pending.now
    (['a'], True, 2.0)
    """
    now = -np.inf if before["now"] is None else before["now"]
    pending, recent = PendingForecasts[None](), {"answered": RecentIds(), "fates": RecentIds()}
    pending.advance(now)
    for id, time in before["matched"]:
        for ids in recent.values():
            ids.add(id, time)
    for id, time in zip(before["ids"], before["times"], strict=True):
        pending.put(id, None)
        recent["answered"].add(id, time)
    for label in before["held"]:
        pending.match(msgspec.convert(label, Label))
    arrays, meta = pending.snapshot()
    for name, ids in recent.items():
        arrays |= {f"{name}/{part}": array for part, array in ids.snapshot().items()}
    arrays["since"] = np.minimum(np.array(before["times"], np.float64), now)
    return arrays, {"counts": {**meta["counts"], **before["counts"]}}
