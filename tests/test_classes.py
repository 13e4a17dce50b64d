"""Promises of the figures that look at classes and at events apart."""

from __future__ import annotations

from array import array

import numpy as np
import pytest
from sklearn.metrics import precision_recall_fscore_support

from engine.evaluate.classes import per_class
from engine.evaluate.metrics import PrequentialMetrics


def test_what_each_event_cost_is_kept_where_it_is_asked_for() -> None:
    each = (array("d"), array("d"), array("d"))
    metrics = PrequentialMetrics(each=each)
    for i in range(200):
        y = "up" if i % 3 else "down"
        metrics.update(y, {"up": 0.7, "down": 0.3} if i % 2 else {}, w=float(i % 4))
    weights, hits, losses = (np.asarray(column) for column in each)
    result = metrics.result()
    assert len(weights) == 200
    assert float(weights @ hits / weights.sum()) == pytest.approx(result["accuracy"])
    assert float(weights @ losses / weights.sum()) == pytest.approx(result["log_loss"])


def test_precision_recall_and_f1_of_each_class_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(4)
    labels = rng.choice(["a", "b", "c"], size=300, p=[0.6, 0.37, 0.03])
    said = np.where(rng.random(300) < 0.7, labels, rng.choice(["a", "b", "c"], size=300))
    metrics = PrequentialMetrics()
    for y, answer in zip(labels.tolist(), said.tolist(), strict=True):
        metrics.update(y, {answer: 1.0})
    result = metrics.result()
    names = ["a", "b", "c"]
    expected = precision_recall_fscore_support(labels, said, labels=names)
    for field, row in zip(("precision", "recall", "f1"), expected, strict=False):
        assert [result["per_class"][name][field] for name in names] == pytest.approx(list(row))
    assert result["rare_classes"] == ["c"]
    assert result["rare_recall"] == pytest.approx(expected[1][2])
    assert result["balanced_accuracy"] == pytest.approx(expected[1].mean())


def test_a_class_that_was_never_forecast_has_no_precision_and_no_class_is_rare_of_two_even_ones() -> None:
    found = per_class(["a", "b"], support=[5.0, 5.0], predicted=[10.0, 0.0], hits=[5.0, 0.0])
    assert found["per_class"]["b"]["precision"] is None
    assert found["per_class"]["b"]["recall"] == found["per_class"]["b"]["f1"] == 0.0
    assert (found["rare_classes"], found["rare_recall"]) == ([], None)
