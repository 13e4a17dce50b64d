"""Named places around every durable step where a test can end the process, as a power cut would."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

VARIABLE = "EVERLEARN_CRASH_AT"
"""NAME ends the process by SIGKILL the first time it comes to that place, NAME:3 the third time."""

_watcher: Callable[[str], None] | None = None
_place = ""
_left = 0


def crash_point(name: str) -> None:
    """Nothing, unless a test watches or the environment named this place when the process began."""
    global _left
    if _watcher is not None:
        _watcher(name)
    if name == _place:
        _left -= 1
        if _left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def arm(wanted: str) -> None:
    """End the process at this place, in the form the environment variable takes; "" for nowhere.

    >>> arm("checkpoint.before_rename:3")
    >>> arm("")
    """
    global _place, _left
    _place, _, count = wanted.partition(":")
    _left = int(count or 1)


def watch(watcher: Callable[[str], None] | None) -> None:
    """Call `watcher` with the name of every place that is passed; None ends it."""
    global _watcher
    _watcher = watcher


arm(os.environ.get(VARIABLE, ""))
