"""Experience over wide inputs: classes that came one after the other stay known, and what is kept is bounded."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from engine import OnlineClassifier, OnlineRegressor, mixing
from engine.experience import REHEARSALS

Images = tuple[NDArray[Any], NDArray[Any]]
LEARNED = 600


@cache
def digits() -> tuple[Images, Images]:
    """Images (8, 8) of handwritten digits, two classes after the other, and others of all classes."""
    X, y = load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    rows = rng.permutation(len(y))
    learned, asked = rows[:LEARNED], rows[LEARNED:]
    learned = learned[np.argsort(y[learned] // 2, kind="stable")]
    pictures = X.reshape(-1, 8, 8)
    return (pictures[learned], y[learned]), (pictures[asked], y[asked])


def small(**options: Any) -> OnlineClassifier:
    """A learner whose other parts are small."""
    return OnlineClassifier(**{"layers": 1, "width": 4, "neighbours": 4, "memory_budget": 1 << 20} | options)


@cache
def taught() -> OnlineClassifier:
    """It has seen the digits; for tests that change nothing, others take a copy."""
    model = small()
    model.test_then_train(*digits()[0], ids=[f"event {i}" for i in range(LEARNED)])
    return model


def accuracy(model: OnlineClassifier, X: NDArray[Any], y: NDArray[Any]) -> float:
    classes = np.array(list(model._core.classes))
    return float((classes[model.predict_proba(X).argmax(axis=1)] == y).mean())


def test_classes_that_came_one_after_the_other_are_all_known() -> None:
    X, y = digits()[1]
    assert accuracy(taught(), X, y) > 0.9
    assert min(accuracy(taught(), X[y // 2 == task], y[y // 2 == task]) for task in range(5)) > 0.85


def test_it_is_so_with_nothing_kept() -> None:
    model = small(kept_bytes=0)
    model.test_then_train(*digits()[0])
    assert model.bytes_by_memory()["kept examples"] == 0
    assert accuracy(model, *digits()[1]) > 0.88


def test_events_of_the_stream_are_answered_by_what_follows_it() -> None:
    """On images of the last task the live mixture hardly thinks of other classes."""
    (X, y), _ = digits()
    model = taught()
    last = [i for i in range(LEARNED) if y[i] // 2 == 4][-20:]
    live = [model.forecast_one({0: X[i]}).proba for i in last]
    asked = [model.forecast_one({0: X[i]}, live=False).proba for i in last]
    old = [sum(p for label, p in said.items() if label < 8) for said in live]
    assert np.mean(old) < 0.05
    assert live != asked
    first = [model.forecast_one({0: X[i]}, live=False).proba for i in range(20)]
    assert np.mean([sum(p for label, p in said.items() if label < 2) for said in first]) > 0.6


def test_the_past_says_whether_a_class_was_seen_lately_and_both_say_which_of_these() -> None:
    """p(c) = p_old(L) p_old(c) p_live(c)/Σ_L p_old p_live within L; outside the present is not heard."""
    model, X = copy.deepcopy(taught()), digits()[1][0][:60]
    lasting, dim = model._core.state.lasting, model._core.dim
    late = lasting.lately >= 0.5
    assert 2 <= late.sum() < len(model.classes_) == 10
    kept = [model.forecast_one({0: x}) for x in X]
    live = np.array([one.answers() for one in kept])
    last = slice(dim.at_logp + (dim.experts - 2) * 10, dim.at_logp + dim.experts * 10)
    old = mixture_of_old(lasting.old, np.array([one.record[last].reshape(2, 10) for one in kept]))
    asked = model.predict_proba(X)
    np.testing.assert_allclose(asked.sum(axis=1), 1.0, atol=1e-12)
    np.testing.assert_allclose(asked[:, ~late], old[:, ~late], rtol=1e-9)
    both = old[:, late] * live[:, late]
    wanted = both / both.sum(axis=1, keepdims=True) * old[:, late].sum(axis=1, keepdims=True)
    np.testing.assert_allclose(asked[:, late], wanted, rtol=1e-9)
    lasting.lately[:], lasting.present[:] = 1.0, 0.0
    np.testing.assert_array_equal(model.predict_proba(X), live)


def as_many(X: NDArray[Any]) -> NDArray[Any]:
    """Images as 192 numbers, each pixel three times."""
    return np.hstack([X.reshape(len(X), -1)] * 3)


@cache
def three_looks() -> tuple[OnlineClassifier, list[NDArray[Any]], NDArray[Any]]:
    """A learner of all digits in any order, three times with each of three orders of columns; what is asked."""
    (X, y), (asked, labels) = digits()
    rng = np.random.default_rng(3)
    mixed, orders = rng.permutation(len(y)), [np.arange(192), rng.permutation(192), rng.permutation(192)]
    model = small()
    for order in orders:
        for _ in range(3):
            model.test_then_train(as_many(X)[mixed][:, order], y[mixed])
    return model, [as_many(asked)[:400, order] for order in orders], labels[:400]


def live_answers(model: OnlineClassifier, X: NDArray[Any]) -> NDArray[Any]:
    return np.array([model.forecast_one(dict(enumerate(x))).answers() for x in X.tolist()])


@pytest.mark.parametrize(("look", "known"), [(0, 0.6), (1, 0.95)])
def test_what_looks_like_the_past_is_answered_by_it_though_all_classes_are_of_the_present(
    look: int, known: float
) -> None:
    model, asked, labels = three_looks()
    classes = np.array(model.classes_)
    live = (classes[live_answers(model, asked[look]).argmax(axis=1)] == labels).mean()
    said = accuracy(model, asked[look], labels)
    assert said > 0.95 >= known > live
    assert 1.0 - said < (1.0 - live) / 2.0


def test_what_looks_like_the_present_is_answered_by_it_to_the_bit() -> None:
    model, asked, labels = three_looks()
    said = model.predict_proba(asked[2])
    assert (said == live_answers(model, asked[2])).all(axis=1).mean() > 0.99
    assert accuracy(model, asked[2], labels) > 0.95


def test_on_a_stream_that_stays_as_it_is_the_answer_is_the_streams_to_the_bit() -> None:
    (X, y), (asked, _) = digits()
    mixed = np.random.default_rng(4).permutation(len(y))
    model = small()
    model.test_then_train(as_many(X)[mixed], y[mixed])
    assert np.abs(model._core.state.lasting.present).max() > 0.0
    asked = as_many(asked)
    np.testing.assert_array_equal(model.predict_proba(asked), live_answers(model, asked))


def test_where_nothing_is_kept_nobody_knows_what_the_past_looked_like() -> None:
    (X, y), _ = digits()
    model = small(kept_bytes=0)
    model.test_then_train(as_many(X), y)
    assert not model._core.state.lasting.present.any()


def mixture_of_old(mixer: Any, logs: NDArray[Any]) -> NDArray[Any]:
    """What the mixture of withheld examples says of logs (n, 2, C), written plainly."""
    each = np.exp(np.einsum("mk,nkc->nmc", mixer.weight, logs))
    each[:, mixing.POSTERIOR] = np.einsum("k,nkc->nc", mixer.weight[mixing.POSTERIOR], np.exp(logs))
    each /= each.sum(axis=2, keepdims=True)
    p: NDArray[Any] = np.einsum("m,nmc->nc", mixer.belief, each)
    p /= p.sum(axis=1, keepdims=True)
    return p


def test_withheld_examples_are_asked_less_and_less() -> None:
    """With n of them after t events n (2/t + 1/10,000) times an event."""
    model = small(kept_bytes=1_152 * 200)
    X, y = digits()[1]
    expected, asked = 0.0, []
    for at in range(0, len(y), 20):
        model.test_then_train(X[at : at + 20], y[at : at + 20])
        if model._core.sizes.lasting:
            lasting = model._core.state.lasting
            t, held = lasting.steps[1], lasting.episodic.held[1].sum()
            assert 2 <= held <= 30
            expected += 20 * min(held * (2 / t + 1e-4), 1.0) if asked else 0.0
            asked.append(lasting.old.step[0])
    assert asked[-1] - asked[0] == pytest.approx(expected, rel=0.35)
    assert asked[len(asked) // 2] - asked[0] > 1.5 * (asked[-1] - asked[len(asked) // 2])


def test_a_few_kept_examples_do_not_spoil_what_statistics_know() -> None:
    """What is asked is answered no worse than by the analytic memory alone."""
    model = small(kept_bytes=1_152 * 40)
    model.test_then_train(*digits()[0])
    X, y = digits()[1]
    said = [model.forecast_one({0: x}).experts["analytic memory"] for x in X]
    alone = np.mean([max(p, key=p.__getitem__) == label for p, label in zip(said, y.tolist(), strict=True)])
    assert accuracy(model, X, y) > alone - 0.005


def test_what_is_known_is_not_learned_again() -> None:
    model = taught()
    steps, events = model._core.state.lasting.steps
    assert events == LEARNED
    assert LEARNED / 10 < steps < 0.7 * LEARNED * (1 + REHEARSALS)
    X, y = digits()[1]
    said = [model.forecast_one({0: x}).experts["rehearsed layer"] for x in X[:300]]
    right = [max(p, key=p.__getitem__) == label for p, label in zip(said, y[:300].tolist(), strict=True)]
    assert np.mean(right) > 0.65


def test_single_events_chunks_copies_and_files_give_the_same_bits(tmp_path: Path) -> None:
    (X, y), (asked, _) = digits()
    X, y = np.concatenate([X[:140], X[300:400]]), np.concatenate([y[:140], y[300:400]])
    whole, single, parts = small(), small(), small()
    out = whole.test_then_train(X, y)
    said = []
    for i, (x, label) in enumerate(zip(X, y.tolist(), strict=True)):
        if i == 200:
            single.save(tmp_path / "model")
            single = OnlineClassifier.load(tmp_path / "model")
        if i == 170:
            single = copy.deepcopy(single)
        if i % 3 == 0:
            single.predict_proba_one({0: x})
        kept = single.forecast_one({0: x})
        said.append(kept.answers())
        if i % 2:
            single.learn(kept, label)
        else:
            single.learn_one({0: x}, label)
    for at in range(0, len(y), 37):
        parts.test_then_train(X[at : at + 37], y[at : at + 37])
    for i, answer in enumerate(said):
        np.testing.assert_array_equal(out[i, : len(answer)], answer)
    for other in (single, parts):
        np.testing.assert_array_equal(other.predict_proba(asked[:50]), whole.predict_proba(asked[:50]))
        arrays, wanted = other.state()[0], whole.state()[0]
        assert arrays.keys() == wanted.keys()
        for name, array in wanted.items():
            np.testing.assert_array_equal(arrays[name], array, err_msg=name)
    one = whole.predict_proba_one({0: asked[0]})
    np.testing.assert_array_equal(list(one.values()), whole.predict_proba(asked[:1])[0])


def test_a_learner_of_before_that_kept_its_last_events_goes_on() -> None:
    (X, y), (asked, _) = digits()
    arrays, meta = taught().state()
    ring = {
        "lasting.episodic.ring": np.ones((256, 1_152), np.uint8),
        "lasting.episodic.ring_serial": np.arange(256),
    }
    again, plain = OnlineClassifier.from_state(arrays | ring, meta), OnlineClassifier.from_state(arrays, meta)
    for model in (again, plain):
        model.test_then_train(X[:5], y[:5])
    np.testing.assert_array_equal(again.predict_proba(asked[:20]), plain.predict_proba(asked[:20]))
    assert again.state()[0].keys() == arrays.keys()


def test_a_label_that_comes_late_is_learned() -> None:
    (X, y), _ = digits()
    model = copy.deepcopy(taught())
    before = model._core.state.lasting.analytic.seen.copy()
    waiting = [model.forecast_one({0: X[i]}, id=i) for i in range(5)]
    for kept in waiting:
        model.observe(kept)
    packed = model.pack(waiting)
    again = copy.deepcopy(model)
    for kept, label in zip(model.unpack(*packed), y[:5].tolist(), strict=True):
        model.learn(kept, label)
    for kept, label in zip(again.unpack(*packed), y[:5].tolist(), strict=True):
        again.learn(kept, label)
    after = model._core.state.lasting.analytic.seen
    assert 0 < after.sum() - before.sum() <= 5
    np.testing.assert_array_equal(model.predict_proba(X[:9]), again.predict_proba(X[:9]))


def test_forget_takes_kept_examples_out_long_after_their_time() -> None:
    model = copy.deepcopy(taught())
    core = model._core
    events = len(core.state.near.serial) + 10 - LEARNED
    X, y = digits()[1]
    rows = np.arange(events) % len(y)
    model.test_then_train(X[rows], y[rows])
    kept, near = core.state.lasting.episodic, set(core.state.near.serial.tolist())
    old = [s for s in kept.serial.tolist() if 0 <= s < LEARNED and s not in near]
    assert old, "an example that the neighbours no longer hold"
    assert model.forget(f"event {old[0]}") == 1
    assert old[0] not in kept.serial.tolist()
    again = OnlineClassifier.from_state(*model.state())
    assert again.forget(f"event {old[1]}") == 1


def test_bytes_are_told_and_bounded() -> None:
    few = small(kept_bytes=1_152 * 30)
    few.test_then_train(*digits()[0])
    held = few.bytes_by_memory()
    assert held["kept examples"] == 1_152 * 30
    assert held["analytic memory"] > 1_152**2 * 8
    assert held == taught().bytes_by_memory() | {
        name: held[name] for name in ("kept examples", "beside kept examples")
    }
    counts = few._core.state.lasting.episodic.held.sum(axis=0)
    assert counts.sum() == 30
    assert counts.max() - counts.min() <= 1


def test_an_image_that_is_missing_teaches_the_wide_experts_nothing() -> None:
    model = copy.deepcopy(taught())
    before = model._core.state.lasting.analytic.seen.copy()
    model.learn_one({"other": 1.0}, 3)
    np.testing.assert_array_equal(model._core.state.lasting.analytic.seen, before)
    said = model.forecast_one({"other": 1.0}).experts["analytic memory"]
    assert set(np.round(list(said.values()), 6)) == {0.1}


def test_many_features_are_remembered_as_images_are() -> None:
    (X, y), (asked, labels) = digits()
    flat = np.hstack([X.reshape(len(X), -1)] * 3)
    model = small()
    model.test_then_train(flat, y)
    assert model._core.sizes.source == flat.shape[1]
    assert accuracy(model, np.hstack([asked.reshape(len(asked), -1)] * 3), labels) > 0.7


def test_few_features_have_none_of_it() -> None:
    model = small()
    for i in range(20):
        model.learn_one({"x": i % 3}, i % 3)
    arrays, _ = model.state()
    assert not [name for name in arrays if name.startswith("lasting")]
    assert "analytic memory" not in model.bytes_by_memory()
    assert "analytic memory" not in model.expert_weights()


def test_a_regression_of_images_runs_without() -> None:
    (X, y), _ = digits()
    model = OnlineRegressor(layers=1, width=4, neighbours=4, memory_budget=1 << 20)
    out = model.test_then_train(X[:200], y[:200].astype(float))
    assert np.isfinite(out).all()
    assert "analytic memory" not in model.bytes_by_memory()


@pytest.mark.parametrize("kept", [-1, 2.5, True])
def test_bytes_that_are_no_number_of_bytes_are_refused(kept: Any) -> None:
    with pytest.raises(ValueError, match="kept_bytes"):
        OnlineClassifier(kept_bytes=kept)
