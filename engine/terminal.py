"""What a run shows while it works: a live table on a terminal, plain lines anywhere else."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from engine.evaluate.words import moment, number

if TYPE_CHECKING:
    from rich.console import Console, RenderableType


_OF_CLASSES = (("accuracy", "accuracy"), ("AUC", "roc_auc"), ("log loss", "log_loss"))
_OF_VALUES = (("MAE", "mae"), ("RMSE", "rmse"), ("R²", "r2"))


@dataclass(frozen=True)
class Row:
    """One learner's figures so far; None where a figure is not known. mae, rmse, r2: of a regression."""

    title: str
    labels: int
    accuracy: float | None
    roc_auc: float | None
    log_loss: float | None
    events_per_second: float | None
    task: str = "classification"
    mae: float | None = None
    rmse: float | None = None
    r2: float | None = None

    @classmethod
    def of(cls, title: str, figures: dict[str, Any], events_per_second: float | None) -> Row:
        """The row of one `PrequentialMetrics.result()`."""
        known = {name: figures.get(name) for _, name in (*_OF_CLASSES, *_OF_VALUES)}
        task = figures.get("task", "classification")
        return cls(title, int(figures["events"]), events_per_second=events_per_second, task=task, **known)

    @property
    def measures(self) -> dict[str, float | None]:
        """What tells how good it is, by the words it has in a table: of classes, or of values.

        >>> Row.of("everlearn", {"events": 9, "task": "regression", "mae": 0.5}, None).measures
        {'MAE': 0.5, 'RMSE': None, 'R²': None}
        """
        names = _OF_VALUES if self.task == "regression" else _OF_CLASSES
        return {word: getattr(self, name) for word, name in names}


@dataclass(frozen=True)
class Progress:
    """What is shown at a moment; time: event time in seconds, total: the labels to come, 0 for no end."""

    rows: list[Row]
    total: int = 0
    time: float | None = None
    experts: dict[str, float] = field(default_factory=dict)
    drifts: int = 0
    last_drift: float | None = None


class View(Protocol):
    """Where a run tells of itself."""

    def say(self, text: str) -> None:
        """One line that stays."""

    def show(self, progress: Progress) -> None:
        """How it stands now; may be dropped where it comes too often."""

    def close(self) -> None:
        """Nothing further is shown."""


class PlainView:
    """Lines of text, one per learner; one call of `show` in `every` comes through, and the last."""

    def __init__(self, console: Console, every: int = 10) -> None:
        self._console, self._every, self._calls = console, every, 0
        self._held: Progress | None = None
        self._said: set[str] = set()

    def say(self, text: str) -> None:
        """One line."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def show(self, progress: Progress) -> None:
        """One line per learner."""
        self._held = progress
        if self._calls % self._every == 0:
            self.close()
        self._calls += 1

    def close(self) -> None:
        """Let the last `show` through, if it was held back."""
        if self._held is not None:
            for row in self._held.rows:
                text = line(row, self._held.total)
                if text not in self._said:  # who is finished says so once
                    self.say(text)
            self._said = {line(row, self._held.total) for row in self._held.rows}
        self._held = None


class LiveView:
    """A table that is drawn anew in its place."""

    def __init__(self, console: Console) -> None:
        from rich.live import Live

        self._live = Live(console=console, auto_refresh=False, transient=False)
        self._started = False
        self._console = console

    def say(self, text: str) -> None:
        """One line above the table."""
        self._console.print(text, highlight=False, markup=False)

    def show(self, progress: Progress) -> None:
        """Draw the table anew."""
        if not self._started:
            self._live.start()
            self._started = True
        self._live.update(drawn(progress), refresh=True)

    def close(self) -> None:
        """Leave the table as it was drawn last."""
        if self._started:
            self._live.stop()
            self._started = False


def open_view() -> View:
    """The view that fits where standard output goes."""
    from rich.console import Console

    console = Console()
    return LiveView(console) if console.is_terminal else PlainView(console)


def line(row: Row, total: int) -> str:
    """One learner as a line of text.

    >>> line(Row("everlearn", 500, 0.8, 0.7, 0.45, None), 1000)
    'everlearn: 500 of 1,000 labels, accuracy 0.8000, AUC 0.7000, log loss 0.4500, – events/s'
    """
    end = f" of {number(total)}" if total else ""
    measures = ", ".join(f"{word} {number(value)}" for word, value in row.measures.items())
    speed = number(row.events_per_second, 0)
    return f"{row.title}: {number(row.labels)}{end} labels, {measures}, {speed} events/s"


def drawn(progress: Progress) -> RenderableType:
    """The figures as a table, the experts' weights as bars below it."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(expand=False)
    table.add_column("")
    measures = [word for row in progress.rows[:1] for word in row.measures]  # all rows are of one task
    for head in ("labels", *measures, "events/s", "done"):
        table.add_column(head, justify="right")
    for row in progress.rows:
        share = f"{row.labels / progress.total:.0%}" if progress.total else "–"
        table.add_row(
            row.title,
            number(row.labels),
            *(number(value) for value in row.measures.values()),
            number(row.events_per_second, 0),
            share,
        )
    when = "" if progress.time is None else f"stream time {moment(progress.time)} UTC   "
    last = "" if progress.last_drift is None else f", the last at {moment(progress.last_drift)}"
    parts: list[RenderableType] = [table, Text(f"{when}drifts {progress.drifts}{last}")]
    if progress.experts:
        parts.append(Text("experts' weights"))
        longest = max(len(name) for name in progress.experts)
        for name, weight in sorted(progress.experts.items(), key=lambda item: -item[1]):
            bar = "█" * max(0, round(30 * weight))
            parts.append(Text(f"  {name:<{longest}}  {weight:6.3f} {bar}"))
    return Group(*parts)
