"""Promises of the report: one page that needs nobody, its JSON beside it, nothing of the input executed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.evaluate.latency import Latency
from engine.evaluate.metrics import PrequentialMetrics
from engine.evaluate.page import render
from engine.evaluate.report import as_json, without_wall_clock, write_report


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


# -- learners side by side --------------------------------------------------------------------------


def contest() -> dict[str, Any]:
    quick, slow = Latency(), Latency()
    quick.add(50e-6, 90)
    quick.add(2e-3, 10)
    slow.add(5e-3, 100)
    return {
        "everlearn": {**figures(0), "latency_us": quick.result(), "latency_histogram": quick.histogram()},
        "river-arf": {**figures(1), "title": "River <ARF>", "latency_us": slow.result()}
        | {"latency_histogram": slow.histogram(), "memory_bytes": 5_300_000},
        "river-hat": {**figures(2), "title": "River HAT"},
        "stream": {"name": "made", "headline": "accuracy", "notes": ["the label <repeats>"]},
        "intervals": {
            "river-arf": {
                "accuracy": {"difference": 0.021, "half_width": 0.004},
                "log_loss": {"difference": 0.05, "half_width": 0.01},
            },
            "river-hat": {
                "accuracy": {"difference": 0.01, "half_width": 0.02},
                "log_loss": {"difference": -0.2, "half_width": None},
            },
        },
        "failed": {"river-srp": "it ran out of <memory>"},
    }


def row_of(page: str, heading: str, name: str) -> str:
    """The text of the table row that begins with this name, in the section below the heading."""
    section = page[page.index(f"<h2>{heading}</h2>") :]
    found = next(row for row in re.findall(r"<tr>.*?</tr>", section, re.DOTALL) if name in row)
    return " ".join(re.sub(r"<[^>]+>", " ", found).split())


def test_a_difference_is_told_with_its_interval_and_whether_it_may_be_chance() -> None:
    page = render(as_json(contest()))
    arf = row_of(page, "How sure is the difference?", "River &lt;ARF&gt;")
    assert "+2.10 ± 0.40 better" in arf  # accuracy, in points
    assert "-0.050 ± 0.010 worse" in arf  # the log loss is higher: behind
    hat = row_of(page, "How sure is the difference?", "River HAT")
    assert "+1.00 ± 2.00 not told apart" in hat
    assert "+0.200 not told apart" in hat  # no interval, no verdict


def test_the_peer_that_comes_closest_stands_first() -> None:
    page = render(as_json(contest()))
    section = page[page.index("How sure is the difference?") :]
    assert section.index("River HAT") < section.index("River &lt;ARF&gt;")


def test_a_peer_that_ran_away_leaves_the_others_readable() -> None:
    gaps = {"usual": 5.0, "other": 6.0, "third": 7.0, "lost": 2.5e9}
    intervals = {name: {"mae": {"difference": -gap, "half_width": gap / 10}} for name, gap in gaps.items()}
    report = {name: {"events": 10, "mae": 1.0} for name in ("everlearn", *gaps)} | {"intervals": intervals}
    page = render(report)
    assert "+5.0 ± 0.5 better" in row_of(page, "How sure is the difference?", "usual")
    assert "+2.5e+09 ± 2.5e+08 better" in row_of(page, "How sure is the difference?", "lost")
    centres = [float(cx) for cx in re.findall(r'<circle cx="([\d.]+)" cy="11" r="4.5"', page)]
    assert centres[3] == 232.0  # at the end of the scale
    assert centres[0] > 30.0
    assert centres[1] - centres[0] > 3.0


def test_a_learner_alone_is_beside_nobody() -> None:
    page = render({"everlearn": as_json(figures(0))})
    assert "Side by side" not in page
    assert "marks the best" not in page


def test_a_peer_that_failed_is_named_with_its_error_and_the_page_goes_on() -> None:
    page = render(as_json(contest()))
    assert "<b>river-srp</b>: it ran out of &lt;memory&gt;" in page
    assert "Class by class" in page


def test_doubts_stand_at_the_top_as_text() -> None:
    page = render(as_json(contest()))
    assert "<li>the label &lt;repeats&gt;</li>" in page
    assert page.index("&lt;repeats&gt;") < page.index("Side by side")


def test_every_class_has_a_bar_for_the_first_learner_and_a_dot_for_each_other() -> None:
    report = as_json(contest())
    page = render(report)
    recall = report["everlearn"]["per_class"]["True"]["recall"]
    assert f"{recall:.3f}" in row_of(page, "Class by class", "True")
    bars = re.findall(r'<svg viewBox="0 0 300 22".*?</svg>', page)
    assert len(bars) == 2
    assert all(bar.count("<circle") == 2 for bar in bars)
    assert f'width="{292 * recall:.1f}"' in "".join(bars)


def test_of_many_classes_the_commonest_and_the_rarest_are_shown() -> None:
    metrics = PrequentialMetrics()
    for i in range(50):
        for _ in range(60 - i):
            metrics.update(f"class {i:02}", {f"class {i:02}": 1.0})
    page = render(as_json({"everlearn": metrics.result()}))
    shown = re.findall(r'<th scope="row">(class \d\d)', page)
    assert shown == [f"class {i:02}" for i in [*range(10), *range(40, 50)]]
    assert "The 30 classes in between are left out." in page
    assert "rare</span>" not in page  # all 50 are below 5 %


def test_a_rare_class_is_marked() -> None:
    metrics = PrequentialMetrics()
    for i in range(100):
        metrics.update("odd" if i % 50 == 0 else "usual", {"usual": 0.9, "odd": 0.1})
    page = render(as_json({"everlearn": metrics.result()}))
    assert "odd rare" in row_of(page, "Class by class", "odd")
    assert "usual rare" not in row_of(page, "Class by class", "usual")


def test_latencies_are_drawn_on_one_scale_that_holds_them_all() -> None:
    page = render(as_json(contest()))
    hills = re.findall(r'<polygon points="([^"]+)"', page)
    assert len(hills) == 2
    xs = [[float(point.split(",")[0]) for point in hill.split()] for hill in hills]
    assert min(map(min, xs)) >= 166
    assert max(map(max, xs)) <= 480
    assert min(xs[1]) > min(xs[0])
    assert all(unit in page for unit in (">10 µs<", ">1 ms<", ">10 ms<"))


def test_the_figure_that_decides_comes_first_in_the_plots() -> None:
    page = render(as_json(contest()))
    assert re.findall(r'data-field="(\w+)"', page)[0] == "accuracy"
    report = as_json({name: part for name, part in contest().items() if name != "stream"})
    assert re.findall(r'data-field="(\w+)"', render(report))[0] == "roc_auc"


def test_the_footer_names_the_file_of_figures_only_where_there_is_one(tmp_path: Path) -> None:
    assert "beside this page" not in render(as_json(contest()))
    assert "All figures are in report.json beside this page" in write_report(tmp_path, results()).read_text()


def test_many_features_are_not_all_named() -> None:
    page = render({"everlearn": as_json(figures(0)), "stream": {"features": [f"f{i}" for i in range(40)]}})
    assert "f15 and 24 more" in page
