"""A file of history in front of topics of an embedded log: where live begins, and which file it must be."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.attach import AttachError, open_journal, open_loop, open_source
from engine.config.config import Config
from streams.codecs import encode_event, encode_label
from streams.event import Event, Label
from streams.history_then_live import HistoryThenLive
from streams.log import EmbeddedLog

HOUR = 3600.0
COUNT = 200


class NoTimers:
    """What `open_source` asks of a shard."""

    timers: Any

    def __init__(self) -> None:
        self.timers = self

    def decoding(self, decode: Any) -> Any:
        return decode


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """An event an hour, and its label two hours later."""
    with EmbeddedLog(tmp_path / "l.sqlite") as log:
        for i in range(COUNT):
            event = Event(id=f"e{i}", time=i * HOUR, features={"a": float(i % 3)})
            label = Label(id=event.id, time=event.time + 2 * HOUR, label=i % 2)
            log.append("e", 0, event.id, event.time, encode_event(event))
            log.append("paid", 0, label.id, label.time, encode_label(label))
    return tmp_path / "l.sqlite"


def history(folder: Path, count: int, times: dict[int, float] | None = None) -> Path:
    """The first events, some of them with another time."""
    rows = [
        {"id": f"e{i}", "time": (times or {}).get(i, i * HOUR), "features": {"a": float(i % 3)}}
        for i in range(count)
    ]
    path = folder / "past.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def configured(log: Path, start: Path | str | None) -> Config:
    source: dict[str, Any] = {"log": str(log), "events": "e", "labels": "paid", "bounded": True}
    source |= {} if start is None else {"from": start}
    learner = {"layers": 1, "width": 4, "neighbours": 2}
    return Config.model_validate(
        {"source": source, "snapshots": {"folder": str(log.parent / "s")}, "learner": learner}
    )


@contextlib.contextmanager
def opened(config: Config) -> Iterator[HistoryThenLive]:
    shard: Any = NoTimers()
    with contextlib.closing(open_journal(config)) as journal:
        source = open_source(config, journal, shard)
        assert isinstance(source, HistoryThenLive)
        with contextlib.closing(source):
            yield source


def items(source: HistoryThenLive) -> list[Event | Label]:
    found: list[Any] = []
    while not source.exhausted:
        found += [record.item for record in source.poll(64)]
    return found


def test_the_labels_of_all_events_of_history_are_read(log: Path) -> None:
    with opened(configured(log, history(log.parent, 150))) as source:
        read = items(source)
        assert source.notes == []
    assert [item.id for item in read if isinstance(item, Event)] == [f"e{i}" for i in range(COUNT)]
    assert {item.id for item in read if isinstance(item, Label)} == {f"e{i}" for i in range(COUNT)}


def test_one_row_far_in_the_future_is_told_and_does_not_move_the_end(log: Path) -> None:
    with opened(configured(log, history(log.parent, 150, {50: 4e9}))) as source:
        assert len({item.id for item in items(source) if isinstance(item, Event)}) == COUNT
        [note] = source.notes
    assert "row 50 of history:past with the time 2096-10-02T07:06:40Z" in note
    assert "begins by those" in note


def test_history_in_the_future_is_refused_where_nothing_is_as_late(log: Path) -> None:
    file = history(log.parent, 150, {i: 3e11 + i for i in range(150)})  # of the year 11476
    with pytest.raises(AttachError, match=r"row 149 of history:past .* in the future"):
        open_now(configured(log, file))


def open_now(config: Config) -> None:
    with opened(config):
        pass


def test_it_is_told_where_nothing_comes_after_history(log: Path) -> None:
    with opened(configured(log, history(log.parent, 3, {i: 1e9 + i for i in range(3)}))) as source:
        [note] = source.notes
        read = items(source)
    assert "holds nothing from an hour before history ends (2001-09-09T01:46:42Z)" in note
    assert len([item for item in read if isinstance(item, Event)]) == 3


# -- the same file -------------------------------------------------------------------------------------------


def resume(config: Config) -> None:
    """Open a run, go to its latest snapshot or begin it, and keep one."""
    with contextlib.closing(open_journal(config)) as journal:
        loop = open_loop(config, journal)
        try:
            loop.resume()
            loop.snapshot()
        finally:
            loop.abandon()


def test_a_run_goes_on_with_the_same_history_only(log: Path) -> None:
    file = history(log.parent, 150)
    resume(configured(log, file))
    resume(configured(log, file))
    for start in (None, "beginning"):
        with pytest.raises(AttachError, match=r"begun with .*history:past, 150 rows.*--from names none"):
            resume(configured(log, start))
    renamed = file.rename(log.parent / "old.jsonl")
    with pytest.raises(AttachError, match=r"history:past, 150 rows\), and --from names another, history:old"):
        resume(configured(log, renamed))
    resume(configured(log, renamed.rename(file)))


def test_history_that_has_changed_is_refused(log: Path) -> None:
    resume(configured(log, history(log.parent, 150)))
    with pytest.raises(AttachError, match=r"150 rows\), and the file has changed since: it holds 151 rows"):
        resume(configured(log, history(log.parent, 151)))
    with pytest.raises(AttachError, match="it holds as many, but others"):
        resume(configured(log, history(log.parent, 150, {7: 7.5 * HOUR})))
    resume(configured(log, history(log.parent, 150)))


def test_history_is_not_put_in_front_of_a_run_that_was_begun_without(log: Path) -> None:
    resume(configured(log, "beginning"))
    with pytest.raises(AttachError, match="begun without a file of history"):
        resume(configured(log, history(log.parent, 150)))
