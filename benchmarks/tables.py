"""What a benchmark found, as rows of a table: for the terminal, for docs/benchmarks, and as JSON."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.evaluate.report import as_json
from engine.evaluate.words import number

FOLDER = Path(__file__).parent.parent / "docs" / "benchmarks"


@dataclass
class Findings:
    """One benchmark's result: a title, what was done, rows (dicts of equal keys), and what follows from them.

    columns: column → digits to show; the first column is the row's name. below: further tables of the page.
    plot: a picture, as SVG, that stands above the table.
    """

    name: str
    title: str
    about: str
    columns: dict[str, int]
    rows: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    below: list[Findings] = field(default_factory=list)
    plot: str = ""

    def add(self, **row: Any) -> None:
        """Add a row and show it at once."""
        self.rows.append(row)
        cells = [f"{column} {number(row.get(column), digits)}" for column, digits in self.columns.items()]
        print("  " + "  ".join(cells), flush=True)

    def markdown(self) -> str:
        """The tables with their texts, as docs/benchmarks shows them."""
        about, *others = self._parts()
        picture = [f"![{self.title}]({self.name}.svg)"] if self.plot else []
        parts = [f"# {self.title}", about, *picture, *others]
        for table in self.below:
            parts += [f"## {table.title}", *table._parts()]
        parts.append(f"Run it: `python -m benchmarks {self.name} --write`. Measured with {machine()}.")
        return "\n\n".join(parts) + "\n"

    def _parts(self) -> list[str]:
        head = "| " + " | ".join(self.columns) + " |"
        line = "|" + "|".join("---" if k == 0 else "---:" for k in range(len(self.columns))) + "|"
        body = [
            "| "
            + " | ".join(number(row.get(column), digits) for column, digits in self.columns.items())
            + " |"
            for row in self.rows
        ]
        notes = "\n".join(f"- {note}" for note in self.notes)
        return [part for part in (self.about, "\n".join([head, line, *body]), notes) if part]

    def write(self, folder: Path = FOLDER) -> Path:
        """Write <name>.md and <name>.json, and <name>.svg where there is a plot; the page's path."""
        folder.mkdir(parents=True, exist_ok=True)
        page = folder / f"{self.name}.md"
        page.write_text(self.markdown(), encoding="utf-8")
        if self.plot:
            page.with_suffix(".svg").write_text(self.plot, encoding="utf-8")
        found = as_json({**self._said(), "machine": machine()})
        page.with_suffix(".json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", "utf-8")
        return page

    def _said(self) -> dict[str, Any]:
        said = {"title": self.title, "rows": self.rows, "notes": self.notes}
        return {**said, "tables": [table._said() for table in self.below]} if self.below else said


def machine() -> str:
    """What a figure of the clock was measured on, in words."""
    return f"Python {platform.python_version()} on {platform.machine()}, {os.cpu_count()} cores"


def shares(values: Sequence[float]) -> tuple[float, float]:
    """(mean, half the width of its 95 % interval) of a few paired differences, by Student's t."""
    from scipy import stats

    n = len(values)
    mean = sum(values) / n
    if n < 2:
        return mean, float("nan")
    spread = (sum((v - mean) ** 2 for v in values) / (n - 1) / n) ** 0.5
    return mean, float(stats.t.ppf(0.975, n - 1)) * spread
