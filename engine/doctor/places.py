"""Whether folders, ports, extras and the embedded log are there for a configuration."""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path

from engine.checkpoint import CheckpointError, CheckpointStore, Snapshot
from engine.config.config import Config
from engine.config.cross_checks import WITH_REGISTRY
from engine.config.identity import check_identity, identity_of
from engine.doctor.finding import Finding
from engine.doctor.sample import Message

ROOM = 1 << 30  # bytes that shall be free where no snapshot says how large one is
SAMPLE = 20


def extras(config: Config) -> Iterator[Finding]:
    """Packages that are not always installed, where they are asked for."""
    needed: dict[str, list[str]] = {}
    if config.source.client == "confluent":
        needed["confluent"] = ["confluent_kafka"]
    forms = {config.format.events, config.format.labels}
    if forms & set(WITH_REGISTRY):
        needed["schema"] = ["httpx", *(["fastavro"] if "avro" in forms else ["jsonschema"])]
    for extra, modules in needed.items():
        missing = [module for module in modules if find_spec(module) is None]
        text = f"{', '.join(missing)} missing; pip install 'everlearn[{extra}]'" if missing else "installed"
        yield Finding(f"extra {extra}", not missing, text)


def writable(folder: Path) -> OSError | None:
    """Why nothing can be written in a folder, or in the nearest above it that there is; None where it can."""
    nearest = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    try:
        with tempfile.TemporaryFile(dir=nearest):
            return None
    except OSError as error:
        return error


def snapshots(config: Config) -> Iterator[Finding]:
    """The folder of snapshots: whether it can be written, what it holds and how much room is left."""
    folder = config.snapshots.folder
    error = writable(folder)
    if error is not None:
        text = f"{folder} cannot be written ({error.strerror}); use another folder"
        yield Finding("snapshots folder", False, text)
        return
    yield Finding("snapshots folder", True, f"{folder} can be written")
    largest = 0
    for shard in shards_in(folder):
        store = CheckpointStore(folder, shard)
        largest = max([largest, *(entry.bytes for entry in store.ls())])
        yield _latest(config, store)
    if not largest:
        yield _first_run(config)
    place = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    most = config.snapshots.keep + config.snapshots.hourly + config.snapshots.daily
    free, need = shutil.disk_usage(place).free, largest * (most + 2) or ROOM
    yield Finding(
        "disk",
        free >= need,
        f"{free / 1e9:.1f} GB free"
        + ("" if free >= need else f"; expected {need / 1e9:.1f} GB for {most} snapshots and two"),
    )


def shards_in(folder: Path) -> list[str]:
    """The shards of which a folder holds snapshots."""
    if not folder.is_dir():
        return []
    names = (re.fullmatch(r"(.+)-g\d+-s\d+\.safetensors", path.name) for path in folder.iterdir())
    return sorted({match[1] for match in names if match})


def newest(config: Config) -> dict[tuple[str, int], int]:
    """The positions of the newest whole snapshot of every shard; {} where there is none."""
    found: dict[tuple[str, int], int] = {}
    for shard in shards_in(config.snapshots.folder):
        with contextlib.suppress(CheckpointError):
            snapshot = CheckpointStore(config.snapshots.folder, shard).latest()
            if snapshot is not None:
                found |= {(topic, n): offset for topic, n, offset in snapshot.meta.get("positions", [])}
    return found


def lag(positions: Mapping[tuple[str, int], int], ends: Mapping[tuple[str, int], int]) -> Finding:
    """How far the newest snapshots are behind the topics' ends."""
    behind = sum(max(0, end - positions[place]) for place, end in ends.items() if place in positions)
    ahead = {place: positions[place] for place, end in ends.items() if positions.get(place, 0) > end}
    if ahead:
        (topic, number), at = next(iter(ahead.items()))
        return Finding(
            "lag",
            False,
            f"a snapshot is at {topic} {number}:{at}, which ends at {ends[topic, number]}: the topic was cut or "
            "made anew. Begin in another folder, or name the right topic",
        )
    return Finding("lag", True, f"the newest snapshot is {behind:,} records behind")


def port(config: Config) -> Iterator[Finding]:
    """Whether the metrics' port is free."""
    number = config.metrics.port
    if number is None:
        return
    family = socket.AF_INET6 if ":" in config.metrics.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((config.metrics.host, number))
        except OSError as error:
            text = (
                f"{config.metrics.host}:{number} cannot be used ({error.strerror}); set another metrics.port"
            )
            yield Finding("metrics port", False, text)
        else:
            yield Finding("metrics port", True, f"{config.metrics.host}:{number} is free")


def log_messages(
    config: Config,
) -> tuple[list[Finding], dict[str, list[Message]], dict[tuple[str, int], int]]:
    """What is to be said of an embedded log, the last messages of each topic, and where partitions end."""
    from streams.errors import StreamError
    from streams.log import EmbeddedLog

    path = config.source.log
    assert path is not None
    if not path.is_file():
        return [Finding("log", False, f"{path}: no such file; a producer must begin it")], {}, {}
    try:
        with EmbeddedLog(path) as log:
            begins, ends = log.begin_offsets(), log.end_offsets()
            found: dict[str, list[Message]] = {topic: [] for topic in config.topics}
            for partition, end in ends.items():
                topic, number = partition
                if topic in found:
                    start = max(begins[partition], end - SAMPLE)
                    for row in log.read(topic, number, start, SAMPLE):
                        where = f"{topic} {number}:{row.offset}"
                        found[topic].append(Message(where, row.value, row.key.encode(), row.time))
            said = [Finding("log", True, f"{path}, {len(log.topics())} topics")]
    except (StreamError, OSError) as error:
        return [Finding("log", False, str(error))], {}, {}
    return (
        said,
        {t: m[-SAMPLE:] for t, m in found.items()},
        {(p.topic, p.partition): end for p, end in ends.items()},
    )


def _latest(config: Config, store: CheckpointStore) -> Finding:
    name = f"shard {store.shard}"
    try:
        snapshot = store.latest()
        assert snapshot is not None
        check_identity(identity_of(config), snapshot.meta.get("config", {}), snapshot.path.name)
    except CheckpointError as error:
        return Finding(name, False, str(error))
    text = _told(snapshot)
    if store.damaged:
        return Finding(name, None, f"{len(store.damaged)} newer ones are damaged; {text}")
    return Finding(name, True, text)


def _told(snapshot: Snapshot) -> str:
    age = max(0.0, time.time() - snapshot.path.stat().st_mtime)
    at = ", ".join(
        f"{topic} {number}:{offset}" for topic, number, offset in snapshot.meta.get("positions", [])
    )
    when = f"{age:,.0f} s" if age < 7200 else f"{age / 3600:,.1f} hours"
    return f"whole, of this configuration, {when} old, at {at}"


def _first_run(config: Config) -> Finding:
    start = config.start
    if start is None:
        return Finding(
            "first run", False, "no snapshot yet and source.from is not given; set it, such as beginning"
        )
    if isinstance(start, Path) and not start.is_file():
        return Finding("first run", False, f"source.from is {start}; no such file")
    return Finding("first run", True, f"begins at {config.model_dump(mode='json')['source']['start']}")
