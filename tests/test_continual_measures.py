"""Measures of continual learning, against matrices worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from engine.evaluate.continual.measures import anytime_accuracy, measures
from engine.evaluate.continual.recovery import by_visit, recovery, shortfall, switches

R = np.array([[0.9, 0.3, 0.2], [0.8, 0.7, 0.4], [0.6, 0.9, 0.8]])


def test_measures_of_three_tasks_are_those_worked_out_by_hand() -> None:
    found = measures(R, [0, 1, 2], chance=0.25)
    assert found["average_accuracy"] == pytest.approx((0.6 + 0.9 + 0.8) / 3)
    assert found["learning_accuracy"] == pytest.approx((0.9 + 0.7 + 0.8) / 3)
    assert found["forgetting"] == pytest.approx(((0.9 - 0.6) + (0.7 - 0.9)) / 2)
    assert found["largest_drop"] == pytest.approx(0.9 - 0.6)
    assert found["backward_transfer"] == pytest.approx(((0.6 - 0.9) + (0.9 - 0.7)) / 2)
    assert found["forward_transfer"] == pytest.approx(((0.3 - 0.25) + (0.4 - 0.25)) / 2)


def test_a_task_that_comes_twice_is_measured_from_its_first_part_on() -> None:
    twice = np.array([[0.9, 0.1], [0.5, 0.8], [0.95, 0.4], [0.7, 0.85]])
    found = measures(twice, [0, 1, 0, 1], chance=0.5)
    assert found["forgetting"] == pytest.approx(0.95 - 0.7)
    assert found["backward_transfer"] == pytest.approx(0.7 - 0.9)
    assert found["forward_transfer"] == pytest.approx(0.1 - 0.5)
    assert found["learning_accuracy"] == pytest.approx((0.9 + 0.8) / 2)


def test_one_task_alone_has_nothing_to_forget_or_to_carry_over() -> None:
    found = measures([[0.9]], [0], chance=0.5)
    assert found["average_accuracy"] == 0.9
    assert [found[name] for name in ("forgetting", "backward_transfer", "forward_transfer")] == [None] * 3


def test_a_matrix_that_does_not_fit_is_refused() -> None:
    for matrix, order in ((R, [0, 1]), (R, [0, 1, 1]), (R[0], [0, 1, 2])):
        with pytest.raises(ValueError, match="expected \\(parts, tasks\\)"):
            measures(matrix, order, chance=0.5)


def test_any_time_accuracy_weighs_points_by_the_events_they_stand_for() -> None:
    assert anytime_accuracy([100, 400], [1.0, 0.5]) == pytest.approx((100 * 1.0 + 300 * 0.5) / 400)


def test_recovery_counts_events_until_accuracy_is_back() -> None:
    right = np.concatenate([np.zeros(100), np.ones(200)])
    assert recovery(right, before=1.0) == 98  # of 50 events from there on 48 are right: 96 %
    assert recovery(right, before=0.5) == 74
    assert recovery(np.zeros(300), before=0.9) is None
    assert shortfall(right, before=0.9) == pytest.approx(0.9 * 300 - 200)


def test_returns_are_told_apart_from_first_visits() -> None:
    slow, quick = np.repeat([0.0, 1.0], [80, 120]), np.ones(200)
    right = np.concatenate([np.ones(200), slow, quick, quick, quick, quick])
    starts, order = [0, 200, 400, 600, 800, 1000], [0, 1, 0, 1, 0, 1]
    found = switches(right, starts, order)
    assert [(s.at, s.task, s.visit) for s in found] == [
        (200, 1, 1),
        (400, 0, 2),
        (600, 1, 2),
        (800, 0, 3),
        (1000, 1, 3),
    ]
    assert found[1].before == pytest.approx(120 / 200)
    first, second, later = by_visit(found)
    assert (first["switches"], first["recovery"], first["shortfall"]) == (1, 78, 80.0)
    assert (second["switches"], second["recovery"]) == (2, 0)
    assert (later["switches"], later["recovery"], later["shortfall"]) == (2, 0, 0.0)


def test_parts_of_the_same_task_in_a_row_are_no_switch() -> None:
    assert switches(np.ones(30), [0, 10, 20], [0, 0, 1])[0].at == 20
    assert len(switches(np.ones(30), [0, 10, 20], [0, 0, 1])) == 1
