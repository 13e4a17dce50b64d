"""Drawings of a scenario's page, as SVG: the matrix of accuracies as a heat map, and accuracy over events."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import accumulate

WIDE, HIGH, LEFT, BELOW = 960.0, 260.0, 46.0, 30.0
TALL, NAMES, TOP = 34.0, 210.0, 34.0
MARKED = 60  # points of a line, at most, that are drawn one by one
Line = tuple[str, str, Sequence[tuple[float, float]]]
"""Name, colour, and (events, accuracy) in order."""


def heat(R: Sequence[Sequence[float]], order: Sequence[int], tasks: Sequence[str]) -> str:
    """R (parts, tasks) as a table of coloured cells; framed is the task that the row's part teaches."""
    wide = min(92.0, 720.0 / len(tasks))
    digits = 2 if wide < 60 else 3
    cells = []
    for j, task in enumerate(tasks):
        cells.append(_text(NAMES + (j + 0.5) * wide, TOP - 10, short(task, wide)))
    for i, row in enumerate(R):
        y = TOP + i * TALL
        cells.append(_text(NAMES - 10, y + 22, short(f"after {i + 1}: {tasks[order[i]]}", NAMES - 10), "end"))
        for j, value in enumerate(row):
            x = NAMES + j * wide
            said = escape(f"after part {i + 1}, task {tasks[j]}: {value:.4f}")
            frame = ' stroke="var(--ink)" stroke-width="2"' if order[i] == j else ""
            cells.append(
                f'<rect x="{x + 1:.1f}" y="{y + 1:.1f}" width="{wide - 2:.1f}" height="{TALL - 2:.1f}" rx="4" '
                f'fill="var(--s0)" fill-opacity="{0.04 + 0.56 * value:.3f}"{frame}><title>{said}</title></rect>'
            )
            cells.append(_text(x + wide / 2, y + 22, f"{value:.{digits}f}", kind="cell"))
    width, height = NAMES + wide * len(tasks) + 4, TOP + TALL * len(R) + 4
    return (
        f'<svg class="heat" viewBox="0 0 {width:.0f} {height:.0f}" style="width:100%;'
        f'min-width:{min(width, 620.0):.0f}px;max-width:{width:.0f}px" role="img" '
        f'aria-label="Accuracy on each task after each part">{"".join(cells)}</svg>'
    )


def lines_over(events: int, parts: Sequence[int], lines: Sequence[Line], what: str) -> str:
    """Accuracy over events, one line each, with its legend; parts: the events of each, a dashed line between "
    "them."""
    least = min((a for _, _, points in lines for _, a in points), default=0.0)
    low = 0.0 if least < 0.5 else int(least * 10) / 10

    def x(n: float) -> float:
        return LEFT + (WIDE - LEFT - 12) * n / events

    def y(a: float) -> float:
        return 10 + (HIGH - 10 - BELOW) * (1.0 - a) / (1.0 - low)

    drawn = []
    for step in range(6):
        a = low + (1.0 - low) * step / 5
        drawn.append(
            f'<line x1="{LEFT}" y1="{y(a):.1f}" x2="{x(events):.1f}" y2="{y(a):.1f}" stroke="var(--grid)"/>'
        )
        drawn.append(_text(LEFT - 8, y(a) + 4, f"{a:.2f}", "end"))
    for quarter, anchor in enumerate(("start", "middle", "middle", "middle", "end")):
        n = events * quarter / 4
        drawn.append(_text(x(n), HIGH - 8, f"{n:,.0f}", anchor))
    for begun in accumulate(parts[:-1]):
        drawn.append(
            f'<line x1="{x(begun):.1f}" y1="10" x2="{x(begun):.1f}" y2="{y(low):.1f}" stroke="var(--soft)" '
            'stroke-dasharray="3 4" stroke-opacity="0.6"/>'
        )
    for name, colour, points in lines:
        path = " ".join(f"{x(n):.1f},{y(a):.1f}" for n, a in points)
        drawn.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2" '
            f'stroke-linejoin="round"><title>{escape(name)}</title></polyline>'
        )
        for n, a in points if len(points) <= MARKED else ():
            said = escape(f"{name}, after {n:,.0f} events: {a:.4f}")
            drawn.append(
                f'<circle cx="{x(n):.1f}" cy="{y(a):.1f}" r="2.6" fill="{colour}"><title>{said}</title></circle>'
            )
    legend = "".join(
        f'<li><span class="dot" style="background:{colour}" aria-hidden="true"></span>{escape(name)}</li>'
        for name, colour, _ in lines
    )
    return (
        f'<svg class="line" viewBox="0 0 {WIDE:.0f} {HIGH:.0f}" style="width:100%;height:auto" role="img" '
        f'aria-label="{escape(what)}">{"".join(drawn)}</svg><ul class="legend">{legend}</ul>'
    )


def short(text: str, room: float) -> str:
    """As much of a text as fits.

    >>> short("labels moved by 1", 60), short("0, 1", 60)
    ('labels m…', '0, 1')
    """
    letters = max(4, int(room / 6.5))
    return text if len(text) <= letters else text[: letters - 1] + "…"


def _text(x: float, y: float, text: str, anchor: str = "middle", kind: str = "") -> str:
    marked = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{marked}>{escape(text)}</text>'
