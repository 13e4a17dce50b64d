"""`everlearn compare`: the engine and its peers over the same rows, each in a process of its own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.evaluate import asked
from engine.evaluate.opening import doubts_about, fail, keys_of, open_stream, task_asked, write_text

if TYPE_CHECKING:
    from engine.evaluate.contest import Job
    from streams.table import Table


def compare(
    stream: asked.Stream,
    peers: Annotated[
        str | None,
        typer.Option(metavar="NAME,…", help="Which peers; without it a choice of eight, or six for numbers."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, metavar="N", help="Run everything with so many seeds.")] = 1,
    at_once: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="So many processes at once; all cores without it.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write all figures here.")
    ] = None,
    html_file: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write a report with plots here.")
    ] = None,
    target: asked.Target = None,
    task: asked.Task = None,
    ignore: asked.Ignore = None,
    time: asked.Time = None,
    label_time: asked.LabelTime = None,
    key: asked.Key = None,
    weight: asked.Weight = None,
    limit: asked.Limit = None,
    delay: asked.Delay = 0,
    label_history: asked.LabelHistory = False,
) -> None:
    """Run the engine and its peers over STREAM: each forecasts an event, then learns its label."""
    from engine.evaluate.contest import chosen, jobs_of, report_of

    fields, keys = keys_of(key)
    table = open_stream(
        stream,
        target=target,
        task=task_asked(task),
        ignore=ignore or [],
        time=time,
        label_time=label_time,
        key=fields,
        weight=weight,
    )
    kind = task_asked(task) or ("regression" if table.task == "regression" else "classification")
    if limit is not None and limit < len(table):
        table = table.slice(0, limit)
    doubts = doubts_about(table, None)
    labels = {label for label in table.labels() if label is not None}
    try:
        names = chosen([name.strip() for name in (peers or "").split(",") if name.strip()], kind, len(labels))
    except ValueError as error:
        fail(str(error))
    if delay and table.has_label_time:
        fail(f"--delay {delay}: {stream} has label times, which say when each label is known; leave it out")
    jobs = jobs_of(
        names,
        table,
        kind,
        seeds=range(seeds),
        delay=delay,
        history=label_history,
        options={"keys": keys} if keys else {},
    )
    results = _run(table, jobs, at_once or os.cpu_count() or 1)
    try:
        report = report_of(names, jobs, results)
    except RuntimeError as error:
        fail(f"{table.name}: {error}")
    report["stream"] |= doubts.fields() | {"notes": doubts.sentences(), "features": list(table.columns)}
    _write(report, json_file, html_file)


def _run(table: Table, jobs: list[Job], at_once: int) -> list[Any]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from engine.evaluate.contest import HEADLINE, judge
    from engine.evaluate.processes import run_all
    from engine.learner import warmup

    console = Console(stderr=True)
    with console.status("loading the kernels"):
        warmup()  # compiled once, here, and not by several processes
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f} of {task.total:,.0f}  {task.fields[figure]}"),
        TimeRemainingColumn(),
    )
    several = len({job.seed for job in jobs}) > 1
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        lines = [
            bar.add_task(
                f"{job.learner}, seed {job.seed}" if several else job.learner, total=len(table), figure=""
            )
            for job in jobs
        ]

        def tell(number: int, news: tuple[int, float | None]) -> None:
            rows, value = news
            name = HEADLINE[jobs[number].task]
            figure = "" if value is None else f"{name} {value:.4f}"
            bar.update(lines[number], completed=rows, figure=figure)

        return run_all(judge, jobs, at_once=at_once, tell=tell)


def _write(report: dict[str, Any], json_file: Path | None, html_file: Path | None) -> None:
    import json

    from engine.evaluate.standing import show

    show(report)
    if json_file is not None:
        write_text("--json", json_file, json.dumps(report, indent=1, ensure_ascii=False) + "\n")
        typer.echo(f"figures: {json_file}")
    if html_file is not None:
        from engine.evaluate.page import render

        write_text("--html", html_file, render(report, json_name=json_file.name if json_file else None))
        typer.echo(f"report: {html_file}")
