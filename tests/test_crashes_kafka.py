"""SIGKILL around every durable step over a broker, as the benchmark does it, a few times for each test run."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import crashes_kafka
from benchmarks.crashes import whole_log
from benchmarks.crashes_kafka import KINDS, Topics, compare, make_topics, run_live
from streams.kafka import KafkaSink

pytestmark = pytest.mark.kafka


def test_killed_over_a_broker_a_run_ends_as_an_undisturbed_one(broker: str) -> None:
    """In a process of its own, because it forks."""
    command = [sys.executable, "-m", "benchmarks.crashes_kafka", broker, "4", "--seed", "21"]
    kinds = ["--kind", "kafka-python", "--kind", "confluent+transactions"]
    ended = subprocess.run(
        [*command, *kinds], capture_output=True, text=True, cwd=Path(__file__).parent.parent
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    rows = [
        line.split(" | ") for line in ended.stdout.splitlines() if line.startswith(("| kafka", "| confluent"))
    ]
    assert [(int(kills) >= 2, repeats) for _, _, kills, _, repeats, _ in rows] == [(True, "0"), (True, "0")]


def test_the_comparison_sees_messages_that_were_sent_again(
    tmp_path: Path, broker: str, topic: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    topics, whole, kind = Topics(broker, topic("x")), whole_log(2, seed=5), KINDS["confluent"]
    monkeypatch.setattr(KafkaSink, "_stands", lambda self, key, raw: False)
    make_topics(topics)

    with monkeypatch.context() as patched:
        patched.setattr(crashes_kafka.Loop, "_save", stopping_at(3))
        with pytest.raises(KeyboardInterrupt):
            run_live(tmp_path, topics, kind, whole, 1, "")
    run_live(tmp_path, topics, kind, whole, 2, "")
    repeats, differences = compare(tmp_path, topics, kind, whole)
    assert repeats > 20
    assert differences == []


def stopping_at(number: int) -> Callable[[crashes_kafka.Loop], None]:
    """A `_save` that ends the run in place of this snapshot, once its answers have left."""
    save, calls = crashes_kafka.Loop._save, [0]

    def stopping(loop: crashes_kafka.Loop) -> None:
        calls[0] += 1
        if calls[0] < number:
            save(loop)
            return
        loop._flush()
        loop.abandon()
        raise KeyboardInterrupt

    return stopping
