"""The switch that freezes learning: a file beside the snapshots, on a file system that may not answer."""

from __future__ import annotations

import errno
import sys
from pathlib import Path

import numpy as np
import pytest

from engine.checkpoint import CheckpointStore
from engine.cli import main
from engine.switch import Switch


def failing(path: str) -> None:
    raise OSError(errno.EIO, "Input/output error")


@pytest.mark.parametrize("frozen", [False, True])
def test_a_file_system_that_fails_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frozen: bool
) -> None:
    switch = Switch(tmp_path)
    switch.set(frozen)
    assert switch.frozen() == frozen
    with monkeypatch.context() as patch:
        patch.setattr("engine.switch.os.stat", failing)
        assert switch.frozen() == frozen
    switch.set(not frozen)
    assert switch.frozen() != frozen


def test_a_file_system_that_has_never_answered_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("engine.switch.os.stat", failing)
        with pytest.raises(OSError, match="Input/output error"):
            Switch(tmp_path).frozen()
        assert Switch(tmp_path, always=True).frozen()


def test_what_one_process_sets_another_sees(tmp_path: Path) -> None:
    running, asked = Switch(tmp_path / "snapshots", "3"), Switch(tmp_path / "snapshots", "3")
    assert not running.frozen()
    asked.set(True)
    assert running.frozen()
    assert not Switch(tmp_path / "snapshots", "4").frozen()
    asked.set(False)
    assert not running.frozen()


def test_a_folder_that_is_gone_for_a_while_thaws_nothing(tmp_path: Path) -> None:
    switch = Switch(tmp_path / "snapshots")
    switch.set(True)
    assert switch.frozen()
    (tmp_path / "snapshots").rename(tmp_path / "away")
    assert switch.frozen()
    (tmp_path / "away").rename(tmp_path / "snapshots")
    switch.set(False)
    assert not switch.frozen()


def test_the_commands_say_what_holds_whatever_the_configuration_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = CheckpointStore(tmp_path)
    store.claim()
    store.save({"a": np.zeros(1)}, {})
    for command, said in (
        ("freeze", "is frozen from its next records on"),
        (
            "thaw",
            "is no longer frozen from its next records on, unless its run's configuration says [learning] fro",
        ),
    ):
        monkeypatch.setattr(sys, "argv", ["everlearn", command, str(tmp_path)])
        with pytest.raises(SystemExit) as end:
            main()
        assert not end.value.code
        assert said in capsys.readouterr().out
        assert Switch(tmp_path).frozen() == (command == "freeze")
