"""Named places around every durable step where a test can end the process, as a power cut would."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

VARIABLE = "EVERLEARN_CRASH_AT"

_reached: dict[str, int] = {}
_watcher: Callable[[str], None] | None = None


def crash_point(name: str) -> None:
    """Nothing, unless a test watches or the environment names this place.

    EVERLEARN_CRASH_AT=NAME ends the process by SIGKILL the first time it comes here, NAME:3 the third time.
    """
    if _watcher is not None:
        _watcher(name)
    wanted = os.environ.get(VARIABLE)
    if not wanted:
        return
    place, _, count = wanted.partition(":")
    if place != name:
        return
    _reached[name] = _reached.get(name, 0) + 1
    if _reached[name] == int(count or 1):
        os.kill(os.getpid(), signal.SIGKILL)


def watch(watcher: Callable[[str], None] | None) -> None:
    """Call `watcher` with the name of every place that is passed; None ends it."""
    global _watcher
    _watcher = watcher
