"""The soak benchmark in small: every event is answered, the log is cut, growth is seen where there is growth."""

from __future__ import annotations

import pytest

from benchmarks import soak
from benchmarks.soak import run_soak, slope
from streams.log import EmbeddedLog


def test_it_answers_everything_cuts_the_log_and_says_what_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: dict[str, int] = {}

    def close(log: EmbeddedLog) -> None:
        begins, ends = log.begin_offsets(), log.end_offsets()
        kept.update({p.topic: ends[p] - begins[p] for p in ends if log is logs[0]})
        original(log)

    original, logs = EmbeddedLog.close, []
    monkeypatch.setattr(EmbeddedLog, "close", close)
    monkeypatch.setattr(soak, "EmbeddedLog", lambda path: logs.append(EmbeddedLog(path)) or logs[-1])
    findings = run_soak(4_000, step=1_000, every=1_000)
    assert [row["million"] for row in findings.rows] == [0.001, 0.002, 0.003, 0.004]
    assert all(row["snapshot MB"] > 0 and row["order KB"] > 0 for row in findings.rows)
    assert any(note.startswith("4,000 events answered") for note in findings.notes)
    assert any(note.startswith("Grows over the last three quarters: ") for note in findings.notes)
    assert 0 < kept["answers"] < 3_500
    assert 0 < kept["events"] < 3_500


def test_a_run_that_takes_too_long_says_what_it_reached() -> None:
    findings = run_soak(4_000, step=2_000, seconds=0.0)
    assert findings.rows == []
    assert findings.notes[0].startswith("Stopped after 0 s: 0 of 4,000 events.")
    assert any(note.startswith("1,024 events answered") for note in findings.notes)  # what was appended


def test_growth_has_an_interval() -> None:
    change, half = slope([1.0, 2.0, 3.0, 4.0], [10.0, 12.0, 14.0, 16.0])
    assert change == pytest.approx(2.0 / 13.0)
    assert half == pytest.approx(0.0, abs=1e-9)
    change, half = slope([1.0, 2.0, 3.0, 4.0], [10.0, 12.0, 10.0, 12.0])
    assert abs(change) < half
