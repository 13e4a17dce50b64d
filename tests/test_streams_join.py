"""Labels meet their forecasts by id, and what never meets is counted and given up."""

from __future__ import annotations

import json
from random import Random

import pytest

from streams.event import Label
from streams.join import PendingForecasts


def label(id: str, time: float, value: int = 1) -> Label:
    return Label(id=id, time=time, label=value)


def test_a_label_brings_its_forecast_back_once() -> None:
    pending = PendingForecasts[str]()
    pending.put("a", "forecast", time=0.0)
    assert pending.match(label("a", 5.0)) == "forecast"
    assert len(pending) == 0
    assert pending.match(label("a", 6.0)) is None
    assert (pending.counts.matched, pending.counts.duplicate_labels) == (1, 1)


def test_a_forecast_that_was_only_looked_at_goes_on_waiting() -> None:
    pending = PendingForecasts[str](max_age=10.0)
    pending.put("a", "forecast", time=0.0)
    assert pending.waiting_for(label("a", 5.0)) == "forecast"
    assert pending.waiting_for(label("b", 5.0)) is None
    assert (len(pending), pending.held, pending.counts.matched) == (1, 0, 0)
    assert pending.waiting_for(label("a", 11.0)) is None
    assert pending.counts.expired == 1


def test_a_label_before_its_event_is_held_back_until_the_event_comes() -> None:
    pending = PendingForecasts[str]()
    early = label("a", 1.0)
    assert pending.match(early) is None
    assert pending.held == 1
    assert pending.put("a", "forecast", time=2.0) == early
    assert (len(pending), pending.held, pending.counts.matched) == (0, 0, 1)


def test_a_label_that_never_finds_an_event_becomes_an_orphan() -> None:
    pending = PendingForecasts[str](max_age=10.0)
    pending.match(label("a", 0.0))
    pending.advance(10.0)
    assert pending.counts.orphans == 0
    pending.advance(10.5)
    assert (pending.counts.orphans, pending.held) == (1, 0)


def test_a_forecast_without_a_label_expires_by_event_time() -> None:
    pending = PendingForecasts[str](max_age=10.0)
    pending.put("a", "old", time=0.0)
    pending.put("b", "new", time=9.0)
    pending.advance(11.0)
    assert pending.ids() == ["b"]
    assert pending.counts.expired == 1
    assert pending.match(label("a", 11.0)) is None


def test_the_oldest_forecast_gives_way_when_too_many_wait() -> None:
    pending = PendingForecasts[int](max_count=2)
    for i in range(4):
        pending.put(f"e{i}", i, time=0.0)
    assert (pending.payloads(), pending.counts.expired) == ([2, 3], 2)


def test_held_labels_are_bounded_too() -> None:
    pending = PendingForecasts[int](max_held=3)
    for i in range(5):
        pending.match(label(f"e{i}", 0.0))
    assert (pending.held, pending.counts.orphans) == (3, 2)


def test_a_second_event_of_an_id_is_counted_and_changes_nothing() -> None:
    pending = PendingForecasts[str]()
    pending.put("a", "first", time=0.0)
    assert pending.put("a", "second", time=1.0) is None
    assert pending.match(label("a", 2.0)) == "first"
    assert pending.put("a", "third", time=3.0) is None
    assert (len(pending), pending.counts.duplicate_events) == (0, 2)


def test_a_restored_buffer_goes_on_as_the_one_it_was_taken_from() -> None:
    random = Random(3)
    calls = [(random.random() < 0.5, f"e{random.randrange(40)}", float(i)) for i in range(400)]

    def step(pending: PendingForecasts[str], call: tuple[bool, str, float]) -> object:
        is_event, id, time = call
        return pending.put(id, f"{id}@{time}", time) if is_event else pending.match(label(id, time))

    def made() -> PendingForecasts[str]:
        return PendingForecasts(max_age=60.0, max_count=9, max_held=7)

    whole, first, second = made(), made(), made()
    expected = [step(whole, call) for call in calls]
    found = [step(first, call) for call in calls[:200]]
    second.restore(json.loads(json.dumps(first.snapshot())), first.payloads())
    found += [step(second, call) for call in calls[200:]]
    assert found == expected
    assert second.snapshot() == whole.snapshot()
    assert all(whole.snapshot()["counts"].values())


def test_payloads_that_do_not_fit_the_snapshot_are_refused() -> None:
    pending = PendingForecasts[str]()
    pending.put("a", "x", time=0.0)
    with pytest.raises(ValueError, match="payloads has 0 entries for 1 ids"):
        PendingForecasts[str]().restore(pending.snapshot(), [])


@pytest.mark.parametrize("option", [{"max_age": 0.0}, {"max_count": 0}, {"max_held": 0}])
def test_limits_that_keep_nothing_are_refused(option: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(option))):
        PendingForecasts[str](**option)  # type: ignore[arg-type]  # the numbers fit their fields
