"""One model and what belongs to it, deterministic: record in, decision out; no clock, no input or output.

Event → forecast → observe → kept until its label → Decision
Label → matched by id → learn, scored by what was answered
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec
import numpy as np

from engine.checkpoint import Arrays, Meta
from engine.crashpoints import crash_point
from engine.decision import Decision, Refusal
from engine.evaluate.metrics import PrequentialMetrics
from engine.refusals import Refusals
from engine.witness import Witness
from streams.event import Event, Label, Position, Record
from streams.join import PendingForecasts

REFUSED = (TypeError, ValueError, OverflowError)
"""What a learner raises for an event or a label that it cannot take; it has then changed nothing."""


class Learner(Protocol):
    """What the loop asks of a learner; OnlineClassifier and OnlineRegressor give it."""

    def forecast_one(self, x: Mapping[Any, Any], id: Any = None, time: float | None = None) -> Any:
        """A forecast that can be kept; changes nothing."""

    def observe(self, f: Any) -> None:
        """The event of this forecast happened."""

    def learn(self, f: Any, y: Any, w: float = 1.0) -> None:
        """The label of this forecast came."""

    def state(self) -> tuple[Arrays, Meta]:
        """A copy of all that changes, and the options."""

    def pack(self, forecasts: Sequence[Any]) -> tuple[Arrays, Meta]:
        """Kept forecasts, for the snapshot."""

    def unpack(self, arrays: Arrays, meta: Meta) -> list[Any]:
        """What `pack` took."""

    def explain(self, f: Any) -> Mapping[str, Any]:
        """Experts, recalled experiences and context behind a forecast."""

    def expert_weights(self) -> Mapping[str, float]:
        """How the experts are weighed now."""


class Counts(msgspec.Struct):
    """Records so far: events and labels read, events answered, labels learned, malformed and refused ones.

    unlearned: labels that were scored and not learned, because learning was frozen.
    """

    events: int = 0
    labels: int = 0
    answered: int = 0
    learned: int = 0
    malformed: int = 0
    refused: int = 0
    unlearned: int = 0


class Shard:
    """One model and what belongs to it, deterministic: record in, decision out. No clock, no input or output.

    model: the learner. metrics: scores what was answered, when its label comes. pending: forecasts that wait.
    witness: remembers experts' weights and a few decisions for the report; None for none.
    refused: records that could not be used, with the reason, until the loop takes them away. refusals: how
    many there were for each reason, and the first.
    """

    def __init__(
        self,
        model: Learner,
        metrics: PrequentialMetrics,
        pending: PendingForecasts[Any] | None = None,
        witness: Witness | None = None,
    ) -> None:
        self.model = model
        self.metrics = metrics
        self.pending = PendingForecasts[Any]() if pending is None else pending
        self.witness = witness
        self.counts = Counts()
        self.refused: list[Refusal] = []
        self.refusals = Refusals()
        self.frozen = False

    def step(self, record: Record) -> Decision | None:
        """Take one record: an event is answered, a label is learned; the unusable goes to `refused`."""
        item = record.item
        if isinstance(item, Event):
            return self._event(record, item)
        if isinstance(item, Label):
            self.counts.labels += 1
            self._label(record, item)
        else:
            self.counts.malformed += 1
            self._bury(record, item.error)
        return None

    def _event(self, record: Record, event: Event) -> Decision | None:
        self.counts.events += 1
        own = None
        if event.label is not None:
            own = Label(id=event.id, time=event.time, label=event.label, weight=event.weight)
        if self.pending.repeats(event.id, event.time):  # it was answered, and it happened once
            if own is not None:
                self._label(record, own)
            return None
        try:
            forecast = self.model.forecast_one(event.features, id=event.id, time=event.time)
        except REFUSED as error:
            self._refuse(record, error)
            return None
        said = self._said(forecast)
        self.counts.answered += 1
        decision = _decision(event, said, forecast.version, record.position)
        for label in (own, self.pending.early(event.id)):  # the first that is taken; it observes as well
            if label is not None and self._learn(record, forecast, said, label):
                self.pending.settle(event.id)
                return decision
        if not self.frozen:
            self.model.observe(forecast)
        self.pending.put(event.id, forecast, event.time)
        return decision

    def _said(self, forecast: Any) -> Any:
        """What was answered: a value, or label → probability."""
        return forecast.value if self.metrics.task == "regression" else forecast.proba

    def _label(self, record: Record, label: Label) -> None:
        """A label that is refused leaves its forecast waiting for one that can be learned."""
        forecast = self.pending.waiting_for(label)
        if forecast is None or self._learn(record, forecast, self._said(forecast), label):
            self.pending.match(label)

    def _learn(self, record: Record, forecast: Any, said: Any, label: Label) -> bool:
        """Learn and score a label; False where the learner refused it and nothing has changed."""
        if self.frozen:
            self.counts.unlearned += 1
        else:
            crash_point("shard.before_learn")
            try:
                self.model.learn(forecast, label.label, label.weight)
            except REFUSED as error:
                self._refuse(record, error)
                return False
            self.counts.learned += 1
            crash_point("shard.learned")
        self.metrics.defer(label.label, said, label.weight, label.time)
        if self.witness is not None:
            self.witness.saw(self.model, forecast, said, label.label, label.time)
        return True

    def _refuse(self, record: Record, error: Exception) -> None:
        self.counts.refused += 1
        self._bury(record, str(error))

    def _bury(self, record: Record, reason: str) -> None:
        refusal = Refusal(record.position, record.item.time, reason, record.item)
        self.refused.append(refusal)
        self.refusals.add(refusal)

    def state(self) -> tuple[Arrays, Meta]:
        """All that a later `restore` needs to go on to the bit."""
        learner, learner_meta = self.model.state()
        packed, packed_meta = self.model.pack(self.pending.payloads())
        arrays = {f"learner/{name}": array for name, array in learner.items()}
        arrays |= {f"pending/{name}": array for name, array in packed.items()}
        meta = {
            "learner": learner_meta,
            "pending": packed_meta,
            "join": self.pending.snapshot(),
            "metrics": self.metrics.state(),
            "witness": None if self.witness is None else self.witness.state(),
            "counts": msgspec.to_builtins(self.counts),
            "refusals": self.refusals.state(),
            "frozen": self.frozen,
        }
        return arrays, meta

    def restore(self, arrays: Mapping[str, np.ndarray[Any, Any]], meta: Mapping[str, Any]) -> None:
        """Go back to what `state` returned; the learner is made anew from it."""
        self.model = type(self.model).from_state(_under(arrays, "learner/"), meta["learner"])  # type: ignore[attr-defined]
        self.pending.restore(meta["join"], self.model.unpack(_under(arrays, "pending/"), meta["pending"]))
        self.metrics = PrequentialMetrics.from_state(meta["metrics"])
        self.witness = None if meta["witness"] is None else Witness.from_state(meta["witness"])
        self.counts = msgspec.convert(meta["counts"], Counts)
        self.refusals.restore(meta.get("refusals", []))
        self.frozen = meta.get("frozen", False)


def _decision(event: Event, said: Any, version: int, position: Position) -> Decision:
    if not isinstance(said, dict):
        return Decision(event.id, event.time, said, {}, version, position)
    best = max(said, key=said.__getitem__) if said else None
    return Decision(event.id, event.time, best, said, version, position)


def _under(arrays: Mapping[str, np.ndarray[Any, Any]], prefix: str) -> Arrays:
    return {name[len(prefix) :]: array for name, array in arrays.items() if name.startswith(prefix)}
