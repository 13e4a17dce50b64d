"""Avro and JSON are read by the schemas of a registry, and what does not fit them is refused with the reason."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.clock import ManualClock
from streams.codecs import FieldMap, SchemaRegistry, decoder_for
from streams.event import Event, Label, Malformed
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

PERSON = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "type": "object",
    "properties": {"age": {"type": "integer", "maximum": 150}, "home": {"$ref": "home.json"}},
    "required": ["id", "time"],
}
HOME = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeRegistry]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with running() as registry:
        yield registry


def person(number: int, **fields: Any) -> bytes:
    return framed(number, json.dumps({"id": "p", "time": 1, **fields}).encode())


def error(found: Event | Label | Malformed, raw: bytes) -> str:
    assert isinstance(found, Malformed)
    assert found.raw == raw
    return found.error


# -- Avro ----------------------------------------------------------------------------------------------------


def test_avro_messages_are_read_by_the_schema_they_name_which_is_fetched_once(fake: FakeRegistry) -> None:
    fake.add(7, READING)
    read = decoder_for("avro", FIELDS, client(fake))
    assert fake.asked == []
    for _ in range(3):
        assert read(avro(7, READING, VALUES)) == Event(
            id="9",
            time=86400.0,
            features={"rain": None, "wind.speed": 1.5, "wind.from": "S", "price": 12.5, "track": [1.0, 2.0]},
            label=True,
        )
    assert fake.asked == ["/schemas/ids/7"]


def test_canonical_messages_travel_in_avro_where_null_is_absent(fake: FakeRegistry) -> None:
    fake.add(1, CANONICAL)
    read = decoder_for("avro", registry=client(fake))
    event = {"id": "a", "time": 1.5, "features": {"x": 2.0, "c": "UA", "n": None, "nan": float("nan")}}
    rest = {"label": None, "weight": None}
    assert read(avro(1, CANONICAL, {**event, **rest})) == Event(
        id="a", time=1.5, features={"x": 2.0, "c": "UA", "n": None, "nan": None}
    )
    label = {"id": "a", "time": 1.5, "features": None, "label": 3, "weight": 0.5}
    assert read(avro(1, CANONICAL, label)) == Label(id="a", time=1.5, label=3, weight=0.5)
    raw = avro(1, CANONICAL, {**event, **rest, "features": None})
    assert "neither features nor a label" in error(read(raw), raw)
    raw = avro(1, CANONICAL, {**event, **rest, "id": ""})
    assert error(read(raw), raw) == "id is ''; expected a string that is not empty"


def test_schemas_that_refer_to_others_and_unions_are_read(fake: FakeRegistry) -> None:
    wind = {"type": "record", "name": "x.Wind", "fields": [{"name": "speed", "type": "double"}]}
    place = {"type": "record", "name": "x.Place", "fields": [{"name": "wind", "type": "x.Wind"}]}
    fake.subjects["wind", 1] = answer(wind)
    fake.subjects["a%2Fplace", 2] = answer(place, None, [{"name": "x.Wind", "subject": "wind", "version": 1}])
    reading = {"type": "record", "name": "x.R", "fields": [
        {"name": "id", "type": "string"}, {"name": "time", "type": "int"}, {"name": "place", "type": "x.Place"},
        {"name": "wind", "type": "x.Wind"}]}  # fmt: skip
    both = [
        {"name": "x.Place", "subject": "a/place", "version": 2},
        {"name": "x.Wind", "subject": "wind", "version": 1},
    ]
    fake.add(1, reading, "AVRO", both)
    fake.subjects["r", 1] = answer(reading, None, both)
    fake.add(2, ["null", "x.R"], "AVRO", [*both, {"name": "x.R", "subject": "r", "version": 1}])
    named: dict[str, Any] = {}
    for schema in (wind, place):
        fastavro.parse_schema(schema, named_schemas=named)
    buffer = io.BytesIO()
    value = {"id": "a", "time": 1, "place": {"wind": {"speed": 2.0}}, "wind": {"speed": 3.0}}
    fastavro.schemaless_writer(buffer, fastavro.parse_schema(reading, named_schemas=named), value)
    read = decoder_for("avro", FieldMap(), client(fake))
    event = Event(id="a", time=1.0, features={"place.wind.speed": 2.0, "wind.speed": 3.0})
    assert read(framed(1, buffer.getvalue())) == event
    assert read(framed(2, b"\x02" + buffer.getvalue())) == event  # the second branch of the union
    assert read(framed(2, b"\x00")) == Malformed(
        raw=framed(2, b"\x00"), error="the message is null; expected an object of fields"
    )


@pytest.mark.parametrize(
    ("schema", "kind", "says"),
    [
        ({"type": "record", "name": "N", "fields": [{"name": "next", "type": ["null", "N"]}]}, None,
         "schema 1 is not supported: N holds itself, and its depth has no limit"),
        ({"type": "array", "items": "null"}, None, "an array whose items take no bytes, and its"),
        ({"type": "map", "values": {"type": "array", "items": {"type": "record", "name": "E", "fields": []}}},
         None, "an array whose items take no bytes"),
        ({"type": "array", "items": {"type": "fixed", "name": "F", "size": 0}}, None, "items take no bytes"),
        ({"type": "sometimes"}, None, "schema 1 is no Avro schema: UnknownType"),
        ({"type": "object"}, "JSON", "schema 1 is of kind JSON; expected AVRO, set another format"),
    ],
)  # fmt: skip
def test_schemas_by_which_nothing_can_be_read_safely_are_refused(
    fake: FakeRegistry, schema: Any, kind: str | None, says: str
) -> None:
    fake.add(1, schema, kind)
    read = decoder_for("avro", FieldMap(), client(fake))
    for raw in (framed(1, b"\x02" * 1_000_000), framed(1, b"\xfe\xff\xff\xff\xff\xff\xff\x01\x00")):
        assert says in error(read(raw), raw)
    assert fake.asked == ["/schemas/ids/1"]


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "empty message; expected a byte 0 and the number of a schema"),
        (b'{"id": 1}', "begins with byte 123; expected 0 and the number of a schema"),
        (b"\0\0\0", "the message has 3 bytes; expected 5 or more"),
        (framed(7, b""), "not readable by Avro schema 7: "),
        (framed(7, b"\xff" * 40), "not readable by Avro schema 7: "),
        (
            framed(7, b"\x12\xfe\xff\xff\xff\xff\xff\xff\xff\x7f"),
            "not readable by Avro schema 7: OverflowError",
        ),
        (avro(7, READING, VALUES)[:-1], "not readable by Avro schema 7: "),
        (
            avro(7, READING, VALUES) + b"+",
            "1 bytes are left behind the message; Avro schema 7 ends before them",
        ),
        (framed(9, b"x"), "schema 9 is not in the registry"),
    ],
)
def test_bytes_that_are_no_message_of_their_schema_say_why(fake: FakeRegistry, raw: bytes, says: str) -> None:
    fake.add(7, READING)
    found = decoder_for("avro", FIELDS, client(fake))(raw)
    assert says in error(found, raw)


def test_no_bytes_behind_a_valid_number_make_a_decoder_raise() -> None:
    registry = SchemaRegistry("http://127.0.0.1:1", clock=ManualClock())
    with running() as fake:
        fake.add(1, READING)
        fake.add(2, PERSON, "JSON", [{"name": "home.json", "subject": "home", "version": 1}])
        fake.subjects["home", 1] = answer(HOME, "JSON")
        registry = SchemaRegistry(fake.url, clock=ManualClock())
        for number in (1, 2):
            registry.schema(number)
    whole = [avro(1, READING, VALUES)[5:], person(2, age=5, home={"city": "X"})[5:]]
    readers = [decoder_for("avro", FIELDS, registry), decoder_for("json-schema", FieldMap(), registry),
               decoder_for("avro", None, registry), decoder_for("json-schema", None, registry)]  # fmt: skip

    @settings(max_examples=300)
    @given(
        st.sampled_from([1, 2]),
        st.binary(max_size=60) | st.builds(
            lambda body, at, bit: body[: at % len(body)] + bytes([bit]) + body[1 + at % len(body) :],
            st.sampled_from(whole), st.integers(0, 200), st.integers(0, 255)),
    )  # fmt: skip
    def holds(number: int, body: bytes) -> None:
        raw = framed(number, body)
        for read in readers:
            found = read(raw)
            assert not isinstance(found, Malformed) or (found.raw == raw and found.error)

    holds()


# -- JSON Schema ---------------------------------------------------------------------------------------------


def test_json_messages_are_validated_by_the_schema_they_name(fake: FakeRegistry) -> None:
    fake.add(3, PERSON, "JSON", [{"name": "home.json", "subject": "home", "version": 1}])
    fake.subjects["home", 1] = answer(HOME, "JSON")
    read = decoder_for("json-schema", FieldMap(), client(fake))
    raw = person(3, age=30, home={"city": "X"})
    assert read(raw) == Event(id="p", time=1.0, features={"age": 30, "home.city": "X"})
    for raw, says in (
        (person(3, age="old"), "age is 'old', which breaks schema 3: expected type 'integer'"),
        (person(3, age=200), "age is 200, which breaks schema 3: expected maximum 150"),
        (person(3, home={}), "home breaks schema 3: 'city' is a required property"),
        (framed(3, b'{"id":"a"}'), "the message breaks schema 3: 'time' is a required property"),
        (framed(3, b"{"), "not readable as JSON: "),
        (framed(3, b""), "empty message; expected a JSON object"),
        (b"{}", "begins with byte 123; expected 0 and the number of a schema"),
    ):
        assert says in error(read(raw), raw)


def test_canonical_messages_travel_in_validated_json(fake: FakeRegistry) -> None:
    fake.add(1, {"type": "object"}, "JSON")
    read = decoder_for("json-schema", registry=client(fake))
    assert read(person(1, features={"x": 1}, label=None)) == Event(id="p", time=1.0, features={"x": 1})
    raw = person(1, features={"x": [1]})
    assert error(read(raw), raw) == "feature 'x' is a JSON array; expected a number, bool, string or null"


@pytest.mark.parametrize(
    ("schema", "kind", "says"),
    [
        ({"type": "sometimes"}, "JSON", "schema 1 is no JSON schema: SchemaError"),
        ({"$ref": "http://127.0.0.1:1/nowhere"}, "JSON", "cannot be held against schema 1: "),
        ({"pattern": "("}, "JSON", "schema 1"),
        ({"type": "record", "name": "R", "fields": []}, None, "schema 1 is of kind AVRO; expected JSON"),
    ],
)
def test_schemas_by_which_nothing_can_be_validated_are_refused(
    fake: FakeRegistry, schema: Any, kind: str | None, says: str
) -> None:
    fake.add(1, schema, kind)
    raw = person(1)
    assert says in error(decoder_for("json-schema", FieldMap(), client(fake))(raw), raw)
