"""A Kafka topic as a sink that writes nothing twice where a run is repeated from a snapshot."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import closing
from hashlib import blake2b
from typing import Any

from streams.broker import CONNECT, REQUEST, unavailable
from streams.clients import Client, Options, Reader, open_reader, open_writer
from streams.codecs import encode_json
from streams.errors import LogChanged, StreamError
from streams.event import Headers, TopicPartition
from streams.fingerprint import fingerprint

HEADER_BYTES = 16 * 1024
"""Of the headers that travel beside a message: the first that fit are sent, others are left out."""
_MORE = 1_000  # messages that are compared beyond as many as stood behind the cursor
_BESIDE = 10  # bytes of a message that a header takes beside its name and value


class KafkaSink:
    """Writes forecasts to one partition of a topic, idempotently and acknowledged by all replicas.

    Messages are on their way once they are written; `flush` waits until the broker has taken all of them. The
    cursor, to be asked after a flush, is the offset behind the last of them. What was sent cannot be taken
    back: `rewind` reads what stands behind the cursor, and a message that is written again and equals one of
    those, key and value, is not sent again. So a run that is repeated from a snapshot leaves no repeats.
    Of a message's headers those that fit into `HEADER_BYTES` are sent.

    transactional: messages wait until `flush`, which writes them in one transaction: a reader of committed
    messages sees all of them or none. Opening such a sink fences off an earlier one with the same
    `transactional_id` (by default "everlearn.<topic>.<partition>"; one per shard), which raises Fenced.
    buffer: how many messages may wait or be on their way. encode: value → bytes.
    client: "kafka-python" or "confluent". options: settings by kafka-python's names, security among them;
    brokers that restart are waited for as long as `delivery_timeout_ms` says, 120 seconds by default.
    timeout: seconds to wait for the broker's first answer.
    Raises BrokerUnavailable, BrokerConfigError, UnknownStream for a topic and ValueError for a partition that
    does not exist; writing and flushing raise MessageTooLarge, Fenced, BrokerUnavailable, StreamError too.

    With `address` that of a broker, and `answers` the name of a new topic:

    >>> from streams.broker import ensure_topics
    >>> ensure_topics(address, {answers: 1})
    >>> sink = KafkaSink(address, answers)
    >>> sink.write("a", {"id": "a", "time": 2.0, "forecast": 1})
    >>> sink.flush()  # from here on the broker has it
    >>> sink.cursor()
    [1, 'a1c854f5130e9e64']
    >>> sink.close()
    """

    def __init__(
        self,
        bootstrap: str,
        topic: str,
        partition: int = 0,
        *,
        buffer: int = 10_000,
        transactional: bool = False,
        transactional_id: str | None = None,
        encode: Callable[[Any], bytes] = encode_json,
        client: Client = "kafka-python",
        timeout: float = CONNECT,
        options: Options = None,
    ) -> None:
        if buffer < 1:
            raise ValueError(f"buffer is {buffer}; expected at least 1 message")
        self._bootstrap, self._topic, self._partition = bootstrap, topic, partition
        self._where = TopicPartition(topic, partition)
        self._client: Client = client
        self._timeout, self._options, self._encode, self._buffer = timeout, options, encode, buffer
        self._waiting: list[tuple[bytes, bytes, Headers]] | None = [] if transactional else None
        self._there: dict[bytes, deque[int]] = {}  # digest → offsets of what stands behind the cursor
        self._compared = 0  # messages that are still compared with it
        self.notes: list[str] = []  # what a rewind found that is no error and ought to be known
        self._open = True
        self._behind = self._end()
        self._last: str | None = None  # fingerprint of the message before the cursor
        self._unsettled: bytes | None = None  # the last message that was sent and not acknowledged
        name = (transactional_id or f"everlearn.{topic}.{partition}") if transactional else None
        self._writer = open_writer(
            client,
            bootstrap,
            self._where,
            timeout=timeout,
            options=options,
            transactional_id=name,
            most=buffer,
        )

    def _reader(self) -> closing[Reader]:
        return closing(
            open_reader(self._client, self._bootstrap, timeout=self._timeout, options=self._options)
        )

    def _end(self) -> int:
        """The partition's end: also proof that topic and partition exist before anything is written."""
        with self._reader() as reader:
            there = reader.partitions(self._topic, REQUEST)
            if self._partition not in there:
                raise ValueError(
                    f"partition is {self._partition}, but topic {self._topic!r} has the partitions {there}"
                )
            return reader.ends([self._where], REQUEST)[self._where]

    def write(self, key: str, value: Mapping[str, Any], headers: Headers = ()) -> None:
        """Append one message; `key` becomes the record's key. TypeError where the value cannot be encoded.

        headers: those that fit into `HEADER_BYTES` are sent, so that those of an event cannot make its answer
        too large.
        """
        name, raw = key.encode(), self._encode(value)
        if self._there and self._stands(name, raw):
            return
        if headers:
            headers = fitting(headers)
        if self._waiting is None:
            self._unsettled = raw
            self._writer.send(name, raw, headers)
        else:
            self._waiting.append((name, raw, headers))
            if len(self._waiting) >= self._buffer:
                self.flush()

    def _stands(self, key: bytes, raw: bytes) -> bool:
        """Whether an equal message stands behind the cursor; it counts once.

        A run that is repeated writes first what it wrote before: what is left after that many is another's.
        """
        self._compared -= 1
        if self._compared < 0:
            self._there.clear()
            return False
        digest = _digest(key, raw)
        offsets = self._there.get(digest)
        if not offsets:
            return False
        offset = offsets.popleft()
        if not offsets:
            del self._there[digest]
        if offset >= self._behind:
            self._behind, self._last = offset + 1, fingerprint(raw)
        return True

    def hurry(self) -> None:
        """Have everything sent now instead of with what follows within 20 ms; a transaction is committed."""
        if self._waiting is None:
            self._writer.hurry()
        else:
            self.flush()

    def flush(self) -> None:
        """Wait until the broker has taken everything; after an error, `rewind` tells what has arrived."""
        if self._waiting:
            try:
                self._writer.begin()
                for key, raw, headers in self._waiting:
                    self._unsettled = raw
                    self._writer.send(key, raw, headers)
                behind = self._writer.commit()
            except StreamError:
                self._unsettled = None
                self._writer.abort()
                raise
            self._waiting.clear()
        elif self._unsettled is not None:
            try:
                behind = self._writer.settle()
            except StreamError:
                self._unsettled = None
                raise
        else:
            return
        assert self._unsettled is not None
        known = behind is not None
        self._behind = behind if behind is not None else self._end()
        self._last = fingerprint(self._unsettled) if known else None
        self._unsettled = None

    def cursor(self) -> list[Any]:
        """After a flush: the offset behind the last message of this sink, and that message's fingerprint.

        Before the first one it is the partition's end when the sink was opened, and None.
        """
        return [self._behind, self._last]

    def rewind(self, cursor: Any) -> int:
        """Go back to a snapshot's cursor: what stands behind it is read, and not sent again when it is written.

        Returns how many messages stand behind the cursor. Where some of those behind it have expired or were cut,
        it goes on from the first that the topic holds, and `notes` says so: what has gone is sent again when
        it is written, what still stands is not.
        Raises LogChanged where the topic ends before the cursor, or another message stands before it: it is not
        the topic that it was.
        """
        offset, last = cursor if isinstance(cursor, list | tuple) else (cursor, None)
        if self._waiting:
            self._waiting.clear()
        self.flush()
        with self._reader() as reader:
            begin = reader.begins([self._where], REQUEST)[self._where]
            end = reader.ends([self._where], REQUEST)[self._where]
            if not 0 <= offset <= end:
                raise self._changed(offset, f"it ends at {end}: it was cut back or made anew")
            gone = max(0, begin - offset)
            if gone:
                self.notes.append(
                    f"topic {self._topic!r} partition {self._partition} at {self._bootstrap} no longer holds "
                    f"what stood at {offset} to {begin - 1}, behind the cursor: it has expired or was cut, and "
                    f"may be written again; what stands from {begin} on is not repeated"
                )
                offset, last = begin, None
            before = max(begin, offset - 1) if last is not None else offset
            self._there = self._read(reader, before, offset, end, last)
        self._behind, self._last = offset, last
        stands = sum(map(len, self._there.values()))
        self._compared = gone + stands + _MORE
        return stands

    def _changed(self, offset: int, why: str) -> LogChanged:
        return LogChanged(
            f"cursor is {offset}, but topic {self._topic!r} partition {self._partition} at {self._bootstrap} is "
            f"not the one that was written: {why}. Restore it, or begin anew with an empty folder for snapshots"
        )

    def _read(
        self, reader: Reader, before: int, offset: int, end: int, last: str | None
    ) -> dict[bytes, deque[int]]:
        """The digests of what stands from `offset` to `end`; `last` is compared with the message before."""
        found: dict[bytes, deque[int]] = {}
        at, heard = before, time.monotonic()
        reader.read_from({self._where: before})
        while at < end:
            for _, there, _, key, raw, _ in reader.fetch(1000, 1.0):
                heard = time.monotonic()
                if there >= offset:
                    found.setdefault(_digest(key or b"", raw), deque()).append(there)
                elif fingerprint(raw) != last:
                    raise self._changed(offset, "the message before the cursor is another one")
            at = reader.passed()[self._where]
            if time.monotonic() - heard > REQUEST:
                raise unavailable(
                    self._bootstrap, f"messages from {at} to {end} were not delivered in {REQUEST:.0f} s"
                )
        return found

    def abandon(self) -> None:
        """Release the connection without waiting for what is on its way; a transaction is not committed."""
        if self._open:
            self._open = False
            self._writer.close()

    def close(self) -> None:
        """Flush and release the connection; closing twice is allowed."""
        if self._open:
            self._open = False
            try:
                self.flush()
            finally:
                self._writer.close()


def fitting(headers: Headers) -> Headers:
    """The first headers that fit into `HEADER_BYTES` together; one that does not is left out.

    >>> [name for name, _ in fitting((("trace", b"1"), ("large", bytes(HEADER_BYTES)), ("source", b"2")))]
    ['trace', 'source']
    """
    room, found = HEADER_BYTES, []
    for name, value in headers:
        size = len(name.encode()) + len(value) + _BESIDE
        if size <= room:
            room -= size
            found.append((name, value))
    return tuple(found)


def _digest(key: bytes, raw: bytes) -> bytes:
    """What tells a message from others: BLAKE2b of key and value."""
    return blake2b(raw, digest_size=16, key=blake2b(key, digest_size=16).digest()).digest()
