"""What `evaluate` and `compare` do first and last: check options, open the stream, tell doubts, write files."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import typer

if TYPE_CHECKING:
    from engine.evaluate.doubts import Doubts
    from streams.table import Table


def task_asked(task: str | None) -> Literal["classification", "regression"] | None:
    """What `--task` says; anything else ends the command."""
    if task == "classification":
        return "classification"
    if task == "regression":
        return "regression"
    if task is not None:
        fail(f"--task {task}: expected classification or regression")
    return None


def keys_of(key: Sequence[str] | None) -> tuple[list[str], tuple[str | tuple[str, ...], ...]]:
    """The columns that `--key` names, sorted, and the learner's keys: "a,b" is the pair (a, b).

    >>> keys_of(["carrier", "carrier,origin"])
    (['carrier', 'origin'], ('carrier', ('carrier', 'origin')))
    """
    keys = tuple(tuple(part.split(",")) if "," in part else part for part in key or ())
    fields = {name for part in keys for name in ((part,) if isinstance(part, str) else part)}
    return sorted(fields), keys


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
    from streams.images import FORMAT, NAMED
    from streams.table import check_column

    if stream in NAMED or stream.lower().endswith(FORMAT):
        fail(f"{stream} is an image set, its events have no order of their own; add --scenario NAME")

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
                    fail(
                        f"{stream} is a built-in stream, its columns are fixed; leave out {', '.join(given)}"
                    )
                for column in key:
                    check_column(stream, column, table.columns, "key")
        except StreamError as error:
            fail(str(error))
    for warning in messy:
        typer.secho(f"Note: {warning.message}", err=True, fg=typer.colors.YELLOW)
    labels = table.labels()
    if not any(label is not None for label in labels):
        shown = ", ".join(table.columns[:30])
        if target is None:
            fail(f"{stream}: no target is named; add --target with one of these columns: {shown}")
        fail(f"{stream}: the target {target!r} is missing in every row; expected labels, such as in: {shown}")
    if (task or table.task) == "regression":
        text = next((label for label in labels if isinstance(label, str | bool)), None)
        if text is not None:
            fail(
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


def fail(message: str) -> NoReturn:
    """End the command with one line on standard error and exit code 2."""
    typer.secho(f"Error: {message}", err=True, fg=typer.colors.RED)
    raise typer.Exit(2)


def write_json(path: Path, figures: dict[str, Any]) -> None:
    """Write what `--json` asks for."""
    write_text("--json", path, json.dumps(figures, indent=1, ensure_ascii=False) + "\n")


def write_page(path: Path, report: dict[str, Any], json_file: Path | None) -> None:
    """Write what `--html` asks for, from a report in the form of `engine.evaluate.report`."""
    from engine.evaluate.page import render

    write_text("--html", path, render(report, json_name=json_file.name if json_file else None))


def write_text(option: str, path: Path, text: str) -> None:
    """Write a file and the folders above it; where that cannot be the command ends with a clear line."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        fail(f"{option} {path}: the file cannot be written ({error}); choose another place")
