"""One model and what belongs to it, deterministic: record in, decision out; no clock, no input or output.

Event → forecast → observe → kept until its label → Decision
Label → matched by id → learn, scored by what was answered
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import msgspec
import numpy as np

from engine.checkpoint import Arrays, Meta
from engine.crashpoints import crash_point
from engine.deadletters.refusal import Refusal
from engine.deadletters.refusals import Refusals
from engine.decision import Decision
from engine.evaluate.metrics import PrequentialMetrics
from engine.observe.timers import Timers
from engine.packed import under
from engine.witness import Witness
from streams.event import Event, Headers, Label, Malformed, Position, Record
from streams.join import PendingForecasts
from streams.label_report import Placed
from streams.pacing import LabelPacer

TOGETHER = 64
"""Events that are learned in one call, and records whose answers are written one after the other."""
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

    def forget(self, id: Any) -> int:
        """Remove the stored experience of this id."""

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


class Answer(NamedTuple):
    """A decision, and the headers of the event it is for."""

    decision: Decision
    headers: Headers


class Together(Protocol):
    """Events with their labels that a learner forecasts and learns in one call, as one after the other."""

    def add(
        self, x: Mapping[Any, Any], y: Any, w: float = 1.0, *, id: Any = None, time: float | None = None
    ) -> bool:
        """Take an event; False where it must go alone, after these, and nothing has changed."""

    def learn(self) -> Sequence[Any]:
        """Forecast and learn them; for each `answer`, `version` and `surprise`."""


@runtime_checkable
class Chunked(Protocol):
    """A learner that can take events together; one that cannot is given them one by one."""

    def chunk(self, size: int = ...) -> Together:
        """Room for so many events."""


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

    @property
    def records(self) -> int:
        """How many were read."""
        return self.events + self.labels + self.malformed


class Shard:
    """One model and what belongs to it, deterministic: record in, decision out. No clock, no input or output.

    model: the learner. metrics: scores what was answered, when its label comes. pending: forecasts that wait.
    witness: remembers experts' weights and a few decisions for the report; None for none. pacer: how many
    labels may be learned per interval of event time, the rest wait for their turn; None for no limit.
    answers, refused: what was answered, and records that could not be used, with the reason, until the loop takes
    them away. refusals: how
    many there were for each reason, and the first. timers: how long forecasts and learning take, and how late
    labels come; nothing depends on them.
    """

    def __init__(
        self,
        model: Learner,
        metrics: PrequentialMetrics,
        pending: PendingForecasts[Any] | None = None,
        witness: Witness | None = None,
        pacer: LabelPacer | None = None,
    ) -> None:
        self.model = model
        self.metrics = metrics
        self.pending = PendingForecasts[Any]() if pending is None else pending
        self.witness = witness
        self.pacer = pacer
        self.counts = Counts()
        self.refused: list[Refusal] = []
        self.refusals = Refusals()
        self.timers = Timers()
        self.frozen = False
        self._present: Record
        self.answers: list[Answer] = []
        self._gathered: list[tuple[Event, Record, float]] = []
        self._prepare()

    def _prepare(self) -> None:
        self._chunk = self.model.chunk(TOGETHER) if isinstance(self.model, Chunked) else None

    def step(self, record: Record) -> Decision | None:
        """Take one record alone: an event is answered, a label is learned; the unusable goes to `refused`."""
        before = len(self.answers)
        self.take(record)
        self.finish()
        return self.answers.pop().decision if len(self.answers) > before else None

    def take(self, record: Record) -> None:
        """Take one record; `answers` and `refused` gain what becomes of it, some answers not before `finish`.

        Events that carry their labels are gathered, and forecast and learned in one call, each before the next,
        once enough have come or another record needs the model.
        """
        self._present = record
        item = record.item
        if isinstance(item, Malformed):
            self.counts.malformed += 1
            self._bury(record.position, item, item.error)
            return
        self.pending.advance(item.time)
        if self.pending.queued:
            self.finish()
            self._catch_up()
        if isinstance(item, Event):
            self._event(record, item)
        else:
            self.finish()
            self.counts.labels += 1
            self._label(Placed(item, record.position), item)

    @property
    def gathered(self) -> int:
        """How many events wait for `finish`."""
        return len(self._gathered)

    def finish(self) -> None:
        """Answer and learn what was gathered."""
        if not self._gathered:
            return
        assert self._chunk is not None
        crash_point("shard.before_learn")
        began = self.timers.together.begin()
        said = self._chunk.learn()
        self.timers.together.end(began, len(said))
        crash_point("shard.learned")
        for (event, record, time), each in zip(self._gathered, said, strict=True):
            self.timers.delayed(event.time - time)
            self.metrics.defer(event.label, each.answer, event.weight, event.time)
            self._answer(event, each.answer, each, record)
        self.counts.learned += len(said)
        self._gathered = []

    def _answer(self, event: Event, said: Any, forecast: Any, record: Record) -> None:
        surprise = getattr(forecast, "surprise", None)
        self.counts.answered += 1
        decision = Decision(event.id, event.time, said, forecast.version, record.position, surprise)
        self.answers.append(Answer(decision, record.headers))

    def _event(self, record: Record, event: Event) -> None:
        self.counts.events += 1
        repeated = self.pending.repeats(event.id)  # it was answered, and it happened once
        if not repeated and self._gather(record, event):
            return
        self.finish()
        own = None
        if event.label is not None:
            label = Label(id=event.id, time=event.time, label=event.label, weight=event.weight)
            own = Placed(label, record.position)
        if repeated:
            if own is not None:
                self._label(own, event)
            return
        try:
            forecast = self._forecast(event)
        except REFUSED as error:
            self._refuse(record.position, event, error)
            return
        said = self._said(forecast)
        self._await(forecast, said, event, own)
        self._answer(event, said, forecast, record)

    def _gather(self, record: Record, event: Event) -> bool:
        """Keep an event that is learned with its own label for `finish`; False where it must go alone."""
        chunk, pending = self._chunk, self.pending
        if (
            chunk is None
            or event.label is None
            or self.frozen
            or self.pacer is not None
            or self.witness is not None
        ):
            return False
        if pending.holds(event.id):
            return False
        time = min(event.time, pending.now)
        if len(self._gathered) == TOGETHER:
            self.finish()
        if not chunk.add(event.features, event.label, event.weight, id=event.id, time=time):
            return False
        pending.complete(event)
        self._gathered.append((event, record, time))
        return True

    def _forecast(self, event: Event) -> Any:
        """A clock that has gone wrong must not age all that was learned: event time is the earlier of two."""
        time = min(event.time, self.pending.now)
        began = self.timers.forecast.begin()
        forecast = self.model.forecast_one(event.features, id=event.id, time=time)
        if began:
            self.timers.forecast.end(began)
        return forecast

    def _await(self, forecast: Any, said: Any, event: Event, own: Placed | None) -> None:
        """The forecast meets its label, where that came with the event or before it, or waits for it."""
        labels: list[tuple[Placed, Event | Label]] = []
        if own is not None:
            labels.append((own, event))
        early = self.pending.early(event.id)
        if early is not None:
            labels.append((early, early.label))
        while labels and self._may_learn():
            placed, item = labels.pop(0)
            reason = self._learn(forecast, placed, item, said=said)  # it observes as well
            if reason is None:
                self.pending.settle(placed.label, event)
                break
            self.pending.refuse(*placed, reason)
        else:
            if not self.frozen:
                self.model.observe(forecast)
            self.pending.put(event.id, forecast, _size(forecast), event)
        for placed, item in labels:  # it waits for its turn, or repeats or corrects the one that was learned
            self._label(placed, item)

    def _label(self, placed: Placed, item: Event | Label) -> None:
        """A label that is refused leaves its forecast waiting for one that can be learned.

        item: what brought the label.
        """
        forecast = self.pending.waiting_for(placed.label)
        if forecast is None:
            event = None if self.frozen else self.pending.corrects(placed.label)
            self.pending.match(*placed)
            if event is not None:
                self._correct(event, placed, item)
        elif not self._may_learn():
            self.pending.queue(*placed)
        elif (reason := self._learn(forecast, placed, item)) is None:
            self.pending.match(*placed)
        else:
            self.pending.refuse(*placed, reason)

    def _correct(self, event: Event, placed: Placed, item: Event | Label) -> None:
        """Another label was learned for this event: it is forecast anew, as if that had never been stored."""
        self.model.forget(event.id)
        try:
            forecast = self._forecast(event)
        except REFUSED as error:
            self.pending.refuse(*placed, self._refuse(placed.position, item, error))
            return
        if not self._may_learn():
            self.pending.queue(*placed, forecast, _size(forecast))
        elif (reason := self._learn(forecast, placed, item, score=False)) is None:
            self.pending.settle(placed.label, event)
        else:
            self.pending.refuse(*placed, reason)

    def _catch_up(self) -> None:
        """Labels that wait for their turn are learned, as many as the pace allows; frozen, none has its turn."""
        if self.frozen:
            return
        while self._may_learn() and (turn := self.pending.turn()) is not None:
            reason = self._learn(turn.forecast, turn.placed, turn.placed.label, score=not turn.corrects)
            if reason is None:
                self.pending.take_turn()
            else:
                self.pending.refuse_turn(reason)

    def _may_learn(self) -> bool:
        """Whether a label that comes now need not wait; frozen, it is scored at once and never learned."""
        return self.frozen or self.pacer is None or self.pacer.left(self.pending.now) > 0

    def _said(self, forecast: Any) -> Any:
        """What was answered: a value, or label → probability."""
        return forecast.value if self.metrics.task == "regression" else forecast.proba

    def _learn(
        self, forecast: Any, placed: Placed, item: Event | Label, *, said: Any = None, score: bool = True
    ) -> str | None:
        """Learn and score a label; the reason where the learner refused it and nothing has changed.

        said: what was answered, where the caller has it at hand.
        """
        label = placed.label
        if said is None and score:
            said = self._said(forecast)
        if self.frozen:
            self.counts.unlearned += 1
        else:
            crash_point("shard.before_learn")
            began = self.timers.learn.begin()
            try:
                self.model.learn(forecast, label.label, label.weight)
            except REFUSED as error:
                return self._refuse(placed.position, item, error)
            if began:
                self.timers.learn.end(began)
            self.counts.learned += 1
            if forecast.time is not None:
                self.timers.delayed(label.time - forecast.time)
            if self.pacer is not None:
                self.pacer.spend(self.pending.now)
            crash_point("shard.learned")
        if score:  # what was answered, once
            self.metrics.defer(label.label, said, label.weight, label.time)
            if self.witness is not None:
                self.witness.saw(self.model, forecast, said, label.label, label.time)
        return None

    def _refuse(self, position: Position | None, item: Event | Label, error: Exception) -> str:
        self.counts.refused += 1
        assert position is not None  # every label of a shard was read somewhere
        self._bury(position, item, str(error))
        return str(error)

    def _bury(self, position: Position, item: Event | Label | Malformed, reason: str) -> None:
        now, present = self.pending.now, self._present
        time = now if isinstance(item, Malformed) and math.isfinite(now) else item.time
        record = present if present.position == position else Record(position, item)  # of a label that waited
        refusal = Refusal(record, reason, time)
        self.refused.append(refusal)
        self.refusals.add(refusal)

    def state(self) -> tuple[Arrays, Meta]:
        """All that a later `restore` needs to go on to the bit: copies, whatever is large as arrays."""
        if self._gathered:
            raise RuntimeError(
                f"{len(self._gathered)} events were taken and not learned; expected none, call finish before"
            )
        parts = {
            "learner": self.model.state(),
            "pending": self.model.pack(self.pending.payloads()),
            "join": self.pending.snapshot(),
            "metrics": self.metrics.state(),
        }
        arrays = {
            f"{part}/{name}": array for part, (held, _) in parts.items() for name, array in held.items()
        }
        return arrays, {
            **{part: meta for part, (_, meta) in parts.items()},
            "pacer": None if self.pacer is None else self.pacer.snapshot(),
            "witness": None if self.witness is None else self.witness.state(),
            "counts": msgspec.to_builtins(self.counts),
            "refusals": self.refusals.state(),
            "frozen": self.frozen,
        }

    def restore(self, arrays: Mapping[str, np.ndarray[Any, Any]], meta: Mapping[str, Any]) -> None:
        """Go back to what `state` returned; the learner is made anew from it."""
        again = getattr(self.model, "again", None) or type(self.model).from_state  # type: ignore[attr-defined]
        self.model = again(under(arrays, "learner/"), meta["learner"])
        self._prepare()
        waiting = self.model.unpack(under(arrays, "pending/"), meta["pending"])
        self.pending.restore(under(arrays, "join/"), meta["join"], waiting)
        if self.pacer is not None:
            self.pacer.restore(meta["pacer"] or [])
        self.metrics = PrequentialMetrics.from_state(under(arrays, "metrics/"), meta["metrics"])
        self.witness = None if meta["witness"] is None else Witness.from_state(meta["witness"])
        self.counts = msgspec.convert(meta["counts"], Counts)
        self.refusals.restore(meta["refusals"])
        self.frozen = meta["frozen"]


def _size(forecast: Any) -> int:
    """Bytes that a kept forecast takes, as far as it says."""
    return int(getattr(forecast, "nbytes", 0))
