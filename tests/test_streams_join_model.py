"""The label join against a plain model of lists, with snapshots at any point."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any, Literal

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from streams.codecs import encode_json
from streams.event import Event, Label, Position
from streams.join import JUMP, PendingForecasts
from streams.join_limits import JoinLimits
from streams.watermark import FAR, MEMORY, WINDOW

GIVEN_UP = "given up"


@dataclass
class Waiting:
    id: str
    since: float
    size: int
    payload: Any
    event: bytes = b""
    label: Label | None = None


@dataclass
class Model:
    """What the join promises, by searching lists; oldest first in all of them."""

    limits: JoinLimits
    times: list[float] = field(default_factory=list)
    now: float = -math.inf
    waiting: list[Waiting] = field(default_factory=list)
    queued: list[Waiting] = field(default_factory=list)
    held: list[Waiting] = field(default_factory=list)
    answered: list[tuple[str, float]] = field(default_factory=list)
    fates: list[list[Any]] = field(default_factory=list)
    kept: list[tuple[str, bytes]] = field(default_factory=list)
    told: list[tuple[str, str]] = field(default_factory=list)

    def advance(self, time: float) -> None:
        self.times = [*self.times, time][-MEMORY:]
        ordered, age, before = sorted(self.times[-WINDOW:]), self.limits.max_age, self.now
        limit = ordered[(len(ordered) - 1) // 2] + age * JUMP
        latest = max(t for t in ordered if t <= limit)
        median = sorted(self.times)[(len(self.times) - 1) // 2]
        leap = FAR * age * JUMP
        if latest > self.now + leap:
            follows = median > self.now + leap
        elif latest < self.now - leap:
            follows = self.now > limit and median < self.now - leap
        else:
            follows = self.now > limit or latest > self.now
        self.now = latest if follows or len(self.times) == 1 else self.now
        if self.now < before:
            for entries in (self.waiting, self.held):
                if entries and entries[-1].since > self.now + age:
                    for entry in entries:
                        entry.since = min(entry.since, self.now)
        if self.answered and self.answered[-1][1] > self.now + age:
            self.answered = [(id, min(t, self.now)) for id, t in self.answered]
        if self.fates and self.fates[-1][1] > self.now + age:
            self.fates = [[id, min(t, self.now), label] for id, t, label in self.fates]
        while self.waiting and self.waiting[0].since < self.now - age:
            self.give_up(self.waiting.pop(0))
        while self.held and self.held[0].since < self.now - age:
            self.told.append(("orphan", self.held.pop(0).id))
        while self.answered and self.answered[0][1] < self.now - age:
            self.answered.pop(0)
        while self.fates and self.fates[0][1] < self.now - age:
            self.fates.pop(0)

    def give_up(self, entry: Waiting) -> None:
        self.told.append(("expired", entry.id))
        self.fate(entry.id, GIVEN_UP)

    def drop(self) -> None:
        entry = self.queued.pop(0)
        self.told.append(("dropped", entry.id))
        if self.fate_of(entry.id) in (None, GIVEN_UP):
            self.fate(entry.id, GIVEN_UP)

    def fate_of(self, id: str) -> Any:
        return next((label for known, _, label in self.fates if known == id), None)

    def fate(self, id: str, value: Any) -> None:
        for entry in self.fates:
            if entry[0] == id:
                entry[2] = value
                return
        self.fates = [*self.fates, [id, self.now, value]][-self.limits.remembered :]

    def answer(self, id: str) -> None:
        if all(known != id for known, _ in self.answered):
            self.answered = [*self.answered, (id, self.now)][-self.limits.window :]

    def known(self, id: str) -> bool:
        return any(entry.id == id for entry in self.waiting + self.queued) or id in dict(self.answered)

    def bytes(self) -> int:
        return sum(entry.size for entry in self.waiting + self.queued) + sum(len(e) for _, e in self.kept)

    def shed(self) -> None:
        while len(self.waiting) > self.limits.max_waiting:
            self.give_up(self.waiting.pop(0))
        while len(self.queued) > self.limits.max_queued:
            self.drop()
        while self.bytes() > self.limits.max_bytes:
            if self.kept:
                self.kept.pop(0)
            elif self.waiting:
                self.give_up(self.waiting.pop(0))
            else:
                self.drop()

    def learned(self, label: Label, event: bytes) -> None:
        self.told.append(("matched", label.id))
        self.fate(label.id, label)
        if event:
            self.kept = [(id, e) for id, e in self.kept if id != label.id] + [(label.id, event)]
            self.kept = self.kept[-self.limits.correct_within :]
            self.shed()

    def label(self, label: Label) -> Any:
        for entry in self.waiting:
            if entry.id == label.id:
                self.waiting.remove(entry)
                self.learned(label, entry.event)
                return entry.payload
        for entry in self.queued + self.held:
            if entry.id == label.id:
                assert entry.label is not None
                if self.repeated(label, entry.label) and self.limits.corrections == "learn":
                    entry.label = label
                return None
        fate = self.fate_of(label.id)
        if fate == GIVEN_UP:
            self.told.append(("late", label.id))
        elif fate is not None:
            self.repeated(label, fate)
        else:
            self.held.append(Waiting(label.id, self.now, 0, None, label=label))
            if len(self.held) > self.limits.max_held:
                self.told.append(("orphan", self.held.pop(0).id))
        return None

    def repeated(self, label: Label, earlier: Label) -> bool:
        kind = "duplicate" if earlier.label == label.label else "corrected"
        self.told.append((kind, label.id))
        return kind == "corrected"


IDS = st.sampled_from([f"e{i}" for i in range(9)])
VALUES = st.sampled_from([0, 1, "a"])
STEPS = st.one_of(
    st.floats(0, 8), st.floats(0, 8), st.just(0.0), st.sampled_from([-1e9, -40.0, 60.0, 1e9, 4e18])
)
COUNTED = {
    "matched": "matched", "orphan": "orphans", "duplicate": "duplicate_labels", "expired": "expired",
    "late": "late", "corrected": "corrected", "refused": "refused", "dropped": "dropped",
    "again": "duplicate_events",
}  # fmt: skip


class JoinMachine(RuleBasedStateMachine):
    """Every rule is one record of a shard, and does with the join what a shard does."""

    @initialize(corrections=st.sampled_from(["ignore", "learn"]), small=st.booleans())
    def begin(self, corrections: Literal["ignore", "learn"], small: bool) -> None:
        self.limits = JoinLimits(
            max_age=50.0, max_waiting=4, max_bytes=200 if small else 10_000, max_held=3, max_queued=2,
            window=6, remembered=5, corrections=corrections, correct_within=2,
        )  # fmt: skip
        self.join = PendingForecasts[str](self.limits, report=True)
        self.model = Model(self.limits)
        self.time, self.made = 0.0, 0

    def record(self, step: float) -> Position:
        """Time goes on by small steps; a large one is a clock gone wrong, for this record."""
        if 0 <= step <= 8:
            self.time += step
        self.made += 1
        self.join.advance(self.time + step)
        self.model.advance(self.time + step)
        return Position("t", 0, self.made)

    @rule(id=IDS, step=STEPS, size=st.integers(0, 90))
    def event(self, id: str, step: float, size: int) -> None:
        self.record(step)
        model, event = self.model, Event(id=id, time=self.time, features={"n": self.made})
        raw = encode_json(event) if self.limits.corrections == "learn" else b""
        placed = self.join.put(id, f"{id}/{self.made}", size, event)
        if model.known(id):
            model.told.append(("again", id))
            assert placed is None
            return
        model.answer(id)
        early = [entry for entry in model.held if entry.id == id]
        if early:
            model.held.remove(early[0])
            assert placed is not None
            assert placed.label == early[0].label
            model.learned(placed.label, raw)
            return
        assert placed is None
        model.waiting.append(Waiting(id, model.now, size + len(raw), f"{id}/{self.made}", raw))
        model.shed()

    @rule(id=IDS, step=STEPS, value=VALUES)
    def event_with_label(self, id: str, step: float, value: Any) -> None:
        position = self.record(step)
        model, event = self.model, Event(id=id, time=self.time, features={"n": self.made})
        label = Label(id=id, time=self.time, label=value)
        if self.join.repeats(id):
            model.told.append(("again", id))
            assert model.known(id)
            assert self.join.match(label, position) == model.label(label)
            return
        early, entries = self.join.early(id), [entry for entry in model.held if entry.id == id]
        self.join.settle(label, event)
        model.held = [entry for entry in model.held if entry.id != id]
        model.answer(id)
        model.learned(label, encode_json(event) if self.limits.corrections == "learn" else b"")
        assert (early is None) == (not entries)
        if early is not None:
            assert early.label == entries[0].label
            assert self.join.match(*early) == model.label(early.label)

    @rule(
        id=IDS, step=STEPS, value=VALUES, paced=st.booleans(), refused=st.sampled_from([False, False, True])
    )
    def label(self, id: str, step: float, value: Any, paced: bool, refused: bool) -> None:
        position, model = self.record(step), self.model
        label = Label(id=id, time=self.time, label=value)
        waits = [entry for entry in model.waiting if entry.id == id]
        assert self.join.waiting_for(label) == (waits[0].payload if waits else None)
        event = self.join.corrects(label)
        expected = dict(model.kept).get(id)
        differs = isinstance(model.fate_of(id), Label) and model.fate_of(id).label != value
        if waits or not differs or any(entry.id == id for entry in model.queued):
            expected = None
        assert (None if event is None else encode_json(event)) == expected
        if waits and refused:
            self.join.refuse(label, position)
            model.told.append(("refused", id))
        elif waits and paced:
            self.join.queue(label, position)
            model.waiting.remove(waits[0])
            waits[0].label = label
            model.queued.append(waits[0])
            model.shed()
        else:
            assert self.join.match(label, position) == model.label(label)
            if event is not None and paced:
                self.join.queue(label, position, f"anew/{self.made}", 7)
                model.queued.append(Waiting(id, model.now, 7, f"anew/{self.made}", label=label))
                model.shed()
            elif event is not None:
                self.join.settle(label, event)
                model.answer(id)
                model.learned(label, encode_json(event))

    @rule(step=STEPS, refused=st.booleans())
    def turn(self, step: float, refused: bool) -> None:
        self.record(step)
        turn = self.join.turn()
        if not self.model.queued:
            assert turn is None
            return
        entry = self.model.queued.pop(0)
        assert turn is not None
        assert entry.label is not None
        assert (turn.placed.label, turn.forecast) == (entry.label, entry.payload)
        assert turn.corrects == isinstance(self.model.fate_of(entry.id), Label)
        if not refused:
            self.join.take_turn()
            self.model.learned(entry.label, entry.event)
            return
        self.join.refuse_turn()
        self.model.told.append(("refused", entry.id))
        if not isinstance(self.model.fate_of(entry.id), Label):
            entry.since, entry.label = self.model.now, None
            self.model.waiting.append(entry)
            self.model.shed()

    @rule(step=st.floats(0, 100), records=st.integers(1, WINDOW) | st.just(MEMORY))
    def passing(self, step: float, records: int) -> None:
        self.time += step
        for _ in range(records):
            self.record(0.0)

    @rule()
    def kill_and_resume(self) -> None:
        arrays, meta = self.join.snapshot()
        again = PendingForecasts[str](self.limits, report=True)
        again.restore(arrays, json.loads(json.dumps(meta)), self.join.payloads())
        again.reports = self.join.reports
        found, same = again.snapshot(), True
        for name, array in arrays.items():
            same = (
                same and array.dtype == found[0][name].dtype and array.tobytes() == found[0][name].tobytes()
            )
        assert same
        assert (set(found[0]), found[1]) == (set(arrays), meta)
        self.join = again

    @invariant()
    def the_join_is_as_the_model(self) -> None:
        join, model = self.join, self.model
        assert join.now == model.now
        assert join.ids() == [entry.id for entry in model.waiting + model.queued]
        assert join.payloads() == [entry.payload for entry in model.waiting + model.queued]
        assert (len(join), join.queued, join.held) == (len(model.waiting), len(model.queued), len(model.held))
        assert join.used_bytes == model.bytes() <= self.limits.max_bytes
        told = [kind for kind, _ in model.told]
        assert {name: getattr(join.counts, name) for name in COUNTED.values()} == {
            name: told.count(kind) for kind, name in COUNTED.items()
        }
        assert join.reports is not None
        silent = ("matched", "expired", "again")
        assert [(report.kind, report.placed.label.id) for report in join.reports] == [
            entry for entry in model.told if entry[0] not in silent
        ]


TestJoin = JoinMachine.TestCase
TestJoin.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def test_what_is_too_old_is_forgotten_though_time_stands_still_and_something_younger_stood_before_it() -> (
    None
):
    """Found by the machine above: event time goes back, and what is noted then is older than what came before."""
    limits = JoinLimits(max_age=50.0, window=6, remembered=5)
    join, model = PendingForecasts[str](limits), Model(limits)
    times = [0.0, -40.0, *[0.0] * 4, 10.0, 16.0, *[16.0] * 6]
    for i, time in enumerate(times):
        join.advance(time)
        model.advance(time)
        id = f"e{i if i < 2 else max(i - 5, 2)}"
        if not join.repeats(id):
            join.settle(Label(id=id, time=time, label=0))
            model.answer(id)
            model.learned(Label(id=id, time=time, label=0), b"")
        assert [join.repeats(f"e{k}") for k in range(9)] == [model.known(f"e{k}") for k in range(9)]
