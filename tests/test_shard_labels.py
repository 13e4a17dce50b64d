"""What a shard does with labels that are corrected, that wait for their turn, or whose clock is wrong."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import numpy as np
import pytest
from plain_learner import PlainForecast, PlainLearner

from engine.evaluate.metrics import PrequentialMetrics
from engine.shard import Shard
from streams.event import Event, Label, Position, Record
from streams.join import PendingForecasts
from streams.join_limits import JoinLimits
from streams.pacing import LabelPacer


class ListeningLearner(PlainLearner):
    """Tells what it was asked to learn and to forget."""

    heard: list[tuple[Any, ...]]

    def learn(self, f: PlainForecast, y: Any, w: float = 1.0) -> None:
        super().learn(f, y, w)
        self.heard = [*getattr(self, "heard", []), (f.id, y, f.time)]

    def forget(self, id: Any) -> int:
        self.heard = [*getattr(self, "heard", []), ("forget", id)]
        return 1


def made(at_most: int | None = None, **limits: Any) -> Shard:
    pacer = None if at_most is None else LabelPacer(at_most, 10.0)
    pending = PendingForecasts[Any](JoinLimits(**limits), report=True)
    return Shard(ListeningLearner(), PrequentialMetrics(), pending, pacer=pacer)


def step(shard: Shard, *items: Event | Label) -> list[Any]:
    return [shard.step(Record(Position("t", 0, i), item)) for i, item in enumerate(items)]


def event(id: str, time: float, label: Any = None) -> Event:
    return Event(id=id, time=time, features={"x": time % 7.0}, label=label)


def label(id: str, time: float, value: Any) -> Label:
    return Label(id=id, time=time, label=value)


def heard(shard: Shard) -> list[tuple[Any, ...]]:
    return getattr(shard.model, "heard", [])


def test_a_corrected_label_is_learned_from_the_event_anew_and_scored_once() -> None:
    shard = made(corrections="learn")
    step(shard, event("a", 1.0), label("a", 2.0, 0), label("a", 3.0, 1), label("a", 4.0, 1))
    assert heard(shard) == [("a", 0, 1.0), ("forget", "a"), ("a", 1, 1.0)]
    counts = shard.pending.counts
    assert (counts.corrected, counts.duplicate_labels, shard.counts.learned) == (1, 1, 2)
    assert shard.metrics.result()["events"] == 1


def test_a_corrected_label_is_only_counted_where_corrections_are_ignored() -> None:
    shard = made()
    step(shard, event("a", 1.0, 0), label("a", 3.0, 1))
    assert heard(shard) == [("a", 0, 1.0)]
    assert shard.pending.counts.corrected == 1


def test_a_correction_that_is_refused_goes_to_the_dead_letters_and_the_next_one_is_learned() -> None:
    shard = made(corrections="learn")
    step(shard, event("a", 1.0, 0), label("a", 3.0, "odd"), label("a", 4.0, 1))
    assert [refusal.item for refusal in shard.refused] == [label("a", 3.0, "odd")]
    assert [entry for entry in heard(shard) if entry[0] == "a"] == [("a", 0, 1.0), ("a", 1, 1.0)]


def test_an_event_that_the_learner_no_longer_takes_is_refused_as_a_correction_too() -> None:
    shard = made(corrections="learn")
    step(shard, event("a", 1.0, 0))
    shard.model.forecast_one = lambda *_, **__: float("no number")  # type: ignore[method-assign, assignment]
    step(shard, label("a", 3.0, 1))
    assert (len(shard.refused), shard.pending.counts.refused, shard.counts.learned) == (1, 1, 1)


def test_labels_beyond_the_pace_wait_for_later_intervals_in_their_order() -> None:
    shard = made(at_most=2)
    step(shard, *[event(str(i), 0.5, i % 2) for i in range(5)])
    assert ([id for id, _, _ in heard(shard)], shard.pending.queued) == (["0", "1"], 3)
    step(shard, event("later", 10.0))
    assert ([id for id, _, _ in heard(shard)], shard.pending.queued) == (["0", "1", "2", "3"], 1)
    step(shard, label("later", 11.0, 1))
    assert shard.pending.ids() == ["4", "later"]
    step(shard, event("end", 20.0))
    assert ([id for id, _, _ in heard(shard)], shard.pending.queued) == (
        ["0", "1", "2", "3", "4", "later"],
        0,
    )
    assert shard.metrics.result()["events"] == 6


def test_a_paced_correction_waits_for_its_turn_and_is_not_scored() -> None:
    shard = made(at_most=1, corrections="learn")
    step(shard, event("a", 1.0, 0), label("a", 2.0, 1))
    assert (heard(shard), shard.pending.queued) == ([("a", 0, 1.0), ("forget", "a")], 1)
    step(shard, event("b", 10.0))
    assert heard(shard)[-1] == ("a", 1, 1.0)
    assert shard.metrics.result()["events"] == 1


def test_a_label_that_is_refused_at_its_turn_leaves_its_forecast_waiting() -> None:
    shard = made(at_most=1)
    step(shard, event("a", 1.0, 0), event("b", 1.0), label("b", 2.0, "odd"), event("c", 10.0))
    assert [(refusal.position.offset, refusal.item) for refusal in shard.refused] == [
        (2, label("b", 2.0, "odd"))
    ]
    step(shard, label("b", 11.0, 1))
    assert heard(shard)[-1] == ("b", 1, 1.0)


def test_what_waits_for_its_turn_waits_on_while_learning_is_frozen_and_is_learned_once_thawed() -> None:
    shard = made(at_most=1)
    step(shard, *[event(str(i), 0.5, i % 2) for i in range(3)])
    shard.frozen = True
    step(shard, event("b", 30.0), label("b", 31.0, 1), label("1", 40.0, 1))
    assert (shard.pending.queued, shard.counts.learned, shard.counts.unlearned) == (2, 1, 1)
    assert shard.metrics.result()["events"] == 2
    shard.frozen = False
    step(shard, event("c", 41.0), event("d", 50.0))
    assert [id for id, _, _ in heard(shard)] == ["0", "1", "2"]
    assert (shard.pending.queued, shard.counts.unlearned, shard.metrics.result()["events"]) == (0, 1, 4)


@pytest.mark.parametrize("wrong", [1e12, -1e12])
def test_a_burst_of_wrong_times_gives_up_no_forecast_that_waits(wrong: float) -> None:
    """Also where it is the majority of the last 64 records."""
    shard = made()
    step(shard, *[event(str(i), 1e9 + i) for i in range(600)])
    step(shard, *[event(f"wrong {i}", wrong + i) for i in range(200)])
    step(shard, *[event(f"late {i}", 1e9 + 600 + i) for i in range(100)])
    assert (len(shard.pending), shard.pending.counts.expired) == (900, 0)
    assert shard.pending.now == 1e9 + 699
    assert step(shard, event("0", 1e9 + 700)) == [None]
    step(shard, label("0", 1e9 + 701, 1))
    assert heard(shard) == [("0", 1, 1e9)]


def messy(n: int, random: Random) -> list[Event | Label]:
    """Labels inside events, before them, late, twice, corrected, odd or never; clocks that jump."""
    items: list[Event | Label] = []
    for i in range(n):
        time = i + random.choice([0.0] * 20 + [1e9, -1e9, 30.0])
        value = random.choice([0, 1, 0, 1, 0, 1, "odd"])
        items.append(
            event(str(max(i - random.choice([0, 0, 0, 5]), 0)), time, random.choice([None, None, value]))
        )
        for lag in random.sample([-2, 3, 9, 30, 80, 300], 2):
            items.append(label(str(i - lag), time, value))
    return items


@pytest.mark.parametrize("corrections", ["ignore", "learn"])
@pytest.mark.parametrize("at_most", [None, 2])
def test_a_shard_that_is_killed_at_any_record_ends_the_same(at_most: int | None, corrections: str) -> None:
    limits: dict[str, Any] = {
        "max_age": 60.0,
        "max_waiting": 20,
        "max_held": 9,
        "max_queued": 7,
        "window": 30,
    }
    limits |= {"corrections": corrections, "correct_within": 10, "remembered": 25, "max_bytes": 5_000}
    items = messy(300, Random(5))
    whole = made(at_most, **limits)
    expected = [whole.step(Record(Position("t", 0, i), item)) for i, item in enumerate(items)]
    shard, found = made(at_most, **limits), []
    for i, item in enumerate(items):
        found.append(shard.step(Record(Position("t", 0, i), item)))
        if i % 7 == 0:
            arrays, meta = shard.state()
            shard = made(at_most, **limits)
            shard.restore(arrays, json.loads(json.dumps(meta)))
    assert found == expected
    (arrays, meta), (same, same_meta) = whole.state(), shard.state()
    assert json.dumps(meta) == json.dumps(same_meta)
    assert arrays.keys() == same.keys()
    assert all(np.array_equal(arrays[name], same[name]) for name in arrays)
    counts = whole.pending.counts
    assert (
        min(counts.matched, counts.orphans, counts.expired, counts.late, counts.corrected, counts.refused) > 0
    )
    assert min(counts.duplicate_labels, counts.duplicate_events) > 0
    assert (counts.dropped > 0) == (at_most is not None)
