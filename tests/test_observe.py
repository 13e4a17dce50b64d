"""What a run shows of itself: metrics over HTTP that are the loop's own counts, their names, and health."""

from __future__ import annotations

import io
import json
import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from plain_learner import PlainLearner
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from engine.checkpoint import CheckpointStore
from engine.evaluate.metrics import PrequentialMetrics
from engine.observe import Resumed, Several, Silent
from engine.observe.families import FAMILIES, OF_THE_PROCESS, labels_of, sample_names
from engine.observe.health import Health, ask
from engine.observe.logs import Logs
from engine.observe.metrics import Metrics
from engine.observe.observing import observing
from engine.observe.server import CannotListen, Server
from engine.run import Loop
from engine.shard import Shard
from engine.terminal import PlainView
from engine.told import Told
from streams.clock import ManualClock
from streams.codecs import decode, encode_event, encode_label
from streams.errors import BrokerUnavailable
from streams.event import Event, Label, TopicPartition
from streams.history_then_live import HistoryThenLive, Known, WithoutKnown
from streams.log import EmbeddedLog, LogSink
from streams.log_source import LogSource
from streams.merge import MergedSource
from streams.replay import ListSink, ListSource

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def fill(log: EmbeddedLog, n: int = 200) -> None:
    """n events with labels 60 s later; an event that is no JSON, a label twice, an orphan, a feature of text."""
    events = [
        (f"e{i}", float(i), encode_event(Event(id=f"e{i}", time=float(i), features={"a": i % 7 - 3.0})))
        for i in range(n)
    ]
    events += [("x", 0.0, b"{"), ("y", 1.0, encode_event(Event(id="y", time=1.0, features={"a": "plenty"})))]
    log.append_many("e", 0, events)
    labels = [
        (f"e{i}", i + 60.0, encode_label(Label(id=f"e{i}", time=i + 60.0, label=i % 2))) for i in range(n)
    ]
    log.append_many(
        "l", 0, [*labels, labels[-1], ("z", 300.0, encode_label(Label(id="z", time=300.0, label=1)))]
    )


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EmbeddedLog]:
    with EmbeddedLog(tmp_path / "log.sqlite") as log:
        fill(log)
        yield log


def make_loop(log: EmbeddedLog, folder: Path, **options: Any) -> Loop:
    source = MergedSource(LogSource(log, ["e", "l"], start="beginning", bounded=True))
    shard = Shard(PlainLearner(), PrequentialMetrics())
    return Loop(shard, source, LogSink(log, "f"), CheckpointStore(folder), batch=32, **options)


def samples(text: str) -> Samples:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def of_shard(found: Samples, name: str, **labels: str) -> float:
    return found[name, tuple(sorted({"shard": "0", **labels}.items()))]


def test_metrics_over_http_are_the_loops_own_counts(log: EmbeddedLog, tmp_path: Path) -> None:
    metrics = Metrics()
    with Server(metrics, Health(), port=0) as server:
        loop = make_loop(log, tmp_path / "s", observer=metrics)
        assert loop.run()
        status, text = get(server.url + "/metrics")
    assert status == 200
    found = samples(text)
    counts, join = loop.shard.counts, loop.shard.pending.counts
    assert counts.answered == 200
    for name, value in {
        "everlearn_events_total": counts.events,
        "everlearn_answered_events_total": counts.answered,
        "everlearn_labels_total": counts.labels,
        "everlearn_learned_labels_total": counts.learned,
        "everlearn_model_version": counts.learned,
        "everlearn_waiting_forecasts": len(loop.shard.pending),
        "everlearn_held_labels": loop.shard.pending.held,
        "everlearn_paced_labels": loop.shard.pending.queued,
        "everlearn_waiting_forecasts_bytes": loop.shard.pending.used_bytes,
        "everlearn_label_delay_seconds_count": counts.learned,
        "everlearn_label_delay_seconds_sum": 60.0 * counts.learned,
        "everlearn_answer_seconds_count": counts.answered,
        "everlearn_event_time_seconds": 300.0,
    }.items():
        assert of_shard(found, name) == value, name
    assert of_shard(found, "everlearn_join_total", outcome="duplicate_labels") == join.duplicate_labels == 1
    assert of_shard(found, "everlearn_join_total", outcome="matched") == join.matched
    assert of_shard(found, "everlearn_refused_records_total", kind="malformed") == 1
    assert of_shard(found, "everlearn_refused_records_total", kind="event") == 1
    for partition, end in loop.source.positions().items():
        place = {"topic": partition.topic, "partition": str(partition.partition)}
        assert of_shard(found, "everlearn_records_total", **place) == end
        assert of_shard(found, "everlearn_next_offset", **place) == end
    figures = loop.shard.metrics.result()
    mean = of_shard(found, "everlearn_log_loss_sum") / of_shard(found, "everlearn_log_loss_count")
    assert mean == pytest.approx(figures["log_loss"])
    wrong = of_shard(found, "everlearn_errors_sum") / of_shard(found, "everlearn_errors_count")
    assert wrong == pytest.approx(1.0 - figures["accuracy"])
    (entry,) = CheckpointStore(tmp_path / "s").ls()[-1:]
    assert of_shard(found, "everlearn_snapshot_bytes") == entry.bytes
    assert of_shard(found, "everlearn_snapshot_sequence") == entry.sequence
    assert of_shard(found, "everlearn_snapshot_age_seconds") >= 0.0
    assert of_shard(found, "everlearn_expert_weight", expert="prior") == 0.0
    assert found["process_resident_memory_bytes", ()] > 1e6


def test_regression_shows_absolute_and_squared_errors() -> None:
    metrics = Metrics()
    events = [Event(id=str(i), time=float(i), features={"a": 1.0}, label=float(i % 2)) for i in range(9)]
    shard = Shard(PlainLearner(), PrequentialMetrics("regression"))
    source = ListSource({TopicPartition("e", 0): events})
    assert Loop(shard, source, ListSink(), observer=metrics).run()
    found = samples(metrics.text().decode())
    figures = shard.metrics.result()
    assert of_shard(found, "everlearn_absolute_error_sum") / 9 == pytest.approx(figures["mae"])
    assert (of_shard(found, "everlearn_squared_error_sum") / 9) ** 0.5 == pytest.approx(figures["rmse"])
    assert not any(name.startswith("everlearn_log_loss") for name, _ in found)


def test_names_labels_and_help_follow_the_rules_and_every_family_is_there(
    log: EmbeddedLog, tmp_path: Path
) -> None:
    metrics = Metrics()
    make_loop(log, tmp_path / "s", observer=metrics).run()
    found = {family.name: family for family in text_string_to_metric_families(metrics.text().decode())}
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)
    for family in FAMILIES:
        shown = found[family.name]
        assert re.fullmatch(r"everlearn(_[a-z]+)+", family.name)
        assert shown.type == family.kind
        assert family.help.endswith(".")
        assert not family.name.endswith(("_total", "_count", "_sum", "_bucket"))
        assert not re.search(r"_(ms|us|seconds|bytes)_(?!bytes|seconds)", family.name)
        if family.kind == "histogram":
            assert family.name.endswith("_seconds")
            assert list(family.bounds) == sorted(set(family.bounds))
        for sample in shown.samples:
            assert sample.name in sample_names()
            assert set(sample.labels) - {"le"} == set(labels_of(family)), sample
    assert all(name in found for name in OF_THE_PROCESS)


def test_buckets_add_up_to_the_count() -> None:
    metrics = Metrics()
    events = [Event(id=str(i), time=float(i), features={"a": 1.0}, label=i % 2) for i in range(64)]
    source = ListSource({TopicPartition("e", 0): events})
    loop = Loop(Shard(PlainLearner(), PrequentialMetrics()), source, ListSink(), observer=metrics)
    assert loop.run()
    for family in text_string_to_metric_families(metrics.text().decode()):
        if family.name == "everlearn_forecast_seconds":
            buckets = [s.value for s in family.samples if s.name.endswith("_bucket")]
            (count,) = [s.value for s in family.samples if s.name.endswith("_count")]
            assert buckets == sorted(buckets)
            assert buckets[-1] == count == 64.0  # 4 were measured, each for 16


def test_counters_begin_at_nothing_in_a_process_that_goes_on_from_a_snapshot(
    log: EmbeddedLog, tmp_path: Path
) -> None:
    make_loop(log, tmp_path / "s").run()
    log.append_many("e", 0, [("n", 500.0, encode_event(Event(id="n", time=500.0, features={"a": 1.0})))])
    metrics = Metrics()
    loop = make_loop(log, tmp_path / "s", observer=metrics)
    assert loop.run()
    found = samples(metrics.text().decode())
    assert of_shard(found, "everlearn_events_total") == 1
    assert of_shard(found, "everlearn_learned_labels_total") == 0
    assert of_shard(found, "everlearn_model_version") == loop.shard.counts.learned == 200
    assert of_shard(found, "everlearn_snapshot_generation") == 2


def test_a_loop_that_goes_back_to_its_snapshot_takes_nothing_off_a_counter(
    log: EmbeddedLog, tmp_path: Path
) -> None:
    metrics = Metrics()
    make_loop(log, tmp_path / "s", observer=metrics, every_records=10_000).run(stop=stop_after(5))
    before = of_shard(samples(metrics.text().decode()), "everlearn_events_total")
    lost = make_loop(log, tmp_path / "s", observer=metrics, every_seconds=1e9, every_records=10**9)
    lost.resume()
    for _ in range(3):  # these are taken, and no snapshot knows of them
        records = lost.source.poll(32)
        for record in records:
            lost.shard.step(record)
        metrics.turned(lost, records)
    metrics.stopped(lost, "lost")
    between = of_shard(samples(metrics.text().decode()), "everlearn_events_total")
    assert between > before
    loop = make_loop(log, tmp_path / "s", observer=metrics)
    loop.run()
    after = of_shard(samples(metrics.text().decode()), "everlearn_events_total")
    assert after - between == loop.shard.counts.events - before


def stop_after(n: int) -> Any:
    """True once it has been asked n times."""
    left = iter(range(n))
    return lambda: next(left, None) is None


def test_events_that_a_killed_process_had_answered_after_its_snapshot_are_counted_as_replayed(
    log: EmbeddedLog, tmp_path: Path
) -> None:
    killed = make_loop(log, tmp_path / "s", every_seconds=1e9)
    killed.resume()
    for _ in range(4):
        killed.turn()
    killed.sink.flush()  # answers are out, and no snapshot knows of them
    given = killed.shard.counts.answered
    assert given > 0
    metrics, out = Metrics(), io.StringIO()
    loop = make_loop(log, tmp_path / "s", observer=Several(metrics, Logs(stream=out)))
    loop.resume()
    loop.turn()
    metrics.stopped(loop, "stopped")
    found = samples(metrics.text().decode())
    assert of_shard(found, "everlearn_replayed_events_total") == loop.shard.counts.answered < given
    loop.run()
    found = samples(metrics.text().decode())
    assert of_shard(found, "everlearn_replayed_events_total") == given
    assert json.loads(out.getvalue().splitlines()[0])["again"] == given


def test_decoding_is_measured_where_the_source_decodes_by_the_loops_timers(log: EmbeddedLog) -> None:
    shard, metrics = Shard(PlainLearner(), PrequentialMetrics()), Metrics()
    measured = shard.timers.decoding(decode)
    source = LogSource(log, ["e"], start="beginning", bounded=True, decoders={"e": measured})
    loop = Loop(shard, source, ListSink(), observer=metrics)
    assert loop.run()
    found = samples(metrics.text().decode())
    count = of_shard(found, "everlearn_decode_seconds_count")
    assert count - 16 < loop.records <= count
    assert of_shard(found, "everlearn_decode_seconds_sum") > 0.0
    assert shard.counts.malformed == 1


def test_lag_is_what_the_log_holds_beyond_the_loop_and_is_asked_for_once_in_a_while(log: EmbeddedLog) -> None:
    clock = ManualClock()
    metrics = Metrics(clock=clock, every=1.0, lag_every=5.0)
    source = LogSource(log, ["e"], start="beginning")
    asked = []
    ask_ends = source.latest_offsets
    source.latest_offsets = lambda: asked.append(clock.monotonic()) or ask_ends()  # type: ignore[method-assign,func-returns-value]
    loop = Loop(
        Shard(PlainLearner(), PrequentialMetrics()), source, ListSink(), clock=clock, observer=metrics
    )
    loop.resume()
    for _ in range(12):
        clock.sleep(1.0)
        loop.run(stop=stop_after(11), timeout=0.0)  # ten records
    assert len(asked) == 3
    found = samples(metrics.text().decode())
    end = source.latest_offsets()[TopicPartition("e", 0)]
    assert of_shard(found, "everlearn_lag_records", topic="e", partition="0") in range(end - 120, end - 80)


def test_a_log_that_does_not_answer_is_not_asked_again_soon_and_shows_no_lag(log: EmbeddedLog) -> None:
    clock = ManualClock()
    metrics = Metrics(clock=clock, every=1.0, lag_every=5.0)
    source = LogSource(log, ["e"], start="beginning")
    asked = []

    def silent() -> dict[TopicPartition, int]:
        asked.append(clock.monotonic())
        raise BrokerUnavailable("no broker answers")  # or whatever else a client raises

    source.latest_offsets = silent  # type: ignore[method-assign]
    loop = Loop(
        Shard(PlainLearner(), PrequentialMetrics()), source, ListSink(), clock=clock, observer=metrics
    )
    loop.resume()
    for _ in range(61):
        clock.sleep(1.0)
        metrics.turned(loop, [])
    assert len(asked) == 2
    assert not any(name == "everlearn_lag_records" for name, _ in samples(metrics.text().decode()))


def test_healthz_tells_a_loop_that_turns_from_one_that_is_stuck_or_stopped() -> None:
    clock = ManualClock()
    health = Health(within=10.0, clock=clock)
    loop = Loop(Shard(PlainLearner(), PrequentialMetrics()), ListSource([]), ListSink())
    with Server(Metrics(), health, port=0) as server:
        url = server.url + "/healthz"
        assert get(url)[0] == 503
        health.resumed(loop, Resumed(entry=None))
        status, text = get(url)
        assert (status, json.loads(text)["state"]) == (200, "running")
        assert json.loads(text)["shards"]["0"]["snapshot_age_seconds"] is None
        clock.sleep(11.0)
        status, text = get(url)
        assert (status, json.loads(text)["state"]) == (503, "stuck")
        health.turned(loop, [])
        assert ask(server.url)[0]
        health.stopped(loop, "the broker is gone")
        assert ask(server.url) == (False, "stopped: the broker is gone")
        health.waiting("another member owns the topic")
        assert ask(url) == (True, "waiting: another member owns the topic")
        assert get(server.url + "/else")[0] == 404
    assert ask(url)[0] is False


class Away(ListSource):
    """A source whose broker is away for as many seconds as it is told."""

    seconds: float | None = None

    def away(self) -> float | None:
        return self.seconds


def test_a_broker_that_is_away_is_told_once_and_so_is_that_it_is_back() -> None:
    clock, out, said = ManualClock(), io.StringIO(), io.StringIO()
    metrics, health = Metrics(clock=clock), Health(clock=clock)
    logs, told = Logs(stream=out, clock=clock), Told(PlainView(Console(file=said, width=200)))
    now = [Event(id="a", time=0.0, features={"a": 1.0}, label=1)]
    past = MergedSource(ListSource({TopicPartition("history:e", 0): now}))
    source = Away({TopicPartition("e", 0): now})
    merged = HistoryThenLive(past, MergedSource(WithoutKnown(source, Known({}))))
    shard = Shard(PlainLearner(), PrequentialMetrics())
    loop = Loop(shard, merged, ListSink(), clock=clock, observer=Several(metrics, health, logs, told))
    loop.resume()

    def gauge() -> float:
        return of_shard(samples(metrics.text().decode()), "everlearn_broker_away_seconds")

    loop.turn()
    assert (health.report()["state"], gauge()) == ("running", 0.0)
    for source.seconds in (11.0, 12.0, 13.0):
        loop.turn()
        clock.sleep(1.0)
    assert (health.well, gauge()) == (True, 14.0)
    report = health.report()
    assert (report["state"], report["reason"]) == ("waiting", "no broker has answered for 14 s")
    assert report["shards"]["0"]["broker_away_seconds"] == 14.0
    clock.sleep(61.0)
    assert (health.well, health.report()["state"]) == (False, "stuck")
    source.seconds = None
    loop.turn()
    loop.turn()
    report = health.report()
    assert (report["state"], report["reason"], gauge()) == ("running", None, 0.0)
    assert report["shards"]["0"]["broker_away_seconds"] is None
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [
        (line["event"], line["level"], line["seconds"]) for line in lines if "broker" in line["event"]
    ] == [
        ("broker_away", "warning", 11.0),
        ("broker_back", "info", 75.0),
    ]
    assert said.getvalue().count("no broker has answered for 11 s; the run waits for it\n") == 1
    assert said.getvalue().count("the broker is back after 75 s\n") == 1
    source.seconds = 11.0
    loop.turn()
    loop.close()  # the shard goes to another process, and comes back two hours later
    clock.sleep(7200.0)
    source.seconds = None
    told.turned(loop, [])
    assert said.getvalue().count("the broker is back") == 1


def test_a_port_in_use_is_told_with_what_to_do() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(CannotListen, match=rf"127\.0\.0\.1:{port} .*port 0"):
            Server(Metrics(), Health(), port=port)


def test_a_closed_server_frees_its_port() -> None:
    server = Server(Metrics(), Health(), port=0)
    server.close()
    server.close()
    with Server(Metrics(), Health(), port=server.port) as again:
        assert get(again.url + "/metrics")[0] == 200


def test_the_health_command_ends_with_0_or_1() -> None:
    def health(url: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "engine.cli", "health", url], capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout + done.stderr

    watch = Health()
    with Server(Metrics(), watch, port=0) as server:
        assert health(server.url) == (1, "starting\n")
        watch.waiting("nothing is there yet")
        assert health(f"127.0.0.1:{server.port}") == (0, "waiting: nothing is there yet\n")
    code, text = health(server.url)
    assert (code, text.startswith("nothing answers at")) == (1, True)
    assert health("ftp://here")[0] == 2


def test_one_call_gives_all_observers_and_tells_where_metrics_are(log: EmbeddedLog, tmp_path: Path) -> None:
    out = io.StringIO()
    with observing(port=0, stream=out) as observer:
        loop = make_loop(log, tmp_path / "s", observer=observer)
        assert loop.run()
        first = json.loads(out.getvalue().splitlines()[0])
        found = samples(get(first["url"] + "/metrics")[1])
    assert of_shard(found, "everlearn_events_total") == loop.shard.counts.events


def test_neither_the_loop_nor_the_command_line_imports_prometheus_or_structlog() -> None:
    code = "import sys, engine.cli, engine.run; print({'prometheus_client', 'structlog'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_what_is_observed_changes_nothing_that_is_learned(log: EmbeddedLog, tmp_path: Path) -> None:
    with observing(port=None, format=None) as observer:
        watched = make_loop(log, tmp_path / "a", observer=observer)
        assert watched.run()
    plain = make_loop(log, tmp_path / "b", observer=Silent())
    plain.sink.rewind(0)
    assert plain.run()
    a, b = watched.shard.state(), plain.shard.state()
    assert a[1] == b[1]
    assert all(a[0][name].tobytes() == b[0][name].tobytes() for name in a[0])
