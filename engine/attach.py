"""`everlearn run`: attaches the engine to topics that others write, until it is told to stop."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from engine.checkpoint import CheckpointStore

if TYPE_CHECKING:
    from engine.journal import Journal
    from engine.run import Loop
    from engine.terminal import View
    from streams.protocols import Source

SHOW_SECONDS = 1.0


class AttachError(Exception):
    """The engine cannot be attached like this; the text says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class Attachment:
    """What to read, where to answer and how to learn.

    log: file of an embedded log, or broker: "host:port"; one of the two. broker_config: TOML file of settings
    for the broker's clients. events, labels: topics to read,
    which may be the same (None: events carry their labels). forecasts, dead: topics to write (dead None:
    of refused records only counts and reasons are kept). snapshots: folder. start: where a first run begins;
    a later one goes on from its snapshot. bounded: end where the topics end now, in the order of event time.
    keys: fields or tuples of them.
    """

    log: Path | None
    broker: str | None
    events: str
    labels: str | None
    forecasts: str
    dead: str | None
    snapshots: Path
    start: Literal["beginning", "end"] | None
    bounded: bool
    task: Literal["classification", "regression"]
    keys: tuple[str | tuple[str, ...], ...]
    seed: int
    label_history: bool
    every_seconds: float
    broker_config: Path | None = None

    @property
    def topics(self) -> list[str]:
        """The topics to read."""
        return list(dict.fromkeys([self.events, *([self.labels] if self.labels else [])]))

    @property
    def identity(self) -> dict[str, Any]:
        """What must not change between runs on the same snapshots."""
        names = ("events", "labels", "task", "keys", "seed", "label_history")
        return {name: getattr(self, name) for name in names}


def attach(asked: Attachment, view: View) -> bool:
    """Run the loop until the topics end (True; only if bounded) or a signal comes (False).

    Raises AttachError, CheckpointError, streams' errors: each with what to do.
    """
    from engine.run import StopSignals

    store = CheckpointStore(asked.snapshots)
    if asked.start is None and not store.ls():
        raise AttachError(
            f"--from is not given and {asked.snapshots} holds no snapshot; "
            "expected --from beginning or --from end for a first run"
        )
    with StopSignals() as stop, contextlib.closing(view), contextlib.closing(_journal(asked)) as journal:
        loop = _loop(asked, journal, store)
        try:
            if loop.resume():
                view.say(f"goes on from {asked.snapshots}: {_counted(loop)}")
            loop.on_batch = shower = _Shower(view)
            finished = loop.run(stop)
            shower.show(loop)
            view.close()
        finally:
            loop.source.close()
        loop.sink.close()
        if loop.dead is not None:
            loop.dead.close()
        how = "finished" if finished else "stopped"
        view.say(f"{how}: {_counted(loop)}; snapshot in {asked.snapshots}")
        for line in loop.shard.refusals.lines():
            view.say(f"  {line}")
        return finished


def _counted(loop: Loop) -> str:
    counts = loop.shard.counts
    refused = counts.refused + counts.malformed
    return f"{counts.events:,} events, {counts.learned:,} labels learned, {refused:,} records refused"


def _journal(asked: Attachment) -> Journal:
    from engine.journal import BrokerJournal, EmbeddedJournal
    from streams.broker_config import read_options

    if (asked.log is None) == (asked.broker is None):
        raise AttachError("expected one of --log FILE and --broker ADDRESS")
    if asked.broker is not None:
        return BrokerJournal(asked.broker, read_options(asked.broker_config))
    assert asked.log is not None
    if not asked.log.is_file():
        raise AttachError(
            f"--log {asked.log}: no such file; expected an embedded log that a producer has begun"
        )
    journal = EmbeddedJournal(asked.log)
    there = journal.topics()
    for topic in asked.topics if asked.bounded else ():
        if topic not in there:
            journal.close()
            raise AttachError(
                f"{topic!r} is no topic of {asked.log}; there are: {', '.join(there) or 'none'}"
            )
    return journal


def _loop(asked: Attachment, journal: Journal, store: CheckpointStore) -> Loop:
    from engine.evaluate.metrics import PrequentialMetrics
    from engine.learner import OnlineClassifier, OnlineRegressor, warmup
    from engine.run import Loop
    from engine.shard import Shard

    warmup()
    options: dict[str, Any] = {"seed": asked.seed, "keys": asked.keys, "label_history": asked.label_history}
    classify = asked.task == "classification"
    model = OnlineClassifier(**options) if classify else OnlineRegressor(**options)
    journal.prepare([topic for topic in (asked.forecasts, asked.dead) if topic])
    return Loop(
        Shard(model, PrequentialMetrics(asked.task)),
        _source(asked, journal),
        journal.sink(asked.forecasts),
        store,
        dead=journal.sink(asked.dead) if asked.dead else None,
        config=asked.identity,
        every_seconds=asked.every_seconds,
    )


def _source(asked: Attachment, journal: Journal) -> Source:
    from streams.merge import MergedSource

    source = journal.source(asked.topics, start=asked.start or "beginning", bounded=asked.bounded)
    return MergedSource(source, live=not asked.bounded)


class _Shower:
    """Shows the loop's figures now and then."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._shown = 0.0

    def __call__(self, loop: Loop) -> None:
        now = time.monotonic()
        if now - self._shown >= SHOW_SECONDS:
            self._shown = now
            self.show(loop)

    def show(self, loop: Loop) -> None:
        """The figures as they are."""
        from engine.terminal import Progress, Row

        figures = loop.shard.metrics.result()
        speed = loop.latency.count / loop.busy_seconds if loop.busy_seconds > 0 else None
        row = Row.of("everlearn", figures, speed)
        self._view.show(
            Progress(
                rows=[row],
                time=figures["last_time"],
                experts=dict(loop.shard.model.expert_weights()),
                drifts=figures["drifts"]["count"],
                last_drift=figures["drifts"]["last"],
            )
        )


def keys_of(texts: Sequence[str]) -> tuple[str | tuple[str, ...], ...]:
    """Key fields from the command line: "a" is a field, "a,b" the pair of two.

    >>> keys_of(["carrier", "carrier,origin"])
    ('carrier', ('carrier', 'origin'))
    """
    return tuple(tuple(text.split(",")) if "," in text else text for text in texts)
