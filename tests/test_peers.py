"""Promises of the peers: River's learners take the same raw events, whatever is missing in them."""

from __future__ import annotations

import math

import pytest

from engine.evaluate.peers import PEERS, make_peer

CLASSIFIERS = [name for name in PEERS if make_peer(name).task == "classification"]
REGRESSORS = [name for name in PEERS if make_peer(name).task == "regression"]


def events(n: int = 300) -> list[tuple[dict[str, object], int]]:
    rows: list[tuple[dict[str, object], int]] = []
    for i in range(n):
        y = (i // 3) % 2
        x: dict[str, object] = {
            "number": math.nan if i % 7 == 0 else float(y) + 0.1 * (i % 5),
            "text": None if i % 5 == 0 else f"kind {y}",
            "flag": bool(y),
        }
        if i % 4 == 0:
            del x["number"]
        if i > 200:
            x["new"] = math.inf
        rows.append((x, y))
    return rows


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_missing_values_break_no_classifier(name: str) -> None:
    peer = make_peer(name, seed=1)
    assert peer.predict_proba_one({"number": 1.0}) == {}
    right = 0
    for x, y in events():
        label = f"class {y}"
        proba = peer.predict_proba_one(x)
        assert not proba or math.isclose(sum(proba.values()), 1.0, abs_tol=1e-9)
        right += peer.predict_one(x) == label
        peer.learn_one(x, label)
    assert right > 200


@pytest.mark.parametrize("name", REGRESSORS)
def test_missing_values_break_no_regressor(name: str) -> None:
    peer = make_peer(name, seed=1)
    for x, y in events():
        assert math.isfinite(peer.predict_one(x))
        peer.learn_one(x, float(y))


@pytest.mark.parametrize("name", PEERS)
def test_peers_repeat_themselves_for_a_seed(name: str) -> None:
    answers = []
    for _ in range(2):
        peer = make_peer(name, seed=3)
        for x, y in events(150):
            peer.learn_one(x, y)
        ask = peer.predict_one if peer.task == "regression" else peer.predict_proba_one
        answers.append([ask(x) for x, _ in events(20)])
    assert answers[0] == answers[1]


def test_a_forecast_teaches_a_peer_nothing() -> None:
    peer = make_peer("river-arf", seed=0)
    for x, y in events(100):
        peer.learn_one(x, y)
    x = events(1)[0][0]
    before = peer.predict_proba_one(x)
    for other, _ in events(50):
        peer.predict_proba_one({"number": 1e6, **other})
    assert peer.predict_proba_one(x) == before


def test_a_third_label_names_the_peer_that_takes_it() -> None:
    peer = make_peer("river-logistic")
    for label in "ab":
        peer.learn_one({"x": 1.0}, label)
    with pytest.raises(ValueError, match="river-softmax"):
        peer.learn_one({"x": 1.0}, "c")


def test_an_unknown_peer_is_told_the_known_ones() -> None:
    with pytest.raises(ValueError, match="river-arf"):
        make_peer("river-gbm")
