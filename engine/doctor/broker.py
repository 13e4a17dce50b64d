"""Whether a broker's topics, rights and group fit a configuration. Reads and asks; never writes to a topic."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any, NamedTuple

from engine.config.config import Config
from engine.doctor.finding import Finding
from engine.doctor.sample import Message
from streams.errors import StreamError

SAMPLE = 20  # messages per topic
PATIENCE = 5.0  # seconds to wait for them
HOUR = 3600.0
SHORT = 6 * HOUR  # a retention below it is told
LETTER = 700_000  # bytes that a dead letter may have
UNKNOWN, FORBIDDEN = 3, 29  # Kafka's error codes


class Topics(NamedTuple):
    """What a broker says of some topics: of each its description and its settings, as far as it tells."""

    described: Mapping[str, Mapping[str, Any]]
    settings: Mapping[str, Mapping[str, str]]
    all: list[str]

    def partitions(self, topic: str) -> int:
        """How many it has; 0 where it does not exist."""
        return len(self.described.get(topic, {}).get("partitions", ()))


def examine_topics(config: Config) -> Iterator[Finding]:
    """The broker, its topics and the group; nothing after the first finding where no broker answers."""
    from kafka.errors import KafkaError

    from streams.broker import connect_admin

    address = str(config.source.broker)
    try:
        admin = connect_admin(address, options=config.broker_options)
    except StreamError as error:
        yield Finding("broker", False, str(error))
        return
    with contextlib.closing(admin):
        try:
            topics = _described(admin, [*config.topics, *config.outputs])
        except KafkaError as error:
            yield Finding("broker", False, f"{address} answers, but does not describe topics: {error}")
            return
        yield Finding("broker", True, f"{address} answers, {len(topics.all)} topics")
        yield from _inputs(config, topics)
        yield from _outputs(config, topics, admin)
        yield from _keeping(config, topics)
        if config.source.group is not None:
            yield _group(admin, config)


def sample(config: Config, topic: str) -> list[Message]:
    """The last messages of a topic, up to SAMPLE over all its partitions; StreamError where it is not read."""
    from kafka import TopicPartition
    from kafka.errors import KafkaError

    from streams.broker import connect_consumer, partitions_of

    address = str(config.source.broker)
    with contextlib.closing(connect_consumer(address, options=config.broker_options)) as consumer:
        try:
            wanted = [TopicPartition(topic, n) for n in partitions_of(consumer, address, topic)]
            begins, ends = consumer.beginning_offsets(wanted), consumer.end_offsets(wanted)
            share = max(1, SAMPLE // len(wanted))
            starts = {p: max(begins[p], ends[p] - share) for p in wanted if ends[p] > begins[p]}
            consumer.assign(list(starts))
            for partition, offset in starts.items():
                consumer.seek(partition, offset)
            found: list[Message] = []
            deadline = time.monotonic() + PATIENCE
            while any(consumer.position(p) < ends[p] for p in starts) and time.monotonic() < deadline:
                for (name, number), records in consumer.poll(timeout_ms=500, max_records=SAMPLE).items():
                    for r in records:
                        where = f"{name} {number}:{r.offset}"
                        found.append(Message(where, r.value or b"", r.key, r.timestamp / 1000))
        except KafkaError as error:
            raise StreamError(f"the broker at {address} does not let {topic!r} be read: {error}") from error
    return found[:SAMPLE]


def end_offsets(config: Config) -> dict[tuple[str, int], int]:
    """Where each partition of the topics that are read ends now; StreamError where that is not told."""
    from kafka import TopicPartition
    from kafka.errors import KafkaError

    from streams.broker import connect_consumer, partitions_of

    address = str(config.source.broker)
    with contextlib.closing(connect_consumer(address, options=config.broker_options)) as consumer:
        try:
            wanted = [
                TopicPartition(topic, n)
                for topic in config.topics
                for n in partitions_of(consumer, address, topic)
            ]
            return {tuple(partition): int(end) for partition, end in consumer.end_offsets(wanted).items()}
        except KafkaError as error:
            raise StreamError(f"the broker at {address} does not say where topics end: {error}") from error


def _described(admin: Any, names: list[str]) -> Topics:
    from kafka.admin import ConfigResource
    from kafka.errors import KafkaError

    described = {found["name"]: found for found in admin.describe_topics(names)}
    there = [name for name in names if described.get(name, {}).get("error_code") == 0]
    settings: dict[str, dict[str, str]] = {}
    for name in there:
        with contextlib.suppress(KafkaError):  # without the right to see them they are not judged
            answer = admin.describe_configs([ConfigResource("topic", name)], config_filter="all")
            settings |= {
                topic: {key: str(about["value"]) for key, about in found.items()}
                for topic, found in answer.get("topic", {}).items()
            }
    return Topics(described, settings, sorted(admin.list_topics()))


def _inputs(config: Config, topics: Topics) -> Iterator[Finding]:
    counts: dict[str, int] = {}
    for topic in config.topics:
        refused = _refused(topics, topic, "READ")
        if topics.described.get(topic, {}).get("error_code") == UNKNOWN:
            near = get_close_matches(topic, topics.all, n=1)
            hint = f"; the nearest is {near[0]}" if near else ""
            yield Finding(topic, False, f"there is no such topic{hint}; create it, or name another")
        elif refused:
            yield Finding(topic, False, refused)
        else:
            counts[topic] = topics.partitions(topic)
            yield Finding(topic, True, f"{_many(counts[topic])}, may be read")
    if config.source.shards == "partition" and len(set(counts.values())) > 1:
        told = ", ".join(f"{topic} has {count}" for topic, count in counts.items())
        yield Finding(
            "partitions",
            False,
            f'{told}; expected equal counts with source.shards = "partition", because shard k reads partition k '
            'of each. Create them alike, or use shards = "all"',
        )


def _outputs(config: Config, topics: Topics, admin: Any) -> Iterator[Finding]:
    from kafka.errors import KafkaError

    for topic in config.outputs:
        if topics.described.get(topic, {}).get("error_code") != UNKNOWN:
            refused = _refused(topics, topic, "WRITE")
            if refused:
                yield Finding(topic, False, refused)
            elif topics.partitions(topic) > 1 and config.source.shards == "all":
                yield Finding(
                    topic, False, f"{_many(topics.partitions(topic))}; expected 1 for what is written"
                )
            else:
                yield Finding(topic, True, f"{_many(topics.partitions(topic))}, may be written")
            continue
        try:
            admin.create_topics({topic: {"num_partitions": 1, "replication_factor": -1}}, validate_only=True)
        except KafkaError as error:
            yield Finding(
                topic, False, f"does not exist and this client may not make it ({error}); create it first"
            )
        else:
            yield Finding(topic, True, "does not exist yet and will be made")


def _refused(topics: Topics, topic: str, right: str) -> str | None:
    """Why a topic cannot be used; None where it can, or where the broker does not tell."""
    found = topics.described.get(topic, {})
    if found.get("error_code") == FORBIDDEN:
        return "this client may not even describe it; grant DESCRIBE and " + right
    if found.get("error_code"):
        return (
            f"the broker does not describe it (error {found['error_code']}); try again, then look at its log"
        )
    rights = found.get("authorized_operations")
    if rights is not None and right not in rights:
        return f"this client may {', '.join(rights) or 'do nothing'} there; grant {right}"
    return None


def _keeping(config: Config, topics: Topics) -> Iterator[Finding]:
    """How long inputs are kept, and how large a message outputs take."""
    for topic in config.topics:
        settings = topics.settings.get(topic)
        if settings is None:
            continue
        milliseconds = float(settings.get("retention.ms", "-1"))
        kept = milliseconds / 1000 if milliseconds >= 0 else None
        name = f"{topic}: kept"
        if kept is None:
            yield Finding(name, True, "for ever")
        elif kept < 10 * config.snapshots.every_seconds:
            yield Finding(
                name,
                False,
                f"{_long(kept)}, with a snapshot every {config.snapshots.every_seconds:g} s; expected at least "
                "ten times as much, or what a restart needs is gone. Raise retention.ms",
            )
        elif kept < SHORT:
            yield Finding(name, None, f"{_long(kept)}; a run that stands still for longer cannot go on")
        else:
            yield Finding(name, True, _long(kept))
        if "compact" in settings.get("cleanup.policy", ""):
            yield Finding(name, None, "compacted: what has been replaced cannot be replayed")
        if int(settings.get("retention.bytes", "-1")) >= 0:
            size = int(settings["retention.bytes"])
            yield Finding(
                name, None, f"at most {size:,} bytes per partition; see that this is hours of messages"
            )
    if config.dead.topic is not None:
        most = int(topics.settings.get(config.dead.topic, {}).get("max.message.bytes", LETTER))
        if most < LETTER:
            yield Finding(
                f"{config.dead.topic}: size",
                False,
                f"max.message.bytes is {most:,}; a dead letter may have {LETTER:,}. Raise it",
            )


def _group(admin: Any, config: Config) -> Finding:
    from kafka.errors import KafkaError

    group = str(config.source.group)
    deadline = time.monotonic() + 2 * PATIENCE
    while True:
        try:
            found = admin.describe_groups([group])[group]
            break
        except KafkaError as error:  # a new broker has no coordinator for a while
            if not getattr(error, "retriable", False) or time.monotonic() > deadline:
                return Finding(f"group {group}", False, f"the broker does not describe it ({error})")
            time.sleep(0.5)
    if found.get("error") and "GroupIdNotFound" not in str(found["error"]):
        return Finding(f"group {group}", False, f"this client may not use it ({found['error']}); grant READ")
    members = found.get("members", [])
    if not members:
        return Finding(f"group {group}", True, "no member yet")
    names = sorted(str(member.get("group_instance_id") or member.get("client_id")) for member in members)
    text = f"{len(members)} members: {', '.join(names)}"
    if config.source.instance in names:
        text += (
            f"; {config.source.instance} is there already, a second process of this name would end the first"
        )
        return Finding(f"group {group}", None, text)
    return Finding(f"group {group}", True, text)


def _many(count: int) -> str:
    return f"{count} partition{'' if count == 1 else 's'}"


def _long(seconds: float) -> str:
    for unit, size in (("days", 24 * HOUR), ("hours", HOUR), ("minutes", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.4g} {unit}"
    return f"{seconds:g} s"
