"""confluent-kafka (librdkafka) as the client of a source."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Collection, Mapping
from operator import methodcaller
from typing import Any

from streams.broker import refused, unknown_topic
from streams.broker_config import options_of
from streams.clients import Options, Row, tidy
from streams.confluent_client import connecting, first, passing, telling, theirs, told
from streams.errors import LogChanged, PositionLost
from streams.event import TopicPartition
from streams.librdkafka import translated

_AHEAD = 20_000  # messages that are fetched ahead, by librdkafka and of a partition that is held
_END, _BEGINNING = -1, -2  # what librdkafka takes for times
_log = logging.getLogger(__name__)
# For a name that is not UTF-8 the client returns a list with holes and sets an error, which only a call from C is
# sure to raise: a call that Python has specialised would hand on the list, and reading it end the process.
_headers = methodcaller("headers")


class ConfluentReader:
    """Reads partitions through a Consumer; see `streams.clients.Reader`."""

    def __init__(self, bootstrap: str, *, timeout: float, options: Options, metadata: float) -> None:
        from confluent_kafka import Consumer
        from kafka import KafkaConsumer

        usual = {
            "group.id": "everlearn",  # the client wants one; it is never joined
            "isolation.level": "read_committed",
            "topic.metadata.refresh.interval.ms": int(1000 * metadata),
            "reconnect.backoff.max.ms": 1000,
            "queued.min.messages": _AHEAD,
            "fetch.wait.max.ms": 50,  # a partition that is resumed or assigned waits for the fetch under way
            "fetch.queue.backoff.ms": 5,
            "fetch.error.backoff.ms": 100,
        }
        ours = {
            "bootstrap.servers": bootstrap,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",
            "allow.auto.create.topics": False,
            "enable.partition.eof": True,
        }
        self._bootstrap = bootstrap
        self._at: dict[TopicPartition, int] = {}
        self._held: set[TopicPartition] = set()
        self._aside: dict[TopicPartition, deque[Row]] = {}  # of partitions that are held, or just were
        self._ended: dict[TopicPartition, int] = {}  # where such a partition ended, behind what is aside
        self._paused: set[TopicPartition] = set()  # held ones with so much aside that no more is fetched
        self._known: dict[tuple[str, int], TopicPartition] = {}
        chosen = options_of(KafkaConsumer, options)
        with connecting(bootstrap, options):
            self._consumer = Consumer(usual | translated(chosen) | ours, logger=_log)
            try:
                self._consumer.list_topics(timeout=first(chosen, timeout))
            except BaseException:
                self.close()
                raise

    def partitions(self, topic: str, timeout: float) -> list[int]:
        """The partitions of a topic, sorted."""
        with telling(self._bootstrap):
            found = self._consumer.list_topics(topic, timeout=timeout).topics.get(topic)
            if found is None or found.error is not None or not found.partitions:
                raise unknown_topic(
                    self._bootstrap, topic, self._consumer.list_topics(timeout=timeout).topics
                )
        return sorted(found.partitions)

    def begins(self, partitions: Collection[TopicPartition], timeout: float) -> dict[TopicPartition, int]:
        """The first offset that is held, for each partition."""
        return self._ask(partitions, _BEGINNING, timeout)

    def ends(self, partitions: Collection[TopicPartition], timeout: float) -> dict[TopicPartition, int]:
        """The offset behind the last message that may be read, for each partition."""
        return self._ask(partitions, _END, timeout)

    def after(
        self, partitions: Collection[TopicPartition], seconds: float, timeout: float
    ) -> dict[TopicPartition, int]:
        """The first offset whose timestamp is `seconds` or later."""
        found = self._ask(partitions, max(0, int(1000 * seconds)), timeout)
        return {partition: offset for partition, offset in found.items() if offset >= 0}

    def _ask(
        self, partitions: Collection[TopicPartition], milliseconds: int, timeout: float
    ) -> dict[TopicPartition, int]:
        if not partitions:
            return {}
        with telling(self._bootstrap):
            asked = [theirs(partition, milliseconds) for partition in partitions]
            found = self._consumer.offsets_for_times(asked, timeout=timeout)
        for there in found:
            if there.error is not None:
                raise told(self._bootstrap, there.error)
        return {TopicPartition(there.topic, there.partition): int(there.offset) for there in found}

    def read_from(self, positions: Mapping[TopicPartition, int]) -> None:
        """Read these partitions from these offsets, and no others."""
        self._resume(self._paused)  # a pause would outlive the assignment
        self._at = dict(positions)
        self._held = set()
        self._aside.clear()
        self._ended.clear()
        self._known = {partition: partition for partition in positions}
        with telling(self._bootstrap):
            self._consumer.unassign()
            self._consumer.assign([theirs(partition, offset) for partition, offset in positions.items()])

    def hold(self, partitions: Collection[TopicPartition]) -> None:
        """Fetch from all of them but these, each from where it stands.

        librdkafka's own pause throws away what it has fetched ahead, and a fetch takes a while to begin again:
        what comes of a held partition is put aside, and only where that grows long is it paused.
        """
        self._held = {partition for partition in self._at if partition in partitions}

    def _resume(self, partitions: Collection[TopicPartition]) -> None:
        if partitions:
            with telling(self._bootstrap):
                self._consumer.resume([theirs(partition) for partition in partitions])
            self._paused = self._paused - set(partitions)

    def fetch(self, count: int, timeout: float) -> list[Row]:
        """Up to `count` messages, waiting at most `timeout` seconds for the first."""
        if self._aside and (rows := self._from_aside(count)):
            return rows
        consume = self._consumer.consume
        messages = consume(count, 0)
        rows = self._rows(messages)
        deadline = time.monotonic() + timeout if timeout > 0 and not rows else 0.0
        while not rows and (left := deadline - time.monotonic()) > 0:
            messages = consume(1, left)  # a larger number would wait for all of them
            if messages and count > 1:
                messages += consume(count - 1, 0)
            rows = self._rows(messages)
            if not self._held:
                break
        return rows

    def _from_aside(self, count: int) -> list[Row]:
        """What was put aside of partitions that are no longer held."""
        rows: list[Row] = []
        for partition in [partition for partition in self._aside if partition not in self._held]:
            aside = self._aside[partition]
            while aside and len(rows) < count:
                rows.append(aside.popleft())
                self._at[partition] = rows[-1][1] + 1
            if not aside:
                del self._aside[partition]
                self._at[partition] = max(self._at[partition], self._ended.pop(partition, 0))
                self._resume(self._paused & {partition})
        return rows

    def _rows(self, messages: list[Any]) -> list[Row]:
        rows: list[Row] = []
        at, known, held = self._at, self._known, self._held
        for message in messages:
            error = message.error()
            if error is not None:  # one of the whole client has no partition
                self._trouble(known.get((message.topic(), message.partition())), message.offset(), error)
                continue
            partition = known[message.topic(), message.partition()]
            offset = message.offset()
            try:
                headers = _headers(message)
            except (SystemError, UnicodeDecodeError):
                headers = None
                _log.warning("%s %s: read without its headers, a name is not UTF-8", partition, offset)
            row = (
                partition,
                offset,
                message.timestamp()[1],
                message.key(),
                message.value() or b"",
                tidy(headers) if headers else (),
            )
            if partition in held:
                self._aside.setdefault(partition, deque()).append(row)
            else:
                at[partition] = offset + 1
                rows.append(row)
        if held:
            long = {p for p in held & self._aside.keys() if len(self._aside[p]) >= _AHEAD} - self._paused
            if long:
                self._consumer.pause([theirs(partition) for partition in long])
                self._paused |= long
        return rows

    def _trouble(self, partition: TopicPartition | None, offset: int, error: Any) -> None:
        """What a partition, or the client (None), says in place of a message."""
        from confluent_kafka import KafkaError

        if error.code() == KafkaError._PARTITION_EOF:  # it steps over what is no message
            if partition is None:
                return
            where = self._ended if partition in self._aside else self._at
            where[partition] = max(where.get(partition, 0), offset)
        elif error.code() == KafkaError._LOG_TRUNCATION:
            raise LogChanged(f"the log at {self._bootstrap} was cut back below what was read ({error})")
        elif error.code() == KafkaError._AUTO_OFFSET_RESET:
            raise PositionLost(f"the broker at {self._bootstrap} has nothing there ({error})")
        elif error.code() > 0 and not error.retriable() and error.code() not in passing():
            raise refused(self._bootstrap, error)

    def passed(self) -> dict[TopicPartition, int]:
        """How far each partition that is read has been."""
        return self._at

    def close(self) -> None:
        """Release the connection."""
        self._consumer.close()
