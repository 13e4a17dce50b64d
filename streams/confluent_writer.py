"""confluent-kafka (librdkafka) as the client of a sink."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from streams.broker import DELIVERY, fenced, not_allowed, too_large, unavailable
from streams.broker_config import options_of
from streams.clients import Options
from streams.confluent_client import connecting, first, passing
from streams.errors import StreamError
from streams.event import Headers, TopicPartition
from streams.librdkafka import translated

_HURRY = 0.001  # seconds that it gets to begin sending what it would hold back; it counts in whole ms
_MARGIN = 5.0  # seconds that a client gets to say itself that its time is over
_log = logging.getLogger(__name__)


class ConfluentWriter:
    """Writes to one partition through a Producer; see `streams.clients.Writer`."""

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
        from confluent_kafka import KafkaError, KafkaException, Producer
        from kafka import KafkaProducer

        chosen = options_of(KafkaProducer, options)
        usual = {
            "linger.ms": 20,
            "message.max.bytes": 1024 * 1024,
            "delivery.timeout.ms": int(1000 * DELIVERY),
            "reconnect.backoff.max.ms": 1000,
            "queue.buffering.max.messages": 0,  # `most` is the limit
        }
        ours: dict[str, Any] = {
            "bootstrap.servers": bootstrap,
            "acks": "all",
            "enable.idempotence": True,
            "allow.auto.create.topics": False,
        }
        if transactional_id is not None:
            ours["transactional.id"] = transactional_id
        settings = usual | translated(chosen) | ours
        if transactional_id is not None:  # a transaction may not be given up before its messages are
            settings.setdefault("transaction.timeout.ms", max(60_000, int(settings["delivery.timeout.ms"])))
        self._bootstrap, self._topic, self._partition, self._most = bootstrap, *where, most
        self._patience = float(settings["delivery.timeout.ms"]) / 1000 + _MARGIN
        self._open = 0  # messages on their way
        self._last: int | None = None  # offset of the last acknowledged message
        self._largest = 0
        self._refusal: Any = KafkaException
        self._error: Any = None
        self._lost: Any = KafkaError(KafkaError._FATAL)
        with connecting(bootstrap, options):
            self._producer = Producer(settings, logger=_log)
            self._produce, self._told = self._producer.produce, self._acknowledged
            self._producer.list_topics(timeout=first(chosen, timeout))
        if transactional_id is not None:
            with self._telling():
                self._producer.init_transactions(float(chosen.get("max_block_ms", 1000 * DELIVERY)) / 1000)

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Errors of the client as ours.

        A fatal one is raised beside what callbacks do: it may come as the cause of a SystemError, or be lost
        on its way and leave a SystemError that names nothing. The client says it again when it is asked.
        """
        try:
            yield
        except self._refusal as error:
            raise self._why(error.args[0]) from error
        except SystemError as error:
            cause = error.__cause__
            raise self._why(cause.args[0] if isinstance(cause, self._refusal) else self._fatal()) from error

    def _fatal(self) -> Any:
        """What ended the client, as far as it says so."""
        try:
            self._producer.begin_transaction()
        except self._refusal as error:
            if error.args[0].fatal():
                return error.args[0]
        return self._lost

    def _why(self, found: Any) -> StreamError:
        """Why a message did not reach the topic."""
        from confluent_kafka import KafkaError as E

        self._error = None
        code, where = found.code(), (self._bootstrap, self._topic)
        if code in (E.MSG_SIZE_TOO_LARGE, E.RECORD_LIST_TOO_LARGE):
            return too_large(*where, self._largest, found)
        if code in (E._FENCED, E.PRODUCER_FENCED, E.INVALID_PRODUCER_EPOCH):
            return fenced(*where, found)
        if found.fatal() or code == E._FATAL:
            return StreamError(
                f"the broker at {where[0]} no longer knows what this writer sent to topic {where[1]!r} before "
                f"({found}); start again from the last snapshot: what has arrived is not sent twice"
            )
        if code > 0 and not found.retriable() and code not in passing():
            return not_allowed(*where, found)
        return unavailable(self._bootstrap, found)

    def _acknowledged(self, error: Any, message: Any) -> None:
        self._open -= 1
        if error is None:
            self._last = message.offset()
        elif self._error is None:
            self._error = error

    def send(self, key: bytes, value: bytes, headers: Headers) -> None:
        """Begin to send one message."""
        size = len(key) + len(value)
        if size > self._largest:
            self._largest = size
        try:
            if headers:
                self._produce(self._topic, value, key, self._partition, self._told, headers=list(headers))
            else:
                self._produce(self._topic, value, key, self._partition, self._told)
        except self._refusal as error:
            raise self._why(error.args[0]) from error
        self._open += 1
        if not self._open % 256 or self._open > self._most:
            self._make_room()
        if self._error is not None:
            raise self._why(self._error)

    def _make_room(self) -> None:
        """Take acknowledgements; wait for some where too many messages are on their way."""
        deadline = time.monotonic() + self._patience
        with self._telling():
            self._producer.poll(0)
            while self._open > self._most:
                if not self._producer.poll(0.1) and time.monotonic() > deadline:
                    raise unavailable(self._bootstrap, f"nothing was acknowledged in {self._patience:.0f} s")

    def hurry(self) -> None:
        """Have everything sent at once, and do not wait until it has arrived."""
        if not self._open:
            return
        with self._telling():
            self._producer.flush(_HURRY)
        if self._error is not None:
            raise self._why(self._error)

    def settle(self) -> int | None:
        """Wait until everything sent is acknowledged; the offset behind the last."""
        with self._telling():
            left = self._producer.flush(self._patience)
        if left:
            raise unavailable(self._bootstrap, f"not all was acknowledged in {self._patience:.0f} s")
        if self._error is not None:
            raise self._why(self._error)
        self._largest = 0
        return None if self._last is None or self._last < 0 else self._last + 1

    def begin(self) -> None:
        """Begin a transaction."""
        with self._telling():
            self._producer.begin_transaction()

    def commit(self) -> int | None:
        """As `settle`, and commit the transaction."""
        behind = self.settle()
        with self._telling():
            self._producer.commit_transaction(self._patience)
        return behind

    def abort(self) -> None:
        """Abort the transaction as well as can be."""
        from confluent_kafka import KafkaException

        with suppress(KafkaException):
            self._producer.abort_transaction(self._patience)
        self._error = None

    def close(self) -> None:
        """Release the connection; what is not acknowledged is dropped."""
        if self._open:
            self._producer.purge()
        self._producer.flush(_MARGIN)
