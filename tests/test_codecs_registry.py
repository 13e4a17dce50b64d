"""A schema registry is asked once for each schema, and an outage of it stops the run and loses nothing."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.checkpoint import CheckpointStore
from engine.evaluate.metrics import PrequentialMetrics
from engine.run import Loop
from engine.shard import Shard
from streams.clock import ManualClock
from streams.codecs import FieldMap, SchemaRegistry, decoder_for
from streams.codecs.message import Unreadable
from streams.codecs.registry import ASK_AGAIN
from streams.errors import MissingExtra, RegistryUnavailable, StreamError
from streams.log import EmbeddedLog, LogSink
from streams.log_source import LogSource
from tests.plain_learner import PlainLearner
from tests.schema_registry import (
    CANONICAL,
    FIELDS,
    READING,
    VALUES,
    FakeRegistry,
    answer,
    avro,
    client,
    framed,
    running,
)

HOME = {"type": "object"}


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeRegistry]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with running() as registry:
        yield registry


@pytest.mark.parametrize(
    ("login", "header"),
    [
        ({"username": "reader", "password": "né:x"}, "Basic " + base64.b64encode(b"reader:n\xc3\xa9:x").decode()),
        ({"token": "t0ken"}, "Bearer t0ken"),
    ],
)  # fmt: skip
def test_logins_are_sent_and_refused_ones_stop_the_run(
    fake: FakeRegistry, login: dict[str, str], header: str
) -> None:
    fake.add(1, CANONICAL)
    fake.authorization = header
    assert client(fake, **login).schema(1).kind == "AVRO"
    with pytest.raises(
        RegistryUnavailable, match=r"refuses the login \(status 401\); give username and password"
    ):
        client(fake).schema(1)


def test_an_outage_stops_the_run_and_loses_nothing(fake: FakeRegistry, tmp_path: Path) -> None:
    fake.add(7, READING)
    decoders = {"readings": decoder_for("avro", FIELDS, client(fake))}
    with EmbeddedLog(tmp_path / "log.db") as log:
        log.append("early", 0, "a", 1.0, b'{"id":"a","time":1,"features":{}}')
        log.append("readings", 0, "b", 1.0, avro(7, READING, VALUES))
        source = LogSource(log, ["early", "readings"], bounded=True, decoders=decoders)
        before = source.positions()
        fake.failing = 1_000
        for _ in range(2):
            with pytest.raises(StreamError, match="answers with status 503, asked 3 times; nothing was lost"):
                source.poll(10)
            assert source.positions() == before
        fake.failing = 0
        assert [record.item.id for record in source.poll(10)] == ["a", "9"]  # type: ignore[union-attr]
        source.close()


def test_a_run_that_an_outage_stopped_goes_on_and_answers_each_event_once(
    fake: FakeRegistry, tmp_path: Path
) -> None:
    raws = [
        avro(7 + i // 20, READING, {**VALUES, "station": i, "track": [], "storm": i % 2 == 0})
        for i in range(40)
    ]
    fake.add(7, READING)  # the schema of the second half is not to be had for now
    fake.add(8, READING)
    fake.broken = 8
    fields = FieldMap(id="station", time="at", target="storm", features=["price"])
    with EmbeddedLog(tmp_path / "log.db") as log:
        log.append_many("readings", 0, [("", 0.0, raw) for raw in raws])

        def run() -> Shard:
            decoders = {"readings": decoder_for("avro", fields, client(fake))}
            source = LogSource(log, "readings", bounded=True, decoders=decoders)
            shard = Shard(PlainLearner(), PrequentialMetrics("classification"))
            try:
                store = CheckpointStore(tmp_path / "snapshots")
                Loop(shard, source, LogSink(log, "answers"), store, dead=LogSink(log, "dead"), batch=8).run()
            finally:
                source.close()
            return shard

        with pytest.raises(RegistryUnavailable, match="nothing was lost"):
            run()
        fake.broken = None
        assert run().counts.learned == 40
        answers = [json.loads(row.value)["id"] for row in log.read("answers", 0, 0, 100)]
        assert log.end_offset("dead") == 0
    assert answers == [str(i) for i in range(40)]


def test_a_short_outage_is_waited_for(fake: FakeRegistry) -> None:
    fake.add(1, CANONICAL)
    fake.failing = 2
    clock = ManualClock()
    assert SchemaRegistry(fake.url, clock=clock).schema(1).number == 1
    assert clock.monotonic() == 1.5
    assert len(fake.asked) == 3


def test_no_registry_at_the_address_stops_the_run() -> None:
    with running() as fake:
        pass
    with pytest.raises(RegistryUnavailable, match=r"does not answer .* correct its url"):
        client(fake).schema(1)


@pytest.mark.parametrize(
    "fixed", [(404, b"<html>no such page"), (404, b'{"error_code":404}'), (302, b""), (200, b"[1]"), (200, b"no"),
              (200, b'{"schema":1}'), (200, b'{"schema":"1","references":[{"name":"x"}]}'),
              (200, b'{"schema":"1","references":[3]}')],
)  # fmt: skip
def test_an_address_that_is_no_registry_stops_the_run(fake: FakeRegistry, fixed: tuple[int, bytes]) -> None:
    fake.fixed = fixed
    with pytest.raises(RegistryUnavailable):
        decoder_for("avro", FIELDS, client(fake))(framed(1, b""))


def test_an_unknown_number_is_asked_for_again_after_a_minute(fake: FakeRegistry) -> None:
    clock = ManualClock()
    registry = SchemaRegistry(fake.url, clock=clock)
    for _ in range(3):
        with pytest.raises(Unreadable, match=r"schema 5 is not in the registry http://127\.0\.0\.1"):
            registry.schema(5)
    assert len(fake.asked) == 1
    fake.add(5, CANONICAL)
    clock.advance(ASK_AGAIN)
    assert registry.schema(5).number == 5
    assert len(fake.asked) == 2


def test_references_that_lead_nowhere_or_in_circles_end(fake: FakeRegistry) -> None:
    fake.add(1, CANONICAL, None, [{"name": "x.Y", "subject": "y", "version": 1}])
    with pytest.raises(
        Unreadable, match=r"refers to 'x.Y' \(subject 'y', version 1\), which is not in the registry"
    ):
        client(fake).schema(1)
    registry = client(fake)
    for _ in range(3):
        with pytest.raises(Unreadable, match=r"refers to 'x\.Y'"):
            registry.schema(1)
    assert len(fake.asked) == 4  # twice by each of the two
    fake.subjects["y", 1] = answer(HOME, None, [{"name": "x.Y", "subject": "y", "version": 1}])
    assert list(client(fake).schema(1).references) == ["x.Y"]
    for depth in range(1, 50):
        deeper = [{"name": f"x.{depth}", "subject": "y", "version": depth + 1}]
        fake.subjects["y", depth] = answer(HOME, None, deeper)
    with pytest.raises(Unreadable, match="refers to schemas more than 32 deep"):
        client(fake).schema(1)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"url": "127.0.0.1:8081"}, "expected http://host:port or https://host:port"),
        ({"url": "http://me:secret@127.0.0.1"}, "pass it as username and password instead"),
        ({"username": "me"}, "only one of username and password is given"),
        ({"username": "me", "password": "secret", "token": "t"}, "both token and username are given"),
        ({"timeout": 0}, "timeout is 0; expected seconds above 0"),
        ({"ca": "nowhere.pem"}, "ca is 'nowhere.pem', which holds no certificates that can be read"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_used_are_refused_without_telling_secrets(
    options: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValueError, match=says) as refused:
        SchemaRegistry(**{"url": "http://127.0.0.1:1", **options})
    assert "secret" not in str(refused.value)
    assert "secret" not in repr(SchemaRegistry("http://127.0.0.1:1", username="me", password="secret"))


@pytest.mark.parametrize(("module", "format"), [("fastavro", "avro"), ("jsonschema", "json-schema")])
def test_a_missing_extra_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, module: str, format: str
) -> None:
    registry = SchemaRegistry("http://127.0.0.1:1")
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(
        MissingExtra, match=rf"{module}, which is not installed; .* pip install everlearn\[schema\]"
    ):
        decoder_for(format, registry=registry)
    with pytest.raises(MissingExtra, match="need httpx"):
        SchemaRegistry("http://127.0.0.1:1")
