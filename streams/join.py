"""Brings labels to the forecasts they belong to, by event id, whichever of the two comes first.

Time here is event time, passed in with every event and label; the latest one seen decides what is too old.
The same calls in the same order always end the same way.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from streams.event import Label

P = TypeVar("P")


class JoinCounts(msgspec.Struct):
    """What has happened so far.

    matched: labels that met their forecast, or came with their event.
    orphans: labels given up, because no event came in time.
    duplicate_labels: labels for an id that had its label, or that already waits with one.
    duplicate_events: events whose id already waits or has been matched.
    expired: forecasts given up, because no label came in time or too many were waiting.
    """

    matched: int = 0
    orphans: int = 0
    duplicate_labels: int = 0
    duplicate_events: int = 0
    expired: int = 0


class PendingForecasts(Generic[P]):
    """Forecasts that wait for their label, and labels that wait for their event.

    max_age: seconds of event time that either may wait, and that an id is remembered once matched.
    max_count: forecasts that may wait; the oldest gives way.
    max_held: labels that may wait for their event, and matched ids that are remembered.

    >>> pending = PendingForecasts[str](max_age=3600.0)
    >>> pending.put("a", "forecast of a", time=0.0)
    >>> pending.match(Label(id="a", time=60.0, label=1))
    'forecast of a'
    >>> pending.match(Label(id="b", time=61.0, label=0)) is None  # held back: its event has not come
    True
    >>> pending.put("b", "forecast of b", time=62.0)
    Label(id='b', time=61.0, label=0, weight=1.0)
    """

    def __init__(
        self, *, max_age: float = 14 * 86400.0, max_count: int = 100_000, max_held: int = 10_000
    ) -> None:
        if not max_age > 0:
            raise ValueError(f"max_age is {max_age}; expected seconds above 0")
        if max_count < 1 or max_held < 1:
            raise ValueError(f"max_count is {max_count}, max_held is {max_held}; expected at least 1 of each")
        self.max_age = max_age
        self.max_count = max_count
        self.max_held = max_held
        self.counts = JoinCounts()
        self._now = -math.inf
        self._waiting: OrderedDict[str, tuple[float, P]] = OrderedDict()
        self._held: OrderedDict[str, Label] = OrderedDict()
        self._matched: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def held(self) -> int:
        """How many labels wait for their event."""
        return len(self._held)

    def put(self, id: str, payload: P, time: float) -> Label | None:
        """A forecast was made for this event: it waits for its label.

        Returns the label where it came first and was held back; forecast and label are then matched.
        A second event of the same id is counted and changes nothing.
        """
        if self.repeats(id, time):
            return None
        label = self.early(id)
        if label is not None:
            self.settle(id)
            return label
        self._waiting[id] = (time, payload)
        if len(self._waiting) > self.max_count:
            self._waiting.popitem(last=False)
            self.counts.expired += 1
        return None

    def repeats(self, id: str, time: float) -> bool:
        """Whether an event of this id came before, as far back as ids are remembered; counted if so."""
        self.advance(time)
        found = id in self._waiting or id in self._matched
        self.counts.duplicate_events += found
        return found

    def early(self, id: str) -> Label | None:
        """The label that was held back for this event, if any; it is held no longer."""
        return self._held.pop(id, None)

    def settle(self, id: str) -> None:
        """An event has met its label: its id is remembered as matched."""
        self.counts.matched += 1
        self._matched[id] = self._now
        if len(self._matched) > self.max_held:
            self._matched.popitem(last=False)

    def waiting_for(self, label: Label) -> P | None:
        """The forecast that `match` would return; it goes on waiting, so that the label can be tried first."""
        self.advance(label.time)
        found = self._waiting.get(label.id)
        return None if found is None else found[1]

    def match(self, label: Label) -> P | None:
        """The forecast this label belongs to, which no longer waits; None where there is none (yet).

        A label without its event is held back for `put`; one that repeats an earlier label is counted.
        """
        self.advance(label.time)
        found = self._waiting.pop(label.id, None)
        if found is not None:
            self.settle(label.id)
            return found[1]
        if label.id in self._matched or label.id in self._held:
            self.counts.duplicate_labels += 1
            return None
        self._held[label.id] = label
        if len(self._held) > self.max_held:
            self._held.popitem(last=False)
            self.counts.orphans += 1
        return None

    def advance(self, time: float) -> None:
        """Event time has come this far; what waits longer than `max_age` is given up, oldest first."""
        if time <= self._now:
            return
        self._now = time
        limit = time - self.max_age
        while self._waiting and next(iter(self._waiting.values()))[0] < limit:
            self._waiting.popitem(last=False)
            self.counts.expired += 1
        while self._held and next(iter(self._held.values())).time < limit:
            self._held.popitem(last=False)
            self.counts.orphans += 1
        while self._matched and next(iter(self._matched.values())) < limit:
            self._matched.popitem(last=False)

    def ids(self) -> list[str]:
        """The ids of all waiting forecasts, in the order they were put."""
        return list(self._waiting)

    def payloads(self) -> list[P]:
        """What waits, in the order of `ids`."""
        return [payload for _, payload in self._waiting.values()]

    def snapshot(self) -> dict[str, Any]:
        """All but the payloads as JSON-compatible values; the caller keeps `payloads()` in their order."""
        return {
            "ids": list(self._waiting),
            "times": [time for time, _ in self._waiting.values()],
            "held": [msgspec.to_builtins(label) for label in self._held.values()],
            "matched": list(self._matched.items()),
            "counts": msgspec.to_builtins(self.counts),
            "now": None if math.isinf(self._now) else self._now,
        }

    def restore(self, meta: Mapping[str, Any], payloads: Sequence[P]) -> None:
        """Go back to a snapshot; ValueError where the payloads do not fit its ids."""
        ids, times = meta["ids"], meta["times"]
        if not len(ids) == len(times) == len(payloads):
            raise ValueError(
                f"payloads has {len(payloads)} entries for {len(ids)} ids and {len(times)} times; "
                "expected one per id, in the order of the snapshot"
            )
        self._waiting = OrderedDict(zip(ids, zip(times, payloads, strict=True), strict=True))
        self._held = OrderedDict((label["id"], msgspec.convert(label, Label)) for label in meta["held"])
        self._matched = OrderedDict((id, time) for id, time in meta["matched"])
        self.counts = msgspec.convert(meta["counts"], JoinCounts)
        self._now = -math.inf if meta["now"] is None else meta["now"]
