"""The options that `evaluate` and `compare` share."""

from __future__ import annotations

from typing import Annotated

import typer

Stream = Annotated[
    str, typer.Argument(metavar="STREAM", help="A built-in stream, or a CSV, Parquet or JSON-lines file.")
]
Target = Annotated[
    str | None, typer.Option(metavar="COLUMN", help="The column to forecast; needed for a file.")
]
Task = Annotated[
    str | None,
    typer.Option(help="classification or regression; without it regression where the target has fractions."),
]
Ignore = Annotated[
    list[str] | None, typer.Option(metavar="COLUMN", help="Leave this column out; may be repeated.")
]
Time = Annotated[str | None, typer.Option(metavar="COLUMN", help="When each event happened.")]
LabelTime = Annotated[
    str | None, typer.Option(metavar="COLUMN", help="When its label was known; it is learned then.")
]
Key = Annotated[
    list[str] | None,
    typer.Option(metavar="COLUMN", help="Names an entity; a,b for a pair; may be repeated."),
]
Weight = Annotated[
    str | None, typer.Option(metavar="COLUMN", help="What each row counts, in learning and in the figures.")
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of all randomness.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Only the first rows.")]
Delay = Annotated[int, typer.Option(min=0, metavar="N", help="Learn each label N events later.")]
LabelHistory = Annotated[
    bool, typer.Option("--label-history", help="Let forecasts read the labels just before.")
]
