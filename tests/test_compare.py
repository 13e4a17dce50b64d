"""Promises of the comparison: the same rows and labels for all, honest intervals, and no peer that ends it."""

from __future__ import annotations

import json
import math
import os
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console
from typer.testing import CliRunner

from engine.cli import app
from engine.evaluate.contest import (
    DEFAULTS,
    ENGINE,
    Job,
    Judged,
    between,
    chosen,
    jobs_of,
    judge,
    members,
    report_of,
)
from engine.evaluate.lags import Lagged
from engine.evaluate.paired import BLOCKS, paired
from engine.evaluate.peers import PEERS, make_peer
from engine.evaluate.prequential import evaluate
from engine.evaluate.processes import Failure, run_all
from engine.evaluate.standing import show
from streams.table import Table


def table(n: int = 300, **columns: Any) -> Table:
    rng = np.random.default_rng(0)
    a = rng.normal(size=n)
    y = np.where(a + 0.2 * rng.normal(size=n) > 0, "up", "down")
    return Table("made", pa.table({"a": a}), target=pa.array(y), **columns)


def quiet(news: Any) -> None:
    """Nobody listens."""


# -- intervals --------------------------------------------------------------------------------------


def test_an_interval_holds_the_true_difference_in_about_95_of_100_streams_of_dependent_events() -> None:
    rng = np.random.default_rng(7)
    inside = 0
    for _ in range(400):
        shared = np.repeat(rng.normal(size=200), 20)  # events next to each other are alike
        a, b = shared + rng.normal(size=4000), rng.normal(size=4000) - 0.1
        found = paired(a, b)
        assert found.half_width is not None
        inside += abs(found.difference - 0.1) <= found.half_width
    assert 0.91 <= inside / 400 <= 0.98


def test_equal_weights_give_the_plain_interval_of_block_means() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=1000), rng.normal(size=1000)
    found = paired(a, b, np.full(1000, 3.0))
    means = (a - b).reshape(BLOCKS, -1).mean(axis=1)
    assert found.difference == pytest.approx((a - b).mean())
    assert found.half_width == pytest.approx(2.0096 * means.std(ddof=1) / math.sqrt(BLOCKS))


def test_an_event_of_weight_three_counts_as_three_events_in_a_difference() -> None:
    assert paired([1.0, 0.0], [0.0, 0.0], [3.0, 1.0]).difference == 0.75


def test_the_interval_shrinks_and_swells_with_the_blocks_that_weigh_most() -> None:
    d = np.tile([1.0, -1.0], 500).repeat(20)  # blocks of 400 events are all alike: 0 on average
    heavy = np.ones(len(d))
    heavy[: len(d) // 2][d[: len(d) // 2] > 0] = 5.0  # the first half's means become positive
    assert paired(d, np.zeros(len(d))).half_width == pytest.approx(0.0, abs=1e-12)
    weighed = paired(d, np.zeros(len(d)), heavy)
    assert weighed.half_width is not None
    assert weighed.half_width > 0.05


def test_unequal_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="2, 1 and 2 events"):
        paired([1.0, 2.0], [1.0])


# -- who runs ---------------------------------------------------------------------------------------


def test_an_unknown_peer_is_told_the_known_ones_of_the_task() -> None:
    with pytest.raises(
        ValueError, match="--peers river-gbm: is no peer; known for classification are backprop"
    ):
        chosen(["river-gbm"], "classification", 2)
    with pytest.raises(ValueError, match="--peers river-arf: is for classification; known for regression"):
        chosen(["river-arf"], "regression", 0)


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_every_default_is_a_peer_of_its_task(task: Any) -> None:
    assert chosen([], task, 2) == list(DEFAULTS[task])
    assert chosen(DEFAULTS[task], task, 2) == list(DEFAULTS[task])
    assert all(member in PEERS for name in DEFAULTS[task] for member in members(name, task))


def test_more_than_two_classes_are_for_softmax_regression() -> None:
    assert "river-softmax" in chosen([], "classification", 3)
    assert "river-logistic" not in chosen([], "classification", 3)


def test_a_family_and_its_member_run_once_for_each_seed() -> None:
    jobs = jobs_of(["backprop", "backprop-adam-0.001"], table(), "classification", seeds=range(2))
    assert [job.learner for job in jobs[:2]] == [ENGINE, ENGINE]
    assert len(jobs) == len({(job.learner, job.seed) for job in jobs}) == 2 * (1 + 6)


# -- label history ----------------------------------------------------------------------------------


def test_a_peer_with_label_history_reads_the_labels_known_when_it_was_asked() -> None:
    n = 400
    y = ["up" if i % 2 else "down" for i in range(n)]
    rows = Table("made", pa.table({"a": np.zeros(n)}), target=pa.array(y))
    blind = evaluate(make_peer("river-logistic"), rows).metrics.result()
    told = evaluate(Lagged(make_peer("river-logistic")), rows).metrics.result()
    assert blind["accuracy"] < 0.6
    assert told["accuracy"] > 0.9


def test_with_a_delay_a_peer_reads_only_labels_that_have_come() -> None:
    peer = Lagged(make_peer("river-hat"))
    first = peer.forecast_one({"a": 1.0})
    second = peer.forecast_one({"a": 2.0})
    peer.learn(first, "up")
    assert second.x["label 1 before"] is None
    third = peer.forecast_one({"a": 3.0})
    assert third.x["label 1 before"] == "up"
    assert third.x["label 2 before"] is None


def test_a_regressor_reads_the_targets_before_as_numbers() -> None:
    peer = Lagged(make_peer("river-linear"))
    peer.learn(peer.forecast_one({"a": 1.0}), 2.5)
    peer.learn(peer.forecast_one({"a": 1.0}), 3.5)
    assert [peer.forecast_one({}).x[f"label {lag} before"] for lag in (1, 2, 3)] == [3.5, 2.5, None]


# -- processes --------------------------------------------------------------------------------------


def act(job: str, say: Any) -> Any:
    """What a job of these tests does."""
    say(f"began {job}")
    if job == "fails":
        raise ValueError("no such\n  thing")
    if job == "dies":
        os._exit(3)
    return job.upper(), os.getpid()


def test_a_job_that_fails_or_dies_leaves_the_others_their_results() -> None:
    news: list[tuple[int, Any]] = []
    found = run_all(act, ["a", "fails", "dies", "b"], at_once=2, tell=lambda k, said: news.append((k, said)))
    assert [found[0][0], found[3][0]] == ["A", "B"]
    assert found[1] == Failure("ValueError: no such thing")
    assert isinstance(found[2], Failure)
    assert "exit code 3" in found[2].reason
    assert len({found[0][1], found[3][1], os.getpid()}) == 3
    assert sorted(news) == [(0, "began a"), (1, "began fails"), (2, "began dies"), (3, "began b")]


def wait_for_ever(job: str, say: Any) -> None:
    """Tell the process's number, then hang."""
    say(os.getpid())
    time.sleep(600)


def test_an_interrupted_comparison_leaves_no_process_behind() -> None:
    started: list[int] = []

    def stop(number: int, pid: Any) -> None:
        started.append(pid)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_all(wait_for_ever, ["a"], at_once=1, tell=stop)
    with pytest.raises(ProcessLookupError):
        os.kill(started[0], 0)


# -- figures ----------------------------------------------------------------------------------------


def test_seeds_are_averaged_and_told_apart() -> None:
    jobs = jobs_of(["river-arf"], table(), "classification", seeds=range(2))
    report = report_of(["river-arf"], jobs, [judge(job, quiet) for job in jobs])
    forest = report["river-arf"]
    assert len(forest["seeds"]) == 2
    assert forest["accuracy"] == pytest.approx(sum(seed["accuracy"] for seed in forest["seeds"]) / 2)
    gap = report["intervals"]["river-arf"]["accuracy"]["difference"]
    assert gap == pytest.approx(report[ENGINE]["accuracy"] - forest["accuracy"])


def test_differences_of_accuracy_and_log_loss_are_those_of_the_figures_with_late_labels_and_weights() -> None:
    rows = table(weight=pa.array(np.arange(300.0) % 4))
    jobs = jobs_of(["river-hat"], rows, "classification", delay=10, history=True)
    results = [judge(job, quiet) for job in jobs]
    for figure, gap in between(results[0], results[1], "classification").items():
        expected = results[0].figures[figure] - results[1].figures[figure]
        assert gap["difference"] == pytest.approx(expected)


def made(accuracy: float) -> Judged:
    """A learner of which only accuracy matters."""
    each = (np.ones(100), np.full(100, accuracy), np.full(100, 1.0 - accuracy))
    return Judged({"accuracy": accuracy, "log_loss": 1.0 - accuracy, "about": "a network"}, each)


def test_backpropagation_is_its_best_in_hindsight_and_what_failed_is_told_apart() -> None:
    jobs = jobs_of(["backprop", "river-hat"], table(), "classification")
    results: list[Judged | Failure] = [made(0.5 + k / 100) for k in range(len(jobs))]
    results[-1] = Failure("it broke")  # the tree
    results[1] = Failure("so did this")  # one of the family
    report = report_of(["backprop", "river-hat"], jobs, results)
    assert report["backprop"]["chosen"] == jobs[-2].learner
    assert report["backprop"]["accuracy"] == max(report["backprop"]["tried"].values())
    assert "in hindsight" in report["backprop"]["about"]
    assert report["failed"] == {"river-hat": "it broke", jobs[1].learner: "so did this"}
    assert list(report["intervals"]) == ["backprop"]


def test_an_engine_that_fails_ends_the_comparison() -> None:
    jobs = jobs_of([], table(), "classification")
    with pytest.raises(RuntimeError, match="everlearn failed: it broke"):
        report_of([], jobs, [Failure("it broke")])


def test_a_peer_that_takes_no_weights_is_told_so() -> None:
    rows = table(60, weight=pa.array(np.full(60, 2.0)))
    for name, told in (("river-knn", True), ("river-logistic", False)):
        found = judge(Job(learner=name, table=rows, task="classification"), quiet)
        assert ("takes no weights" in found.figures["about"]) == told


# -- the command ------------------------------------------------------------------------------------


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    rng = np.random.default_rng(5)
    lines = ["a,n,y,price"]
    for i, a in enumerate(rng.normal(size=240)):
        y = "abc"[min(int(abs(a)), 2)]
        lines.append(f"{a:.3f},{i % 3 + 0.5},{y},{2 * a + 0.1 * rng.normal():.3f}")
    path = tmp_path / "made.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_the_command_compares_in_processes_and_a_peer_that_fails_is_one_line(
    csv: Path, tmp_path: Path
) -> None:
    out = tmp_path / "deep" / "figures.json"
    asked = ["compare", str(csv), "--target", "y", "--ignore", "price", "--weight", "n", "--delay", "5"]
    asked += ["--peers", "river-logistic,river-hat", "--label-history", "--at-once", "2", "--json", str(out)]
    page = tmp_path / "report.html"
    asked += ["--html", str(page)]
    result = CliRunner().invoke(app, asked)
    assert result.exit_code == 0, result.output
    report = json.loads(out.read_text())
    assert "river-logistic failed: ValueError" in " ".join(result.output.split())
    assert list(report["failed"]) == ["river-logistic"]
    assert report[ENGINE]["events"] == report["river-hat"]["events"] == 240
    assert {"p50", "p99", "p99.9"} <= set(report["river-hat"]["latency_us"])
    assert report["river-hat"]["memory_bytes"] > 0
    assert report["intervals"]["river-hat"]["accuracy"]["half_width"] > 0.0
    text = page.read_text()
    assert "Hoeffding adaptive tree" in text
    assert "figures.json" in text
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=", text)  # it fetches nothing
    stream = report["stream"]
    assert (stream["delay"], stream["label_history"], stream["headline"]) == (5, True, "accuracy")


def test_a_regression_is_compared_by_its_errors(csv: Path, tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    asked = ["compare", str(csv), "--target", "price", "--ignore", "y", "--peers", "river-linear"]
    result = CliRunner().invoke(app, [*asked, "--limit", "120", "--json", str(out)])
    assert result.exit_code == 0, result.output
    report = json.loads(out.read_text())
    assert report["stream"]["events"] == 120
    gaps = report["intervals"]["river-linear"]
    squares = report[ENGINE]["rmse"] ** 2 - report["river-linear"]["rmse"] ** 2
    assert gaps["mae"]["difference"] == pytest.approx(report[ENGINE]["mae"] - report["river-linear"]["mae"])
    assert gaps["squared_error"]["difference"] == pytest.approx(squares)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--peers", "river-gbm"], "--peers river-gbm: is no peer; known for classification are"),
        (["--task", "ranking"], "expected classification or regression"),
        (["--weight", "z"], "no such column"),
    ],
)
def test_bad_options_end_with_one_clear_line(arguments: list[str], expected: str, csv: Path) -> None:
    result = CliRunner().invoke(app, ["compare", str(csv), "--target", "y", *arguments])
    assert result.exit_code == 2
    assert expected in " ".join(result.output.split())


def test_the_tables_show_every_learner_best_first_in_eighty_columns() -> None:
    jobs = jobs_of(["river-hat", "river-knn"], table(), "classification")
    results: list[Any] = [judge(job, quiet) for job in jobs[:2]]
    report = report_of(["river-hat", "river-knn"], jobs, [*results, Failure("it [broke]")])
    console = Console(width=80, record=True, file=open(os.devnull, "w"))  # noqa: SIM115 - recorded, not written
    show(report, console)
    text = console.export_text()
    assert "…" not in text
    assert "river-knn failed: it [broke]" in text
    best, other = sorted((ENGINE, "river-hat"), key=lambda name: -report[name]["accuracy"])
    assert text.index(best) < text.index(other)
    assert f"{report[ENGINE]['accuracy']:.4f}" in text


def test_a_peer_that_ran_away_leaves_the_tables_their_eighty_columns() -> None:
    clock = {
        "events_per_second": 10.0,
        "latency_us": {"p50": 1.0, "p99": 2.0, "p99.9": 3.0},
        "memory_bytes": 5,
    }
    sane = {"mae": 16.5, "rmse": 24.6, "r2": 0.86, **clock}
    report = {
        ENGINE: sane,
        "river-linear": {"mae": 2.16e9, "rmse": 2.4e10, "r2": -1.3e17, **clock},
        "stream": {"name": "made", "events": 2000, "headline": "mae", "task": "regression", "seeds": 1},
        "intervals": {
            "river-linear": {
                "mae": {"difference": -2.16e9, "half_width": 3.7e9},
                "squared_error": {"difference": -5.8e20, "half_width": 1.2e21},
            }
        },
        "failed": {},
    }
    console = Console(width=80, record=True, file=open(os.devnull, "w"))  # noqa: SIM115 - recorded, not written
    show(report, console)
    text = console.export_text()
    assert "…" not in text
    assert "-2.16e+09 ± 3.7e+09" in text
