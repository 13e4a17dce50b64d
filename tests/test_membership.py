"""Who owns a shard: what the loops are told, how partitions are shared out, and what a group really does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.assignor import place, withhold
from streams.broker import connect_consumer, ensure_topics
from streams.errors import (
    BrokerConfigError,
    BrokerUnavailable,
    FencedMember,
    GroupError,
    UnequalPartitions,
    UnknownStream,
)
from streams.event import TopicPartition
from streams.group import GroupMembership
from streams.membership import Alone, Changes, Ledger
from tests.restartable_broker import RestartableBroker

Name = Callable[[str], str]
FAST = {"session_timeout_ms": 6000, "heartbeat_interval_ms": 300, "metadata_max_age_ms": 500}
LONG = 30.0  # seconds after which a test gives up


def changes(*, gained: str = "", revoked: str = "", lost: str = "") -> Changes:
    return Changes(frozenset(gained), frozenset(revoked), frozenset(lost))


def test_alone_everything_is_owned_at_once_and_until_it_is_released() -> None:
    alone = Alone(partitions=2)
    assert (alone.changes(), alone.changes(), alone.owned()) == (changes(gained="01"), None, {"0", "1"})
    alone.released("0")
    assert alone.owned() == {"1"}
    with pytest.raises(ValueError, match="partitions is 0; expected at least 1"):
        Alone(partitions=0)


def test_what_is_taken_back_before_a_loop_heard_of_it_is_never_told() -> None:
    ledger = Ledger()
    ledger.assign({"0", "1"}, 1)
    assert ledger.revoke({"0"}) == set()  # nobody has to release it
    ledger.lose({"1"})
    assert (ledger.take(), ledger.owned()) == (None, set())


def test_a_shard_that_is_not_released_in_time_is_lost_and_a_late_release_changes_nothing() -> None:
    ledger = Ledger()
    ledger.assign({"0"}, 1)
    ledger.take()
    ledger.revoke({"0"})
    assert ledger.take() == changes(revoked="0")
    ledger.lose({"0"})
    ledger.assign({"0"}, 2)
    ledger.release("1")
    assert ledger.take() == changes(gained="0", lost="0")
    assert ledger.owned() == {"0"}


def test_a_shard_that_comes_back_after_generations_without_this_member_was_away_in_between() -> None:
    ledger = Ledger()
    ledger.assign({"0", "1"}, 4)
    ledger.take()
    ledger.join(4)
    ledger.assign({"0", "1"}, 5)
    ledger.join(5)
    ledger.assign({"0", "1"}, 5)  # asked again in the same generation
    ledger.join(6)  # it joined the sixth, which ended before anybody was given anything
    ledger.assign({"0", "1"}, 7)
    assert ledger.take() is None
    ledger.join(7)
    ledger.assign({"0"}, 9)
    assert (ledger.take(), ledger.owned()) == (changes(gained="0", lost="01"), {"0"})


def test_a_member_that_was_put_out_has_lost_all_when_it_joins_again() -> None:
    ledger = Ledger()
    ledger.assign({"0"}, 1)
    ledger.take()
    ledger.join(-1)
    assert (ledger.take(), ledger.owned()) == (changes(lost="0"), set())


members = st.dictionaries(st.sampled_from("abcde"), st.just([]), min_size=1)


@given(st.integers(1, 12), members, st.data())
def test_members_that_come_and_go_end_with_equal_shares_after_two_rounds_and_nothing_is_given_twice(
    count: int, first: dict[str, list[int]], data: st.DataObject
) -> None:
    partitions, owned = list(range(count)), dict(sorted(first.items()))
    for _ in range(3):
        here = sorted(data.draw(members))
        owned = {member: owned.get(member, []) for member in here}
        for _ in range(2):
            before = owned
            owned = withhold(place(partitions, before), before)
            given_out = [partition for have in owned.values() for partition in have]
            assert len(given_out) == len(set(given_out))
            for member, have in owned.items():  # nobody gets what another has not let go yet
                others = {p for other, has in before.items() if other != member for p in has}
                assert others.isdisjoint(set(have) - set(before[member]))
        assert sorted(given_out) == partitions
        lengths = [len(have) for have in owned.values()]
        assert max(lengths) - min(lengths) <= 1
        assert withhold(place(partitions, owned), owned) == owned  # and there it rests


@given(st.integers(1, 12), members)
def test_a_new_group_shares_out_ranges_and_a_standby_never_takes_the_first_partition(
    count: int, new: dict[str, list[int]]
) -> None:
    shares = place(list(range(count)), dict(sorted(new.items())))
    assert [partition for have in shares.values() for partition in have] == list(range(count))
    owner = next(iter(shares))
    joined = place(list(range(count)), dict(sorted({"A": [], **shares}.items())))
    assert 0 in joined[owner]


class Member:
    """A member of a group with a loop that does what it is told at once, and remembers it."""

    def __init__(self, broker: str, topic: str, name: str, *, prompt: bool = True, **options: Any) -> None:
        settings = FAST | options.pop("options", {})
        self.group = GroupMembership(
            broker, f"group-{topic}", topic, instance=name, options=settings, **options
        )
        self.prompt = prompt
        self.told: list[tuple[str, str]] = []
        self.open: set[str] = set()
        self.error: GroupError | None = None
        self.asking = threading.Event()
        self.asking.set()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._thread.start()

    def _loop(self) -> None:
        while not self._end.wait(0.01):
            if not self.asking.is_set():
                continue
            try:
                now = self.group.changes()
            except GroupError as error:
                self.error = error
                return
            if now is None:
                continue
            self.told += [
                (what, shard) for what in ("lost", "revoked", "gained") for shard in getattr(now, what)
            ]
            self.open = (self.open - now.lost - now.revoked) | now.gained
            if self.prompt:
                for shard in now.revoked:
                    self.group.released(shard)

    def stop(self) -> None:
        self._end.set()
        self._thread.join()
        for shard in self.open:
            self.group.released(shard)
        self.group.close()


@contextmanager
def membership(broker: str, topic: str, name: str, **options: Any) -> Iterator[Member]:
    member = Member(broker, topic, name, **options)
    try:
        yield member
    finally:
        member.stop()


def until(condition: Callable[[], object]) -> None:
    """Wait for it; the tests say what happens, not how fast."""
    deadline = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


@pytest.fixture
def two(broker: str, topic: Name) -> str:
    """A topic of two partitions."""
    name = topic("events")
    ensure_topics(broker, {name: 2})
    return name


pytest_kafka = pytest.mark.kafka


@pytest_kafka
def test_a_member_that_joins_is_handed_its_share_and_the_rest_is_left_alone(broker: str, two: str) -> None:
    with membership(broker, two, "b", shards="partition") as first:
        until(lambda: first.open == {"0", "1"})
        with membership(broker, two, "a", shards="partition") as second:
            until(lambda: second.open == {"1"})
            assert (first.open, first.group.owned(), second.group.owned()) == ({"0"}, {"0"}, {"1"})
            assert first.told[2:] == [("revoked", "1")]


@pytest_kafka
def test_nobody_gets_a_shard_before_its_owner_has_released_it(broker: str, two: str) -> None:
    with membership(broker, two, "b", shards="partition", prompt=False) as first:
        until(lambda: first.open == {"0", "1"})
        with membership(broker, two, "a", shards="partition") as second:
            until(lambda: ("revoked", "1") in first.told)
            time.sleep(1.0)
            assert (second.told, first.group.owned()) == ([], {"0", "1"})
            first.group.released("1")
            until(lambda: second.open == {"1"})


@pytest_kafka
def test_a_shard_that_is_not_released_in_time_is_lost_and_another_has_it(broker: str, two: str) -> None:
    with membership(broker, two, "b", shards="partition", prompt=False, hand_over=0.5) as first:
        until(lambda: first.open == {"0", "1"})
        with membership(broker, two, "a", shards="partition") as second:
            until(lambda: second.open == {"1"})
            until(lambda: ("lost", "1") in first.told)
            assert (first.group.owned(), first.group.lost) == ({"0"}, 1)


@pytest_kafka
def test_the_owner_of_everything_is_not_disturbed_by_standbys_whatever_their_names(
    broker: str, two: str
) -> None:
    with membership(broker, two, "m") as owner:
        until(lambda: owner.open == {"0"})
        with membership(broker, two, "a") as before, membership(broker, two, "z") as after:
            until(lambda: owner.group.rebalances > 2 and before.group.rebalances and after.group.rebalances)
            assert owner.told == [("gained", "0")]
            assert (before.told, after.told) == ([], [])


@pytest_kafka
def test_a_static_member_that_is_started_again_has_its_shard_back_and_nobody_else_hears_of_it(
    broker: str, two: str
) -> None:
    with membership(broker, two, "a", shards="partition") as other:
        with membership(broker, two, "b", shards="partition") as first:
            until(lambda: first.open == {"1"} and other.open == {"0"})
            told = list(other.told)
        with membership(broker, two, "b", shards="partition") as again:
            until(lambda: again.open == {"1"})
            assert (other.told, other.open) == (told, {"0"})


@pytest_kafka
def test_a_member_without_a_permanent_name_leaves_and_its_shard_goes_at_once(broker: str, two: str) -> None:
    slow = {"session_timeout_ms": 60_000}  # nobody waits for it to pass
    with membership(broker, two, "standby", static=False, options=slow) as standby:
        until(lambda: standby.open == {"0"})
        with membership(broker, two, "next", static=False, options=slow) as other:
            until(lambda: other.group.rebalances)
            standby.stop()
            until(lambda: other.open == {"0"})


@pytest_kafka
def test_a_second_process_of_the_same_name_takes_over_and_the_first_is_told_why(
    broker: str, two: str
) -> None:
    with membership(broker, two, "same") as first:
        until(lambda: first.open == {"0"})
        with membership(broker, two, "same") as second:
            until(lambda: first.error)
            assert isinstance(first.error, FencedMember)
            assert str(first.error) == (
                f"another process runs as instance 'same' of group 'group-{two}'; give each its own "
                "name (source.instance, or EVERLEARN_SOURCE__INSTANCE)"
            )
            until(lambda: second.open == {"0"})
            assert first.group.owned() == set()
            first.open.clear()


@pytest_kafka
def test_a_loop_that_hangs_loses_its_shard_and_may_come_back(broker: str, two: str) -> None:
    with membership(broker, two, "a", static=False, stall=1.0) as hung:
        until(lambda: hung.open == {"0"})
        with membership(broker, two, "b", static=False) as other:
            hung.asking.clear()
            until(lambda: other.open == {"0"})
            hung.asking.set()
            until(lambda: ("lost", "0") in hung.told)
            until(lambda: hung.group.rebalances > 1)
            assert (hung.open, other.open) == (set(), {"0"})


def committed(broker: str, topic: str) -> int | None:
    """What the group has committed for the topic's first partition."""
    from kafka import TopicPartition as KafkaPartition

    consumer = connect_consumer(broker, options={"group_id": f"group-{topic}"})
    try:
        found = consumer.committed(KafkaPartition(topic, 0), timeout_ms=5000)
        return None if found is None else int(found)
    finally:
        consumer.close(autocommit=False)


@pytest_kafka
def test_commits_reach_the_group_and_one_that_the_broker_refuses_stops_nothing(broker: str, two: str) -> None:
    with membership(broker, two, "a") as member:
        until(lambda: member.open == {"0"})
        member.group.commit({TopicPartition(two, 0): 3})
        member.group.commit({TopicPartition(two, 0): 5})
        until(lambda: committed(broker, two) == 5)
        assert member.group.uncommitted == 0
        member.group.commit({TopicPartition("nowhere", 0): 1})
        until(lambda: member.group.uncommitted)
        member.group.commit({TopicPartition(two, 0): 7})
    assert committed(broker, two) == 7  # what waits when a member leaves is committed as well


@pytest_kafka
def test_a_broker_that_is_killed_and_started_again_leaves_every_shard_with_one_owner(
    tmp_path: Path, topic: Name
) -> None:
    broker, events = RestartableBroker(tmp_path), topic("events")
    try:
        ensure_topics(broker.address, {events: 2})
        with membership(broker.address, events, "a", shards="partition") as first:
            until(lambda: first.open == {"0", "1"})
            with membership(broker.address, events, "b", shards="partition", static=False) as second:
                until(lambda: (first.open, second.open) == ({"0"}, {"1"}))
                broker.kill()
                time.sleep(1.0)
                broker.start()
                first.group.commit({TopicPartition(events, 0): 1})
                until(lambda: committed(broker.address, events) == 1 or first.group.uncommitted)
                until(lambda: (first.open, second.open) in (({"0"}, {"1"}), ({"1"}, {"0"})))
            until(lambda: first.open == {"0", "1"})  # the group still hands over what a member leaves
    finally:
        broker.kill()


@pytest_kafka
def test_partitions_that_are_added_are_shards_to_open(broker: str, two: str) -> None:
    from kafka import KafkaAdminClient

    with membership(broker, two, "a", shards="partition") as member:
        until(lambda: member.open == {"0", "1"})
        admin = KafkaAdminClient(bootstrap_servers=broker)
        admin.create_partitions({two: 3})
        admin.close()
        until(lambda: member.open == {"0", "1", "2"})


@pytest_kafka
def test_topics_with_different_numbers_of_partitions_cannot_be_split(
    broker: str, two: str, topic: Name
) -> None:
    labels = topic("labels")
    ensure_topics(broker, {labels: 1})
    with pytest.raises(UnequalPartitions, match=rf"{two} 2, {labels} 1; expected equal ones"):
        GroupMembership(broker, "g", two, topics=[labels], shards="partition")
    GroupMembership(broker, topic("g"), two, topics=[labels], options=FAST).close()  # one shard of all may


@pytest_kafka
def test_what_a_broker_does_not_have_or_allow_is_said(broker: str, two: str) -> None:
    with pytest.raises(UnknownStream, match="no topic 'nowhere'"):
        GroupMembership(broker, "g", "nowhere")
    with pytest.raises(BrokerConfigError, match="session_timeout_mss is no setting"):
        GroupMembership(broker, "g", two, options={"session_timeout_mss": 1})
    with pytest.raises(BrokerUnavailable, match="no Kafka broker answers"):
        GroupMembership("127.0.0.1:1", "g", two, timeout=0.3)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="shards is 'some'; expected 'all' or 'partition'"):
        GroupMembership("127.0.0.1:1", "g", "events", shards="some")  # type: ignore[arg-type]  # what is tested
    with pytest.raises(ValueError, match="group is empty"):
        GroupMembership("127.0.0.1:1", "", "events")
    with pytest.raises(
        ValueError, match=r"hand_over is 400 s; expected .* below max_poll_interval_ms, 300 s"
    ):
        GroupMembership("127.0.0.1:1", "g", "events", hand_over=400)
