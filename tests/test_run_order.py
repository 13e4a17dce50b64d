"""The loop and its order: whatever is killed and whatever has come since, records are taken as before."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from plain_learner import PlainLearner

from engine.checkpoint import CheckpointError, CheckpointStore
from engine.evaluate.metrics import PrequentialMetrics
from engine.order import Order
from engine.run import Loop
from engine.shard import Shard
from engine.switch import Switch
from streams.clock import ManualClock
from streams.errors import LogChanged, PositionLost
from streams.event import Event, Label, Malformed, TopicPartition
from streams.merge import MergedSource
from streams.replay import ListSink, ListSource

E, E1, L = TopicPartition("e", 0), TopicPartition("e", 1), TopicPartition("l", 0)
Log = dict[TopicPartition, list[Any]]


class Killed(Exception):
    """Stands for the end of a process: no snapshot is written."""


def make_log(n: int = 200, seed: int = 3) -> Log:
    """Events in two partitions, their labels in another topic: labels cross partitions."""
    chance = random.Random(seed)
    log: Log = {E: [], E1: [], L: []}
    for i in range(n):
        x = {"a": chance.gauss(0, 1), "b": chance.gauss(0, 1)}
        log[(E, E1)[i % 2]].append(Event(id=f"e{i}", time=float(i), features=x))
        log[L].append(Label(id=f"e{i}", time=i + chance.uniform(1, 9), label=int(x["a"] > x["b"])))
    log[L].sort(key=lambda label: label.time)
    return log


def none() -> Log:
    return {E: [], E1: [], L: []}


class Producer:
    """Moves records from a finished log to a growing one, in pieces that a seed decides."""

    def __init__(self, whole: Log, log: Log, seed: int) -> None:
        self.whole, self.log, self._chance = whole, log, random.Random(seed)

    def __call__(self, loop: Loop | None = None) -> None:
        for partition, items in self.whole.items():
            grown = self.log[partition]
            grown += items[len(grown) : len(grown) + self._chance.choice([0, 0, 1, 2, 5, 9])]

    @property
    def finished(self) -> bool:
        return all(len(self.log[p]) == len(items) for p, items in self.whole.items())


def open_loop(
    log: Log,
    sink: ListSink,
    folder: Path | None,
    on_batch: Callable[[Loop], None] | None = None,
    **options: Any,
) -> Loop:
    store = None if folder is None else CheckpointStore(folder)
    shard = Shard(PlainLearner(), PrequentialMetrics())
    source = MergedSource(ListSource(log), ahead=7, live=True)
    return Loop(shard, source, sink, store, batch=16, every_records=60, on_batch=on_batch, **options)


def contents(loop: Loop) -> Any:
    arrays, meta = loop.shard.state()
    return {name: array.tobytes() for name, array in arrays.items()}, meta


def run_live(producer: Producer, sink: ListSink, folder: Path, kills: list[int]) -> Loop:
    """A live run that is killed at these numbers of records taken, while a producer writes."""
    chance = random.Random(1)
    taken = 0
    for kill in [*kills, 10**9]:
        loop = open_loop(producer.log, sink, folder, producer)
        loop.resume()
        taken = sum(loop.positions.values())

        def stop(loop: Loop = loop, kill: int = kill) -> bool:
            if sum(loop.positions.values()) >= kill:
                raise Killed
            return producer.finished and sum(loop.positions.values()) == sum(
                map(len, producer.whole.values())
            )

        try:
            loop.run(stop)
        except Killed:
            for _ in range(chance.randrange(4)):
                producer()
            continue
        return loop
    raise AssertionError(taken)


@pytest.mark.parametrize("seed", range(6))
def test_killed_while_it_keeps_up_it_takes_the_records_again_in_the_order_it_had_taken_them(
    tmp_path: Path, seed: int
) -> None:
    whole = make_log()
    kills = sorted(random.Random(seed).sample(range(5, 395), 4))
    sink = ListSink()
    loop = run_live(Producer(whole, none(), seed), sink, tmp_path, kills)
    answers = list(sink.messages)

    # an undisturbed run over the same recorded order, everything being there from the start
    again_sink = ListSink()
    again = open_loop(whole, again_sink, None)
    again.start(None, Order(tmp_path).since(0))
    assert not again.run(lambda: again.records == 400)
    assert again_sink.messages == answers
    assert contents(again) == contents(loop)


def test_the_order_of_a_live_run_is_not_that_of_a_bounded_one(tmp_path: Path) -> None:
    """Else the test above would show nothing."""
    whole, sink, bounded = make_log(), ListSink(), ListSink()
    run_live(Producer(whole, none(), 0), sink, tmp_path, [])
    loop = open_loop(whole, bounded, None)
    loop.run(lambda: loop.records == 400)
    assert [key for key, _ in sink.messages] != [key for key, _ in bounded.messages]


def test_a_partition_that_has_come_while_the_process_was_down_changes_no_answer(tmp_path: Path) -> None:
    whole = make_log()
    log: Log = {E: list(whole[E])}
    sink = ListSink()
    loop = open_loop(log, sink, tmp_path)

    def stop() -> bool:
        if loop.records >= 85:
            raise Killed
        return False

    with contextlib.suppress(Killed):
        loop.run(stop)
    had_left = list(sink.messages)
    log[E1] = list(whole[E1])
    again = open_loop(log, sink, tmp_path)
    again.run(lambda: again.shard.counts.events >= 200)
    assert sink.messages[: len(had_left)] == had_left
    replayed = ListSink()
    third = open_loop(log, replayed, None)
    third.start(None, Order(tmp_path).since(0))
    third.run(lambda: third.records == 200)
    assert replayed.messages == sink.messages


def test_what_a_predecessor_recorded_after_this_process_looked_at_the_ends_is_followed(
    tmp_path: Path,
) -> None:
    whole = make_log()
    log: Log = {partition: items[:20] for partition, items in whole.items()}
    sink = ListSink()
    first = open_loop(log, sink, tmp_path)
    first.run(lambda: first.records == 60)
    second = open_loop(log, sink, tmp_path)  # sees 20 records in each partition
    for partition, items in whole.items():
        log[partition] += items[20:30]
    first.run(lambda: first.records == 90)
    second.resume()
    second.run(lambda: sum(second.positions.values()) == 90)
    assert len(sink.messages) == 60


def test_another_configuration_is_refused_before_the_shard_is_taken_over(tmp_path: Path) -> None:
    log, sink = make_log(), ListSink()
    loop = open_loop(log, sink, tmp_path, config={"task": "classification"})
    loop.run(lambda: loop.records == 100)
    with pytest.raises(CheckpointError, match="task"):
        open_loop(log, sink, tmp_path, config={"task": "regression"}).resume()
    loop.run(lambda: loop.records == 200)  # it was not replaced


def test_a_sink_that_is_added_later_gets_each_letter_once_whatever_is_killed(tmp_path: Path) -> None:
    log, sink, dead = make_log(), ListSink(), ListSink()
    loop = open_loop(log, sink, tmp_path)
    loop.run(lambda: loop.records == 100)
    log[E][70:75] = [Malformed(raw=b"?", error="no message")] * 5
    for kill in (310, 320, 10**9):
        again = open_loop(log, sink, tmp_path, dead=dead)

        def stop(again: Loop = again, kill: int = kill) -> bool:
            if sum(again.positions.values()) >= kill:
                raise Killed
            return sum(again.positions.values()) == 400

        with contextlib.suppress(Killed):
            again.run(stop)
    assert len(dead.messages) == 5


def test_a_log_with_another_record_before_the_position_is_refused(tmp_path: Path) -> None:
    log, sink = make_log(20), ListSink()
    loop = open_loop(log, sink, tmp_path)
    loop.run(lambda: loop.records == 40)
    log[E][-1] = Event(id="other", time=0.0, features={})
    with pytest.raises(LogChanged, match="'e' partition 0 holds another record at 9"):
        open_loop(log, sink, tmp_path).resume()


def test_a_log_that_was_cut_is_refused(tmp_path: Path) -> None:
    log, sink = make_log(20), ListSink()
    loop = open_loop(log, sink, tmp_path)
    loop.run(lambda: loop.records == 40)
    del log[E][5:]
    with pytest.raises((PositionLost, ValueError), match="offset 10"):
        open_loop(log, sink, tmp_path).resume()


def test_a_log_that_was_cut_and_has_grown_again_is_refused(tmp_path: Path) -> None:
    log, sink = make_log(20), ListSink()
    loop = open_loop(log, sink, tmp_path)
    loop.run(lambda: loop.records == 40)
    del log[E][5:]
    log[E] += make_log(40, seed=8)[E]
    with pytest.raises(LogChanged):
        open_loop(log, sink, tmp_path).resume()


def test_a_record_that_has_expired_behind_the_position_is_noted_and_nothing_is_missing(
    tmp_path: Path,
) -> None:
    log, sink = make_log(20), ListSink()
    loop = open_loop(log, sink, tmp_path)
    loop.run(lambda: loop.records == 40)

    class Expired(ListSource):
        def fingerprints(self, at: Any) -> Any:
            return dict.fromkeys(at, None)

    again = open_loop(log, sink, tmp_path)
    again.source = MergedSource(Expired(log), live=True)
    assert again.resume()
    assert len(again.notes) == 3
    assert "has expired" in again.notes[0]


def test_frozen_nothing_of_the_model_changes_and_labels_are_scored(tmp_path: Path) -> None:
    loop, switch = open_loop(make_log(), ListSink(), tmp_path), Switch(tmp_path)
    loop.switch = switch
    loop.run(lambda: loop.records == 200)
    switch.set(True)
    loop.run(lambda: loop.shard.frozen)
    before = loop.shard.model.state()
    learned, scored = loop.shard.counts.learned, loop.shard.metrics.result()["events"]
    loop.run(lambda: loop.records == 300)
    after = loop.shard.model.state()
    assert (after[0]["weights"] == before[0]["weights"]).all()
    assert after[1] == before[1]
    assert loop.shard.counts.unlearned == loop.shard.metrics.result()["events"] - scored > 20
    switch.set(False)
    loop.run(lambda: loop.records == 400)
    assert loop.shard.counts.learned > learned


@pytest.mark.parametrize("kills", [[], [150], [210, 230, 290], [310]])
def test_freezing_and_thawing_is_part_of_the_order(tmp_path: Path, kills: list[int]) -> None:
    whole, sink, switch = make_log(), ListSink(), Switch(tmp_path)
    for kill in [*kills, 10**9]:
        loop = open_loop(whole, sink, tmp_path, switch=switch)

        def asked(loop: Loop) -> None:
            switch.set(200 <= sum(loop.positions.values()) < 320)

        def stop(loop: Loop = loop, kill: int = kill) -> bool:
            if sum(loop.positions.values()) >= kill:
                raise Killed
            return sum(loop.positions.values()) == 400

        loop.on_batch = asked
        with contextlib.suppress(Killed):
            loop.run(stop)
    again_sink = ListSink()
    again = open_loop(whole, again_sink, None)
    again.start(None, Order(tmp_path).since(0))
    again.run(lambda: again.records == 400)
    assert again_sink.messages == sink.messages
    assert contents(again) == contents(loop)
    assert again.shard.counts.unlearned > 20


def test_what_had_been_answered_is_answered_the_same_way_although_learning_was_frozen_meanwhile(
    tmp_path: Path,
) -> None:
    whole, sink, switch = make_log(), ListSink(), Switch(tmp_path)
    loop = open_loop(whole, sink, tmp_path, switch=switch)

    def stop() -> bool:
        if loop.records >= 235:
            raise Killed
        return False

    with contextlib.suppress(Killed):
        loop.run(stop)
    had_left = list(sink.messages)
    switch.set(True)
    again = open_loop(whole, sink, tmp_path, switch=switch)
    again.run(lambda: sum(again.positions.values()) == 400)
    assert sink.messages[: len(had_left)] == had_left
    assert again.shard.frozen
    assert again.shard.counts.unlearned > 20


def test_a_switch_that_is_always_on_freezes_from_the_first_record_on(tmp_path: Path) -> None:
    loop = open_loop(make_log(), ListSink(), tmp_path, switch=Switch(tmp_path, always=True))
    loop.run(lambda: loop.records == 400)
    assert (loop.shard.counts.learned, loop.shard.counts.unlearned) == (0, 200)
    assert loop.shard.model.version == loop.shard.model.observed == 0


def test_positions_are_told_once_a_snapshot_is_durable(tmp_path: Path) -> None:
    told: list[Any] = []
    loop = open_loop(make_log(), ListSink(), tmp_path, on_durable=told.append, clock=ManualClock())
    loop.run(lambda: loop.records == 400)
    assert told[-1] == {E: 100, E1: 100, L: 200}
    assert [sum(positions.values()) for positions in told] == [0, 60, 120, 180, 240, 300, 360, 400]
