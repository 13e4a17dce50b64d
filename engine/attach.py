"""`everlearn run`: attaches the engine to topics that others write, until it is told to stop.

Each part of a run is opened by a short function from its `Config`: journal and membership, and for every shard
model, source, sinks and loop.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.checkpoint import CheckpointStore
from engine.config.identity import identity_of
from engine.observe import Observer, Several, Silent
from engine.told import Told

if TYPE_CHECKING:
    from engine.config.config import Config
    from engine.journal import Journal
    from engine.run import Loop
    from engine.shard import Shard
    from engine.terminal import View
    from streams.event import TopicPartition
    from streams.history_then_live import Known
    from streams.join_limits import JoinLimits
    from streams.membership import Changes, Membership
    from streams.protocols import Decode, Sink
    from streams.replay import Items
    from streams.stretch import Ordered


class AttachError(Exception):
    """The engine cannot be attached like this; the text says why and what to do."""


def attach(config: Config, view: View, *, past_refused: bool = False) -> bool:
    """Run the loops of all shards that this process owns, until the topics end or a signal comes.

    past_refused: what was refused before no longer counts, where a run had stopped because of it. True where the
    topics have ended, which only bounded runs do. Raises AttachError, CheckpointError, TooManyRefused, streams'
    errors: each with what to do.
    """
    from engine.fleet import Fleet
    from engine.learner import warmup
    from engine.stop_signals import StopSignals

    with contextlib.ExitStack() as stack:
        if config.source.shards == "all":
            _check_start(config, open_store(config))
        stack.enter_context(contextlib.closing(view))
        journal = stack.enter_context(contextlib.closing(open_journal(config)))
        _prepare(config, journal)
        told = Told(view)
        observer = Several(told, stack.enter_context(open_observer(config)))
        warmup()  # a signal ends it at once: nothing is taken over yet
        spare_the_collector()
        stop = stack.enter_context(StopSignals())
        membership = open_membership(config)
        owner = membership if config.source.group is None else Observed(membership, observer)
        fleet = Fleet(owner, _opener(config, journal, membership, observer, past_refused))
        finished = fleet.run(stop)
        told.end(config.snapshots.folder, finished=finished)
        return finished


def _opener(
    config: Config, journal: Journal, membership: Membership, observer: Observer, past_refused: bool
) -> Callable[[str], Loop]:
    return lambda shard: open_loop(
        config, journal, shard, observer, membership.commit, past_refused=past_refused
    )


def _prepare(config: Config, journal: Journal) -> None:
    """The output topics are there: with a partition each, or with the events' number of them."""
    from engine import first_start

    if config.source.shards == "all":
        journal.prepare(config.outputs)
        return
    count = journal.partitions(config.source.events)
    journal.prepare(config.outputs, count)
    first_start.remember(config.snapshots.folder, count)


def spare_the_collector() -> None:
    """What was loaded stays for good: the collector need not look at it again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


# -- of a process -------------------------------------------------------------------------------------------


def open_journal(config: Config) -> Journal:
    """The embedded log or the broker; AttachError where there is no such log, or a bounded run's topic in it."""
    from engine.journal import BrokerJournal, EmbeddedJournal

    source = config.source
    if source.broker is not None:
        return BrokerJournal(source.broker, config.broker_options, source.client)
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


def open_membership(config: Config) -> Membership:
    """Through a consumer group where one is named; else this process owns every shard."""
    from streams.membership import Alone

    source = config.source
    if source.group is None or source.broker is None:
        return Alone()
    from streams.group import GroupMembership

    return GroupMembership(
        source.broker,
        source.group,
        source.events,
        topics=config.topics,
        shards=source.shards,
        instance=source.instance,
        options=config.broker_options,
    )


def open_observer(config: Config) -> contextlib.AbstractContextManager[Observer]:
    """Log lines where they are asked for, and metrics and health on their port."""
    from engine.observe.observing import observing

    lines = config.log.format if "log" in config.model_fields_set else None
    if lines is None and config.metrics.port is None:
        return contextlib.nullcontext(Silent())
    return observing(
        host=config.metrics.host,
        port=config.metrics.port,
        format=lines,
        level=config.log.level,
        lag=not config.source.bounded,
    )


class Observed:
    """A membership whose changes an observer is told."""

    def __init__(self, membership: Membership, observer: Observer) -> None:
        self._membership, self._observer = membership, observer
        self.patience = membership.patience
        self.owned, self.released = membership.owned, membership.released
        self.commit, self.close = membership.commit, membership.close

    def changes(self) -> Changes | None:
        """The membership's."""
        changes = self._membership.changes()
        if changes is not None:
            for kind in ("lost", "revoked", "gained"):
                shards = sorted(getattr(changes, kind))
                if shards:
                    self._observer.rebalanced(kind, shards)
        if not self._membership.owned():
            self._observer.waiting("other members of the group own all shards")
        return changes


# -- of a shard ---------------------------------------------------------------------------------------------


def open_loop(
    config: Config,
    journal: Journal,
    shard: str = "0",
    observer: Observer | None = None,
    on_durable: Callable[[Mapping[Any, int]], None] | None = None,
    *,
    past_refused: bool = False,
) -> Loop:
    """All parts of a shard joined, nothing read yet."""
    from engine import past
    from engine.deadletters.limits import Limits
    from engine.first_start import came_since
    from engine.run import Loop
    from engine.switch import Switch
    from streams.protocols import notes_of

    store = open_store(config, shard)
    partition = int(shard) if config.source.shards == "partition" else None
    first = not store.ls()
    if partition is not None and first and came_since(store.folder, partition):
        first = False  # what it holds was written while the run was there: from its beginning
    elif first:
        _check_start(config, store)
    known = open_known(config)
    past.check(known, store)
    model = open_shard(config)
    journal.prepare(config.outputs, (partition or 0) + 1)
    transactional = config.forecasts.transactional
    sinks = {
        name: journal.sink(topic, partition or 0, transactional=transactional)
        for name, topic in (("dead", config.dead.topic), ("report", config.labels.report))
        if topic is not None
    }
    answers: Sink = journal.sink(config.forecasts.topic, partition or 0, transactional=transactional)
    if isinstance(config.start, Path):
        from streams.history_then_live import LiveAnswers

        answers = LiveAnswers(answers)
    source = open_source(config, journal, model, partition, first=first, known=known)
    loop = Loop(
        model,
        source,
        answers,
        store,
        dead=sinks.get("dead"),
        report=sinks.get("report"),
        limits=Limits(**config.dead.model_dump(exclude={"topic"})),
        past_refused=past_refused,
        switch=Switch(store.folder, store.shard, always=config.learning.frozen),
        config=identity_of(config) | ({} if known is None else {past.HISTORY: past.identity(known)}),
        every_records=config.snapshots.every_records,
        every_seconds=config.snapshots.every_seconds,
        batch=config.source.batch,
        observer=observer,
        on_durable=on_durable,
    )
    loop.notes += notes_of(source)
    return loop


def _check_start(config: Config, store: CheckpointStore) -> None:
    if config.start is None and not store.ls():
        raise AttachError(
            f"--from is not given, source.from neither, and {store.folder} holds no snapshot of shard "
            f"{store.shard}; expected --from beginning or --from end for a first run"
        )


def open_store(config: Config, shard: str = "0") -> CheckpointStore:
    """Where the snapshots of a shard are kept."""
    asked = config.snapshots
    return CheckpointStore(asked.folder, shard, keep=asked.keep, hourly=asked.hourly, daily=asked.daily)


def open_model(config: Config) -> Any:
    """A learner that has learned nothing yet."""
    from engine.learner import OnlineClassifier, OnlineRegressor

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
    pending = PendingForecasts[Any](open_limits(config), report=config.labels.report is not None)
    return Shard(open_model(config), PrequentialMetrics(config.task), pending, pacer=pacer)


def open_limits(config: Config) -> JoinLimits:
    """How many forecasts, labels and ids wait and are remembered."""
    from streams.join_limits import JoinLimits

    limits = config.labels.model_dump(exclude={"report"})
    window, max_queued = config.duplicates.window, config.learning.max_queued
    return JoinLimits(**limits, window=window, max_queued=max_queued)


def open_source(
    config: Config,
    journal: Journal,
    shard: Shard,
    partition: int | None = None,
    *,
    first: bool = True,
    known: Known | None = None,
) -> Ordered:
    """The topics to read, merged by event time, behind a file of history where the run begins with one.

    partition: this one of each topic alone. first: begin where the configuration says; a later run goes to the
    positions of its snapshot, and reads a partition that this does not know from its beginning. known: history,
    where it was opened already.
    """
    from engine.journal import Reading
    from streams.merge import MergedSource

    live = not config.source.bounded
    reading = Reading(
        start="beginning" if not first or isinstance(config.start, Path) else config.start or "beginning",
        bounded=not live,
        decoders={topic: shard.timers.decoding(open_decoder(config, topic)) for topic in config.topics},
        partitions=None if partition is None else [partition],
    )
    known = known or open_known(config)
    if known is None:
        return MergedSource(journal.source(config.topics, reading), live=live)
    from engine.past import after
    from streams.history_then_live import HistoryThenLive, WithoutKnown
    from streams.replay import ListSource

    notes = list[str]()
    if first:
        reading, notes = after(known, journal, config.source.events, config.topics, reading)
    topics = WithoutKnown(journal.source(config.topics, reading), known)
    return HistoryThenLive(MergedSource(ListSource(known.past)), MergedSource(topics, live=live), notes)


def open_known(config: Config) -> Known | None:
    """The file of history that a run begins with; None where it begins with none."""
    from streams.history_then_live import Known

    return Known(open_past(config, config.start)) if isinstance(config.start, Path) else None


def open_past(config: Config, file: Path) -> dict[TopicPartition, Items]:
    """A file of history, read by the field map of the events."""
    from streams.codecs import decoder_for
    from streams.files import suffix
    from streams.history import LOGS, open_history

    if config.source.shards == "partition":
        raise AttachError(
            f'source.from is the file {file}, which belongs to no partition; use shards = "all"'
        )
    if suffix(file) in LOGS:
        return open_history(
            file, config.topics, {topic: open_decoder(config, topic) for topic in config.topics}
        )
    fields = field_map(config, labels=False)
    rows = {} if fields is None else {config.source.events: decoder_for("json", fields)}
    return open_history(file, [config.source.events], rows)


def open_decoder(config: Config, topic: str) -> Decode:
    """How the bytes of a topic become events and labels."""
    from streams.codecs import decoder_for

    labels = topic == config.source.labels and topic != config.source.events
    form = config.format.labels if labels else config.format.events
    return decoder_for(form, field_map(config, labels=labels), open_registry(config))


def field_map(config: Config, *, labels: bool) -> Any:
    """What fields of a message mean, of events or of labels; None: messages have the canonical form."""
    from streams.codecs import FieldMap

    fields = config.fields
    if labels:
        if fields.label_id is None and fields.label is None:
            return None
        names = {"id": fields.label_id, "time": fields.label_time, "label": fields.label}
        given = {name: value for name, value in names.items() if value is not None}
        return FieldMap(time_unit=fields.time_unit, **given)
    if fields == type(fields)():
        return None
    names = {"id": fields.id, "time": fields.time, "weight": fields.weight, "target": fields.target}
    given = {name: value for name, value in names.items() if value is not None}
    features = fields.features if fields.features == "*" else tuple(fields.features)
    return FieldMap(time_unit=fields.time_unit, features=features, exclude=tuple(fields.exclude), **given)


def open_registry(config: Config) -> Any:
    """The schema registry, where one is named."""
    asked = config.format.registry
    if asked.url is None:
        return None
    from streams.codecs.registry import SchemaRegistry

    return SchemaRegistry(
        asked.url,
        username=asked.username,
        password=None if asked.password is None else asked.password.get_secret_value(),
        token=None if asked.token is None else asked.token.get_secret_value(),
        ca=None if asked.ca_file is None else str(asked.ca_file),
    )
