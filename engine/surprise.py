"""A learner's memory of what its events were like, and the score from 0 to 1 of how unlike them one is."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from engine.compiled import entry_point
from engine.packed import pack, unpack
from memory.surprise import (
    EVENTS,
    Recent,
    Seen,
    allocate,
    gap,
    push,
    recent,
    surprise,
    take,
    unlikely,
    widened,
)

LEAST = 1e-12
"""Probabilities and errors below count as this."""

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


class Ranks(NamedTuple):
    """The last surprises by an event's features, by its label, and by both together."""

    features: Recent
    label: Recent
    both: Recent


@njit(nogil=True, error_model="numpy")
def together(score: float, label: float) -> float:
    """Fisher's −ln p_features − ln p_label."""
    return -math.log(max(1.0 - score, LEAST)) - math.log(label)


@njit(nogil=True, error_model="numpy")
def add_label(ranks: Any, score: float, said: float) -> None:
    """A label came to an event of this score; said: its own surprise."""
    push(ranks.both, together(score, unlikely(ranks.label, said)))
    push(ranks.label, said)


@entry_point(nogil=True, error_model="numpy")
def ask(seen: Any, features: Any, x: F64, unknown: int, room: F64) -> tuple[float, float]:
    """(s, score) of an event, as `Surprise.unlike`; changes nothing but room, (EVENTS,)."""
    s = surprise(seen, x, unknown * gap(1.0, seen.events[0] + 1.0), room)
    return s, 1.0 - unlikely(features, s) if features.place[1] > 0 else 0.0


@entry_point(nogil=True, error_model="numpy")
def happened(seen: Any, features: Any, x: F64, s: float) -> int:
    """An event of surprise s was observed; its place in the memory, or −1."""
    push(features, s)
    return take(seen, x)


@entry_point(nogil=True, error_model="numpy")
def labelled(ranks: Any, score: float, said: float) -> None:
    """Its label was learned."""
    add_label(ranks, score, said)


@entry_point(nogil=True, error_model="numpy")
def with_label(ranks: Any, score: float, said: float) -> float:
    """The score of an event and its label."""
    if ranks.both.place[1] == 0:
        return score
    return 1.0 - unlikely(ranks.both, together(score, unlikely(ranks.label, said)))


@entry_point(nogil=True, error_model="numpy")
def follow(seen: Any, ranks: Any, X: F64, said: F64, places: I64, scores: F64, room: F64) -> None:
    """The same for n events in order; said: (n,), NaN where no label is learned; places, scores: (n,), out."""
    for i in range(X.shape[0]):
        s = surprise(seen, X[i], 0.0, room)
        scores[i] = 1.0 - unlikely(ranks.features, s) if ranks.features.place[1] > 0 else 0.0
        push(ranks.features, s)
        places[i] = take(seen, X[i])
        if not math.isnan(said[i]):
            add_label(ranks, scores[i], said[i])


class Surprise:
    """What `score_one` asks: up to 512 earlier events, and the last 4,096 surprises of each kind.

    It takes 4 kB per feature, 21 MB at most, and 100 kB. Where labels are absent it works as well: events
    enter as they are observed. The learner's forecasts do not depend on it.
    """

    def __init__(self, seed: int) -> None:
        self.seen = allocate(1, seed)
        self.ranks = Ranks(recent(), recent(), recent())
        self.ids: list[Hashable | None] = [None] * EVENTS
        self._room = np.zeros(EVENTS)

    def unlike(self, values: Sequence[float] | F64, rare: float, unknown: int) -> tuple[float, float]:
        """How unlike earlier events an event is, (s, score); changes nothing.

        values: (F,) by slot, NaN for missing; rare: how rare its categories are; unknown: how many of its
        fields were never seen.
        """
        s, score = ask(self._wide(len(values)), self.ranks.features, row(values, rare), unknown, self._room)
        return float(s), float(score)

    def observe(self, values: F64, rare: float, s: float, id: Hashable | None) -> None:
        """An event of surprise s happened."""
        at = happened(self._wide(len(values)), self.ranks.features, row(values, rare), s)
        if at >= 0:
            self.ids[at] = id

    def learn(self, score: float, said: float) -> None:
        """The label of an event of this score was learned; said: how surprising it was."""
        labelled(self.ranks, score, said)

    def score(self, score: float, said: float | None) -> float:
        """The score of an event with the label that came to it, or alone."""
        return score if said is None else float(with_label(self.ranks, score, said))

    def follow(self, X: F64, rare: F64 | None, said: F64, ids: Sequence[Hashable | None] | None) -> F64:
        """n events, each observed and learned before the next: their scores, (n,), as of single events."""
        wide = np.empty((len(X), 1 + X.shape[1]))
        wide[:, 0] = 0.0 if rare is None else rare
        wide[:, 1:] = X
        places, scores = np.zeros(len(X), np.int64), np.zeros(len(X))
        follow(self._wide(X.shape[1]), self.ranks, wide, said, places, scores, self._room)
        for i in np.flatnonzero(places >= 0).tolist():
            self.ids[places[i]] = None if ids is None else ids[i]
        return scores

    def forget(self, id: Hashable) -> int:
        """Remove the stored events with this id; how many there were."""
        found = [at for at, known in enumerate(self.ids) if known is not None and known == id]
        for at in found:
            self.seen.filled[at], self.seen.values[:, at], self.ids[at] = False, np.nan, None
        return len(found)

    def _wide(self, features: int) -> Seen:
        """What was seen, with room for an event's features and, before them, how rare its categories are."""
        self.seen = widened(self.seen, 1 + features)
        return self.seen

    def snapshot(self) -> dict[str, NDArray[Any]]:
        """All that changes, copied."""
        kept = {name: np.copy(array) for name, array in self.seen._asdict().items()}
        for kind, ring in self.ranks._asdict().items():
            kept |= {f"{kind}.{name}": np.copy(array) for name, array in ring._asdict().items()}
        named = {at: id for at, id in enumerate(self.ids) if id is not None}
        return kept | {"id_places": np.array(list(named), np.int64), "ids": pack(list(named.values()))}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Go back to what `snapshot` returned."""

        def owned(name: str) -> NDArray[Any]:
            return np.array(arrays[name], order="C", copy=True)

        self.seen = Seen(*map(owned, Seen._fields))
        self.ranks = Ranks(
            *(Recent(owned(f"{kind}.value"), owned(f"{kind}.place")) for kind in Ranks._fields)
        )
        self.ids = [None] * EVENTS
        for at, id in zip(arrays["id_places"].tolist(), unpack(arrays["ids"]), strict=True):
            self.ids[at] = id


def row(values: Sequence[float] | F64, rare: float) -> F64:
    """An event as the memory compares it, (1 + F,)."""
    x = np.empty(1 + len(values))
    x[0] = rare
    x[1:] = values
    return x


def of_probability(p: float) -> float:
    """How surprising a label is that was forecast with probability p: −ln p."""
    return -math.log(max(p, LEAST))


def of_error(error: float) -> float:
    """How surprising a target is that was missed by so much: ln |error|."""
    return math.log(max(abs(error), LEAST))


def of_rows(out: F64, targets: F64, weights: F64, *, regression: bool) -> F64:
    """(n,): the same for forecasts (n, C) and their labels' columns, or (n, 1) and targets; NaN for weight 0."""
    if regression:
        said = [of_error(error) for error in (out[:, 0] - targets).tolist()]
    else:
        said = [of_probability(p) for p in out[np.arange(len(out)), targets.astype(np.int64)].tolist()]
    return np.where(weights > 0.0, said, np.nan)
