"""What a source and a sink ask of a client of Kafka, and the two clients that give it.

Both take the same settings, by kafka-python's names, and keep the same promises; "confluent" (librdkafka) is
the faster one and an extra of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from importlib.util import find_spec
from typing import Any, Literal, Protocol, TypeAlias

from streams.errors import BrokerConfigError
from streams.event import Headers, TopicPartition

Client: TypeAlias = Literal["kafka-python", "confluent"]

Options: TypeAlias = Mapping[str, Any] | None
"""Settings by kafka-python's names; None for none."""

Row: TypeAlias = tuple[TopicPartition, int, int, bytes | None, bytes, Headers]
"""A message as it was fetched: partition, offset, timestamp in ms (-1: none), key, value, headers."""


class Reader(Protocol):
    """A connection that reads partitions from given offsets; it has no group and never moves by itself.

    Every question raises BrokerUnavailable where no broker answers in `timeout` seconds, and StreamError where
    the broker refuses.
    """

    def partitions(self, topic: str, timeout: float) -> list[int]:
        """The partitions of a topic, sorted; UnknownStream where the broker has no such topic."""

    def begins(self, partitions: Collection[TopicPartition], timeout: float) -> dict[TopicPartition, int]:
        """The first offset that is held, for each partition."""

    def ends(self, partitions: Collection[TopicPartition], timeout: float) -> dict[TopicPartition, int]:
        """The offset behind the last message that may be read, for each partition."""

    def after(
        self, partitions: Collection[TopicPartition], seconds: float, timeout: float
    ) -> dict[TopicPartition, int]:
        """The first offset whose timestamp is `seconds` or later; partitions without one are left out."""

    def read_from(self, positions: Mapping[TopicPartition, int]) -> None:
        """Read these partitions from these offsets, and no others."""

    def hold(self, partitions: Collection[TopicPartition]) -> None:
        """Fetch from all of them but these, each from where it stands."""

    def fetch(self, count: int, timeout: float) -> list[Row]:
        """Up to `count` messages, waiting at most `timeout` seconds for the first; none while no broker answers.

        Raises PositionLost where the broker does not hold what comes next.
        """

    def passed(self) -> dict[TopicPartition, int]:
        """How far each partition that is read has been: behind what was fetched and what is no message."""

    def close(self) -> None:
        """Release the connection."""


class Writer(Protocol):
    """A connection that writes to one partition, idempotently and acknowledged by all replicas.

    Everything raises MessageTooLarge, Fenced, BrokerUnavailable (nothing was acknowledged in the delivery
    timeout), and StreamError where the broker refuses.
    """

    def send(self, key: bytes, value: bytes, headers: Headers) -> None:
        """Begin to send one message; waits only while too many are on their way."""

    def hurry(self) -> None:
        """Begin now to send what would be held back to go with more; waits for no acknowledgement."""

    def settle(self) -> int | None:
        """Wait until everything sent is acknowledged; the offset behind the last, None where it is not told."""

    def begin(self) -> None:
        """Begin a transaction."""

    def commit(self) -> int | None:
        """As `settle`, and commit the transaction."""

    def abort(self) -> None:
        """Abort the transaction as well as can be."""

    def close(self) -> None:
        """Release the connection; what is not acknowledged is dropped."""


def open_reader(
    client: Client, bootstrap: str, *, timeout: float, options: Options = None, metadata: float = 300.0
) -> Reader:
    """A reader of committed messages (unless the options' `isolation_level` says otherwise).

    timeout: seconds to wait for the first answer. metadata: seconds after which what the client knows of
    topics is asked for anew. Raises BrokerUnavailable, and BrokerConfigError for settings or a client that
    cannot be used.
    """
    if _is_confluent(client):
        from streams.confluent_reader import ConfluentReader

        return ConfluentReader(bootstrap, timeout=timeout, options=options, metadata=metadata)
    from streams.python_client import PythonReader

    return PythonReader(bootstrap, timeout=timeout, options=options, metadata=metadata)


def open_writer(
    client: Client,
    bootstrap: str,
    where: TopicPartition,
    *,
    timeout: float,
    options: Options = None,
    transactional_id: str | None = None,
    most: int = 10_000,
) -> Writer:
    """A writer to one partition. transactional_id: fences earlier writers with the same one before it returns.

    most: how many messages may be on their way. Raises as `open_reader`.
    """
    wanted: dict[str, Any] = {
        "timeout": timeout,
        "options": options,
        "transactional_id": transactional_id,
        "most": most,
    }
    if _is_confluent(client):
        from streams.confluent_writer import ConfluentWriter

        return ConfluentWriter(bootstrap, where, **wanted)
    from streams.python_client import PythonWriter

    return PythonWriter(bootstrap, where, **wanted)


def check_client(client: str) -> None:
    """BrokerConfigError for a client that does not exist or is not installed.

    >>> check_client("kafka-python")
    >>> check_client("kafka")
    Traceback (most recent call last):
    streams.errors.BrokerConfigError: client is 'kafka'; expected 'kafka-python' or 'confluent'
    """
    if client not in ("kafka-python", "confluent"):
        raise BrokerConfigError(f"client is {client!r}; expected 'kafka-python' or 'confluent'")
    if client == "confluent" and find_spec("confluent_kafka") is None:
        raise BrokerConfigError(
            "client is 'confluent', but confluent-kafka is not installed; pip install everlearn[confluent], "
            "or set client to 'kafka-python'"
        )


def _is_confluent(client: Client) -> bool:
    check_client(client)
    return client == "confluent"


def tidy(headers: Sequence[tuple[str, bytes | None]] | None) -> Headers:
    """A client's headers as ours: a tuple, null values as empty bytes.

    >>> tidy([("a", b"1"), ("b", None)])
    (('a', b'1'), ('b', b''))
    """
    return tuple((name, value or b"") for name, value in headers) if headers else ()
