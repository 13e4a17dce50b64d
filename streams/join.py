"""Brings labels to the forecasts they belong to, by event id, whichever of the two comes first.

    event  → repeats? → forecast → early label? → learned, settled | put: waits for its label
    label  → waiting_for → learned, match  | match: held for its event, or late, duplicate, corrected
    paced  → queue: the label waits for its turn, its forecast with it → turn → learned, settled

Time here is event time as the majority of recent records tells it (streams.watermark). Waiting is counted from
when something came, so that its own clock matters to nobody. The same calls in the same order always end the
same way; each takes constant time, give-ups included, on the average.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from streams.codecs import encode_json
from streams.corrections import KeptEvents
from streams.duplicates import RecentIds
from streams.event import Event, Label, LabelValue, Position
from streams.join_limits import JoinLimits
from streams.label_report import JoinCounts, Kind, LabelReport, Placed
from streams.packed import pack, unpack
from streams.watermark import Watermark

P = TypeVar("P")

JUMP = 1 / 8  # of max_age: how much earlier than that a single record can end a wait at most
_UNKNOWN = object()


class _Waiting(NamedTuple, Generic[P]):
    """A forecast, since when it waits, its bytes with those of its event, and the event where it is kept."""

    id: str
    since: float
    size: int
    payload: P
    event: bytes


class Turn(NamedTuple, Generic[P]):
    """A label whose turn it is, the forecast it belongs to, and whether another label was learned before."""

    placed: Placed
    forecast: P
    corrects: bool


class PendingForecasts(Generic[P]):
    """Forecasts that wait for their label, and labels that wait for their event or for their turn.

    report: whether `reports` collects what happens to labels; the caller takes them from there.
    now: event time as the majority of recent records tells it; −inf before the first.

    >>> pending = PendingForecasts[str](JoinLimits(max_age=3600.0))
    >>> pending.put("a", "forecast of a")
    >>> pending.match(Label(id="a", time=60.0, label=1))
    'forecast of a'
    >>> pending.match(Label(id="b", time=61.0, label=0)) is None  # held back: its event has not come
    True
    >>> pending.put("b", "forecast of b")
    Placed(label=Label(id='b', time=61.0, label=0, weight=1.0), position=None)
    """

    def __init__(self, limits: JoinLimits | None = None, *, report: bool = False) -> None:
        self.limits = limits = limits or JoinLimits()
        self.learns_corrections = limits.corrections == "learn"
        self.reports: list[LabelReport] | None = [] if report else None
        self.counts = JoinCounts()
        self._bytes = 0  # of forecasts
        self._clock = Watermark(limits.max_age * JUMP)
        self.now = self._clock.now
        self._answered = RecentIds(limits.window, limits.max_age)
        self._fates = RecentIds(limits.remembered, limits.max_age)
        """id → the label that was learned; None: the forecast was given up."""
        self._waiting: OrderedDict[str, _Waiting[P]] = OrderedDict()
        self._queued: OrderedDict[str, tuple[Placed, _Waiting[P]]] = OrderedDict()
        self._held: OrderedDict[str, tuple[float, Placed]] = OrderedDict()
        self._events = KeptEvents(limits.correct_within)
        self._stores: dict[str, RecentIds | KeptEvents]
        self._stores = {"answered": self._answered, "fates": self._fates, "kept": self._events}

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def held(self) -> int:
        """How many labels wait for their event."""
        return len(self._held)

    @property
    def queued(self) -> int:
        """How many labels wait for their turn."""
        return len(self._queued)

    @property
    def used_bytes(self) -> int:
        """What forecasts and events take, as told to `put`; at most `max_bytes`."""
        return self._bytes + self._events.bytes

    # -- time -----------------------------------------------------------------------------------------------

    def advance(self, time: float) -> float:
        """A record of this event time has come; returns event time. To be called once per record, first.

        What has waited longer than `max_age` is given up, oldest first.
        """
        before = self.now
        now = self.now = self._clock.observe(time)
        if now < before:
            self._go_back(now)
        limit = now - self.limits.max_age
        while self._waiting and next(iter(self._waiting.values())).since < limit:
            self._expire()
        while self._held and next(iter(self._held.values()))[0] < limit:
            self._orphan()
        for ids in (self._answered, self._fates):
            if ids.first < limit or now < before:
                ids.advance(now)
        return now

    def _go_back(self, now: float) -> None:
        """The time before was wrong. Waits that it began begin now where they would not end for long."""
        limit = now + self.limits.max_age
        if self._waiting and next(reversed(self._waiting.values())).since > limit:
            self._waiting = OrderedDict(
                (i, w._replace(since=min(w.since, now))) for i, w in self._waiting.items()
            )
        if self._held and next(reversed(self._held.values()))[0] > limit:
            self._held = OrderedDict((i, (min(since, now), p)) for i, (since, p) in self._held.items())

    # -- events ---------------------------------------------------------------------------------------------

    def repeats(self, id: str) -> bool:
        """Whether an event of this id was answered before, as far back as ids are remembered; counted if so."""
        found = id in self._waiting or id in self._queued or id in self._answered
        self.counts.duplicate_events += found
        return found

    def holds(self, id: str) -> bool:
        """Whether a label is held back for the event of this id."""
        return id in self._held

    def early(self, id: str) -> Placed | None:
        """The label that was held back for this event, if any; it is held no longer."""
        found = self._held.pop(id, None)
        return None if found is None else found[1]

    def put(self, id: str, payload: P, size: int = 0, event: Event | None = None) -> Placed | None:
        """A forecast of `size` bytes was made for this event: it waits for its label.

        Returns the label where it came first and was held back; forecast and label are then matched.
        A second event of the same id is counted and changes nothing. event: kept for a corrected label,
        where corrections are learned.
        """
        if id in self._waiting or id in self._queued or not self._answered.add(id, self.now):
            self.counts.duplicate_events += 1
            return None
        placed = self.early(id)
        if placed is not None:
            self._settle(placed.label, self._encoded(event))
            return placed
        kept = self._encoded(event)
        self._wait(_Waiting(id, self.now, size + len(kept), payload, kept))
        return None

    def _encoded(self, event: Event | None) -> bytes:
        return b"" if event is None or not self.learns_corrections else encode_json(event)

    def _wait(self, waiting: _Waiting[P]) -> None:
        self._waiting[waiting.id] = waiting
        self._bytes += waiting.size
        while len(self._waiting) > self.limits.max_waiting:
            self._expire(crowded=True)
        self._shed()

    # -- labels ---------------------------------------------------------------------------------------------

    def waiting_for(self, label: Label) -> P | None:
        """The forecast that `match` would return; it goes on waiting, so that the label can be tried first."""
        found = self._waiting.get(label.id)
        return None if found is None else found.payload

    def match(self, label: Label, position: Position | None = None) -> P | None:
        """The forecast this label belongs to, which no longer waits; None where there is none (yet).

        A label without its event is held back for `put`. One that comes after another, or after its forecast
        was given up, is counted and reported; where corrections are learned and the other one was not yet,
        it takes that one's place.
        """
        id, placed = label.id, Placed(label, position)
        found = self._waiting.pop(id, None)
        if found is not None:
            self._bytes -= found.size
            self._settle(label, found.event)
            return found.payload
        if id in self._queued:
            before, forecast = self._queued[id]
            if self._repeated(placed, before.label.label):
                self._queued[id] = (placed, forecast)
        elif id in self._held:
            since, before = self._held[id]
            if self._repeated(placed, before.label.label):
                self._held[id] = (since, placed)
        elif (fate := self._fates.get(id, _UNKNOWN)) is not _UNKNOWN:
            self._repeated(placed, fate)
        else:
            self._held[id] = (self.now, placed)
            while len(self._held) > self.limits.max_held:
                self._orphan()
        return None

    def _repeated(self, placed: Placed, earlier: LabelValue | None) -> bool:
        """Count and report a label that is not the first; True where it takes the place of the earlier one."""
        if earlier is None:
            self.counts.late += 1
            self._report("late", placed)
        elif _same(earlier, placed.label.label):
            self.counts.duplicate_labels += 1
            self._report("duplicate", placed, earlier)
        else:
            self.counts.corrected += 1
            self._report("corrected", placed, earlier)
            return self.learns_corrections
        return False

    def settle(self, label: Label, event: Event | None = None) -> None:
        """This label was learned, other than through `match`: with its event, or as a correction."""
        self._answered.add(label.id, self.now)
        self._settle(label, self._encoded(event) if self.learns_corrections else b"")

    def complete(self, event: Event) -> None:
        """This new event brought its own label, which is learned."""
        self._answered.add(event.id, self.now)
        self._note(event.id, event.label, self._encoded(event) if self.learns_corrections else b"")

    def _settle(self, label: Label, event: bytes) -> None:
        self._note(label.id, label.label, event)

    def _note(self, id: str, label: LabelValue | None, event: bytes) -> None:
        self.counts.matched += 1
        self._fates.add(id, self.now, label)
        if event:
            self._events.add(id, event)
            self._shed()

    def refuse(self, label: Label, position: Position | None = None, reason: str | None = None) -> None:
        """The learner could not take this label; its forecast goes on waiting for a corrected one."""
        self.counts.refused += 1
        self._report("refused", Placed(label, position), reason=reason)

    def corrects(self, label: Label) -> Event | None:
        """The event that this label corrects: another one was learned for it, and corrections are learned.

        None for every other label, and where the event is kept no longer. `match` counts the label, `settle`
        notes it once it was learned from a new forecast.
        """
        if label.id in self._waiting or label.id in self._queued or label.id not in self._events:
            return None
        earlier = self._fates.get(label.id, None)
        if earlier is None or _same(earlier, label.label):
            return None
        return self._events[label.id]

    # -- turns ----------------------------------------------------------------------------------------------

    def queue(
        self, label: Label, position: Position | None = None, payload: P | None = None, size: int = 0
    ) -> None:
        """The label waits for its turn, and with it its forecast, which no longer expires by age or number.

        payload, size: the new forecast of a corrected label; every other one has its forecast waiting.
        """
        found = self._waiting.pop(label.id, None)
        if found is None:
            if payload is None:
                raise LookupError(f"no forecast waits for id {label.id!r}; expected one, or payload=")
            found = _Waiting(label.id, self.now, size, payload, b"")
            self._bytes += size
        self._queued[label.id] = (Placed(label, position), found)
        while len(self._queued) > self.limits.max_queued:
            self._drop()
        self._shed()

    def turn(self) -> Turn[P] | None:
        """The label whose turn is next, and its forecast; `take_turn` or `refuse_turn` ends its wait."""
        for placed, waiting in self._queued.values():  # the oldest one only
            return Turn(placed, waiting.payload, self._fates.get(placed.label.id, None) is not None)
        return None

    def take_turn(self) -> None:
        """The label whose turn is next was learned."""
        _, (placed, forecast) = self._queued.popitem(last=False)
        self._bytes -= forecast.size
        self._settle(placed.label, forecast.event)

    def refuse_turn(self, reason: str | None = None) -> None:
        """The learner could not take the label whose turn is next; its forecast waits for a corrected one."""
        id, (placed, forecast) = self._queued.popitem(last=False)
        self._bytes -= forecast.size
        self.refuse(*placed, reason)
        if self._fates.get(id, None) is None:  # else it would have been a correction
            self._wait(forecast._replace(since=self.now))

    # -- limits ---------------------------------------------------------------------------------------------

    def _shed(self) -> None:
        """Give up until the limit of memory holds: events for corrections, forecasts, labels in the queue."""
        while self.used_bytes > self.limits.max_bytes:
            if self._events:
                self._events.drop()
            elif self._waiting:
                self._expire(crowded=True)
            else:
                self._drop()

    def _expire(self, *, crowded: bool = False) -> None:
        id, forecast = self._waiting.popitem(last=False)
        self._bytes -= forecast.size
        self.counts.expired += 1
        self.counts.crowded += crowded
        self._fates.add(id, self.now, None)

    def _orphan(self) -> None:
        _, (_, placed) = self._held.popitem(last=False)
        self.counts.orphans += 1
        self._report("orphan", placed)

    def _drop(self) -> None:
        id, (placed, forecast) = self._queued.popitem(last=False)
        self._bytes -= forecast.size
        self.counts.dropped += 1
        if self._fates.get(id, None) is None:
            self._fates.add(id, self.now, None)
        self._report("dropped", placed)

    def _report(
        self, kind: Kind, placed: Placed, earlier: LabelValue | None = None, reason: str | None = None
    ) -> None:
        if self.reports is not None:
            self.reports.append(LabelReport(kind, placed, earlier, reason))

    # -- snapshot -------------------------------------------------------------------------------------------

    def ids(self) -> list[str]:
        """The ids of all forecasts: those that wait for a label, then those that wait for their turn."""
        return [*self._waiting, *self._queued]

    def payloads(self) -> list[P]:
        """The forecasts in the order of `ids`."""
        return [forecast.payload for forecast in self._forecasts()]

    def _forecasts(self) -> list[_Waiting[P]]:
        return [*self._waiting.values(), *(forecast for _, forecast in self._queued.values())]

    def snapshot(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """All but the payloads, as arrays and JSON-compatible meta; the caller keeps `payloads()`."""
        forecasts = self._forecasts()
        arrays: dict[str, NDArray[Any]] = {
            "clock": self._clock.snapshot(),
            "ids": pack(list(map(attrgetter("id"), forecasts))),
            "since": np.fromiter(map(attrgetter("since"), forecasts), np.float64, len(forecasts)),
            "size": np.fromiter(map(attrgetter("size"), forecasts), np.int64, len(forecasts)),
            "queued": pack([placed for placed, _ in self._queued.values()]),
            "held": pack([placed for _, placed in self._held.values()]),
            "held_since": np.array([since for since, _ in self._held.values()]),
        }
        if self.learns_corrections:
            arrays["events"] = pack([forecast.event for forecast in forecasts])
        for name, store in self._stores.items():
            arrays |= {f"{name}/{part}": array for part, array in store.snapshot().items()}
        return arrays, {"counts": msgspec.to_builtins(self.counts)}

    def restore(
        self, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any], payloads: Sequence[P]
    ) -> None:
        """Go back to a snapshot; ValueError where the payloads do not fit its ids."""
        ids = unpack(arrays["ids"], list[str])
        sinces, sizes = arrays["since"].tolist(), arrays["size"].tolist()
        if not len(ids) == len(sinces) == len(sizes) == len(payloads):
            raise ValueError(
                f"payloads has {len(payloads)} entries for {len(ids)} ids; "
                "expected one per id, in the order of the snapshot"
            )
        events = unpack(arrays["events"], list[bytes]) if "events" in arrays else [b""] * len(ids)
        forecasts = list(map(_Waiting, ids, sinces, sizes, payloads, events))
        queued = unpack(arrays["queued"], list[Placed])
        first = len(ids) - len(queued)
        self._waiting = OrderedDict(zip(ids[:first], forecasts[:first], strict=True))
        self._queued = OrderedDict(zip(ids[first:], zip(queued, forecasts[first:], strict=True), strict=True))
        held = zip(arrays["held_since"].tolist(), unpack(arrays["held"], list[Placed]), strict=True)
        self._held = OrderedDict((placed.label.id, (since, placed)) for since, placed in held)
        self._bytes = sum(sizes)
        self._clock.restore(arrays["clock"])
        self.now = self._clock.now
        for name, store in self._stores.items():
            store.restore({k.partition("/")[2]: a for k, a in arrays.items() if k.startswith(f"{name}/")})
        self.counts = msgspec.convert(meta["counts"], JoinCounts)


def _same(a: LabelValue, b: LabelValue) -> bool:
    return a == b or (a != a and b != b)  # NaN too
