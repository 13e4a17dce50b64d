"""Promises of the tables of what stands inside: experts alone, calibration, backpropagation, growth, history."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import backprop, calibration, experts, growth, history, inside, job
from benchmarks.contest import JOB, Results
from benchmarks.job import BESIDE, INSIDE, OWN, Job
from benchmarks.plot import Panel, curves
from benchmarks.standings import Contest
from benchmarks.tables import Findings
from engine import OnlineClassifier
from engine.evaluate.calibration import expected_error, expected_error_by_chance
from engine.evaluate.paired import paired, paired_blocks
from engine.evaluate.prequential import evaluate
from streams import datasets


def kept(task: Job, **more: Any) -> dict[str, Any]:
    return {**{name: getattr(task, name) for name in JOB}, "versions": job.versions(task.learner), **more}


def test_the_watched_mixture_is_the_learners_and_each_expert_is_judged_by_what_it_said() -> None:
    table = datasets.load("image_segments")
    watched = inside.Watched(OnlineClassifier(layers=1, width=8))
    evaluate(watched, table, limit=400, arrays=False)
    usual = evaluate(OnlineClassifier(layers=1, width=8), table, limit=400, arrays=False).metrics.result()
    whole = watched.whole.figures()
    assert 1.0 - whole["error"] == pytest.approx(usual["accuracy"])
    assert whole["log_loss"] == pytest.approx(usual["log_loss"])
    assert watched.lacking[inside.WHOLE].figures()["log_loss"] == pytest.approx(whole["log_loss"], rel=1e-6)
    losses = {name: each.figures()["log_loss"] for name, each in watched.alone.items()}
    assert losses["prior"] > losses["trees"] > whole["log_loss"]
    without = {name: watched.lacking[name].figures()["log_loss"] for name in watched.names}
    assert len(set(without.values())) == len(without)


def test_a_job_that_looks_inside_gives_what_the_tables_need(tmp_path: Path) -> None:
    found = job.run(Job(stream="phishing", learner=INSIDE, rows=200))
    assert found["experts"]["trees"]["alone"]["error"] < found["experts"]["prior"]["alone"]["error"]
    assert 0.0 < found["calibration"]["told"] <= 1.0
    contest = Contest(streams=("phishing",), peers=("river-arf",), seeds=(0, 1), rows=200)
    own, peers = Results(tmp_path / "own.json"), Results(tmp_path / "peers.json")
    for seed in (0, 1):
        own.add({**found, "seed": seed})
    peers.add(kept(contest.jobs("river-arf", "phishing")[0], accuracy=0.8, log_loss=0.4, evaluated=200))
    page = Findings(name="experts", title="T", about="", columns=experts.COLUMNS)
    experts.fill(page, contest, own, peers)
    row = next(row for row in page.rows if row["expert"] == "trees")
    assert row["alone, beside the best peer"] == pytest.approx(
        found["experts"]["trees"]["alone"]["error"] / 0.2
    )
    gone = found["experts"]["trees"]["without"]["error"] / (1.0 - found["accuracy"])
    assert row["lost without it"] == row["from"] == pytest.approx(gone)
    assert page.below[1].rows[0]["expert"] == "prior"
    told = Findings(name="calibration", title="T", about="", columns=calibration.COLUMNS)
    calibration.fill(told, contest, own)
    assert told.rows[0]["calibration error"] == pytest.approx(found["calibration"]["error"])


def test_probabilities_that_come_true_have_an_error_that_chance_explains_and_others_do_not() -> None:
    drawn = np.random.default_rng(0)
    p = drawn.uniform(0.5, 1.0, 5000)
    came = drawn.random(5000) < p
    assert expected_error(p, came) < expected_error_by_chance(p)
    bold = np.clip(p + 0.1, 0.0, 1.0)
    assert expected_error(bold, came) > 2.0 * expected_error_by_chance(bold)
    assert expected_error([1.0, 1.0], [True, False]) == 0.5


def test_a_temperature_finds_how_much_too_shy_probabilities_are() -> None:
    drawn = np.random.default_rng(1)
    heat, shy, warm = inside.Temperature(prior=10.0, decay=1.0), [], []
    for _ in range(4000):
        p = drawn.dirichlet([1.0, 1.0, 1.0])
        label = int(drawn.choice(3, p=p))
        said = np.sqrt(p) / np.sqrt(p).sum()  # of temperature 2: β = 2 makes it right
        shy.append(-math.log(said[label]))
        warm.append(-math.log(heat.say(said)[label]))
        heat.learn(said, label)
    assert heat.beta > 1.8
    assert np.mean(warm[500:]) < np.mean(shy[500:]) - 0.01


def test_intervals_from_blocks_are_those_from_events() -> None:
    drawn = np.random.default_rng(2)
    a, b = drawn.random((2, 1234))
    sums = [block.sum() for block in np.array_split(a - b, 50)]
    sizes = [len(block) for block in np.array_split(a, 50)]
    by_events, by_blocks = paired(a, b), paired_blocks(sums, sizes)
    assert by_blocks.difference == pytest.approx(by_events.difference)
    assert by_blocks.half_width == pytest.approx(by_events.half_width)


def test_the_networks_side_by_side_learn_as_torch_has_each_learn_alone() -> None:
    forecasts = np.array([[0, 1, 2], [4, 5, 6]])
    nets = backprop.Nets(inputs=7, classes=3, seed=5, forecasts=forecasts)
    alone = backprop.Nets(inputs=7, classes=3, seed=5, forecasts=forecasts)
    place = backprop.RULES.index(("rmsprop", 0.001))
    weights = alone.weights[place]
    shapes, ends = alone._shapes, np.cumsum([0, *(a * b for a, b in alone._shapes)])
    optimiser = torch.optim.RMSprop([weights], lr=0.001, alpha=0.99)
    drawn = torch.Generator().manual_seed(0)
    for i in range(30):
        x, label, known = torch.randn(7, generator=drawn), i % 2, 2 if i < 20 else 3
        parts = [weights[a:b].view(s) for a, b, s in zip(ends[:-1], ends[1:], shapes, strict=True)]
        h = torch.nn.functional.leaky_relu(parts[0] @ x + parts[1][:, 0], 0.01)
        for layer in (1, 2):
            u = torch.cat([h, x])
            h = torch.nn.functional.leaky_relu(parts[2 * layer] @ u + parts[2 * layer + 1][:, 0], 0.01)
        trusted = weights[ends[-1] :]
        scores = (parts[-2] @ h + parts[-1][:, 0] + trusted @ x[forecasts])[:known]
        np.testing.assert_allclose(
            nets.forward(x, known)[place].detach().numpy(), scores.detach().numpy(), rtol=1e-3, atol=1e-5
        )
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(scores[None], torch.tensor([label])).backward()
        optimiser.step()
        nets.learn(x, label, known)
    assert float((nets.weights[place] - nets.weights[0]).abs().max().detach()) > 1e-4


def test_backpropagation_reads_what_the_layers_read_though_classes_come_later() -> None:
    table = datasets.load("image_segments")
    watched = backprop.Inputs(OnlineClassifier(layers=1, width=8))
    evaluate(watched, table, limit=120, arrays=False)
    X = watched.table(120)
    sizes = watched.learner._core.sizes
    assert X.shape == (120, sizes.inputs)  # nothing vanishes, so every input there ever was is there
    last = watched.learner.forecast_one(table_row(table, 120))
    record = last.record[last.sizes.dim.at_input : last.sizes.dim.at_slot].astype(np.float32)
    columns = watched._columns
    assert sorted(columns.tolist()) == list(range(sizes.inputs))
    features = columns[-3 * sizes.features :]
    assert features.max() < 1 + 3 * sizes.features + sizes.recall_inputs
    assert abs(X[100][columns] - record).max() > 0.0
    watched.forecast_one(table_row(table, 120), id=119)
    np.testing.assert_array_equal(watched.table(120)[119][columns], record)


def table_row(table: Any, number: int) -> dict[str, Any]:
    return next(iter(table.rows(number, number + 1))).x


def test_layers_stand_beside_backpropagation_with_intervals(tmp_path: Path) -> None:
    found = job.run(Job(stream="phishing", learner=BESIDE, rows=300))
    assert set(found["right"]) == {
        OWN, "fast layers", "slow layers", *(backprop.named(*rule) for rule in backprop.RULES),
    }  # fmt: skip
    assert sum(found["blocks"]) == 300
    assert sum(found["right"]["Adam 0.003"]) > 200
    contest = Contest(streams=("phishing",), peers=(), seeds=(0,), rows=300)
    own = Results(tmp_path / "own.json")
    own.add(found)
    page = Findings(name="backprop", title="T", about="", columns=backprop.COLUMNS)
    backprop.fill(page, contest, own)
    (row,) = page.rows
    assert row["everlearn"] == pytest.approx(found["accuracy"])
    assert row["ahead"] == pytest.approx(row["network"] - row["backpropagation"])
    assert row["backpropagation"] >= sum(found["right"]["RMSprop 0.0003"]) / 300


def test_growth_is_measured_beside_the_defaults_and_the_peer_and_drawn(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(growth, "SIZES", {"features": (2, 4), "further experts": (1,)})
    for name, value in {"WARM": 40, "BLOCK": 4, "ROUNDS": 2, "PEER_WARM": 5, "PEER_BLOCK": 2}.items():
        monkeypatch.setattr(growth, name, value)
    found = growth.run(events=4000)
    assert [(row["what"], row["how many"]) for row in found.rows] == [
        ("features", 2), ("features", 4), ("further experts", 1),
    ]  # fmt: skip
    page = found.write(tmp_path)
    assert "![How cost grows](growth.svg)" in page.read_text(encoding="utf-8")
    assert (tmp_path / "growth.svg").read_text(encoding="utf-8").count("<polyline") == 4
    memory = found.below[0].rows
    assert [row["events"] for row in memory] == list(range(400, 4001, 400))
    assert all(row["process, MB"] > row["learner, MB"] > 0.5 for row in memory)


def test_every_class_of_a_drawn_stream_is_there_and_can_be_told() -> None:
    rows, labels = growth.stream(8, 4, 2000)
    centres = np.array([rows[labels == c].mean(axis=0) for c in range(4)])
    nearest = ((rows[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)
    assert sorted(labels[:4].tolist()) == [0, 1, 2, 3]
    assert 0.7 < (nearest == labels).mean() < 1.0


def test_a_curve_rises_where_its_numbers_do() -> None:
    picture = curves([Panel("width", {"everlearn": [(16, 10.0), (64, 100.0)]})], "µs")
    points = picture.split('points="')[1].split('"')[0].split()
    (x1, y1), (x2, y2) = (map(float, point.split(",")) for point in points)
    assert x1 < x2
    assert y1 > y2  # SVG counts from the top


def test_label_history_is_given_to_the_engine_and_to_its_peers() -> None:
    jobs = [task for name in (OWN, "river-hat") for task in history.WITH_HISTORY.jobs(name, "elec2")]
    assert all(task.history for task in jobs)
    assert not set(history.DEAR) & set(history.WITH_HISTORY.peers)
    with_labels = job.run(Job(stream="phishing", learner="river-hat", rows=120, history=True))
    without = job.run(Job(stream="phishing", learner="river-hat", rows=120))
    assert with_labels["log_loss"] != without["log_loss"]


@pytest.mark.parametrize("learner", [INSIDE, BESIDE])
def test_who_is_looked_into_does_not_sleep(learner: str) -> None:
    """A sleeping expert says nothing, which is no answer that could be judged."""
    asked = Job(stream="phishing", learner=learner, rows=100, seed=1)
    looked_into = job._learner(asked, datasets.load("phishing"))
    assert not looked_into.sleep
    assert looked_into.seed == 1
