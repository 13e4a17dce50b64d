"""`everlearn run`: attaches the engine to topics that others write, until it is told to stop.

Each part of a run is opened by a short function from its `Config`: journal, model, loop.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.checkpoint import CheckpointStore
from engine.identity import identity_of

if TYPE_CHECKING:
    from engine.config import Config
    from engine.journal import Journal, Start
    from engine.run import Loop
    from engine.shard import Shard
    from engine.terminal import View
    from streams.join_limits import JoinLimits
    from streams.protocols import Decode, Sink, Source

SHOW_SECONDS = 1.0
NOT_ATTACHED = (
    "source.client", "source.group", "source.instance", "source.shards", "format.events", "format.labels",
    "labels.report", "forecasts.transactional", "dead.max_ratio", "dead.over", "dead.max_run",
    "metrics.port", "log.format", "log.level",
)  # fmt: skip
"""Settings whose part of the run is not opened here yet: another value than the default is refused."""


class AttachError(Exception):
    """The engine cannot be attached like this; the text says why and what to do."""


def attach(config: Config, view: View) -> bool:
    """Run the loop until the topics end (True; only if bounded) or a signal comes (False).

    Raises AttachError, CheckpointError, streams' errors: each with what to do.
    """
    from engine.run import StopSignals

    store = open_store(config)
    if config.start is None and not store.ls():
        raise AttachError(
            f"--from is not given, source.from neither, and {config.snapshots.folder} holds no snapshot; "
            "expected --from beginning or --from end for a first run"
        )
    with StopSignals() as stop, contextlib.closing(view), contextlib.closing(open_journal(config)) as journal:
        loop = open_loop(config, journal, store)
        try:
            if loop.resume():
                view.say(f"goes on from {config.snapshots.folder}: {_counted(loop)}")
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
        view.say(f"{how}: {_counted(loop)}; snapshot in {config.snapshots.folder}")
        for line in loop.shard.refusals.lines():
            view.say(f"  {line}")
        return finished


def _counted(loop: Loop) -> str:
    counts = loop.shard.counts
    refused = counts.refused + counts.malformed
    return f"{counts.events:,} events, {counts.learned:,} labels learned, {refused:,} records refused"


def open_store(config: Config) -> CheckpointStore:
    """Where the run's snapshots are kept."""
    return CheckpointStore(config.snapshots.folder, keep=config.snapshots.keep)


def open_journal(config: Config) -> Journal:
    """The embedded log or the broker; AttachError where there is no such log, or a bounded run's topic in it."""
    from engine.journal import BrokerJournal, EmbeddedJournal

    source = config.source
    if source.broker is not None:
        return BrokerJournal(source.broker, config.broker_options)
    assert source.log is not None
    if not source.log.is_file():
        raise AttachError(
            f"--log {source.log}: no such file; expected an embedded log that a producer has begun"
        )
    journal = EmbeddedJournal(source.log)
    there = journal.topics()
    for topic in config.topics if source.bounded else ():
        if topic not in there:
            journal.close()
            raise AttachError(
                f"{topic!r} is no topic of {source.log}; there are: {', '.join(there) or 'none'}"
            )
    return journal


def open_model(config: Config) -> Any:
    """A learner that has learned nothing yet, its kernels compiled."""
    from engine.learner import OnlineClassifier, OnlineRegressor, warmup

    warmup()
    kind = OnlineClassifier if config.task == "classification" else OnlineRegressor
    return kind(**config.learner_options)


def open_shard(config: Config) -> Shard:
    """The model with its figures and the forecasts that wait for their label."""
    from engine.evaluate.metrics import PrequentialMetrics
    from engine.shard import Shard
    from streams.join import PendingForecasts
    from streams.pacing import LabelPacer

    pace = config.learning
    pacer = LabelPacer(pace.at_most, pace.per) if pace.at_most is not None and pace.per is not None else None
    pending = PendingForecasts[Any](open_limits(config))
    return Shard(open_model(config), PrequentialMetrics(config.task), pending, pacer=pacer)


def open_limits(config: Config) -> JoinLimits:
    """How many forecasts, labels and ids wait and are remembered."""
    from streams.join_limits import JoinLimits

    limits = config.labels.model_dump(exclude={"report"})
    window, max_queued = config.duplicates.window, config.learning.max_queued
    return JoinLimits(**limits, window=window, max_queued=max_queued)


def open_source(config: Config, journal: Journal) -> Source:
    """The topics to read, merged by event time."""
    from streams.merge import MergedSource

    source = journal.source(config.topics, start=_start(config), bounded=config.source.bounded)
    return MergedSource(source, live=not config.source.bounded)


def open_sinks(config: Config, journal: Journal) -> tuple[Sink, Sink | None]:
    """Where answers go, and where records go that cannot be used; their topics are made where they lack."""
    journal.prepare(config.outputs)
    dead = config.dead.topic
    return journal.sink(config.forecasts.topic), journal.sink(dead) if dead else None


def open_decoder(config: Config, topic: str) -> Decode:
    """How the bytes of a topic become events and labels."""
    from streams.codecs import decode

    return decode


def open_loop(config: Config, journal: Journal, store: CheckpointStore) -> Loop:
    """All parts joined, nothing read yet."""
    from engine.run import Loop
    from engine.switch import Switch

    check_attached(config)
    shard = open_shard(config)
    sink, dead = open_sinks(config, journal)
    return Loop(
        shard,
        open_source(config, journal),
        sink,
        store,
        dead=dead,
        switch=Switch(store.folder, store.shard, always=config.learning.frozen),
        config=identity_of(config),
        every_records=config.snapshots.every_records,
        every_seconds=config.snapshots.every_seconds,
        batch=config.source.batch,
    )


def check_attached(config: Config) -> None:
    """AttachError where a setting is given whose part of the run is not opened yet."""
    for path in NOT_ATTACHED:
        section, _, name = path.partition(".")
        table = getattr(config, section)
        if getattr(table, name) != type(table).model_fields[name].default:
            raise AttachError(
                f"{path} is {getattr(table, name)!r}, which a run does not follow yet; leave it out"
            )
    if config.fields != type(config.fields)():
        raise AttachError("fields is given, which a run does not follow yet; leave it out")


def _start(config: Config) -> Start:
    start = config.start or "beginning"
    if isinstance(start, float | Path):
        raise AttachError(
            f"source.from is {start}, which a run does not follow yet; expected beginning or end"
        )
    return start


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
