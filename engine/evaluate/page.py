"""The report's HTML: one page that carries its style, its plots and its data, and fetches nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

from engine.evaluate.explained import decisions
from engine.evaluate.panels import classes, differences, dot, latency
from engine.evaluate.report import RESERVED
from engine.evaluate.words import duration, moment, number, size

_HERE = Path(__file__).parent
# field: (name to show, higher is better, digits)
FIGURES: dict[str, tuple[str, bool, int]] = {
    "roc_auc": ("ROC AUC", True, 4),
    "log_loss": ("log loss", False, 4),
    "accuracy": ("accuracy", True, 4),
    "balanced_accuracy": ("balanced accuracy", True, 4),
    "kappa": ("kappa", True, 3),
    "kappa_temporal": ("kappa temporal", True, 3),
    "mae": ("mean absolute error", False, 4),
    "rmse": ("root mean square error", False, 4),
    "r2": ("R²", True, 4),
    "rare_recall": ("rare classes’ recall", True, 3),
    "events_per_second": ("events/s", True, 0),
    "memory_bytes": ("memory", False, 0),
}
FIFTHS = 5
FEATURES = 16  # named one by one
_CURVES = ("roc_auc", "log_loss", "accuracy", "mae", "rmse")


def render(report: Mapping[str, Any], *, json_name: str | None = None) -> str:
    """The page for a report as `engine.evaluate.report` describes it (plain JSON values).

    json_name: the file beside it that holds the figures, named in the footer.
    """
    learners = {name: part for name, part in report.items() if name not in RESERVED}
    stream = report.get("stream", {})
    headline = stream.get("headline")
    title = str(stream.get("title") or stream.get("name") or "everlearn")
    body = "".join(
        (
            _header(title, stream, learners),
            _tiles(learners),
            _comparison(learners),
            differences(learners, report.get("intervals", {}), report.get("failed", {})),
            _curves(learners, headline),
            _weights(learners),
            f'<div class="pair">{_calibration(learners)}{latency(learners)}</div>',
            classes(learners),
            decisions(report.get("decisions", []), str(stream.get("target") or "")),
            _footer(report.get("wall_clock", {}), json_name),
        )
    )
    data = json.dumps(_plot_data(learners, headline), ensure_ascii=False, separators=(",", ":")).replace(
        "<", "\\u003c"
    )
    licence = escape(_asset("vendor/uplot/LICENSE").strip().replace("--", "- -"), quote=False)
    scripts = (
        f'<script type="application/json" id="data">{data}</script>\n'
        f"<!-- uPlot:\n{licence}\n-->\n"
        f"<script>{_asset('vendor/uplot/uPlot.iife.min.js')}</script>\n"
        f"<script>{_asset('assets/report.js')}</script>\n"
    )
    return document(title, body, scripts, style=_asset("vendor/uplot/uPlot.min.css"))


def document(title: str, body: str, scripts: str = "", *, style: str = "") -> str:
    """A whole page around a body of HTML, in the report's style; its policy lets it fetch nothing."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:\">\n"
        f"<title>{escape(title)} · everlearn</title>\n<style>\n{style}{_asset('assets/report.css')}\n</style>\n"
        f"</head>\n<body>\n<main>\n{body}\n</main>\n{scripts}</body>\n</html>\n"
    )


def _asset(path: str) -> str:
    return (_HERE / path).read_text(encoding="utf-8")


def _plot_data(learners: Mapping[str, Any], headline: str | None) -> dict[str, Any]:
    curves = [part.get("curve") or [] for part in learners.values()]
    timed = all(point.get("time") is not None for curve in curves for point in curve)
    first = next(iter(learners.values()))
    fields = [
        {"name": field, "label": FIGURES[field][0]}
        for field in sorted(_CURVES, key=lambda field: field != headline)
        if any(point.get(field) is not None for curve in curves for point in curve)
    ]
    marks = (first.get("drifts") or {}).get("marks", [])
    experts = first.get("experts")
    return {
        "timed": timed,
        "fields": fields,
        "marks": [mark[1] if timed else mark[0] for mark in marks if not timed or mark[1] is not None],
        "experts": experts,
        "expertsTimed": bool(experts and experts.get("time") and experts["time"][0] > 1e8),
        "learners": [
            {
                "name": name,
                "title": part.get("title", name),
                "colour": k,
                "curve": part.get("curve") or [],
                "calibration": part.get("calibration") or [],
            }
            for k, (name, part) in enumerate(learners.items())
        ],
    }


def _header(title: str, stream: Mapping[str, Any], learners: Mapping[str, Any]) -> str:
    first = next(iter(learners.values()))
    facts: list[tuple[str, str]] = []
    events = stream.get("events", first.get("events"))
    if events is not None:
        facts.append(("events", number(events)))
    if stream.get("labels") is not None:
        facts.append(("labels", number(stream["labels"])))
    if isinstance(first.get("first_time"), int | float) and first["first_time"] > 1e8:
        facts.append(("from", moment(first["first_time"])))
        facts.append(("to", moment(first["last_time"])))
    if isinstance(stream.get("label_delay"), int | float):
        facts.append(("label comes after", duration(stream["label_delay"])))
    for field in ("features", "keys"):
        if isinstance(stream.get(field), list) and stream[field]:
            named = list(map(str, stream[field]))
            more = f" and {len(named) - FEATURES} more" if len(named) > FEATURES else ""
            facts.append((field, ", ".join(named[:FEATURES]) + more))
    told = ("name", "title", "about", "events", "labels", "label_delay", "features", "keys", "headline")
    for field, value in stream.items():
        if field not in told and isinstance(value, bool | int | float | str) and value:
            facts.append((field.replace("_", " "), number(value)))
    about = f"<p>{escape(str(stream['about']))}</p>" if stream.get("about") else ""
    items = "".join(f"<li>{escape(name)} <b>{escape(value)}</b></li>" for name, value in facts)
    notes = "".join(f"<li>{escape(str(note))}</li>" for note in stream.get("notes") or ())
    doubts = f'<ul class="notes">{notes}</ul>' if notes else ""
    return f'<h1>{escape(title)}</h1>{about}<ul class="facts">{items}</ul>{doubts}'


def _tiles(learners: Mapping[str, Any]) -> str:
    (name, first), *peers = learners.items()
    tiles: list[str] = []
    for field in (
        "roc_auc",
        "log_loss",
        "accuracy",
        "kappa_temporal",
        "mae",
        "rmse",
        "r2",
        "events_per_second",
    ):
        if first.get(field) is None or len(tiles) == 5:
            continue
        label, higher, digits = FIGURES[field]
        rivals = [
            (part[field], part.get("title", peer)) for peer, part in peers if part.get(field) is not None
        ]
        beside = ""
        if rivals:
            value, peer = max(rivals) if higher else min(rivals)
            better = (first[field] > value) == higher and first[field] != value
            word = (
                '<span class="better">better than</span>' if better else '<span class="worse">behind</span>'
            )
            if first[field] == value:
                word = "equal to"
            beside = f"{word} {number(value, min(digits, 3))}, {escape(str(peer))}"
        tiles.append(
            f'<div class="tile"><div class="name">{escape(label)}</div>'
            f'<div class="value">{number(first[field], min(digits, 3))}</div>'
            f'<div class="beside">{beside}</div></div>'
        )
    whose = escape(str(first.get("title", name)))
    return f'<section class="tiles" aria-label="Headline figures of {whose}">{"".join(tiles)}</section>'


def _comparison(learners: Mapping[str, Any]) -> str:
    fields = [f for f in FIGURES if any(part.get(f) is not None for part in learners.values())]
    best: dict[str, float] = {}
    for field in fields:
        values = [part[field] for part in learners.values() if part.get(field) is not None]
        best[field] = max(values) if FIGURES[field][1] else min(values)
    head = "".join(f'<th scope="col">{escape(FIGURES[f][0])}</th>' for f in fields)
    rows = []
    for k, (name, part) in enumerate(learners.items()):
        about = f"<small>{escape(str(part['about']))}</small>" if part.get("about") else ""
        cells = "".join(
            f'<td class="{"best" if len(learners) > 1 and part.get(f) == best[f] else ""}">'
            f"{_figure(f, part.get(f))}</td>"
            for f in fields
        )
        rows.append(
            f'<tr><th scope="row">{dot(k)}{escape(str(part.get("title", name)))}{about}</th>{cells}</tr>'
        )
    alone = len(learners) == 1
    shared = "; every learner had the same events and labels in the same order. ● marks the best"
    return (
        f"<h2>{'All figures' if alone else 'Side by side'}</h2>"
        '<p class="about">Every forecast was made before its own label was known'
        f"{'' if alone else shared}.</p>"
        f'<div class="card scroll"><table><thead><tr><th scope="col">learner</th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _figure(field: str, value: Any) -> str:
    return size(value) if field == "memory_bytes" else number(value, FIGURES[field][2])


def _curves(learners: Mapping[str, Any], headline: str | None) -> str:
    data = _plot_data(learners, headline)
    if not data["fields"]:
        return ""
    buttons = "".join(
        f'<button type="button" data-field="{field["name"]}" aria-pressed="false">'
        f"{escape(field['label'])}</button>"
        for field in data["fields"]
    )
    drifts = next(iter(learners.values())).get("drifts") or {}
    found = drifts.get("count", 0)
    dashed = (
        f" Dashed lines: {found} moments at which its losses rose and stayed high for a while."
        if found
        else ""
    )
    return (
        '<h2>Over time</h2><p class="about">Each point is one window of the stream, not an average since the '
        f"start.{dashed}</p>"
        f'<div class="card"><div class="choice" id="choice" role="group" aria-label="Figure">{buttons}</div>'
        '<div class="plot" id="curves" role="img" aria-label="Figures per window over the stream, one line '
        f'per learner"></div>{_curve_table(learners, data["fields"])}</div>'
    )


def _curve_table(learners: Mapping[str, Any], fields: list[dict[str, str]]) -> str:
    first = fields[0]["name"]
    heads = "".join(f'<th scope="col">{fifth}</th>' for fifth in ("1st", "2nd", "3rd", "4th", "5th"))
    rows = []
    for k, (name, part) in enumerate(learners.items()):
        curve = [point for point in part.get("curve") or [] if point.get(first) is not None]
        if not curve:
            continue
        ends = [round(k * len(curve) / FIFTHS) for k in range(FIFTHS + 1)]
        parts = [[point[first] for point in curve[a:b]] for a, b in pairwise(ends)]
        cells = "".join(f"<td>{number(fmean(part) if part else None, 3)}</td>" for part in parts)
        rows.append(f'<tr><th scope="row">{dot(k)}{escape(str(part.get("title", name)))}</th>{cells}</tr>')
    return (
        f"<details><summary>As a table: {escape(fields[0]['label'])}, mean of the windows in each fifth of the "
        'stream</summary><div class="scroll"><table><thead><tr><th scope="col">learner</th>'
        f"{heads}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div></details>"
    )


def _calibration(learners: Mapping[str, Any]) -> str:
    if not any(part.get("calibration") for part in learners.values()):
        return ""
    positive = next(iter(learners.values())).get("positive")
    of = "of the class forecast" if positive is None else f"of “{escape(str(positive))}”"
    legend = "".join(
        f"<li>{dot(k)}{escape(str(part.get('title', name)))}</li>"
        for k, (name, part) in enumerate(learners.items())
    )
    return (
        "<section><h2>Can the probabilities be believed?</h2>"
        f'<p class="about">Forecast probability {of} against how often it came. On the dashed line a '
        "forecast of 30 % comes true three times in ten; larger points stand for more events.</p>"
        '<div class="card"><figure><svg class="calibration" id="calibration" viewBox="0 0 400 400" '
        'role="img" aria-label="Calibration: forecast probability against observed share, by learner">'
        f'</svg><ul class="legend">{legend}</ul></figure></div></section>'
    )


def _weights(learners: Mapping[str, Any]) -> str:
    experts = next(iter(learners.values())).get("experts")
    if not experts or not experts.get("time"):
        return ""
    return (
        '<h2>Who is listened to</h2><p class="about">The weight that the mixer gives each expert. It is '
        "moved after every label by what the expert had said before. Weights need not add up to 1; one below 0 "
        "means that the mixer corrects the others by what that expert says.</p>"
        '<div class="card"><div class="plot" id="weights" role="img" aria-label="Weights of the experts over '
        'time"></div></div>'
    )


def _footer(clock: Mapping[str, Any], json_name: str | None) -> str:
    scalars = [f"{name} {number(v)}" for name, v in clock.items() if isinstance(v, bool | int | float | str)]
    extra = f" {escape(' · '.join(scalars))}." if scalars else ""
    figures = f" All figures are in {escape(json_name)} beside this page." if json_name else ""
    return f"<footer>Written by everlearn.{extra}{figures}</footer>"
