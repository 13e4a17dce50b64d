"""`everlearn evaluate`: the engine alone over a stream, test then train; figures as JSON and as a table."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer

if TYPE_CHECKING:
    from engine.evaluate.doubts import Doubts
    from engine.evaluate.prequential import Evaluation
    from streams.table import Table

SHOWN = {
    "classification": ("accuracy", "log_loss", "kappa_temporal", "balanced_accuracy", "roc_auc"),
    "regression": ("mae", "rmse", "r2"),
}


def evaluate(
    stream: Annotated[
        str, typer.Argument(metavar="STREAM", help="A built-in stream, or a CSV, Parquet or JSON-lines file.")
    ],
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the figures here.")
    ] = None,
    target: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="The column to forecast; needed for a file.")
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            help="classification or regression; without it regression where the target has fractions."
        ),
    ] = None,
    ignore: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="Leave this column out; may be repeated.")
    ] = None,
    time: Annotated[str | None, typer.Option(metavar="COLUMN", help="When each event happened.")] = None,
    label_time: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="When its label was known; it is learned then.")
    ] = None,
    key: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="Names an entity; a,b for a pair; may be repeated."),
    ] = None,
    weight: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="What each row counts, in learning and in the figures."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of all randomness.")] = 0,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first rows.")] = None,
    delay: Annotated[int, typer.Option(min=0, metavar="N", help="Learn each label N events later.")] = 0,
    label_history: Annotated[
        bool, typer.Option("--label-history", help="Let forecasts read the labels just before.")
    ] = False,
) -> None:
    """Run the engine over STREAM once: forecast each event, then learn its label."""
    if task not in (None, *SHOWN):
        _fail(f"--task {task}: expected classification or regression")
    keys = [tuple(part.split(",")) if "," in part else part for part in key or []]
    table = open_stream(
        stream,
        target=target,
        task="regression" if task == "regression" else "classification" if task else None,
        ignore=ignore or [],
        time=time,
        label_time=label_time,
        weight=weight,
        key=sorted({name for part in keys for name in ([part] if isinstance(part, str) else part)}),
    )
    options: dict[str, Any] = {"seed": seed, "label_history": label_history}
    if keys:
        options["keys"] = tuple(keys)
    found = doubts_about(table, limit)
    run = _run(table, task or table.task, options, limit, delay)
    figures = {**fields(table, run, seed, label_history), "delay": delay, **found.fields()}
    if json_file is not None:
        try:
            json_file.parent.mkdir(parents=True, exist_ok=True)
            json_file.write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        except OSError as error:
            _fail(f"--json {json_file}: the file cannot be written ({error}); choose another place")
    _show(figures, json_file)


def open_stream(
    stream: str,
    *,
    target: str | None = None,
    task: Literal["classification", "regression"] | None = None,
    ignore: Sequence[str] = (),
    time: str | None = None,
    label_time: str | None = None,
    key: Sequence[str] = (),
    weight: str | None = None,
) -> Table:
    """The table behind a built-in name or a file; where there is none the command ends with a clear line."""
    from streams import datasets
    from streams.errors import MessyTable, StreamError
    from streams.files import FORMATS, read_table
    from streams.table import check_column

    with warnings.catch_warnings(record=True) as messy:
        warnings.simplefilter("always", MessyTable)
        try:
            path = Path(stream)
            if path.exists() or len(path.parts) > 1 or stream.lower().endswith(FORMATS):
                columns: dict[str, Any] = {"time": time, "label_time": label_time, "weight": weight}
                table = read_table(path, target, ignore=ignore, key=key, task=task, **columns)
            else:
                table = datasets.load(stream)
                asked: dict[str, Any] = {"target": target, "time": time, "label-time": label_time}
                asked |= {"weight": weight, "ignore": ignore}
                given = [f"--{name}" for name, value in asked.items() if value]
                if given:
                    _fail(
                        f"{stream} is a built-in stream, its columns are fixed; leave out {', '.join(given)}"
                    )
                for column in key:
                    check_column(stream, column, table.columns, "key")
        except StreamError as error:
            _fail(str(error))
    for warning in messy:
        typer.secho(f"Note: {warning.message}", err=True, fg=typer.colors.YELLOW)
    labels = table.labels()
    if not any(label is not None for label in labels):
        shown = ", ".join(table.columns[:30])
        if target is None:
            _fail(f"{stream}: no target is named; add --target with one of these columns: {shown}")
        _fail(
            f"{stream}: the target {target!r} is missing in every row; expected labels, such as in: {shown}"
        )
    if (task or table.task) == "regression":
        text = next((label for label in labels if isinstance(label, str | bool)), None)
        if text is not None:
            _fail(
                f"{stream}: the target holds {text!r}; --task regression expects numbers, "
                "use --task classification"
            )
    return table


def doubts_about(table: Table, limit: int | None) -> Doubts:
    """What to doubt about the rows that are evaluated, told on standard error."""
    from engine.evaluate.doubts import doubts

    found = doubts(table, limit)
    for sentence in found.sentences():
        typer.secho(f"Note: {sentence}", err=True, fg=typer.colors.YELLOW)
    return found


def _fail(message: str) -> NoReturn:
    typer.secho(f"Error: {message}", err=True, fg=typer.colors.RED)
    raise typer.Exit(2)


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
            _fail(f"{table.name}: {error}")


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
