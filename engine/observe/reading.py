"""What is counted for one shard, and the readings that are taken of its loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import msgspec

from engine.evaluate.latency import Latency
from streams.event import Event, Label, Malformed, Record, TopicPartition
from streams.protocols import Clock

if TYPE_CHECKING:
    from engine.checkpoint import Entry
    from engine.deadletters.refusal import Refusal
    from engine.observe import Resumed, Watched

Values: TypeAlias = dict[tuple[str, ...], Any]
"""Label values → number, (sum, count), or a histogram."""

_LAG_REST = 60.0  # seconds without a further question to a log that did not answer


class Reading:
    """Everything about one shard at one moment; it does not change any more."""

    def __init__(self, at: float, values: Mapping[str, Values]) -> None:
        self.at = at
        self._values = values

    def of(self, family: str) -> Values:
        """The samples of this family; {} where there are none."""
        return self._values.get(family, {})


class _Rising:
    """A sum that only rises, made of one that goes back where a loop goes back to a snapshot."""

    def __init__(self) -> None:
        self.total = 0.0
        self._last = 0.0

    def rebase(self, now: float) -> None:
        self._last = now

    def to(self, now: float) -> float:
        self.total += max(now - self._last, 0.0)
        self._last = now
        return self.total


class Tally:
    """Counts of one shard in this process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.refused: dict[str, int] = {}
        self.saving = Latency()
        self.reading = Reading(float("-inf"), {})
        self._records: dict[tuple[str, int], int] = {}
        self._replayed, self._again, self._answered = 0, 0, 0
        self._rising: dict[tuple[str, ...], _Rising] = {}
        self._event_time: float | None = None
        self._behind: float | None = None  # the wall clock minus it; None: not read yet
        self._lag: dict[TopicPartition, int] = {}
        self._lag_next = float("-inf")
        self._entry: Entry | None = None
        self._saved_at: float | None = None

    def begin(self, loop: Watched, how: Resumed) -> None:
        """The loop stands where its snapshot says: sums are counted from there."""
        self._replayed += self._repeated(loop)
        self._again, self._answered = how.again, loop.shard.counts.answered
        self.rebase(loop)
        if how.entry is not None:
            written = how.entry.path.stat().st_mtime if how.entry.path.exists() else self._clock.time()
            self.saved(how.entry, self._clock.monotonic() - max(self._clock.time() - written, 0.0))

    def rebase(self, loop: Watched) -> None:
        """What the loop has counted so far is not this process's, or was counted here before."""
        for name, value in _sums(loop).items():
            self._rising.setdefault(name, _Rising()).rebase(value)

    def saved(self, entry: Entry, at: float) -> None:
        """This is the last snapshot, durable since `at` of the monotonic clock."""
        self._entry, self._saved_at = entry, at

    def age(self, now: float) -> float | None:
        """Seconds since the last snapshot; None where there is none."""
        return None if self._saved_at is None else now - self._saved_at

    def take(self, records: Sequence[Record]) -> None:
        """Count records by partition."""
        counts = self._records
        for record in records:
            topic, number, _ = record.position
            place = topic, number
            counts[place] = counts.get(place, 0) + 1
        for record in reversed(records):
            if not isinstance(record.item, Malformed):
                self._event_time, self._behind = record.item.time, None
                break

    def _repeated(self, loop: Watched) -> int:
        """Answers since the last resume that had been given before it."""
        return min(max(loop.shard.counts.answered - self._answered, 0), self._again)

    def read(self, loop: Watched, lag_every: float | None) -> None:
        """Take a reading; lag_every: seconds between questions to the log where it ends, None for no question."""
        now = self._clock.monotonic()
        if lag_every is not None and now >= self._lag_next:
            self._ask(loop, now, lag_every)
        values: dict[str, Values] = {
            "everlearn_records": _places(self._records),
            "everlearn_replayed_events": {(): self._replayed + self._repeated(loop)},
            "everlearn_next_offset": _places(loop.positions),
            "everlearn_lag_records": _places(self._lag),
            "everlearn_refused_records": {(kind,): n for kind, n in self.refused.items()},
            "everlearn_snapshot_seconds": {(): self.saving.copy()},
        }
        for name, value in _sums(loop).items():
            rising = self._rising.setdefault(name, _Rising())
            family, *labels = name
            values.setdefault(family, {})[tuple(labels)] = rising.to(value)
        _summarise(values)
        values |= _gauges(loop)
        values |= _histograms(loop)
        if self._event_time is not None:
            if self._behind is None:
                self._behind = self._clock.time() - self._event_time
            values["everlearn_event_time_seconds"] = {(): self._event_time}
            values["everlearn_event_time_lag_seconds"] = {(): self._behind}
        if self._entry is not None:
            values["everlearn_snapshot_bytes"] = {(): self._entry.bytes}
            values["everlearn_snapshot_generation"] = {(): self._entry.generation}
            values["everlearn_snapshot_sequence"] = {(): self._entry.sequence}
        self.reading = Reading(now, values)

    def _ask(self, loop: Watched, now: float, every: float) -> None:
        """How many records the log holds that are not taken; where it does not answer, nothing is told."""
        latest = getattr(loop.source, "latest_offsets", None)
        self._lag, self._lag_next = {}, now + every
        if latest is None or loop.absence.away() is not None:
            return
        try:
            ends = latest()
        except Exception:  # whatever it is: a run does not end because its lag cannot be told
            self._lag_next = now + max(every, _LAG_REST)
            return
        at = loop.positions
        self._lag = {place: max(end - at.get(place, 0), 0) for place, end in ends.items()}


def refused_kind(refusal: Refusal) -> Literal["malformed", "event", "label"]:
    """What it was that could not be used.

    >>> from engine.deadletters.refusal import Refusal
    >>> from streams.event import Malformed, Position, Record
    >>> record = Record(Position("e", 0, 1), Malformed(raw=b"{", error="no JSON"))
    >>> refused_kind(Refusal(record, "no JSON", 0.0))
    'malformed'
    """
    if isinstance(refusal.item, Event):
        return "event"
    return "label" if isinstance(refusal.item, Label) else "malformed"


def _places(counts: Mapping[Any, int]) -> Values:
    return {(topic, str(number)): n for (topic, number), n in counts.items()}


def _sums(loop: Watched) -> dict[tuple[str, ...], float]:
    """(family, label values…) → what has come together over the model's life."""
    shard = loop.shard
    counts = shard.counts
    found: dict[tuple[str, ...], float] = {
        ("everlearn_events",): counts.events,
        ("everlearn_answered_events",): counts.answered,
        ("everlearn_labels",): counts.labels,
        ("everlearn_learned_labels",): counts.learned,
        ("everlearn_unlearned_labels",): counts.unlearned,
        ("everlearn_drifts",): shard.metrics.drifts,
    }
    for outcome, n in msgspec.structs.asdict(shard.pending.counts).items():
        found["everlearn_join", outcome] = n
    for name, total in shard.metrics.totals().items():
        found["everlearn_" + name,] = total
    return found


def _summarise(values: dict[str, Values]) -> None:
    """Sums of what was scored become (sum, weight)."""
    weight = values.pop("everlearn_weight")[()]
    for family in ("log_loss", "errors", "absolute_error", "squared_error"):
        if found := values.get("everlearn_" + family):
            found[()] = found[()], weight


def _gauges(loop: Watched) -> dict[str, Values]:
    shard = loop.shard
    found: dict[str, Values] = {
        "everlearn_model_version": {(): shard.counts.learned},
        "everlearn_waiting_forecasts": {(): len(shard.pending)},
        "everlearn_waiting_forecasts_bytes": {(): shard.pending.used_bytes},
        "everlearn_paced_labels": {(): shard.pending.queued},
        "everlearn_held_labels": {(): shard.pending.held},
        "everlearn_expert_weight": {(name,): w for name, w in shard.model.expert_weights().items()},
    }
    return found


def _histograms(loop: Watched) -> dict[str, Values]:
    timers = loop.timers
    found = {
        "decode": timers.decode.latency,
        "forecast": timers.forecast.latency,
        "learn": timers.learn.latency,
        "together": timers.together.latency,
        "flush": timers.flush.latency,
        "journal": timers.journal.latency,
        "answer": loop.latency,
        "label_delay": timers.delay,
    }
    return {f"everlearn_{name}_seconds": {(): latency.copy()} for name, latency in found.items()}
