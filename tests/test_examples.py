"""Every example runs as it is handed out, and prints what it promises."""

from __future__ import annotations

import json
import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest

from engine import OnlineClassifier
from engine.cli import main

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"


def run(
    name: str, *arguments: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> str:
    """What an example prints."""
    path = str(EXAMPLES / name)
    monkeypatch.setattr(sys, "argv", [path, *arguments])
    runpy.run_path(path, run_name="__main__")
    return capsys.readouterr().out


def figure(text: str, after: str) -> float:
    """The first number behind some words."""
    found = re.search(re.escape(after) + r"\D*?(-?\d+(\.\d+)?)", text)
    assert found, f"{after!r} is not in {text!r}"
    return float(found[1])


def test_the_river_example_scores_in_pipelines_and_with_delay(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = run("river_api.py", monkeypatch=monkeypatch, capsys=capsys)
    assert "before the first label: {}" in out
    assert figure(out, "sites, Accuracy:") >= 90.0
    assert figure(out, "late, ROCAUC:") >= 90.0


def test_the_late_label_example_gains_by_outcomes_per_key(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = run("late_labels.py", monkeypatch=monkeypatch, capsys=capsys)
    assert figure(out, "kept per depot:") > figure(out, "without keys:") > 0.6
    assert figure(out, "still on their way:") > 0
    assert re.search(r"north, last 10 days: \d+% late of [\d.]+ labels", out)


def test_the_array_example_continues_from_a_file_to_the_bit(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = run("arrays.py", monkeypatch=monkeypatch, capsys=capsys)
    assert "shape: (2000, 2) before the first label: [0. 0.]" in out
    assert "the same to the bit: True" in out
    assert "learns nothing: True" in out
    assert figure(out, "180 degrees:") > 0.85


def test_the_loop_example_is_killed_and_ends_with_the_same_bytes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    out = run("kill_and_resume.py", monkeypatch=monkeypatch, capsys=capsys)
    assert "ended by SIGKILL" in out
    assert 0 < figure(out, "log by then:") < 1000
    assert "goes on after" in out
    assert figure(out, "answers in the end:") == 1000
    assert "undisturbed run: True" in out
    assert "the same figures: True" in out


@pytest.mark.kafka
def test_the_kafka_example_answers_into_a_topic(
    broker: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = run("kafka_topics.py", broker, monkeypatch=monkeypatch, capsys=capsys)
    assert "300 orders answered, 300 outcomes learned" in out
    assert "answers in the topic: 300" in out
    assert figure(out, "what was answered:") > 0.7
    assert "'id': 'o299'" in out


def test_the_kafka_example_says_what_it_wants(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="expected the address of a broker"):
        run("kafka_topics.py", monkeypatch=monkeypatch, capsys=capsys)


def test_the_explanation_names_experts_experiences_and_outcomes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = run("explain_decision.py", monkeypatch=monkeypatch, capsys=capsys)
    assert figure(out, "'weekend': False}:") > 0.2
    said = re.findall(r"^  (\w.*?) +weight \+(0\.\d+) +says (0\.\d+)$", out, re.MULTILINE)
    assert len(said) == 4
    assert {name for name, _, _ in said} <= set(OnlineClassifier()._core.sizes.expert_names())
    weights = [float(weight) for _, weight, _ in said]
    assert weights == sorted(weights, reverse=True)
    assert weights[-1] > 0.0
    assert re.search(r"payment-\d+ +was (fine|fraud) +distance 0\.\d+", out)
    assert "shop b: 0." in out
    assert re.search(r"forgotten: 1 experience of payment-\d+\nstill recalled: False", out)


def test_the_regression_example_forecasts_the_approval(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = run("regression.py", monkeypatch=monkeypatch, capsys=capsys)
    assert figure(out, "percent, MAE:") <= 0.6
    said, was = figure(out, "last poll: said"), figure(out, ", was")
    assert abs(said - was) < 1.0


def test_the_example_with_an_expert_of_ones_own_gains_by_it_and_forgives_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = run("own_expert.py", monkeypatch=monkeypatch, capsys=capsys)
    alone, helped = (
        [float(share) for share in line.rpartition(": ")[2].split(", ")] for line in out.splitlines()[:2]
    )
    assert alone[0] < 0.1 < 0.9 < helped[0]
    assert helped[1] > 0.7
    assert alone[2] < 0.1 < 0.7 < helped[2]
    assert figure(out, "weight of the rule:") > abs(figure(out, "of River's tree:"))
    assert "not saved: the expert 'HoeffdingTreeClassifier' has no to_bytes" in out


def test_the_command_of_the_readme_evaluates_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"```\n(everlearn evaluate .*?)```", text, re.DOTALL)
    arguments = shlex.split(command.replace("\\\n", " "))
    arguments[arguments.index("parcels.json")] = str(tmp_path / "parcels.json")
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code
    figures = json.loads((tmp_path / "parcels.json").read_text(encoding="utf-8"))
    assert figures["events"] == 1500
    assert figures["roc_auc"] > 0.75
    assert figures["suspicious_features"] == []
    assert "everlearn on parcels" in capsys.readouterr().out


def test_the_data_file_is_what_its_program_writes(tmp_path: Path) -> None:
    program = runpy.run_path(str(EXAMPLES / "data/make_parcels.py"))
    program["write"](tmp_path / "parcels.csv")
    assert (tmp_path / "parcels.csv").read_bytes() == (EXAMPLES / "data/parcels.csv").read_bytes()


def test_every_example_stands_in_the_readme_and_is_tested_here() -> None:
    text, tests = (
        (EXAMPLES / "README.md").read_text(encoding="utf-8"),
        Path(__file__).read_text(encoding="utf-8"),
    )
    programs = sorted(path.name for path in EXAMPLES.glob("*.py"))
    assert len(programs) >= 7
    for name in programs:
        assert f"examples/{name}" in text
        assert f'run("{name}"' in tests
