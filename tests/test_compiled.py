"""Kernels are compiled by a process of their own, so that all that use them have the same machine code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engine import compiled


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.delenv(compiled.GIVEN, raising=False)
    monkeypatch.setenv("EVERLEARN_CACHE", str(tmp_path))
    monkeypatch.setattr(compiled, "folder", compiled.folder.__wrapped__)
    return tmp_path


def test_another_process_compiles_what_is_not_in_the_cache(
    fresh: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Any] = []

    def run(command: list[str], **how: Any) -> None:
        asked.append((command, how))
        compiled.mark_ready()

    monkeypatch.setattr(subprocess, "run", run)
    compiled.prepare()
    compiled.prepare()  # it is there now
    [(command, how)] = asked
    assert command[0] == sys.executable
    assert Path(how["env"][compiled.GIVEN]).is_relative_to(fresh)
    assert "compiling its kernels, once" in capsys.readouterr().err


def test_the_process_that_compiles_asks_no_further_one(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(compiled.GIVEN, str(fresh / "given"))
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("asked"))
    assert compiled.folder() == fresh / "given"
    compiled.prepare()


def test_where_no_process_can_be_started_this_one_compiles(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(fresh / "nothing"))
    compiled.prepare()
    assert not compiled.compiled_before()


def test_nothing_in_this_process_was_compiled_by_it() -> None:
    from engine import OnlineClassifier, kernels

    OnlineClassifier().learn_one({"x": 1.0}, True)
    assert not os.environ.get(compiled.GIVEN)
    for kernel in (kernels.run, kernels.bind):
        assert not kernel.stats.cache_misses
        assert kernel.stats.cache_hits
