"""The demo's peers in their process: late labels as for the engine, and a state that may be lost."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest

from engine.peer_process import RESULTS, SAVE_SECONDS, STATE, PeerRun, follow, told
from streams.clock import ManualClock
from streams.event import Event, Label, Position, Record, TopicPartition
from streams.merge import MergedSource
from streams.replay import ListSource

NAMES = ("river-logistic", "river-hat")


def source(n: int = 300) -> MergedSource:
    chance = random.Random(3)
    events, labels = [], []
    for i in range(n):
        x = {"a": chance.gauss(0, 1), "shop": chance.choice(["n", "s"])}
        events.append(Event(id=str(i), time=float(i), features=x))
        labels.append(Label(id=str(i), time=i + 20.0, label=int(x["a"] > 0)))
    return MergedSource(ListSource({TopicPartition("e", 0): events, TopicPartition("l", 0): labels}))


class StopAfter:
    """Says stop at the n-th question, and lets the clock run meanwhile."""

    def __init__(self, questions: int, clock: ManualClock, seconds: float = 1.0) -> None:
        self.left, self.clock, self.seconds = questions, clock, seconds

    def __call__(self) -> bool:
        self.left -= 1
        self.clock.advance(self.seconds)
        return self.left < 0


def go(folder: Path, questions: int = 10_000, parent: int | None = None, seconds: float = 1.0) -> bool:
    clock = ManualClock()
    stop = StopAfter(questions, clock, seconds)
    return follow(source(), folder, NAMES, 0, clock, stop, os.getppid() if parent is None else parent)


def figures(folder: Path) -> dict[str, Any]:
    found = told(folder, NAMES)
    assert found is not None
    return {name: value for name, value in found.items() if name != "wall_clock"}


@pytest.fixture
def alone(tmp_path: Path) -> dict[str, Any]:
    folder = tmp_path / "alone"
    folder.mkdir()
    assert go(folder)
    return figures(folder)


def test_a_label_is_learned_when_it_comes_and_scores_what_was_answered() -> None:
    run = PeerRun(("river-logistic",), 0, ManualClock())
    for i, y in enumerate([0, 1, 0, 1]):
        run.step(Record(Position("e", 0, i), Event(id=str(i), time=float(i), features={"a": float(y)})))
    assert run.results()["peers"]["river-logistic"]["events"] == 0
    for i, y in enumerate([0, 1, 0, 1]):
        run.step(Record(Position("l", 0, i), Label(id=str(i), time=9.0, label=y)))
    found = run.results()["peers"]["river-logistic"]
    assert (found["events"], found["empty_forecasts"]) == (4, 4)


def test_stopped_and_started_again_they_end_the_same(tmp_path: Path, alone: dict[str, Any]) -> None:
    for questions in (0, 1, 3, 2):
        assert not go(tmp_path, questions)
        assert not figures(tmp_path)["finished"]
    assert go(tmp_path)
    assert figures(tmp_path) == alone


def test_they_go_on_from_the_last_save_after_a_kill(tmp_path: Path, alone: dict[str, Any]) -> None:
    clock = ManualClock()

    def dies() -> bool:
        clock.advance(SAVE_SECONDS)
        if (tmp_path / STATE).exists() and clock.time() > 4 * SAVE_SECONDS:
            raise KeyboardInterrupt
        return False

    with pytest.raises(KeyboardInterrupt):
        follow(source(), tmp_path, NAMES, 0, clock, dies, os.getppid())
    assert go(tmp_path)
    assert figures(tmp_path) == alone


@pytest.mark.parametrize("damage", [b"", b"short", bytes(200)])
def test_a_state_that_cannot_be_read_begins_anew(
    tmp_path: Path, alone: dict[str, Any], damage: bytes
) -> None:
    assert not go(tmp_path, 2)
    (tmp_path / STATE).write_bytes(damage)
    assert go(tmp_path)
    assert figures(tmp_path) == alone


def test_they_stop_when_the_parent_is_gone(tmp_path: Path) -> None:
    assert not go(tmp_path, parent=-1)
    assert (tmp_path / STATE).exists()


def test_a_finished_run_leaves_its_figures_alone(tmp_path: Path) -> None:
    assert go(tmp_path)
    assert not (tmp_path / STATE).exists()
    assert figures(tmp_path)["finished"]


def test_results_of_other_peers_do_not_count(tmp_path: Path) -> None:
    assert go(tmp_path)
    assert told(tmp_path, ("river-logistic",)) is None
    (tmp_path / RESULTS).write_text("{half")
    assert told(tmp_path, NAMES) is None
