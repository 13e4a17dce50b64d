"""The wheel: the three packages with their data, the command and the licence, and nothing else."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("engine", "memory", "streams")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Name → content of every file in a freshly built wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    done = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_wheel_holds_the_three_packages_alone(wheel: dict[str, bytes]) -> None:
    tops = {name.split("/")[0] for name in wheel}
    (info,) = {top for top in tops if top.endswith(".dist-info")}
    assert tops == {*PACKAGES, info}
    assert info.startswith("everlearn-")


def test_every_source_and_data_file_of_the_packages_is_in_the_wheel(wheel: dict[str, bytes]) -> None:
    here = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    packed = {name for name in wheel if name.split("/")[0] in PACKAGES}
    assert packed == here
    assert {name.rsplit(".", 1)[-1] for name in packed} >= {"py", "js", "css"}


def test_the_page_of_the_report_can_be_drawn_from_the_wheel_alone(wheel: dict[str, bytes]) -> None:
    vendored = [name for name in wheel if name.startswith("engine/evaluate/vendor/")]
    assert any(name.endswith(".js") for name in vendored)
    assert any(name.endswith(".css") for name in vendored)
    assert all(wheel[name] for name in vendored)


def test_the_wheel_brings_the_command_and_the_licence(wheel: dict[str, bytes]) -> None:
    by_end = {
        name.split("/", 1)[1]: content.decode() for name, content in wheel.items() if ".dist-info/" in name
    }
    assert "everlearn = engine.cli:main" in by_end["entry_points.txt"]
    assert "Apache License" in by_end["licenses/LICENSE"]
    assert "License-Expression: Apache-2.0" in by_end["METADATA"]
    assert "Requires-Python: >=3.11" in by_end["METADATA"]
