"""What `compare` prints: all learners, what lies between the engine and each, and what they cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from engine.evaluate.contest import ABOUT_INTERVALS, ENGINE
from engine.evaluate.report import RESERVED
from engine.evaluate.words import number

_FIGURES = {
    "classification": ("accuracy", "log_loss", "kappa_temporal", "balanced_accuracy"),
    "regression": ("mae", "rmse", "r2"),
}
_GAPS = {"classification": ("accuracy", "log_loss"), "regression": ("mae", "squared_error")}


def show(report: Mapping[str, Any], console: Console | None = None) -> None:
    """Print the tables, best first, and which peers failed."""
    console = console or Console()
    stream = report["stream"]
    learners = {name: part for name, part in report.items() if name not in RESERVED}
    sign = 1 if stream["headline"] == "mae" else -1
    order = sorted(learners, key=lambda name: sign * float(learners[name][stream["headline"]]))
    console.print(_standing(learners, order, stream))
    if report["intervals"]:
        console.print(_gaps(report["intervals"], stream["task"]))
    console.print(_costs(learners, order))
    for name in order:
        part = learners[name]
        if "chosen" in part:
            told = f"{name}: {part['chosen']}, the best of {len(part['tried'])} in hindsight."
            console.print(Text(told, style="dim"))
    for name, reason in report["failed"].items():
        console.print(Text(f"{name} failed: {reason}", style="red"))


def _grid(title: str, first: str, columns: tuple[str, ...]) -> Grid:
    grid = Grid(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    grid.add_column(first, no_wrap=True)
    for name in columns:
        grid.add_column(name, justify="right", no_wrap=True)
    return grid


def _standing(learners: Mapping[str, Any], order: list[str], stream: Mapping[str, Any]) -> Grid:
    figures = _FIGURES[stream["task"]]
    seeds = f", means of {stream['seeds']} seeds" if stream["seeds"] > 1 else ""
    title = f"{stream['name']}, {number(stream['events'])} events{seeds}"
    grid = _grid(title, "learner", tuple(name.replace("_accuracy", "").replace("_", " ") for name in figures))
    for name in order:
        cells = (number(learners[name][figure]) for figure in figures)
        grid.add_row(name, *cells, style="bold" if name == ENGINE else None)
    return grid


def _gaps(intervals: Mapping[str, Any], task: str) -> Grid:
    names = _GAPS[task]
    title = "everlearn less the peer, ± half of a 95 % interval"
    grid = _grid(title, "peer", tuple(name.replace("_", " ") for name in names))
    for peer, gaps in intervals.items():
        grid.add_row(peer, *(_gap(gaps[name]) for name in names))
    grid.caption, grid.caption_justify = ABOUT_INTERVALS, "left"
    return grid


def _gap(gap: Mapping[str, float | None]) -> str:
    middle, half = gap["difference"], gap["half_width"]
    if middle is None:
        return "–"
    sign = "+" if middle >= 0.0 else ""
    return f"{sign}{number(middle)}" + (f" ± {number(half)}" if half is not None else "")


def _costs(learners: Mapping[str, Any], order: list[str]) -> Grid:
    grid = _grid("Cost per event", "learner", ("events/s", "µs p50", "p99", "p99.9", "MB"))
    for name in order:
        part = learners[name]
        memory, latency = part["memory_bytes"], part["latency_us"]
        grid.add_row(
            name,
            number(part["events_per_second"], 0),
            *(number(latency[q], 0) for q in ("p50", "p99", "p99.9")),
            number(None if memory is None else memory / 1e6, 1),
        )
    return grid
