"""Promises of the peers: they take the same raw events, whatever is missing in them, and learn from each."""

from __future__ import annotations

import math

import pytest
import torch

from engine.evaluate.backprop import MAX_COLUMNS, Backprop
from engine.evaluate.fields import Fields
from engine.evaluate.peers import PEERS, make_peer, task_of

CLASSIFIERS = [name for name in PEERS if task_of(name) == "classification"]
REGRESSORS = [name for name in PEERS if task_of(name) == "regression"]


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


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_is_what_its_name_says(name: str) -> None:
    peer = make_peer(name)
    assert (peer.name, peer.task) == (name, task_of(name))
    assert peer.title
    assert peer.about


@pytest.mark.parametrize("name", PEERS)
def test_a_label_of_weight_zero_teaches_a_peer_nothing(name: str) -> None:
    peer = make_peer(name, seed=0)
    for x, y in events(60):
        peer.learn_one(x, y)
    x = {"number": 0.3, "text": "kind 1", "flag": True}
    before = peer.predict_one(x)
    peer.learn_one({"text": "kind 1"}, 0, 0.0)
    assert peer.predict_one(x) == before


@pytest.mark.parametrize("name", [name for name in PEERS if make_peer(name).weighted])
def test_a_weight_changes_what_a_peer_learns(name: str) -> None:
    x = {"number": 1.0}
    answers = []
    for heavy in (1.0, 5.0):
        peer = make_peer(name, seed=0)
        for i in range(300):
            y = i % 2
            peer.learn_one(x, y, heavy if y else 1.0)
        answers.append(peer.predict_one(x) if peer.task == "regression" else peer.predict_proba_one(x)[1])
    assert answers[1] > answers[0]


def test_peers_tell_how_much_memory_they_take() -> None:
    for name in ("river-knn", "river-hat", "backprop-adam-0.001"):
        peer = make_peer(name)
        peer.learn_one({"a": 1.0}, "x")
        before = peer.memory_bytes()
        for i in range(100):
            peer.learn_one({"a": float(i), "b": f"text {i}"}, "y")
        assert peer.memory_bytes() > before > 0, name


def test_a_forest_asked_for_an_indicator_that_is_absent_reads_zero() -> None:
    fields = Fields(fill=True, text=False)
    fields.row({"sky": "fog"}, learn=True)
    row = fields.row({"sky": "clear"})
    assert row["sky=clear"] == 1
    assert row["sky=fog"] == 0.0
    assert "sky=fog" not in row


@pytest.mark.parametrize("kind", ["adam", "rmsprop"])
def test_what_the_optimiser_knows_survives_new_features_and_classes(kind: str) -> None:
    peer = Backprop(kind, 0.001)
    for i in range(40):
        peer.learn_one({"a": float(i % 5)}, i % 2)
    squares = "exp_avg_sq" if kind == "adam" else "square_avg"
    first, last = peer._weights[0], peer._weights[-1]
    known = [peer._optimiser.state[tensor][squares].clone() for tensor in (first, last)]
    before = peer.predict_proba_one({"a": 1.0})
    peer._meet({"b": 1.0, "c=x": 1})
    peer._grow(3, rows=1)
    peer._labels.append(2)
    after = peer.predict_proba_one({"a": 1.0})
    assert after[0] / after[1] == pytest.approx(before[0] / before[1], rel=1e-5)
    assert first.shape == (64, 3)
    assert torch.equal(peer._optimiser.state[first][squares][:, :1], known[0])
    assert torch.equal(peer._optimiser.state[last][squares][:2], known[1])


def test_backpropagation_takes_the_step_that_torch_takes_on_the_whole_network() -> None:
    peer = Backprop("rmsprop", 0.003, seed=4)
    x = {"a": 1.0, "b": -2.0}
    for y in (0, 1):
        peer.learn_one(x, y)
    net = torch.nn.Sequential(
        *(part for n in (2, 64, 64) for part in (torch.nn.Linear(n, 64), torch.nn.ReLU())),
        torch.nn.Linear(64, 2),
    )
    linear = [part for part in net if isinstance(part, torch.nn.Linear)]
    with torch.no_grad():
        for part, weight, bias in zip(linear, peer._weights, peer._biases, strict=True):
            part.weight.copy_(weight)
            part.bias.copy_(bias)
    optimiser = torch.optim.RMSprop(net.parameters(), lr=0.003)
    for part, weight, bias in zip(linear, peer._weights, peer._biases, strict=True):
        for mine, theirs in ((weight, part.weight), (bias, part.bias)):
            state = {
                k: v.clone() if hasattr(v, "clone") else v for k, v in peer._optimiser.state[mine].items()
            }
            optimiser.state[theirs] = state
    for i in range(10):
        event = {"a": float(i % 3), "b": float(i % 4)}
        peer.learn_one(event, i % 2)
        given = peer._input(event)
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(net(given), torch.tensor(i % 2)).backward()
        optimiser.step()
    for part, weight in zip(linear, peer._weights, strict=True):
        torch.testing.assert_close(part.weight, weight)


def test_more_strings_than_columns_share_them() -> None:
    peer = Backprop("adam", 0.001)
    for i in range(MAX_COLUMNS + 50):
        peer.learn_one({"id": f"no {i}"}, i % 2)
    assert peer._weights[0].shape == (64, MAX_COLUMNS)
    assert peer._input({f"id=no {MAX_COLUMNS + 49}": 1}).sum() == 1.0


def test_linear_regression_with_adagrad_does_not_run_away_from_a_rare_feature() -> None:
    errors = {}
    for name in ("river-linear", "river-linear-adagrad"):
        peer = make_peer(name)
        for i in range(2500):
            rare = float(i > 2000 and i % 3 == 0)
            x, y = {"a": float(i % 7), "rare": rare, "last": rare}, 100.0 * (i % 7) + 50.0 * rare
            if i >= 2100:  # a hundred events after it first came
                errors[name] = max(errors.get(name, 0.0), abs(peer.predict_one(x) - y))
            peer.learn_one(x, y)
    assert errors["river-linear-adagrad"] < 20.0
    assert errors["river-linear"] > 1e6


def test_an_unknown_optimiser_is_refused() -> None:
    with pytest.raises(ValueError, match="expected 'adam' or 'rmsprop'"):
        Backprop("sgd", 0.1)
