"""Ids that were seen lately, and what became of them: little memory, quick to snapshot."""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping
from functools import lru_cache
from hashlib import blake2b
from struct import Struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streams.event import LabelValue
from streams.packed import pack, unpack

_uint64 = Struct("<Q").unpack


@lru_cache(maxsize=256)  # one record asks for the same id several times
def fingerprint(id: str) -> int:
    """64 bits of BLAKE2b over the id's UTF-8."""
    return _uint64(blake2b(id.encode(errors="surrogatepass"), digest_size=8).digest())[0]  # type: ignore[no-any-return]


class RecentIds:
    """The last `window` ids, each for at most `max_age` seconds of event time; the oldest go first.

    An id may carry a label (None: none). Ids are held as 64-bit hashes: a new id is taken for one of n held
    with probability n / 2⁶⁴, for 100,000 that is 5e-15: once in 5,800 years of 1,000 new ids per second. Of
    ids that somebody makes collide only those ids suffer.
    first: when the oldest one was seen; +inf where there is none.

    >>> recent = RecentIds(window=2)
    >>> [recent.add(id, now=0.0) for id in ("a", "b", "b", "c")]
    [True, True, False, True]
    >>> "a" in recent, "c" in recent, len(recent)
    (False, True, 2)
    """

    def __init__(self, window: int = 100_000, max_age: float = math.inf) -> None:
        if window < 1:
            raise ValueError(f"window is {window}; expected at least 1 id")
        if not max_age > 0:
            raise ValueError(f"max_age is {max_age}; expected seconds above 0")
        self.window = window
        self.max_age = max_age
        self._clear()

    def _clear(self) -> None:
        self._known: dict[int, LabelValue | None] = {}
        self._hashes = array("Q", bytes(8 * self.window))  # a ring
        self._times = array("d", bytes(8 * self.window))
        self._oldest = 0
        self.first = math.inf

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, id: str) -> bool:
        return fingerprint(id) in self._known

    def get(self, id: str, default: Any) -> Any:
        """The label that the id carries, which may be None; `default` where the id is not held."""
        return self._known.get(fingerprint(id), default)

    def add(self, id: str, now: float, label: LabelValue | None = None) -> bool:
        """The id was seen at event time `now`; whether it is new. One that is held keeps its place.

        Either gets this label.
        """
        known, key = self._known, fingerprint(id)
        new = key not in known
        if new:
            if len(known) == self.window:
                self._drop()
            at = (self._oldest + len(known)) % self.window
            self._hashes[at], self._times[at] = key, now
            if not known:
                self.first = now
        known[key] = label
        return new

    def _drop(self) -> None:
        del self._known[self._hashes[self._oldest]]
        self._oldest = (self._oldest + 1) % self.window
        self.first = self._times[self._oldest] if self._known else math.inf

    def advance(self, now: float) -> None:
        """Event time is now this; ids that were seen more than `max_age` before are forgotten.

        Where it went back by more than `max_age` the time before was wrong: all count as seen by now.
        """
        if not self._known:
            return
        if self._times[(self._oldest + len(self._known) - 1) % self.window] > now + self.max_age:
            self._times = array("d", np.minimum(np.frombuffer(self._times), now).tobytes())
            self.first = self._times[self._oldest]
        limit = now - self.max_age
        while self.first < limit:
            self._drop()

    def snapshot(self) -> dict[str, NDArray[Any]]:
        """Oldest first: hashes (n,) uint64, times (n,) float64, and labels packed where any id carries one."""
        at = (self._oldest + np.arange(len(self._known))) % self.window
        hashes = np.frombuffer(self._hashes, np.uint64)[at]
        arrays: dict[str, NDArray[Any]] = {"hashes": hashes, "times": np.frombuffer(self._times)[at]}
        labels = list(self._known.values())  # in the order of the ring: what is held keeps its place in both
        if labels.count(None) < len(labels):
            arrays["labels"] = pack(labels)
        return arrays

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Go back to a snapshot; of one with a larger window the latest ids are kept."""
        self._clear()
        hashes, times = arrays["hashes"][-self.window :], arrays["times"][-self.window :]
        if len(hashes) != len(times):
            raise ValueError(
                f"times has {len(times)} entries for {len(hashes)} hashes; expected one per hash"
            )
        n = len(hashes)
        labels: list[Any] = [None] * n
        if n and "labels" in arrays:
            labels = unpack(arrays["labels"], list[LabelValue | None])[-n:]
        self._known = dict(zip(hashes.tolist(), labels, strict=True))
        self._hashes[:n] = array("Q", np.ascontiguousarray(hashes, np.uint64).tobytes())
        self._times[:n] = array("d", np.ascontiguousarray(times, np.float64).tobytes())
        self.first = self._times[0] if n else math.inf
