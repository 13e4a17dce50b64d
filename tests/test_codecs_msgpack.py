"""MessagePack says what JSON says, with NaN and infinity as missing, and a sink can write it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.codecs import FORMATS, decode, decoder_for, encode_json, encoder_for
from streams.codecs.msgpack import decode_msgpack, encode_msgpack
from streams.event import Event, Label, Malformed
from streams.log import EmbeddedLog, LogSink

text = st.text(st.characters(codec="utf-8"), max_size=20)
ids = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
whole = st.integers(-(2**63), 2**64 - 1)
signed = st.integers(-(2**63), 2**63 - 1)
finite = st.floats(allow_nan=False, allow_infinity=False)
values = st.none() | st.booleans() | whole | st.floats() | text


@given(ids, finite, st.dictionaries(text, values, max_size=8), st.none() | st.booleans() | signed | text)
def test_an_event_comes_back_as_it_does_from_json(
    id: str, time: float, features: dict[str, Any], label: Any
) -> None:
    event = Event(id=id, time=time, features=features, label=label)
    assert decode_msgpack(encode_msgpack(event)) == decode(encode_json(event))


@given(ids, finite, st.booleans() | signed | finite | text, st.floats(0.0, 1e300))
def test_a_label_comes_back_as_it_was(id: str, time: float, value: Any, weight: float) -> None:
    label = Label(id=id, time=time, label=value, weight=weight)
    assert decode_msgpack(encode_msgpack(label)) == label


def test_nan_and_infinity_that_others_wrote_are_missing() -> None:
    message = {"id": "a", "time": 1.0, "features": {"nan": math.nan, "inf": -math.inf, "one": 1.0}}
    found = decode_msgpack(msgspec.msgpack.encode(message))
    assert found == Event(id="a", time=1.0, features={"nan": None, "inf": None, "one": 1.0})


@pytest.mark.parametrize("field", ["time", "label", "weight"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_are_neither_time_nor_label_nor_weight(field: str, value: float) -> None:
    message = {"id": "a", "time": 1.0, "features": {}, "label": 1.0, "weight": 1.0, field: value}
    found = decode_msgpack(msgspec.msgpack.encode(message))
    assert isinstance(found, Malformed)
    assert found.error.startswith(f"{field} is {value}; expected ")


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "empty message; expected a MessagePack object"),
        (b"\xc1", "not readable as MessagePack"),
        (b"\x91\x01", "a MessagePack array; expected an object"),
        (b"\x91" * 100_000, "not readable as MessagePack"),
        (msgspec.msgpack.encode({"time": 1}), "id is absent; expected a string"),
        (msgspec.msgpack.encode({"id": "a", "time": 1, "features": {"x": [1]}}), "'x' is a MessagePack array"),
        (msgspec.msgpack.encode({"id": "a", "time": 1, "features": {"x": b"1"}}), "a MessagePack string of"),
        (msgspec.msgpack.encode({"id": "a", "time": 1, "features": {3: 1}}), "the name of feature 3 is a number"),
        (msgspec.msgpack.encode({"id": "a", "time": 1}), "neither features nor a label"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_says_why(raw: bytes, says: str) -> None:
    found = decode_msgpack(raw)
    assert isinstance(found, Malformed)
    assert found.raw == raw
    assert says in found.error


@pytest.mark.parametrize(
    ("value", "back"),
    [
        ({"p": {"1": np.float64(0.5)}, "n": math.nan}, {"p": {"1": 0.5}, "n": None}),
        ({"big": 2**80, "deep": [-(2**70)]}, {"big": float(2**80), "deep": [-float(2**70)]}),
        ({"bigger": 10**400}, {"bigger": None}),
    ],
)
def test_whatever_json_takes_can_be_written(value: Any, back: Any) -> None:
    assert msgspec.msgpack.decode(encoder_for("msgpack")(value)) == back


def test_a_sink_writes_the_format_it_is_given(tmp_path: Path) -> None:
    with EmbeddedLog(tmp_path / "log.db") as log:
        sink = LogSink(log, "answers", encode=encoder_for("msgpack"))
        sink.write("a", {"id": "a", "time": 2.0, "forecast": math.nan})
        sink.flush()
        (row,) = log.read("answers", 0, 0, 10)
    assert (row.key, row.time) == ("a", 2.0)
    assert msgspec.msgpack.decode(row.value) == {"id": "a", "time": 2.0, "forecast": None}


def test_the_front_door_knows_its_formats_and_says_so() -> None:
    with pytest.raises(ValueError, match="format is 'xml'; expected one of json, msgpack, avro, json-schema"):
        decoder_for("xml")
    for format in FORMATS[2:]:
        with pytest.raises(ValueError, match=f"format '{format}' needs a registry; give its url"):
            decoder_for(format)
        with pytest.raises(ValueError, match="which is read, not written; expected 'json' or 'msgpack'"):
            encoder_for(format)
    assert encoder_for("json") is encode_json
    assert decoder_for("json") is decode
