"""Snapshots written while learning goes on: the loop copies its state, one thread at a time makes it durable."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, NamedTuple

from engine.checkpoint.file import Arrays, encoded
from engine.checkpoint.store import CheckpointStore, Entry


class Written(NamedTuple):
    """One snapshot that is durable: its file, how long the writing took and when it ended, in seconds.

    at: of `time.monotonic`.
    """

    entry: Entry
    seconds: float
    at: float


class SnapshotWriter:
    """Saves to a store in the background, one snapshot at a time.

    Every method is for one thread, the loop's. What the background thread cannot do is raised there, by the
    next `submit`, `settle` or `wait`: StaleWriter, SnapshotNotWritten, TypeError for an array of no known type.
    last: the newest snapshot that is durable. waited: seconds that `submit` has waited for a write, in all.

    >>> import tempfile
    >>> import numpy as np
    >>> store = CheckpointStore(tempfile.mkdtemp())
    >>> with SnapshotWriter(store) as writer:
    ...     writer.submit({"w": np.zeros(3)}, {"events": 7}, then=lambda: print("durable"))
    ...     writer.wait()
    durable
    >>> store.latest().meta
    {'events': 7}
    """

    def __init__(self, store: CheckpointStore) -> None:
        self.store = store
        self.last: Written | None = None
        self.waited = 0.0
        self._under_way: _Write | None = None

    @property
    def busy(self) -> bool:
        """Whether a write is under way, so that `submit` would wait for it."""
        return self._under_way is not None and self._under_way.thread.is_alive()

    def submit(self, arrays: Arrays, meta: Mapping[str, Any], then: Callable[[], None] | None = None) -> None:
        """Save these in the background; waits for the write before, and settles it.

        arrays: copies, which nobody changes any more. meta: becomes JSON here and may change afterwards;
        TypeError where it has no such form. then: called by `settle`, `wait` or the next `submit` once the
        snapshot is durable.
        """
        began = time.perf_counter()
        if self._under_way is not None:
            self._under_way.thread.join()
            self.waited += time.perf_counter() - began
        self.settle()
        self._under_way = _Write(self.store, arrays, encoded(meta), then)

    def settle(self) -> None:
        """Do what waits for a write that has ended, or raise its error; returns at once where none has."""
        write = self._under_way
        if write is None or write.thread.is_alive():
            return
        self._under_way = None
        if write.error is not None:
            raise write.error
        self.last = write.written
        if write.then is not None:
            write.then()

    def wait(self) -> None:
        """Until what was submitted is durable; then as `settle`."""
        if self._under_way is not None:
            self._under_way.thread.join()
        self.settle()

    def close(self) -> None:
        """Wait for the write under way and forget it: nothing is called and nothing raised, `wait` does that."""
        if self._under_way is not None:
            self._under_way.thread.join()
            self._under_way = None

    def __enter__(self) -> SnapshotWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.wait()
        self.close()


class _Write:
    """One save in a thread of its own, with what became of it."""

    def __init__(
        self,
        store: CheckpointStore,
        arrays: Arrays,
        meta: bytes,
        then: Callable[[], None] | None,
    ) -> None:
        self.then = then
        self.error: BaseException | None = None
        self.written: Written | None = None
        self.thread = threading.Thread(target=self._run, args=(store, arrays, meta), name="snapshot")
        self.thread.start()  # drops the arrays when it ends

    def _run(self, store: CheckpointStore, arrays: Arrays, meta: bytes) -> None:
        began = time.monotonic()
        try:
            entry = store.save(arrays, meta)
        except BaseException as error:
            self.error = error
            del arrays  # the error's frames would keep them
            _forget_locals(error)
        else:
            now = time.monotonic()
            self.written = Written(entry, now - began, now)


def _forget_locals(error: BaseException | None) -> None:
    """Release what the frames of an error, and of those behind it, hold; where it happened stays known."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
