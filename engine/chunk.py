"""Labelled events that are forecast and learned in one call, each before the next, to the bit as one by one.

A call from Python costs about as much as the work on an event. Where several events stand ready that carry their
labels, they are gathered here and go through the kernels together; what changes the learner's sizes (a name,
category, key value or class that is new) goes alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from typing import Any, NamedTuple

import numpy as np

from engine.arrays import no_categories
from engine.core import Core, Kept
from engine.kernels import FORECAST, LEARN, LIVE, OBSERVE

UNFIT = (TypeError, ValueError, OverflowError)
"""What an event, a label or a weight raises that a learner cannot take."""


class Said(NamedTuple):
    """What was forecast for an event, label → probability or a value, and the labels learned by then.

    surprise: as a forecast's; None without `anomaly=True`.
    """

    answer: Any
    version: int
    surprise: float | None


class Chunk:
    """A learner's room for events that are learned together; to be had from its `chunk`.

    size: how many fit. Between the first `add` and `learn` the learner must not be used otherwise.

    >>> from engine import OnlineClassifier
    >>> model = OnlineClassifier(seed=0)
    >>> for i in range(20):
    ...     model.learn_one({"x": i % 3}, i % 3 == 0)
    >>> chunk = model.chunk(size=8)
    >>> [chunk.add({"x": i % 3}, i % 3 == 0) for i in range(2)], chunk.add({"new": 1.0}, True)
    ([True, True], False)
    >>> [said.version for said in chunk.learn()], model.counters()["labels"]
    ([20, 21], 22)
    """

    def __init__(self, core: Core, check: Callable[[Any, float, Any, Any], Any], size: int) -> None:
        self._core, self._check, self.size = core, check, size
        self._sizes: Any = None
        self._kept: list[Kept] = []
        self._events: list[tuple[Mapping[Any, Any], Any]] = []
        self._fit()

    def _fit(self) -> None:
        """Room for the learner's present sizes."""
        core, n = self._core, self.size
        if self._sizes is core.sizes:
            return
        self._sizes = core.sizes
        self._X = np.zeros((n, core.sizes.features))
        self._W = np.zeros((n, core.sizes.wide + 1), np.float32)
        self._times, self._targets, self._weights = np.zeros(n), np.zeros(n), np.zeros(n)
        self._rare = np.zeros(n)
        self._keys = np.full((n, core.sizes.key_cells), -1, np.int64)
        self._categories = no_categories(core, n)

    def __len__(self) -> int:
        return len(self._kept)

    def add(
        self, x: Mapping[Any, Any], y: Any, w: float = 1.0, *, id: Hashable | None = None,
        time: float | None = None,
    ) -> bool:  # fmt: skip
        """Take an event with its label; False, and nothing has changed, where it must go alone, after these.

        That is so where it brings something new, where w is 0, and where the learner will refuse it.
        """
        at = len(self._kept)
        if at == self.size:
            return False
        if not at:
            self._fit()
        core = self._core
        try:
            target, id, time = self._check(y, w, id, time)
            encoded = core.fields.encode(x)
            keys = core.key_values(x)
        except UNFIT:
            return False
        if not core.wide.settled(encoded.images, many=core.sizes.many):
            return False
        if w == 0.0 or encoded.unknown or not (core.regression or target in core.classes):
            return False
        now = float(core.state.tally[0]) + at if time is None else time
        if keys:
            rows = core.known_keys(keys)
            if rows is None or now > core.overdue.next_due():
                return False
            self._keys[at] = rows
        if core.surprise is not None:
            self._rare[at] = core.fields.rarity(encoded.categories)
        if encoded.categories:
            columns = core.fields.known_rows(encoded.categories)
            if columns is None:
                return False
            core.fields.admit((), encoded.categories)
            self._categories[at] = columns
        elif len(core.fields.category_fields):
            self._categories[at] = -1
        self._X[at] = encoded.values
        if core.sizes.wide:
            core.wide.encode(encoded.images, self._X[at], self._W[at])
        self._times[at] = math.nan if time is None else time
        self._targets[at] = target if core.regression else core.classes[target]
        self._weights[at] = w
        core.counts["infinite_values"] += encoded.bad
        self._kept.append((id, time, keys))
        if core.added:
            self._events.append((dict(x), target))
        return True

    def learn(self) -> list[Said]:
        """Forecast and learn what was added, in order; what was said for each event."""
        core, n = self._core, len(self._kept)
        if not n:
            return []
        version = int(core.state.tally[1])
        core.keep(self._kept)
        ids, self._kept = [id for id, _, _ in self._kept], []
        given = None
        if core.added:
            events, targets = zip(*self._events, strict=True)
            given = core.added.follow(events, targets, self._weights[:n], core.classes, core.sizes.outputs)
            self._events = []
        out = core.run_chunk(
            FORECAST | OBSERVE | LEARN | LIVE, self._X[:n], self._W[:n], self._times[:n], self._keys[:n],
            self._categories[:n], self._targets[:n], self._weights[:n], ids=ids, rare=self._rare[:n],
            given=given,
        )  # fmt: skip
        scores = [None] * n if core.surprise is None else core.chunk_scores.tolist()
        if core.regression:
            return [Said(value, version + i, scores[i]) for i, value in enumerate(out[:, 0].tolist())]
        labels = tuple(core.classes)
        return [
            Said(dict(zip(labels, row, strict=False)), version + i, scores[i])
            for i, row in enumerate(out.tolist())
        ]
