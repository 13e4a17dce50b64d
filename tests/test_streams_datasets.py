"""Built-in streams load by name, are the same every time, and say what is missing where they cannot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from streams.clock import ManualClock, SystemClock
from streams.datasets import load, names
from streams.errors import UnknownStream
from streams.synthetic import SEA_THRESHOLDS, recurring_rbf, rotating_hyperplane, sea_abrupt
from streams.table import Table

RIVER = {
    "phishing": (1250, 9, "classification"),
    "bananas": (5300, 2, "classification"),
    "image_segments": (2310, 18, "classification"),
    "shuttle": (49097, 9, "classification"),
    "trump_approval": (1001, 6, "regression"),
}
RECORDED = {
    "elec2": (45312, 8, "class", "classification"),
    "weather": (18159, 8, "target", "classification"),
    "outdoor": (4000, 21, "target", "classification"),
    "luxembourg": (1901, 31, "target", "classification"),
    "phishing_uci": (11055, 46, "target", "classification"),
    "covertype100k": (100000, 54, "class", "classification"),
    "insects_wbf": (101400, 3, "species", "classification"),
    "pen_digits": (10992, 8, "class", "classification"),
    "kdd99": (494021, 41, "label", "classification"),
    "bike_sharing": (17379, 12, "cnt", "regression"),
    "beijing_pm25": (43800, 7, "pm25", "regression"),
}


def numbers(table: Table) -> tuple[np.ndarray, np.ndarray]:
    X, _, y = table.arrays()
    assert X is not None
    return X, np.asarray(y)


@pytest.mark.parametrize("name", RIVER)
def test_rivers_data_sets_load_without_a_download(name: str) -> None:
    table = load(name)
    assert (len(table), len(table.columns), table.task) == RIVER[name]


def test_rivers_rows_are_rivers_own() -> None:
    from river import datasets

    ours = [(row.x, row.y) for row in load("phishing").rows()]
    assert ours == list(datasets.Phishing())


@pytest.mark.data
@pytest.mark.parametrize("name", RECORDED)
def test_recorded_streams_load_from_the_folder_that_the_variable_names(name: str, data_dir: Path) -> None:
    table = load(name)
    assert (len(table), len(table.columns), table.target, table.task) == RECORDED[name]
    assert table.name == name


def test_a_recorded_stream_without_the_variable_is_an_error_that_names_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("EVERLEARN_DATA", raising=False)
    with pytest.raises(UnknownStream, match=r"'elec2' .* environment variable EVERLEARN_DATA"):
        load("elec2")


def test_a_recorded_stream_that_is_not_in_the_folder_is_an_error_that_names_both(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EVERLEARN_DATA", str(tmp_path))
    with pytest.raises(UnknownStream, match=r"EVERLEARN_DATA names: there is no file .*elec2\.parquet"):
        load("elec2")


def test_an_unknown_name_is_an_error_with_the_closest_and_all_that_are_known() -> None:
    with pytest.raises(UnknownStream, match=r"'banana'; did you mean 'bananas'\?.*flights.*weather"):
        load("banana")


def test_every_name_is_listed_once() -> None:
    assert len(names()) == len(set(names())) == len(RIVER) + len(RECORDED) + 4


@pytest.mark.parametrize("make", [sea_abrupt, rotating_hyperplane, recurring_rbf])
def test_a_generated_stream_is_a_function_of_its_seed(make: type) -> None:
    X, y = numbers(make(500, seed=3))
    again, labels = numbers(make(500, seed=3))
    other, _ = numbers(make(500, seed=4))
    assert np.array_equal(X, again)
    assert np.array_equal(y, labels)
    assert not np.array_equal(X, other)


def test_sea_labels_follow_their_formula_in_every_quarter() -> None:
    X, y = numbers(sea_abrupt(8000, seed=1, noise=0.0))
    theta = np.repeat(SEA_THRESHOLDS, 2000)
    assert np.array_equal(y, (X[:, 0] + X[:, 1] <= theta).astype(int))
    _, noisy = numbers(sea_abrupt(8000, seed=1, noise=0.1))
    assert np.mean(noisy != y) == pytest.approx(0.1, abs=0.015)


def test_the_hyperplane_turns_and_stands_still_without_a_step() -> None:
    still, y_still = numbers(rotating_hyperplane(4000, seed=2, step=0.0, noise=0.0))
    moving, y_moving = numbers(rotating_hyperplane(4000, seed=2, step=0.01, turn=0.0, noise=0.0))
    assert np.array_equal(still, moving)
    early, late = np.mean(y_still[:50] != y_moving[:50]), np.mean(y_still[-500:] != y_moving[-500:])
    assert early < 0.2 < late


def test_a_recurring_concept_comes_back_as_it_was() -> None:
    X, y = numbers(recurring_rbf(9000, seed=5, concepts=3, block=1500))
    blocks = [(X[i : i + 1500], y[i : i + 1500]) for i in range(0, 9000, 1500)]

    def accuracy(learned: int, asked: int) -> float:
        (A, a), (B, b) = blocks[learned], blocks[asked]
        nearest = ((B[:200, None] - A[None]) ** 2).sum(axis=2).argmin(axis=1)
        return float(np.mean(a[nearest] == b[:200]))

    assert accuracy(0, 3) > 0.95
    assert accuracy(0, 1) < 0.6


@pytest.mark.parametrize(("make", "option"), [(sea_abrupt, {"n": 0}), (recurring_rbf, {"classes": 0})])
def test_a_stream_of_nothing_is_refused(make: type, option: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=rf"{next(iter(option))} is 0; expected at least 1"):
        make(**option)


def test_a_manual_clock_moves_only_when_it_is_told() -> None:
    clock = ManualClock(10.0)
    assert (clock.time(), clock.monotonic()) == (10.0, 0.0)
    clock.sleep(1.5)
    clock.advance(2.0)
    assert (clock.time(), clock.monotonic()) == (13.5, 3.5)
    with pytest.raises(ValueError, match="only goes forward"):
        clock.advance(-1.0)


def test_the_system_clock_is_the_machines() -> None:
    clock = SystemClock()
    before = clock.monotonic()
    clock.sleep(0.0)
    assert clock.monotonic() >= before
    assert clock.time() > 1.7e9
