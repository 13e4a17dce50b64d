"""Merged partitions come in one order, whatever way they arrive, and positions name what was delivered."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.broker import KafkaLog, ensure_topics
from streams.codecs import encode_event
from streams.errors import PositionLost
from streams.event import Event, Malformed, Record, TopicPartition
from streams.kafka import KafkaSource
from streams.merge import MergedSource
from streams.replay import ListSource

Times = dict[TopicPartition, list[int]]

partitions = st.dictionaries(
    st.builds(TopicPartition, st.sampled_from(["a", "b"]), st.integers(0, 1)),
    st.lists(st.integers(0, 6), max_size=12),
    min_size=1,
)


def source(times: Times) -> ListSource:
    return ListSource(
        {
            where: [Event(id=f"{where}{i}", time=float(t), features={}) for i, t in enumerate(each)]
            for where, each in times.items()
        }
    )


def ordered(times: Times) -> dict[TopicPartition, list[int]]:
    return {where: sorted(each) for where, each in times.items()}


def keys(records: Sequence[Record]) -> list[tuple[float, tuple[str, int, int]]]:
    return [(record.item.time, tuple(record.position)) for record in records]


def drain(merged: MergedSource, sizes: Sequence[int] = (5,)) -> list[Record]:
    found: list[Record] = []
    turn = 0
    while not merged.exhausted:
        found += merged.poll(sizes[turn % len(sizes)])
        turn += 1
    return found


def lists(times: Times) -> dict[TopicPartition, list[Event]]:
    """Partitions that can grow."""
    return grown({where: [] for where in times}, times)


def grown(partitions: dict[TopicPartition, list[Event]], more: Times) -> dict[TopicPartition, list[Event]]:
    for where in partitions:
        each = partitions[where]
        each += [
            Event(id=f"{where}{i}", time=float(t), features={}) for i, t in enumerate(more.get(where, []))
        ]
    return partitions


def drain_now(merged: MergedSource, size: int) -> list[Record]:
    """All that a live source has at present."""
    found: list[Record] = []
    while records := merged.poll(size):
        found += records
    return found


class Reluctant:
    """A source that gives few records at a time, and often none: a broker on a slow network."""

    def __init__(self, inner: ListSource, seed: int) -> None:
        self.inner, self.random = inner, Random(seed)
        self.positions, self.seek, self.close = inner.positions, inner.seek, inner.close
        self.end_offsets, self.latest_offsets = inner.end_offsets, inner.latest_offsets
        self.pause, self.resume = inner.pause, inner.resume

    @property
    def exhausted(self) -> bool:
        return self.inner.exhausted

    def poll(self, max_records: int, timeout: float = 0.0) -> Sequence[Record]:
        return self.inner.poll(min(max_records, self.random.randrange(3)))


@given(partitions, st.integers(1, 5))
def test_sorted_partitions_come_by_time_topic_partition_and_offset(times: Times, ahead: int) -> None:
    found = keys(drain(MergedSource(source(ordered(times)), ahead=ahead)))
    expected = [(float(t), (*where, i)) for where, each in ordered(times).items() for i, t in enumerate(each)]
    assert found == sorted(expected)


@given(partitions, st.integers(1, 5), st.lists(st.integers(1, 7), min_size=1, max_size=4), st.integers())
def test_the_order_does_not_depend_on_how_records_arrive_or_are_asked_for(
    times: Times, ahead: int, sizes: list[int], seed: int
) -> None:
    slowly = MergedSource(Reluctant(source(times), seed), ahead=ahead)
    assert keys(drain(slowly, sizes)) == keys(drain(MergedSource(source(times), ahead=100)))


@given(partitions, st.integers(0, 40), st.integers(1, 5))
def test_positions_count_what_was_delivered_and_not_what_was_read_ahead(
    times: Times, count: int, ahead: int
) -> None:
    whole = keys(drain(MergedSource(source(times), ahead=ahead)))
    first = MergedSource(source(times), ahead=ahead)
    before = keys(first.poll(count))
    assert first.positions() == {where: sum(p[:2] == where for _, p in before) for where in times}
    second = MergedSource(source(times), ahead=ahead)
    second.seek(first.positions())
    assert before + keys(drain(second)) == whole


def test_a_partition_keeps_its_order_where_its_times_run_backwards() -> None:
    merged = MergedSource(source({TopicPartition("a", 0): [5, 1, 9], TopicPartition("b", 0): [2, 6]}))
    assert [time for time, _ in keys(drain(merged))] == [2.0, 5.0, 1.0, 6.0, 9.0]


def test_a_malformed_record_comes_as_soon_as_it_is_its_partitions_next() -> None:
    bad = Malformed(raw=b"?", error="unreadable")
    items = {
        TopicPartition("a", 0): [Event(id="a", time=5.0, features={}), bad],
        TopicPartition("b", 0): [Event(id="b", time=6.0, features={})],
    }
    assert [getattr(record.item, "id", "bad") for record in drain(MergedSource(ListSource(items)))] == [
        "a",
        "bad",
        "b",
    ]


@given(partitions, partitions, st.integers(0, 30), st.integers(1, 5))
def test_a_live_source_merges_what_there_is_and_then_what_has_come_since(
    times: Times, more: Times, size: int, ahead: int
) -> None:
    growing = lists(times)
    live = MergedSource(ListSource(growing), ahead=ahead, live=True)
    assert keys(drain_now(live, size + 1)) == keys(drain(MergedSource(source(times))))
    before = live.positions()
    grown(growing, more)
    then = MergedSource(ListSource(growing))
    then.seek(before)
    assert keys(drain_now(live, 100)) == keys(drain(then))
    assert not live.exhausted


def test_a_live_source_that_has_fallen_behind_merges_all_that_has_come() -> None:
    growing: dict[TopicPartition, list[Event]] = {TopicPartition("a", 0): [], TopicPartition("b", 0): []}
    live = MergedSource(ListSource(growing), live=True)
    assert live.poll(4) == []
    grown(growing, {where: list(range(20)) for where in growing})
    times = [record.item.time for record in drain_now(live, 4)]
    assert len(times) == 40
    assert times == sorted(times)


@given(partitions, partitions, st.integers(0, 40), st.integers(1, 5), st.booleans())
def test_what_one_run_began_to_merge_another_goes_on_with_whatever_has_come_in_between(
    times: Times, more: Times, count: int, ahead: int, live: bool
) -> None:
    growing = lists(times)
    alone = MergedSource(ListSource(growing), ahead=ahead, live=True)
    first = MergedSource(ListSource(growing), ahead=ahead, live=live)
    expected = drain_now(alone, 100)
    found = list(first.poll(count))
    grown(growing, more)
    expected += drain_now(alone, 100)
    second = MergedSource(ListSource(growing), ahead=ahead, live=live)
    second.seek(first.positions())
    second.follow(first.stages())
    found += drain_now(second, 3)
    assert keys(found) == keys(expected)


@pytest.mark.kafka
def test_topics_of_a_broker_that_grow_are_merged_live(broker: str, topic: Callable[[str], str]) -> None:
    names = [topic("events"), topic("labels")]
    ensure_topics(broker, dict.fromkeys(names, 1))
    log = KafkaLog(broker)

    def append(start: int, stop: int) -> None:
        for shift, name in enumerate(names):
            events = [Event(id=f"{name}{i}", time=i + shift / 2, features={}) for i in range(start, stop)]
            log.append_many(name, 0, [(event.id, event.time, encode_event(event)) for event in events])

    def read(count: int) -> list[float]:
        found: list[float] = []
        deadline = time.monotonic() + 30
        while len(found) < count:
            assert time.monotonic() < deadline
            found += [record.item.time for record in merged.poll(100, timeout=1.0)]
        return found

    append(0, 300)
    merged = MergedSource(KafkaSource(broker, names, start="beginning"), ahead=50, live=True)
    append(300, 310)
    assert read(600) == [i / 2 for i in range(600)]
    assert sorted(read(20)) == [300 + i / 2 for i in range(20)]
    append(310, 320)
    assert sorted(read(20)) == [310 + i / 2 for i in range(20)]
    merged.close()
    log.close()


def test_a_log_that_ends_before_a_recorded_stage_does_is_refused() -> None:
    merged = MergedSource(source({TopicPartition("a", 0): [1, 2], TopicPartition("b", 0): [1]}))
    with pytest.raises(PositionLost, match="'a' partition 0 ends at 2, but records up to 9"):
        merged.follow([{TopicPartition("a", 0): 9, TopicPartition("b", 0): 1}])
    with pytest.raises(PositionLost, match="'gone' partition 0 ends at 0"):
        merged.follow([{TopicPartition("gone", 0): 3}])


def test_stages_are_told_once_as_they_are_begun() -> None:
    a, b = TopicPartition("a", 0), TopicPartition("b", 0)
    log = lists({a: [1, 2], b: [1]})
    merged = MergedSource(ListSource(log), live=True)
    assert merged.begun() == [{a: 2, b: 1}]
    assert merged.begun() == []
    merged.poll(10)
    assert merged.poll(10) == []
    assert merged.begun() == []
    grown(log, {a: [3]})
    assert len(merged.poll(10)) == 1
    assert merged.begun() == [{a: 3, b: 1}]


def test_one_partition_alone_has_no_stages() -> None:
    a = TopicPartition("a", 0)
    log = lists({a: [3, 1]})
    merged = MergedSource(ListSource(log), live=True)
    grown(log, {a: [2]})
    assert [record.item.time for record in merged.poll(2)] == [3, 1]
    assert merged.positions() == {a: 2}
    assert [record.item.time for record in merged.poll(2)] == [2]
    assert merged.begun() == merged.stages() == []


def test_where_a_second_partition_appears_what_the_first_had_passed_on_is_a_stage_of_its_own() -> None:
    a, b = TopicPartition("a", 0), TopicPartition("b", 0)
    log = lists({a: [5, 6]})
    opened = Growing(log)
    merged = MergedSource(opened, live=True)
    first = [*merged.poll(10)]
    log[b] = []
    grown(log, {a: [9], b: [1, 8]})
    rest = [*merged.poll(10)]
    assert [record.item.time for record in (*first, *rest)] == [5, 6, 1, 8, 9]
    begun = merged.begun()
    assert begun == [{a: 2}, {a: 3, b: 2}]
    again = MergedSource(ListSource(log), live=True)
    again.follow(begun)
    assert keys(again.poll(3)) + keys(again.poll(3)) == keys([*first, *rest])


def test_a_partition_that_a_stage_ends_in_is_waited_for_before_its_first_record_has_come() -> None:
    a, b, c = (TopicPartition(name, 0) for name in "abc")
    log = lists({a: [], b: []})
    merged = MergedSource(Growing(log), live=True)
    log[c] = []
    grown(log, {a: [10, 11, 12, 13], b: [], c: [1, 2]})
    assert [record.item.time for record in merged.poll(2)] == [1, 2]
    assert merged.begun() == [{a: 4, b: 0, c: 2}]


class Growing(ListSource):
    """Shows partitions that were added to its lists, as a live source of a topic does."""

    def __init__(self, partitions: dict[TopicPartition, list[Event]]) -> None:
        super().__init__(partitions)
        self._all = partitions

    def poll(self, max_records: int, timeout: float = 0.0) -> Sequence[Record]:
        for partition in self._all:
            self._items.setdefault(partition, self._all[partition])
            self._next.setdefault(partition, 0)
        return super().poll(max_records, timeout)


def test_reading_ahead_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="ahead is 0"):
        MergedSource(source({TopicPartition("a", 0): [1]}), ahead=0)
