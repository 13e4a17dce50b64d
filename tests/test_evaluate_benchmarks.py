"""Promises of the benchmarks' own parts: rates and nightly trees know no label before its time."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from benchmarks.depth import backpropagation, inputs
from benchmarks.nightly import boosted_nightly, matrix
from benchmarks.rates import HORIZONS, STRENGTH, outcome_rates
from benchmarks.tables import Findings, shares


def stream(n: int = 120) -> tuple[dict[str, list[str]], np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    columns = {"carrier": rng.choice(list("AB"), n).tolist(), "origin": rng.choice(list("XYZ"), n).tolist()}
    time = np.sort(rng.uniform(0, 40_000, n))
    return columns, rng.integers(0, 2, n), time, time + rng.uniform(100, 20_000, n)


def test_rates_are_the_decayed_counts_of_labels_known_by_then() -> None:
    columns, y, time, known = stream()
    found, names = outcome_rates(columns, ("carrier", ("carrier", "origin")), y, time, known)
    assert found.shape == (120, 12)
    spans = list(HORIZONS.values())
    pairs = list(zip(columns["carrier"], columns["origin"], strict=True))
    for i in (0, 50, 119):
        for a, span in enumerate(spans):
            weight = np.where(known < time[i], np.exp((known - time[i]) / span), 0.0)
            base = (weight @ y + 0.5) / (weight.sum() + 1.0)
            mine = np.array([pair == pairs[i] for pair in pairs])
            p = (weight[mine] @ y[mine] + STRENGTH * base) / (weight[mine].sum() + STRENGTH)
            column = names.index(f"late carrier+origin {list(HORIZONS)[a]}")
            assert found[i, column] == pytest.approx(math.log(p / (1 - p)), rel=1e-6, abs=1e-6)


def test_rates_do_not_change_with_labels_that_are_not_known_yet() -> None:
    columns, y, time, known = stream()
    now = 60
    later = np.where(known >= time[now], 1 - y, y)
    before, _ = outcome_rates(columns, ("carrier",), y, time, known)
    after, _ = outcome_rates(columns, ("carrier",), later, time, known)
    assert np.array_equal(before[: now + 1], after[: now + 1])
    assert not np.array_equal(before, after)


def test_nightly_trees_read_no_label_of_the_day_they_forecast() -> None:
    rng = np.random.default_rng(1)
    time = np.sort(rng.uniform(0, 2.5 * 86400, 300))
    X = rng.normal(size=(300, 2))
    y = (X[:, 0] > 0).astype(np.int64)
    day = (time - 8 * 3600) // 86400
    p = boosted_nightly(X, [False, False], y, time, time + 60.0)
    changed = boosted_nightly(X, [False, False], np.where(day == day.max(), 1 - y, y), time, time + 60.0)
    assert np.isnan(p[day == day.min()]).all()
    assert np.array_equal(p, changed, equal_nan=True)
    assert ((p[day == day.max()] > 0.5) == y[day == day.max()]).mean() > 0.8


def test_fields_with_too_many_values_are_left_out_of_the_trees() -> None:
    columns = {
        "tail": [f"N{i}" for i in range(300)],
        "kind": ["a", None, "b"] * 100,
        "wind": [1.0, None, 2.0] * 100,
    }
    X, categories, names = matrix(columns)
    assert names == ["kind", "wind"]
    assert categories == [True, False]
    assert np.isnan(X[1]).all()


def test_the_inputs_of_the_depth_benchmark_are_causal() -> None:
    columns = np.random.default_rng(2).normal(size=(50, 3))
    other = columns.copy()
    other[30:] += 5.0
    assert np.array_equal(inputs(columns)[:30], inputs(other)[:30])


@pytest.mark.parametrize("skip", [True, False])
def test_backpropagation_learns_where_it_is_shallow(skip: bool) -> None:
    X = np.random.default_rng(3).normal(size=(400, 4)).astype(np.float32)
    y = (X[:, 0] > 0).astype(np.int64)
    correct, _ = backpropagation(X, y, 2, skip, 2, 0.003)
    assert correct > 300


def test_findings_become_a_page_and_its_json(tmp_path: Path) -> None:
    found = Findings(name="made", title="Made", about="About.", columns={"learner": 0, "AUC": 3})
    found.add(learner="everlearn", AUC=0.75)
    found.notes.append("a note")
    page = found.write(tmp_path).read_text()
    assert "| everlearn | 0.750 |" in page
    assert "- a note" in page
    assert json.loads((tmp_path / "made.json").read_text())["rows"] == [{"learner": "everlearn", "AUC": 0.75}]


def test_paired_differences_have_an_interval() -> None:
    mean, half = shares([0.01, 0.02, 0.03])
    assert mean == pytest.approx(0.02)
    assert half == pytest.approx(0.0248, abs=1e-4)
