"""What a source and a sink promise on topics that others cut, change and write to in transactions."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from kafka_topics import append, cut, ids, rows

from streams.broker import ensure_topics
from streams.clients import Client, check_client, open_writer
from streams.errors import (
    BrokerConfigError,
    Fenced,
    LogChanged,
    PositionLost,
    UnknownStream,
)
from streams.event import Malformed, TopicPartition
from streams.kafka import KafkaSink, KafkaSource
from streams.librdkafka import translated

pytestmark = pytest.mark.kafka
Name = Callable[[str], str]
Ask = Callable[[Any], Any]


def test_messages_of_aborted_and_open_transactions_are_never_read(
    broker: str, topic: Name, client: Client
) -> None:
    name = topic("events")
    ensure_topics(broker, {name: 1})
    more: dict[str, Any] = {"timeout": 5.0, "transactional_id": name}
    writer = open_writer(client, broker, TopicPartition(name, 0), **more)
    for decided, names in ((writer.commit, "ab"), (writer.abort, "cd"), (writer.commit, "e")):
        writer.begin()
        for _, _, raw in rows(*names):
            writer.send(b"", raw, ())
        if decided == writer.abort:
            writer.settle()
        decided()
    writer.begin()
    writer.send(b"", rows("f")[0][2], ())
    writer.settle()
    source = KafkaSource(broker, name, start="beginning", client=client)
    assert ids(source, 3) == ["a", "b", "e"]
    assert list(source.poll(10, 0.3)) == []
    behind = source.positions()[TopicPartition(name, 0)]
    assert behind == source.latest_offsets()[TopicPartition(name, 0)] == 8  # three marks are no records
    writer.abort()
    writer.close()
    append(broker, name, "g")
    assert ids(source, 1) == ["g"]
    source.close()


def test_a_position_behind_a_transactions_mark_is_one_that_a_source_can_start_from(
    broker: str, topic: Name, client: Client
) -> None:
    name = topic("answers")
    ensure_topics(broker, {name: 1})
    sink = KafkaSink(broker, name, client=client, transactional=True)
    sink.write("a", {"id": "a", "time": 1.0, "label": 1})
    sink.flush()
    source = KafkaSource(broker, name, start="beginning", bounded=True, client=client)
    assert ids(source, 1) == ["a"]
    while not source.exhausted:
        source.poll(10, 0.2)
    again = KafkaSource(broker, name, start=source.positions(), client=client)
    sink.write("b", {"id": "b", "time": 1.0, "label": 1})
    sink.close()
    assert ids(again, 1) == ["b"]
    source.close()
    again.close()


def test_a_second_writer_with_the_same_transactional_id_fences_off_the_first(
    broker: str, topic: Name, client: Client
) -> None:
    name = topic("answers")
    ensure_topics(broker, {name: 1})
    first = KafkaSink(broker, name, client=client, transactional=True)
    first.write("a", {"id": "a", "time": 1.0, "label": 1})
    first.flush()
    second = KafkaSink(broker, name, client=client, transactional=True)
    second.rewind(first.cursor())
    first.write("zombie", {"id": "zombie", "time": 1.0, "label": 1})
    with pytest.raises(
        Fenced, match=f"another writer with the same transactional id writes to topic '{name}'"
    ):
        first.flush()
    second.write("b", {"id": "b", "time": 1.0, "label": 1})
    second.close()
    source = KafkaSource(broker, name, start="beginning", bounded=True, client=client)
    assert ids(source, 2) == ["a", "b"]
    source.close()
    first._writer.close()


def test_records_cut_while_a_source_is_behind_them_are_an_error(
    broker: str, topic: Name, client: Client, admin: Any
) -> None:
    name = topic("events")
    ensure_topics(broker, {name: 1})
    append(broker, name, *"abcdef")
    source = KafkaSource(broker, name, start="beginning", client=client)
    cut(admin, name, 3)
    with pytest.raises(
        PositionLost, match=r"offset 0 .* has 3 to 6.*was cut or its records have expired"
    ) as told:
        ids(source, 1)
    assert not isinstance(told.value, LogChanged)
    with pytest.raises(PositionLost, match=r"offset 2 .* has 3 to 6"):
        source.seek({TopicPartition(name, 0): 2})
    source.seek({TopicPartition(name, 0): 3})
    assert ids(source, 3) == ["d", "e", "f"]
    assert source.fingerprints({TopicPartition(name, 0): 1}) == {TopicPartition(name, 0): None}
    source.close()


def test_a_topic_that_was_deleted_and_made_anew_is_another_log(
    broker: str, topic: Name, client: Client, admin: Any
) -> None:
    name = topic("events")
    ensure_topics(broker, {name: 1})
    append(broker, name, *"abcdef")
    source = KafkaSource(broker, name, start="beginning", client=client, refresh=0.2)
    sink = KafkaSink(broker, name, client=client)
    sink.write("g", {"id": "g", "time": 1.0, "label": 1})
    sink.flush()
    assert ids(source, 7) == [*"abcdefg"]
    positions, cursor = source.positions(), sink.cursor()
    admin.delete_topics([name])
    time.sleep(0.5)
    ensure_topics(broker, {name: 1})
    append(broker, name, *"xyz")
    with pytest.raises(LogChanged, match=r"has 0 to 3; the topic was cut back, or deleted and made anew"):
        ids(source, 1)
    source.close()
    with pytest.raises(LogChanged, match="offset 7 of"):
        KafkaSource(broker, name, start=positions, client=client)
    again = KafkaSink(broker, name, client=client)
    with pytest.raises(
        LogChanged, match=r"cursor is 7, but .* ends at 3.*Restore it, or begin anew with an empty folder"
    ):
        again.rewind(cursor)
    append(broker, name, *"uvwxyz")
    with pytest.raises(LogChanged, match=r"is not the one that was written: the message before"):
        again.rewind(cursor)
    again.close()
    sink._writer.close()


def test_a_source_starts_at_a_time(broker: str, topic: Name, client: Client) -> None:
    name = topic("events")
    ensure_topics(broker, {name: 2})
    append(broker, name, *"ab")
    append(broker, name, *"AB", partition=1)
    time.sleep(0.05)
    between = time.time()
    append(broker, name, *"cd")
    source = KafkaSource(broker, name, start=between, client=client)
    assert source.positions() == {TopicPartition(name, 0): 2, TopicPartition(name, 1): 2}
    assert ids(source, 2) == ["c", "d"]
    append(broker, name, "C", partition=1)
    assert ids(source, 1) == ["C"]
    source.close()
    source = KafkaSource(broker, name, start=0.0, client=client)
    assert set(source.positions().values()) == {0}
    source.close()


def test_partitions_that_are_added_to_a_topic_are_read_from_their_beginning(
    broker: str, topic: Name, client: Client, admin: Any
) -> None:
    name = topic("events")
    ensure_topics(broker, {name: 1})
    append(broker, name, "a")
    source = KafkaSource(broker, name, start="end", client=client, refresh=0.2)
    assert list(source.poll(10, 0.0)) == []
    admin.create_partitions({name: 3})
    time.sleep(0.3)
    append(broker, name, "c", partition=2)
    append(broker, name, "b")
    assert sorted(ids(source, 2)) == ["b", "c"]
    expected = {TopicPartition(name, 0): 2, TopicPartition(name, 1): 0, TopicPartition(name, 2): 1}
    assert source.positions() == expected
    source.close()


def test_a_source_reads_only_the_partitions_that_it_is_told(broker: str, topic: Name, client: Client) -> None:
    names = [topic("events"), topic("labels")]
    ensure_topics(broker, dict.fromkeys(names, 3))
    for name in names:
        for partition in range(3):
            append(broker, name, f"{name}-{partition}", partition=partition)
    source = KafkaSource(broker, names, start="beginning", partitions=[1], client=client, refresh=0.1)
    assert sorted(ids(source, 2)) == sorted(f"{name}-1" for name in names)
    assert list(source.poll(10, 0.3)) == []
    assert set(source.positions()) == {TopicPartition(name, 1) for name in names}
    source.close()
    with pytest.raises(UnknownStream, match=r"has no partitions \[7\], only \[0, 1, 2\]"):
        KafkaSource(broker, names, start="beginning", partitions=[7], client=client)


def test_headers_keys_and_empty_messages_come_as_they_were_sent(
    broker: str, topic: Name, client: Client
) -> None:
    from kafka import KafkaProducer

    name = topic("events")
    ensure_topics(broker, {name: 1})
    sink = KafkaSink(broker, name, client=client)
    headers = (("trace", b"1"), ("trace", b"2"), ("source", "öl".encode()))
    sink.write("a", {"id": "a", "time": 1.0, "label": True}, headers)
    sink.close()
    producer = KafkaProducer(bootstrap_servers=broker)
    producer.send(name, key=b"gone", value=None, partition=0).get(10)
    producer.close()
    source = KafkaSource(broker, name, start="beginning", bounded=True, client=client)
    found: list[Any] = []
    while not source.exhausted:
        found += source.poll(10, 1.0)
    source.close()
    assert (found[0].key, found[0].headers, found[0].raw) == (
        b"a",
        headers,
        b'{"id":"a","time":1.0,"label":true}',
    )
    assert found[1].key == b"gone"
    assert isinstance(found[1].item, Malformed)
    assert found[1].item.error.startswith("empty message")


def test_the_ends_that_a_source_tells_are_never_before_what_it_has_read(
    broker: str, topic: Name, client: Client
) -> None:
    name = topic("events")
    ensure_topics(broker, {name: 1})
    source = KafkaSource(broker, name, start="beginning", client=client)
    for number in range(5):
        append(broker, name, f"e{number}")
        ids(source, 1)
        assert source.latest_offsets() == source.positions() == {TopicPartition(name, 0): number + 1}
    append(broker, name, "later")
    time.sleep(0.15)
    assert source.latest_offsets() == {TopicPartition(name, 0): 6}
    source.close()


def test_other_encodings_can_be_written(broker: str, topic: Name, client: Client) -> None:
    import msgspec

    name = topic("answers")
    ensure_topics(broker, {name: 1})
    with pytest.raises(TypeError):
        KafkaSink(broker, name, client=client, encode=msgspec.msgpack.encode).write("a", {"a": object()})
    sink = KafkaSink(broker, name, client=client, encode=msgspec.msgpack.encode)
    sink.write("a", {"id": "a"})
    sink.close()
    source = KafkaSource(broker, name, start="beginning", bounded=True, client=client)
    (record,) = source.poll(10, 5.0)
    assert record.raw == msgspec.msgpack.encode({"id": "a"})
    source.close()


def test_settings_are_translated_for_librdkafka_and_those_without_a_counterpart_are_refused() -> None:
    from kafka import KafkaConsumer, KafkaProducer

    class Tokens:
        def token(self) -> str:
            return "t"

    given = {
        "security_protocol": "SASL_SSL", "sasl_mechanism": "SCRAM-SHA-512", "sasl_plain_username": "u",
        "sasl_plain_password": "p", "ssl_cafile": "ca.pem", "ssl_check_hostname": False, "fetch_max_wait_ms": 9,
        "request_timeout_ms": 10, "sasl_oauth_token_provider": Tokens(), "ssl_keyfile": None,
    }  # fmt: skip
    found = translated(given)
    token, until = found.pop("oauth_cb")("")
    assert (token, until > time.time()) == ("t", True)
    assert found == {
        "security.protocol": "SASL_SSL", "sasl.mechanism": "SCRAM-SHA-512", "sasl.username": "u",
        "sasl.password": "p", "ssl.ca.location": "ca.pem", "ssl.endpoint.identification.algorithm": "none",
        "fetch.wait.max.ms": 9, "socket.timeout.ms": 10,
    }  # fmt: skip
    refused = {}
    for name, value in (KafkaConsumer.DEFAULT_CONFIG | KafkaProducer.DEFAULT_CONFIG).items():
        try:
            translated({name: "x" if value is None else value})
        except BrokerConfigError as error:
            refused[name] = str(error)
    for name, text in refused.items():
        assert text.startswith(f"{name} has no counterpart in the client 'confluent'")
    assert {"proxy_url", "socket_options", "api_version", "selector", "ssl_context"} <= refused.keys()
    assert not {name for name in refused if name.startswith("sasl_plain")}


def test_settings_that_librdkafka_refuses_are_no_absent_broker(broker: str) -> None:
    with pytest.raises(BrokerConfigError, match="confluent-kafka cannot use these settings"):
        KafkaSource(broker, "e", start="end", client="confluent", options={"fetch_max_bytes": -5})


def test_a_client_that_is_not_installed_is_told_with_what_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("streams.clients.find_spec", lambda _: None)
    with pytest.raises(BrokerConfigError, match=r"pip install everlearn\[confluent\]"):
        check_client("confluent")
    check_client("kafka-python")
