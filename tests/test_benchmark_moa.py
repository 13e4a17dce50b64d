"""Promises of CapyMOA's learners as peers: labels at their time, missing values, the same judge as for all."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from benchmarks import moa
from benchmarks.schedule import Told, steps_of, with_last_label
from engine.evaluate.prequential import evaluate
from streams.table import Table


def late(labels: list[Any] | None = None) -> Table:
    """Four rows at 0, 10, 20, 30 s; their labels are known at 25, 15, 40 and 35 s."""
    return Table(
        "late",
        pa.table({"a": [1.0, None, 4.0, None], "b": ["x", None, "y", "x"]}),
        target=pa.array(labels or ["u", "v", "u", "v"]),
        time=pa.array([0.0, 10.0, 20.0, 30.0]),
        label_time=pa.array([25.0, 15.0, 40.0, 35.0]),
        task="classification",
    )


def test_a_schedule_has_each_label_after_the_forecasts_made_before_it_was_known() -> None:
    assert steps_of(late(), 4) == [0, 1, ~1, 2, ~0, 3, ~3, ~2]


def test_a_schedule_without_label_times_has_each_label_right_after_its_forecast() -> None:
    table = Table("now", pa.table({"a": [1, 2]}), target=pa.array(["u", "v"]))
    assert steps_of(table, 2) == [0, ~0, 1, ~1]


def test_numbers_for_moa_fill_what_is_missing_with_the_mean_of_the_rows_before() -> None:
    X, values = moa.numbers(late(), 4)
    assert X[:, 0].tolist() == [1.0, 1.0, 4.0, 2.5]
    assert X[:, 1].tolist() == [0, 1, 2, 0]  # x, missing, y, x
    assert values.tolist() == [0, 3]


def test_answers_given_elsewhere_are_judged_as_if_the_model_were_here() -> None:
    class Fixed:
        """Says the same at any time."""

        def predict_proba_one(self, x: dict[str, Any]) -> dict[str, float]:
            return {"u": 0.7, "v": 0.3}

        def learn_one(self, x: dict[str, Any], y: str) -> None:
            pass

    here = evaluate(Fixed(), late()).metrics.result()
    P = np.tile([0.7, 0.3], (4, 1))
    assert evaluate(Told(P, ["u", "v"]), late()).metrics.result() == here
    P[2] = 0.0  # no answer: wrong, with the loss of an even guess
    unsure = evaluate(Told(P, ["u", "v"]), late()).metrics.result()
    assert unsure["accuracy"] == here["accuracy"] - 0.25
    assert unsure["log_loss"] == pytest.approx(here["log_loss"] + (math.log(2) + math.log(0.7)) / 4)


def test_the_label_before_is_the_last_one_known_when_the_row_is_forecast() -> None:
    rows = list(with_last_label(late(), 4).rows())
    assert [row.x["label before"] for row in rows] == [None, None, "v", "u"]
    assert [(row.x["a"], row.y, row.meta) for row in rows] == [
        (row.x["a"], row.y, row.meta) for row in late().rows()
    ]


@pytest.mark.capymoa
@pytest.mark.parametrize("name", ["moa-samknn", "moa-efdt"])
def test_moas_answers_read_no_label_of_their_own_row_or_later(name: str) -> None:
    from streams.datasets import load

    table = load("phishing").slice(0, 300)
    labels = table.labels()
    y = np.array([int(label is True) for label in labels])
    now = 250
    before, seconds = moa._answers(name, table, 300, y, 0)
    after, _ = moa._answers(name, table, 300, np.where(np.arange(300) >= now, 1 - y, y), 0)
    assert seconds > 0.0
    assert np.array_equal(before[: now + 1], after[: now + 1])
    assert not np.array_equal(before, after)


@pytest.mark.capymoa
@pytest.mark.parametrize("name", list(moa.PEERS))
def test_each_of_moas_learners_learns(name: str) -> None:
    from streams.datasets import load

    figures = moa.judge(name, load("phishing"), rows=600).metrics.result()
    assert figures["events"] == 600
    assert figures["accuracy"] > 0.7  # the commoner label makes 0.55


@pytest.mark.capymoa
def test_moas_learners_take_text_missing_values_and_late_labels() -> None:
    figures = moa.judge("moa-efdt", late(), rows=4).metrics.result()
    assert figures["events"] == 4
