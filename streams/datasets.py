"""Streams by name: River's, the flights, generated ones, and those recorded in EVERLEARN_DATA's folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from streams.errors import UnknownStream
from streams.files import read_table
from streams.flights import flights_table
from streams.synthetic import recurring_rbf, rotating_hyperplane, sea_abrupt
from streams.table import Table, table_from_rows

VARIABLE = "EVERLEARN_DATA"
_Task = Literal["classification", "regression"]


@dataclass(frozen=True)
class _River:
    """A data set that ships inside the river package, by the name of its class there."""

    dataset: str
    task: _Task = "classification"


@dataclass(frozen=True)
class _Recorded:
    """A Parquet file below the folder that EVERLEARN_DATA names."""

    file: str
    target: str
    ignore: tuple[str, ...] = ()
    time: str | None = None
    task: _Task = "classification"


_RIVER = {
    "phishing": _River("Phishing"),
    "bananas": _River("Bananas"),
    "image_segments": _River("ImageSegments"),
    "shuttle": _River("Shuttle"),
    "trump_approval": _River("TrumpApproval", "regression"),
}
_GENERATED: dict[str, Callable[[], Table]] = {
    "sea_abrupt": sea_abrupt,
    "rotating_hyperplane": rotating_hyperplane,
    "recurring_rbf": recurring_rbf,
}
_RECORDED = {
    "elec2": _Recorded("elec2/elec2.parquet", "class"),
    "weather": _Recorded("weather_noaa/weather_noaa.parquet", "target"),
    "outdoor": _Recorded("outdoor/outdoor.parquet", "target"),
    "luxembourg": _Recorded("luxembourg/luxembourg.parquet", "target"),
    "phishing_uci": _Recorded("phishing_uci/phishing_uci.parquet", "target"),
    "covertype100k": _Recorded("covertype100k/covertype100k.parquet", "class"),
    "insects_wbf": _Recorded("insects_wbf/insects_wbf.parquet", "species"),
    "pen_digits": _Recorded("pen_digits/pen_digits.parquet", "class"),
    "kdd99": _Recorded("kdd99_10pct/kdd99_10pct.parquet", "label", ("family",)),
    "bike_sharing": _Recorded("bike_sharing/bike_sharing.parquet", "cnt", ("dteday",), task="regression"),
    "beijing_pm25": _Recorded("beijing_pm25/beijing_pm25.parquet", "pm25", time="date", task="regression"),
}


def names() -> list[str]:
    """The names of all built-in streams, sorted; those in EVERLEARN_DATA's folder are always among them."""
    return sorted([*_RIVER, *_GENERATED, *_RECORDED, "flights"])


def is_recorded(name: str) -> bool:
    """Whether the stream needs the folder that EVERLEARN_DATA names."""
    return name in _RECORDED


def load(name: str) -> Table:
    """The built-in stream of this name, as `read_table` would give it.

    Raises UnknownStream for a name that is none (with the closest), and for recorded data that is not there.

    >>> table = load("sea_abrupt")
    >>> len(table), table.columns
    (20000, ['x0', 'x1', 'x2'])
    """
    if name == "flights":
        return flights_table()
    if name in _GENERATED:
        return _GENERATED[name]()
    if name in _RIVER:
        return _river(name, _RIVER[name])
    if name in _RECORDED:
        return _recorded(name, _RECORDED[name])
    close = get_close_matches(name, names(), n=1, cutoff=0.4)
    hint = f"; did you mean {close[0]!r}?" if close else "."
    raise UnknownStream(f"there is no built-in stream {name!r}{hint} Known are: {', '.join(names())}")


def _river(name: str, stream: _River) -> Table:
    try:
        from river import datasets
    except ImportError as error:
        raise UnknownStream(
            f"the stream {name!r} ships with the package river, which cannot be imported ({error}); "
            "run: pip install river"
        ) from error
    return table_from_rows(name, list(getattr(datasets, stream.dataset)()), task=stream.task)


def _recorded(name: str, stream: _Recorded) -> Table:
    folder = os.environ.get(VARIABLE)
    if not folder:
        raise UnknownStream(
            f"the stream {name!r} is not part of any package: set the environment variable {VARIABLE} to the "
            f"folder that holds {stream.file}"
        )
    path = Path(folder) / stream.file
    if not path.is_file():
        raise UnknownStream(
            f"the stream {name!r} is not in the folder that {VARIABLE} names: there is no file "
            f"{str(path)!r}; set the variable to the folder that holds it"
        )
    table = read_table(path, stream.target, ignore=stream.ignore, time=stream.time, task=stream.task)
    table.name = name
    return table
