"""Where the shards of a run begin, those that have come since its first start among them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from engine.attach import AttachError, open_loop
from engine.checkpoint import CheckpointError, CheckpointStore
from engine.config.config import Config
from engine.first_start import NAME, came_since, remember
from engine.journal import Reading, Start
from streams.event import Event, TopicPartition
from streams.flights import Appendable
from streams.merge import BoundedSource
from streams.protocols import Sink
from streams.replay import ListSink, ListSource


class Journal:
    """One partition of a topic, and how it was asked for."""

    def __init__(self) -> None:
        self.starts: list[Start] = []
        self.prepared: list[tuple[list[str], int]] = []

    def prepare(self, topics: Sequence[str], partitions: int = 1) -> None:
        self.prepared.append((list(topics), partitions))

    def partitions(self, topic: str) -> int:
        return 2

    def source(self, topics: Sequence[str], reading: Reading) -> BoundedSource:
        self.starts.append(reading.start)
        [number] = reading.partitions or [0]
        return ListSource({TopicPartition(topics[0], number): [Event(id="a", time=1.0, features={})]})

    def sink(self, topic: str, partition: int = 0, *, transactional: bool = False) -> Sink:
        return ListSink()

    def log(self) -> AbstractContextManager[Appendable]:
        raise NotImplementedError

    def close(self) -> None:
        pass


def configured(folder: Path, start: str | None = "end") -> Config:
    source = {"broker": "host:9092", "events": "e", "group": "g", "shards": "partition"}
    source |= {} if start is None else {"from": start}
    learner = {"layers": 1, "width": 4, "neighbours": 2}
    return Config.model_validate({"source": source, "snapshots": {"folder": str(folder)}, "learner": learner})


@contextlib.contextmanager
def opened(config: Config, shard: str) -> Iterator[Start]:
    journal = Journal()
    loop = open_loop(config, journal, shard)
    try:
        yield journal.starts[-1]
    finally:
        loop.close()


def test_a_partition_that_has_come_since_the_first_start_is_read_from_its_beginning(tmp_path: Path) -> None:
    config = configured(tmp_path)
    assert remember(tmp_path, 2) == 2
    for shard, start in (("0", "end"), ("1", "end"), ("2", "beginning")):
        with opened(config, shard) as found:
            assert found == start
    assert remember(tmp_path, 3) == 2  # a later start
    with opened(configured(tmp_path, start=None), "2") as found:  # which need not say where to begin
        assert found == "beginning"
    with pytest.raises(AttachError, match="holds no snapshot of shard 1"):
        open_loop(configured(tmp_path, start=None), Journal(), "1")


def test_a_folder_that_was_begun_without_the_count_counts_its_shards(tmp_path: Path) -> None:
    for shard in ("0", "1"):
        CheckpointStore(tmp_path, shard).save({}, {})
    remember(tmp_path, 3)
    assert [came_since(tmp_path, partition) for partition in range(3)] == [False, False, True]


def test_a_damaged_count_is_told(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text("{")
    with pytest.raises(CheckpointError, match="damaged; expected"):
        came_since(tmp_path, 1)
