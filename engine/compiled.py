"""Where compiled kernels are kept: one folder per state of the kernel sources, so that none is ever stale."""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

_log = logging.getLogger(__name__)

_entry_points: set[str] = set()

LONGEST = 900.0  # seconds that compiling may take
GIVEN = "EVERLEARN_KERNELS"
"""Names the cache folder to the process that compiles."""
SOURCES = (
    "engine/borrowed.py",
    "engine/encoders/patches.py",
    "engine/encoders/picture.py",
    "engine/encoders/random_units.py",
    "engine/experience.py",
    "engine/kernels.py",
    "engine/layout.py",
    "engine/mixing.py",
    "engine/network.py",
    "engine/newton.py",
    "engine/rules/local.py",
    "engine/sleep.py",
    "engine/steps.py",
    "engine/surprise.py",
    "engine/watch.py",
    "memory/early.py",
    "memory/analytic.py",
    "memory/analytic_kernels.py",
    "memory/episodic.py",
    "memory/episodic_kernels.py",
    "memory/tree_kernels.py",
    "memory/lookback.py",
    "memory/metric.py",
    "memory/neighbours.py",
    "memory/rates.py",
    "memory/surprise.py",
    "memory/tiles.py",
)


@cache
def folder() -> Path:
    """The cache folder for these sources where they lie, this Python, numba and processor; made if need be.

    It lies in $EVERLEARN_CACHE, else in the user's cache folder; where neither can be written, in a
    temporary folder.
    """
    import numba

    if given := os.environ.get(GIVEN):
        return Path(given)
    root = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256(f"{sys.version} {numba.__version__} {root} {_processor()}".encode())
    for source in SOURCES:
        digest.update((root / source).read_bytes())
    base = os.environ.get("EVERLEARN_CACHE") or os.environ.get("XDG_CACHE_HOME")
    home = Path(base) if base else Path.home() / ".cache"
    path = home / "everlearn" / digest.hexdigest()[:16]
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.W_OK):
            raise PermissionError(path)
    except OSError:
        path = Path(tempfile.mkdtemp(prefix="everlearn-kernels-"))
    return path


def _processor() -> str:
    """What the machine code is for: this processor, or what numba's settings say instead."""
    import numba
    from llvmlite import binding

    name = numba.config.CPU_NAME or binding.get_host_cpu_name()
    features = numba.config.CPU_FEATURES or binding.get_host_cpu_features().flatten()
    return f"{name} {features}"


def entry_point(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Compile a function that Python calls and keep the result in `folder()`."""
    import numba

    def decorate(function: Callable[..., Any]) -> Any:
        _entry_points.add(function.__qualname__)
        before = numba.config.CACHE_DIR
        numba.config.CACHE_DIR = str(folder())
        try:
            return numba.njit(cache=True, **options)(function)
        finally:
            numba.config.CACHE_DIR = before

    return decorate


def compiled_before() -> bool:
    """Whether the kernels for these sources are in the cache."""
    return (folder() / "ready").exists()


def optimise_entry_points_alone() -> None:
    """In a process that compiles: leave the optimiser out for functions that only compiled code calls.

    They are optimised within each entry point. Numba has no option for it: where its inside has changed, all is
    optimised at every level, which takes longer.
    """
    from numba.core import codegen

    library: Any = getattr(codegen, "CPUCodeLibrary", None)
    optimise = getattr(library, "_optimize_final_module", None)
    if optimise is None:
        return

    def where_called(self: Any) -> None:
        if getattr(self, "name", "") in _entry_points:
            optimise(self)

    library._optimize_final_module = where_called


def prepare() -> None:
    """Have the kernels in the cache before one of them is called; says so on stderr where that takes a while.

    A process of its own compiles them. One that compiles has other machine code for some functions than those
    that load the result: each function was compiled by itself too, and that copy is taken. Both are right, but
    sums may be rounded otherwise in their last bit, and the same seed must give the same bits everywhere.
    """
    if GIVEN in os.environ:  # this is that process
        optimise_entry_points_alone()
        return
    if compiled_before():
        return
    print("everlearn: compiling its kernels, once; this takes a minute or so …", file=sys.stderr, flush=True)
    with _alone():
        if not compiled_before():  # another process may have done it meanwhile
            why = _compile_elsewhere()
            if why:
                _log.warning(
                    "kernels could not be compiled in a process of their own (%s): this one compiles them, and "
                    "may compute other last bits than those that follow",
                    why,
                )


def _compile_elsewhere() -> str:
    """Start a process that compiles, and wait for it; why that failed, "" where it did not."""
    if getattr(sys, "frozen", False) or not sys.executable:
        return "there is no Python interpreter to start"
    path = [os.path.abspath(os.fspath(place)) for place in sys.path]
    code = f"import sys; sys.path[:] = {path!r}; from engine.learner import warmup; warmup()"
    try:
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, GIVEN: str(folder())},
            check=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=LONGEST,
        )
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip().splitlines()
        return f"it ended with {error.returncode}{': ' + said[-1] if said else ''}"
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return "" if compiled_before() else "it left nothing"


@contextmanager
def _alone() -> Iterator[None]:
    """One process at a time, as far as the file system has locks."""
    with (folder() / "lock").open("wb") as file:
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def mark_ready() -> None:
    """Note that the kernels are in the cache."""
    (folder() / "ready").touch()
