"""`everlearn evaluate STREAM --scenario NAME`: the engine over a scenario, once per seed; figures, JSON "
"and page."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import typer

from engine.evaluate.continual.course import Course, follow
from engine.evaluate.continual.drawing import Asked
from engine.evaluate.continual.scenarios import make
from engine.evaluate.continual.shown import SHOWN, together, visits
from engine.evaluate.continual.tasks import Examples, Scenario, ScenarioError
from engine.evaluate.opening import fail, open_stream, write_json

if TYPE_CHECKING:
    from streams.images import ImageSet


def image_set(stream: str) -> bool:
    """Whether STREAM is one: a built-in name, or a `.npz` file."""
    from streams.images import FORMAT, NAMED

    return stream in NAMED or stream.lower().endswith(FORMAT)


def examples_of(
    stream: str,
    *,
    target: str | None = None,
    ignore: Sequence[str] = (),
    domain: str | None = None,
    limit: int | None = None,
) -> Examples:
    """The examples behind a built-in name or a file; where there are none the command ends with a clear line."""
    from streams.errors import StreamError, TableError
    from streams.images import NAMED, load_images, read_images
    from streams.table import check_column

    if image_set(stream):
        given = {"--target": target, "--ignore": ignore, "--domain": domain}
        named = ", ".join(option for option, value in given.items() if value)
        if named:
            fail(f"{stream} is an image set, it has no columns; leave out {named}")
        try:
            return _of_images(load_images(stream) if stream in NAMED else read_images(stream), limit)
        except StreamError as error:
            fail(str(error))
    table = open_stream(stream, target=target, ignore=ignore)
    if table.task == "regression":
        fail(
            f"{stream}: the target has fractions, it is a number to forecast; a scenario expects classes: write "
            "ranges of the target into a column and name that with --target"
        )
    rows = len(table) if limit is None else min(limit, len(table))
    labels: list[Any] = table.labels()[:rows]
    known = [i for i, label in enumerate(labels) if label is not None]
    if len(known) < rows:
        typer.secho(f"Note: {rows - len(known)} rows have no label and are left out", err=True)
    if domain is not None:
        try:
            check_column(table.name, domain, table.columns, "domain")
        except TableError as error:
            fail(str(error))
    kept = [labels[i] for i in known]
    values: list[Hashable] | None = None
    if domain is not None:
        column = [row.x[domain] for row in table.rows(0, rows) if row.y is not None]
        values = [int(v) if isinstance(v, float) and v.is_integer() else v for v in column]
        gone = sum(v is None or v != v for v in values)
        if gone:
            fail(f"{table.name}: {domain} is missing in {gone} rows; expected the task of every row in it")
    X = table.arrays().X
    if X is not None:
        X = X[known] if domain is None else np.delete(X[known], table.columns.index(domain), axis=1)
        return Examples(table.name, X, kept, domain=values)
    events = [
        {name: value for name, value in row.x.items() if name != domain}
        for row in table.rows(0, rows)
        if row.y is not None
    ]
    return Examples(table.name, events, kept, domain=values)


def _of_images(images: ImageSet, limit: int | None) -> Examples:
    """The set's examples; limit: only so many of those to be learned, and all that are held out."""
    labels: list[Hashable] = list(images.labels)
    if limit is None:
        return Examples(images.name, images.X, labels, images.held_out)
    held = np.zeros(len(images), np.bool_) if images.held_out is None else images.held_out
    rows = np.sort(np.concatenate([np.flatnonzero(~held)[:limit], np.flatnonzero(held)]))
    kept = None if images.held_out is None else held[rows]
    return Examples(images.name, images.X[rows], [labels[i] for i in rows], kept)


def run_scenario(
    name: str,
    examples: Examples,
    asked: Asked,
    *,
    seeds: Sequence[int],
    shuffled: bool,
    options: dict[str, Any],
    json_file: Path | None,
    html_file: Path | None,
) -> None:
    """Run the engine over the scenario once per seed, beside it over the shuffled events; show and write "
    "figures."""
    from engine.evaluate.opening import write_text

    try:
        scenarios = [make(name, examples, asked, seed) for seed in seeds]
        mixed = [scenario.shuffled(seed) for scenario, seed in zip(scenarios, seeds, strict=True) if shuffled]
    except ScenarioError as error:
        fail(str(error))
    found = together(_courses(scenarios, seeds, options, ordered=True))
    figures: dict[str, Any] = {
        "stream": examples.name,
        "scenario": name,
        "tasks": list(scenarios[0].tasks),
        "order": list(scenarios[0].order),
        "part_events": [len(part) for part in scenarios[0].parts],
        "classes": scenarios[0].classes,
        "seeds": list(seeds),
        **options,
        **found,
    }
    if shuffled:
        figures["shuffled"] = together(_courses(mixed, seeds, options, ordered=False))
    if json_file is not None:
        write_json(json_file, figures)
    if html_file is not None:
        from engine.evaluate.continual.page import render

        write_text("--html", html_file, render(figures, json_name=json_file.name if json_file else None))
    _show(figures)
    for what, file in (("figures", json_file), ("page", html_file)):
        if file is not None:
            typer.echo(f"{what}: {file}")


def _courses(
    scenarios: Sequence[Scenario], seeds: Sequence[int], options: dict[str, Any], *, ordered: bool
) -> list[Course]:
    from engine.evaluate.progress import bars
    from engine.learner import OnlineClassifier

    courses = []
    with bars() as bar:
        for scenario, seed in zip(scenarios, seeds, strict=True):
            what = scenario.name if ordered else "shuffled"
            line = bar.add_task(
                f"{what}, seed {seed}", total=sum(len(part) for part in scenario.parts), figure=""
            )

            def progress(done: int, live: float, line: Any = line) -> None:
                bar.update(line, completed=done, figure=f"accuracy {live:.4f}")

            try:
                model = OnlineClassifier(seed=seed, **options)
                courses.append(follow(model, scenario, ordered=ordered, progress=progress))
            except (TypeError, ValueError) as error:
                fail(f"{scenario.examples.name}: {error}")
    return courses


def _show(figures: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table as Grid

    from engine.evaluate.words import number, size

    beside = figures.get("shuffled")
    spread = figures.get("spread", {})
    grid = Grid(title=f"everlearn on {figures['stream']}, {figures['scenario']}", title_justify="left")
    grid.add_column("", style="dim")
    grid.add_column("in tasks", justify="right")
    if beside:
        grid.add_column("shuffled", justify="right")

    def row(label: str, *cells: str) -> None:
        grid.add_row(label, *cells[: 2 if beside else 1])

    row("tasks", str(len(figures["tasks"])), "")
    row("events", number(figures["events"]), number(beside["events"]) if beside else "")
    for name, label in SHOWN.items():
        text = number(figures.get(name)) + (f" ± {number(spread[name])}" if name in spread else "")
        row(label, text, number(beside.get(name)) if beside else "")
    for switch in figures["switches"]:
        soon = "never" if switch["recovery"] is None else number(switch["recovery"])
        row(f"events to recover, {visits(switch)}", soon, "")
    row("µs per event", *(number(part["us_per_event"], 0) for part in (figures, beside) if part))
    row("memory", *(size(part["memory_bytes"]) for part in (figures, beside) if part))
    Console().print(grid)
