"""The page of a scenario: figures, the matrix of accuracies, tasks over time, any-time and live accuracy."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from engine.evaluate.continual.plots import Line, heat, lines_over
from engine.evaluate.continual.shown import SHOWN, visits
from engine.evaluate.page import document
from engine.evaluate.panels import COLOURS, dot
from engine.evaluate.words import number, size

_TILES = ("final_accuracy", "forgetting", "anytime_accuracy", "live_accuracy")


def render(figures: Mapping[str, Any], *, json_name: str | None = None) -> str:
    """The page for what `--json` holds (plain JSON values); json_name: the file beside it, for the footer."""
    title = f"{figures['stream']}, {figures['scenario']}"
    beside = f" All figures are in {escape(json_name)} beside this page." if json_name else ""
    parts = (
        _header(title, figures),
        _tiles(figures),
        _matrix(figures),
        _by_task(figures),
        _over_time(figures),
        _switches(figures),
        _all(figures),
        f"<footer>Written by everlearn.{beside}</footer>",
    )
    return document(title, "".join(parts))


def _section(head: str, about: str, inside: str, kind: str = "card") -> str:
    return f'<h2>{head}</h2><p class="about">{about}</p><div class="{kind}">{inside}</div>'


def _header(title: str, figures: Mapping[str, Any]) -> str:
    seeds = figures["seeds"]
    facts = {
        "events": number(figures["events"]),
        "tasks": number(len(figures["tasks"])),
        "classes": number(figures["classes"]),
        "held out": number(figures["tests"]),
        "seeds": ", ".join(map(str, seeds)),
        "label history": "on" if figures.get("label_history") else "",
    }
    items = "".join(f"<li>{name} <b>{escape(value)}</b></li>" for name, value in facts.items() if value)
    many = f" Figures are means over {len(seeds)} seeds." if len(seeds) > 1 else ""
    about = (
        "Tasks come one after the other, each event once; the learner is told no task. Held-out events are "
        "asked "
        f"on the way and never learned.{many}"
    )
    return f'<h1>{escape(title)}</h1><p>{about}</p><ul class="facts">{items}</ul>'


def _tiles(figures: Mapping[str, Any]) -> str:
    spread, mixed = figures.get("spread", {}), figures.get("shuffled", {})
    tiles = []
    for name in _TILES:
        if figures.get(name) is None:
            continue
        told = [f"± {number(spread[name])}"] if name in spread else []
        if mixed.get(name) is not None:
            told.append(f"shuffled {number(mixed[name])}")
        tiles.append(
            f'<div class="tile"><div class="name">{escape(name.replace("_", " "))}</div>'
            f'<div class="value">{number(figures[name], 3)}</div>'
            f'<div class="beside">{" · ".join(told)}</div></div>'
        )
    return f'<section class="tiles" aria-label="Headline figures">{"".join(tiles)}</section>'


def _matrix(figures: Mapping[str, Any]) -> str:
    about = (
        "Accuracy on the held-out events of each task (columns) after each part of the stream (rows). Framed: "
        "the "
        "task that was just taught. Below a frame stands what is kept, above it what was known beforehand."
    )
    drawn = heat(figures["matrix"], figures["order"], list(map(str, figures["tasks"])))
    return _section("What is left of each task", about, drawn, "card scroll")


def _by_task(figures: Mapping[str, Any]) -> str:
    lines: list[Line] = []
    for k, task in enumerate(figures["tasks"]):
        looks = [look for look in figures["looks"] if str(k) in look["tasks"]]
        points = [(look["events"], look["tasks"][str(k)]) for look in looks]
        lines.append((str(task), f"var(--s{k % COLOURS})", points))
    about = (
        "Accuracy on held-out events of each task, from its beginning on. At a dashed line another part begins: "
        "there all held-out events are asked, on the way some of each task."
    )
    drawn = lines_over(
        figures["events"], figures["part_events"], lines, "Accuracy on each task over the stream"
    )
    return _section("Each task over time", about, drawn)


def _over_time(figures: Mapping[str, Any]) -> str:
    lines: list[Line] = [
        ("live forecasts", "var(--s1)", [(n, a) for n, a in figures["live"]]),
        ("all tasks begun", "var(--s0)", [(look["events"], look["accuracy"]) for look in figures["looks"]]),
    ]
    about = (
        "Accuracy on held-out events of all tasks begun so far, whose mean over events is the any-time "
        "accuracy; "
        "and of live forecasts, each made before its label was known."
    )
    if "shuffled" in figures:
        looks = figures["shuffled"]["looks"]
        lines.append(("shuffled", "var(--s5)", [(look["events"], look["accuracy"]) for look in looks]))
        about += " Shuffled: the same learner where all tasks come mixed, on all of them."
    drawn = lines_over(
        figures["events"], figures["part_events"], lines, "Any-time and live accuracy over the stream"
    )
    return _section("At any time", about, drawn)


def _switches(figures: Mapping[str, Any]) -> str:
    if not figures["switches"]:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{escape(visits(switch))}</th><td>{switch["switches"]}</td>'
        f"<td>{number(switch['accuracy_before'], 3)}</td>"
        f"<td>{'never' if switch['recovery'] is None else number(switch['recovery'])}</td>"
        f"<td>{number(switch['shortfall'], 1)}</td></tr>"
        for switch in figures["switches"]
    )
    about = (
        "Events until live accuracy over the next 50 is back at 95 % of what it was before the switch, in the "
        "mean "
        "over switches; and right answers missing in the 1,000 events after one, against the accuracy before."
    )
    heads = ("of a task", "switches", "accuracy before", "events to recover", "right answers missing")
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return _section("After a switch", about, table, "card scroll")


def _all(figures: Mapping[str, Any]) -> str:
    parts = {"in tasks": figures, **({"shuffled": figures["shuffled"]} if "shuffled" in figures else {})}
    table = {
        label: [_told(part, name) for part in parts.values()]
        for name, label in SHOWN.items()
        if figures.get(name) is not None
    }
    table["µs per event"] = [number(part["us_per_event"], 0) for part in parts.values()]
    table["memory"] = [size(part["memory_bytes"]) for part in parts.values()]
    head = "".join(f'<th scope="col">{dot(0 if name == "in tasks" else 5)}{name}</th>' for name in parts)
    rows = "".join(
        f'<tr><th scope="row">{escape(label)}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'
        for label, cells in table.items()
    )
    return (
        '<h2>All figures</h2><div class="card scroll"><table><thead><tr><th scope="col"></th>'
        f"{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _told(part: Mapping[str, Any], name: str) -> str:
    spread = part.get("spread", {})
    return number(part.get(name)) + (f" ± {number(spread[name])}" if name in spread else "")
