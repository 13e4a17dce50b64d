"""Options of `evaluate` and `compare`, and those of a scenario."""

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

# -- a scenario ----------------------------------------------------------------------------------------------

Scenario = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Tasks one after the other: class-incremental, domain-incremental, permuted, recurring or blurry.",
    ),
]
Tasks = Annotated[int | None, typer.Option(metavar="N", help="How many tasks a scenario has.")]
ClassesPerTask = Annotated[
    int | None, typer.Option(metavar="N", help="Classes that a task brings.  [default: 2]")
]
TestShare = Annotated[
    float | None, typer.Option(metavar="SHARE", help="Held out of each task's classes.  [default: 0.2]")
]
EventsPerTask = Annotated[int | None, typer.Option(metavar="N", help="At most so many events of each task.")]
Visits = Annotated[
    int | None, typer.Option(metavar="N", help="How often each recurring concept comes.  [default: 4]")
]
Blur = Annotated[
    float | None,
    typer.Option(metavar="SHARE", help="Of a blurry task's events, come in others.  [default: 0.1]"),
]
Domain = Annotated[str | None, typer.Option(metavar="COLUMN", help="Its values are a scenario's tasks.")]
Seeds = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Run a scenario so often, mean and spread.")
]
Shuffled = Annotated[
    bool, typer.Option("--shuffled", help="Beside a scenario: the same events with all tasks mixed.")
]
