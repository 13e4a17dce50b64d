"""Promises of the doubts: what numbers rows, tells the label or repeats is named, and nothing else is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from engine.evaluate.doubts import doubts, id_columns, repeats
from streams.table import Table

RANDOM = np.random.default_rng(0)


def table(n: int = 400, key: tuple[str, ...] = (), **columns: Any) -> Table:
    y = np.where(RANDOM.random(n) < 0.5, "a", "b")
    return Table("made", pa.table(columns), target=pa.array(y), key=key)


def test_a_column_that_numbers_the_rows_is_named_whichever_way_it_goes() -> None:
    rises = np.cumsum(RANDOM.integers(1, 9, 400))
    found = id_columns(table(up=rises, down=-rises, shuffled=RANDOM.permutation(400)))
    assert [column.feature for column in found] == ["up", "down"]
    assert "--ignore up" in str(found[0])
    assert "--time up" in str(found[0])


def test_text_that_is_new_in_nearly_every_row_is_named() -> None:
    names = [f"customer {i}" for i in range(400)]
    names[7] = names[8]
    found = id_columns(table(name=names, kind=["x", "y"] * 200))
    assert [column.feature for column in found] == ["name"]
    assert "99.5%" in str(found[0])


def test_numbers_that_rise_but_repeat_or_have_fractions_are_no_ids() -> None:
    steps = np.repeat(np.arange(200), 2)
    assert id_columns(table(step=steps, seconds=np.arange(400) + 0.5)) == []


def test_a_key_is_no_id_that_one_should_leave_out() -> None:
    names = [f"customer {i}" for i in range(400)]
    assert id_columns(table(name=names, key=("name",))) == []


def test_few_rows_are_no_ground_for_a_doubt() -> None:
    assert doubts(table(30, id=range(30))).sentences() == []


def test_labels_that_repeat_beyond_chance_are_told_with_the_figure_to_look_at() -> None:
    found = repeats((["up"] * 9 + ["down"] * 3) * 40)
    assert found is not None
    assert 0.83 < found.share < 0.84  # 10 of 12
    assert found.by_chance == 0.625
    assert "kappa_temporal" in str(found)


def test_labels_in_no_order_do_not_repeat_however_rare_a_class_is() -> None:
    for share in (0.5, 0.9, 0.99):
        assert repeats((RANDOM.random(2000) < share).tolist()) is None
    assert repeats(["same"] * 500) is None


def test_missing_labels_are_passed_over() -> None:
    found = repeats([label for y in (["a"] * 50 + ["b"] * 50) * 3 for label in (y, None)])
    assert found is not None
    assert found.share > 0.95


def test_only_the_rows_that_are_evaluated_are_judged() -> None:
    labels = ["a", "b"] * 50 + ["a"] * 150 + ["b"] * 150
    made = Table("made", pa.table({"x": RANDOM.random(400)}), target=pa.array(labels))
    assert doubts(made, 100).repeats is None
    assert doubts(made).repeats is not None


def test_a_number_to_forecast_has_no_label_that_repeats() -> None:
    made = Table("made", pa.table({"x": RANDOM.random(400)}), target=pa.array([0.5] * 200 + [1.5] * 200))
    assert doubts(made).fields() == {"suspicious_features": [], "id_columns": [], "label_repeats": None}
