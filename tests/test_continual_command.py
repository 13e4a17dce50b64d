"""`everlearn evaluate --scenario`: figures, page, errors, and what docs/continual.md promises of them."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from engine.cli import app
from engine.evaluate.continual.command import examples_of
from engine.evaluate.continual.page import render

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs/continual.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"```sh\n(everlearn .*?)\n```", PAGE, re.DOTALL)


def call(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["evaluate", *arguments])
    return result.exit_code, " ".join(result.output.split())


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """48 images of four classes, each with one bright corner, and a test set."""
    rng = np.random.default_rng(0)
    y = np.arange(48) % 4
    X = rng.integers(0, 40, (48, 4, 4)).astype(np.uint8)
    X[np.arange(48), y // 2 * 3, y % 2 * 3] = 250
    np.savez(tmp_path / "corners.npz", X=X[:32], y=y[:32], X_test=X[32:], y_test=y[32:])
    return tmp_path / "corners.npz"


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.split()[2])
def test_a_command_of_the_page_runs_as_it_stands(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    words = [
        str(tmp_path / word) if word.endswith((".json", ".html")) else word
        for word in shlex.split(command)[2:]
    ]
    code, text = call(*words)
    assert code == 0, text
    for name in re.findall(r"\w+\.(?:json|html)", command):
        assert (tmp_path / name).stat().st_size > 1000


def test_the_figures_are_those_of_the_page_s_table(images: Path, tmp_path: Path) -> None:
    out, page = tmp_path / "deep" / "m.json", tmp_path / "m.html"
    code, text = call(
        *(str(images), "--scenario", "class-incremental", "--seeds", "2", "--shuffled"),
        *("--json", str(out), "--html", str(page)),
    )
    assert code == 0, text
    figures = json.loads(out.read_text())
    table = PAGE[PAGE.index("| field | says |") : PAGE.index("Forgetting says")]
    fields = [
        name for row in table.strip().splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])
    ]
    assert len(fields) > 12
    assert set(fields) <= set(figures)
    assert figures["tasks"] == ["0, 1", "2, 3"]
    assert (figures["events"], figures["tests"], figures["seeds"]) == (32, 16, [0, 1])
    runs = figures["runs"]
    assert figures["live_accuracy"] == pytest.approx(
        (runs[0]["live_accuracy"] + runs[1]["live_accuracy"]) / 2
    )
    assert figures["spread"]["live_accuracy"] == pytest.approx(
        abs(runs[0]["live_accuracy"] - runs[1]["live_accuracy"]) / 2**0.5
    )
    assert np.array(figures["matrix"])[0, 1] == 0.0  # no class of the second task is known after the first
    assert figures["shuffled"]["events"] == 32
    html = page.read_text()
    assert html.count("<rect") == 4
    assert f"{figures['final_accuracy']:.3f}" in html
    assert "All figures are in m.json beside this page" in html
    assert "default-src 'none'" in html
    assert not re.findall(r"https?://(?!www.w3.org)", html)


def test_a_column_of_tasks_is_no_feature_and_rows_without_label_are_left_out(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [f"{rng.normal():.2f},{'xyz'[k % 3]},{k // 30},{'ab'[k % 2] if k != 7 else ''}" for k in range(60)]
    path = tmp_path / "made.csv"
    path.write_text("\n".join(["a,kind,day,y", *rows]) + "\n")
    found = examples_of(str(path), target="y", domain="day")
    assert found.domain == [0] * 29 + [1] * 30
    assert [sorted(x) for x in found.X] == [["a", "kind"]] * 59
    numbers = examples_of(str(path), target="y", ignore=["kind"], domain="day", limit=40)
    assert (numbers.arrays, np.shape(numbers.X), numbers.domain) == (True, (39, 1), [0] * 29 + [1] * 10)
    path.write_text(path.read_text().replace(",1,", ",,"))
    code, text = call(str(path), "--target", "y", "--domain", "day", "--scenario", "recurring")
    assert code == 2
    assert "day is missing in 30 rows; expected the task of every row" in text


def figures_of(**more: Any) -> dict[str, Any]:
    """Figures as the command writes them, by hand."""
    looks = [{"events": n, "accuracy": 0.9, "tasks": {"0": 0.9}} for n in (10, 20)]
    return {
        "stream": "<made>", "scenario": "recurring", "tasks": ["<b>", "wet"], "order": [0, 1], "classes": 2,
        "seeds": [0], "events": 20, "tests": 8, "part_events": [10, 10], "matrix": [[0.9, 0.1], [0.25, 1.0]],
        "looks": looks, "live": [[20, 0.75]], "switches": [], "us_per_event": 5.0, "memory_bytes": 10, **more,
    }  # fmt: skip


def test_names_from_the_data_are_only_text_on_the_page() -> None:
    html = render(figures_of())
    assert "<made>" not in html
    assert "<b>," not in html
    assert "&lt;made&gt;, recurring" in html
    assert "after 1: &lt;b&gt;" in html
    assert ">0.250<" in html


def test_what_happens_after_a_switch_stands_on_the_page() -> None:
    one = {
        "visit": 3,
        "and_later": True,
        "switches": 4,
        "accuracy_before": 0.9,
        "recovery": None,
        "shortfall": 7,
    }
    html = render(figures_of(switches=[one]))
    assert "visits from the 3rd on" in html
    assert "never" in html
    assert "After a switch" not in render(figures_of())


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["bananas", "--scenario", "spiral"], "expected one of class-incremental"),
        (["bananas", "--scenario", "class-incremental"], "has 2 classes, one task with 2 per task"),
        (["trump_approval", "--scenario", "permuted"], "a scenario expects classes"),
        (["bananas", "--scenario", "permuted"], "has 2 columns; permuted expects at least 3"),
        (["bananas", "--scenario", "recurring", "--delay", "3"], "--delay is given; a scenario's labels"),
        (["bananas", "--tasks", "3"], "--tasks is given; it is about tasks: add --scenario NAME"),
        (["bananas", "--shuffled"], "--shuffled is given"),
        (["bananas", "--scenario", "recurring", "--shuffled"], "no upper line"),
        (["bananas", "--scenario", "recurring", "--domain", "colour"], "no such column"),
        (["{images}"], "add --scenario NAME"),
        (["{images}", "--scenario", "blurry", "--domain", "x"], "it has no columns; leave out --domain"),
        (["none.npz", "--scenario", "blurry"], "there is no file"),
    ],
)
def test_what_does_not_fit_ends_with_one_clear_line(
    arguments: list[str], expected: str, images: Path
) -> None:
    code, text = call(*(argument.format(images=images) for argument in arguments))
    assert code == 2, text
    assert "Traceback" not in text
    assert expected in text
