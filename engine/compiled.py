"""Where compiled kernels are kept: one folder per state of the kernel sources, so that none is ever stale."""

from __future__ import annotations

import hashlib
import logging
import os
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

_log = logging.getLogger(__name__)

SOURCES = (
    "engine/kernels.py",
    "engine/layout.py",
    "engine/mixing.py",
    "engine/network.py",
    "engine/newton.py",
    "engine/rules/local.py",
    "engine/steps.py",
    "memory/metric.py",
    "memory/neighbours.py",
    "memory/rates.py",
    "memory/tiles.py",
)


@cache
def folder() -> Path:
    """The cache folder for these sources where they lie, this Python and this numba; made if need be.

    It lies in $EVERLEARN_CACHE, else in the user's cache folder; where neither can be written, in a
    temporary folder.
    """
    import numba

    root = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256(f"{sys.version} {numba.__version__} {root}".encode())
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


def entry_point(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Compile a function that Python calls and keep the result in `folder()`."""
    import numba

    def decorate(function: Callable[..., Any]) -> Any:
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


def announce() -> None:
    """Say that kernels are about to be compiled, unless they are cached; on stderr, or where `logging` leads."""
    if not compiled_before():
        _log.warning("everlearn: compiling its kernels, once; this takes about a minute …")


def mark_ready() -> None:
    """Note that the kernels are in the cache."""
    (folder() / "ready").touch()
