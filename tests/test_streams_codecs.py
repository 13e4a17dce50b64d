"""Events and labels survive their way through bytes, and no bytes can stop a stream."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.codecs import decode, encode_event, encode_label
from streams.event import Event, Label, Malformed

finite = st.floats(allow_nan=False, allow_infinity=False)
text = st.text(st.characters(codec="utf-8"), max_size=20)
ids = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
whole = st.integers(-(2**63), 2**63 - 1)
values = st.none() | st.booleans() | whole | finite | text
labels = st.booleans() | whole | finite | text
weights = st.floats(0.0, 1e300)


@given(ids, finite, st.dictionaries(text, values, max_size=8), st.none() | labels, weights)
def test_an_event_comes_back_as_it_was(
    id: str, time: float, features: dict[str, Any], label: Any, weight: float
) -> None:
    event = Event(id=id, time=time, features=features, label=label, weight=weight)
    assert decode(encode_event(event)) == event


@given(ids, finite, labels, weights)
def test_a_label_comes_back_as_it_was(id: str, time: float, value: Any, weight: float) -> None:
    label = Label(id=id, time=time, label=value, weight=weight)
    assert decode(encode_label(label)) == label


@given(st.binary(max_size=200))
def test_no_bytes_raise_and_none_are_lost(raw: bytes) -> None:
    found = decode(raw)
    assert not isinstance(found, Malformed) or (found.raw == raw and found.error)


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.dictionaries(st.sampled_from(["id", "time", "features", "label", "weight", "more"]), json_like),
    st.integers(0, 80),
)
def test_nothing_that_looks_like_a_message_raises(message: dict[str, Any], cut: int) -> None:
    import json

    raw = json.dumps(message).encode()
    for part in (raw, raw[: len(raw) - cut % (len(raw) + 1)]):
        found = decode(part)
        if not isinstance(found, Malformed):
            assert found.id
            assert math.isfinite(found.time)


def test_nan_and_infinity_come_back_as_missing() -> None:
    features = {"nan": math.nan, "inf": math.inf, "minus": -math.inf, "none": None, "one": 1.0}
    found = decode(encode_event(Event(id="a", time=0.0, features=features)))
    assert isinstance(found, Event)
    assert found.features == {"nan": None, "inf": None, "minus": None, "none": None, "one": 1.0}


def test_numpy_scalars_travel_as_plain_numbers() -> None:
    features = {"f": np.float64(0.5), "i": np.int32(3), "b": np.bool_(True)}
    found = decode(encode_event(Event(id="a", time=0.0, features=features)))
    assert isinstance(found, Event)
    assert found.features == {"f": 0.5, "i": 3, "b": True}


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "empty message"),
        (b"\xff\xfe", "not readable as JSON"),
        (b"[1]", "a JSON array; expected an object"),
        (b'{"time":1,"features":{}}', "id is absent"),
        (b'{"id":"","time":1,"features":{}}', "id is ''"),
        (b'{"id":7,"time":1,"features":{}}', "id is 7; expected a string"),
        (b'{"id":"a","features":{}}', "time is absent"),
        (b'{"id":"a","time":1e999,"features":{}}', "out of range"),
        (b'{"id":"a","time":"noon","features":{}}', "time is 'noon'; expected seconds"),
        (b'{"id":"a","time":true,"features":{}}', "time is True"),
        (b'{"id":"a","time":1,"features":[1]}', r"features is \[1\]; expected an object"),
        (b'{"id":"a","time":1,"features":{"x":[1]}}', "feature 'x' is a JSON array; expected a number"),
        (b'{"id":"a","time":1,"features":{"x":{}}}', "feature 'x' is a JSON object"),
        (b'{"id":"a","time":1}', "neither features nor a label"),
        (b'{"id":"a","time":1,"label":null}', "neither features nor a label"),
        (b'{"id":"a","time":1,"label":[1]}', "label is a JSON array"),
        (
            b'{"id":"a","time":1,"label":9223372036854775808}',
            "label is 9223372036854775808; expected an integer",
        ),
        (b'{"id":"a","time":1,"label":1,"weight":-1}', "weight is -1; expected a finite number"),
        (b"[" * 100_000, "JSON"),
    ],
)
def test_what_cannot_be_read_says_which_field_and_what_was_expected(raw: bytes, says: str) -> None:
    found = decode(raw)
    assert isinstance(found, Malformed)
    with pytest.raises(ValueError, match=says):
        raise ValueError(found.error)


def test_unknown_fields_are_ignored() -> None:
    found = decode(b'{"id":"a","time":1,"features":{"x":1},"source":{"deep":[1]}}')
    assert found == Event(id="a", time=1.0, features={"x": 1})


@pytest.mark.parametrize("time", [math.nan, math.inf])
def test_what_could_not_be_read_back_is_not_written(time: float) -> None:
    with pytest.raises(ValueError, match="time is"):
        encode_event(Event(id="a", time=time, features={}))
    with pytest.raises(ValueError, match="time is"):
        encode_label(Label(id="a", time=time, label=1))


def test_ids_and_labels_longer_than_an_answer_could_repeat_are_refused_both_ways() -> None:
    fits, long = "i" * 1024, "i" * 1025
    for event in (Event(id=fits, time=1.0, features={}), Event(id="a", time=1.0, features={}, label=fits)):
        assert decode(encode_event(event)) == event
    for field in ("id", "label"):
        raw = msgspec.json.encode({"id": "a", "time": 1.0, "features": {}, field: long})
        found = decode(raw)
        assert isinstance(found, Malformed)
        assert found.error.startswith(f"{field} has 1,025 characters; expected at most 1,024")
        with pytest.raises(ValueError, match=f"{field} has 1,025 characters"):
            encode_label(Label(**{"id": "a", "time": 1.0, "label": 1, field: long}))


def test_a_label_that_no_other_format_could_hold_is_not_written() -> None:
    least = Label(id="a", time=1.0, label=-(2**63))
    assert decode(encode_label(least)) == least
    with pytest.raises(
        ValueError, match="label is 9223372036854775808 for id 'a'; expected an integer of 64"
    ):
        encode_label(Label(id="a", time=1.0, label=2**63))


def test_an_array_as_a_feature_is_refused_with_its_type() -> None:
    with pytest.raises(TypeError, match="ndarray"):
        encode_event(Event(id="a", time=0.0, features={"x": np.zeros(3)}))
