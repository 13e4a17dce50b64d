"""Scenarios: every event once, held-out events never taught, tasks as their names say, clear errors."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.evaluate.continual.drawing import Asked
from engine.evaluate.continual.scenarios import SCENARIOS, make
from engine.evaluate.continual.tasks import Examples, Scenario, ScenarioError
from streams.errors import TableError, UnknownStream
from streams.images import load_images, read_images


def examples(classes: int = 6, each: int = 40, **more: Any) -> Examples:
    n = classes * each
    X = np.arange(n * 12, dtype=np.float64).reshape(n, 3, 4)
    return Examples("made", X, [k // each for k in range(n)], **more)


def learned_rows(scenario: Scenario) -> list[int]:
    return [int(row) for part in scenario.parts for row in part.rows]


def held_rows(scenario: Scenario) -> set[int]:
    return {int(row) for part in scenario.tests for row in part.rows}


@pytest.mark.parametrize("name", SCENARIOS)
def test_no_held_out_event_is_taught_and_a_seed_draws_the_same_again(name: str) -> None:
    scenario = make(name, examples(), Asked(), seed=3)
    assert not set(learned_rows(scenario)) & held_rows(scenario)
    assert len(held_rows(scenario)) == 6 * 8
    assert learned_rows(make(name, examples(), Asked(), seed=3)) == learned_rows(scenario)
    assert learned_rows(make(name, examples(), Asked(), seed=4)) != learned_rows(scenario)
    assert set(scenario.order) == set(range(len(scenario.tasks)))


def test_held_out_events_have_every_class_in_proportion() -> None:
    scenario = make("permuted", examples(), Asked(test_share=0.25), seed=0)
    assert Counter(scenario.tests[0].labels) == dict.fromkeys(range(6), 10)


def test_class_incremental_teaches_two_classes_at_a_time_in_the_order_of_labels() -> None:
    scenario = make("class-incremental", examples(), Asked())
    assert [sorted(set(part.labels)) for part in scenario.parts] == [[0, 1], [2, 3], [4, 5]]
    assert [sorted(set(part.labels)) for part in scenario.tests] == [[0, 1], [2, 3], [4, 5]]
    assert scenario.tasks == ("0, 1", "2, 3", "4, 5")
    assert len(learned_rows(scenario)) == len(set(learned_rows(scenario))) == 6 * 32
    assert scenario.parts[0].labels != sorted(scenario.parts[0].labels, key=str)
    uneven = make("class-incremental", examples(), Asked(tasks=4))
    assert sorted(len(set(part.labels)) for part in uneven.parts) == [1, 1, 2, 2]


def test_domain_incremental_keeps_the_labels_and_changes_what_they_stand_for() -> None:
    scenario = make("domain-incremental", examples(), Asked())
    assert all(set(part.labels) == {0, 1} for part in (*scenario.parts, *scenario.tests))
    part = scenario.parts[2]
    assert [label + 4 for label in part.labels] == [int(row) // 40 for row in part.rows]


def test_domains_of_a_column_keep_their_order() -> None:
    domain = ["dry" if k % 3 else "wet" for k in range(240)]
    scenario = make("domain-incremental", examples(domain=domain), Asked())
    assert scenario.tasks == ("wet", "dry")
    for part, name in zip(scenario.parts, scenario.tasks, strict=True):
        assert part.rows.tolist() == sorted(part.rows)
        assert {domain[row] for row in part.rows} == {name}


def test_permuted_tasks_show_the_same_values_in_another_order() -> None:
    scenario = make("permuted", examples(), Asked(tasks=3, events_per_task=50), seed=1)
    raw = scenario.examples.X
    for task, part in enumerate(scenario.parts):
        assert len(part) == 50
        seen = scenario.events(part)
        assert seen.shape == (50, 3, 4)
        assert np.array_equal(np.sort(seen.reshape(50, -1)), raw[part.rows].reshape(50, -1))
        assert np.array_equal(seen, raw[part.rows]) == (task == 0)
        order = np.argsort(seen[0].ravel())
        assert np.array_equal(order, np.argsort(scenario.events(scenario.tests[task])[0].ravel()))


def test_recurring_concepts_come_in_turn_with_labels_of_their_own() -> None:
    scenario = make("recurring", examples(), Asked(visits=3))
    assert scenario.order == (0, 1, 0, 1, 0, 1)
    for part in (*scenario.parts, *scenario.tests):
        moved = int(part.tasks[0])
        assert part.labels == [(int(row) // 40 + moved) % 6 for row in part.rows]
    assert len(learned_rows(scenario)) == len(set(learned_rows(scenario))) == 6 * 32
    with pytest.raises(ScenarioError, match="no upper line"):
        scenario.shuffled(0)


def test_recurring_domains_are_interleaved_in_blocks() -> None:
    domain = [k % 2 for k in range(240)]
    scenario = make("recurring", examples(domain=domain), Asked(visits=2))
    assert scenario.order == (0, 1, 0, 1)
    for task in (0, 1):
        rows = np.concatenate([part.rows for part in scenario.parts if part.tasks[0] == task])
        assert rows.tolist() == sorted(rows)
    assert not scenario.contradicts


def test_blurry_tasks_have_a_share_of_the_others_events() -> None:
    scenario = make("blurry", examples(each=100), Asked(blur=0.25))
    for task, part in enumerate(scenario.parts):
        own = sum(label in (2 * task, 2 * task + 1) for label in part.labels)
        assert (own, len(part)) == (120, 160)
    assert len(set(learned_rows(scenario))) == 480


def test_shuffled_is_the_same_events_mixed() -> None:
    scenario = make("permuted", examples(), Asked(tasks=3), seed=2)
    mixed = scenario.shuffled(2)
    told = [
        sorted((int(row), label, int(task)) for part in each.parts
               for row, label, task in zip(part.rows, part.labels, part.tasks, strict=True))
        for each in (scenario, mixed)
    ]  # fmt: skip
    assert told[0] == told[1]
    part = mixed.parts[0]
    assert len(set(part.tasks.tolist())) == 3
    seen, orders = mixed.events(part), np.asarray(scenario.permutations)
    for i in range(5):
        task = int(part.tasks[i])
        alone = np.asarray(scenario.examples.X)[part.rows[i]].ravel()[orders[task]]
        assert np.array_equal(seen[i].ravel(), alone)


def test_a_set_s_own_test_events_are_held_out_unless_a_share_is_asked_for() -> None:
    held = np.zeros(240, dtype=np.bool_)
    held[::20] = True
    assert held_rows(make("class-incremental", examples(held_out=held), Asked())) == set(range(0, 240, 20))
    assert len(held_rows(make("class-incremental", examples(held_out=held), Asked(test_share=0.5)))) == 120


@pytest.mark.parametrize(
    ("name", "given", "asked", "expected"),
    [
        ("spiral", {}, {}, "expected one of class-incremental"),
        ("class-incremental", {"classes": 1}, {}, "expected at least two classes"),
        ("class-incremental", {"classes": 2}, {}, "has 2 classes, one task with 2 per task"),
        ("class-incremental", {}, {"tasks": 7}, "has 6 classes; expected at most one task per class"),
        ("class-incremental", {}, {"tasks": 2, "classes_per_task": 2}, "make 3 tasks of 2; leave out one"),
        ("class-incremental", {"each": 1}, {}, "task 0 has no event"),
        ("class-incremental", {}, {"test_share": 1.0}, "--test-share is 1.0"),
        ("class-incremental", {"domain": [0] * 240}, {}, "leave it out for class-incremental"),
        ("domain-incremental", {"classes": 5}, {}, "tasks of 2, 2, 1"),
        ("domain-incremental", {"domain": list(range(240))}, {}, "240 different values; expected 2 to 50"),
        ("recurring", {}, {"tasks": 7}, "exchanged in 6 ways"),
        ("recurring", {}, {"visits": 1}, "--visits is 1; expected at least 2"),
        ("permuted", {}, {"classes_per_task": 2}, "leave it out"),
        ("blurry", {}, {"blur": 1.0}, "--blur is 1.0"),
    ],
)
def test_data_that_does_not_fit_is_refused_with_what_to_do(
    name: str, given: dict[str, Any], asked: dict[str, Any], expected: str
) -> None:
    with pytest.raises(ScenarioError, match=expected):
        make(name, examples(**given), Asked(**asked))


def test_text_cannot_be_permuted() -> None:
    rows: list[dict[str, Any]] = [{"a": 1.0, "kind": "x"}, {"a": 2.0, "kind": "y"}] * 4
    with pytest.raises(ScenarioError, match="text in the column 'kind'"):
        make("permuted", Examples("made", rows, [0, 1] * 4), Asked())


# -- image sets ---------------------------------------------------------------------------------------


def test_an_image_set_is_read_with_its_own_test_events(tmp_path: Path) -> None:
    X = np.random.default_rng(0).integers(0, 255, (6, 4, 5, 3)).astype(np.uint8)
    np.savez(tmp_path / "made.npz", X=X[:4], y=list("abab"), X_test=X[4:], y_test=list("ba"))
    images = read_images(tmp_path / "made.npz")
    assert (images.name, len(images), images.labels) == ("made", 6, list("ababba"))
    assert np.array_equal(images.X, X)
    assert images.held_out is not None
    assert images.held_out.tolist() == [False] * 4 + [True] * 2


def test_what_is_no_image_set_is_refused(tmp_path: Path) -> None:
    X, y = np.zeros((3, 2, 2)), np.array([0, 1, 0])
    for arrays, expected in (
        ({"images": X}, "holds the arrays images; expected X"),
        ({"X": X, "y": y[:2]}, r"y has shape \(2,\)"),
        ({"X": X[0, 0], "y": y}, r"X has shape \(2,\)"),
        ({"X": X, "y": y, "X_test": X}, "expected both or neither"),
        ({"X": X, "y": y, "X_test": X[:, 1:], "y_test": y}, "expected equal shapes"),
        ({"X": X, "y": np.array([0, "a", None], dtype=object)}, "not readable as a NumPy archive"),
    ):
        np.savez(tmp_path / "wrong.npz", **arrays)
        with pytest.raises(TableError, match=expected):
            read_images(tmp_path / "wrong.npz")
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(TableError, match="not readable"):
        read_images(tmp_path / "text.npz")
    with pytest.raises(TableError, match="there is no file"):
        read_images(tmp_path / "none.npz")


def test_an_image_set_that_is_not_here_is_said_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EVERLEARN_DATA", str(tmp_path))
    with pytest.raises(UnknownStream, match=r"holds mnist/mnist\.npz \(there is no file"):
        load_images("mnist")
    monkeypatch.delenv("EVERLEARN_DATA")
    with pytest.raises(UnknownStream, match="it is not set"):
        load_images("mnist")


@pytest.mark.data
def test_mnist_is_found_in_the_folder_of_recorded_streams(data_dir: Path) -> None:
    images = load_images("mnist")
    assert images.X.shape == (70_000, 28, 28)
    assert images.held_out is not None
    assert images.held_out.sum() == 10_000
