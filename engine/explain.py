"""Why a forecast says what it says: experts with their weights, experiences recalled, statistics per key."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np

from engine.core import Core
from engine.forecast import Forecast
from engine.layout import MOVES
from engine.sleep import by_expert
from memory import lookback, metric, rates


def expert_weights(core: Core) -> dict[str, float]:
    """Expert → mixing weight averaged over the mixers by their belief; 0 for an expert that sleeps."""
    mixer = core.state.mixer
    weight = mixer.belief @ by_expert(core.state.sleep, mixer.weight)
    return dict(zip(core.sizes.expert_names(), weight.tolist(), strict=True))


def context_horizons(core: Core) -> dict[Hashable, float]:
    """Number field → over how many events the longer of its two contexts looks back."""
    if not core.sizes.compared:
        return {}
    chosen = lookback.LENGTHS[core.state.lookback.chosen].tolist()
    return {name: chosen[at] for (name, part), at in core.fields.slots.items() if part is None}


def explain(core: Core, forecast: Forecast) -> dict[str, Any]:
    """forecast, experts (weight and forecast each), those asleep, recalled experiences, statistics per key.

    recalled_lost: how many of the experiences recalled for the forecast can no longer be named: others have
    taken their place, or stored events have changed places since (after `forget`, or for want of room).
    """
    weights = expert_weights(core)
    said: dict[str, Any] = dict(forecast.experts)
    if core.regression:
        said = {name: float(v[0]) for name, v in forecast.expert_forecasts().items()}
    known, lost = recalled(core, forecast)
    return {
        "id": forecast.id,
        "time": forecast.time,
        "forecast": forecast.value if core.regression else forecast.proba,
        "version": forecast.version,
        "experts": [{"name": name, "weight": weights[name], "forecast": said[name]} for name in said],
        "asleep": [name for name in weights if name not in said],
        "recalled": known,
        "recalled_lost": lost,
        "keys": key_statistics(core, forecast),
    }


def recalled(core: Core, forecast: Forecast) -> tuple[list[dict[str, Any]], int]:
    """The experiences that the memories recalled, nearest first, those still held; how many others there were."""
    dim = forecast.sizes.dim
    labels = list(core.classes)
    out: list[dict[str, Any]] = []
    lost = 0
    moved = int(forecast.record[MOVES]) != int(core.state.tally[5])
    for name, memory, at in (
        ("features", core.state.near, dim.at_slot),
        ("features and context", core.state.context, dim.at_slot + 1 + 2 * dim.neighbours),
    ):
        found = int(forecast.record[at])
        if found == 0 or moved:
            lost += found
            continue
        slot = forecast.record[at + 1 : at + 1 + found].astype(np.int64)
        distance = forecast.record[at + 1 + dim.neighbours :][:found].copy()
        share = np.zeros(max(found, 1))
        metric.soften(memory, distance, found, share)
        for j in range(found):
            serial = int(memory.serial[slot[j]])
            if serial < 0 or serial >= forecast.version:
                lost += 1
                continue
            id, time, keys = core.experience.get(serial, (None, None, ()))
            target = memory.target[slot[j]]
            out.append(
                {
                    "memory": name, "id": id, "time": time, "keys": list(keys), "learned_as": serial,
                    "label": float(target) if core.regression else labels[int(target)],
                    "distance": float(distance[j]), "weight": float(share[j]),
                }
            )  # fmt: skip
    return out, lost


def key_statistics(core: Core, forecast: Forecast) -> list[dict[str, Any]]:
    """Per key field and horizon: decayed labels, and the share of each class among them (or their mean)."""
    table: rates.Rates = core.state.key_rates
    out: list[dict[str, Any]] = []
    labels: list[Hashable] = list(core.classes)
    for i, (field, value) in enumerate(zip(core.options.keys, forecast.keys, strict=True)):
        place = core.key_rows.places.get((i, value))
        if place is None:
            continue
        row = place + 1
        for j, horizon in enumerate(core.options.horizons):
            fade = float(np.exp(-max(forecast.now - table.time[row], 0.0) / horizon))
            total = table.total[row, j] * fade
            n = float(total[core.sizes.outputs])
            entry: dict[str, Any] = {
                "key": field, "value": value, "horizon": horizon, "labels": n,
                "events": float(total[core.sizes.outputs + 1]),
                "overdue": float(total[core.sizes.outputs + 2]),
            }  # fmt: skip
            if core.regression:
                entry["mean"] = float(total[0] / max(n, 1e-12))
            else:
                entry["share"] = {label: float(total[c] / max(n, 1e-12)) for c, label in enumerate(labels)}
            out.append(entry)
    return out
