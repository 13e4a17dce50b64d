"""Messages of other layouts become events and labels, and what does not fit is said in their own names."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import OnlineClassifier
from streams.codecs import FieldMap, decoder_for
from streams.codecs.json import encode_json, parse_json
from streams.codecs.mapping import mapped
from streams.event import Event, Label, Malformed
from streams.log import EmbeddedLog
from streams.log_source import LogSource
from tests.small_models import classifier

TRIP: dict[str, Any] = {
    "trip": {"id": 4711, "start": 1_357_034_400_000},
    "from": {"zone": "A", "at": {"lon": 8.5, "lat": 47.4}},
    "fare": 12.5,
    "driver": "d-9",
    "gust": None,
    "night": True,
    "tip": 2,
    "share": 0.5,
}
MAP = FieldMap(
    id="trip.id", time="trip.start", time_unit="ms", target="tip", weight="share", exclude=["driver"]
)


def read(message: Any, fields: FieldMap, **beside: Any) -> Event | Label | Malformed:
    return decoder_for("json", fields)(msgspec.json.encode(message), **beside)


def reason(message: Any, fields: FieldMap, **beside: Any) -> str:
    found = read(message, fields, **beside)
    assert isinstance(found, Malformed)
    return found.error


def test_an_event_is_put_together_from_where_its_parts_stand() -> None:
    assert read(TRIP, MAP) == Event(
        id="4711",
        time=1_357_034_400.0,
        features={
            "from.zone": "A", "from.at.lon": 8.5, "from.at.lat": 47.4, "fare": 12.5, "gust": None, "night": True,
        },
        label=2,
        weight=0.5,
    )  # fmt: skip


def test_messages_in_messagepack_are_put_together_alike() -> None:
    assert decoder_for("msgpack", MAP)(msgspec.msgpack.encode(TRIP)) == read(TRIP, MAP)


def test_named_features_are_those_alone_and_of_an_object_all_it_holds() -> None:
    fields = FieldMap(
        id="trip.id", time="fare", features=["from", "night", "not there"], exclude=["from.at.lat"]
    )
    found = read(TRIP, fields)
    assert isinstance(found, Event)
    assert found.features == {"from.zone": "A", "from.at.lon": 8.5, "night": True}


def test_an_object_that_is_excluded_takes_all_it_holds_with_it() -> None:
    found = read(TRIP, FieldMap(id="trip.id", time="fare", exclude=["from", "trip"]))
    assert isinstance(found, Event)
    assert sorted(found.features) == ["driver", "gust", "night", "share", "tip"]


def test_the_target_is_never_among_the_features_whatever_way_it_is_written() -> None:
    message = {"id": "a", "time": 1, "out": {"late": 3, "x": 1}, "out.late": 4}
    for features in ("*", ["out"]):
        found = read(message, FieldMap(target="out.late", features=features))
        assert isinstance(found, Event)
        assert found.features == {"out.x": 1}
        assert found.label == 4


@pytest.mark.parametrize("absent", [{}, {"tip": None}])
def test_a_target_that_is_absent_or_null_is_not_known_yet(absent: dict[str, Any]) -> None:
    found = read({"id": "a", "time": 1, "x": 1, **absent}, FieldMap(target="tip"))
    assert found == Event(id="a", time=1.0, features={"x": 1})


def test_a_topic_of_labels() -> None:
    fields = FieldMap(id="order.no", time="known", time_unit="iso", label="order.paid", weight="w")
    message = {"order": {"no": "o-1", "paid": False}, "known": "2013-01-01T05:00:00-05:00", "more": [1]}
    assert read(message, fields) == Label(id="o-1", time=1_357_034_400.0, label=False)
    assert read({**message, "w": 2}, fields) == Label(id="o-1", time=1_357_034_400.0, label=False, weight=2.0)
    assert reason({"order": {"no": "o-1"}, "known": "2013-01-01"}, fields) == (
        "'order.paid' (the label) is absent; "
        "expected a finite number (an integer of at most 64 bits), bool or text"
    )


def test_key_and_timestamp_of_the_message_can_be_id_and_time() -> None:
    fields = FieldMap(id="$key", time="$timestamp")
    found = read({"x": 1, "$key": 2}, fields, key="ключ".encode(), timestamp=12.5)
    assert found == Event(id="ключ", time=12.5, features={"x": 1, "$key": 2})
    assert "has no key; expected the id there" in reason({"x": 1}, fields, timestamp=1.0)
    assert "is no text in UTF-8" in reason({"x": 1}, fields, key=b"\xff", timestamp=1.0)
    assert "the log tells no time for the message" in reason({"x": 1}, fields, key=b"a")
    assert "'$key' (the id) has 1,025 characters" in reason({"x": 1}, fields, key=b"k" * 1025, timestamp=1.0)


def test_a_log_hands_key_and_time_to_the_topic_that_asks_for_them(tmp_path: Path) -> None:
    decoders = {"readings": decoder_for("json", FieldMap(id="$key", time="$timestamp"))}
    with EmbeddedLog(tmp_path / "log.db") as log:
        log.append("readings", 0, "station 9", 3.5, b'{"rain": 1}')
        source = LogSource(log, "readings", bounded=True, decoders=decoders)
        (record,) = source.poll(10)
        source.close()
    assert record.item == Event(id="station 9", time=3.5, features={"rain": 1})
    assert (record.key, record.raw) == (b"station 9", b'{"rain": 1}')


@pytest.mark.parametrize(
    ("unit", "value", "seconds"),
    [
        ("s", 1_357_034_400, 1_357_034_400.0),
        ("s", -0.5, -0.5),
        ("ms", 1_357_034_400_250, 1_357_034_400.25),
        ("us", 1_357_034_400_250_000, 1_357_034_400.25),
        ("ns", 1_357_034_400_250_000_000, 1_357_034_400.25),
        ("iso", "2013-01-01T10:00:00Z", 1_357_034_400.0),
        ("iso", "2013-01-01T05:00:00-05:00", 1_357_034_400.0),
        ("iso", "2013-01-01T10:00:00", 1_357_034_400.0),
        ("iso", "2013-01-01 10:00:00.250", 1_357_034_400.25),
        ("iso", "2013-01-01", 1_356_998_400.0),
        ("iso", "0001-01-01T00:00:00+23:59", -62_135_683_140.0),
    ],
)
def test_times_in_every_unit(unit: Any, value: Any, seconds: float) -> None:
    found = read({"id": "a", "time": value}, FieldMap(time_unit=unit))
    assert found == Event(id="a", time=seconds, features={})


@pytest.mark.parametrize(
    ("fields", "change", "says"),
    [
        ({"id": "no"}, {}, "'no' (the id) is absent; expected text or a whole number, or set id to"),
        ({}, {"id": 1.5}, "'id' (the id) is 1.5; expected text or a whole number"),
        ({}, {"id": True}, "'id' (the id) is True; expected text"),
        ({}, {"id": ""}, "'id' (the id) is ''; expected text"),
        ({}, {"id": {"no": 1}}, "'id' (the id) is an object; expected text"),
        ({}, {"id": "i" * 1025}, "'id' (the id) has 1,025 characters; expected at most 1,024, it starts"),
        ({"time": "at.ms", "time_unit": "ms"}, {}, "'at.ms' (the time) is absent; expected milliseconds since"),
        ({}, {"time": "noon"}, "'time' (the time) is 'noon'; expected seconds since 1970-01-01 UTC as a "
                               "number. For text set time_unit to 'iso'"),
        ({}, {"time": False}, "'time' (the time) is False; expected seconds"),
        ({}, {"time": None}, "'time' (the time) is None; expected seconds"),
        ({}, {"time": 10**400}, "'time' (the time) is 1000"),
        ({"time_unit": "iso"}, {"time": 7}, "'time' (the time) is 7; expected text such as 2013-01-01T05:00:00"
                                            "-05:00. For numbers set time_unit to one of s, ms, us, ns"),
        ({"time_unit": "iso"}, {"time": "noon"}, "'time' (the time) is 'noon'; expected text such as 2013"),
        ({}, {"x": ["a"]}, "'x' is an array that holds 'a'; expected numbers, or exclude it"),
        ({}, {"x": [1, [2]]}, "'x' is an array that holds an array; expected numbers, or exclude it"),
        ({}, {"x": [[1], [2, 3]]}, "'x' holds arrays of different lengths; expected one length"),
        ({}, {"x": [{"y": 1}]}, "'x' is an array that holds an object"),
        ({}, {"x": {"y": 1}, "x.y": 2}, "two fields are called 'x.y', one of them inside an object"),
        ({"target": "y"}, {"y": [1]}, "'y' (the target) is an array; expected a finite number (an"),
        ({"target": "y"}, {"y": 10**400}, "'y' (the target) is 1000"),
        ({"target": "y"}, {"y": 2**63}, "'y' (the target) is 9223372036854775808; expected a finite number (an"),
        ({"target": "y"}, {"y": "l" * 1025}, "'y' (the target) has 1,025 characters"),
        ({"weight": "w"}, {"w": -1}, "'w' (the weight) is -1; expected a finite number of 0 or more"),
        ({"weight": "w"}, {"w": "2"}, "'w' (the weight) is '2'; expected a finite number"),
    ],
)  # fmt: skip
def test_what_does_not_fit_says_the_field_what_was_found_and_what_to_do(
    fields: dict[str, Any], change: dict[str, Any], says: str
) -> None:
    assert reason({"id": "a", "time": 1, **change}, FieldMap(**fields)).startswith(says)


def test_what_is_no_object_says_so() -> None:
    assert reason([1], FieldMap()) == "the message is an array; expected an object of fields"
    assert reason(None, FieldMap()) == "the message is null; expected an object of fields"


def test_objects_too_deep_are_refused_and_can_be_excluded() -> None:
    deep: Any = 1
    for _ in range(40):
        deep = {"in": deep}
    assert "lies in more than 32 objects; exclude the outer one" in reason(
        {"id": "a", "time": 1, **deep}, FieldMap()
    )
    assert read({"id": "a", "time": 1, **deep}, FieldMap(exclude=["in"])) == Event(
        id="a", time=1.0, features={}
    )
    lists: Any = 1
    for _ in range(40):
        lists = [lists]
    assert "an array of more than 32 dimensions" in reason({"id": "a", "time": 1, "x": lists}, FieldMap())


def test_arrays_of_numbers_are_features_that_the_learner_takes() -> None:
    message = {"id": "a", "time": 1, "track": [1, 2.5, None, True], "image": [[1, 2], [3, 4]], "none": []}
    found = read(message, FieldMap())
    assert isinstance(found, Event)
    assert found.features["image"] == [[1.0, 2.0], [3.0, 4.0]]
    assert found.features["none"] == []
    track = found.features["track"]
    assert track[:2] == [1.0, 2.5]
    assert math.isnan(track[2])
    assert track[3] == 1.0
    assert encode_json(found).startswith(b'{"id":"a"')  # a dead letter could hold it
    model: OnlineClassifier = classifier()
    for label in (0, 1):
        model.learn_one(found.features, label)
    assert model.counters()["features"] == 8


def test_values_that_json_does_not_have_become_what_it_has() -> None:
    found = {
        "id": UUID(int=7),
        "time": datetime(1970, 1, 1, 2, tzinfo=timezone(timedelta(hours=1))),
        "naive": datetime(1970, 1, 1, 1),
        "day": date(1970, 1, 2),
        "clock": datetime(1970, 1, 1, 0, 1, 2, 500_000, tzinfo=UTC).time(),
        "span": timedelta(minutes=1),
        "price": Decimal("1.25"),
        "bad": math.nan,
        "worse": math.inf,
        3: 4,
    }  # fmt: skip
    for unit in ("ms", "iso"):  # a time that is one needs no unit
        assert mapped(FieldMap(time_unit=unit), lambda raw: dict(found))(b"") == Event(
            id=str(UUID(int=7)),
            time=3600.0,
            features={
                "naive": 3600.0, "day": 86400.0, "clock": 62.5, "span": 60.0, "price": 1.25, "bad": None,
                "worse": None, "3": 4,
            },
        )  # fmt: skip
    unusable = mapped(FieldMap(), lambda raw: {"id": "a", "time": 1, "raw": b"\x00"})(b"")
    assert isinstance(unusable, Malformed)
    assert unusable.error.startswith(
        "'raw' is a string of bytes; expected a number, bool, text, null or an array"
    )


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"id": ""}, "id is ''; expected the name of a field"),
        ({"time": None}, "time is None; expected the name of a field"),
        ({"id": "$timestamp"}, "id is '$timestamp', which only time can be"),
        ({"target": "$key"}, "target is '$key', which only id can be"),
        ({"time_unit": "h"}, "time_unit is 'h'; expected one of s, ms, us, ns, iso"),
        ({"features": "x"}, "features is 'x'; expected '*' or a list of names"),
        ({"features": ["x", "x"]}, "features names 'x' twice; leave one out"),
        ({"features": [1]}, "features is 1; expected the name of a field"),
        ({"exclude": "x"}, "exclude is 'x'; expected a list of names"),
        ({"features": ["x"], "exclude": ["x"]}, "'x' is in features and in exclude"),
        ({"features": ["x"], "target": "x"}, "features holds 'x', which is the target; it would tell the answer"),
        ({"target": "id"}, "target and id are both 'id'"),
        ({"label": "time"}, "label and time are both 'time'"),
        ({"label": "y", "target": "z"}, "label is for a topic of labels, which has no target"),
        ({"label": "y", "features": ["x"]}, "label is for a topic of labels"),
    ],
)  # fmt: skip
def test_a_map_that_contradicts_itself_is_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=r"expected|leave") as refused:
        FieldMap(**fields)
    assert str(refused.value).startswith(says)


names = st.sampled_from(["id", "time", "x", "y", "w", "a.b", "a", "1"])
leaves = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=3) | st.sampled_from([10**30, 2**63, -(2**64), 10**400, "i" * 1025, "2013-01-01"])
)  # fmt: skip
inner = st.recursive(
    leaves, lambda deeper: st.dictionaries(names, deeper, max_size=3) | st.lists(deeper, max_size=3)
)
messages = st.dictionaries(names, inner, max_size=6) | st.fixed_dictionaries(
    {"id": st.text(max_size=2) | st.integers(), "time": st.integers() | leaves},
    optional={"x": leaves, "y": leaves},
)
maps = st.builds(
    FieldMap,
    id=st.sampled_from(["id", "$key", "a.b"]),
    time=st.sampled_from(["time", "$timestamp", "a.b"]),
    time_unit=st.sampled_from(["s", "ms", "ns", "iso"]),
    target=st.sampled_from([None, "y", "a.y"]),
    weight=st.sampled_from([None, "w"]),
    features=st.sampled_from(["*", ("x", "1"), ("x", "id"), ("a", "x"), ("a.b",)]),
    exclude=st.sampled_from([(), ("w",), ("a.1",)]),
)


@given(messages, maps, st.sampled_from([None, b"", b"key", b"\xff"]), st.sampled_from([None, 5.0, math.nan]))
def test_the_short_way_of_flat_messages_gives_what_the_long_way_gives(
    message: dict[str, Any], fields: FieldMap, key: bytes | None, timestamp: float | None
) -> None:
    raw = msgspec.json.encode(message)
    short = decoder_for("json", fields)(raw, key, timestamp)
    long = mapped(fields, parse_json)(raw, key, timestamp)
    assert msgspec.json.encode(short) == msgspec.json.encode(long) or short == long
    if isinstance(short, Event):
        assert short.id
        assert math.isfinite(short.time)
        assert fields.target not in short.features
