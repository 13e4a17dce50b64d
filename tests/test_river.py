"""River's own checks and evaluation over both learners, none skipped."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from river import base, checks, compose, datasets, evaluate, metrics, preprocessing

from engine import OnlineClassifier, OnlineRegressor
from tests.small_models import SMALL

LEARNERS = (OnlineClassifier, OnlineRegressor)


def every_check() -> list[Any]:
    """River's checks for both learners, each under a name of its own."""
    found = []
    for kind in LEARNERS:
        counted = itertools.count()
        for check in checks.yield_checks(kind(**SMALL)):
            name = f"{kind.__name__}-{next(counted)}-{check.__name__}"
            found.append(pytest.param(kind, check, id=name))
    return found


@pytest.mark.parametrize(("kind", "check"), every_check())
def test_river_finds_nothing_to_complain_about(kind: type[Any], check: Callable[[Any], None]) -> None:
    check(kind(**SMALL))


@pytest.mark.parametrize("kind", LEARNERS)
def test_none_of_rivers_checks_is_skipped(kind: type[Any]) -> None:
    assert kind()._unit_test_skips() == set()


def test_the_default_learners_pass_as_river_would_make_them() -> None:
    assert isinstance(OnlineClassifier(), base.Classifier)
    assert isinstance(OnlineRegressor(), base.Regressor)
    assert OnlineClassifier()._multiclass


@pytest.mark.parametrize("scaled", [False, True])
def test_phishing_is_told_as_it_comes_plain_and_behind_a_scaler(scaled: bool) -> None:
    model: Any = OnlineClassifier()
    if scaled:
        model = preprocessing.StandardScaler() | model
    score = evaluate.progressive_val_score(datasets.Phishing(), model, metrics.Accuracy())
    assert score.get() >= 0.90


@pytest.mark.parametrize("scaled", [False, True])
def test_trumps_approval_is_forecast_as_it_comes_plain_and_behind_a_scaler(scaled: bool) -> None:
    model: Any = OnlineRegressor()
    if scaled:
        model = preprocessing.StandardScaler() | model
    score = evaluate.progressive_val_score(datasets.TrumpApproval(), model, metrics.MAE())
    assert score.get() <= 0.60


def test_probabilities_can_be_scored_and_labels_can_come_late() -> None:
    score = evaluate.progressive_val_score(
        datasets.Phishing().take(300), OnlineClassifier(**SMALL), metrics.ROCAUC(), delay=20
    )
    assert score.get() > 0.8


def test_a_part_of_a_pipeline_learns_through_the_pipeline() -> None:
    model = compose.Select("is_popular", "age_of_domain", "https") | OnlineClassifier(**SMALL)
    for x, y in datasets.Phishing().take(100):
        model.predict_proba_one(x)
        model.learn_one(x, y)
    assert model["OnlineClassifier"].counters()["features"] == 3
    assert model["OnlineClassifier"].counters()["labels"] == 100


@pytest.mark.parametrize("kind", LEARNERS)
def test_a_clone_is_untaught_and_has_the_same_options(kind: type[Any]) -> None:
    model = kind(**SMALL, keys=("a", ("a", "b")), horizons=[60.0, 600.0], seed=4, context=False)
    for i in range(10):
        model.learn_one({"a": i % 3, "b": "x"}, i % 2)
    clone = model.clone()
    assert clone._get_params() == model._get_params()
    assert clone.counters()["labels"] == 0
    assert model.counters()["labels"] == 10
    assert model.clone({"seed": 9}).seed == 9


@pytest.mark.parametrize("kind", LEARNERS)
def test_a_clone_with_its_attributes_goes_on_from_the_same_state(kind: type[Any]) -> None:
    model = kind(**SMALL)
    for i in range(10):
        model.learn_one({"a": i % 3}, i % 2)
    clone = model.clone(include_attributes=True)
    assert clone.counters() == model.counters()
    model.learn_one({"a": 1}, 1)
    assert clone.counters()["labels"] == 10
    clone.learn_one({"a": 1}, 1)
    assert clone.predict_one({"a": 1}) == model.predict_one({"a": 1})
    with pytest.raises(ValueError, match="new_params"):
        model.clone({"seed": 1}, include_attributes=True)


@pytest.mark.parametrize("kind", LEARNERS)
def test_options_are_kept_under_their_own_names_as_given(kind: type[Any]) -> None:
    given = {"layers": 1, "width": 4, "keys": ["a"], "horizons": [60.0], "seed": 3, "metric": False}
    model = kind(**given)
    assert {name: getattr(model, name) for name in given} == given
    assert "OnlineC" in repr(model) or "OnlineR" in repr(model)
