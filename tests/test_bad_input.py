"""Bad input: a clear error that names what was found, or an event that is survived and counted."""

from __future__ import annotations

import datetime
import decimal
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import OnlineClassifier, OnlineRegressor, checkpoint
from engine.checkpoint import CheckpointError
from engine.encoders.fields import ONE_HOT, FeatureError
from tests.small_models import classifier, contents, finite, regressor


def trained(**options: Any) -> OnlineClassifier:
    """A classifier that has seen a few events of two classes."""
    model = classifier(**options)
    for i in range(30):
        model.learn_one({"a": float(i % 7), "b": "red" if i % 2 else "blue"}, i % 2)
    return model


def sound(model: Any) -> bool:
    """Whether every number inside is finite and forecasts are proper."""
    if isinstance(model, OnlineClassifier):
        fine = math.isclose(sum(model.predict_proba_one({"a": 1.0}).values()), 1.0)
    else:
        fine = math.isfinite(model.predict_one({"a": 1.0}))
    return fine and finite(model)


# -- features ------------------------------------------------------------------------------------------------


def test_ten_thousand_new_feature_names_are_bounded_and_survived() -> None:
    model = OnlineClassifier(layers=1, width=4)
    for event in range(3):
        model.learn_one({f"name {event} {i}": float(i % 5) for i in range(3_334)}, event % 2)
    assert model.counters()["features"] == 4_096
    assert model.counters()["hashed_names"] > 0
    assert model.counters()["events"] == 3
    p = model.predict_proba_one({f"never seen {i}": 1.0 for i in range(10_000)})
    assert sum(p.values()) == pytest.approx(1.0)


def test_names_past_max_features_share_slots_and_still_carry_information() -> None:
    model = classifier(max_features=8)
    rng = np.random.default_rng(0)
    for i in range(20):
        model.learn_one({f"early {i}": 0.0}, i % 2)
    right = 0
    for i in range(600):
        x = {f"late {j}": float(rng.normal()) for j in range(2)}
        label = int(x["late 0"] > 0)
        right += i >= 300 and model.predict_one(x) == label
        model.learn_one(x, label)
    assert model.counters()["features"] == 8
    assert right > 240


@settings(max_examples=25, deadline=None)
@given(order=st.permutations(range(9)), values=st.lists(st.floats(), min_size=9, max_size=9))
def test_the_order_of_fields_in_an_event_does_not_matter_past_max_features_either(
    order: list[int], values: list[float]
) -> None:
    models = [classifier(max_features=4) for _ in range(2)]
    for model, places in zip(models, (range(9), order), strict=True):
        for i in range(3):
            model.learn_one({f"f{j}": values[j] + i for j in places}, i % 2)
    assert contents(models[0]) == contents(models[1])


def test_values_of_one_category_take_a_bounded_number_of_slots_even_when_forecast_ahead() -> None:
    model = classifier()
    kept = [model.forecast_one({"tail": f"N{i % 40}"}) for i in range(1_200)]
    for i, forecast in enumerate(kept):
        model.learn(forecast, i % 2)
    assert 0 < model.counters()["features"] <= ONE_HOT
    assert sound(model)


def test_categories_never_take_more_slots_than_max_features() -> None:
    model = classifier(max_features=3)
    for i in range(60):
        model.learn_one({f"field {j}": "always" for j in range(5)}, i % 2)
    assert model.counters()["features"] == 3
    assert sound(model)


def test_text_where_a_number_was_and_a_number_where_text_was_are_survived() -> None:
    model = trained()
    for i in range(20):
        model.learn_one({"a": "twelve", "b": 3.5 + i}, i % 2)
        model.learn_one({"a": 1.0, "b": "red"}, i % 2)
    assert model.counters()["labels"] == 70
    assert sound(model)


@pytest.mark.parametrize(
    "value",
    [
        True,
        None,
        3,
        -0.0,
        np.float32(1.5),
        np.int8(3),
        np.bool_(True),
        np.str_("red"),
        Fraction(1, 3),
        "",
        "é\ud800",
        float("nan"),
        float("inf"),
        -float("inf"),
        10**400,
        -(10**400),
        1e300,
        5e-324,
        np.float64("nan"),
        datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC),
        [1, 2.5],
        (1, 2),
        np.ones((2, 2)),
        [],
        np.array(3.0),
        np.array([True, False]),
        np.arange(3, dtype=np.uint8),
    ],
)
def test_a_value_that_can_be_read_is_read_whether_its_name_is_known_or_new(
    value: Any, tmp_path: Path
) -> None:
    model = trained()
    for name in ("a", "b", "new"):
        for label in (0, 1):
            model.learn_one({"a": 2.0, name: value}, label)
    assert model.counters()["labels"] == 36
    assert sound(model)
    model.save(tmp_path / "model")
    assert contents(OnlineClassifier.load(tmp_path / "model")) == contents(model)


@pytest.mark.parametrize(
    "value",
    [
        {"deep": 1},
        {1, 2},
        object(),
        b"bytes",
        1j,
        np.complex64(1j),
        ["a", "b"],
        [[1, 2], [3]],
        [None, 1],
        np.array(["x"]),
        np.array([object()]),
        np.array([1j]),
        np.datetime64("2024-01-01"),
        len,
    ],
)
@pytest.mark.parametrize("name", ["a", "b", "height"])
def test_a_feature_that_cannot_be_used_is_named_and_nothing_changes(name: str, value: Any) -> None:
    model = trained()
    before = contents(model)
    for call in (model.forecast_one, model.predict_one, lambda x: model.learn_one(x, 1)):
        with pytest.raises(FeatureError, match=repr(name)):
            call({"a": 1.0, name: value, "new": 2.0})
    assert contents(model) == before


def test_an_event_that_is_no_mapping_is_refused_by_type() -> None:
    with pytest.raises(FeatureError, match="list"):
        classifier().learn_one([1.0, 2.0], 1)  # type: ignore[arg-type]


def test_infinite_values_are_taken_as_missing_and_counted_in_every_way_in() -> None:
    single, batch = trained(), trained()
    rows = np.array([[1.0, np.inf], [-np.inf, 2.0], [np.nan, 1.0], [np.inf, np.inf]])
    for row in rows.tolist():
        single.learn_one(dict(enumerate(row)), 1)
    batch.test_then_train(rows, [1, 1, 1, 1])
    assert single.counters()["infinite_values"] == batch.counters()["infinite_values"] == 4
    single.predict_one({"a": math.inf})
    assert single.counters()["infinite_values"] == 4


@pytest.mark.parametrize("huge", [1e300, -1.7e308, 5e-324])
@pytest.mark.parametrize("make", [classifier, regressor])
def test_a_feature_that_was_once_absurd_is_useful_again(make: Any, huge: float) -> None:
    model = make()
    rng = np.random.default_rng(1)
    X = rng.normal(size=(800, 1))
    X[5, 0], X[9, 0] = huge, -huge
    y = X[:, 0] > 0 if make is classifier else np.where(np.abs(X[:, 0]) < 10.0, X[:, 0], 0.0)
    said = model.test_then_train(X, y)
    if make is classifier:
        assert (said.argmax(axis=1) == [model.classes_.index(v) for v in y.tolist()])[400:].mean() > 0.9
    else:
        assert np.abs(said - y)[400:].mean() < 0.3
    assert np.isfinite(said).all()


# -- labels --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("label", [float("nan"), None, np.float64("nan"), float("inf")])
def test_a_label_that_is_none_or_not_finite_is_refused(label: Any) -> None:
    model = trained()
    before = contents(model)
    with pytest.raises(ValueError, match=r"the label is"):
        model.learn_one({"a": 1.0}, label)
    with pytest.raises(ValueError, match=r"the label is"):
        model.test_then_train(np.ones((2, 1)), [1, label])
    assert contents(model) == before


@pytest.mark.parametrize("label", [[1], {"a": 1}, np.array([1, 2]), {1}])
def test_a_label_that_cannot_be_hashed_is_refused_by_value_and_type(label: Any) -> None:
    model = trained()
    before = contents(model)
    with pytest.raises(TypeError, match=f"{type(label).__name__} is not hashable"):
        model.learn_one({"a": 1.0}, label)
    with pytest.raises(TypeError, match=f"{type(label).__name__} is not hashable"):
        model.test_then_train(np.ones((2, 1)), [1, label])
    assert contents(model) == before


UNSTORABLE = [
    b"bytes", 1j, datetime.date(2024, 1, 1), frozenset({1}), object(), np.datetime64("2024-01-01", "D"),
    ("a", b"b"), ("a", float("nan")), decimal.Decimal("0.1"),
]  # fmt: skip


@pytest.mark.parametrize("value", UNSTORABLE, ids=lambda v: type(v).__name__)
def test_what_no_file_could_hold_is_refused_where_it_comes_in(value: Any, tmp_path: Path) -> None:
    model = classifier(keys=("k",))
    model.learn_one({"a": 1.0, "k": "x"}, 1, id="first")
    kept = model.forecast_one({"a": 1.0})
    before = contents(model)
    calls: dict[str, Any] = {
        "label .learn": lambda: model.learn(kept, value),
        "label .learn_one": lambda: model.learn_one({"a": 1.0}, value),
        "label .test_then_train": lambda: model.test_then_train(np.ones((2, 1)), [1, value]),
        "id .test_then_train": lambda: model.test_then_train(np.ones((2, 1)), [1, 1], ids=["a", value]),
        "id .forecast_one": lambda: model.forecast_one({"a": 1.0}, id=value),
        "id .learn_one": lambda: model.learn_one({"a": 1.0}, 1, id=value),
        "name of a feature .forecast_one": lambda: model.forecast_one({value: 1.0}),
        "name of a feature .learn_one": lambda: model.learn_one({value: "text", "a": 1.0}, 1),
    }
    for what, call in calls.items():
        with pytest.raises(
            TypeError, match=rf"^the {what.split(' .')[0]} is .* of type .*; expected a str, int"
        ):
            call()
    with pytest.raises(TypeError, match="'k'"):
        model.learn_one({"k": value}, 1)
    with pytest.raises(ValueError, match=r"^keys holds .*expected field names"):
        OnlineRegressor(keys=(value,))
    assert contents(model) == before
    model.save(tmp_path / "model")


@pytest.mark.parametrize("id", [float("nan"), np.float64("nan"), [1], {"a": 1}])
def test_an_id_that_is_not_equal_to_itself_or_not_hashable_is_refused(id: Any) -> None:
    with pytest.raises(TypeError, match=r"^the id is .*no NaN"):
        regressor().learn_one({"a": 1.0}, 1.0, id=id)


def test_ids_of_numpy_become_pythons_own() -> None:
    model = classifier()
    kept = model.forecast_one({"a": 1.0}, id=np.int64(4))
    assert type(kept.id) is int
    model.learn(kept, "a")
    assert model.forget(4) == 1


def test_a_label_of_another_type_is_refused_by_value_and_type() -> None:
    model = trained()
    with pytest.raises(TypeError, match=r"'one' is of type str.*of type int"):
        model.learn_one({"a": 1.0}, "one")
    with pytest.raises(TypeError, match="'one' is of type str"):
        model.test_then_train(np.ones((1, 1)), ["one"])
    for labels in (["a", 1], [1, "a"]):
        with pytest.raises(TypeError, match="one type"):
            classifier().test_then_train(np.ones((2, 1)), labels)
    kept = model.forecast_one({"a": 1.0})
    before = contents(model)
    with pytest.raises(TypeError, match="'one'"):
        model.learn(kept, "one")
    assert contents(model) == before


def test_a_column_of_labels_in_two_dimensions_is_refused() -> None:
    with pytest.raises((TypeError, ValueError), match=r"not hashable|shape"):
        classifier().test_then_train(np.ones((2, 1)), np.ones((2, 1), int))
    with pytest.raises((TypeError, ValueError), match=r"expected a number|shape"):
        regressor().test_then_train(np.ones((2, 1)), np.ones((2, 1)))


def test_one_class_too_many_is_refused_and_the_rest_goes_on() -> None:
    model = classifier(max_classes=3)
    for label in "abc":
        model.learn_one({"x": 1.0}, label)
    before = contents(model)
    with pytest.raises(ValueError, match=r"'d' would make more than max_classes=3 classes.*OnlineRegressor"):
        model.learn_one({"x": 1.0}, "d")
    with pytest.raises(ValueError, match="max_classes=3"):
        model.test_then_train(np.ones((2, 1)), ["a", "e"])
    assert contents(model) == before
    model.learn_one({"x": 1.0}, "a")


def test_a_thousand_classes_are_learned_and_the_next_is_refused() -> None:
    model = OnlineClassifier(layers=1, width=2, neighbours=2, recall=False, memory_budget=1 << 20)
    y = list(range(1_024))
    said = model.test_then_train(np.arange(1_024.0)[:, None], y)
    assert said.shape == (1_024, 1_024)
    assert model.classes_ == tuple(y)
    with pytest.raises(ValueError, match="max_classes=1024"):
        model.learn_one({0: 1.0}, 1_024)
    assert sum(model.predict_proba_one({0: 7.0}).values()) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("target", "error"),
    [
        ("3.0", TypeError),
        (None, TypeError),
        (True, TypeError),
        (np.bool_(True), TypeError),
        ([1.0], TypeError),
        (1j, TypeError),
        (float("nan"), ValueError),
        (float("inf"), ValueError),
        (-1e61, ValueError),
        (10**400, ValueError),
    ],
)
def test_a_target_that_is_no_finite_number_is_refused(target: Any, error: type[Exception]) -> None:
    model = regressor()
    model.learn_one({"a": 1.0}, 1.0)
    before = contents(model)
    with pytest.raises(error, match="the target is"):
        model.learn_one({"a": 1.0}, target)
    with pytest.raises(error, match="the target is"):
        model.test_then_train(np.ones((2, 1)), [1.0, target])
    assert contents(model) == before


@pytest.mark.parametrize("huge", [1e30, 1e60])
def test_a_regressor_survives_targets_of_any_size(huge: float) -> None:
    model = regressor()
    for i in range(60):
        model.learn_one({"a": float(i % 5)}, huge if i % 2 else -huge)
        assert math.isfinite(model.predict_one({"a": 1.0}))
    assert sound(model)


# -- weights, times, shapes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("w", [-1.0, float("nan"), float("inf"), "2", None, 1.1e6, 1e300])
def test_a_weight_that_is_no_number_from_zero_to_a_million_is_refused(w: Any) -> None:
    model = trained()
    kept = model.forecast_one({"a": 1.0})
    before = contents(model)
    for call in (lambda: model.learn_one({"a": 1.0}, 1, w), lambda: model.learn(kept, 1, w)):
        with pytest.raises(ValueError, match=r"\bw\b"):
            call()
    for learner, y in ((model, [1, 0]), (regressor(), [1.0, 2.0])):
        with pytest.raises(ValueError, match=r"^w"):
            learner.test_then_train(np.ones((2, 1)), y, w=[1.0, w])
    assert contents(model) == before


@pytest.mark.parametrize("time", [float("inf"), -float("inf"), "noon", datetime.datetime(2024, 1, 1)])
def test_a_time_that_is_no_finite_number_is_refused(time: Any) -> None:
    model = trained()
    before = contents(model)
    for call in (model.forecast_one, model.explain_one, lambda x, time: model.learn_one(x, 1, time=time)):
        with pytest.raises(ValueError, match="time is"):
            call({"a": 1.0}, time=time)
    for call in (lambda X, times: model.test_then_train(X, [1, 0], times=times), model.predict_proba):
        with pytest.raises(ValueError, match="times"):
            call(np.ones((2, 1)), times=[1.0, time])
    assert contents(model) == before


@pytest.mark.parametrize("make", [classifier, regressor])
@pytest.mark.parametrize("w", [300.0, 1e6])
@pytest.mark.parametrize("every", [1, 20])
def test_weights_of_any_allowed_size_leave_every_number_finite(make: Any, w: float, every: int) -> None:
    model = make(keys=("k",), label_history=True)
    rng = np.random.default_rng(0)
    for i in range(120):
        x = {"a": float(rng.normal()), "k": i % 3, "c": "xyz"[i % 3]}
        model.learn_one(x, i % 4 if i > 60 else 0, 1.0 if i % every else w)
    assert sound(model)


def test_labels_later_than_any_number_of_seconds_are_survived() -> None:
    model = classifier(keys=("k",))
    for i in range(20):
        kept = model.forecast_one({"k": i % 2, "a": float(i)}, time=-1.7e308)
        model.observe(kept)
        model.observe(model.forecast_one({"k": i % 2}, time=1.7e308))
        model.learn(kept, i % 2)
    assert sound(model)
    assert all(math.isfinite(n) for n in model._core.overdue.everywhere)


def test_times_before_the_epoch_and_backwards_are_survived() -> None:
    model = classifier(keys=("k",))
    for i in range(40):
        model.learn_one({"k": i % 3, "a": float(i)}, i % 2, time=(-1.0) ** i * 1e9 * i)
    assert sound(model)


@pytest.mark.parametrize(
    "X",
    [
        np.ones(3),
        3.0,
        [["a", "b"]],
        np.array([["1.0"]]),
        np.array([[object()]]),
        [[1j]],
        [[None]],
        np.array([["2024-01-01"]], "datetime64[s]"),
    ],
)
def test_a_table_that_is_none_is_refused_with_its_shape_and_type(X: Any) -> None:
    for call in (
        lambda: classifier().test_then_train(X, [1]),
        lambda: trained().predict_proba(X),
        lambda: regressor().predict(X),
    ):
        with pytest.raises(ValueError, match=r"X has shape .* and type .*expected"):
            call()


def test_lengths_that_do_not_fit_are_refused_with_both() -> None:
    X = np.ones((3, 2))
    for model in (classifier(), regressor()):
        with pytest.raises(ValueError, match=r"y has 2 .*X has 3 rows"):
            model.test_then_train(X, [1, 0])
        with pytest.raises(ValueError, match=r"times has shape \(2,\)"):
            model.test_then_train(X, [1, 0, 1], times=[1.0, 2.0])
        with pytest.raises(ValueError, match=r"w has shape \(3, 1\)"):
            model.test_then_train(X, [1, 0, 1], w=np.ones((3, 1)))
        with pytest.raises(ValueError, match=r"ids has 2 .*X has 3 rows"):
            model.test_then_train(X, [1, 0, 1], ids=["a", "b"])
        assert model.counters()["labels"] == 0


def test_tables_without_rows_or_without_columns_are_answered() -> None:
    model = trained()
    assert model.test_then_train(np.empty((0, 3)), []).shape == (0, 2)
    assert model.predict_proba(np.empty((0, 3))).shape == (0, 2)
    assert model.predict_proba(np.empty((0, 2, 2))).shape == (0, 2)
    assert model.predict_proba(np.empty((4, 0))).shape == (4, 2)
    assert model.test_then_train(np.empty((4, 0)), [1, 0, 1, 1]).shape == (4, 2)
    assert regressor().test_then_train(np.empty((0, 3)), []).shape == (0,)
    assert regressor().predict(np.empty((0, 3))).shape == (0,)
    assert classifier().test_then_train(np.empty((0, 3)), []).shape == (0, 0)


def test_an_event_without_fields_is_learned() -> None:
    model = classifier()
    for i in range(40):
        model.learn_one({}, "often" if i % 4 else "rarely")
    assert model.predict_one({}) == "often"
    model.learn_one({"a": None}, "often")
    assert sound(model)


# -- options -------------------------------------------------------------------------------------------------

BAD_OPTIONS: dict[str, list[Any]] = {
    "layers": [0, -1, 2.5, "3", None, True],
    "width": [0, "8", None],
    "neighbours": [1, 1.5, None],
    "max_features": [0, None, 1e3],
    "max_classes": [1, "many"],
    "memory_budget": [0, 1000, 2.5e8, "256MB"],
    "seed": [-1, 0.5, None, "x"],
    "rate": [-1e-3, math.nan, math.inf, "fast", None],
    "slow_rate": [-1.0, math.nan, None],
    "linear_rate": [-1.0, math.inf, "x"],
    "activation": ["relu6", None, 3, ["tanh"]],
    "context": [1, None, "yes"],
    "recall": [0, None],
    "concepts": [1, None, "yes"],
    "metric": [None, "euclid"],
    "trees": [None, 6],
    "early": [None, 1],
    "recall_heads": [None, 1],
    "kept_bytes": [-1, 0.5, None, "8MB", True],
    "sleep": [None, 1],
    "anomaly": [None, 1],
    "label_history": [1, None],
    "horizons": [(), (0.0,), (-1.0,), 5, None, ("x",), "1h", (math.nan,), (math.inf,)],
    "category_horizons": [(499.0,), (), 1000, None, ("1000",)],
    "keys": ["carrier", b"carrier", {"a"}, 7, ({},), ("a", [{}])],
    "experts": ["HATClassifier", b"", 7, {"a": 1}],
}


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, values in BAD_OPTIONS.items() for v in values])
def test_a_bad_option_is_refused_with_its_name_value_and_what_was_expected(name: str, value: Any) -> None:
    for kind in (OnlineClassifier, OnlineRegressor):
        if kind is OnlineRegressor and name in ("max_classes", "kept_bytes", "recall_heads"):
            continue
        with pytest.raises(ValueError, match=rf"^{name} (is|holds) .*expected") as error:
            kind(**{name: value})
        shown = value[-1] if name == "keys" and isinstance(value, tuple) else value
        assert repr(tuple(shown) if isinstance(shown, list) and name == "keys" else shown) in str(error.value)


def test_every_option_is_wrong_in_a_test_above() -> None:
    assert set(BAD_OPTIONS) == set(OnlineClassifier()._get_params())


@pytest.mark.parametrize("value", [{"x": 1}, [1], b"bytes"])
def test_a_key_field_of_an_unusable_type_is_named(value: Any) -> None:
    model = classifier(keys=("shop",))
    with pytest.raises(TypeError, match="'shop'"):
        model.learn_one({"a": 1.0, "shop": value}, 1)


# -- files ---------------------------------------------------------------------------------------------------


def test_a_damaged_truncated_or_foreign_file_is_refused_by_path(tmp_path: Path) -> None:
    good = tmp_path / "good"
    trained().save(good)
    data = good.read_bytes()
    rng = np.random.default_rng(0)
    broken = [b"", b"text", data[: len(data) // 2], data[:-1], data[:5], bytes(100), b"PK\x03\x04" * 20]
    for at in rng.integers(0, len(data), 20):
        broken.append(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    for content in broken:
        path = tmp_path / "broken"
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="broken"):
            OnlineClassifier.load(path)
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(CheckpointError, match=path.name):
            OnlineClassifier.load(path)


def test_a_file_of_the_other_learner_or_of_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model"
    trained().save(path)
    with pytest.raises(CheckpointError, match=r"'OnlineClassifier'.*'OnlineRegressor'"):
        OnlineRegressor.load(path)
    for meta in (
        {},
        {"model": {}},
        {"model": {"learner": "OnlineClassifier"}},
        {"model": None},
        {"model": 3},
    ):
        checkpoint.write(path, {}, meta)
        with pytest.raises(CheckpointError, match="model"):
            OnlineClassifier.load(path)


def test_saving_over_a_file_replaces_it_whole(tmp_path: Path) -> None:
    path = tmp_path / "model"
    trained().save(path)
    other = trained(seed=3)
    other.save(path)
    assert contents(OnlineClassifier.load(path)) == contents(other)
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


# -- bounds --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("names", "at_once"), [(60, 1), (400, 3), (900, 25), (2_000, 2_000)])
def test_stored_experience_stays_within_the_budget_however_wide_events_become(
    names: int, at_once: int
) -> None:
    budget = 8 << 20
    model = OnlineClassifier(layers=1, width=2, memory_budget=budget, neighbours=2)
    for start in range(0, names, at_once):
        model.learn_one({f"n{i}": float(i) for i in range(start, start + at_once)}, start % 2)
        arrays = model.state()[0]
        used = sum(
            arrays[f"{memory}.{part}"].nbytes
            for memory in ("near", "context")
            for part in ("buffer", "projected", "target", "serial")
        )
        assert used <= budget


def test_a_window_that_shrinks_keeps_the_newest_experiences() -> None:
    model = OnlineClassifier(layers=1, width=2, memory_budget=1 << 20, neighbours=2)
    for i in range(600):
        model.learn_one({"a": float(i % 50)}, i % 2, id=i)
    model.learn_one({f"n{i}": 1.0 for i in range(120)}, 1, id=600)
    held = model.counters()["experiences"]
    assert 128 <= held < 601
    assert model.forget(600) == 1
    assert model.forget(250) == 0
    assert model.forget(0) == 1  # the early tree keeps the first 200
    assert model.forget(590) == 1


def test_a_learner_of_a_later_release_is_refused_by_the_names_it_uses(tmp_path: Path) -> None:
    model = OnlineClassifier(layers=1, width=4)
    model.learn_one({"a": 1.0}, True)
    tensors, meta = model.state()
    later = {**meta, "options": {**meta["options"], "foresight": True}}
    checkpoint.write(tmp_path / "model", tensors, {"model": later})
    with pytest.raises(CheckpointError, match=r"does not know: foresight; expected some of layers.*later"):
        OnlineClassifier.load(tmp_path / "model")
