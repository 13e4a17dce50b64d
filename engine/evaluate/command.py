"""`everlearn evaluate`: the engine alone over a stream, test then train; figures as JSON and as a table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.evaluate import asked
from engine.evaluate.opening import doubts_about, fail, keys_of, open_stream, task_asked, write_text

if TYPE_CHECKING:
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
) -> None:
    """Run the engine over STREAM once: forecast each event, then learn its label."""
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
        write_text("--json", json_file, json.dumps(figures, indent=1, ensure_ascii=False) + "\n")
    if html_file is not None:
        from engine.evaluate.page import render

        page = as_report(table, figures, found.sentences())
        write_text("--html", html_file, render(page, json_name=json_file.name if json_file else None))
    _show(figures, json_file)
    if html_file is not None:
        typer.echo(f"page: {html_file}")


def as_report(table: Table, figures: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    """The figures in the form of `engine.evaluate.report`; notes: what to doubt about them."""
    asked_for = ("seed", "delay", "label_history", "unreadable_values")
    stream = {name: figures[name] for name in asked_for if figures[name]}
    about = {
        "name": table.name,
        "events": figures["events"],
        "target": table.target,
        "features": list(table.columns),
        "headline": "mae" if figures["task"] == "regression" else "accuracy",
        "notes": notes,
    }
    return {"everlearn": figures, "stream": about | stream}


def _run(table: Table, task: str, options: dict[str, Any], limit: int | None, delay: int) -> Evaluation:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from engine.evaluate.metrics import PrequentialMetrics
    from engine.evaluate.prequential import evaluate as prequential
    from engine.learner import OnlineClassifier, OnlineRegressor, warmup

    console = Console(stderr=True)
    with console.status("loading the kernels"):
        warmup()
    regression = task == "regression"
    field = "mae" if regression else "accuracy"
    rows = len(table) if limit is None else min(limit, len(table))
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f} of {task.total:,.0f}  {task.fields[figure]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        line = bar.add_task(table.name, total=rows, figure="")

        def progress(done: int, metrics: PrequentialMetrics) -> None:
            value = metrics.headline()
            bar.update(line, completed=done, figure="" if value is None else f"{field} {value:.4f}")

        try:
            model = OnlineRegressor(**options) if regression else OnlineClassifier(**options)
            return prequential(
                model,
                table,
                task="regression" if regression else "classification",
                limit=limit,
                delay=delay,
                progress=progress,
            )
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
