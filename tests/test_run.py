"""The loop: what is answered, learned, scored, refused, and what a snapshot brings back."""

from __future__ import annotations

import base64
import os
import random
import signal
from pathlib import Path
from typing import Any

import pytest
from plain_learner import PlainLearner

from engine.checkpoint import CheckpointError, CheckpointStore, StaleWriter
from engine.evaluate.metrics import PrequentialMetrics
from engine.run import Loop
from engine.shard import Shard
from engine.stop_signals import StopSignals
from engine.witness import Witness
from streams.clock import ManualClock
from streams.event import Event, Label, Malformed, Position, Record, TopicPartition
from streams.join import PendingForecasts
from streams.join_limits import JoinLimits
from streams.merge import MergedSource
from streams.replay import ListSink, ListSource


def make_shard(witness: bool = False) -> Shard:
    return Shard(PlainLearner(), PrequentialMetrics(), witness=Witness(of=1, after=50) if witness else None)


def make_items(n: int = 300, seed: int = 7) -> tuple[list[Event], list[Label]]:
    """Events, and their labels which come in the order in which they become known."""
    chance = random.Random(seed)
    events, labels = [], []
    for i in range(n):
        x = {"a": chance.gauss(0, 1), "b": chance.gauss(0, 1), "c": None}
        y = int(x["a"] - 0.5 * x["b"] + chance.gauss(0, 0.5) > 0)
        events.append(Event(id=f"e{i}", time=float(i), features=x))
        labels.append(Label(id=f"e{i}", time=i + chance.uniform(1, 40), label=y))
    return events, sorted(labels, key=lambda label: label.time)


def make_source(n: int = 300, of: int | None = None) -> MergedSource:
    """The first n events and labels of a log that has, or will have, `of` of them."""
    events, labels = (items[:n] for items in make_items(of or n))
    return MergedSource(
        ListSource({TopicPartition("e", 0): events, TopicPartition("l", 0): labels}), ahead=50
    )


def run_all(n: int = 300, **options: Any) -> tuple[Loop, ListSink]:
    sink = ListSink()
    loop = Loop(make_shard(witness=True), make_source(n), sink, **options)
    assert loop.run()
    return loop, sink


def step(shard: Shard, *items: Event | Label | Malformed) -> list[Any]:
    return [shard.step(Record(Position("t", 0, i), item)) for i, item in enumerate(items)]


def test_an_event_is_answered_with_all_that_a_reader_needs() -> None:
    shard = make_shard()
    step(
        shard,
        Event(id="0", time=0.0, features={"a": 1.0}, label=0),
        Event(id="1", time=0.5, features={}, label=1),
    )
    decision = shard.step(Record(Position("e", 2, 40), Event(id="x", time=1.0, features={"a": 1.0})))
    assert decision is not None
    message = decision.message()
    assert set(message) == {
        *("id", "time", "forecast", "probabilities", "topic", "partition", "offset", "version"),
    }
    assert (message["topic"], message["partition"], message["offset"], message["version"]) == ("e", 2, 40, 2)
    assert set(message["probabilities"]) == {"0", "1"}
    assert message["forecast"] == 0


def test_late_labels_are_learned_as_the_same_calls_by_hand_would_learn_them() -> None:
    loop, _ = run_all()
    model, kept = PlainLearner(), {}
    events, labels = make_items()
    for item in sorted([*events, *labels], key=lambda item: (item.time, isinstance(item, Label))):
        if isinstance(item, Event):
            kept[item.id] = model.forecast_one(item.features, id=item.id, time=item.time)
            model.observe(kept[item.id])
        else:
            model.learn(kept.pop(item.id), item.label)
    assert loop.shard.model.state()[0]["weights"].tobytes() == model.state()[0]["weights"].tobytes()
    assert loop.shard.model.state()[1] == model.state()[1]


def test_what_is_scored_is_what_was_answered() -> None:
    loop, sink = run_all()
    outcome = {label.id: label.label for label in make_items()[1]}
    said = {message["id"]: message["forecast"] for _, message in sink.messages}
    right = sum(said[id] == label for id, label in outcome.items())
    assert loop.shard.metrics.result()["accuracy"] == pytest.approx(right / 300)


def test_a_label_within_the_event_is_learned_right_after_the_forecast() -> None:
    shard = make_shard()
    step(shard, *[Event(id=str(i), time=float(i), features={"a": 1.0}, label=i % 2) for i in range(6)])
    assert shard.counts.learned == 6
    assert len(shard.pending) == 0


def test_a_label_that_comes_before_its_event_is_learned_with_it() -> None:
    shard = make_shard()
    step(shard, Label(id="x", time=1.0, label=1), Event(id="x", time=0.0, features={"a": 1.0}))
    assert shard.counts.learned == 1


def test_an_event_that_comes_twice_is_answered_once() -> None:
    shard = make_shard()
    twice = Event(id="x", time=1.0, features={"a": 1.0})
    first, second = step(shard, twice, twice)
    assert first is not None
    assert second is None
    assert shard.model.observed == 1


def test_an_event_with_its_label_that_comes_twice_is_answered_and_learned_once() -> None:
    shard = make_shard()
    twice = Event(id="x", time=1.0, features={"a": 1.0}, label=1)
    first, second = step(shard, twice, twice)
    assert first is not None
    assert second is None
    assert (shard.model.observed, shard.counts.learned, shard.counts.refused) == (1, 1, 0)
    assert (shard.pending.counts.duplicate_events, shard.pending.counts.duplicate_labels) == (1, 1)


def test_an_event_sent_again_with_its_label_brings_the_label_alone() -> None:
    shard = make_shard()
    answers = step(
        shard,
        Event(id="x", time=1.0, features={"a": 1.0}),
        Event(id="x", time=9.0, features={"a": 1.0}, label=1),
        Label(id="x", time=9.0, label=1),
    )
    assert [answer is not None for answer in answers] == [True, False, False]
    assert (shard.model.observed, shard.counts.learned, len(shard.pending)) == (1, 1, 0)
    assert shard.metrics.result()["last_time"] == 9.0


def test_what_came_before_is_known_after_a_restore() -> None:
    shard, after = make_shard(), make_shard()
    twice = Event(id="x", time=1.0, features={"a": 1.0}, label=1)
    step(shard, twice)
    after.restore(*shard.state())
    assert step(after, twice) == [None]
    assert after.counts.learned == 1


def test_a_label_that_came_first_and_is_refused_leaves_the_forecast_to_the_corrected_one() -> None:
    shard = make_shard()
    answers = step(
        shard,
        Event(id="x", time=0.0, features={"a": 1.0}, label=0),
        Label(id="y", time=1.0, label="1"),
        Event(id="y", time=0.0, features={"a": 1.0}),
        Label(id="y", time=2.0, label=1),
    )
    assert answers[2] is not None
    assert (shard.counts.learned, shard.counts.refused) == (2, 1)


def test_a_label_of_another_type_is_a_counted_dead_letter() -> None:
    shard = make_shard()
    step(
        shard,
        Event(id="x", time=0.0, features={"a": 1.0}),
        Event(id="y", time=0.0, features={"a": 1.0}),
        Label(id="x", time=1.0, label=1),
        Label(id="y", time=1.0, label="one"),
    )
    assert (shard.counts.learned, shard.counts.refused) == (1, 1)
    assert "expected int" in shard.refused[0].reason


def test_a_label_that_is_refused_leaves_the_forecast_to_the_corrected_one() -> None:
    shard = make_shard()
    step(
        shard,
        Event(id="x", time=0.0, features={"a": 1.0}, label=0),
        Event(id="y", time=0.0, features={"a": 1.0}),
        Label(id="y", time=1.0, label="1"),
    )
    assert (shard.counts.learned, shard.counts.refused, len(shard.pending)) == (1, 1, 1)
    step(shard, Label(id="y", time=2.0, label=1), Label(id="y", time=3.0, label=1))
    assert (shard.counts.learned, shard.counts.refused, len(shard.pending)) == (2, 1, 0)
    assert shard.pending.counts.duplicate_labels == 1


def test_an_event_with_a_label_that_is_refused_is_answered_all_the_same() -> None:
    shard = make_shard()
    answers = step(shard, *[Event(id=str(i), time=0.0, features={"a": 1.0}, label=i) for i in range(4)])
    assert None not in answers
    assert (shard.counts.learned, shard.counts.refused) == (2, 2)


def test_features_that_the_learner_refuses_are_a_counted_dead_letter() -> None:
    shard = make_shard()
    answers = step(
        shard, Event(id="x", time=0.0, features={"a": "text"}), Event(id="y", time=0.0, features={})
    )
    assert answers[0] is None
    assert answers[1] is not None
    assert shard.counts.refused == 1


def test_bytes_that_cannot_be_read_go_to_the_dead_letters_with_their_reason() -> None:
    dead = ListSink()
    source = ListSource([Malformed(raw=b"\xff{", error="not JSON"), Event(id="x", time=0.0, features={})])
    loop = Loop(make_shard(), source, ListSink(), dead=dead)
    assert loop.run()
    assert loop.shard.counts.malformed == 1
    [(key, message)] = dead.messages
    assert key == "events:0:0"
    assert message["reason"] == "not JSON"
    assert base64.b64decode(message["record_base64"]) == b"\xff{"
    assert dict(dead.headers[0]) == {
        "everlearn.error": b"not JSON",
        "everlearn.topic": b"events",
        "everlearn.partition": b"0",
        "everlearn.offset": b"0",
    }


def test_reasons_of_refusals_are_counted_by_kind_with_the_first_of_each() -> None:
    shard, after = make_shard(), make_shard()
    events = [Event(id=str(i), time=0.0, features={"a": 1.0}, label="one" if i else 1) for i in range(4)]
    step(shard, *events, Malformed(raw=b"{", error="not JSON"))
    after.restore(*shard.state())
    step(after, Malformed(raw=b"{", error="not JSON"))
    assert after.refusals.lines() == [
        "3 refused, the first at t 0:1: y is 'one'; expected int",
        "2 refused, the first at t 0:4: not JSON",
    ]


def test_kinds_of_reasons_are_bounded_and_none_is_lost() -> None:
    shard = make_shard()
    step(shard, *[Malformed(raw=b"{", error=f"no {chr(97 + i)}") for i in range(20)])
    lines = shard.refusals.lines()
    assert len(lines) == 17
    assert lines[0] == "4 refused for other reasons, the first at t 0:16: no q"


def test_labels_without_a_json_key_are_written_as_json_writes_them() -> None:
    shard = make_shard()
    events = [Event(id=str(i), time=0.0, features={"a": 1.0}, label=bool(i % 2)) for i in range(2)]
    step(shard, *events)
    [decision] = step(shard, Event(id="z", time=0.0, features={"a": 1.0}))
    assert set(decision.message()["probabilities"]) == {"false", "true"}


@pytest.mark.parametrize("stops", [[1], [0, 0, 1], [37, 38, 200, 555], [599]])
def test_stopped_anywhere_and_resumed_it_ends_as_one_left_alone(tmp_path: Path, stops: list[int]) -> None:
    whole, wanted = run_all(every_records=50)
    sink = ListSink()
    for stop in [*stops, 10_000]:
        store = CheckpointStore(tmp_path)
        loop = Loop(make_shard(witness=True), make_source(), sink, store, every_records=50)
        loop.resume()
        left = stop - loop.shard.counts.events - loop.shard.counts.labels
        assert loop.run(lambda loop=loop, left=left: loop.records >= left) == (stop == 10_000)
    assert sink.messages == wanted.messages
    assert_same(loop.shard, whole.shard)


def assert_same(a: Shard, b: Shard) -> None:
    (arrays, meta), (others, other_meta) = a.state(), b.state()
    assert meta == other_meta
    assert {name: array.tobytes() for name, array in arrays.items()} == {
        name: array.tobytes() for name, array in others.items()
    }


@pytest.mark.parametrize("stop", [0, 19, 256, 300])
def test_a_loop_that_was_stopped_goes_on_with_the_next_record(stop: int) -> None:
    whole, wanted = run_all()
    sink = ListSink()
    loop = Loop(make_shard(witness=True), make_source(), sink)
    assert not loop.run(lambda: loop.records >= stop)
    assert loop.records == stop
    assert loop.run()
    assert loop.records == 600
    assert sink.messages == wanted.messages
    assert_same(loop.shard, whole.shard)


class Killed(Exception):
    """Stands for the end of a process: no snapshot is written."""


@pytest.mark.parametrize("kill", [20, 130, 290, 470])
def test_killed_while_it_catches_up_it_learns_in_the_same_order_whatever_has_come(
    tmp_path: Path, kill: int
) -> None:
    events, labels = make_items()

    def begun() -> dict[TopicPartition, list[Any]]:
        """A log in which labels have yet to come for most of its events."""
        return {TopicPartition("e", 0): events[:200], TopicPartition("l", 0): labels[:100]}

    def grow(log: dict[TopicPartition, list[Any]]) -> None:
        log[TopicPartition("e", 0)] += events[200:]
        log[TopicPartition("l", 0)] += labels[100:]

    def loop_on(log: dict[TopicPartition, list[Any]], sink: ListSink, store: CheckpointStore | None) -> Loop:
        source = MergedSource(ListSource(log), ahead=50, live=True)
        return Loop(make_shard(), source, sink, store, every_records=50)

    def until(loop: Loop, records: int) -> None:
        assert not loop.run(lambda: loop.shard.counts.events + loop.shard.counts.labels >= records)

    log, alone = begun(), ListSink()
    whole = loop_on(log, alone, None)
    until(whole, 300)
    grow(log)
    until(whole, 600)

    log, sink, store = begun(), ListSink(), CheckpointStore(tmp_path)
    killed = loop_on(log, sink, store)
    if kill > 300:
        until(killed, 300)
        grow(log)
        killed = loop_on(log, sink, store)

    def stop() -> bool:
        if killed.shard.counts.events + killed.shard.counts.labels >= kill:
            raise Killed
        return False

    with pytest.raises(Killed):
        killed.run(stop)
    had_left = list(sink.messages)
    if kill < 300:
        grow(log)
    until(again := loop_on(log, sink, store), 600)
    assert sink.messages == alone.messages
    assert sink.messages[: len(had_left)] == had_left
    assert_same(again.shard, whole.shard)


def test_a_run_that_has_no_more_to_read_writes_no_snapshot_as_it_resumes(tmp_path: Path) -> None:
    sink, store = ListSink(), CheckpointStore(tmp_path)
    assert Loop(make_shard(), make_source(), sink, store).run()
    before = store.ls()
    assert Loop(make_shard(), make_source(), sink, CheckpointStore(tmp_path)).resume()
    assert store.ls() == before


def test_a_finished_run_that_is_resumed_has_nothing_to_do(tmp_path: Path) -> None:
    sink = ListSink()
    assert Loop(make_shard(), make_source(), sink, CheckpointStore(tmp_path)).run()
    again = Loop(make_shard(), make_source(), sink, CheckpointStore(tmp_path))
    assert again.resume()
    assert again.finished
    assert again.run()
    assert again.records == 0
    assert len(sink.messages) == 300


def test_a_finished_run_that_has_more_to_do_and_is_stopped_is_not_finished(tmp_path: Path) -> None:
    store, sink = CheckpointStore(tmp_path), ListSink()
    assert Loop(make_shard(), make_source(100, of=150), sink, store, batch=8).run()
    again = Loop(make_shard(), make_source(150), sink, store, batch=8)
    assert again.resume()
    assert not again.run(lambda: again.records >= 9)
    latest = store.latest()
    assert latest is not None
    assert latest.meta["finished"] is False


def test_a_first_run_that_dies_at_once_begins_again_where_it_began(tmp_path: Path) -> None:
    source, sink = make_source(), ListSink()
    sink.write("older", {})
    source.poll(10)
    Loop(make_shard(), source, sink, CheckpointStore(tmp_path)).resume()
    began = source.positions()
    sink.write("lost", {})
    again = Loop(make_shard(), make_source(), sink, CheckpointStore(tmp_path))
    assert again.resume()
    assert again.source.positions() == began
    assert [key for key, _ in sink.messages] == ["older"]


def test_a_snapshot_of_another_configuration_is_refused(tmp_path: Path) -> None:
    Loop(make_shard(), make_source(), ListSink(), CheckpointStore(tmp_path), config={"seed": 0}).resume()
    other = Loop(make_shard(), make_source(), ListSink(), CheckpointStore(tmp_path), config={"seed": 1})
    with pytest.raises(CheckpointError, match="seed is 0 there, asked for 1"):
        other.resume()


def test_a_loop_that_was_replaced_stops_at_its_next_snapshot(tmp_path: Path) -> None:
    old = Loop(make_shard(), make_source(), ListSink(), CheckpointStore(tmp_path), every_records=10)
    old.resume()
    Loop(make_shard(), make_source(), ListSink(), CheckpointStore(tmp_path)).resume()
    with pytest.raises(StaleWriter):
        old.run()


def test_time_brings_a_snapshot_where_too_few_records_come(tmp_path: Path) -> None:
    clock, store = ManualClock(), CheckpointStore(tmp_path, keep=100)
    loop = Loop(
        make_shard(), make_source(), ListSink(), store,
        clock=clock, every_seconds=10.0, batch=60, on_batch=lambda loop: clock.advance(4.0),
    )  # fmt: skip
    loop.run()
    assert len(store.ls()) == 1 + 600 // 60 // 3 + 1


def test_the_snapshot_holds_no_figure_of_the_clock(tmp_path: Path) -> None:
    stores = [CheckpointStore(tmp_path / name) for name in ("a", "b")]
    for store in stores:
        assert Loop(make_shard(witness=True), make_source(), ListSink(), store).run()
    a, b = (store.latest() for store in stores)
    assert a is not None
    assert b is not None
    assert a.path.read_bytes() == b.path.read_bytes()


def test_a_signal_finishes_the_step_and_leaves_a_snapshot(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    with StopSignals() as stop:
        loop = Loop(make_shard(), make_source(), ListSink(), store, batch=64)
        loop.on_batch = lambda loop: os.kill(os.getpid(), signal.SIGTERM)
        assert not loop.run(stop)
    latest = store.latest()
    assert latest is not None
    assert sum(offset for _, _, offset in latest.meta["positions"]) == 64


def test_forecasts_wait_within_bounds() -> None:
    shard = Shard(PlainLearner(), PrequentialMetrics(), PendingForecasts(JoinLimits(max_waiting=5)))
    step(shard, *[Event(id=str(i), time=float(i), features={}) for i in range(9)])
    assert len(shard.pending) == 5
    assert shard.pending.counts.expired == 4


def test_regression_answers_with_a_value() -> None:
    shard = Shard(PlainLearner(), PrequentialMetrics("regression"))
    events = [Event(id=str(i), time=float(i), features={"a": 1.0}, label=i % 2) for i in range(4)]
    answers = step(shard, *events)
    assert all(isinstance(answer.message()["forecast"], float) for answer in answers)
    assert "probabilities" not in answers[0].message()
    assert shard.metrics.result()["mae"] is not None


def test_the_report_gets_three_decisions_and_the_experts_over_time() -> None:
    loop, _ = run_all()
    witness = loop.shard.witness
    assert witness is not None
    right, wrong, typical = witness.decisions()
    assert right["outcome"] == 1
    assert right["forecast"]["1"] > 0.5
    assert wrong["forecast"][str(wrong["outcome"])] < 0.5
    assert typical["experts"][0]["name"] == "linear"
    experts = witness.experts()
    assert len(experts["time"]) == len(experts["weights"]["linear"]) > 5
    assert witness.label_delay == pytest.approx(20, abs=3)


def test_the_experts_curve_stays_bounded() -> None:
    loop, _ = run_all(n=9000)
    assert loop.shard.witness is not None
    assert 100 < len(loop.shard.witness.experts()["time"]) <= 240


def test_a_clock_gone_wrong_neither_gives_up_what_waits_nor_ages_what_was_learned() -> None:
    shard = Shard(PlainLearner(), PrequentialMetrics(), PendingForecasts(JoinLimits(max_age=80.0)))
    times = [0.0, 1.0, 2.0, 4e9, 3.0]
    answers = step(shard, *[Event(id=str(i), time=time, features={}) for i, time in enumerate(times)])
    assert [forecast.time for forecast in shard.pending.payloads()] == [0.0, 1.0, 2.0, 2.0, 3.0]
    assert [answer.time for answer in answers] == times


def test_labels_that_are_not_simply_learned_are_reported_with_where_they_stand() -> None:
    shard = Shard(PlainLearner(), PrequentialMetrics(), PendingForecasts(report=True))
    step(
        shard,
        Label(id="a", time=0.0, label=1),
        Event(id="a", time=1.0, features={"x": 1.0}, label=0),
        Label(id="a", time=2.0, label=0),
        Event(id="b", time=3.0, features={"x": 1.0}),
        Label(id="b", time=4.0, label="odd"),
        Event(id="b", time=5.0, features={"x": 1.0}, label=1),
    )
    assert shard.pending.reports is not None
    told = [report.message() for report in shard.pending.reports]
    assert [(message["kind"], message["id"], message.get("earlier"), message["offset"]) for message in told] == [
        ("corrected", "a", 0, 0), ("duplicate", "a", 0, 2), ("refused", "b", None, 4),
    ]  # fmt: skip
    assert (shard.counts.answered, shard.counts.learned, shard.pending.counts.duplicate_events) == (2, 2, 1)
