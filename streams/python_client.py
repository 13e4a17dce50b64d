"""kafka-python as the client of a source and a sink."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from threading import Thread
from typing import Any

from streams.broker import (
    DELIVERY,
    REQUEST,
    connect_consumer,
    connect_producer,
    not_taken,
    refused,
    unavailable,
    unknown_topic,
)
from streams.clients import Options, Row, tidy
from streams.errors import LogChanged, PositionLost, StreamError
from streams.event import Headers, TopicPartition

_HURRY = 0.0004  # seconds that it gets to begin sending what it holds back: longer keeps the reader waiting
_MARGIN = 5.0  # seconds that a client gets to say itself that its time is over


@contextmanager
def _telling(bootstrap: str) -> Iterator[None]:
    """kafka-python's errors as errors that say what to do."""
    from kafka.errors import BrokerResponseError, KafkaError

    try:
        yield
    except KafkaError as error:
        if isinstance(error, BrokerResponseError) and not error.retriable:
            raise refused(bootstrap, error) from error
        raise unavailable(bootstrap, error) from error


class PythonReader:
    """Reads partitions through a KafkaConsumer; see `streams.clients.Reader`."""

    def __init__(self, bootstrap: str, *, timeout: float, options: Options, metadata: float) -> None:
        usual = {"metadata_max_age_ms": int(1000 * metadata), "isolation_level": "read_committed"}
        self._bootstrap = bootstrap
        self._at: dict[TopicPartition, int] = {}
        self._assigned: list[TopicPartition] = []
        self._consumer = connect_consumer(bootstrap, timeout=timeout, options=usual | dict(options or {}))

    def partitions(self, topic: str, timeout: float) -> list[int]:
        """The partitions of a topic, sorted."""
        with _telling(self._bootstrap):
            found = self._consumer.partitions_for_topic(topic)
            if not found:
                raise unknown_topic(self._bootstrap, topic, self._consumer.topics())
        return sorted(found)

    def begins(self, partitions: Collection[TopicPartition], timeout: float) -> dict[TopicPartition, int]:
        """The first offset that is held, for each partition."""
        return self._ask(self._consumer.beginning_offsets, partitions, timeout)

    def ends(self, partitions: Collection[TopicPartition], timeout: float) -> dict[TopicPartition, int]:
        """The offset behind the last message that may be read, for each partition."""
        return self._ask(self._consumer.end_offsets, partitions, timeout)

    def _ask(
        self, question: Callable[..., Any], partitions: Collection[TopicPartition], timeout: float
    ) -> dict[TopicPartition, int]:
        if not partitions:
            return {}
        with _telling(self._bootstrap):
            found = question([theirs(partition) for partition in partitions], timeout_ms=int(1000 * timeout))
        return {partition: int(found[theirs(partition)]) for partition in partitions}

    def after(
        self, partitions: Collection[TopicPartition], seconds: float, timeout: float
    ) -> dict[TopicPartition, int]:
        """The first offset whose timestamp is `seconds` or later."""
        asked = {theirs(partition): max(0, int(1000 * seconds)) for partition in partitions}
        with _telling(self._bootstrap):
            found = self._consumer.offsets_for_times(asked, timeout_ms=int(1000 * timeout))
        return {TopicPartition(*p): int(there.offset) for p, there in found.items() if there is not None}

    def read_from(self, positions: Mapping[TopicPartition, int]) -> None:
        """Read these partitions from these offsets, and no others."""
        self._at = dict(positions)
        self._assign(list(positions))

    def hold(self, partitions: Collection[TopicPartition]) -> None:
        """Fetch from all of them but these.

        Assigning anew stands in for the consumer's own pause, under which one partition's half-read batch
        can keep all others from being delivered.
        """
        self._assign([partition for partition in self._at if partition not in partitions])

    def _assign(self, partitions: list[TopicPartition]) -> None:
        self._assigned = partitions
        self._consumer.assign([theirs(partition) for partition in partitions])
        for partition in partitions:
            self._consumer.seek(theirs(partition), self._at[partition])

    def fetch(self, count: int, timeout: float) -> list[Row]:
        """Up to `count` messages, waiting at most `timeout` seconds for the first."""
        from kafka.errors import KafkaError, LogTruncationError, OffsetOutOfRangeError

        try:
            with _telling(self._bootstrap):
                batches = self._consumer.poll(timeout_ms=int(1000 * timeout), max_records=count)
        except Exception as error:
            cause = error.__cause__
            if isinstance(cause, OffsetOutOfRangeError):
                raise PositionLost(f"the broker at {self._bootstrap} has nothing there ({cause})") from cause
            if isinstance(cause, LogTruncationError):
                raise LogChanged(
                    f"the log at {self._bootstrap} was cut back below what was read ({cause})"
                ) from cause
            if isinstance(cause, KafkaError) and cause.retriable:
                return []
            raise
        rows: list[Row] = []
        for their, records in batches.items():
            partition = TopicPartition(*their)
            rows += [
                (
                    partition,
                    r.offset,
                    r.timestamp,
                    r.key,
                    r.value or b"",
                    tidy(r.headers) if r.headers else (),
                )
                for r in records
            ]
        for partition in self._assigned:
            at = self._consumer.position(theirs(partition), timeout_ms=0)
            if at is not None:
                self._at[partition] = int(at)
        return rows

    def passed(self) -> dict[TopicPartition, int]:
        """How far each partition that is read has been."""
        return self._at

    def close(self) -> None:
        """Release the connection."""
        self._consumer.close(autocommit=False)


class PythonWriter:
    """Writes to one partition through a KafkaProducer; see `streams.clients.Writer`."""

    def __init__(
        self,
        bootstrap: str,
        where: TopicPartition,
        *,
        timeout: float,
        options: Options,
        transactional_id: str | None,
        most: int,
    ) -> None:
        from kafka.errors import KafkaError

        self._refusal: Any = KafkaError
        self._bootstrap, self._topic, self._partition, self._most = bootstrap, *where, most
        self._sent: deque[Any] = deque()
        self._last: int | None = None  # offset of the last acknowledged message
        self._largest = 0
        patient = {"max_block_ms": int(1000 * DELIVERY)} | dict(options or {})
        self._producer = connect_producer(
            bootstrap, timeout=timeout, options=patient, transactional_id=transactional_id
        )
        self._producer.partitions_for(
            self._topic
        )  # asked now, so that the first message need not wait for it
        self._patience = float(self._producer.config["delivery_timeout_ms"]) / 1000 + _MARGIN
        if transactional_id is not None:
            try:
                with self._telling():
                    self._producer.init_transactions()
            except BaseException:
                self.close()
                raise

    @contextmanager
    def _telling(self) -> Iterator[None]:
        from kafka.errors import KafkaError

        try:
            yield
        except KafkaError as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> StreamError:
        self._sent.clear()
        return not_taken(self._bootstrap, self._topic, self._largest, error)

    def send(self, key: bytes, value: bytes, headers: Headers) -> None:
        """Begin to send one message."""
        size = len(key) + len(value)
        if size > self._largest:
            self._largest = size
        try:
            sent = self._producer.send(self._topic, value, key, list(headers), self._partition)
            self._sent.append(sent)
            if len(self._sent) > self._most:
                self._taken(self._sent.popleft(), self._patience)
        except self._refusal as error:
            raise self._failed(error) from error

    def _taken(self, future: Any, timeout: float) -> None:
        offset = future.get(timeout=timeout).offset
        self._last = int(offset) if offset >= 0 else None

    def hurry(self) -> None:
        """Have everything sent at once, and do not wait until it has arrived."""
        from kafka.errors import KafkaTimeoutError

        if self._sent:
            with self._telling():  # what has been refused is told now
                with suppress(KafkaTimeoutError):
                    self._producer.flush(timeout=_HURRY)
                while self._sent and self._sent[0].is_done:
                    self._taken(self._sent.popleft(), 0)

    def settle(self) -> int | None:
        """Wait until everything sent is acknowledged; the offset behind the last."""
        if self._sent:
            with self._telling():
                self._producer.flush(timeout=self._patience)
                while self._sent:
                    self._taken(self._sent.popleft(), 0)
        self._largest = 0
        return None if self._last is None else self._last + 1

    def begin(self) -> None:
        """Begin a transaction."""
        with self._telling():
            self._producer.begin_transaction()

    def commit(self) -> int | None:
        """As `settle`, and commit the transaction."""
        behind = self.settle()
        with self._telling():
            self._within(self._producer.commit_transaction)
        return behind

    def abort(self) -> None:
        """Abort the transaction as well as can be."""
        from kafka.errors import KafkaError

        self._sent.clear()
        with suppress(KafkaError):
            self._within(self._producer.abort_transaction)

    def _within(self, call: Callable[[], None]) -> None:
        """Call what would wait without a limit; KafkaTimeoutError after the limit."""
        from kafka.errors import KafkaTimeoutError

        failed: list[BaseException] = []

        def run() -> None:
            try:
                call()
            except BaseException as error:
                failed.append(error)

        thread = Thread(target=run, name="everlearn-transaction", daemon=True)
        thread.start()
        thread.join(self._patience)
        if thread.is_alive():
            raise KafkaTimeoutError(f"the transaction was not decided in {self._patience:.0f} s")
        if failed:
            raise failed[0]

    def close(self) -> None:
        """Release the connection; what is not acknowledged is dropped."""
        self._producer.close(timeout=min(REQUEST, self._patience) if self._sent else _MARGIN)


def theirs(partition: TopicPartition) -> Any:
    """A partition as kafka-python names it."""
    from kafka import TopicPartition as KafkaPartition

    return KafkaPartition(*partition)
