"""Promises of the evaluation: tested before trained, late labels in the order of time, clear errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import typer
from typer.testing import CliRunner

from engine import OnlineClassifier, OnlineRegressor
from engine.evaluate import command
from engine.evaluate.peers import make_peer
from engine.evaluate.prequential import evaluate
from streams.table import Table
from tests.small_models import bits


def table(n: int = 1200, **times: Any) -> Table:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=n), rng.normal(size=n)
    y = np.where(a + 0.5 * b > 0, "up", "down")
    return Table("made", pa.table({"a": a, "b": b}), target=pa.array(y), **times)


class Diary:
    """A model that writes down what it was asked and taught."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, int]] = []

    def predict_proba_one(self, x: dict[str, Any]) -> dict[str, float]:
        self.lines.append(("asked", x["n"]))
        return {"up": 1.0}

    def learn_one(self, x: dict[str, Any], y: str) -> None:
        self.lines.append(("taught", x["n"]))


def test_every_forecast_is_made_before_its_label_is_learned() -> None:
    diary = Diary()
    rows = Table("made", pa.table({"n": [0, 1, 2]}), target=pa.array(["up", "up", "down"]))
    run = evaluate(diary, rows)
    assert diary.lines == [(what, i) for i in range(3) for what in ("asked", "taught")]
    assert run.metrics.result()["accuracy"] == pytest.approx(2 / 3)


def test_late_labels_are_learned_when_they_are_known_and_not_before() -> None:
    diary = Diary()
    rows = Table(
        "made",
        pa.table({"n": [0, 1, 2, 3]}),
        target=pa.array(["up", "down", None, "up"]),
        time=pa.array([10.0, 20.0, 30.0, 40.0]),
        label_time=pa.array([30.0, 25.0, 30.0, 99.0]),
    )
    run = evaluate(diary, rows)
    assert diary.lines == [
        ("asked", 0),
        ("asked", 1),
        ("taught", 1),
        ("asked", 2),  # the label of 0 is known at this very moment: the forecast comes first
        ("taught", 0),
        ("asked", 3),
        ("taught", 3),
    ]
    assert run.metrics.result()["events"] == 3
    assert run.unlabelled == 1


def test_arrays_and_dicts_give_the_same_figures_to_the_bit() -> None:
    rows = table()
    in_blocks = evaluate(OnlineClassifier(seed=1), rows, arrays=True, chunk=100)
    one_by_one = evaluate(OnlineClassifier(seed=1), rows, arrays=False)
    assert bits(*in_blocks.metrics.state()) == bits(*one_by_one.metrics.state())
    assert in_blocks.metrics.result()["accuracy"] > 0.9


def test_regression_goes_through_arrays_and_dicts_alike() -> None:
    rng = np.random.default_rng(2)
    a = rng.normal(size=600)
    rows = Table("made", pa.table({"a": a}), target=pa.array(3.0 * a + 1.5))
    results = [
        evaluate(OnlineRegressor(seed=0), rows, arrays=arrays).metrics.result() for arrays in (True, False)
    ]
    for field in ("mae", "rmse", "r2"):
        assert results[0][field] == pytest.approx(results[1][field], rel=1e-12)
    assert results[0]["r2"] > 0.5


def test_times_come_with_the_figures() -> None:
    rows = table(500, time=pa.array(1e9 + np.arange(500.0)))
    result = evaluate(OnlineClassifier(seed=0), rows).metrics.result()
    assert (result["first_time"], result["last_time"]) == (1e9, 1e9 + 499)


def test_a_river_peer_is_judged_by_the_same_pass() -> None:
    run = evaluate(make_peer("river-logistic"), table())
    result = run.result()
    assert result["accuracy"] > 0.85
    assert result["events"] == run.latency.count == 1200
    assert result["events_per_second"] > 0.0


def test_what_cannot_be_judged_is_refused_with_the_reason() -> None:
    nothing = Table("made", pa.table({"a": [1.0, 2.0]}), target=pa.array([None, None], pa.string()))
    with pytest.raises(ValueError, match="none of 2 rows has a label"):
        evaluate(make_peer("river-logistic"), nothing)
    with pytest.raises(ValueError, match="arrays=True needs"):
        evaluate(make_peer("river-logistic"), table(10), arrays=True)


# -- the command ------------------------------------------------------------------------------------


def call(*arguments: str) -> tuple[int, str]:
    app = typer.Typer()
    app.command()(command.evaluate)
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, result.output


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    rng = np.random.default_rng(5)
    lines = ["a,kind,when,known,y,price"]
    for i in range(300):
        a = rng.normal()
        lines.append(f"{a:.3f},{'xy'[i % 2]},{i},{i + 7},{int(a > 0)},{2 * a + 0.25:.3f}")
    path = tmp_path / "made.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_the_command_writes_the_promised_fields(csv: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "figures.json"
    code, text = call(str(csv), "--target", "y", "--ignore", "price", "--ignore", "known", "--json", str(out))
    assert code == 0, text
    figures = json.loads(out.read_text())
    wanted = ["events", "accuracy", "log_loss", "kappa_temporal", "balanced_accuracy", "roc_auc"]
    wanted.append("events_per_second")
    assert all(isinstance(figures[field], int | float) for field in wanted)
    assert {"p50", "p99"} <= set(figures["latency_us"])
    assert figures["events"] == 300
    assert figures["accuracy"] > 0.8


def test_the_page_shows_the_figures_and_what_to_doubt_about_them(csv: Path, tmp_path: Path) -> None:
    page, out = tmp_path / "deep" / "page.html", tmp_path / "figures.json"
    code, text = call(str(csv), "--target", "y", "--delay", "3", "--html", str(page), "--json", str(out))
    assert code == 0, text
    figures, html = json.loads(out.read_text()), page.read_text()
    assert f"{figures['accuracy']:.3f}" in html
    assert "the feature &#x27;price&#x27; alone tells the label" in html
    assert "<li>delay <b>3</b></li>" in html
    assert "All figures are in figures.json beside this page" in html
    assert "Class by class" in html
    code, text = call(str(csv), "--target", "price", "--html", str(page))
    assert code == 0, text
    assert "mean absolute error" in page.read_text()


def test_features_that_give_the_label_away_are_named(csv: Path, tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    code, text = call(str(csv), "--target", "y", "--limit", "60", "--json", str(out))
    assert code == 0, text
    assert "'price' alone tells the label (one threshold, 100.00%)" in text
    assert json.loads(out.read_text())["suspicious_features"] == ["a", "price"]
    code, text = call(str(csv), "--target", "price", "--ignore", "y", "--limit", "60")
    assert "'a' alone tells the label (a straight line" in text
    assert "'kind'" not in text


def test_ids_and_labels_that_repeat_are_told_before_the_figures(tmp_path: Path) -> None:
    path, out = tmp_path / "made.csv", tmp_path / "figures.json"
    rng = np.random.default_rng(1)
    rows = [f"{i},{rng.normal():.3f},{'up' if i // 20 % 2 else 'down'}" for i in range(200)]
    path.write_text("\n".join(["id,a,y", *rows]) + "\n")
    code, text = call(str(path), "--target", "y", "--json", str(out))
    assert code == 0, text
    assert "'id' looks like an id: it numbers the rows; leave it out with --ignore id" in " ".join(
        text.split()
    )
    assert "kappa_temporal" in text
    figures = json.loads(out.read_text())
    assert figures["id_columns"] == ["id"]
    assert figures["label_repeats"]["share"] == pytest.approx(190 / 199)


def test_a_target_with_fractions_is_a_regression(csv: Path, tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    code, text = call(str(csv), "--target", "price", "--ignore", "y", "--json", str(out))
    assert code == 0, text
    figures = json.loads(out.read_text())
    assert figures["task"] == "regression"
    assert figures["mae"] > 0.0
    assert figures["rmse"] >= figures["mae"]
    assert figures["r2"] <= 1.0


def test_keys_times_and_late_labels_are_taken(csv: Path) -> None:
    code, text = call(
        *(str(csv), "--target", "y", "--time", "when", "--label-time", "known", "--key", "kind"),
        *("--ignore", "price", "--label-history", "--seed", "3", "--limit", "200"),
    )
    assert code == 0, text
    assert "200" in text


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["nowhere.csv", "--target", "y"], "there is no file"),
        (["elec3"], "no built-in stream"),
        (["{csv}"], "add --target"),
        (["{csv}", "--target", "z"], "no such column"),
        (["{csv}", "--target", "y", "--task", "ranking"], "expected classification or regression"),
        (["{csv}", "--target", "kind", "--task", "regression"], "expects numbers"),
        (["{csv}", "--target", "y", "--key", "city"], "no such column"),
        (["{empty}", "--target", "y"], "empty"),
        (["phishing", "--target", "y"], "built-in stream"),
    ],
)
def test_bad_input_ends_with_one_clear_line(
    arguments: list[str], expected: str, csv: Path, tmp_path: Path
) -> None:
    empty = tmp_path / "empty.csv"
    empty.write_text("a,y\n")
    code, text = call(*(a.format(csv=csv, empty=empty) for a in arguments))
    assert code == 2
    assert "Traceback" not in text
    assert expected in " ".join(text.split())


def test_a_figure_file_that_cannot_be_written_is_said_so(csv: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, text = call(str(csv), "--target", "y", "--limit", "20", "--json", str(tmp_path / "file" / "x.json"))
    assert code == 2
    assert "cannot be written" in text
