"""The baselines do what their papers say: projections, losses, buffers, budgets, one pass in batches of ten."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.continual import chosen, fill, records, standings, summary
from benchmarks.continual.buffers import Greedy, Reservoir
from benchmarks.continual.features import FILTERS, PATCH, Patches, Pixels, RandomUnits, spherical_means
from benchmarks.continual.job import JOINT, MIXED, STATISTICS, Job, scenario_of, versions
from benchmarks.continual.losses import der, er_ace, ewc_pull, project
from benchmarks.continual.methods import METHODS, Baseline, Dumb, OnlineEwc, Setting, StreamingLda
from benchmarks.continual.plan import SETS, candidates, full, methods_of
from benchmarks.job import OWN
from engine.evaluate.continual.course import follow
from engine.evaluate.continual.drawing import Asked
from engine.evaluate.continual.scenarios import make
from engine.evaluate.continual.tasks import Examples


def blobs(each: int = 150, classes: int = 4) -> Examples:
    """Classes around corners of a cube in 12 dimensions."""
    rng = np.random.default_rng(0)
    labels: list[Hashable] = [k % classes for k in range(classes * each)]
    centres = rng.choice([-1.0, 1.0], (classes, 12))
    X = centres[[k % classes for k in range(len(labels))]] + 0.4 * rng.normal(size=(len(labels), 12))
    return Examples("blobs", (X + 3.0) / 6.0, labels)


def run(name: str, setting: Setting, examples: Examples, budget: int = 100_000, mixed: bool = False) -> Any:
    scenario = make("class-incremental", examples, Asked())
    scenario = scenario.shuffled(0) if mixed else scenario
    model = METHODS[name](Pixels((12,)), range(4), setting, budget, seed=0)
    course = follow(model, scenario, ordered=not mixed, probes=1)
    return model, course.result()


# -- losses -------------------------------------------------------------------------------------------------


def test_a_projected_gradient_never_raises_the_loss_on_kept_events() -> None:
    torch.manual_seed(0)
    turned = 0
    for _ in range(200):
        g, r = torch.randn(30), torch.randn(30)
        p = project(g, r)
        assert torch.dot(p, r) >= -1e-4
        assert torch.equal(p, g) == bool(torch.dot(g, r) >= 0)
        turned += not torch.equal(p, g)
        assert torch.dot(p, g) >= -1e-4  # it still goes down for new events
    assert 50 < turned < 150


def test_dark_replay_adds_matched_outputs_and_replayed_labels() -> None:
    new, old = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    again, said = torch.tensor([[1.0, 3.0]]), torch.tensor([[0.0, 1.0]])
    y = torch.tensor([0])
    found = der(new, y, again, said, old, y, alpha=0.5, beta=2.0)
    ce = [-torch.log_softmax(out, dim=1)[0, 0].item() for out in (new, old)]
    assert found.item() == pytest.approx(ce[0] + 0.5 * (1.0 + 4.0) / 2 + 2.0 * ce[1])


def test_new_events_do_not_push_absent_classes_away_in_er_ace() -> None:
    new = torch.zeros(2, 4, requires_grad=True)
    old = torch.zeros(1, 4, requires_grad=True)
    loss = er_ace(new, torch.tensor([2, 3]), old, torch.tensor([0]), torch.tensor([0, 2, 3]))
    assert loss.item() == pytest.approx(np.log(2) + np.log(3))
    loss.backward()  # type: ignore[no-untyped-call]
    assert new.grad is not None
    assert old.grad is not None
    assert torch.equal(new.grad[:, :2], torch.zeros(2, 2))
    assert (new.grad[:, 2:] != 0).all()
    assert old.grad[0, 1] == 0.0  # never seen
    assert (old.grad[0, [0, 2, 3]] != 0).all()


def test_ewc_pulls_towards_the_anchor_by_importance_and_never_past_it() -> None:
    p, anchor = torch.tensor([1.0, 1.0, 1.0]), torch.tensor([0.0, 0.0, 1.0])
    assert ewc_pull(p, anchor, torch.tensor([2.0, 500.0, 7.0]), most=10.0).tolist() == [2.0, 10.0, 0.0]


# -- buffers ------------------------------------------------------------------------------------------------


def test_a_reservoir_is_a_uniform_sample_of_all_events() -> None:
    shares = np.zeros(10)
    for seed in range(40):
        kept = Reservoir(50, (1,), np.float64, 0, seed)
        for at in range(0, 1000, 10):
            X = np.arange(at, at + 10, dtype=np.float64)[:, None]
            kept.add(X, X[:, 0].astype(np.int64))
        X, y, _ = kept.draw(50)
        assert len(kept) == len(set(X[:, 0].tolist())) == 50
        assert np.array_equal(X[:, 0], y.numpy())
        shares += np.bincount((X[:, 0] // 100).astype(int), minlength=10)
    assert (np.abs(shares - 200) < 60).all()  # of 2,000 drawn; the deviation is 13


def test_a_greedy_buffer_is_balanced_though_classes_come_one_after_the_other() -> None:
    kept = Greedy(100, (1,), np.float64, seed=0)
    for label in range(5):
        kept.add(np.full((400, 1), float(label)), np.full(400, label, np.int64))
        counts = kept.counts()
        assert len(kept) == 100
        assert max(counts.values()) - min(counts.values()) <= 1
    X, y = kept.all()
    assert np.array_equal(X[:, 0], y)
    assert Counter(y.tolist()) == dict.fromkeys(range(5), 20)


# -- features -----------------------------------------------------------------------------------------------


def test_patch_features_are_those_of_every_patch_normalised_whitened_and_pooled() -> None:
    X = np.random.default_rng(0).integers(0, 255, (40, 13, 13)).astype(np.uint8)
    map = Patches(seed=0)
    map.fit(X)
    said = map._responses(torch.from_numpy(X / 255.0).float()).permute(1, 0, 2, 3).flatten(1)
    assert (said <= map._threshold[:, None]).float().mean() == pytest.approx(0.8, abs=0.02)
    found = map(X[:3]).numpy()
    assert found.shape == (3, 1152)
    assert np.allclose(found[1], _by_hand(map, X[1] / 255.0), atol=2e-3)
    map._weights = map._weights + 0.1  # filters that do not sum to 0 must see a patch without its mean too
    assert np.allclose(map(X[1:2]).numpy()[0], _by_hand(map, X[1] / 255.0), atol=2e-3)


def _by_hand(map: Patches, image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    weights, offset, threshold = (t.numpy() for t in (map._weights, map._offset, map._threshold))
    over = np.zeros((FILTERS, 7, 7))
    for i in range(7):
        for j in range(7):
            patch = image[i : i + PATCH, j : j + PATCH].ravel()
            normal = (patch - patch.mean()) / np.sqrt(patch.var() + 0.01)
            over[:, i, j] = np.maximum(normal @ weights - offset - threshold, 0.0)
    cells = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(over), 3).numpy().ravel()
    found: np.ndarray[Any, Any] = np.clip((cells - map._mean.numpy()) / map._scale.numpy(), -4, 4)
    return found


def test_spherical_means_find_directions() -> None:
    rng = torch.Generator().manual_seed(0)
    centres = torch.eye(3)
    rows = centres.repeat(50, 1) * torch.rand(150, 1, generator=rng) + 0.02 * torch.randn(
        150, 3, generator=rng
    )
    rows = rows[rows.norm(dim=1) > 0.2]
    found = spherical_means(rows, 3, torch.Generator().manual_seed(1))
    assert torch.allclose(found.norm(dim=1), torch.ones(3), atol=1e-5)
    assert (found @ centres.T).max(dim=1).values.min() > 0.7


# -- methods ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
def test_a_method_learns_within_its_budget(name: str) -> None:
    setting = Setting(0.01 if name == "streaming LDA" else 0.1, strength=10.0)
    budget = 700_000
    model, found = run(name, setting, blobs(), budget, mixed=True)
    assert found["final_accuracy"] > 0.9
    assert found["memory_bytes"] == model.memory_bytes()
    if name != "online EWC":  # importances are four times the network: more than this budget
        assert model.memory_bytes() <= budget


def test_replay_keeps_old_tasks_where_fine_tuning_forgets_them() -> None:
    accuracy = {
        name: run(name, Setting(0.1), blobs(), 700_000)[1]["final_accuracy"]
        for name in ("fine-tuning", "ER", "ER-ACE", "DER++", "GDumb")
    }
    assert accuracy["fine-tuning"] < 0.6
    assert all(value > 0.85 for name, value in accuracy.items() if name != "fine-tuning")


def test_a_budget_without_room_for_an_event_is_refused() -> None:
    for name in ("ER", "GDumb"):
        with pytest.raises(ValueError, match="no room to keep an event of 97 bytes"):
            run(name, Setting(0.1), blobs(), budget=1_000)


def test_streaming_lda_is_linear_discriminant_analysis_in_whatever_order() -> None:
    examples = blobs(each=60)
    X, y = np.asarray(examples.X), np.array(examples.labels, dtype=np.int64)
    orders = (np.argsort(y, kind="stable"), np.random.default_rng(3).permutation(len(y)))
    answers = []
    for order in orders:
        model = StreamingLda(Pixels((12,)), range(4), Setting(0.01), 10**6, seed=0)
        model.test_then_train(X[order], y[order].tolist())
        model.invert()
        answers.append(model.predict_proba(X))
    assert np.allclose(*answers, atol=1e-3)
    z = 2.0 * (X - 0.5)
    means = np.array([z[y == k].mean(axis=0) for k in range(4)])
    within = np.mean([np.outer(a, a) for a in z - means[y]], axis=0)
    inverse = np.linalg.inv(0.99 * within + 0.01 * np.eye(12))
    scores = z @ inverse @ means.T - 0.5 * np.einsum("ki,ij,kj->k", means, inverse, means)
    expected = np.exp(scores - scores.max(axis=1, keepdims=True))
    assert np.allclose(answers[0], expected / expected.sum(axis=1, keepdims=True), atol=1e-3)


def test_gdumb_answers_by_what_it_kept_and_only_from_a_task_s_end_on() -> None:
    model = Dumb(Pixels((12,)), range(4), Setting(0.1), 700_000, seed=0)
    X, y = np.asarray(blobs().X), blobs().labels
    model.test_then_train(X[:200], y[:200])
    before = model.predict_proba(X[:20])
    model.test_then_train(X[200:400], y[200:400])
    assert np.array_equal(model.predict_proba(X[:20]), before)
    model.end_task()
    assert (model.predict_proba(X[400:]).argmax(axis=1) == np.array(y[400:])).mean() > 0.9


def test_ewc_holds_what_mattered_for_the_task_before() -> None:
    moved = {}
    for strength in (0.0, 1e4):
        model = OnlineEwc(Pixels((12,)), range(4), Setting(0.1, strength=strength), 10**7, seed=0)
        examples = make("class-incremental", blobs(), Asked())
        first, second = (examples.events(part) for part in examples.parts)
        model.test_then_train(first, examples.parts[0].labels)
        model.end_task()
        anchors, fisher = [a.clone() for a in model.anchors], [f.clone() for f in model.fisher]
        model.test_then_train(second, examples.parts[1].labels)
        parts = zip(model.parameters, anchors, fisher, strict=True)
        moved[strength] = sum(float((f * (p.detach() - a).square()).sum()) for p, a, f in parts)
    assert 0.0 < moved[1e4] < 0.2 * moved[0.0]


class Written(Baseline):
    """Writes down what it is asked and taught."""

    def start(self, X: Any) -> None:
        self.lines: list[tuple[str, int]] = []

    def learn(self, X: Any, z: Any, y: Any) -> None:
        self.lines.append(("taught", len(X)))

    def answers(self, z: Any) -> Any:
        self.lines.append(("asked", len(z)))
        return torch.zeros(len(z), 2)

    def own_bytes(self) -> int:
        return 0


def test_ten_events_are_forecast_and_then_learned_and_a_map_waits_for_its_first_events() -> None:
    X, y = np.zeros((25, 3)), [0, 1] * 12 + [0]
    model = Written(Pixels((3,)), range(2), Setting(0.1), 0, 0)
    said = model.test_then_train(X, y)
    assert said[:10].sum() == 0.0  # nothing was known
    assert model.lines == [("taught", 10), ("asked", 10), ("taught", 10), ("asked", 5), ("taught", 5)]
    late = Written(RandomUnits(3), range(2), Setting(0.1), 0, 0)
    X, y = np.random.default_rng(0).random((120, 3)), [0, 1] * 60
    assert late.test_then_train(X[:90], y[:90]).sum() == 0.0
    assert late.predict_proba(X).sum() == 0.0
    late.test_then_train(X[90:], y[90:])
    assert late.lines == [("taught", 10)] * 10 + [("asked", 10), ("taught", 10)] * 2
    z = late.map(X[:100])
    assert torch.allclose(z.mean(dim=0), torch.zeros(1024), atol=0.1)  # by those 100 it was fitted


# -- the benchmark ------------------------------------------------------------------------------------------


def record(job: Job, accuracy: float, **more: Any) -> dict[str, Any]:
    figures = {"final_accuracy": accuracy, "live_accuracy": 0.5, "us_per_event": 9.0, "memory_bytes": 10**6}
    return {**job.__dict__, **figures, "cpu_seconds": 1.0, "versions": versions(job.own, job.set), **more}


def test_a_record_depends_on_the_bytes_of_its_own_set_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {name: versions(False, name) for name in STATISTICS}
    versions.cache_clear()
    monkeypatch.setitem(STATISTICS, "flat", STATISTICS["flat"] + 1)
    assert {name for name in STATISTICS if versions(False, name) != before[name]} == {"flat"}
    versions.cache_clear()


def test_the_better_setting_and_the_better_input_count(tmp_path: Path) -> None:
    kept = records.Records(tmp_path / "runs.json")
    for job in candidates("images", "ER"):
        kept.add(record(job, 0.5 + job.rate + 0.01 * job.repeats - 0.2 * (job.input == "pixels")))
    settings = chosen("images", "ER", kept)
    assert {(job.input, job.repeats): job.rate for job in settings} == {
        ("pixels", 1): 0.1, ("pixels", 4): 0.1, ("patches", 1): 0.1, ("patches", 4): 0.1,
    }  # fmt: skip
    for job in full("images", "ER", 400_000, settings, seeds=2):
        assert (job.kept, job.tuning) == (400_000, False)
        accuracy = 0.8 + 0.1 * (job.input == "patches") + 0.02 * job.seed + 0.01 * job.repeats
        kept.add(record(job, accuracy, us_per_event=5.0 * job.repeats))
    kept.add(record(Job(set="images", kept=400_000, method=OWN), 0.95))
    kept.add(record(Job(set="images", kept=400_000, method=MIXED), 0.96))
    table = standings("images", 400_000, records.Records(tmp_path / "runs.json"), seeds=2)
    rows = {row["method"]: row for row in table.rows}
    assert set(rows) == {OWN, MIXED, "ER", "ER, 4 steps"}
    assert (rows["ER"]["reads"], rows["ER"]["setting"], rows["ER"]["seeds"]) == ("patches", "0.1", 2)
    assert rows["ER"]["accuracy"] == pytest.approx(0.92)
    assert rows["ER"]["spread"] == pytest.approx(0.02 / 2**0.5)
    line = summary(table)
    assert (line["everlearn"], line["shuffled"]) == (0.95, 0.96)
    assert (line["best baseline"], line["its µs"]) == ("ER, 4 steps", 20.0)
    assert (line["best no slower"], line["accuracy of that"]) == ("ER", pytest.approx(0.92))


def test_what_keeps_nothing_is_measured_once_and_takes_part_where_nothing_is_kept() -> None:
    assert methods_of("images", 0) == [OWN, MIXED, "fine-tuning", "online EWC", "streaming LDA", JOINT]
    settings = list(candidates("images", "streaming LDA"))[:1]
    jobs = {job for kept in SETS["images"] for job in full("images", "streaming LDA", kept, settings, 1)}
    assert len(jobs) == 1
    assert len({job for kept in SETS["images"] for job in full("images", OWN, kept, [], 5)}) == 15


def test_a_run_that_was_stopped_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Job] = []

    def pretend(words: list[str], **_: Any) -> Any:
        job = Job(**json.loads(words[-1]))
        made.append(job)

        class Ended:
            returncode = 0 if job.seed != 1 else 1
            stdout = json.dumps(record(job, 0.9))
            stderr = "no room"

        return Ended

    monkeypatch.setattr(records.subprocess, "run", pretend)
    kept = records.Records(tmp_path / "runs.json")
    failed = fill("flat", ("fine-tuning",), kept, seeds=2, at_once=1)
    assert len(failed) == 2
    assert "fine-tuning (pixels) failed on flat, seed 1: no room" in failed[0]
    first = len(made)
    assert first == 2 * 3 + 2 * 2  # three settings for two inputs, then two seeds of two inputs
    assert [job.seed for job in made[-4:]] == [0, 0, 1, 1]
    fill("flat", ("fine-tuning",), records.Records(tmp_path / "runs.json"), seeds=2, at_once=1)
    assert [job.seed for job in made[first:]] == [1, 1]


def test_scenarios_of_the_benchmark_are_as_the_page_says() -> None:
    rng = np.random.default_rng(0)
    labels: list[Hashable] = [k % 10 for k in range(400)]
    held = np.arange(400) >= 300
    images = Examples("mnist", rng.integers(0, 255, (400, 28, 28)).astype(np.uint8), labels, held)
    split = scenario_of(Job(set="images", kept=0, method="ER"), images)
    assert [sorted(set(part.labels)) for part in split.parts] == [[2 * k, 2 * k + 1] for k in range(5)]
    assert split.events(split.parts[0]).shape[1:] == (28, 28)
    assert sum(len(test) for test in split.tests) == 100
    flat = scenario_of(Job(set="permuted", kept=0, method="ER"), images)
    assert (len(flat.parts), flat.events(flat.parts[3]).shape) == (10, (300, 784))
    mixed = scenario_of(Job(set="flat", kept=0, method=JOINT), images)
    assert len(set(mixed.parts[0].labels)) == 10


def test_names_that_are_not_known_are_refused() -> None:
    from benchmarks.continual import run as continual

    with pytest.raises(ValueError, match="'ERR' is not known; expected one of"):
        continual(methods="ER,ERR")
