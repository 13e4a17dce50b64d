"""Structured log lines: one JSON object per line, or text for a terminal, each saying where the shard stands.

No line holds a feature, a label or a setting: of a reason the words are shown before the first value in it; the
dead letters have all of it, and the record. What would come thousands of times comes once in a while, with its
count.
"""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Mapping, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TextIO, TypeAlias

import structlog

from engine.deadletters.limits import TooManyRefused
from engine.observe.reading import refused_kind
from streams.clock import SystemClock
from streams.protocols import Clock

if TYPE_CHECKING:
    from engine.deadletters.refusal import Refusal
    from engine.observe import Change, Resumed, Saved, Watched
    from streams.event import Position, Record

_At: TypeAlias = "tuple[str | None, int | None, int]"
LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}

_VALUE = re.compile(r"""['"\d]""")
_NUMBER = re.compile(r"\d+")
_LONGEST = 200  # characters of a reason that are shown

KEYS = ("timestamp", "level", "event", "shard", "topic", "partition", "offset", "version")
"""What every line has: time in UTC, what happened, and of the shard the last record taken and the labels learned
by then. null where there is none: of the process as a whole, and before the first record (offset -1)."""


class Logs:
    """An observer that writes lines.

    format: "json" or "console". level: the least that is written, "debug" to "error". stream: standard error
    by default. every: seconds between two lines of progress, and between two about the same kind of refusal.

    >>> import io, json
    >>> out = io.StringIO()
    >>> Logs(stream=out).waiting("no partition is owned")
    >>> line = json.loads(out.getvalue())
    >>> line["event"], line["reason"], line["shard"]
    ('waiting', 'no partition is owned', None)
    """

    def __init__(
        self,
        *,
        format: Literal["json", "console"] = "json",
        level: str = "info",
        stream: TextIO | None = None,
        every: float = 30.0,
        clock: Clock | None = None,
    ) -> None:
        if level not in LEVELS:
            raise ValueError(f"level is {level!r}; expected one of {', '.join(LEVELS)}")
        if format not in ("json", "console"):
            raise ValueError(f"format is {format!r}; expected 'json' or 'console'")
        out = stream or sys.stderr
        last: list[Any] = [structlog.processors.JSONRenderer()]
        if format == "console":
            last = [_dashed, structlog.dev.ConsoleRenderer(colors=out.isatty(), sort_keys=False)]
        self._write = structlog.wrap_logger(
            structlog.PrintLogger(out),
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                _ordered,
                *last,
            ],
            wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
            cache_logger_on_first_use=True,
        )
        self._every = every
        self._clock = clock or SystemClock()
        self._at: dict[str, _At] = {}
        self._told: dict[str, tuple[float, int]] = {}  # shard → when progress was told, records since
        self._refusals: dict[tuple[str, str, str], tuple[float, int]] = {}
        self._notes: dict[str, tuple[float, int]] = {}  # kind → when it was told, how many since
        self._waiting: str | None = None

    def resumed(self, loop: Watched, how: Resumed) -> None:
        """Where the run begins, and every note about it."""
        self._waiting = None
        self._at[loop.name] = _standing(loop)
        self._told[loop.name] = (self._clock.monotonic(), 0)
        at = {f"{topic}:{number}": offset for (topic, number), offset in sorted(loop.positions.items())}
        if how.entry is None:
            self._line("info", "started", loop, positions=at)
        else:
            which = {"generation": how.entry.generation, "sequence": how.entry.sequence}
            self._line(
                "info", "resumed", loop, **which, snapshot=how.entry.path.name, again=how.again, positions=at
            )
        for note in how.notes:
            self._line("warning", "note", loop, note=note)

    def turned(self, loop: Watched, records: Sequence[Record]) -> None:
        """Now and then, how far it is; once, that its broker has gone away or is back."""
        if records:
            self._at[loop.name] = _place(records[-1].position)
        if (turn := loop.absence.turn) is not None:
            level = "warning" if turn[0] == "away" else "info"
            self._line(level, f"broker_{turn[0]}", loop, seconds=round(turn[1], 1))
        now = self._clock.monotonic()
        since, count = self._told.get(loop.name, (now, 0))
        count += len(records)
        if count and now - since >= self._every:
            rate = round(count / max(now - since, 1e-9), 1)
            self._line("info", "progress", loop, records=count, per_second=rate, **_figures(loop))
            since, count = now, 0
        elif not count:
            since = now
        self._told[loop.name] = (since, count)

    def refused(self, loop: Watched, refusal: Refusal) -> None:
        """The first of a kind, and after that at most one in a while, with how many there were."""
        self._at[loop.name] = _place(refusal.position)
        reason = wording(refusal.reason)
        key = (loop.name, refused_kind(refusal), reason)
        now = self._clock.monotonic()
        at, count = self._refusals.get(key, (float("-inf"), 0))
        count += 1
        if now - at >= self._every:
            if len(self._refusals) >= 256:
                self._refusals.clear()
            self._line("warning", "refused", loop, kind=key[1], reason=reason, count=count)
            at, count = now, 0
        self._refusals[key] = (at, count)

    def saved(self, loop: Watched, what: Saved) -> None:
        """Which snapshot is durable."""
        entry = what.entry
        self._line(
            "info",
            "saved",
            loop,
            generation=entry.generation,
            sequence=entry.sequence,
            bytes=entry.bytes,
            seconds=round(what.seconds, 6),
        )

    def stopped(self, loop: Watched, reason: str) -> None:
        """Why, and the figures at the end."""
        for (shard, kind, text), (at, count) in list(self._refusals.items()):
            if shard == loop.name and count:
                self._line("warning", "refused", loop, kind=kind, reason=text, count=count)
                self._refusals[shard, kind, text] = (at, 0)
        self._line("info", "stopped", loop, reason=reason, **_figures(loop))

    def rebalanced(self, change: Change, shards: Sequence[str]) -> None:
        """One line per shard."""
        level = "warning" if change == "lost" else "info"
        for shard in shards:
            topic, partition, offset = self._at.get(shard, (None, None, -1))
            self._emit(level, change, shard, topic, partition, offset, None)

    def waiting(self, reason: str) -> None:
        """Once, until something else happens or the reason changes."""
        if reason != self._waiting:
            self._waiting = reason
            self._emit("info", "waiting", None, None, None, None, None, reason=reason)

    def listening(self, url: str) -> None:
        """Where metrics are shown."""
        self._emit("info", "listening", None, None, None, None, None, url=url)

    def failed(self, error: Exception, *, known: bool = True) -> None:
        """The last line of a run that ends with an error; known: its text says by itself what to do.

        Of another error the kind is shown, the words before the first value, and where it happened.
        """
        if known:
            text = error.without_values if isinstance(error, TooManyRefused) else str(error)
            reason = " ".join(text.split())
            more: dict[str, Any] = {}
        else:
            said = wording(str(error))
            reason = f"{type(error).__name__}: {said}" if said else type(error).__name__
            frames = traceback.extract_tb(error.__traceback__)
            more = {"trace": [f"{frame.filename}:{frame.lineno} in {frame.name}" for frame in frames]}
        self._emit("error", "failed", None, None, None, None, None, reason=reason, **more)

    def said(self, level: str, note: str) -> None:
        """What a part of the process has to say that is of no shard; of one kind at most one line in a while.

        A client says hundreds of times that its broker is away. Notes of one kind differ in numbers alone.
        """
        now, kind = self._clock.monotonic(), _NUMBER.sub("", note)
        at, count = self._notes.get(kind, (float("-inf"), 0))
        count += 1
        if now - at >= self._every:
            if len(self._notes) >= 256:
                self._notes.clear()
            self._emit(level, "note", None, None, None, None, None, note=note, count=count)
            at, count = now, 0
        self._notes[kind] = at, count

    def _line(self, level: str, event: str, loop: Watched, **more: Any) -> None:
        topic, partition, offset = self._at.get(loop.name) or _standing(loop)
        version = loop.shard.counts.learned
        self._emit(level, event, loop.name, topic, partition, offset, version, **more)

    def _emit(
        self,
        level: str,
        event: str,
        shard: str | None,
        topic: str | None,
        partition: int | None,
        offset: int | None,
        version: int | None,
        **more: Any,
    ) -> None:
        at = {"shard": shard, "topic": topic, "partition": partition, "offset": offset, "version": version}
        getattr(self._write, level)(event, **at, **more)


def _ordered(logger: Any, method: str, line: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """What every line has comes first."""
    return {name: line[name] for name in KEYS} | {name: v for name, v in line.items() if name not in KEYS}


def _dashed(logger: Any, method: str, line: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """For people: a dash where there is nothing."""
    return {name: "–" if value is None else value for name, value in line.items()}


def wording(reason: str) -> str:
    """The words of a reason up to the first number or quoted text, which may be the record's.

    >>> wording("features['income'] is 'plenty'; expected a number")
    'features[…'
    >>> wording("JSON is malformed: trailing characters")
    'JSON is malformed: trailing characters'
    """
    words = " ".join(reason.split())
    found = _VALUE.search(words)
    return words[:_LONGEST] if found is None else words[: min(found.start(), _LONGEST)] + "…"


def _place(position: Position) -> _At:
    topic, number, offset = position
    return topic, number, offset


def _standing(loop: Watched) -> _At:
    """The record before the next one of the first partition that has been read, or of the first one."""
    positions = sorted(loop.positions.items(), key=lambda item: (item[1] == 0, item[0]))
    if not positions:
        return None, None, -1
    (topic, number), offset = positions[0]
    return topic, number, offset - 1


def _figures(loop: Watched) -> dict[str, Any]:
    shard = loop.shard
    counts = shard.counts
    return {
        "events": counts.events,
        "answered": counts.answered,
        "learned": counts.learned,
        "refused": counts.refused + counts.malformed,
        "waiting": len(shard.pending),
        "headline": shard.metrics.headline(),
    }
