"""Kernels are compiled by a process of their own, so that all that use them have the same machine code."""

from __future__ import annotations

import os
import struct
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
    optimised: list[bool] = []
    monkeypatch.setattr(compiled, "optimise_entry_points_alone", lambda: optimised.append(True))
    assert compiled.folder() == fresh / "given"
    compiled.prepare()
    assert optimised == [True]


def test_only_what_python_calls_is_optimised_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    from numba import njit
    from numba.core import codegen

    seen: list[str] = []
    monkeypatch.setattr(codegen.CPUCodeLibrary, "_optimize_final_module", lambda self: seen.append(self.name))

    @njit
    def inner(x: int) -> int:
        return x + 1

    @njit
    def outer(x: int) -> int:
        return 2 * int(inner(x))

    monkeypatch.setattr(compiled, "_entry_points", {outer.__qualname__})
    compiled.optimise_entry_points_alone()
    assert outer(3) == 8
    assert seen == [outer.__qualname__]


@pytest.mark.parametrize("executable", ["nothing", None, "/bin/false"])
def test_where_no_process_compiles_this_one_will_and_says_what_that_means(
    executable: str | None, fresh: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, "executable", executable and str(fresh / executable))
    compiled.prepare()
    assert not compiled.compiled_before()
    assert "may compute other last bits" in caplog.text


def test_the_other_process_finds_the_same_code_whatever_stands_in_the_path(
    fresh: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "engine").mkdir()
    (tmp_path / "engine/__init__.py").touch()
    (tmp_path / "engine/learner.py").write_text(
        "import os, pathlib\ndef warmup(): pathlib.Path(os.environ['EVERLEARN_KERNELS'], 'ready').touch()\n"
    )
    monkeypatch.setattr(sys, "path", [tmp_path, *sys.path])  # in the place of a minute's work
    compiled.prepare()
    assert compiled.compiled_before()


def test_another_processor_has_a_folder_of_its_own(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import numba

    here = compiled.folder()
    monkeypatch.setattr(numba.config, "CPU_NAME", "generic")
    assert compiled.folder() != here


def test_nothing_in_this_process_was_compiled_by_it() -> None:
    from engine import OnlineClassifier, kernels

    OnlineClassifier().learn_one({"x": 1.0}, True)
    assert not os.environ.get(compiled.GIVEN)
    for kernel in (kernels.run, kernels.bind):
        assert not kernel.stats.cache_misses
        assert kernel.stats.cache_hits


def references_in(library: bytes, name: bytes) -> int:
    """How often machine code in an ELF file refers to a symbol."""
    start = library.index(b"\x7fELF")
    elf = library[start:]
    (at,) = struct.unpack_from("<Q", elf, 0x28)
    size, count = struct.unpack_from("<HH", elf, 0x3A)
    sections = [struct.unpack_from("<IIQQQQIIQQ", elf, at + i * size) for i in range(count)]
    found = 0
    for _, kind, _, _, place, length, link, _, _, _ in sections:
        if kind != 4:  # SHT_RELA
            continue
        symbols = sections[link]
        names = sections[symbols[6]]
        for entry in range(place, place + length, 24):
            (info,) = struct.unpack_from("<Q", elf, entry + 8)
            (text,) = struct.unpack_from("<I", elf, symbols[4] + 24 * (info >> 32))
            begin = names[4] + text
            found += elf[begin : elf.index(b"\0", begin)] == name
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="machine code is in ELF files on Linux")
def test_the_hot_kernel_counts_no_references() -> None:
    from engine import OnlineClassifier

    OnlineClassifier().learn_one({"x": 1.0}, True)
    (file,) = compiled.folder().rglob("kernels.run-*.nbc")
    library = file.read_bytes()
    assert references_in(library, b"exp") > 20  # the reader finds what is there
    assert references_in(library, b"NRT_incref") < 20
