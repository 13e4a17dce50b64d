"""Log lines: one JSON object each, with where the shard stands, and nothing of what was in a record."""

from __future__ import annotations

import io
import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest
from plain_learner import PlainLearner

from engine.checkpoint import CheckpointStore
from engine.deadletters.refusal import Refusal
from engine.evaluate.metrics import PrequentialMetrics
from engine.observe import Resumed, Several
from engine.observe.logs import KEYS, Logs, wording
from engine.observe.observing import observing
from engine.run import Loop
from engine.shard import Shard
from streams.clock import ManualClock
from streams.event import Event, Label, Malformed, Position, Record, TopicPartition
from streams.replay import ListSink, ListSource

SECRET = "7 Rosebud-Lane"


def make_loop(
    items: list[Any], logs: Logs, folder: Path | None = None, sinks: tuple[ListSink, ListSink] | None = None
) -> Loop:
    shard = Shard(PlainLearner(), PrequentialMetrics())
    store = None if folder is None else CheckpointStore(folder)
    source = ListSource({TopicPartition("e", 0): items})
    answers, dead = sinks or (ListSink(), ListSink())
    return Loop(shard, source, answers, store, dead=dead, observer=logs)


def lines_of(out: io.StringIO) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert all(isinstance(line, dict) for line in lines)
    return lines


def messy() -> list[Any]:
    """Events with labels, and records that are refused for what is in them."""
    items: list[Any] = [
        Event(id=f"{SECRET} {i}", time=float(i), features={"street": 4.25 + i}, label=i % 2)
        for i in range(40)
    ]
    items[7] = Event(id="a", time=7.0, features={"street": SECRET})
    items[9] = Event(id="b", time=9.0, features={"street": 1.0}, label=SECRET)
    items[11] = Malformed(raw=SECRET.encode(), error=f"it's no JSON: '{SECRET}' (byte 0)", time=0.0)
    items[13] = Label(id=f"{SECRET} 12", time=13.0, label=1)
    return items


def test_every_line_is_an_object_that_says_where_the_shard_stands(tmp_path: Path) -> None:
    out = io.StringIO()
    logs = Logs(stream=out)
    loop = make_loop(messy(), logs, tmp_path)
    assert loop.run()
    logs.rebalanced("lost", ["0"])
    logs.waiting("another member owns the topic")
    lines = lines_of(out)
    assert [line["event"] for line in lines if line["event"] != "refused"] == [
        *("started", "saved", "saved", "stopped", "lost", "waiting"),
    ]
    for line in lines:
        assert tuple(line)[: len(KEYS)] == KEYS
        assert line["timestamp"].endswith("Z")
    (stopped,) = [line for line in lines if line["event"] == "stopped"]
    assert (stopped["shard"], stopped["topic"], stopped["partition"], stopped["offset"]) == ("0", "e", 0, 39)
    assert stopped["version"] == stopped["learned"] == loop.shard.counts.learned
    refused = [line for line in lines if line["event"] == "refused"]
    assert [(line["kind"], line["offset"], line["level"]) for line in refused] == [
        *(("event", 7, "warning"), ("event", 9, "warning"), ("malformed", 11, "warning")),
    ]


@pytest.mark.parametrize("format", ["json", "console"])
def test_no_line_holds_anything_of_a_record(format: Any, tmp_path: Path) -> None:
    out = io.StringIO()
    logs = Logs(stream=out, format=format, level="debug", every=1e-9)
    assert make_loop(messy(), logs, tmp_path).run()
    text = out.getvalue()
    assert text.count("refused") >= 3
    for word in ("Rosebud", "Lane", "4.25"):
        assert word not in text


def test_a_line_for_people_says_all_that_the_json_line_says(tmp_path: Path) -> None:
    """Key by key, after the time, the level and what happened."""
    written, read = io.StringIO(), io.StringIO()
    logs = Several(Logs(stream=written), Logs(stream=read, format="console"))
    assert make_loop(messy(), logs, tmp_path).run()
    logs.waiting("another member owns the topic")
    told = read.getvalue().splitlines()
    assert len(told) == len(lines_of(written)) > 6
    for line, shown in zip(lines_of(written), told, strict=True):
        assert shown.split()[0].endswith("Z")
        assert f"[{line['level']:<9}] {line['event']} " in shown
        rest = {name: value for name, value in line.items() if name not in ("timestamp", "level", "event")}
        assert list(rest)[:5] == ["shard", "topic", "partition", "offset", "version"]
        assert re.findall(r" (\w+)=", shown) == list(rest)
        for name in ("shard", "topic", "partition", "offset", "version"):
            assert f" {name}={'–' if line[name] is None else line[name]} " in shown + " "


def test_a_run_that_goes_on_says_from_which_snapshot_and_where_it_stands(tmp_path: Path) -> None:
    sinks = ListSink(), ListSink()
    make_loop(messy(), Logs(stream=io.StringIO()), tmp_path, sinks).run()
    out = io.StringIO()
    make_loop(messy(), Logs(stream=out), tmp_path, sinks).run()
    first = lines_of(out)[0]
    assert (first["event"], first["generation"], first["sequence"]) == ("resumed", 1, 2)
    assert (first["topic"], first["partition"], first["offset"]) == ("e", 0, 39)
    assert first["positions"] == {"e:0": 40}
    assert first["version"] > 0


def test_refusals_of_one_kind_are_told_once_in_a_while_with_how_many_there_were() -> None:
    out, clock = io.StringIO(), ManualClock()
    logs = Logs(stream=out, every=10.0, clock=clock)
    loop = make_loop([], logs)
    for offset in range(1000):
        position = Position("e", 0, offset)
        logs.refused(loop, Refusal(Record(position, Malformed(raw=b"{", error="")), f"byte {offset}", 0.0))
        clock.sleep(0.025)
    logs.stopped(loop, "stopped")
    told = [line["count"] for line in lines_of(out) if line["event"] == "refused"]
    assert len(told) == 4
    assert sum(told) == 1000


def test_progress_is_told_once_in_a_while_and_not_where_nothing_comes() -> None:
    out, clock = io.StringIO(), ManualClock()
    logs = Logs(stream=out, every=10.0, clock=clock)
    loop = make_loop([], logs)
    logs.resumed(loop, Resumed(entry=None, notes=["the record at 3 has expired"]))
    item = Event(id="a", time=0.0, features={})
    for second in range(40):
        records = [Record(Position("e", 0, second), item)] * 5 if second < 20 else []
        logs.turned(loop, records)
        clock.sleep(1.0)
    lines = lines_of(out)
    assert [line["event"] for line in lines] == ["started", "note", "progress", "progress"]
    assert lines[2]["per_second"] == pytest.approx(5.5)
    assert lines[1]["level"] == "warning"


def test_what_a_client_warns_of_again_and_again_is_told_once_in_a_while() -> None:
    out, clock = io.StringIO(), ManualClock()
    with observing(port=None, stream=out, clock=clock):
        for port in range(100):
            logging.getLogger("kafka.conn").error("no connection to\n10.0.0.1:%d", port)
            logging.getLogger("kafka.conn").info("trying")
            clock.sleep(1.0)
        logging.getLogger("streams.group").warning("joining anew")
    lines = lines_of(out)
    assert [(line["event"], line["note"], line["count"], line["level"]) for line in lines] == [
        ("note", "no connection to 10.0.0.1:0", 1, "error"),
        ("note", "no connection to 10.0.0.1:30", 30, "error"),
        ("note", "no connection to 10.0.0.1:60", 30, "error"),
        ("note", "no connection to 10.0.0.1:90", 30, "error"),
        ("note", "joining anew", 1, "warning"),
    ]


def test_the_level_decides_what_is_written() -> None:
    out = io.StringIO()
    make_loop(messy(), Logs(stream=out, level="warning")).run()
    assert {line["level"] for line in lines_of(out)} == {"warning"}
    with pytest.raises(ValueError, match="level is 'loud'"):
        Logs(level="loud")
    with pytest.raises(ValueError, match="format is 'xml'"):
        Logs(format="xml")  # type: ignore[arg-type]


def test_of_a_reason_only_the_words_before_a_value_are_shown() -> None:
    assert wording("the label's value 'don't' is bad") == "the label…"
    assert wording('x is "a"') == "x is …"
    assert wording("a\nb  c") == "a b c"
    assert len(wording("word " * 200)) == 200
