"""What the page on evaluating promises: its commands run as they stand, its tables name what there is."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from engine.cli import app

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs/evaluating.md").read_text(encoding="utf-8")
COMMANDS = [
    block.replace("\\\n", " ").strip() for block in re.findall(r"```sh\n(everlearn .*?)```", PAGE, re.DOTALL)
]


def call(command: str, folder: Path) -> str:
    """What a command of the page says, its files written into the folder."""
    words = [
        str(folder / word) if word.endswith((".json", ".html")) else word for word in shlex.split(command)[1:]
    ]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[10:18] + command[-12:])
def test_a_command_of_the_page_runs_as_it_stands(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    said = call(command, tmp_path)
    assert "parcels" in said
    for name in re.findall(r"\w+\.(?:json|html)", command):
        assert (tmp_path / name).stat().st_size > 1000


def test_the_page_says_truly_that_the_id_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    (doubtful,) = [command for command in COMMANDS if command.endswith("--ignore known --ignore sent")]
    assert "'parcel' looks like an id" in call(doubtful, tmp_path)
    assert all(
        "looks like an id" not in call(command, tmp_path)
        for command in COMMANDS
        if command.startswith("everlearn evaluate") and "--ignore parcel" in command
    )


def test_every_field_in_the_page_s_table_stands_in_the_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    call(COMMANDS[0], tmp_path)
    figures = json.loads((tmp_path / "parcels.json").read_text())
    table = PAGE[PAGE.index("| field | says |") : PAGE.index("`--html FILE`")]
    fields = [
        name for row in table.strip().splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])
    ]
    of_numbers = {"mae", "rmse", "r2", "no_change_mae"}
    assert len(fields) > 15
    assert set(fields) - of_numbers <= set(figures)
