"""The embedded log keeps what it acknowledged, in order, for every process that reads it."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from streams.clock import ManualClock
from streams.codecs import encode_event
from streams.errors import LogDamaged, LogFull, PositionLost
from streams.event import Event, Malformed, TopicPartition
from streams.log import EmbeddedLog, LogSink
from streams.log_source import LogSource

EVENTS = TopicPartition("events", 0)


def rows(*keys: str) -> list[tuple[str, float, bytes]]:
    return [
        (key, float(i), encode_event(Event(id=key, time=float(i), features={}))) for i, key in enumerate(keys)
    ]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "log.db"


def test_offsets_count_up_in_every_partition_on_its_own(path: Path) -> None:
    with EmbeddedLog(path) as log:
        assert [log.append("events", 0, key, 0.0, b"x") for key in "abc"] == [0, 1, 2]
        assert log.append_many("events", 1, rows("d", "e")) == 0
        assert log.append_many("events", 0, rows("f", "g")) == 3
        assert log.end_offsets() == {EVENTS: 5, TopicPartition("events", 1): 2}
        assert log.begin_offsets() == {EVENTS: 0, TopicPartition("events", 1): 0}
        assert log.topics() == ["events"]


def test_what_was_appended_is_there_after_opening_again(path: Path) -> None:
    with EmbeddedLog(path) as log:
        log.append("events", 0, "a", 1.5, b"bytes")
    with EmbeddedLog(path) as log:
        assert log.read("events", 0, 0, 10) == [(0, "a", 1.5, b"bytes")]
        assert log.last_key("events") == "a"


def test_an_append_that_fails_half_way_leaves_nothing(path: Path) -> None:
    def broken() -> list[tuple[str, float, bytes]]:
        raise RuntimeError("the rows ran out")

    with EmbeddedLog(path) as log:
        log.append_many("events", 0, rows("a"))
        with pytest.raises(RuntimeError, match="ran out"):
            log.append_many("events", 0, (row for part in [rows("b"), None] for row in part or broken()))
        assert log.end_offsets() == {EVENTS: 1}


def test_a_writer_that_expects_another_end_is_told(path: Path) -> None:
    with EmbeddedLog(path) as log:
        log.append_many("events", 0, rows("a", "b"), at=0)
        with pytest.raises(PositionLost, match="ends at 2, expected 1"):
            log.append_many("events", 0, rows("c"), at=1)


def test_processes_that_open_a_new_log_at_the_same_time_all_succeed(path: Path) -> None:
    code = (
        "import sys; from streams.log import EmbeddedLog; "
        "EmbeddedLog(sys.argv[1]).append('events', 0, 'a', 0.0, b'x')"
    )
    command = [sys.executable, "-c", code, str(path)]
    started = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait() for process in started] == [0, 0, 0]
    with EmbeddedLog(path) as log:
        assert log.end_offset("events") == 3


def test_opening_a_log_again_does_not_wait_for_its_writer(path: Path) -> None:
    with EmbeddedLog(path) as log:
        log.append_many("events", 0, rows("a"))
        writer = sqlite3.connect(path, isolation_level=None)
        writer.execute("BEGIN IMMEDIATE")
        with EmbeddedLog(path, busy_timeout=0.0) as reader:
            assert reader.end_offset("events") == 1
        with pytest.raises(TimeoutError, match="another process has been writing"):
            EmbeddedLog(path, busy_timeout=0.0).append("events", 0, "b", 0.0, b"x")
        writer.execute("ROLLBACK")
        writer.close()


def test_several_writers_never_share_an_offset(path: Path) -> None:
    EmbeddedLog(path).close()

    def write(name: str) -> None:
        with EmbeddedLog(path) as log:
            for i in range(20):
                log.append("events", 0, f"{name}{i}", 0.0, b"x")

    threads = [threading.Thread(target=write, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with EmbeddedLog(path) as log:
        found = log.read("events", 0, 0, 100)
    assert [row.offset for row in found] == list(range(40))
    assert len({row.key for row in found}) == 40


def test_a_reader_sees_what_another_process_has_acknowledged_before_it_was_killed(path: Path) -> None:
    code = (
        "import sys\nfrom streams.log import EmbeddedLog\nlog = EmbeddedLog(sys.argv[1])\n"
        "for i in range(10**9):\n    print(log.append('events', 0, f'e{i}', 0.0, b'x'), flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    acknowledged = [int(process.stdout.readline()) for _ in range(25)]
    process.send_signal(signal.SIGKILL)
    acknowledged += [int(line) for line in process.stdout if line.endswith("\n")]
    process.wait()
    process.stdout.close()
    with EmbeddedLog(path) as log:
        found = log.read("events", 0, 0, 10**6)
        assert [row.offset for row in found] == list(range(len(found)))
        assert len(found) >= len(acknowledged)
        assert log.append("events", 0, "next", 0.0, b"x") == len(found)


def test_a_full_disk_is_told_as_such_and_what_was_acknowledged_stays(path: Path) -> None:
    with EmbeddedLog(path) as log:
        log.append("events", 0, "a", 0.0, b"x")
        connection = log._connection
        assert connection is not None
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(LogFull, match=r"no room is left .*full\); what was acknowledged is in it.*disk"):
            log.append_many("events", 0, [("b", 0.0, b"x"), ("c", 0.0, b"x" * 100_000)])
        assert [row.key for row in log.read("events", 0, 0, 10)] == ["a"]
        connection.execute(f"PRAGMA max_page_count = {pages + 100}")
        assert log.append("events", 0, "b", 0.0, b"x" * 100_000) == 1


@pytest.mark.parametrize("time", [float("nan"), float("inf")])
def test_a_time_that_is_not_finite_is_refused_and_nothing_is_written(path: Path, time: float) -> None:
    with EmbeddedLog(path) as log:
        with pytest.raises(ValueError, match=f"time is {time} for key 'b'; expected seconds"):
            log.append_many("events", 0, [("a", 0.0, b"x"), ("b", time, b"x")])
        assert log.end_offsets() == {}
        assert log.append("events", 0, "a", 0.0, b"x") == 0


def test_a_file_that_is_no_database_is_a_clear_error(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"this is a text, and long enough not to be taken for an empty file" * 20)
    with pytest.raises(LogDamaged, match=r"cannot be used as an embedded log .*not a database.*another path"):
        EmbeddedLog(path)
    assert path.read_bytes().startswith(b"this is a text")


def test_another_database_is_a_clear_error_and_left_alone(path: Path) -> None:
    path.parent.mkdir()
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE customers (name TEXT)")
    other.close()
    with pytest.raises(LogDamaged, match="customers"):
        EmbeddedLog(path)


def test_a_damaged_file_is_a_clear_error(path: Path) -> None:
    with EmbeddedLog(path) as log:
        log.append_many("events", 0, [(f"e{i}", 0.0, b"x" * 200) for i in range(2000)])
    raw = bytearray(path.read_bytes())
    raw[4096 : len(raw) - 4096] = b"\xa5" * (len(raw) - 8192)
    path.write_bytes(raw)
    with pytest.raises(LogDamaged, match="restore the file from a copy"), EmbeddedLog(path) as log:
        log.read("events", 0, 0, 10_000)


def test_a_folder_in_the_place_of_the_file_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(LogDamaged, match="another path"):
        EmbeddedLog(tmp_path)


def test_a_closed_log_says_so(path: Path) -> None:
    log = EmbeddedLog(path)
    log.close()
    log.close()
    with pytest.raises(ValueError, match="closed"):
        log.append("events", 0, "a", 0.0, b"x")


def test_a_live_source_waits_for_what_is_appended_later_and_is_never_exhausted(path: Path) -> None:
    with EmbeddedLog(path) as log:
        source = LogSource(log, "events")
        assert list(source.poll(10)) == []
        log.append_many("events", 0, rows("a"))
        log.append_many("events", 3, rows("b"))
        assert {record.item.id for record in [*source.poll(10, 1.0), *source.poll(10, 1.0)]} == {"a", "b"}
        assert not source.exhausted
        source.close()


def test_a_live_source_waits_no_longer_than_the_timeout_on_its_clock(path: Path) -> None:
    clock = ManualClock()
    with EmbeddedLog(path) as log:
        source = LogSource(log, "events", clock=clock)
        assert list(source.poll(10, timeout=2.0)) == []
        assert clock.monotonic() == pytest.approx(2.0)
        source.close()


def test_a_bounded_source_ends_where_the_log_ended_when_it_was_made(path: Path) -> None:
    with EmbeddedLog(path) as log:
        log.append_many("events", 0, rows("a", "b"))
        source = LogSource(log, "events", bounded=True)
        log.append_many("events", 0, rows("c"))
        assert [record.item.id for record in source.poll(10)] == ["a", "b"]
        assert source.exhausted
        source.close()


def test_a_source_can_start_at_the_end_or_at_given_positions(path: Path) -> None:
    with EmbeddedLog(path) as log:
        log.append_many("events", 0, rows("a", "b", "c"))
        at_end, in_middle = LogSource(log, "events", start="end"), LogSource(log, "events", start={EVENTS: 1})
        log.append_many("events", 0, rows("d"))
        assert [record.item.id for record in at_end.poll(10)] == ["d"]
        assert [record.item.id for record in in_middle.poll(10)] == ["b", "c", "d"]
        at_end.close()
        in_middle.close()


def test_positions_that_the_log_no_longer_holds_are_an_error(path: Path) -> None:
    with EmbeddedLog(path) as log:
        log.append_many("events", 0, rows(*"abcdef"))
        early = LogSource(log, "events")
        log.drop_before("events", 0, 4)
        assert log.begin_offsets() == {EVENTS: 4}
        assert log.end_offsets() == {EVENTS: 6}
        with pytest.raises(PositionLost, match="nothing at 0, its next record is 4"):
            early.poll(10)
        with pytest.raises(PositionLost, match=r"offset 2 .* holds 4 to 6"):
            LogSource(log, "events", start={EVENTS: 2})
        early.close()


def test_bytes_that_are_no_event_come_as_malformed_at_their_position(path: Path) -> None:
    with EmbeddedLog(path) as log:
        log.append("events", 0, "a", 0.0, b"garbage")
        source = LogSource(log, "events", bounded=True)
        (record,) = source.poll(10)
        assert record.position == ("events", 0, 0)
        assert isinstance(record.item, Malformed)
        assert record.item.raw == b"garbage"
        source.close()


def test_a_rewound_sink_takes_the_tail_from_the_file_at_once(path: Path) -> None:
    with EmbeddedLog(path) as log:
        sink = LogSink(log, "answers")
        for key in "abcd":
            sink.write(key, {"id": key})
        sink.flush()
        LogSink(log, "answers").rewind(1)
        with EmbeddedLog(path) as reader:
            assert [row.key for row in reader.read("answers", 0, 0, 10)] == ["a"]


def test_a_sink_writes_by_itself_when_its_buffer_is_full(path: Path) -> None:
    with EmbeddedLog(path) as log:
        sink = LogSink(log, "answers", buffer=2)
        for key in "abc":
            sink.write(key, {"id": key})
        assert log.end_offset("answers") == 2
        assert sink.cursor() == 3


def test_a_sink_takes_a_message_whose_time_is_no_finite_number(path: Path) -> None:
    with EmbeddedLog(path) as log:
        sink = LogSink(log, "answers")
        for key, time in {"a": float("nan"), "b": "noon", "c": 2.5}.items():
            sink.write(key, {"time": time})
        sink.flush()
        assert [row.time for row in log.read("answers", 0, 0, 10)] == [0.0, 0.0, 2.5]


def test_a_source_starts_at_the_first_record_of_a_time_or_later(path: Path) -> None:
    with EmbeddedLog(path) as log:
        for key, time in (("a", 1.0), ("b", 5.0), ("c", 2.0), ("d", 6.0)):
            log.append("events", 0, key, time, encode_event(Event(id=key, time=time, features={})))
        log.append_many("events", 1, rows("e", "f"))
        source = LogSource(log, "events", start=4.0, bounded=True)
        assert source.positions() == {EVENTS: 1, TopicPartition("events", 1): 2}
        assert [record.item.id for record in source.poll(10)] == ["b", "c", "d"]  # type: ignore[union-attr]
        source.close()
        with pytest.raises(ValueError, match="start is 'now'; expected 'beginning', 'end', seconds or"):
            LogSource(log, "events", start="now")  # type: ignore[arg-type]  # what is tested


def test_a_source_reads_only_the_partitions_that_it_is_told(path: Path) -> None:
    with EmbeddedLog(path) as log:
        log.append_many("events", 0, rows("a"))
        log.append_many("events", 1, rows("b"))
        source = LogSource(log, ["events", "labels"], partitions=[1, 2])
        assert [record.item.id for record in source.poll(10)] == ["b"]  # type: ignore[union-attr]
        log.append_many("labels", 0, rows("c"))
        log.append_many("labels", 2, rows("d"))
        assert [record.item.id for record in source.poll(10, 5.0)] == ["d"]  # type: ignore[union-attr]
        names = [("events", 1), ("events", 2), ("labels", 1), ("labels", 2)]
        assert list(source.positions()) == names
        source.close()
