"""Parts of the report that put learners side by side, drawn as SVG: differences, classes, latency."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from statistics import median
from typing import Any

from engine.evaluate.words import number

COLOURS = 10  # --s0 to --s9 of the style sheet
CLASSES = 20  # shown one by one
FAR = 5.0  # times the usual difference, where the drawing ends
NAME = 22  # letters of a name beside a hill
_FIGURES = {  # of "intervals": the name to show, higher is better, factor, unit
    "accuracy": ("accuracy", True, 100.0, "points"),
    "log_loss": ("log loss", False, 1.0, ""),
    "mae": ("mean absolute error", False, 1.0, ""),
    "squared_error": ("squared error", False, 1.0, ""),
}


def dot(k: int) -> str:
    """The mark of learner k in the plots' colour."""
    return f'<span class="dot" style="background:var(--s{k % COLOURS})" aria-hidden="true"></span>'


def title(learners: Mapping[str, Any], name: str) -> str:
    """A learner's title, safe in HTML."""
    return escape(str(learners.get(name, {}).get("title", name)))


# -- differences ----------------------------------------------------------------------------------------------


def differences(learners: Mapping[str, Any], intervals: Mapping[str, Any], failed: Mapping[str, Any]) -> str:
    """How far the first learner is ahead of each other one, with 95 % intervals; and who did not finish."""
    figures = [f for f in _FIGURES if any(f in row for row in intervals.values())]
    if not figures and not failed:
        return ""
    gone = "".join(
        f"<li><b>{escape(str(name))}</b>: {escape(str(error))}</li>" for name, error in failed.items()
    )
    whose = title(learners, next(iter(learners)))
    text = (
        "Both learners were judged on the same labels, event by event. A bar is the 95 % interval of the mean "
        "difference (Student’s t over 50 blocks of consecutive events, for neighbouring events are not "
        f"independent); one that reaches the dashed line may be chance. Right of that line {whose} is better."
    )
    return (
        "<h2>How sure is the difference?</h2>"
        + (f'<p class="about">{text}</p>{_forest(learners, intervals, figures)}' if figures else "")
        + (f'<div class="card"><h3>Did not finish</h3><ul class="failed">{gone}</ul></div>' if gone else "")
    )


def _forest(learners: Mapping[str, Any], intervals: Mapping[str, Any], figures: Sequence[str]) -> str:
    places = {name: k for k, name in enumerate(learners)}
    columns = {figure: _column(intervals, figure) for figure in figures}
    order = list(columns[figures[0]]) + [name for name in intervals if name not in columns[figures[0]]]
    head = "".join(
        f'<th scope="col" colspan="2" class="drawn">{escape(_FIGURES[figure][0])}'
        f"{f', {_FIGURES[figure][3]}' if _FIGURES[figure][3] else ''}</th>"
        for figure in figures
    )
    rows = "".join(
        f'<tr><th scope="row">{dot(places.get(peer, 0))}{title(learners, peer)}</th>'
        + "".join(columns[figure].get(peer, "<td></td><td>–</td>") for figure in figures)
        + "</tr>"
        for peer in order
    )
    return (
        '<div class="card scroll"><table class="forest"><thead><tr><th scope="col">beside</th>'
        f"{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _column(intervals: Mapping[str, Any], figure: str) -> dict[str, str]:
    """Peer → its two cells for a figure, the peer that comes closest first; all bars on one scale."""
    _, higher, factor, _ = _FIGURES[figure]
    sign = factor if higher else -factor
    ahead: dict[str, tuple[float, float | None]] = {}
    for peer, row in intervals.items():
        told = row.get(figure) or {}
        if told.get("difference") is not None:
            half = told.get("half_width")
            ahead[peer] = sign * told["difference"], None if half is None else factor * half
    ends = [abs(mean) + (half or 0.0) for mean, half in ahead.values()]
    bound = FAR * median(ends) if ends else 0.0  # a peer that ran away must not flatten all others
    low = max(-bound, min((0.0, *(mean - (half or 0.0) for mean, half in ahead.values()))))
    high = min(bound, max((0.0, *(mean + (half or 0.0) for mean, half in ahead.values()))))
    reach = (high - low) or 1.0
    digits = max(0, min(4, 2 - math.floor(math.log10(reach))))

    def x(value: float) -> float:
        return 8.0 + 224.0 * (min(max(value, low), high) - low) / reach

    cells = {}
    for peer, (mean, half) in sorted(ahead.items(), key=lambda item: item[1][0]):
        sure = half is not None and abs(mean) > half
        tone = ("good" if mean > 0 else "bad") if sure else "soft"
        word = ("better" if mean > 0 else "worse") if sure else "not told apart"
        form = f".{digits}f" if abs(mean) < 1e7 else ".2g"
        said = f"{mean:+{form}}" + ("" if half is None else f" ± {half:{form}}")
        drawn = _interval(x(0.0), x(mean), x(mean - (half or 0.0)), x(mean + (half or 0.0)), tone)
        cells[peer] = (
            f'<td class="drawn">{drawn}</td><td class="{tone}">{escape(said)}<small>{word}</small></td>'
        )
    return cells


def _interval(middle: float, mean: float, left: float, right: float, tone: str) -> str:
    """An interval beside the line that stands for no difference; all in the drawing's units, 0 to 240."""
    return (
        '<svg viewBox="0 0 240 22" class="interval" aria-hidden="true">'
        f'<line x1="{middle:.1f}" y1="0" x2="{middle:.1f}" y2="22" stroke="var(--soft)" stroke-dasharray="2 3"/>'
        f'<line x1="{left:.1f}" y1="11" x2="{right:.1f}" y2="11" stroke="var(--{tone})" '
        'stroke-width="5" stroke-linecap="round" opacity="0.45"/>'
        f'<circle cx="{mean:.1f}" cy="11" r="4.5" fill="var(--{tone})"/></svg>'
    )


# -- classes --------------------------------------------------------------------------------------------------


def classes(learners: Mapping[str, Any]) -> str:
    """Recall of each class: a bar for the first learner, a dot for each other; "" where there are no classes."""
    first = next(iter(learners.values()))
    rows: Mapping[str, Mapping[str, Any]] = first.get("per_class") or {}
    if not rows:
        return ""
    order = sorted(rows, key=lambda name: -rows[name]["share"])
    left = len(order) - CLASSES
    shown = order if left <= 0 else [*order[: CLASSES // 2], *order[-(CLASSES // 2) :]]
    rare = set(map(str, first.get("rare_classes") or ()))
    rare = set() if rare >= set(rows) else rare  # among many classes each is below 5 %
    body = "".join(_class(learners, name, name in rare) for name in shown)
    peers = list(learners)[1:]
    whose = title(learners, next(iter(learners)))
    dots = f"; dots: {', '.join(dot(k + 1) + title(learners, name) for k, name in enumerate(peers))}"
    more = f" The {left} classes in between are left out." if left > 0 else ""
    return (
        "<h2>Class by class</h2>"
        '<p class="about">How many of a class’s events were recognised (recall), the commonest class first. '
        f"Bar: {whose}{dots if peers else ''}.{more}</p>"
        '<div class="card scroll"><table class="classes"><thead><tr><th scope="col">class</th>'
        '<th scope="col">share</th><th scope="col" class="drawn">recall, 0 to 100 %</th>'
        '<th scope="col">recall</th><th scope="col">precision</th><th scope="col">F1</th></tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _class(learners: Mapping[str, Any], name: str, rare: bool) -> str:
    recalls = [(part.get("per_class") or {}).get(name, {}).get("recall") for part in learners.values()]
    row = next(iter(learners.values()))["per_class"][name]
    dots = "".join(
        f'<circle cx="{4 + 292 * recall:.1f}" cy="11" r="4" fill="var(--s{k % COLOURS})" stroke="var(--card)"/>'
        for k, recall in reversed(list(enumerate(recalls)))
        if k and recall is not None
    )
    bar = (
        '<svg viewBox="0 0 300 22" class="recall" aria-hidden="true">'
        '<rect x="4" y="5" width="292" height="12" rx="3" fill="var(--grid)"/>'
        f'<rect x="4" y="5" width="{292 * row["recall"]:.1f}" height="12" rx="3" fill="var(--s0)" '
        'opacity="0.75"/>'
        f"{dots}</svg>"
    )
    mark = ' <span class="rare">rare</span>' if rare else ""
    return (
        f'<tr><th scope="row">{escape(name)}{mark}</th><td>{row["share"]:.1%}</td><td class="drawn">{bar}</td>'
        + "".join(f"<td>{number(row[field], 3)}</td>" for field in ("recall", "precision", "f1"))
        + "</tr>"
    )


# -- latency --------------------------------------------------------------------------------------------------


def latency(learners: Mapping[str, Any]) -> str:
    """How long an event takes: the shape of all durations, one hill per learner, and their percentiles."""
    timed = {name: part for name, part in learners.items() if isinstance(part.get("latency_us"), dict)}
    if not timed:
        return ""
    columns = [
        c for c in ("p50", "p99", "p99.9", "max") if any(c in part["latency_us"] for part in timed.values())
    ]
    head = "".join(f'<th scope="col">{c} (µs)</th>' for c in columns)
    places = {name: k for k, name in enumerate(learners)}
    rows = "".join(
        f'<tr><th scope="row">{dot(places[name])}{title(learners, name)}</th>'
        + "".join(f"<td>{number(part['latency_us'].get(c), 0)}</td>" for c in columns)
        + "</tr>"
        for name, part in timed.items()
    )
    return (
        '<section><h2>How long an event takes</h2><p class="about">Wall-clock time for one event’s forecast '
        f"and learning, on the machine that ran this.</p>{_hills(learners, places)}"
        f'<div class="card scroll"><table><thead><tr><th scope="col">learner</th>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div></section>"
    )


def _hills(learners: Mapping[str, Any], places: Mapping[str, int]) -> str:
    drawn = {
        name: part["latency_histogram"] for name, part in learners.items() if part.get("latency_histogram")
    }
    if not drawn:
        return ""
    ends = [math.log10(us) for bins in drawn.values() for us, _ in bins]
    low, high = math.floor(min(ends)), math.ceil(max(ends) + 0.05)
    step, tall, left, right = 30.0, 46.0, 166.0, 480.0
    bottom = 4.0 + step * (len(drawn) - 1) + tall

    def x(us: float) -> float:
        return left + (math.log10(us) - low) / (high - low) * (right - left)

    ticks = "".join(
        f'<line x1="{x(10.0**k):.1f}" y1="4" x2="{x(10.0**k):.1f}" y2="{bottom:.0f}" stroke="var(--grid)"/>'
        f'<text x="{x(10.0**k):.1f}" y="{bottom + 16:.0f}" text-anchor="{_anchor(k, low, high)}">'
        f"{_span(k)}</text>"
        for k in range(low, high + 1)
    )
    hills = []
    for row, (name, bins) in enumerate(drawn.items()):
        base = 4.0 + step * row + tall
        peak = max(events for _, events in bins)
        half = 10 ** (0.5 / 12)
        points = " ".join(f"{x(us):.1f},{base - (tall - 4) * events / peak:.1f}" for us, events in bins)
        start, end = x(bins[0][0] / half), x(bins[-1][0] * half)
        c = f"var(--s{places[name] % COLOURS})"
        said = str(learners[name].get("title", name))
        short = said if len(said) <= NAME else said[: NAME - 1] + "…"
        hills.append(
            f'<polygon points="{start:.1f},{base:.1f} {points} {end:.1f},{base:.1f}" fill="{c}" '
            f'fill-opacity="0.3" stroke="{c}" stroke-width="1.4" stroke-linejoin="round"/>'
            f'<text x="{left - 8:.0f}" y="{base - 2:.0f}" text-anchor="end"><title>{escape(said)}</title>'
            f"{escape(short)}</text>"
        )
    return (
        f'<div class="card"><svg class="hills" viewBox="0 0 {right + 12:.0f} {bottom + 24:.0f}" role="img" '
        'aria-label="Distribution of the time per event, one hill per learner, on a logarithmic scale">'
        f"{ticks}{''.join(hills)}</svg></div>"
    )


def _anchor(k: int, low: int, high: int) -> str:
    return "start" if k == low else "end" if k == high else "middle"


def _span(k: int) -> str:
    """10^k microseconds in words."""
    unit, rest = ("µs", k) if k < 3 else ("ms", k - 3) if k < 6 else ("s", k - 6)
    return f"{10**rest:,} {unit}" if rest >= 0 else f"{10.0**rest:g} {unit}"
