"""Labels meet their forecasts by id, and what never meets is counted, reported and given up."""

from __future__ import annotations

import json
from typing import Any

import pytest

from streams.event import Event, Label, Position
from streams.join import PendingForecasts
from streams.join_limits import JoinLimits
from streams.watermark import MEMORY


def label(id: str, value: Any = 1, time: float = 0.0) -> Label:
    return Label(id=id, time=time, label=value)


def event(id: str, x: float = 1.0) -> Event:
    return Event(id=id, time=0.0, features={"x": x})


def made(**limits: Any) -> PendingForecasts[str]:
    pending = PendingForecasts[str](JoinLimits(**limits), report=True)
    pending.advance(0.0)
    return pending


def reported(pending: PendingForecasts[str]) -> list[tuple[str, str, Any]]:
    assert pending.reports is not None
    return [(report.kind, report.placed.label.id, report.earlier) for report in pending.reports]


def pass_time(pending: PendingForecasts[str], until: float) -> None:
    for _ in range(MEMORY):
        pending.advance(until)


def test_a_label_brings_its_forecast_back_once() -> None:
    pending = made()
    pending.put("a", "forecast")
    assert pending.match(label("a")) == "forecast"
    assert len(pending) == 0
    assert pending.match(label("a")) is None
    assert (pending.counts.matched, pending.counts.duplicate_labels) == (1, 1)
    assert reported(pending) == [("duplicate", "a", 1)]


def test_a_forecast_that_was_only_looked_at_goes_on_waiting() -> None:
    pending = made()
    pending.put("a", "forecast")
    assert pending.waiting_for(label("a")) == "forecast"
    assert pending.waiting_for(label("b")) is None
    assert (len(pending), pending.held, pending.counts.matched) == (1, 0, 0)


def test_a_label_before_its_event_is_held_back_until_the_event_comes() -> None:
    pending = made()
    assert pending.match(label("a"), Position("labels", 0, 7)) is None
    assert pending.held == 1
    placed = pending.put("a", "forecast")
    assert placed == (label("a"), Position("labels", 0, 7))
    assert (len(pending), pending.held, pending.counts.matched) == (0, 0, 1)


def test_a_label_that_never_finds_an_event_becomes_an_orphan() -> None:
    pending = made(max_age=10.0)
    pending.match(label("a", 1, time=0.0), Position("labels", 0, 7))
    pass_time(pending, 10.0)
    assert pending.counts.orphans == 0
    pass_time(pending, 10.5)
    assert (pending.counts.orphans, pending.held) == (1, 0)
    assert pending.reports is not None
    assert pending.reports[0].key == "labels:0:7:orphan"
    assert pending.reports[0].message() == {
        "kind": "orphan", "id": "a", "time": 0.0, "label": 1, "topic": "labels", "partition": 0, "offset": 7,
    }  # fmt: skip


def test_labels_that_come_before_their_events_are_bounded_and_none_vanishes_untold() -> None:
    pending = made(max_held=3)
    for i in range(5):
        pending.match(label(f"e{i}"))
    assert (pending.held, pending.counts.orphans) == (3, 2)
    assert reported(pending) == [("orphan", "e0", None), ("orphan", "e1", None)]


def test_a_label_whose_forecast_was_given_up_is_late_and_no_orphan() -> None:
    pending = made(max_age=10.0)
    pending.put("a", "old")
    pass_time(pending, 9.0)
    pending.put("b", "new")
    pass_time(pending, 11.0)
    assert (pending.ids(), pending.counts.expired) == (["b"], 1)
    assert pending.match(label("a")) is None
    assert (pending.counts.late, pending.held) == (1, 0)
    assert reported(pending) == [("late", "a", None)]


def test_the_oldest_forecast_gives_way_when_too_many_wait() -> None:
    pending = made(max_waiting=2)
    for i in range(4):
        pending.put(f"e{i}", str(i))
    assert pending.payloads() == ["2", "3"]
    assert (pending.counts.expired, pending.counts.crowded) == (2, 2)


def test_the_oldest_forecasts_give_way_to_the_limit_of_memory() -> None:
    pending = made(max_bytes=100)
    for i in range(10):
        pending.put(f"e{i}", str(i), size=30)
        assert pending.used_bytes <= 100
    assert pending.ids() == ["e7", "e8", "e9"]
    pending.put("large", "forecast", size=101)
    assert (pending.ids(), pending.used_bytes, pending.counts.crowded) == ([], 0, 11)


def test_an_event_is_answered_once_whether_or_not_its_label_came() -> None:
    pending = made()
    pending.put("a", "first")
    assert pending.repeats("a")
    assert pending.put("a", "second") is None
    assert pending.match(label("a")) == "first"
    assert pending.put("a", "third") is None
    pending.settle(label("own"), event("own"))
    assert pending.repeats("own")
    assert not pending.repeats("b")
    assert (len(pending), pending.counts.duplicate_events) == (0, 4)


def test_one_record_from_the_far_future_gives_up_nothing() -> None:
    pending = made(max_age=10.0)
    for i in range(5):
        pending.put(f"e{i}", str(i))
    pending.match(label("held"))
    pending.advance(4e9)
    pending.put("future", "x")
    assert (len(pending), pending.held, pending.now) == (6, 1, 0.0)
    pass_time(pending, 11.0)
    assert (len(pending), pending.held) == (
        0,
        0,
    )  # and what came with that record waits no longer than the others


def test_after_a_clock_that_was_wrong_for_long_waits_end_again() -> None:
    pending = made(max_age=10.0)
    pass_time(pending, 4e9)
    pending.put("a", "x")
    pending.match(label("b"))
    pass_time(pending, 5.0)
    assert (len(pending), pending.held) == (1, 1)
    pass_time(pending, 16.0)
    assert (len(pending), pending.held, pending.repeats("a")) == (0, 0, False)


@pytest.mark.parametrize("corrections", ["ignore", "learn"])
def test_another_label_for_what_was_learned_is_a_correction(corrections: str) -> None:
    pending = made(corrections=corrections)
    pending.put("a", "forecast", event=event("a", 5.0))
    pending.match(label("a", 0))
    assert pending.corrects(label("a", 0)) is None
    found = pending.corrects(label("a", 1))
    assert found == (event("a", 5.0) if corrections == "learn" else None)
    assert pending.match(label("a", 1)) is None
    if found is not None:
        pending.settle(label("a", 1), found)
    pending.match(label("a", 1))  # the same again: a duplicate of what was learned, else one more correction
    last = ("duplicate", "a", 1) if corrections == "learn" else ("corrected", "a", 0)
    assert reported(pending) == [("corrected", "a", 0), last]
    assert pending.counts.corrected + pending.counts.duplicate_labels == 2


def test_events_for_corrections_are_bounded_and_give_way_before_forecasts() -> None:
    pending = made(corrections="learn", correct_within=2, max_bytes=400)
    for i in range(3):
        pending.put(f"e{i}", "x", event=event(f"e{i}"))
        pending.match(label(f"e{i}", 0))
    assert [pending.corrects(label(f"e{i}", 1)) is not None for i in range(3)] == [False, True, True]
    pending.put("large", "x", size=390)
    assert [pending.corrects(label(f"e{i}", 1)) for i in range(3)] == [None, None, None]
    assert pending.ids() == ["large"]


@pytest.mark.parametrize(("corrections", "learned"), [("ignore", 0), ("learn", 1)])
def test_a_correction_of_a_label_that_was_not_learned_yet_takes_its_place(
    corrections: str, learned: int
) -> None:
    pending = made(corrections=corrections)
    for value in (0, 1):
        pending.match(label("held", value))
    early = pending.early("held")
    assert early is not None
    assert early.label.label == learned
    pending.put("a", "forecast")
    pending.queue(label("a", 0))
    pending.match(label("a", 1))
    turn = pending.turn()
    assert turn is not None
    assert (turn[0].label.label, turn[1]) == (learned, "forecast")


def test_a_label_that_waits_for_its_turn_keeps_its_forecast() -> None:
    pending = made(max_age=10.0, max_waiting=1)
    pending.put("a", "of a")
    pending.queue(label("a"), Position("labels", 0, 3))
    pending.put("b", "of b")
    pending.put("c", "of c")
    pass_time(pending, 11.0)
    assert (pending.ids(), pending.counts.expired, pending.queued) == (["a"], 2, 1)
    assert pending.repeats("a")
    assert pending.turn() == ((label("a"), Position("labels", 0, 3)), "of a", False)
    pending.take_turn()
    assert (pending.turn(), pending.counts.matched) == (None, 1)


def test_labels_that_wait_for_their_turn_are_bounded_and_the_oldest_is_dropped_with_a_report() -> None:
    pending = made(max_queued=2, max_bytes=100)
    for i in range(4):
        pending.put(f"e{i}", str(i), size=10)
        pending.queue(label(f"e{i}"))
    assert (pending.ids(), pending.counts.dropped) == (["e2", "e3"], 2)
    pending.put("large", "x", size=81)  # forecasts without a label give way before those with one
    assert (pending.ids(), pending.counts.expired) == (["e2", "e3"], 1)
    pending.queue(label("large"), None, "x", 95)
    assert (pending.ids(), pending.counts.dropped, pending.used_bytes) == (["large"], 4, 95)
    pending.match(label("e0"))
    told = [("dropped", f"e{i}", None) for i in range(4)]
    assert reported(pending) == [*told, ("late", "e0", None)]


def test_a_refused_label_is_told_and_its_forecast_waits_for_another() -> None:
    pending = made()
    pending.put("a", "forecast", size=10)
    pending.refuse(label("a", "odd"), Position("labels", 0, 1), "y is 'odd'")
    assert pending.reports is not None
    assert pending.reports[0].message()["reason"] == "y is 'odd'"
    pending.queue(label("a", "odd"))
    pending.refuse_turn("y is 'odd'")
    assert (pending.queued, pending.used_bytes, pending.counts.refused) == (0, 10, 2)
    assert pending.match(label("a", 1)) == "forecast"


def test_a_refused_correction_leaves_nothing_waiting() -> None:
    pending = made(corrections="learn")
    pending.settle(label("a", 0), event("a"))
    pending.match(label("a", "odd"))
    pending.queue(label("a", "odd"), None, "forecast anew", 10)
    assert pending.turn() == ((label("a", "odd"), None), "forecast anew", True)
    pending.refuse_turn("y is 'odd'")
    assert (len(pending), pending.queued, pending.counts.refused) == (0, 0, 1)
    assert pending.corrects(label("a", 1)) == event("a")
    with pytest.raises(LookupError, match="no forecast waits for id 'a'"):
        pending.queue(label("a", 1))


def test_nothing_is_collected_where_nobody_asks_for_reports() -> None:
    pending = PendingForecasts[str]()
    pending.refuse(label("a"))
    assert (pending.reports, pending.counts.refused) == (None, 1)


def test_a_snapshot_holds_odd_ids_and_labels_and_only_small_things_as_json() -> None:
    pending = made(corrections="learn")
    for id in ("é", "\ud800", ""):  # the second is no text that UTF-8 could hold
        pending.put(id, id, size=3)
    pending.match(label("big", 2**80))
    pending.match(label("nan", float("nan")))
    pending.settle(label("own", -(2**90)), event("own"))
    arrays, meta = pending.snapshot()
    assert set(meta) == {"counts"}
    again = made(corrections="learn")
    again.restore(arrays, json.loads(json.dumps(meta)), pending.payloads())
    assert again.ids() == ["é", "\ud800", ""]
    early = again.early("big")
    assert early is not None
    assert early.label.label == 2**80
    again.match(label("own", -(2**90)))
    again.match(label("nan", float("nan")))
    assert again.counts.duplicate_labels == 2


def test_payloads_that_do_not_fit_the_snapshot_are_refused() -> None:
    pending = made()
    pending.put("a", "x")
    with pytest.raises(ValueError, match="payloads has 0 entries for 1 ids"):
        made().restore(*pending.snapshot(), [])


@pytest.mark.parametrize(
    "limits",
    [{"max_age": 0.0}, {"max_waiting": 0}, {"max_bytes": 0}, {"max_held": 0}, {"corrections": "maybe"}],
)
def test_limits_that_keep_nothing_are_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(limits))):
        JoinLimits(**limits)
