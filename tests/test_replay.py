"""Replay: the model as of any offset comes out to the bit, by the order that the live run took."""

from __future__ import annotations

import hashlib
import json
import random
import sys
from pathlib import Path
from typing import Any

import pytest
from plain_learner import PlainLearner
from test_run_order import E1, E, Killed, Log, Producer, contents, make_log, none, open_loop

from engine import OnlineClassifier
from engine.checkpoint import CheckpointStore
from engine.cli import main
from engine.evaluate.metrics import PrequentialMetrics
from engine.order import Order
from engine.replay import (
    Recorded,
    Replayed,
    ReplayError,
    recorded_behind,
    recorded_from_scratch,
    replay,
)
from engine.run import Loop
from engine.shard import Shard
from engine.side_by_side import Answers, Losses, agreement, compared
from engine.switch import Switch
from streams.clock import ManualClock
from streams.codecs import encode_event, encode_label
from streams.errors import PositionLost
from streams.event import Event, Label, Malformed, Position, TopicPartition
from streams.lines import LinesSink, NoSink
from streams.log import EmbeddedLog
from streams.merge import MergedSource
from streams.replay import ListSink, ListSource
from streams.stretch import Stretch

PLACES = [Position("e", 0, 1), Position("e", 0, 60), Position("e", 1, 37), Position("l", 0, 111)]


def state_of(shard: Shard) -> str:
    """A digest of everything that changes."""
    arrays, meta = shard.state()
    whole = [sorted((name, array.tobytes().hex()) for name, array in arrays.items()), meta]
    return hashlib.sha256(json.dumps(whole, default=str).encode()).hexdigest()


class Live:
    """A live run over a growing log, killed now and then, that remembers what it was in front of some records."""

    def __init__(self, folder: Path, seed: int, kills: int = 4, frozen: bool = False) -> None:
        self.whole, self.sink = make_log(), ListSink()
        self.producer = Producer(self.whole, none(), seed)
        self.as_of: dict[Position, str] = {}
        self.folder = folder
        chance = random.Random(seed)
        switch = Switch(folder) if frozen else None
        for kill in [*sorted(chance.sample(range(5, 395), kills)), 10**9]:
            loop = open_loop(self.producer.log, self.sink, folder, self.producer, switch=switch)
            loop.every_records = 40
            if loop.store is not None:
                loop.store.keep = 100
            loop.resume()
            self.before, self.at = state_of(loop.shard), loop.positions
            if switch is not None:
                switch.set(100 < kill < 300)
            try:
                loop.run(lambda loop=loop, kill=kill: self.stop(loop, kill))
            except Killed:
                for _ in range(chance.randrange(4)):
                    self.producer()
        self.loop = loop

    def stop(self, loop: Loop, kill: int) -> bool:
        """Remember; what is asked again for the same record changes nothing, what a later life does counts."""
        if loop.positions == self.at:
            return self.producer.finished and sum(loop.positions.values()) == 400
        for place in PLACES:
            partition = TopicPartition(*place[:2])
            at, before = loop.positions.get(partition, 0), self.at.get(partition, 0)
            if (before, at) == (place.offset, place.offset + 1):
                self.as_of[place] = self.before
        self.at = loop.positions
        self.before = state_of(loop.shard)
        if sum(loop.positions.values()) >= kill:
            raise Killed
        return self.producer.finished and sum(loop.positions.values()) == 400


def again(log: Log, recorded: Recorded, **options: Any) -> tuple[Replayed, ListSink]:
    sink = ListSink()
    shard = Shard(PlainLearner(), PrequentialMetrics())
    return replay(shard, MergedSource(ListSource(log), ahead=7), sink, recorded, **options), sink


@pytest.mark.parametrize("seed", range(4))
def test_the_model_as_of_an_offset_is_the_live_one_to_the_bit(tmp_path: Path, seed: int) -> None:
    live = Live(tmp_path, seed)
    whole, answers = again(live.whole, recorded_from_scratch(tmp_path))
    assert contents_of(whole) == contents(live.loop)
    assert answers.messages == live.sink.messages
    snapshots = [entry.path for entry in CheckpointStore(tmp_path).ls()]
    from_snapshots = 0
    for place in PLACES:
        found, answers = again(live.whole, recorded_from_scratch(tmp_path), until=place)
        assert state_of(found.shard) == live.as_of[place]
        assert found.positions[E._replace(topic=place.topic, partition=place.partition)] == place.offset
        for path in snapshots:
            try:
                found, tail = again(live.whole, recorded_behind(path), until=place)
            except ReplayError:  # it is of a later moment
                continue
            assert state_of(found.shard) == live.as_of[place]
            assert tail.messages == answers.messages[len(answers.messages) - len(tail.messages) :]
            from_snapshots += found.records > 0
    assert from_snapshots > 10


def contents_of(found: Replayed) -> Any:
    arrays, meta = found.shard.state()
    return {name: array.tobytes() for name, array in arrays.items()}, meta


def test_learning_is_frozen_and_thawed_where_it_was(tmp_path: Path) -> None:
    live = Live(tmp_path, 2, frozen=True)
    assert live.loop.shard.counts.unlearned > 20
    found, _ = again(live.whole, recorded_from_scratch(tmp_path))
    assert contents_of(found) == contents(live.loop)
    for place in PLACES:
        assert (
            state_of(again(live.whole, recorded_from_scratch(tmp_path), until=place)[0].shard)
            == (live.as_of[place])
        )


def test_a_run_that_began_in_the_middle_is_replayed_from_there(tmp_path: Path) -> None:
    log, sink = make_log(), ListSink()
    loop = open_loop(log, sink, tmp_path)
    loop.source.seek({E: 40, E1: 40, E._replace(topic="l"): 70})
    loop.run(lambda: sum(loop.positions.values()) == 400)
    found, answers = again(log, recorded_from_scratch(tmp_path))
    assert answers.messages == sink.messages
    assert contents_of(found) == contents(loop)

    class Expired(ListSource):
        def seek(self, positions: Any) -> None:
            raise PositionLost("offset 40 has expired")

    shard = Shard(PlainLearner(), PrequentialMetrics())
    with pytest.raises(PositionLost, match="replay from one of its snapshots"):
        replay(shard, MergedSource(Expired(log)), NoSink(), recorded_from_scratch(tmp_path))


def test_nothing_of_the_live_run_is_written(tmp_path: Path) -> None:
    live = Live(tmp_path, 1)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    again(live.whole, recorded_from_scratch(tmp_path))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_without_a_recorded_order_records_come_by_event_time() -> None:
    log = make_log()
    found, sink = again(log, Recorded())
    times = [message["time"] for _, message in sink.messages]
    assert times == sorted(times)
    assert found.records == 400
    assert found.figures["events"] == 200


def test_a_stretch_by_time_holds_what_came_between_and_its_figures_alone() -> None:
    log = make_log()
    found, sink = again(log, Recorded(), since=50.0, before=100.0)
    assert [message["time"] for _, message in sink.messages] == [float(i) for i in range(50, 100)]
    assert found.figures["events"] == found.shard.counts.learned
    assert 30 < found.figures["events"] < 50


def test_from_a_snapshot_the_figures_are_those_of_the_labels_since(tmp_path: Path) -> None:
    live = Live(tmp_path, 0, kills=0)
    for entry in CheckpointStore(tmp_path).ls()[1:-1]:
        recorded = recorded_behind(entry.path)
        assert recorded.snapshot is not None
        learned = recorded.snapshot.meta["shard"]["counts"]["learned"]
        found, _ = again(live.whole, recorded)
        assert found.figures["events"] == live.loop.shard.counts.learned - learned
        assert contents_of(found) == contents(live.loop)


def test_a_time_and_marks_that_lie_behind_it(tmp_path: Path) -> None:
    live = Live(tmp_path, 2, frozen=True)
    found, sink = again(live.whole, recorded_from_scratch(tmp_path), since=150.0)
    times = [message["time"] for _, message in sink.messages]
    assert len(times) > 0
    assert found.records < 400
    kept = [message for _, message in live.sink.messages]
    first = next(i for i, message in enumerate(kept) if message["id"] == sink.messages[0][1]["id"])
    assert [m["id"] for _, m in sink.messages] == [m["id"] for m in kept[first:]]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"until": Position("e", 0, 101)}, "topic 'e' partition 0 offset 101 is not come to"),
        ({"before": 1e6}, "time 1e\\+06 is not come to"),
        ({"since": 1e6}, "no record is of time 1e\\+06 or later"),
        ({"since": 50.0, "until": Position("e", 0, 3)}, "begins at 25, which is behind 3"),
    ],
)
def test_an_end_that_does_not_come_is_told(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ReplayError, match=told):
        again(make_log(), Recorded(), **options)


def test_the_end_of_a_topic_is_an_end_too() -> None:
    found, _ = again(make_log(), Recorded(), until=Position("e", 0, 100))
    assert found.records == 400


def test_a_snapshot_and_a_time_together_are_refused(tmp_path: Path) -> None:
    Live(tmp_path, 0, kills=0)
    newest = CheckpointStore(tmp_path).ls()[-1].path
    with pytest.raises(ReplayError, match="not both"):
        again(make_log(), recorded_behind(newest), since=5.0)
    with pytest.raises(ReplayError, match=r"other\.safetensors is no snapshot of a run"):
        recorded_behind(tmp_path / "other.safetensors")


def test_at_speed_1_a_record_comes_when_its_time_has_come() -> None:
    clock, came = ManualClock(), []
    items: list[Any] = [Event(id=str(i), time=100.0 + i * i, features={}) for i in range(6)]
    items.insert(3, Malformed(raw=b"{", error="no"))
    for speed in (1.0, 50.0):
        began = clock.monotonic()
        part = Stretch(MergedSource(ListSource(items)), speed=speed, clock=clock)
        came = []
        while not part.exhausted:
            for record in part.poll(4, 0.2):
                if isinstance(record.item, Event):
                    came.append(clock.monotonic() - began)
        assert came == pytest.approx([i * i / speed for i in range(6)])


def test_two_configurations_are_compared_label_by_label() -> None:
    log = make_log(400)
    runs = []
    for rate in (0.05, 0.0):
        losses, said = Losses(), Answers(NoSink())
        shard = Shard(PlainLearner(rate), PrequentialMetrics())
        found = replay(shard, MergedSource(ListSource(log)), said, losses=losses)
        runs.append((losses, said, found))
    (a, said_a, found_a), (b, said_b, found_b) = runs
    found = compared(a, b)
    assert found["labels"] == 400
    wanted = found_b.figures["log_loss"] - found_a.figures["log_loss"]
    assert found["loss"]["difference"] == pytest.approx(wanted, abs=0.05)
    assert found["loss"]["difference"] > found["loss"]["half_width"] > 0
    accuracy = found_a.figures["accuracy"] - found_b.figures["accuracy"]
    assert found["wrong"]["difference"] == pytest.approx(accuracy)
    same = compared(a, a)
    assert (same["loss"]["difference"], same["loss"]["half_width"]) == (0.0, 0.0)
    told = agreement(said_a, said_b)
    assert told["events"] == 400
    assert 0.2 < told["equal"] < 0.8
    assert agreement(said_a, said_a)["equal"] == 1.0


def test_comparing_changes_nothing_of_what_is_learned() -> None:
    log = make_log()
    shards = []
    for losses in (None, Losses()):
        shard = Shard(PlainLearner(), PrequentialMetrics())
        shards.append(replay(shard, MergedSource(ListSource(log)), NoSink(), losses=losses).shard)
    shards[1].witness = None
    assert state_of(shards[0]) == state_of(shards[1])


def test_labels_that_only_one_side_learned_are_left_out_of_the_comparison() -> None:
    a, b = Losses(), Losses()
    forecast = type("F", (), {"id": "x"})
    a.saw(None, forecast, {0: 0.5, 1: 0.5}, 1, 0.0)
    assert compared(a, b) == {
        "labels": 0,
        "loss": {"difference": None, "half_width": None},
        "wrong": None,
    }
    assert agreement(Answers(NoSink()), Answers(NoSink())) == {"events": 0, "equal": None}


def test_answers_in_a_file_are_one_object_a_line(tmp_path: Path) -> None:
    sink = LinesSink(tmp_path / "answers.jsonl")
    sink.write("a", {"id": "a"})
    kept = sink.cursor()
    sink.write("b", {"id": "b"})
    sink.rewind(kept)
    sink.write("c", {"id": "c"})
    sink.close()
    sink.close()
    assert [json.loads(line) for line in sink.path.read_text().splitlines()] == [{"id": "a"}, {"id": "c"}]
    with pytest.raises(FileExistsError):
        LinesSink(tmp_path / "answers.jsonl")
    with pytest.raises(ValueError, match="cursor is 99"):
        LinesSink(tmp_path / "other.jsonl").rewind(99)


# -- the command ---------------------------------------------------------------------------------------------


def everlearn(*arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Run the command line in this process."""
    before, sys.argv = sys.argv, ["everlearn", *arguments]
    try:
        main()
        code: Any = 0
    except SystemExit as end:
        code = end.code or 0
    finally:
        sys.argv = before
    out, err = capsys.readouterr()
    return code, out, err


def write_log(path: Path, n: int = 120) -> None:
    """Events in two partitions and their labels, which cross them."""
    chance = random.Random(4)
    with EmbeddedLog(path) as log:
        for i in range(n):
            x = {"amount": chance.gauss(0, 1), "shop": chance.choice("ab")}
            event = Event(id=str(i), time=1000.0 + i, features=x)
            log.append("orders", i % 2, str(i), event.time, encode_event(event))
            label = Label(id=str(i), time=1000.0 + i + chance.uniform(1, 20), label=x["amount"] > 0)
            log.append("paid", 0, str(i), label.time, encode_label(label))


def test_the_command_follows_a_run_and_saves_the_model_as_of_an_offset(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, folder = tmp_path / "log.sqlite", tmp_path / "snapshots"
    write_log(log)
    run = ["run", "--log", str(log), "--events", "orders", "--labels", "paid", "--key", "shop"]
    run += ["--snapshots", str(folder), "--from", "beginning", "--bounded", "--seed", "5"]
    assert everlearn(*run, capsys=capsys)[0] == 0
    latest = CheckpointStore(folder).latest()
    assert latest is not None
    model = {
        name[8:]: array.tobytes() for name, array in latest.arrays.items() if name.startswith("learner/")
    }

    where = ["replay", "--log", str(log), "--snapshots", str(folder), "--json"]
    outputs = ["--save", str(tmp_path / "whole"), "--to", "orders.again"]
    code, out, err = everlearn(*where, *outputs, capsys=capsys)
    assert code == 0, err
    assert json.loads(out)["events"] == 120
    saved = OnlineClassifier.load(tmp_path / "whole")
    assert {name: array.tobytes() for name, array in saved.state()[0].items()} == model
    with EmbeddedLog(log) as kept:
        again, live = (kept.read(topic, 0, 0, 999) for topic in ("orders.again", "orders.forecasts"))
    assert [row.value for row in again] == [row.value for row in live]
    assert "expected a new one" in everlearn(*where, "--to", "orders.again", capsys=capsys)[2]

    answers = ["--answers", str(tmp_path / "answers.jsonl"), "--until", "orders:1:30"]
    code, out, err = everlearn(*where, *answers, "--save", str(tmp_path / "part"), capsys=capsys)
    assert code == 0, err
    told = json.loads(out)
    assert ["orders", 1, 30] in told["positions"]
    rows = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert rows == [json.loads(row.value) for row in live][: len(rows)]
    assert OnlineClassifier.load(tmp_path / "part").counters()["labels"] == told["events"]

    code, out, err = everlearn(*where, "--against", "learner.linear_rate=0.5", capsys=capsys)
    assert code == 0, err
    told = json.loads(out)
    assert told["compared"]["labels"] == 120
    assert told["first"]["log_loss"] != told["second"]["log_loss"]
    newest = CheckpointStore(folder).ls()[-1].path.name
    code, out, err = everlearn(*where[:-1], "--against", "labels.max_age=3", capsys=capsys)
    assert code == 0, err
    assert "second − first, loss per label" in out
    code, out, err = everlearn(*where, "--from", newest, "--against", "learner.width=8", capsys=capsys)
    assert (code, "a snapshot's learner keeps its options" in err) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--events", "e"], "neither of source.log and source.broker is given"),
        (["--log", "LOG"], "source.events"),
        (["--log", "LOG", "--events", "e", "--set", "rate"], "expected NAME=VALUE"),
        (
            ["--log", "LOG", "--events", "e", "--set", "source.x=1"],
            "'source.x=1' changes nothing of a replay",
        ),
        (
            ["--log", "LOG", "--events", "e", "--set", "labels.max_age=0"],
            "labels.max_age is 0; expected above 0",
        ),
        (
            ["--log", "LOG", "--events", "e", "--set", "learner.rat=1"],
            "learner.rat is no setting; the nearest is learner.rate; see `everlearn config keys`",
        ),
        (["--log", "LOG", "--events", "e", "--against", "learner.rat=1"], "the nearest is learner.rate"),
        (["--log", "LOG", "--events", "e", "--against", "learning.per=9"], "without learning.at_most"),
        (["--log", "LOG", "--events", "e", "--until", "soon"], "'soon' is no time"),
        (["--log", "LOG", "--events", "e", "--snapshots", "none"], "holds no snapshot of shard 0"),
    ],
)
def test_what_cannot_be_replayed_is_told_in_one_line(
    tmp_path: Path,
    arguments: list[str],
    told: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And before anything runs."""
    monkeypatch.setattr("engine.commands.replay._run", None)
    EmbeddedLog(tmp_path / "log").close()
    arguments = [str(tmp_path / "log") if word == "LOG" else word for word in arguments]
    code, _, err = everlearn("replay", *arguments, capsys=capsys)
    assert code == 2
    assert told in " ".join(err.split())


def test_an_order_that_is_being_written_can_be_followed(tmp_path: Path) -> None:
    live = Live(tmp_path, 3)
    files = sorted(tmp_path.glob("*.order"))
    files[-1].write_bytes(files[-1].read_bytes()[:-3])
    assert len(Order(tmp_path).since(0)) > 0
    found, _ = again(live.whole, recorded_from_scratch(tmp_path), until=Position("e", 0, 1))
    assert state_of(found.shard) == live.as_of[Position("e", 0, 1)]
