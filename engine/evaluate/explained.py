"""Single decisions as HTML: what was known, what the experts said, what was recalled, and what came."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from engine.evaluate.words import moment, number


def decisions(explained: list[Mapping[str, Any]], target: str = "") -> str:
    """The cards of these decisions, in the form that `engine.evaluate.report` describes; "" for none.

    target: the label's name, put before its values.
    """
    name = f"{target} = " if target else ""
    if not explained:
        return ""
    return (
        '<h2>Decisions, explained</h2><p class="about">What was known, who said what, which experience came '
        "to mind, and what happened in the end.</p>"
        + "".join(_decision(decision, name) for decision in explained)
    )


def _decision(decision: Mapping[str, Any], name: str) -> str:
    forecast, outcome = decision.get("forecast"), decision.get("outcome")
    title = decision.get("title") or decision.get("id") or "an event"
    verdict = ""
    if outcome is not None:
        known = f" (known {moment(decision['label_time'])})" if decision.get("label_time") is not None else ""
        if isinstance(forecast, Mapping) and forecast:
            right = max(forecast, key=lambda label: forecast[label]) == str(outcome)
            word = "right" if right else "wrong"
            css = "better" if right else "worse"
            verdict = f'<span class="verdict {css}">{word}: {escape(f"{name}{outcome}")} came{known}</span>'
        else:
            verdict = f'<span class="verdict">{number(outcome)} came{known}</span>'
    answer = (
        "".join(_bar(f"{name}{label}", p, str(label) == str(outcome)) for label, p in _top(forecast, 6))
        if isinstance(forecast, Mapping)
        else f"<p>forecast <b>{number(forecast)}</b></p>"
    )
    when = f'<span class="soft">{moment(decision["time"])} UTC</span>' if decision.get("time") else ""
    parts = (
        _part("What was known", _chips(decision.get("features") or {})),
        _part("What the experts said", _expert_rows(decision.get("experts") or [], forecast)),
        _part("Experience that came to mind", _recalled_rows(decision.get("recalled") or [])),
        _part("How it has been lately", _context_rows(decision.get("context") or [])),
    )
    note = f"<p>{escape(str(decision['note']))}</p>" if decision.get("note") else ""
    return (
        f'<article class="card decision"><header><h3>{escape(str(title))}</h3>{when}{verdict}</header>'
        f'{note}{answer}<div class="parts">{"".join(parts)}</div></article>'
    )


def _part(title: str, content: str) -> str:
    return f"<section><h4>{escape(title)}</h4>{content}</section>" if content else ""


def _top(forecast: Mapping[str, float], n: int) -> list[tuple[str, float]]:
    return sorted(forecast.items(), key=lambda item: (-(item[1] or 0.0), item[0]))[:n]


def _bar(label: str, p: float, came: bool) -> str:
    share = min(max(p or 0.0, 0.0), 1.0)
    return (
        f'<div class="bar"><span class="{"came" if came else ""}">{escape(label)}</span>'
        f'<span class="track"><span class="fill" style="display:block;width:{share:.1%}"></span></span>'
        f'<span class="number">{share:.1%}</span></div>'
    )


def _chips(features: Mapping[str, Any]) -> str:
    chips = [
        f'<li class="missing">{escape(str(name))} missing</li>'
        if value is None
        else f"<li>{escape(str(name))} <b>{escape(_short(value))}</b></li>"
        for name, value in features.items()
    ]
    return f'<ul class="chips">{"".join(chips)}</ul>' if chips else ""


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    top = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def _expert_rows(experts: list[Mapping[str, Any]], forecast: Any) -> str:
    if not experts:
        return ""
    label = (
        max(forecast, key=lambda name: forecast[name]) if isinstance(forecast, Mapping) and forecast else None
    )
    rows = []
    for expert in sorted(experts, key=lambda e: -abs(e.get("weight") or 0.0))[:8]:
        said = expert.get("forecast")
        text = number(said.get(label), 3) if isinstance(said, Mapping) else number(said)
        rows.append((str(expert.get("name", "?")), number(expert.get("weight"), 3), text))
    return _table(("expert", "weight", "forecast" if label is None else f"p({label})"), rows)


def _recalled_rows(recalled: list[Mapping[str, Any]]) -> str:
    if not recalled:
        return ""
    rows = []
    for memory in recalled[:6]:
        features = memory.get("features") or {}
        seen = ", ".join(f"{name} {_short(value)}" for name, value in list(features.items())[:5])
        name = moment(memory["time"]) if memory.get("time") is not None else str(memory.get("id", ""))
        distance = number(memory.get("distance"), 3)
        rows.append((name if not seen else f"{name}: {seen}", str(memory.get("label")), distance))
    return _table(("earlier event", "what came", "distance"), rows)


def _context_rows(context: list[Mapping[str, Any]]) -> str:
    if not context:
        return ""
    spans = list(dict.fromkeys(span for row in context for span in row.get("rates") or {}))
    rows = [
        (str(row.get("key", "?")), *(number((row.get("rates") or {}).get(span), 2) for span in spans))
        for row in context[:12]
    ]
    return _table(("key", *spans), rows)
