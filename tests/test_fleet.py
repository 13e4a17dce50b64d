"""A fleet opens, turns and leaves loops as its membership says, whatever goes wrong with one of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from engine.checkpoint import StaleWriter
from engine.fleet import Fleet
from streams.clock import ManualClock
from streams.errors import FencedMember, GroupError
from streams.membership import Alone, Changes


class Script:
    """A membership that says what is written: one entry per round, then nothing."""

    def __init__(self, *rounds: Changes | GroupError | None, patience: float = 5.0) -> None:
        self.patience = patience
        self.rounds = list(rounds)
        self.said: list[str] = []

    def owned(self) -> frozenset[str]:
        return frozenset()

    def changes(self) -> Changes | None:
        now = self.rounds.pop(0) if self.rounds else None
        if isinstance(now, GroupError):
            raise now
        return now

    def released(self, shard: str) -> None:
        self.said.append(f"released {shard}")

    def commit(self, positions: object) -> None:
        raise AssertionError("a loop commits, no fleet")

    def close(self) -> None:
        self.said.append("closed")


class Turning:
    """A loop that notes what is asked of it, and fails where it is told to."""

    def __init__(self, shard: str, said: list[str], left: float, fails: dict[str, Exception]) -> None:
        self.shard, self.said, self.left, self.fails = shard, said, left, fails

    @property
    def exhausted(self) -> bool:
        return self.left <= 0

    def _say(self, what: str) -> None:
        self.said.append(f"{what} {self.shard}")
        error = self.fails.get(f"{what} {self.shard}")
        if error is not None:
            raise error

    def resume(self) -> bool:
        self._say("resume")
        return False

    def turn(self, stop: Callable[[], bool], timeout: float) -> bool:
        self.left -= 1
        self._say("turn")
        return True

    def snapshot(self) -> None:
        self._say("snapshot")

    def abandon(self) -> None:
        self._say("abandon")

    def close(self) -> None:
        self._say("close")


def run(
    script: Script,
    *,
    left: float = float("inf"),
    rounds: int = 5,
    fails: dict[str, Exception] | None = None,
    clock: ManualClock | None = None,
) -> bool:
    """So many rounds; what was said to loops and membership stands in script.said, turns left out."""
    clock = clock or ManualClock()
    asked = iter(range(rounds))

    def stop() -> bool:
        clock.advance(1.0)
        return next(asked, None) is None

    fleet = Fleet(script, lambda shard: Turning(shard, script.said, left, fails or {}), clock=clock)
    try:
        return fleet.run(stop)
    finally:
        script.said = [said for said in script.said if not said.startswith("turn")]


def changes(*, gained: str = "", revoked: str = "", lost: str = "") -> Changes:
    return Changes(frozenset(gained), frozenset(revoked), frozenset(lost))


def test_a_gained_shard_is_resumed_and_at_the_end_snapshotted_and_released() -> None:
    script = Script(changes(gained="01"))
    assert not run(script)
    assert script.said == [
        "resume 0", "resume 1", "snapshot 0", "close 0", "released 0", "snapshot 1", "close 1", "released 1",
        "closed",
    ]  # fmt: skip


def test_a_revoked_shard_is_durable_and_closed_before_another_may_have_it() -> None:
    script = Script(changes(gained="0"), None, changes(revoked="0"))
    run(script)
    assert script.said == ["resume 0", "snapshot 0", "close 0", "released 0", "closed"]


def test_a_lost_shard_is_left_without_a_snapshot() -> None:
    script = Script(changes(gained="0"), changes(lost="0"))
    run(script)
    assert script.said == ["resume 0", "abandon 0", "closed"]


def test_a_shard_that_was_away_is_left_and_opened_anew() -> None:
    script = Script(changes(gained="0"), changes(lost="0", gained="0"))
    run(script)
    assert script.said[:3] == ["resume 0", "abandon 0", "resume 0"]


def test_what_is_revoked_or_lost_after_the_loop_has_gone_is_released_and_no_more() -> None:
    script = Script(changes(revoked="0"), changes(lost="1"))
    run(script)
    assert script.said == ["released 0", "closed"]


def test_it_ends_when_all_loops_are_exhausted() -> None:
    said: list[str] = []
    fleet = Fleet(Alone(partitions=2), lambda shard: Turning(shard, said, 2 + int(shard), {}))
    assert fleet.run()
    assert said[2:] == [
        "turn 0", "turn 1", "turn 0", "turn 1", "turn 1", "snapshot 0", "close 0", "snapshot 1", "close 1"
    ]  # fmt: skip


def test_it_waits_without_turning_while_it_owns_nothing() -> None:
    clock = ManualClock()
    script = Script(None, None, patience=0.0)
    run(script, rounds=3, clock=clock)
    assert clock.monotonic() == pytest.approx(4 + 3 * 0.2)  # four questions whether to stop, three rounds


def test_an_error_of_one_loop_ends_the_run_once_the_others_are_safe() -> None:
    script = Script(changes(gained="012"))
    with pytest.raises(OSError, match="disk") as told:
        run(script, fails={"turn 1": OSError("disk")})
    assert told.value.__notes__ == ["in shard 1"]
    assert script.said[3:] == [
        "abandon 1", "snapshot 0", "close 0", "released 0", "snapshot 2", "close 2", "released 2", "closed",
    ]  # fmt: skip


def test_a_loop_that_cannot_be_opened_is_never_snapshotted() -> None:
    script = Script(changes(gained="0"), changes(gained="1"))
    with pytest.raises(OSError, match="folder"):
        run(script, fails={"resume 1": OSError("folder")})
    assert script.said[1:] == ["resume 1", "abandon 1", "snapshot 0", "close 0", "released 0", "closed"]


def test_a_snapshot_that_fails_at_the_end_keeps_no_other_from_being_written() -> None:
    script = Script(changes(gained="01"))
    with pytest.raises(OSError, match="disk full"):
        run(script, fails={"snapshot 0": OSError("disk full")})
    assert script.said[2:] == [
        "snapshot 0", "abandon 0", "released 0", "snapshot 1", "close 1", "released 1", "closed",
    ]  # fmt: skip


def test_further_errors_at_the_end_are_noted_with_the_first() -> None:
    script = Script(changes(gained="01"))
    with pytest.raises(OSError, match="first") as told:
        run(script, fails={"turn 0": OSError("first"), "snapshot 1": OSError("second")})
    assert told.value.__notes__ == ["in shard 0", "and then, in shard 1: OSError('second')"]


def test_an_error_of_the_membership_leaves_all_shards_without_a_snapshot() -> None:
    script = Script(changes(gained="01"), FencedMember("another process runs as instance 'a'"))
    with pytest.raises(FencedMember):
        run(script)
    assert script.said[2:] == ["abandon 0", "abandon 1", "closed"]


def test_a_shard_that_another_has_claimed_is_left_and_the_membership_may_say_so_later() -> None:
    script = Script(changes(gained="0"), None, None, changes(lost="0"))
    assert not run(script, rounds=20, fails={"turn 0": StaleWriter("taken over")})
    assert script.said == ["resume 0", "abandon 0", "closed"]


def test_a_shard_that_another_has_claimed_while_this_process_stays_its_owner_is_an_error() -> None:
    script = Script(changes(gained="0"), patience=5.0)
    clock = ManualClock()
    with pytest.raises(StaleWriter, match="taken over"):
        run(script, rounds=20, fails={"turn 0": StaleWriter("taken over")}, clock=clock)
    assert clock.monotonic() >= 5.0
    with pytest.raises(StaleWriter):  # without a group there is nothing to wait for
        Fleet(Alone(), lambda shard: Turning(shard, [], 9, {"turn 0": StaleWriter("taken over")})).run()


def test_a_shard_that_was_another_s_before_its_hand_over_is_released_all_the_same() -> None:
    script = Script(changes(gained="0"), changes(revoked="0"))
    run(script, fails={"snapshot 0": StaleWriter("taken over")})
    assert script.said == ["resume 0", "snapshot 0", "abandon 0", "released 0", "closed"]


def test_what_goes_wrong_while_a_loop_is_abandoned_is_nobody_s_loss() -> None:
    script = Script(changes(gained="0"), changes(lost="0"))
    run(script, fails={"abandon 0": OSError("no connection")})
    assert script.said == ["resume 0", "abandon 0", "closed"]
