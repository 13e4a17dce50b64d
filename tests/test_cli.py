"""The command line: quick help, clear errors, attach and go on."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from kafka import TopicPartition as KafkaPartition

from engine.checkpoint import CheckpointStore
from engine.cli import main
from engine.deadletters.refusal import KEPT_BYTES, Refusal
from streams.broker import KafkaLog, connect_consumer, ensure_topics
from streams.codecs import encode_event, encode_json, encode_label
from streams.event import Event, Label, Malformed, Position, Record
from streams.log import EmbeddedLog


def everlearn(*arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Run the command line in this process: exit code, what it printed, its errors."""
    before = sys.argv
    sys.argv = ["everlearn", *arguments]
    try:
        main()
        code: Any = 0
    except SystemExit as end:
        code = end.code or 0
    finally:
        sys.argv = before
    out, err = capsys.readouterr()
    return code, out, err


def write_log(path: Path, n: int = 200, start: int = 0) -> None:
    """Events, their labels some events later, and one record that is neither."""
    chance = random.Random(start)
    with EmbeddedLog(path) as log:
        for i in range(start, start + n):
            x = {"a": chance.gauss(0, 1), "shop": chance.choice(["n", "s"])}
            event = Event(id=str(i), time=float(i), features=x)
            log.append("orders", 0, event.id, event.time, encode_event(event))
            label = Label(id=str(i), time=i + 5.5, label=bool(x["a"] > 0))
            log.append("paid", 0, label.id, label.time, encode_label(label))
        log.append("orders", 0, "?", start + n, b"{broken")


def attach_arguments(folder: Path, *more: str) -> list[str]:
    arguments = ["run", "--log", str(folder / "log.sqlite"), "--snapshots", str(folder / "snapshots")]
    return [*arguments, "--events", "orders", "--labels", "paid", "--key", "shop", *more]


def read(folder: Path, topic: str) -> list[dict[str, Any]]:
    with EmbeddedLog(folder / "log.sqlite") as log:
        return [json.loads(row.value) for row in log.read(topic, 0, 0, 10_000)]


def test_help_imports_nothing_heavy() -> None:
    code = "import sys; from engine.cli import app; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"torch", "numba", "numpy", "river", "kafka", "pyarrow", "pandas", "rich.live"}
    assert heavy & set(found.stdout.split()) == set()


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = everlearn("--help", capsys=capsys)
    assert code == 0
    assert {"demo", "run", "evaluate", "checkpoint", "dlq", "doctor", "warmup"} <= set(out.split())


def test_run_answers_learns_and_keeps_what_it_cannot_use(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_log(tmp_path / "log.sqlite")
    more = ["--from", "beginning", "--bounded", "--dead", "orders.dead"]
    code, out, err = everlearn(*attach_arguments(tmp_path, *more), capsys=capsys)
    assert code == 0, err
    assert "finished: 200 events, 200 labels learned, 1 records refused" in " ".join(out.split())
    answers = read(tmp_path, "orders.forecasts")
    assert [answer["id"] for answer in answers] == [str(i) for i in range(200)]
    assert set(answers[-1]["probabilities"]) == {"true", "false"}
    [dead] = read(tmp_path, "orders.dead")
    assert dead["record"] == "{broken"


@pytest.mark.kafka
def test_large_records_that_are_unusable_do_not_stop_a_run_that_keeps_dead_letters(
    tmp_path: Path, broker: str, topic: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    orders, letters, broken = topic("orders"), topic("letters"), random.Random(0).randbytes(614_000)
    ensure_topics(broker, {orders: 1, letters: 1})
    with closing(KafkaLog(broker)) as log:
        event = encode_event(Event(id="a", time=1.0, features={"x": 1}))
        named = event.replace(b'"a"', b'"%s"' % (b"i" * 600_000))  # key and value of its answer repeat the id
        log.append_many(orders, 0, [("?", 0.0, broken), ("?", 0.0, named), ("a", 1.0, event)])
    arguments = ["run", "--broker", broker, "--events", orders, "--dead", letters, "--bounded"]
    folder = ["--snapshots", str(tmp_path), "--from", "beginning"]
    code, out, err = everlearn(*arguments, *folder, capsys=capsys)
    assert code == 0, err
    assert "finished: 1 events, 0 labels learned, 2 records refused" in " ".join(out.split())
    with closing(connect_consumer(broker)) as consumer:
        consumer.assign([where := KafkaPartition(letters, 0)])
        consumer.seek_to_beginning(where)
        letters_kept = [json.loads(kept.value) for kept in consumer.poll(timeout_ms=10_000)[where]]
    letter, of_named = letters_kept
    assert of_named["reason"].startswith("id has 600,000 characters; expected at most 1,024")
    assert base64.b64decode(letter["record_base64"]) == broken[:KEPT_BYTES]
    assert letter["record_bytes"] == 614_000
    assert letter["record_sha256"] == hashlib.sha256(broken).hexdigest()
    assert (letter["topic"], letter["partition"], letter["offset"]) == (orders, 0, 0)


@pytest.mark.parametrize("character", ["\x01", "\\", "é", "\U0001f600"])
def test_a_dead_letter_stays_below_what_a_broker_takes_whatever_was_refused(character: str) -> None:
    text = character * 900_000
    items = [
        Malformed(raw=text.encode(), error="unreadable"),
        Event(id=text, time=1.0, features={text: text}),
        Label(id="a", time=1.0, label=text),
    ]
    for item in items:
        record = Record(Position("orders", 0, 7), item, key=text.encode(), headers=((text, text.encode()),))
        letter = Refusal(record, f"label is {text}", 1.0).message()
        assert letter["record_bytes"] >= 900_000
        assert len(encode_json(letter)) < 700_000


def test_run_without_dead_letters_says_why_records_were_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_log(tmp_path / "log.sqlite")
    more = ["--from", "beginning", "--bounded"]
    code, out, err = everlearn(*attach_arguments(tmp_path, *more), capsys=capsys)
    assert code == 0, err
    assert "1 refused, the first at orders 0:200: " in " ".join(out.split())


def test_run_goes_on_with_what_has_come_since(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_log(tmp_path / "log.sqlite")
    assert everlearn(*attach_arguments(tmp_path, "--from", "beginning", "--bounded"), capsys=capsys)[0] == 0
    write_log(tmp_path / "log.sqlite", start=200)
    code, out, err = everlearn(*attach_arguments(tmp_path, "--bounded"), capsys=capsys)
    assert code == 0, err
    assert "goes on from" in out
    assert len(read(tmp_path, "orders.forecasts")) == 400


def test_a_live_run_answers_what_comes_until_sigterm_and_leaves_a_snapshot(tmp_path: Path) -> None:
    write_log(tmp_path / "log.sqlite", n=20)
    arguments = attach_arguments(tmp_path, "--from", "beginning")
    process = subprocess.Popen(
        [sys.executable, "-m", "engine.cli", *arguments], stdout=subprocess.PIPE, text=True
    )
    wait_for_answers(tmp_path, 20)
    write_log(tmp_path / "log.sqlite", n=20, start=20)
    wait_for_answers(tmp_path, 40)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "stopped: 40 events" in out
    latest = CheckpointStore(tmp_path / "snapshots").latest()
    assert latest is not None
    assert latest.meta["cursor"] == 40


def test_a_live_run_learns_what_stands_in_the_log_in_the_order_of_a_bounded_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("live", "bounded"):
        (tmp_path / name).mkdir()
        write_log(tmp_path / name / "log.sqlite", n=700)
    code, _, err = everlearn(
        *attach_arguments(tmp_path / "bounded", "--from", "beginning", "--bounded"), capsys=capsys
    )
    assert code == 0, err
    arguments = attach_arguments(tmp_path / "live", "--from", "beginning")
    process = subprocess.Popen([sys.executable, "-m", "engine.cli", *arguments], stdout=subprocess.PIPE)
    wait_for_answers(tmp_path / "live", 700)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 0
    live, bounded = (
        [(answer["id"], answer["version"]) for answer in read(tmp_path / name, "orders.forecasts")]
        for name in ("live", "bounded")
    )
    assert live == bounded
    assert bounded[-1] == ("699", 694)  # each event after the labels of the time before it, and no others


def wait_for_answers(folder: Path, count: int) -> None:
    deadline = time.monotonic() + 120
    while len(read(folder, "orders.forecasts")) < count:
        assert time.monotonic() < deadline
        time.sleep(0.05)


RUN = ["run", "--events", "e", "--snapshots", "s", "--log", "no.sqlite", "--from", "end"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "--events", "e", "--snapshots", "s", "--log", "no.sqlite"], "--from is not given"),
        (["run", "--events", "e", "--snapshots", "s", "--log", "no.sqlite", "--from", "end"], "no such file"),
        (["run", "--events", "e", "--snapshots", "s", "--from", "end"], "one of --log FILE and --broker"),
        (["run", "--events", "e", "--snapshots", "s", "--from", "end", "--log", "text"], "text"),
        (["run", "--events", "e", "--snapshots", "s", "--from", "end", "--broker", "127.0.0.1:1"], "broker"),
        ([*RUN, "--forecasts", "e"], "--forecasts and --events are both topic 'e'"),
        ([*RUN, "--labels", "l", "--forecasts", "l"], "--forecasts and --labels are both topic 'l'"),
        ([*RUN, "--labels", "e.forecasts"], "--forecasts and --labels are both topic 'e.forecasts'"),
        ([*RUN, "--dead", "e"], "--dead and --events are both topic 'e'"),
        ([*RUN, "--labels", "l", "--dead", "l"], "--dead and --labels are both topic 'l'"),
        ([*RUN, "--forecasts", "f", "--dead", "f"], "--forecasts and --dead are both topic 'f'"),
        (["demo", "--out", "text"], "cannot be used as a folder"),
        (["checkpoint", "ls", "nothing"], "holds no snapshot"),
        (["checkpoint", "verify", "nothing"], "no such file"),
        (["checkpoint", "verify", "text"], "not a checkpoint"),
        (["checkpoint", "inspect", "text"], "not a checkpoint"),
        (["evaluate", "nothing.csv"], "nothing.csv"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_work_is_one_line_and_exit_code_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text").write_text("this is neither a log nor a checkpoint, merely text\n" * 9)
    code, _, err = everlearn(*arguments, capsys=capsys)
    assert code == 2
    assert said in err
    assert len(err.splitlines()) == 1
    assert "Traceback" not in err


def test_a_snapshot_can_be_listed_inspected_and_verified(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_log(tmp_path / "log.sqlite", n=20)
    everlearn(*attach_arguments(tmp_path, "--from", "beginning", "--bounded"), capsys=capsys)
    folder = tmp_path / "snapshots"
    _, listed, _ = everlearn("checkpoint", "ls", str(folder), capsys=capsys)
    newest = folder / listed.splitlines()[-1].split()[0]
    _, shown, _ = everlearn("checkpoint", "inspect", str(newest), capsys=capsys)
    assert json.loads(shown)["counts"]["events"] == 20
    assert ["orders", 0, 21] in json.loads(shown)["positions"]
    assert everlearn("checkpoint", "verify", str(folder), capsys=capsys)[0] == 0
    newest.write_bytes(newest.read_bytes()[:-1])
    code, out, err = everlearn("checkpoint", "verify", str(folder), capsys=capsys)
    assert code == 2
    assert newest.name in err
    assert "whole" in out


def test_answers_are_never_written_into_what_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_log(tmp_path / "log.sqlite", n=20)
    code, _, err = everlearn(
        *attach_arguments(tmp_path, "--from", "beginning", "--bounded", "--forecasts", "paid"), capsys=capsys
    )
    assert code == 2
    assert "Use another --forecasts" in err
    with EmbeddedLog(tmp_path / "log.sqlite") as log:
        assert {partition.topic: end for partition, end in log.end_offsets().items()} == {
            "orders": 21,
            "paid": 20,
        }


def test_one_topic_may_hold_events_and_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with EmbeddedLog(tmp_path / "log.sqlite") as log:
        log.append("orders", 0, "a", 1.0, encode_event(Event(id="a", time=1.0, features={"x": 1})))
        log.append("orders", 0, "a", 2.0, encode_label(Label(id="a", time=2.0, label=True)))
    arguments = attach_arguments(tmp_path, "--from", "beginning", "--bounded")
    code, out, err = everlearn(*arguments, "--labels", "orders", capsys=capsys)
    assert code == 0, err
    assert "1 events, 1 labels learned" in " ".join(out.split())


def test_snapshots_of_other_options_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_log(tmp_path / "log.sqlite", n=20)
    everlearn(*attach_arguments(tmp_path, "--from", "beginning", "--bounded"), capsys=capsys)
    code, _, err = everlearn(*attach_arguments(tmp_path, "--bounded", "--seed", "3"), capsys=capsys)
    assert code == 2
    assert "seed is 0 there, asked for 3" in err


def test_doctor_finds_what_is_there_and_what_lacks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert everlearn("doctor", "--out", str(tmp_path), capsys=capsys)[0] == 0
    code, out, _ = everlearn("doctor", "--broker", "127.0.0.1:1", capsys=capsys)
    assert code == 2
    assert "NO  broker" in out


def test_warmup_says_how_long_it_took(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = everlearn("warmup", capsys=capsys)
    assert code == 0
    assert "kernels" in out


def test_the_module_can_be_run_as_a_command() -> None:
    environment = {**os.environ, "COLUMNS": "100"}
    command = [sys.executable, "-m", "engine.cli", "--help"]
    found = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert "Learns from live data streams" in found.stdout


def test_run_ends_with_its_figures_and_names_topics_that_are_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_log(tmp_path / "log.sqlite")
    more = ["--from", "beginning", "--bounded"]
    code, out, err = everlearn(*attach_arguments(tmp_path, *more), capsys=capsys)
    assert code == 0, err
    assert "200 labels, accuracy" in " ".join(out.split())
    arguments = ["run", "--log", str(tmp_path / "log.sqlite"), "--events", "orderz", *more]
    code, out, err = everlearn(*arguments, "--snapshots", str(tmp_path / "other"), capsys=capsys)
    assert code == 2
    assert "'orderz' is no topic" in " ".join(err.split())
    assert "orders" in err
    assert not list((tmp_path / "other").glob("*")) if (tmp_path / "other").exists() else True


def test_run_learns_a_file_of_history_and_goes_over_to_the_topic(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_log(tmp_path / "log.sqlite")
    with EmbeddedLog(tmp_path / "log.sqlite") as log:
        rows = log.read("orders", 0, 0, 200)
    lines = b"\n".join(row.value for row in rows[:120])
    (tmp_path / "past.jsonl").write_bytes(lines)
    arguments = attach_arguments(tmp_path, "--from", str(tmp_path / "past.jsonl"), "--bounded")
    for records in (200, 200):
        code, out, err = everlearn(*arguments, capsys=capsys)
        assert code == 0, err
        assert f"finished: {records} events, 200 labels learned" in " ".join(out.split())
    assert [answer["id"] for answer in read(tmp_path, "orders.forecasts")] == [
        str(i) for i in range(120, 200)
    ]


def test_run_begins_at_a_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_log(tmp_path / "log.sqlite")
    with EmbeddedLog(tmp_path / "log.sqlite") as log:
        time = log.read("orders", 0, 150, 1)[0].time
    arguments = attach_arguments(tmp_path, "--from", str(time), "--bounded")
    code, out, err = everlearn(*arguments, capsys=capsys)
    assert code == 0, err
    assert "finished: 50 events" in " ".join(out.split())


def test_a_run_of_which_most_records_cannot_be_used_stops_and_goes_on_when_told_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with EmbeddedLog(tmp_path / "log.sqlite") as log:
        log.append_many("orders", 0, [(str(i), 0.0, b"{broken") for i in range(509)])
        log.append("paid", 0, "a", 1.0, encode_label(Label(id="a", time=1.0, label=True)))
    more = ["--from", "beginning", "--bounded", "--dead", "orders.dead"]
    for _ in range(2):
        code, _, err = everlearn(*attach_arguments(tmp_path, *more), capsys=capsys)
        assert code == 2
        assert "501 of the last 1,000 records were refused, more than 50 %" in err
        assert "--past-refused" in err
        assert len(read(tmp_path, "orders.dead")) == 501
    more.append("--past-refused")
    code, _, err = everlearn(*attach_arguments(tmp_path, *more), capsys=capsys)
    assert code == 0, err
    assert len(read(tmp_path, "orders.dead")) == 509


def _with_log(folder: Path, form: str) -> list[str]:
    file = folder / "run.toml"
    file.write_text(f'[log]\nformat = "{form}"\n')
    return attach_arguments(folder, "--config", str(file), "--bounded")


@pytest.mark.parametrize("form", ["json", "console"])
def test_the_error_that_a_run_ends_with_is_its_last_line_and_holds_nothing_of_a_record(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    arguments = _with_log(tmp_path, form)
    code, _, err = everlearn(*arguments, capsys=capsys)
    assert code == 2
    [line] = err.splitlines()
    assert "--from is not given" in line
    assert "failed" in line
    with EmbeddedLog(tmp_path / "log.sqlite") as log:
        bad = [(str(i), 0.0, b'{"id":"a","time":1,"features":{"Rosebud":[]}}') for i in range(509)]
        log.append_many("orders", 0, bad)
        log.append("paid", 0, "a", 1.0, encode_label(Label(id="a", time=1.0, label=True)))
    code, _, err = everlearn(*arguments, "--from", "beginning", capsys=capsys)
    assert code == 2
    lines = err.splitlines()
    assert "501 of the last 1,000 records were refused" in lines[-1]
    assert "--past-refused" in lines[-1]
    assert "Rosebud" not in err
    if form == "json":
        last = [json.loads(line) for line in lines][-1]
        assert (last["event"], last["level"], last["shard"]) == ("failed", "error", None)


def test_an_error_that_nobody_foresaw_is_a_line_with_the_place_and_exit_code_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any, **more: Any) -> bool:
        logging.getLogger("engine.fleet").warning("shard %s is another's", 0)
        raise KeyError("Rosebud")

    monkeypatch.setattr("engine.fleet.Fleet.run", broken)
    write_log(tmp_path / "log.sqlite", n=2)
    code, _, err = everlearn(*_with_log(tmp_path, "json"), "--from", "beginning", capsys=capsys)
    assert code == 1
    note, last = (json.loads(line) for line in err.splitlines())
    assert (note["event"], note["level"], note["note"]) == ("note", "warning", "shard 0 is another's")
    assert (last["event"], last["reason"]) == ("failed", "KeyError: …")
    assert last["trace"][-1].endswith("in broken")
    assert "Rosebud" not in err
