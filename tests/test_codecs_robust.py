"""No bytes make a decoder raise, in any format and under any map, and none are lost."""

from __future__ import annotations

import math
import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.fuzz import FORMATS
from streams.codecs import FieldMap, decoder_for, encode_json, encode_msgpack
from streams.event import Event, Label, Malformed
from streams.protocols import Decode

READERS: list[Decode] = [
    *(decode for decode, _ in FORMATS.values()),
    *(
        decoder_for(format, fields)
        for format in ("json", "msgpack")
        for fields in (
            FieldMap(id="$key", time="$timestamp", features=["x", "a.b"], weight="w"),
            FieldMap(time_unit="iso", label="y"),
            FieldMap(time_unit="ns", target="x", exclude=["a"]),
        )
    ),
]


def holds(raw: bytes, key: bytes | None = None, timestamp: float | None = None) -> None:
    """Every reader says what the bytes hold, or why they hold nothing, with the bytes."""
    for read in READERS:
        found = read(raw, key, timestamp)
        if isinstance(found, Malformed):
            assert found.raw == raw
            assert found.error
            assert "Traceback" not in found.error
        else:
            assert 0 < len(found.id) <= 1024
            assert math.isfinite(found.time)
            assert 0.0 <= found.weight < math.inf
            assert found.label is not None or isinstance(found, Event)
            msgspec.msgpack.encode(found.label)  # a snapshot can hold it
            encode_json(found)
            encode_msgpack(found)  # whatever was read can be written, to the dead letters say


@given(st.binary(max_size=300), st.none() | st.binary(max_size=5), st.none() | st.floats())
def test_arbitrary_bytes(raw: bytes, key: bytes | None, timestamp: float | None) -> None:
    holds(raw, key, timestamp)


MESSAGE: dict[str, Any] = {
    "id": "a", "time": 1357034400.0, "features": {"x": 1.5, "c": "UA", "n": None}, "label": 1, "weight": 2.0,
    "trip": {"id": 7, "start": 5}, "tip": True, "x": -3, "a": {"b": [1, 2.5]}, "y": "late", "w": 0.5,
}  # fmt: skip
WHOLE = [encode_json(MESSAGE), encode_msgpack(MESSAGE)]
edits = st.lists(st.tuples(st.integers(0, 500), st.binary(max_size=3), st.integers(0, 8)), max_size=4)


@given(st.sampled_from(WHOLE), edits)
def test_valid_messages_with_bytes_put_in_taken_out_and_changed(
    raw: bytes, edits: list[tuple[int, bytes, int]]
) -> None:
    for at, put, out in edits:
        at %= len(raw) + 1
        raw = raw[:at] + put + raw[at + out :]
    holds(raw, b"key", 1.0)


numbers = st.integers() | st.floats() | st.sampled_from([2**63, -(2**64), 10**30, 10**308, 5e-324, -0.0])
anything = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=5) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(list(MESSAGE)), anything), st.booleans())
def test_values_of_any_type_in_any_field(change: dict[str, Any], packed: bool) -> None:
    message = {**MESSAGE, **change}
    try:
        raw = msgspec.msgpack.encode(message) if packed else msgspec.json.encode(message)
    except OverflowError:  # no MessagePack of integers beyond 64 bits
        raw = msgspec.json.encode(message)
    holds(raw, b"key", 1.0)


@pytest.mark.parametrize(
    "value",
    [
        b"NaN", b"-Infinity", b"Infinity", b"1e999", b"-1e-999", b"1e" + b"9" * 400, b"0." + b"0" * 5000 + b"1",
        b"1" * 400, b"9" * 4301, b"-" + b"9" * 100_000, b'"\\ud800"', b'"\\udc00\\ud800"', b'"\xff"',
        b'"\xed\xa0\x80"', b'"\\u0000"', b"[" * 100_000, b'{"x":' * 100_000, b"[" * 900 + b"]" * 900,
        b'{"x":' * 900 + b"1" + b"}" * 900, b'1,"x":2,"id":"b","id":7,"time":2,"label":3', b"tru", b"\x00", b"",
    ],
)  # fmt: skip
@pytest.mark.parametrize("field", list(MESSAGE))
def test_json_as_it_should_not_be(value: bytes, field: str) -> None:
    holds(encode_json({**MESSAGE, field: "@"}).replace(b'"@"', value), b"key", 1.0)


@pytest.mark.parametrize(
    "value",
    [
        msgspec.msgpack.encode(math.nan), msgspec.msgpack.encode(-math.inf), b"\xca\x7f\xc0\x00\x00",
        b"\xcf" + b"\xff" * 8, b"\xd3\x80" + b"\x00" * 7, b"\x91" * 100_000, b"\x81\xa1x" * 100_000,
        b"\x91" * 900 + b"\x01", b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff\x01", b"\xdb\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xffx", b"\xa2\xff\xfe", b"\xa3\xed\xa0\x80", b"\x81\x01\x02", b"\x81\x90\x01",
        b"\x81\x80\x01", b"\x82\xa1x\x01\xa1x\x02", b"\xd6\xff\xff\xff\xff\xff", b"\xc7\x0c\xff" + b"\xff" * 12,
        b"\xc7\x0c\xff" + b"\x00" * 4 + b"\x7f" + b"\xff" * 7, b"\xd6\x05abcd", b"\xc1", b"",
    ],
)  # fmt: skip
@pytest.mark.parametrize("field", list(MESSAGE))
def test_messagepack_as_it_should_not_be(value: bytes, field: str) -> None:
    raw = msgspec.msgpack.encode({**MESSAGE, field: "@@@@"}).replace(b"\xa4@@@@", value)
    holds(raw, b"key", 1.0)


def test_of_a_key_that_stands_twice_the_last_value_counts_and_the_target_stays_out() -> None:
    read = decoder_for("json", FieldMap(target="y"))
    assert read(b'{"id":"a","time":1,"y":1,"x":2,"x":3,"y":0}') == Event(
        id="a", time=1.0, features={"x": 3}, label=0
    )


@given(st.text(min_size=200, max_size=2_000), st.sampled_from(["id", "time", "w", "y"]))
def test_reasons_are_short_whatever_stands_in_the_message(text: str, field: str) -> None:
    read = decoder_for("json", FieldMap(target="y", weight="w"))
    found = read(msgspec.json.encode({"id": "a", "time": 1, field: [text], text: {text: [text]}}))
    assert isinstance(found, Malformed)
    assert len(found.error) < 300
    assert re.search("expected|exclude", found.error)
    assert isinstance(decoder_for("json")(encode_json({"id": "a", "time": 1, "label": 1})), Label)
