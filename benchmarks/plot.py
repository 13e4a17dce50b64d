"""Curves as SVG: small panels side by side, both axes logarithmic, readable on light and dark pages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 210, 190
LEFT, RIGHT, TOP, BOTTOM = 44, 12, 26, 34
COLOURS = ("#2a78d6", "#b4530f")
DASHES = ("", "5 3")
STYLE = (
    "text{font:11px system-ui,sans-serif;fill:#333}.grid{stroke:#8886;stroke-width:.5}"
    "@media(prefers-color-scheme:dark){text{fill:#ddd}}"
)


@dataclass(frozen=True)
class Panel:
    """Curves over one quantity: name → [(x, y), …], all above 0."""

    title: str
    curves: dict[str, list[tuple[float, float]]]


def curves(panels: Sequence[Panel], unit: str) -> str:
    """An SVG picture with a panel each, all of one height scale; unit: what the heights are.

    >>> picture = curves([Panel("features", {"everlearn": [(2, 30.0), (8, 40.0)]})], "µs per event")
    >>> picture.startswith("<svg"), picture.count("<polyline")
    (True, 1)
    """
    points = [point for panel in panels for line in panel.curves.values() for point in line]
    low, high = _decades([y for _, y in points])
    names = list(dict.fromkeys(name for panel in panels for name in panel.curves))
    total = WIDTH * len(panels)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total} {HEIGHT + 22}" '
        f'width="{total}" height="{HEIGHT + 22}" role="img">',
        f"<title>{escape(unit)} by {escape(', '.join(panel.title for panel in panels))}</title>",
        f"<style>{STYLE}</style>",
    ]
    for number, panel in enumerate(panels):
        parts.append(_panel(panel, number * WIDTH, (low, high), names))
    for k, name in enumerate(names):
        at = LEFT + 160 * k
        y = HEIGHT + 12
        parts.append(
            f'<line x1="{at}" x2="{at + 24}" y1="{y}" y2="{y}" stroke="{COLOURS[k % 2]}" stroke-width="2" '
            f'stroke-dasharray="{DASHES[k % 2]}"/><text x="{at + 30}" y="{y + 4}">{escape(name)}</text>'
        )
    parts.append(f'<text x="{total - RIGHT}" y="{HEIGHT + 16}" text-anchor="end">{escape(unit)}</text></svg>')
    return "\n".join(parts) + "\n"


def _panel(panel: Panel, left: float, scale: tuple[float, float], names: Sequence[str]) -> str:
    xs = sorted({x for line in panel.curves.values() for x, _ in line})
    first, last = math.log(xs[0]), math.log(xs[-1])
    low, high = (math.log(end) for end in scale)

    def x_of(x: float) -> float:
        share = (math.log(x) - first) / (last - first) if last > first else 0.5
        return left + LEFT + share * (WIDTH - LEFT - RIGHT)

    def y_of(y: float) -> float:
        return TOP + (high - math.log(y)) / (high - low) * (HEIGHT - TOP - BOTTOM)

    parts = [f'<text x="{left + LEFT}" y="16">{escape(panel.title)}</text>']
    tick = scale[0]
    while tick <= scale[1] * 1.001:
        y = y_of(tick)
        parts.append(
            f'<line class="grid" x1="{left + LEFT}" x2="{left + WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{left + LEFT - 4}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>'
        )
        tick *= 10.0
    for x in xs:
        parts.append(f'<text x="{x_of(x):.1f}" y="{HEIGHT - 16}" text-anchor="middle">{x:g}</text>')
    for name, line in panel.curves.items():
        k = names.index(name) % 2
        told = " ".join(f"{x_of(x):.1f},{y_of(y):.1f}" for x, y in line)
        parts.append(
            f'<polyline fill="none" stroke="{COLOURS[k]}" stroke-width="2" stroke-dasharray="{DASHES[k]}" '
            f'points="{told}"/>'
        )
        parts += [
            f'<circle cx="{x_of(x):.1f}" cy="{y_of(y):.1f}" r="2.5" fill="{COLOURS[k]}">'
            f"<title>{escape(name)}, {escape(panel.title)} {x:g}: {y:.3g}</title></circle>"
            for x, y in line
        ]
    return "".join(parts)


def _decades(values: Sequence[float]) -> tuple[float, float]:
    """The powers of ten around all values."""
    low = 10.0 ** math.floor(math.log10(min(values)))
    high = 10.0 ** math.ceil(math.log10(max(values)))
    return low, high if high > low else 10.0 * low
