"""`everlearn run` on a log that is no longer the one its snapshots know: one clear line, exit code 2."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from engine.cli import main
from streams.broker import KafkaLog, ensure_topics
from streams.codecs import encode_event
from streams.event import Event
from streams.log import EmbeddedLog

Change = Callable[[EmbeddedLog], Any]
Run = Callable[[], tuple[int, str]]


def rows(start: int, end: int, shift: float = 0.0) -> list[tuple[str, float, bytes]]:
    events = [
        Event(id=str(i), time=float(i), features={"a": i % 5 + shift}, label=i % 2) for i in range(start, end)
    ]
    return [(event.id, event.time, encode_event(event)) for event in events]


def everlearn(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Exit code and what was said on standard error."""
    before = sys.argv
    sys.argv = ["everlearn", "run", "--events", "orders", "--bounded", *arguments]
    try:
        main()
        code: Any = 0
    except SystemExit as end:
        code = end.code or 0
    finally:
        sys.argv = before
    return code, capsys.readouterr().err


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EmbeddedLog]:
    with EmbeddedLog(tmp_path / "log.sqlite") as log:
        log.append_many("orders", 0, rows(0, 100))
        yield log


@pytest.fixture
def run(tmp_path: Path, log: EmbeddedLog, capsys: pytest.CaptureFixture[str]) -> Run:
    """The same command each time; it has been run once, to the end at 100."""
    arguments = ["--log", str(log.path), "--snapshots", str(tmp_path / "snapshots"), "--from", "beginning"]
    assert everlearn(capsys, *arguments) == (0, "")
    assert log.end_offset("orders.forecasts") == 100
    return lambda: everlearn(capsys, *arguments)


def regrown(log: EmbeddedLog) -> None:
    log.truncate("orders", 0, 60)
    log.append_many("orders", 0, rows(60, 130, shift=0.5))


def cut_beyond(log: EmbeddedLog) -> None:
    log.append_many("orders", 0, rows(100, 130))
    log.drop_before("orders", 0, 120)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(
            cut_beyond,
            "offset 100 of 'orders' partition 0 is not in the log, which holds 120 to 130; it was cut or is",
            id="cut beyond what was taken",
        ),
        pytest.param(
            lambda log: log.truncate("orders", 0, 60),
            "offset 100 of 'orders' partition 0 is not in the log, which holds 0 to 60; it was cut or is",
            id="rolled back",
        ),
        pytest.param(
            lambda log: log.truncate("orders", 0, 0),
            "'orders' is no topic of",
            id="emptied",
        ),
        pytest.param(
            regrown,
            "topic 'orders' partition 0 holds another record at 99 than the one that",
            id="rolled back and grown again",
        ),
        pytest.param(
            lambda log: log.truncate("orders.forecasts", 0, 50),
            "cursor is 100, but topic 'orders.forecasts' partition 0 of",
            id="answers rolled back",
        ),
    ],
)
def test_a_log_that_was_changed_is_one_line_and_exit_code_2(
    log: EmbeddedLog, run: Run, change: Change, said: str
) -> None:
    change(log)
    answers = log.end_offset("orders.forecasts")
    code, error = run()
    assert code == 2, error
    assert said in error
    assert len(error.splitlines()) == 1
    assert log.end_offset("orders.forecasts") == answers


def test_a_log_that_expires_behind_what_was_taken_changes_nothing(log: EmbeddedLog, run: Run) -> None:
    log.append_many("orders", 0, rows(100, 130))
    log.drop_before("orders", 0, 100)
    log.drop_before("orders.forecasts", 0, 100)
    assert run() == (0, "")
    found = log.read("orders.forecasts", 0, 0, 1000)
    assert [row.key for row in found if row.offset >= 100] == [str(i) for i in range(100, 130)]


def test_a_log_that_is_cut_while_it_runs_stops_the_run(
    log: EmbeddedLog, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Retention that overtakes a run: nothing is skipped silently."""
    from streams.log_source import LogSource

    log.append_many("orders", 0, rows(100, 1100))
    poll, calls = LogSource.poll, [0]

    def cut(self: LogSource, *arguments: Any) -> Any:
        found = poll(self, *arguments)
        calls[0] += 1
        if calls[0] == 2:
            log.drop_before("orders", 0, 1000)
        return found

    with monkeypatch.context() as patched:
        patched.setattr(LogSource, "poll", cut)
        code, error = run()
    assert code == 2
    assert "has nothing at 612, its next record is 1000; what stood between was dropped" in error
    assert len(error.splitlines()) == 1
    code, error = run()
    assert code == 2
    assert "is not in the log, which holds 1000 to 1100" in error


# -- a broker -------------------------------------------------------------------------------------------------


@pytest.fixture
def topics(broker: str, topic: Callable[[str], str]) -> tuple[str, str]:
    events, answers = topic("orders"), topic("answers")
    ensure_topics(broker, {events: 1, answers: 1})
    append(broker, events, 0, 100)
    return events, answers


@pytest.fixture
def run_broker(
    tmp_path: Path,
    broker: str,
    topics: tuple[str, str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    client: str,
) -> Run:
    events, answers = topics
    monkeypatch.setenv("EVERLEARN_SOURCE__CLIENT", client)
    arguments = ["--broker", broker, "--events", events, "--forecasts", answers, "--from", "beginning"]
    arguments += ["--snapshots", str(tmp_path / "snapshots")]
    code, error = everlearn(capsys, *arguments)
    assert code == 0, error
    return lambda: everlearn(capsys, *arguments)


def append(broker: str, topic: str, start: int, end: int, shift: float = 0.0) -> None:
    with closing(KafkaLog(broker)) as log:
        log.append_many(topic, 0, rows(start, end, shift))


def end_of(broker: str, topic: str) -> int:
    with closing(KafkaLog(broker)) as log:
        return log.end_offset(topic)


def cut_records(broker: str, topic: str) -> None:
    from kafka import KafkaAdminClient
    from kafka import TopicPartition as KafkaPartition

    append(broker, topic, 100, 130)
    with closing(KafkaAdminClient(bootstrap_servers=broker)) as admin:
        admin.delete_records({KafkaPartition(topic, 0): 120})


def made_anew(count: int) -> Callable[[str, str], None]:
    """The topic is deleted, made again, and holds so many other records."""

    def change(broker: str, topic: str) -> None:
        from kafka import KafkaAdminClient

        with closing(KafkaAdminClient(bootstrap_servers=broker)) as admin:
            admin.delete_topics([topic])
        again(lambda: ensure_topics(broker, {topic: 1}))
        if count:
            again(lambda: append(broker, topic, 0, count, shift=0.5))

    return change


def again(call: Callable[[], None], tries: int = 40) -> None:
    """A topic is gone some time after it was deleted."""
    import time

    for left in range(tries, 0, -1):
        try:
            call()
            return
        except Exception:
            if left == 1:
                raise
            time.sleep(0.1)


@pytest.mark.kafka
@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(cut_records, "no longer holds what comes next (", id="records deleted"),
        pytest.param(made_anew(0), "made anew: it is not the log that was read", id="made anew and empty"),
        pytest.param(made_anew(150), "holds another record at 99 than the one", id="made anew and longer"),
    ],
)
def test_over_kafka_too(
    broker: str, topics: tuple[str, str], run_broker: Run, change: Callable[[str, str], None], said: str
) -> None:
    change(broker, topics[0])
    answers = end_of(broker, topics[1])
    code, error = run_broker()
    assert code == 2, error
    assert said in error
    assert len(error.splitlines()) == 1
    assert end_of(broker, topics[1]) == answers


@pytest.mark.kafka
def test_answers_that_were_made_anew_are_an_error(
    broker: str, topics: tuple[str, str], run_broker: Run
) -> None:
    made_anew(0)(broker, topics[1])
    append(broker, topics[0], 100, 130)
    code, error = run_broker()
    assert code == 2, error
    assert "cursor is" in error
    assert "it was cut back or made anew" in error
    assert len(error.splitlines()) == 1
    assert end_of(broker, topics[1]) == 0
