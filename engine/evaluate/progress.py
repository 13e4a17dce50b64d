"""Progress bars of `evaluate` and `compare`: the rows so far, and the figure that counts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress

    from engine.evaluate.metrics import Task


@contextmanager
def bars() -> Iterator[Progress]:
    """Bars on stderr where that is a terminal, once the kernels are there: compiled here, by one process."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from engine.learner import warmup

    console = Console(stderr=True)
    with console.status("loading the kernels"):
        warmup()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f} of {task.total:,.0f}  {task.fields[figure]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as shown:
        yield shown


def figure(task: Task, value: float | None) -> str:
    """The headline so far, as a bar shows it.

    >>> figure("regression", 0.5), figure("classification", None)
    ('mae 0.5000', '')
    """
    from engine.evaluate.metrics import HEADLINE

    return "" if value is None else f"{HEADLINE[task]} {value:.4f}"
