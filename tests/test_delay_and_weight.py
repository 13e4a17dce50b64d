"""Promises of late labels and sample weights in an evaluation: what is learned when, and what it counts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import typer
from typer.testing import CliRunner

from engine import OnlineClassifier
from engine.evaluate import command
from engine.evaluate.peers import make_peer
from engine.evaluate.prequential import evaluate
from streams.errors import TableError
from streams.files import read_table
from streams.table import Table
from tests.small_models import bits


class Diary:
    """A model that writes down what it was asked and taught, with weights."""

    def __init__(self) -> None:
        self.lines: list[tuple[Any, ...]] = []

    def predict_proba_one(self, x: dict[str, Any]) -> dict[str, float]:
        self.lines.append(("asked", x["n"]))
        return {"up": 1.0}

    def learn_one(self, x: dict[str, Any], y: str, w: float = 1.0) -> None:
        self.lines.append(("taught", x["n"], w))


def weighted(n: int = 600, **columns: Any) -> Table:
    rng = np.random.default_rng(0)
    a = rng.normal(size=n)
    y = np.where(a + 0.3 * rng.normal(size=n) > 0, "up", "down")
    weight = rng.integers(0, 4, size=n).astype(float)
    return Table("made", pa.table({"a": a}), target=pa.array(y), weight=pa.array(weight), **columns)


def test_with_a_delay_of_two_a_label_is_learned_after_the_second_event_behind_its_own() -> None:
    diary = Diary()
    rows = Table("made", pa.table({"n": [0, 1, 2, 3]}), target=pa.array(["up", None, "down", "up"]))
    run = evaluate(diary, rows, delay=2)
    asked = [("asked", i) for i in range(4)]
    assert diary.lines == [*asked[:3], ("taught", 0, 1.0), asked[3], ("taught", 2, 1.0), ("taught", 3, 1.0)]
    assert run.unlabelled == 1


def test_a_delay_as_long_as_the_stream_teaches_nothing_before_its_end() -> None:
    rows = weighted(50)
    model = OnlineClassifier(seed=0)
    run = evaluate(model, rows, delay=50)
    assert run.metrics.result()["empty_forecasts"] == 50
    assert model.counters()["labels"] == sum(weight > 0.0 for weight in rows.weights() or [])


def test_the_engine_learns_late_labels_from_the_forecasts_that_it_kept() -> None:
    rows = weighted(300)
    late = evaluate(OnlineClassifier(seed=0), rows, delay=20).metrics
    now = evaluate(OnlineClassifier(seed=0), rows, arrays=False).metrics
    assert late.result()["empty_forecasts"] == 21
    assert late.result()["log_loss"] != now.result()["log_loss"]
    assert late.result()["accuracy"] > 0.7


def test_a_delay_beside_label_times_is_refused() -> None:
    rows = weighted(20, time=pa.array(np.arange(20.0)), label_time=pa.array(np.arange(20.0) + 3.0))
    with pytest.raises(ValueError, match="delay=3: made expects 0, for label times say when"):
        evaluate(Diary(), rows, delay=3)


def test_weights_reach_the_learner_and_the_figures() -> None:
    diary = Diary()
    rows = Table(
        "made",
        pa.table({"n": [0, 1, 2]}),
        target=pa.array(["up", "down", "up"]),
        weight=pa.array([2.0, 0.5, 1.0]),
    )
    result = evaluate(diary, rows).metrics.result()
    assert [line[1:] for line in diary.lines if line[0] == "taught"] == [(0, 2.0), (1, 0.5), (2, 1.0)]
    assert result["accuracy"] == pytest.approx(3.0 / 3.5)
    assert result["class_weights"] == [3.0, 0.5]


def test_weights_count_the_same_in_arrays_and_through_dicts() -> None:
    rows = weighted()
    in_blocks = evaluate(OnlineClassifier(seed=1), rows, arrays=True, chunk=100)
    one_by_one = evaluate(OnlineClassifier(seed=1), rows, arrays=False)
    assert bits(*in_blocks.metrics.state()) == bits(*one_by_one.metrics.state())
    even = evaluate(OnlineClassifier(seed=1), rows.slice(0, 600), arrays=True).metrics.result()
    assert even == in_blocks.metrics.result()  # a part of a table keeps its weights


def test_events_of_a_table_carry_their_weights() -> None:
    rows = weighted(10)
    assert [event.weight for event in rows.events()] == rows.weights()  # type: ignore[union-attr]


def test_every_learner_tells_its_memory() -> None:
    rows = weighted(100)
    for model in (OnlineClassifier(seed=0), make_peer("river-hat"), make_peer("backprop-adam-0.001")):
        found = evaluate(model, rows).result()["memory_bytes"]
        assert isinstance(found, int)
        assert found > 1_000
    assert evaluate(Diary(), Table("m", pa.table({"n": [1]}), target=pa.array(["up"]))).memory_bytes is None


# -- files and the command --------------------------------------------------------------------------


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    rng = np.random.default_rng(5)
    lines = ["a,n,y"]
    lines += [f"{a:.3f},{i % 3 + 0.5},{'yes' if a > 0 else 'no'}" for i, a in enumerate(rng.normal(size=120))]
    path = tmp_path / "made.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_the_weight_column_is_no_feature(csv: Path) -> None:
    table = read_table(csv, "y", weight="n")
    assert table.columns == ["a"]
    assert (table.weights() or [])[:4] == [0.5, 1.5, 2.5, 0.5]


@pytest.mark.parametrize(("weight", "shown"), [("-1", "-1.0"), ("", "None"), ("2e6", "2000000.0")])
def test_a_weight_that_is_none_is_told_with_its_row(csv: Path, weight: str, shown: str) -> None:
    csv.write_text(csv.read_text() + f"0.1,{weight},yes\n")
    with pytest.raises(TableError, match=f"holds the weight {shown} in row 120; expected a number from 0"):
        read_table(csv, "y", weight="n")


def test_the_target_is_no_weight(csv: Path) -> None:
    with pytest.raises(TableError, match="weight names the target"):
        read_table(csv, "n", weight="n")


def test_the_command_takes_a_delay_and_weights(csv: Path, tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(command.evaluate)
    out = tmp_path / "figures.json"
    asked = [str(csv), "--target", "y", "--weight", "n", "--delay", "10", "--json", str(out)]
    result = CliRunner().invoke(app, asked)
    assert result.exit_code == 0, result.output
    figures = json.loads(out.read_text())
    assert figures["delay"] == 10
    assert figures["empty_forecasts"] == 11
    assert sum(figures["class_weights"]) == pytest.approx(120 * 1.5)
    assert figures["memory_bytes"] > 0
