"""`everlearn evaluate`: the engine alone over a stream, test then train, its figures as JSON and as a table."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from engine.evaluate.prequential import Evaluation
    from streams.table import Table

FIGURES = {
    "classification": ("accuracy", "log_loss", "kappa_temporal", "balanced_accuracy", "roc_auc"),
    "regression": ("mae", "rmse", "r2"),
}


def evaluate(
    stream: Annotated[
        str,
        typer.Argument(
            metavar="STREAM", help="A built-in stream's name or a CSV, Parquet or JSON-lines file."
        ),
    ],
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the figures here.")
    ] = None,
    target: Annotated[str | None, typer.Option(metavar="COLUMN", help="The column to forecast.")] = None,
    task: Annotated[
        str | None,
        typer.Option(help="classification or regression; regression where the target has fractions."),
    ] = None,
    ignore: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="Leave this column out; may be repeated.")
    ] = None,
    time: Annotated[str | None, typer.Option(metavar="COLUMN", help="When the event happened.")] = None,
    label_time: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="When its label was known; it is learned then.")
    ] = None,
    key: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="Names an entity; a,b for a pair; may be repeated."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of all randomness.")] = 0,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first rows.")] = None,
    label_history: Annotated[
        bool, typer.Option("--label-history", help="Let forecasts read the labels just before.")
    ] = False,
) -> None:
    """Run the engine over STREAM once: forecast each event, then learn its label; print and keep the figures."""
    if task not in (None, *FIGURES):
        raise typer.BadParameter(f"{task!r}: expected classification or regression", param_hint="--task")
    keys = [tuple(part.split(",")) if "," in part else part for part in key or []]
    table = open_stream(
        stream,
        target=target,
        task=task,
        ignore=ignore or [],
        time=time,
        label_time=label_time,
        key=sorted({name for part in keys for name in ([part] if isinstance(part, str) else part)}),
    )
    options: dict[str, Any] = {"seed": seed, "label_history": label_history}
    if keys or table.key:
        options["keys"] = tuple(keys or table.key)
    run = _run(table, options, limit)
    figures = fields(table, run, seed, label_history)
    if json_file is not None:
        try:
            json_file.parent.mkdir(parents=True, exist_ok=True)
            json_file.write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        except OSError as error:
            _fail(f"--json {json_file}: the file cannot be written ({error}); choose another place")
    _show(table, figures, json_file)


def open_stream(
    stream: str,
    *,
    target: str | None = None,
    task: str | None = None,
    ignore: list[str] | None = None,
    time: str | None = None,
    label_time: str | None = None,
    key: list[str] | None = None,
) -> Table:
    """The table behind a built-in name or a file; ends the command with a clear line where there is none."""
    from streams.errors import TableError

    try:
        return _open(stream, target, task, ignore or [], time, label_time, key or [])
    except TableError as error:
        _fail(str(error))
        raise AssertionError from error  # never reached: _fail ends the command


def _fail(message: str) -> None:
    typer.secho(f"Error: {message}", err=True, fg=typer.colors.RED)
    raise typer.Exit(2)


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
