"""Settings for a broker's clients: each client gets them, and what cannot be meant is told before connecting."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import kafka
import pytest

from engine.cli import main
from engine.demo import _PEERS_COMMAND
from streams.broker import KafkaLog, connect_consumer, connect_producer, ensure_topics
from streams.broker_config import check_options, read_options
from streams.clients import Client
from streams.codecs import encode_event
from streams.errors import BrokerConfigError, BrokerUnavailable
from streams.event import Event
from streams.kafka import KafkaSink, KafkaSource

Made = list[tuple[str, dict[str, Any]]]
TEXT = 'client_id = "till-7"\nrequest_timeout_ms = 31_000\nsecurity_protocol = "PLAINTEXT"\n'
OPTIONS = {"client_id": "till-7", "request_timeout_ms": 31_000, "security_protocol": "PLAINTEXT"}


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Made:
    """Every client of kafka-python that is made from here on: its kind and its settings."""
    found: Made = []

    def watched(kind: type) -> type:
        class Watched(kind):  # type: ignore[misc]  # the base is only known when it runs
            def __init__(self, *arguments: Any, **settings: Any) -> None:
                super().__init__(*arguments, **settings)
                found.append((kind.__name__, self.config))

        return Watched

    for name in ("KafkaConsumer", "KafkaProducer", "KafkaAdminClient"):
        monkeypatch.setattr(kafka, name, watched(getattr(kafka, name)))
    return found


def everlearn(*arguments: object, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    before, sys.argv = sys.argv, ["everlearn", *map(str, arguments)]
    try:
        main()
        code: Any = 0
    except SystemExit as end:
        code = end.code or 0
    finally:
        sys.argv = before
    return code, *capsys.readouterr()


@pytest.mark.kafka
def test_every_client_gets_the_settings(broker: str, topic: Callable[[str], str], made: Made) -> None:
    name = topic("events")
    ensure_topics(broker, {name: 1}, options=OPTIONS)
    KafkaSource(broker, name, start="end", options=OPTIONS).close()
    KafkaSink(broker, name, options=OPTIONS).close()
    KafkaLog(broker, options=OPTIONS).close()
    assert [kind for kind, _ in made] == [
        "KafkaAdminClient",
        *["KafkaConsumer"],
        *["KafkaConsumer", "KafkaProducer"],
        *["KafkaConsumer", "KafkaProducer"],
    ]
    for _, config in made:
        assert {key: config[key] for key in OPTIONS} == OPTIONS


@pytest.mark.kafka
def test_a_setting_of_one_client_reaches_that_client_alone_and_the_engines_own_stay(
    broker: str, made: Made
) -> None:
    options = {"max_request_size": 2_000_000, "fetch_max_bytes": 3_000_000, "linger_ms": 1}
    ensure_topics(broker, {}, options=options)
    connect_consumer(broker, options=options).close()
    connect_producer(broker, options=options).close()
    (_, admin), (_, consumer), (_, producer) = made
    assert "max_request_size" not in admin
    assert (consumer["fetch_max_bytes"], consumer["auto_offset_reset"]) == (3_000_000, "none")
    assert (producer["max_request_size"], producer["linger_ms"]) == (2_000_000, 1)
    assert (producer["acks"], producer["enable_idempotence"]) == (-1, True)


@pytest.mark.kafka
@pytest.mark.parametrize(
    "open_it",
    [
        lambda address, options: KafkaSource(address, "e", start="end", timeout=0.5, options=options),
        lambda address, options: KafkaSink(address, "e", timeout=0.5, options=options),
        lambda address, options: KafkaLog(address, timeout=0.5, options=options),
        lambda address, options: connect_producer(address, timeout=0.5, options=options),
        lambda address, options: ensure_topics(address, {"e": 1}, timeout=0.5, options=options),
    ],
)
def test_security_that_the_listener_does_not_have_is_told_with_what_to_check(
    broker: str, open_it: Callable[[str, dict[str, Any]], object]
) -> None:
    with pytest.raises(BrokerUnavailable, match="security settings are those that the listener expects"):
        open_it(broker, {"security_protocol": "SSL"})


def test_settings_that_contradict_each_other_are_no_absent_broker() -> None:
    with pytest.raises(
        BrokerConfigError, match=r"kafka-python cannot use these settings .*fetch_max_wait_ms"
    ):
        connect_consumer("127.0.0.1:1", options={"request_timeout_ms": 100, "fetch_max_wait_ms": 200})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            'sasl_mechanisms = "PLAIN"',
            "sasl_mechanisms is no setting of kafka-python; the nearest is sasl_mechanism",
        ),
        ('"security.protocol" = "SSL"', "security.protocol is no setting .* nearest is security_protocol"),
        ('acks = "1"', "acks is set by everlearn itself; leave it out"),
        ('bootstrap_servers = "kafka:9092"', "bootstrap_servers is set by everlearn itself"),
        ('ssl_context = "mine"', "ssl_context is an object of Python"),
        ('request_timeout_ms = "30s"', "request_timeout_ms is a value of type str; expected a number"),
        ("request_timeout_ms = true", "request_timeout_ms is a value of type bool; expected a number"),
        ("ssl_check_hostname = 0", "ssl_check_hostname is a value of type int; expected true or false"),
        ("sasl_plain_password = 12345678", "sasl_plain_password is a value of type int; expected text$"),
        ('security_protocol = "TLS"', "security_protocol is none of PLAINTEXT, SSL, SASL_.*; set it to one"),
        ('security_protocol = "SASL_SSL"', "SASL_SSL and sasl_mechanism is not given"),
        ('ssl_cafile = "nowhere.pem"', "ssl_cafile names no file; check the path$"),
        ('[kafka]\nclient_id = "a"', r"\[kafka\] is a table; expected all settings at the top"),
        ("security.protocol=SSL", "not TOML"),
        (b"\xff\xfe", "not TOML"),
    ],
)
def test_a_setting_that_cannot_be_meant_is_refused_by_its_name(
    tmp_path: Path, text: str | bytes, said: str
) -> None:
    path = tmp_path / "broker.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(BrokerConfigError, match=said) as told:
        read_options(path)
    assert str(told.value).startswith(f"--broker-config {path}: ")
    for value in ("12345678", "TLS", "nowhere", "30s", "kafka:9092"):
        assert value not in str(told.value)


@pytest.mark.parametrize("name", ["proxy_url", "sasl_mechanism", "isolation_level"])
def test_what_a_client_says_of_a_setting_is_told_without_its_value(
    name: str, client: Client, broker: str
) -> None:
    """A password in the wrong place, or an address that holds one."""
    options = {"security_protocol": "SASL_PLAINTEXT"} if name == "sasl_mechanism" else {}
    with pytest.raises((BrokerConfigError, BrokerUnavailable)) as told:
        KafkaSource(broker, "none", start="end", client=client, options={**options, name: "me:hunter2"})
    assert "hunter2" not in str(told.value)


def test_a_missing_file_of_settings_says_so(tmp_path: Path) -> None:
    with pytest.raises(BrokerConfigError, match=r"nothing\.toml: cannot be read \(No such file"):
        read_options(tmp_path / "nothing.toml")


def test_what_a_file_holds_comes_as_kafka_python_takes_it(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").touch()
    (tmp_path / "broker.toml").write_text(
        'security_protocol = "SASL_SSL"\nsasl_mechanism = "PLAIN"\nsasl_plain_username = "u"\n'
        f'sasl_plain_password = "p"\nssl_cafile = "{tmp_path / "ca.pem"}"\nssl_check_hostname = false\n'
        "socket_options = [[6, 1, 1]]\nretry_backoff_ms = 50\ngroup_id = 'g'\n"
    )
    found = read_options(tmp_path / "broker.toml")
    assert found["ssl_cafile"] == str(tmp_path / "ca.pem")
    assert found["socket_options"] == ((6, 1, 1),)
    assert found == check_options(found)
    assert read_options(None) == {}


@pytest.mark.kafka
def test_run_and_doctor_pass_the_file_to_every_client(
    tmp_path: Path,
    broker: str,
    topic: Callable[[str], str],
    made: Made,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name, config = topic("orders"), tmp_path / "broker.toml"
    config.write_text(TEXT)
    ensure_topics(broker, {name: 1})
    with closing(KafkaLog(broker)) as log:
        event = Event(id="a", time=1.0, features={"x": 1}, label=True)
        log.append_many(name, 0, [("a", 1.0, encode_event(event))])
    made.clear()
    there = ["--broker", broker, "--broker-config", config]
    more = ["--snapshots", tmp_path / "snapshots", "--from", "beginning", "--bounded"]
    code, out, err = everlearn("run", "--events", name, *there, *more, capsys=capsys)
    assert code == 0, err
    assert "1 events, 1 labels learned" in " ".join(out.split())
    assert {kind for kind, _ in made} == {"KafkaAdminClient", "KafkaConsumer", "KafkaProducer"}
    ran = len(made)
    code, out, err = everlearn("doctor", "--out", tmp_path, *there, capsys=capsys)
    assert code == 0, err
    assert len(made) == ran + 1
    assert {config["client_id"] for _, config in made} == {"till-7"}


def test_doctor_tells_what_is_wrong_with_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "broker.toml"
    config.write_text('user = "me"')
    arguments = ["doctor", "--out", tmp_path, "--broker", "127.0.0.1:1", "--broker-config", config]
    code, out, _ = everlearn(*arguments, capsys=capsys)
    assert code == 2
    assert "user is no setting of kafka-python" in out


@pytest.mark.parametrize(
    "command", [["run", "--events", "e", "--snapshots", "s", "--log", "l"], ["demo"], ["doctor"]]
)
def test_settings_of_no_broker_are_refused(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = everlearn(*command, "--broker-config", "broker.toml", capsys=capsys)
    assert code == 2
    assert err == ("Error: --broker-config broker.toml is given without --broker; expected both or neither\n")


@pytest.mark.kafka
def test_the_demo_and_its_peers_use_the_file_and_keep_nothing_of_it(
    tmp_path: Path, broker: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = str(Path(main.__code__.co_filename).parent.parent)
    monkeypatch.setenv("PYTHONPATH", root)  # the peers' process uses the packages that are tested
    good, wrong, out = tmp_path / "good.toml", tmp_path / "wrong.toml", tmp_path / "demo"
    good.write_text(TEXT + 'sasl_plain_password = "secret-12"\n')
    wrong.write_text('security_protocol = "SSL"\nbootstrap_timeout_ms = 500\n')
    arguments = ["demo", "--out", out, "--limit", 400, "--peer", "river-logistic", "--broker", broker]
    code, _, err = everlearn(*arguments, "--broker-config", wrong, capsys=capsys)
    assert (code, "security settings" in err) == (2, True)
    code, _, err = everlearn(*arguments, "--broker-config", good, capsys=capsys)
    assert code == 0, err
    for file in out.rglob("*"):
        assert not file.is_file() or b"secret-12" not in file.read_bytes()

    (out / "peers" / "peers.json").unlink()
    for config, expected in ((wrong, 1), (good, 0)):
        peers = [root, str(out), str(os.getpid()), str(config), "river-logistic"]
        command = [sys.executable, "-P", "-c", _PEERS_COMMAND, *peers]
        ended = subprocess.run(command, capture_output=True, text=True)
        assert ended.returncode == expected, ended.stderr
        assert ("security settings" in ended.stderr) == (expected == 1)
