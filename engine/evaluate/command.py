"""`everlearn evaluate`: the engine alone over a stream, test then train; figures as JSON and as a table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.evaluate import asked
from engine.evaluate.opening import (
    doubts_about,
    fail,
    keys_of,
    open_stream,
    task_asked,
    write_json,
    write_page,
)

if TYPE_CHECKING:
    from engine.evaluate.metrics import Task
    from engine.evaluate.prequential import Evaluation
    from streams.table import Table

SHOWN = {
    "classification": ("accuracy", "log_loss", "kappa_temporal", "balanced_accuracy", "roc_auc"),
    "regression": ("mae", "rmse", "r2"),
}


def evaluate(
    stream: asked.Stream,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the figures here.")
    ] = None,
    html_file: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write a page with plots here.")
    ] = None,
    target: asked.Target = None,
    task: asked.Task = None,
    ignore: asked.Ignore = None,
    time: asked.Time = None,
    label_time: asked.LabelTime = None,
    key: asked.Key = None,
    weight: asked.Weight = None,
    seed: asked.Seed = 0,
    limit: asked.Limit = None,
    delay: asked.Delay = 0,
    label_history: asked.LabelHistory = False,
    scenario: asked.Scenario = None,
    tasks: asked.Tasks = None,
    classes_per_task: asked.ClassesPerTask = None,
    test_share: asked.TestShare = None,
    events_per_task: asked.EventsPerTask = None,
    visits: asked.Visits = None,
    blur: asked.Blur = None,
    domain: asked.Domain = None,
    seeds: asked.Seeds = None,
    shuffled: asked.Shuffled = False,
) -> None:
    """Run the engine over STREAM once: forecast each event, then learn its label.

    With --scenario over tasks made from STREAM, one after the other: what is left of the earlier ones.
    """
    of_a_scenario = {
        "tasks": tasks,
        "classes_per_task": classes_per_task,
        "test_share": test_share,
        "events_per_task": events_per_task,
        "visits": visits,
        "blur": blur,
        "domain": domain,
        "seeds": seeds,
        "shuffled": shuffled or None,
    }
    if scenario is not None:
        beside = {
            "time": time,
            "label-time": label_time,
            "key": key,
            "weight": weight,
            "delay": delay or None,
        }
        _only(beside, "a scenario's labels are known at once and count alike")
        if task_asked(task) == "regression":
            fail("--task regression: a scenario expects classes; leave it out")
        _scenario(
            scenario,
            stream,
            {name: value for name, value in of_a_scenario.items() if value is not None},
            options={"label_history": label_history},
            seed=seed,
            files=(json_file, html_file),
            opened={"target": target, "ignore": ignore or [], "domain": domain, "limit": limit},
        )
        return
    _only(of_a_scenario, "it is about tasks: add --scenario NAME")
    fields_of_keys, keys = keys_of(key)
    table = open_stream(
        stream,
        target=target,
        task=task_asked(task),
        ignore=ignore or [],
        time=time,
        label_time=label_time,
        key=fields_of_keys,
        weight=weight,
    )
    options: dict[str, Any] = {"seed": seed, "label_history": label_history}
    if keys:
        options["keys"] = keys
    found = doubts_about(table, limit)
    run = _run(table, task or table.task, options, limit, delay)
    figures = {**fields(table, run, seed, label_history), "delay": delay, **found.fields()}
    if json_file is not None:
        write_json(json_file, figures)
    if html_file is not None:
        write_page(html_file, as_report(table, figures, found.sentences()), json_file)
    _show(figures, json_file)
    if html_file is not None:
        typer.echo(f"page: {html_file}")


def _only(options: dict[str, Any], reason: str) -> None:
    """End the command where one of these options is given."""
    for name, value in options.items():
        if value is not None:
            fail(f"--{name.replace('_', '-')} is given; {reason}, or leave it out")


def _scenario(
    name: str,
    stream: str,
    given: dict[str, Any],
    *,
    options: dict[str, Any],
    seed: int,
    files: tuple[Path | None, Path | None],
    opened: dict[str, Any],
) -> None:
    from engine.evaluate.continual.command import examples_of, run_scenario
    from engine.evaluate.continual.drawing import Asked

    seeds, shuffled = given.pop("seeds", 1), given.pop("shuffled", False)
    given.pop("domain", None)
    run_scenario(
        name,
        examples_of(stream, **opened),
        Asked(**given),
        seeds=range(seed, seed + seeds),
        shuffled=shuffled,
        options=options,
        json_file=files[0],
        html_file=files[1],
    )


def as_report(table: Table, figures: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    """The figures in the form of `engine.evaluate.report`; notes: what to doubt about them."""
    from engine.evaluate.metrics import HEADLINE

    asked_for = ("seed", "delay", "label_history", "unreadable_values")
    stream = {name: figures[name] for name in asked_for if figures[name]}
    about = {
        "name": table.name,
        "events": figures["events"],
        "target": table.target,
        "features": list(table.columns),
        "headline": HEADLINE[figures["task"]],
        "notes": notes,
    }
    return {"everlearn": figures, "stream": about | stream}


def _run(table: Table, task: str, options: dict[str, Any], limit: int | None, delay: int) -> Evaluation:
    from engine.evaluate.metrics import PrequentialMetrics
    from engine.evaluate.prequential import evaluate as prequential
    from engine.evaluate.progress import bars, figure
    from engine.learner import OnlineClassifier, OnlineRegressor

    kind: Task = "regression" if task == "regression" else "classification"
    rows = len(table) if limit is None else min(limit, len(table))
    with bars() as bar:
        line = bar.add_task(table.name, total=rows, figure="")

        def progress(done: int, metrics: PrequentialMetrics) -> None:
            bar.update(line, completed=done, figure=figure(kind, metrics.headline()))

        try:
            model = OnlineRegressor(**options) if kind == "regression" else OnlineClassifier(**options)
            return prequential(model, table, task=kind, limit=limit, delay=delay, progress=progress)
        except (TypeError, ValueError) as error:
            fail(f"{table.name}: {error}")


def fields(table: Table, run: Evaluation, seed: int, label_history: bool) -> dict[str, Any]:
    """What `--json` writes: the figures at the top level, plain JSON values."""
    from engine.evaluate.report import as_json

    found: dict[str, Any] = as_json(
        {
            "stream": table.name,
            "seed": seed,
            "label_history": label_history,
            "unreadable_values": table.unreadable,
            **run.result(),
            "curve": run.metrics.curve(),
        }
    )
    return found


def _show(figures: dict[str, Any], json_file: Path | None) -> None:
    from rich.console import Console
    from rich.table import Table as Grid

    from engine.evaluate.words import number

    grid = Grid(title=f"everlearn on {figures['stream']}", show_header=False, title_justify="left")
    grid.add_column(style="dim")
    grid.add_column(justify="right")
    grid.add_row("events", number(figures["events"]))
    for field in SHOWN[figures["task"]]:
        grid.add_row(field.replace("_", " "), number(figures[field]))
    grid.add_row("events per second", number(figures["events_per_second"], 0))
    latency = figures["latency_us"]
    grid.add_row("µs per event, p50 / p99", f"{number(latency['p50'], 0)} / {number(latency['p99'], 0)}")
    for field in ("unlabelled", "unreadable_values"):
        if figures[field]:
            grid.add_row(field.replace("_", " "), number(figures[field]))
    Console().print(grid)
    if json_file is not None:
        typer.echo(f"figures: {json_file}")
