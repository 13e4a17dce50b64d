"""Freezes and thaws learning from outside: a file in the snapshots' folder, which a running loop looks for."""

from __future__ import annotations

import os
from pathlib import Path

from engine.checkpoint import sync_folder


class Switch:
    """Whether learning of a shard shall be frozen; holds for runs to come as well, until it is thawed.

    folder: that of the snapshots. always: frozen whatever the file says. Where the file system does not answer,
    what it said last holds; before it has answered once, OSError.

    >>> import tempfile
    >>> switch = Switch(tempfile.mkdtemp())
    >>> switch.set(True)
    >>> switch.frozen()
    True
    >>> switch.set(False)
    >>> switch.frozen()
    False
    """

    def __init__(self, folder: str | os.PathLike[str], shard: str = "0", *, always: bool = False) -> None:
        self._folder, self._always = Path(folder), always
        self._path = os.path.join(os.fspath(folder), f"{shard}.frozen")
        self._known: bool | None = None

    def frozen(self) -> bool:
        """Whether it shall be; one look at the file system."""
        if self._always:
            return True
        try:
            os.stat(self._path)
        except FileNotFoundError:
            self._known = (
                self._known is True and not self._folder.is_dir()
            )  # a folder that is gone says nothing
        except OSError:
            if self._known is None:
                raise
        else:
            self._known = True
        return self._known

    def set(self, frozen: bool) -> None:
        """Freeze or thaw, durably; OSError where the folder cannot be written."""
        path = Path(self._path)
        if frozen:
            self._folder.mkdir(parents=True, exist_ok=True)
            path.touch()
        else:
            path.unlink(missing_ok=True)
        if self._folder.is_dir():
            sync_folder(self._folder)
