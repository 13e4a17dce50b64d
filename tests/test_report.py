"""Promises of the report: one page that needs nobody, its JSON beside it, nothing of the input executed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.evaluate.metrics import PrequentialMetrics
from engine.evaluate.report import without_wall_clock, write_report


def figures(seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, 2000)
    p = np.clip(0.2 + 0.6 * y + rng.normal(size=2000) * 0.2, 0.01, 0.99)
    metrics = PrequentialMetrics()
    metrics.update_many(y, np.stack([1 - p, p], axis=1), [False, True], times=1.3e9 + 60.0 * np.arange(2000))
    return {**metrics.result(), "curve": metrics.curve()}


def results() -> dict[str, Any]:
    return {
        "everlearn": {
            **figures(0),
            "experts": {"time": [1.3e9, 1.4e9], "weights": {"trees": [0.5, 0.6], "network": [0.5, 0.4]}},
        },
        "river-arf": {**figures(1), "title": "River ARF-10"},
        "stream": {"name": "flights", "title": "Who is <late>?", "events": 2000, "label_delay": 7200.0},
        "decisions": [
            {
                "id": "UA1",
                "time": 1.3e9,
                "features": {"carrier": "</script><script>alert(1)</script>", "wind": None, "hour": 5},
                "forecast": {False: 0.7, True: 0.3},
                "outcome": np.True_,
                "experts": [{"name": "trees", "weight": 0.4, "forecast": {False: 0.6, True: 0.4}}],
                "recalled": [{"label": True, "distance": np.float64(0.25), "time": 1.2e9}],
                "context": [{"key": "carrier = UA", "rates": {"1 h": 0.31}}],
            }
        ],
        "wall_clock": {
            "everlearn": {"events_per_second": 9000.0, "latency_us": {"p50": 80.0, "p99": 200.0}},
            "resumed": 2,
        },
    }


def test_the_page_asks_nothing_of_the_network(tmp_path: Path) -> None:
    page = write_report(tmp_path / "out", results()).read_text()
    assert not re.findall(r"""(?:src|href|action)\s*=\s*["']?\s*(?:https?:)?//""", page)
    assert "default-src 'none'" in page
    assert not re.findall(r"@import|url\(\s*['\"]?https?:", page)
    assert not re.findall(r"\bfetch\(|XMLHttpRequest|WebSocket", page)


def test_what_comes_with_the_stream_is_shown_and_not_executed(tmp_path: Path) -> None:
    page = write_report(tmp_path, results()).read_text()
    assert "<script>alert(1)" not in page
    assert "Who is &lt;late&gt;?" in page
    assert page.count("<script") == 3


def test_the_page_names_every_learner_and_explains_the_decision(tmp_path: Path) -> None:
    page = write_report(tmp_path, results()).read_text()
    for text in ("everlearn", "River ARF-10", "wrong: True came", "carrier = UA", "wind missing", "2.0 h"):
        assert text in page


def test_the_json_has_the_fields_of_evaluate_for_every_learner(tmp_path: Path) -> None:
    write_report(tmp_path, results())
    report = json.loads((tmp_path / "report.json").read_text())
    assert {"everlearn", "river-arf", "stream", "decisions", "wall_clock"} == set(report)
    wanted = {"events", "accuracy", "log_loss", "kappa_temporal", "balanced_accuracy", "roc_auc"}
    assert wanted <= set(report["river-arf"])
    assert wanted | {"events_per_second", "latency_us"} <= set(report["everlearn"])
    assert report["decisions"][0]["forecast"] == {"False": 0.7, "True": 0.3}


def test_two_runs_over_the_same_events_differ_in_the_wall_clock_alone(tmp_path: Path) -> None:
    first, second = results(), results()
    second["wall_clock"]["everlearn"] = {"events_per_second": 1.0, "latency_us": {"p50": 1.0}, "seconds": 3.0}
    reports = []
    for name, given in (("a", first), ("b", second)):
        write_report(tmp_path / name, given)
        reports.append(json.loads((tmp_path / name / "report.json").read_text()))
    assert reports[0] != reports[1]
    assert without_wall_clock(reports[0]) == without_wall_clock(reports[1])


def test_numbers_that_json_does_not_know_become_null(tmp_path: Path) -> None:
    write_report(tmp_path, {"everlearn": {"accuracy": float("nan"), "events": np.int64(3)}})
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["everlearn"] == {"accuracy": None, "events": 3}


def test_a_regression_has_a_page_too(tmp_path: Path) -> None:
    metrics = PrequentialMetrics("regression")
    metrics.update_many(np.arange(500.0), np.arange(500.0) + 1.0)
    learner = {**metrics.result(), "curve": metrics.curve()}
    page = write_report(
        tmp_path, {"everlearn": learner, "decisions": [{"forecast": 3.25, "outcome": 3.0}]}
    ).read_text()
    assert "mean absolute error" in page
    assert "3.2500" in page


def test_results_without_a_learner_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one learner"):
        write_report(tmp_path, {"stream": {"name": "flights"}})
    with pytest.raises(ValueError, match="expected a dict of figures"):
        write_report(tmp_path, {"everlearn": 3})
