"""`everlearn dlq`: dead letters are listed, and their records sent again as they were, once."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from plain_learner import PlainLearner

from engine.cli import main
from engine.deadletters.dlq import Chosen, Retry, kinds, letters
from engine.deadletters.refusal import KEPT_BYTES, Refusal
from engine.evaluate.metrics import PrequentialMetrics
from engine.run import Loop
from engine.shard import Shard
from streams import raw as raw_module
from streams.broker import ensure_topics
from streams.codecs import decode, encode_event, encode_json, encode_label
from streams.event import Event, Headers, Label, Position, Record, TopicPartition
from streams.log import EmbeddedLog, LogSink
from streams.log_source import LogSource
from streams.merge import MergedSource
from streams.raw import Raw, RawBroker, RawEmbedded, RawLog

BAD = [b"{broken", b"\xff\xfe", b'{"id":"a","time":1}', b'{ "id": 7 }', b""]


@pytest.fixture(params=["log", pytest.param("broker", marks=pytest.mark.kafka)])
def place(
    request: pytest.FixtureRequest, tmp_path: Path, topic: Callable[[str], str]
) -> Iterator[tuple[RawLog, str, str]]:
    """An embedded log or a broker with bad records in two partitions; their topic and the dead one."""
    orders, dead = topic("orders"), topic("dead")
    log: RawLog
    if request.param == "log":
        log = RawEmbedded(tmp_path / "log.sqlite")
    else:
        address = request.getfixturevalue("broker")
        ensure_topics(address, {orders: 2, dead: 1})
        log = RawBroker(address)
    with closing(log):
        for number in (0, 1):
            log.append(orders, number, [message(i, number, request.param) for i in range(len(BAD))])
        yield log, orders, dead


def message(i: int, number: int, kind: str) -> Raw:
    headers: Headers = () if kind == "log" else (("trace", b"\x00\xff"), ("n", str(i).encode()))
    return Raw(BAD[i], f"k{number}-{i}".encode(), headers, 100.0 + i)


def bury(log: RawLog, orders: str, dead: str, keyed: bool = True) -> None:
    """Write the dead letter of every record in the topic, as a run does."""
    sent = []
    for number in (0, 1):
        for offset, raw in log.read(orders, number, 0, 100):
            value = raw.value or b""
            item = decode(value)
            key = raw.key if keyed else None  # an embedded log's source does not tell keys
            record = Record(Position(orders, number, offset), item, value, key, raw.headers)
            refusal = Refusal(record, getattr(item, "error", "refused"), float(offset))
            sent.append(Raw(encode_json(refusal.message()), refusal.key().encode(), refusal.headers(), 0.0))
    log.append(dead, 0, sent)


def contents(log: RawLog, topic: str, number: int) -> list[tuple[Any, ...]]:
    return [raw[:3] for _, raw in log.read(topic, number, 0, 1_000)]


def test_records_are_sent_again_as_they_were_and_only_once(place: tuple[RawLog, str, str]) -> None:
    log, orders, dead = place
    bury(log, orders, dead, keyed=isinstance(log, RawBroker))
    before = [contents(log, orders, number) for number in (0, 1)]
    found = Retry(log, dead)(Chosen())
    assert (len(found.sent), len(found.before), found.failed) == (10, 0, [])
    assert [contents(log, orders, number) for number in (0, 1)] == [2 * held for held in before]
    found = Retry(log, dead)(Chosen())
    assert (len(found.sent), len(found.before)) == (0, 10)
    bury(log, orders, dead)  # letters that were written twice, and those of the new records
    found = Retry(log, dead)(Chosen())
    assert (len(found.sent), len(found.before)) == (10, 20)


def test_letters_are_chosen_by_reason_time_and_place(place: tuple[RawLog, str, str]) -> None:
    log, orders, dead = place
    bury(log, orders, dead)
    assert len(list(letters(log, dead, Chosen(reason="NOT READABLE as json")))) == 4
    assert len(list(letters(log, dead, Chosen(since=3.0)))) == 4
    chosen = Chosen(since=1.0, at=frozenset({(0, 0), (0, 1), (0, 8)}))
    assert [letter.at.offset for letter in letters(log, dead, chosen)] == [1, 8]
    assert sum(count for count, _ in kinds(list(letters(log, dead)))) == 10
    assert len(Retry(log, dead)(chosen, dry=True).sent) == 2
    assert len(log.read(orders, 0, 0, 100)) == 5
    assert len(Retry(log, dead)(chosen).sent) == 2
    assert (len(log.read(orders, 0, 0, 100)), len(log.read(orders, 1, 0, 100))) == (6, 6)
    assert len(Retry(log, dead)(Chosen()).sent) == 8


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("kill", ["dlq.noted", "dlq.sent", "dlq.sent 2"])
def test_a_kill_while_records_are_sent_sends_none_of_them_twice(
    place: tuple[RawLog, str, str], kill: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, orders, dead = place
    bury(log, orders, dead)
    before = [contents(log, orders, number) for number in (0, 1)]
    left = 2 if kill.endswith("2") else 1

    def crash(name: str) -> None:
        nonlocal left
        left -= name == kill.split()[0]
        if left == 0:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("engine.deadletters.dlq.crash_point", crash)
        with pytest.raises(Killed):
            Retry(log, dead)(Chosen())
    assert len(Retry(log, dead)(Chosen(), dry=True).sent) == {"dlq.noted": 10, "dlq.sent": 5}.get(kill, 0)
    Retry(log, dead)(Chosen())
    assert [contents(log, orders, number) for number in (0, 1)] == [2 * held for held in before]
    assert Retry(log, dead)(Chosen()).sent == []


def test_a_record_that_was_too_large_is_read_where_it_stands(place: tuple[RawLog, str, str]) -> None:
    log, orders, dead = place
    large = Raw(b"\xff" * (KEPT_BYTES + 1), b"large", (), 5.0)
    log.append(orders, 1, [large])
    bury(log, orders, dead)
    found = Retry(log, dead)(Chosen(at=frozenset({(0, 10)})))
    assert len(found.sent) == 1
    assert contents(log, orders, 1)[-1] == large[:3]


def test_a_label_that_had_waited_is_read_where_it_stands_for_its_own_bytes(tmp_path: Path) -> None:
    raw = b'{"extra": 1, "id": "a", "time": 1.0, "label": "x"}'
    with closing(RawEmbedded(tmp_path / "log")) as log:
        log.append("paid", 0, [Raw(raw, b"a", (), 1.0)])
        record = Record(Position("paid", 0, 0), Label(id="a", time=1.0, label="x"))
        log.append("dead", 0, [Raw(encode_json(Refusal(record, "refused", 1.0).message()), b"", (), 0.0)])
        assert len(Retry(log, "dead")(Chosen()).sent) == 1
        assert [value for value, _, _ in contents(log, "paid", 0)] == [raw, raw]


def test_what_no_longer_stands_or_has_no_topic_is_said_and_the_rest_is_sent(tmp_path: Path) -> None:
    with closing(RawEmbedded(tmp_path / "log")) as log:
        large = b"\xff" * (KEPT_BYTES + 1)
        log.append("orders", 0, [Raw(b"{", b"", (), 0.0), Raw(large, b"", (), 0.0), Raw(b"{", b"", (), 0.0)])
        log.append("other", 0, [Raw(b"{}", b"", (), 0.0)])
        records = [
            Record(Position("orders", 0, 1), decode(large), large),
            Record(Position("orders", 0, 9), decode(large + b"1"), large + b"1"),
            Record(Position("history:old", 0, 1), Event(id="a", time=0.0, features={}), b"{}"),
            Record(Position("orders", 0, 2), decode(b"{"), b"{"),
        ]
        sent = [encode_json(Refusal(record, "no", 0.0).message()) for record in records]
        log.append("dead", 0, [Raw(value, b"", (), 0.0) for value in sent])
        with EmbeddedLog(tmp_path / "log") as writer:
            writer.drop_before("orders", 0, 2)
        found = Retry(log, "dead")(Chosen())
        assert [why.split(",")[0] for _, why in found.failed] == [
            "its 65 537 bytes were not kept".replace(" 5", ",5").split(",")[0],
            ["its 65", "538 bytes were not kept"][0],
            "there is no topic 'history:old' to send it to",
        ]
        assert len(found.sent) == 1
        found = Retry(log, "dead", to="other")(Chosen())
        assert [letter.position.topic for letter in found.sent] == ["history:old"]
        assert contents(log, "other", 0)[-1][0] == b"{}"


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


def test_the_command_line_lists_and_sends_again(
    place: tuple[RawLog, str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], request: Any
) -> None:
    log, orders, dead = place
    bury(log, orders, dead)
    kafka = isinstance(log, RawBroker)
    where = (
        ["--broker", request.getfixturevalue("broker")] if kafka else ["--log", str(tmp_path / "log.sqlite")]
    )
    code, out, _ = everlearn("dlq", "ls", dead, *where, "--limit", "2", capsys=capsys)
    assert code == 0
    assert f"10 dead letters in {dead}, 0 of them sent again" in out
    assert "2 × empty message; expected a JSON object" in out
    assert f"0:9  1970-01-01T00:00:04Z  {orders} 1:4  0 bytes" in out
    code, out, _ = everlearn("dlq", "retry", dead, *where, "--at", "0:0", "--dry-run", capsys=capsys)
    assert (code, out.splitlines()[-1]) == (0, "1 would be sent, 0 were sent before")
    for sent in (1, 0):
        code, out, _ = everlearn("dlq", "retry", dead, *where, "--at", "0:0", "--json", capsys=capsys)
        assert (code, len(json.loads(out)["sent"])) == (0, sent)
    code, out, _ = everlearn("dlq", "ls", dead, *where, "--json", "--limit", "1", capsys=capsys)
    told = json.loads(out)
    assert (code, told["letters"], told["retried"], len(told["newest"])) == (0, 10, 1, 1)


def test_the_configuration_of_the_run_says_where_dead_letters_are(
    place: tuple[RawLog, str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    request: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Address, settings and topic; for a broker all clients get the settings."""
    log, orders, dead = place
    bury(log, orders, dead)
    source = f'log = "{tmp_path / "log.sqlite"}"'
    if isinstance(log, RawBroker):
        source = f'broker = "{request.getfixturevalue("broker")}"\nsettings = {{ client_id = "mark" }}'
    file = tmp_path / "run.toml"
    more = f'events = "{orders}"\n[snapshots]\nfolder = "s"\n'
    file.write_text(f'[source]\n{source}\n{more}[dead]\ntopic = "{dead}"\n')
    given: list[Any] = []
    for name in ("connect_consumer", "connect_producer"):
        opened = getattr(raw_module, name)
        told = partial(lambda opened, *a, **k: given.append(k["options"]) or opened(*a, **k), opened)
        monkeypatch.setattr(raw_module, name, told)
    code, out, err = everlearn("dlq", "ls", "--config", str(file), capsys=capsys)
    assert code == 0, err
    assert f"10 dead letters in {dead}" in out
    code, out, err = everlearn("dlq", "retry", "--config", str(file), "--at", "0:0", capsys=capsys)
    assert (code, out) == (0, "1 sent, 0 were sent before\n"), err
    assert all(options["client_id"] == "mark" for options in given)
    assert len(given) == (3 if isinstance(log, RawBroker) else 0)
    file.write_text(f"[source]\n{source}\n{more}")
    code, _, err = everlearn("dlq", "ls", "--config", str(file), capsys=capsys)
    assert (code, err) == (2, f"Error: TOPIC is not given, and {file} has no dead.topic; expected the topic of "
                              "dead letters, --dead of the run\n")  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "expected one of --log FILE and --broker ADDRESS, or --config FILE"),
        (["--config", "none.toml"], "--config none.toml: cannot be read"),
        (["--log", "none.sqlite"], "--log none.sqlite: no such file"),
        (["--log", "LOG"], "there is no topic 'dead'"),
        (["--log", "LOG", "--since", "soon"], "there is no topic 'dead'"),
    ],
)
def test_what_cannot_be_read_is_told_in_one_line(
    tmp_path: Path, arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    EmbeddedLog(tmp_path / "log").close()
    arguments = [str(tmp_path / "log") if word == "LOG" else word for word in arguments]
    code, _, err = everlearn("dlq", "ls", "dead", *arguments, capsys=capsys)
    assert code == 2
    assert told in err
    assert len(err.splitlines()) == 1


def test_a_retried_event_is_answered_at_its_new_position_and_a_label_finds_it(tmp_path: Path) -> None:
    log = EmbeddedLog(tmp_path / "log")
    events = [Event(id=str(i), time=float(i), features={"x": i if i != 3 else "text"}) for i in range(5)]
    log.append_many("e", 0, [(event.id, event.time, encode_event(event)) for event in events])
    label = Label(id="3", time=9.0, label=1)
    log.append("l", 0, "3", 9.0, encode_label(label))

    def run(model: PlainLearner, start: Any) -> Shard:
        shard = Shard(model, PrequentialMetrics())
        source = MergedSource(LogSource(log, ["e", "l"], start=start, bounded=True))
        loop = Loop(shard, source, LogSink(log, "answers"), dead=LogSink(log, "dead"))
        assert loop.run()
        loop.close()
        return shard

    class Understands(PlainLearner):
        """Takes text for its length."""

        def forecast_one(self, x: dict[str, Any], id: Any = None, time: float | None = None) -> Any:
            return super().forecast_one(
                {n: len(v) if isinstance(v, str) else v for n, v in x.items()}, id, time
            )

    shard = run(PlainLearner(), "beginning")
    assert (shard.counts.answered, shard.counts.refused, shard.counts.learned) == (4, 1, 0)
    with closing(RawEmbedded(tmp_path / "log")) as raw:
        assert len(Retry(raw, "dead")(Chosen()).sent) == 1
    shard = run(Understands(), "beginning")  # its first copy is answered now, the second one repeats it
    assert (shard.counts.answered, shard.counts.learned) == (5, 1)
    shard = run(Understands(), {TopicPartition("e", 0): 5, TopicPartition("l", 0): 0})
    assert (shard.counts.answered, shard.counts.learned) == (1, 1)
    last = log.read("answers", 0, log.end_offset("answers") - 1, 1)[0]
    assert json.loads(last.value)["offset"] == 5
    assert log.read("e", 0, 5, 1)[0].value == encode_event(events[3])
    log.close()


@pytest.mark.kafka
def test_what_was_sent_again_is_remembered_in_a_topic_that_keeps_everything(
    broker: str, topic: Callable[[str], str]
) -> None:
    from kafka import KafkaAdminClient
    from kafka.admin import ConfigResource, ConfigResourceType

    orders, dead = topic("orders"), topic("dead")
    ensure_topics(broker, {orders: 2, dead: 1})
    with closing(RawBroker(broker)) as log:
        for number in (0, 1):
            log.append(orders, number, [message(i, number, "broker") for i in range(len(BAD))])
        bury(log, orders, dead)
        assert len(Retry(log, dead)(Chosen()).sent) == 10
    name = f"{dead}.retried"
    admin = KafkaAdminClient(bootstrap_servers=broker)
    found = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)], config_filter="all")
    admin.close()
    (settings,) = [kind[name] for kind in found.values()]
    assert settings["retention.ms"]["value"] == "-1"
    assert settings["cleanup.policy"]["value"] == "delete"
