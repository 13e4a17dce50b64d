"""What `everlearn doctor --config` finds: configuration, broker, messages, snapshots, ports; and what to do."""

from __future__ import annotations

import json
import random
import socket
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from kafka.errors import NoOffsetForPartitionError

from engine.cli import main
from engine.config.settings import keys, read_config, variable
from engine.doctor.broker import Topics, examine_topics
from engine.doctor.finding import Finding
from engine.doctor.places import extras, lag
from engine.doctor.sample import Message, fields_of, judge, suggest
from streams.broker import KafkaLog, connect_admin, connect_consumer, ensure_topics
from streams.codecs import decode, encode_event, encode_label
from streams.event import Event, Label
from streams.log import EmbeddedLog

NOW = 1_800_000_000.0


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for path, _ in keys():
        monkeypatch.delenv(variable(path), raising=False)


def everlearn(*arguments: str) -> int:
    """Run the command line in this process."""
    before, sys.argv = sys.argv, ["everlearn", *arguments]
    try:
        main()
        return 0
    except SystemExit as end:
        return int(end.code or 0)
    finally:
        sys.argv = before


def doctor(
    folder: Path, text: str, capsys: pytest.CaptureFixture[str], *more: str
) -> tuple[int, dict[str, tuple[str, str]]]:
    """The exit code, and name → (ok, NO or --, text) of what was found."""
    path = folder / "run.toml"
    path.write_text(text, encoding="utf-8")
    capsys.readouterr()
    code = everlearn("doctor", "--config", str(path), *more)
    out, err = capsys.readouterr()
    assert not err
    found: dict[str, tuple[str, str]] = {}
    for line in out.splitlines():
        name, _, told = line[4:].partition("  ")
        found.setdefault(name, (line[:2], told.strip()))
    return code, found


def messages(*values: Any) -> list[Message]:
    return [Message(f"t 0:{i}", json.dumps(value).encode(), b"k", NOW) for i, value in enumerate(values)]


def event(**more: Any) -> dict[str, Any]:
    return {"id": "a", "time": NOW - 60, "features": {"x": 1}, **more}


def judged(role: Any, *values: Any) -> list[Finding]:
    return list(judge("t", role, messages(*values), decode, NOW))


# -- messages --


def test_messages_that_fit_are_well() -> None:
    assert [found.well for found in judged("events", event(label=1), event())] == [True, True]
    assert [found.well for found in judged("labels", {"id": "a", "time": NOW, "label": 1})] == [True, True]
    both = judged("both", event(), {"id": "a", "time": NOW, "label": 1})
    assert [found.well for found in both] == [True, True]


def test_a_topic_without_messages_is_no_error() -> None:
    [found] = judged("events")
    assert found.well is None


def test_messages_of_another_form_are_told_with_their_fields_and_a_mapping() -> None:
    row = {"order": {"id": "a1", "placed": "2024-05-01T12:00:00Z"}, "amount": 12.5, "label": True}
    [found] = judged("events", row, {**row, "order": {"id": "a2", "placed": "2024-05-01T12:00:01Z"}})
    assert found.well is False
    assert "2 of 2 cannot be read, the first at t 0:0: 2 × id is absent" in found.text
    assert "order.id (text), order.placed (text), amount (number), label (true or false)" in found.text
    assert (
        '[fields] id = "order.id", time = "order.placed", time_unit = "iso", features = "*", target = "label"'
        in found.text
    )


@pytest.mark.parametrize(
    ("role", "rows", "mapping"),
    [
        ("events", [{"id": 1, "ts": 1714521600000}], 'id = "id", time = "ts", time_unit = "ms", features = "*"'),
        ("events", [{"x": 1, "y": 2}] * 2, 'id = "$key", time = "$timestamp", features = "*", target = "y"'),
        ("events", [{"user_id": "u", "event_id": "a", "time": 1714521600},
                    {"user_id": "u", "event_id": "b", "time": 1714521600}],
         'id = "event_id", time = "time", features = "*"'),
        ("labels", [{"order_id": "a", "paid_at": 1714521600000000, "paid": False}],
         'label_id = "order_id", label_time = "paid_at", time_unit = "us", label = "paid"'),
    ],
)  # fmt: skip
def test_a_mapping_is_guessed_by_names_and_values(role: Any, rows: list[Any], mapping: str) -> None:
    assert suggest(messages(*rows), role) == mapping


@pytest.mark.parametrize("raw", [b"", b"\xff\xfe", b"[1]", b"3", b"[" * 5000, b'{"a":' * 3000])
def test_bytes_that_are_no_object_have_no_fields(raw: bytes) -> None:
    message = Message("t 0:0", raw, None, None)
    assert fields_of([message]) == {}
    (found,) = judge("t", "events", [message], decode, NOW)
    assert found.well is False


def test_times_are_told_that_lie_ahead_or_are_of_another_unit() -> None:
    def of(seconds: float) -> Finding:
        return judged("events", event(label=1, time=seconds))[-1]

    assert of(NOW).well is True
    assert (of(NOW * 1e3).well, 'time_unit = "ms"' in of(NOW * 1e3).text) == (False, True)
    assert 'time_unit = "ns"' in of(NOW * 1e9).text
    assert "lies ahead of this clock" in of(NOW + 3 * 86400).text
    assert of(1e300).well is False
    assert (of(5.0).well, "long ago" in of(5.0).text) == (None, True)


def test_labels_among_events_and_events_among_labels_are_told() -> None:
    label = {"id": "a", "time": NOW, "label": 1}
    assert any(found.well is False and "source.labels" in found.text for found in judged("events", label))
    assert any(found.well is False and "are events" in found.text for found in judged("labels", event()))
    assert any(
        found.well is None and "no event carries a label" in found.text for found in judged("events", event())
    )


# -- a log, snapshots and ports --


def orders(path: Path, n: int = 30) -> None:
    chance, now = random.Random(0), time.time()
    with EmbeddedLog(path) as log:
        for i in range(n):
            x = {"a": chance.gauss(0, 1)}
            told = Event(id=str(i), time=now - 900 + i, features=x, label=x["a"] > 0)
            log.append("orders", 0, told.id, told.time, encode_event(told))


def of_log(folder: Path, more: str = "") -> str:
    return (
        f'[source]\nlog = "{folder / "log.sqlite"}"\nevents = "orders"\nfrom = "beginning"\n'
        f'[snapshots]\nfolder = "{folder / "snapshots"}"\n{more}'
    )


def test_a_log_that_fits_is_well_before_and_after_a_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    orders(tmp_path / "log.sqlite")
    text = of_log(tmp_path)
    code, found = doctor(tmp_path, text, capsys)
    assert code == 0, found
    assert found["first run"] == ("ok", "begins at beginning")
    assert found["orders: messages"] == ("ok", "all of 20 can be read")
    assert everlearn("run", "--config", str(tmp_path / "run.toml"), "--bounded") == 0
    orders(tmp_path / "log.sqlite", n=7)
    code, found = doctor(tmp_path, text, capsys)
    assert code == 0, found
    assert "whole, of this configuration" in found["shard 0"][1]
    assert found["shard 0"][1].endswith("at orders 0:30")
    assert found["lag"] == ("ok", "the newest snapshot is 7 records behind")
    code, found = doctor(tmp_path, text + "[learner]\nseed = 3\n", capsys)
    assert code == 2
    assert "learner.seed is 0 there, asked for 3" in found["shard 0"][1]
    for file in (tmp_path / "snapshots").glob("*.safetensors"):
        file.write_bytes(file.read_bytes()[:-1])
    code, found = doctor(tmp_path, text, capsys)
    assert (code, found["shard 0"][0]) == (2, "NO")


def test_what_lacks_is_told_all_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        text = of_log(tmp_path, f"[metrics]\nport = {number}\n").replace('snapshots"', 'file/snapshots"')
        code, found = doctor(tmp_path, text, capsys)
    assert code == 2
    assert found["log"][0] == found["metrics port"][0] == found["snapshots folder"][0] == "NO"
    assert "no such file" in found["log"][1]
    assert "set another metrics.port" in found["metrics port"][1]


def test_a_first_run_needs_to_know_where_to_begin(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    orders(tmp_path / "log.sqlite")
    text = of_log(tmp_path).replace('from = "beginning"\n', "")
    assert doctor(tmp_path, text, capsys)[1]["first run"][0] == "NO"
    text = of_log(tmp_path).replace("beginning", "past/nothing.csv")
    assert "no such file" in doctor(tmp_path, text, capsys)[1]["first run"][1]


def test_mistakes_of_the_configuration_are_findings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = doctor(tmp_path, "[source]\nevent = 'x'\n", capsys)
    assert code == 2
    assert found["configuration"][0] == "NO"


def test_a_topic_that_ends_before_the_snapshot_was_cut() -> None:
    assert lag({("orders", 0): 9}, {("orders", 0): 12, ("orders", 1): 4}).text.endswith("3 records behind")
    found = lag({("orders", 0): 9}, {("orders", 0): 5})
    assert (found.well, "was cut or made anew" in found.text) == (False, True)


def test_extras_are_looked_for_where_they_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run.toml").write_text(
        "[source]\nbroker = 'b:1'\nevents = 'e'\nclient = 'confluent'\n[snapshots]\nfolder = 's'\n"
        "[format]\nevents = 'avro'\n[format.registry]\nurl = 'http://r'\n"
    )
    config = read_config(tmp_path / "run.toml").config
    assert [found.name for found in extras(config)] == ["extra confluent", "extra schema"]
    monkeypatch.setattr("engine.doctor.places.find_spec", lambda name: None)
    assert [found.text for found in extras(config)] == [
        "confluent_kafka missing; pip install 'everlearn[confluent]'",
        "httpx, fastavro missing; pip install 'everlearn[schema]'",
    ]


# -- a broker --


def of_broker(folder: Path, address: str, events: str, more: str = "") -> str:
    return (
        f'[snapshots]\nfolder = "{folder / "snapshots"}"\n[dead]\ntopic = "{events}.dead"\n'
        f'[source]\nbroker = "{address}"\nevents = "{events}"\nfrom = "beginning"\n{more}'
    )


@pytest.mark.kafka
def test_a_broker_that_fits_is_well_and_nothing_is_written(
    tmp_path: Path, broker: str, topic: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    events, labels = topic("orders"), topic("paid")
    ensure_topics(broker, {events: 2, labels: 2})
    now = time.time()
    with closing(KafkaLog(broker)) as log:
        for n in range(2):
            rows = [Event(id=f"{n}-{i}", time=now - 9 + i, features={"x": i}) for i in range(30)]
            log.append_many(events, n, [(e.id, e.time, encode_event(e)) for e in rows])
            log.append_many(
                labels, n, [(e.id, e.time, encode_label(Label(id=e.id, time=now, label=1))) for e in rows]
            )
    more = f'labels = "{labels}"\ngroup = "{topic("group")}"\nshards = "partition"\n'
    code, found = doctor(tmp_path, of_broker(tmp_path, broker, events, more), capsys)
    assert code == 0, found
    assert found[events] == ("ok", "2 partitions, may be read")
    assert found[f"{labels}: messages"] == ("ok", "all of 20 can be read")
    assert found[f"{events}: kept"][0] == "ok"
    assert found[f"{events}.forecasts"] == ("ok", "does not exist yet and will be made")
    assert any(told == ("ok", "no member yet") for name, told in found.items() if name.startswith("group"))
    with closing(connect_consumer(broker)) as consumer:
        there = consumer.topics()
    assert f"{events}.forecasts" not in there
    assert f"{events}.dead" not in there


@pytest.mark.kafka
def test_topics_that_do_not_fit_are_told_each(
    tmp_path: Path, broker: str, topic: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    events, labels = topic("orders"), topic("paid")
    ensure_topics(broker, {events: 2, labels: 1, f"{events}.forecasts": 3})
    with closing(KafkaLog(broker)) as log:
        row = {"order_id": "a", "placed": int(time.time() * 1000)}
        log.append_many(events, 0, [("a", 0.0, json.dumps(row).encode())])
    more = f'labels = "{labels}"\ngroup = "g"\nshards = "partition"\n'
    code, found = doctor(tmp_path, of_broker(tmp_path, broker, events, more), capsys)
    assert code == 2
    assert f"{events} has 2, {labels} has 1; expected equal counts" in found["partitions"][1]
    assert 'id = "order_id", time = "placed", time_unit = "ms"' in found[f"{events}: messages"][1]
    assert found[f"{labels}: messages"][0] == "--"
    code, found = doctor(tmp_path, of_broker(tmp_path, broker, events), capsys)
    assert found[f"{events}.forecasts"] == ("NO", "3 partitions; expected 1 for what is written")
    code, found = doctor(tmp_path, of_broker(tmp_path, broker, events + "s"), capsys)
    assert code == 2
    assert f"there is no such topic; the nearest is {events}" in found[events + "s"][1]


@pytest.mark.kafka
def test_a_topic_that_is_kept_too_short_is_told(
    tmp_path: Path, broker: str, topic: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    short, brief = topic("short"), topic("brief")
    with closing(connect_admin(broker)) as admin:
        for name, milliseconds in ((short, 3_600_000), (brief, 60_000)):
            configs = {"retention.ms": str(milliseconds)}
            admin.create_topics({name: {"num_partitions": 1, "replication_factor": 1, "configs": configs}},
                                wait_for_metadata=True)  # fmt: skip
    code, found = doctor(tmp_path, of_broker(tmp_path, broker, short), capsys)
    assert code == 0
    assert found[f"{short}: kept"] == (
        "--",
        "60 minutes; a run that stands still for longer cannot go on",
    )
    code, found = doctor(tmp_path, of_broker(tmp_path, broker, brief), capsys)
    assert code == 2
    assert "60 s, with a snapshot every 30 s" in found[f"{brief}: kept"][1]


@pytest.mark.kafka
def test_members_of_the_group_are_named(
    tmp_path: Path, broker: str, topic: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    events, group = topic("orders"), topic("group")
    ensure_topics(broker, {events: 1})
    options = {"group_id": group, "group_instance_id": "engine-1"}
    with closing(connect_consumer(broker, options=options)) as member:
        member.subscribe([events])
        deadline = time.monotonic() + 60
        while not member.assignment():
            with suppress(NoOffsetForPartitionError):  # it has never committed
                member.poll(timeout_ms=200)
            assert time.monotonic() < deadline
        more = f'group = "{group}"\ninstance = "engine-1"\n'
        code, found = doctor(tmp_path, of_broker(tmp_path, broker, events, more), capsys)
    assert code == 0, found
    told = next(told for name, told in found.items() if name.startswith("group"))
    assert told[0] == "--"
    assert "1 members: engine-1; engine-1 is there already" in told[1]


def test_a_broker_that_does_not_answer_is_told_and_the_rest_is_looked_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = "[source.settings]\nbootstrap_timeout_ms = 200\n"
    code, found = doctor(tmp_path, of_broker(tmp_path, "127.0.0.1:1", "e", more), capsys)
    assert code == 2
    assert found["broker"][0] == "NO"
    assert found["snapshots folder"][0] == "ok"


def test_rights_that_lack_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run.toml").write_text(of_broker(tmp_path, "b:1", "e"))
    described = {
        "e": {"error_code": 0, "partitions": [0], "authorized_operations": ["DESCRIBE"]},
        "e.forecasts": {"error_code": 0, "partitions": [0], "authorized_operations": ["DESCRIBE", "READ"]},
        "e.dead": {"error_code": 29, "partitions": []},
    }

    class Nothing:
        def close(self) -> None:
            """Nothing to close."""

    monkeypatch.setattr("streams.broker.connect_admin", lambda *_, **__: Nothing())
    monkeypatch.setattr("engine.doctor.broker._described", lambda *_: Topics(described, {}, ["e"]))
    found = {f.name: f for f in examine_topics(read_config(tmp_path / "run.toml").config)}
    assert found["e"].text == "this client may DESCRIBE there; grant READ"
    assert found["e.forecasts"].text == "this client may DESCRIBE, READ there; grant WRITE"
    assert "not even describe it" in found["e.dead"].text
