"""Writes what a run was worth: `report.html`, one page that needs no network, and `report.json`.

`write_report(folder, results)` takes one dict. Five of its keys have a meaning of their own, all optional;
every other key is the name of a learner: `everlearn` first, then its peers in the order to show them.

    results = {
      "everlearn": {                          # and the same for every peer, "river-arf": {...}, ...
          **metrics.result(),                 # PrequentialMetrics.result(): events, accuracy, log_loss, ...
          "curve": metrics.curve(),           # PrequentialMetrics.curve(): the lines over time
          "title": "River ARF-10",            # optional: the name to show
          "about": "ten adaptive trees",      # optional: one line on what it is and what it was fed
          "memory_bytes": 81234,              # optional: what it keeps
          "latency_histogram": Latency().histogram(),    # optional: drawn as a hill
          "experts": {                        # optional: how its experts were weighed over time
              "time": [t0, t1, ...],          #   seconds since 1970, or event numbers as in the curve
              "weights": {"trees": [w0, w1, ...], "network": [...]},    # one list per expert, as long as time
          },
      },
      "stream": {                             # all optional, further scalars are shown as they are
          "name": "flights", "title": "Which flights arrive late?", "about": "one or two sentences",
          "events": 51955, "labels": 51955, "target": "late", "features": ["hour", ...], "keys": ["carrier"],
          "label_delay": 12345.0,             #   mean seconds from forecast to label
          "headline": "accuracy",             #   the figure that plots begin with
          "notes": ["one sentence", ...],     #   what to know before believing the figures
      },
      "intervals": {                          # the first learner's figure minus a peer's, paired, and half the
          "river-arf": {                      #   width of its 95 % interval (None: too few events)
              "accuracy": {"difference": 0.021, "half_width": 0.004},      # or "mae", "squared_error"
              "log_loss": {"difference": -0.05, "half_width": 0.01},
          },
      },
      "failed": {"river-srp": "what went wrong"},
      "decisions": [                          # a few forecasts, explained
          {
              "id": "...", "time": 1.0, "title": "UA 15 from EWR to SFO, 1 January 17:10",   # title optional
              "features": {"hour": 5, ...},
              "forecast": {False: 0.7, True: 0.3},      # or a number for regression
              "outcome": True, "label_time": 2.0,       # optional: what came, and when it was known
              "experts": [{"name": "trees", "weight": 0.4, "forecast": {False: 0.6, True: 0.4}}, ...],
              "recalled": [{"label": True, "distance": 0.12, "weight": 0.2, "id": "...", "time": 0.5,
                            "features": {"hour": 5, ...}}, ...],          # all but label optional
              "context": [{"key": "carrier = UA", "rates": {"1 h": 0.31, "1 d": 0.22}, "events": 120}, ...],
              "note": "free text",                      # optional
          },
      ],
      "wall_clock": {                         # what differs from run to run; nothing else may
          "everlearn": {"events_per_second": 9000.0, "latency_us": Latency().result(), "seconds": 5.8},
          "river-arf": {...},
          "started": "2026-01-01T12:00:00Z", "resumed": 2,    # optional scalars
      },
    }

report.json is this dict with labels as text where JSON wants text, `null` where a number is not finite, and
each learner's `events_per_second`, `latency_us` and `latency_histogram` copied from `wall_clock`, so that
a learner's part has the same fields as `everlearn evaluate --json`. `without_wall_clock(report)` takes out
all that may differ between two runs over the same events.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

RESERVED = ("stream", "decisions", "wall_clock", "intervals", "failed")
_SHOWN_OF_THE_CLOCK = ("events_per_second", "latency_us", "latency_histogram")
_OF_THE_CLOCK = (*_SHOWN_OF_THE_CLOCK, "seconds")


def write_report(folder: str | os.PathLike[str], results: Mapping[str, Any]) -> Path:
    """Write `report.html` and `report.json` into `folder` (made if it is not there); the page's path.

    Either file is replaced at once, so that a reader never finds half a report. ValueError if no learner
    is among the results.

    >>> import tempfile
    >>> figures = {"events": 10, "accuracy": 0.9, "log_loss": 0.3}
    >>> page = write_report(tempfile.mkdtemp(), {"everlearn": figures})
    >>> page.name, json.loads(page.with_name("report.json").read_text())["everlearn"]["accuracy"]
    ('report.html', 0.9)
    """
    from engine.evaluate.page import render

    report = as_json(results)
    learners = [name for name in report if name not in RESERVED]
    if not learners:
        raise ValueError(f"results: found the keys {sorted(report)}, expected at least one learner's name")
    for name in learners:
        if not isinstance(report[name], dict):
            raise ValueError(f"results[{name!r}]: found {report[name]!r}, expected a dict of figures")
        clock = report.get("wall_clock", {}).get(name, {})
        if isinstance(clock, dict):
            report[name].update({field: clock[field] for field in _SHOWN_OF_THE_CLOCK if field in clock})
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    _replace(target / "report.json", json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    page = target / "report.html"
    _replace(page, render(report, json_name="report.json"))
    return page


def without_wall_clock(report: Mapping[str, Any]) -> dict[str, Any]:
    """The report without durations and speeds: equal for two runs over the same events."""
    return {
        name: {k: v for k, v in part.items() if k not in _OF_THE_CLOCK} if isinstance(part, dict) else part
        for name, part in report.items()
        if name != "wall_clock"
    }


def as_json(value: Any) -> Any:
    """Plain JSON values: text for keys and unknown objects, lists for tuples and arrays, None for NaN."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, Mapping):
        return {key if isinstance(key, str) else str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [as_json(item) for item in value]
    if hasattr(value, "tolist"):  # NumPy's scalars and arrays
        return as_json(value.tolist())
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value)


def _replace(path: Path, text: str) -> None:
    beside = path.with_name(path.name + ".part")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)
