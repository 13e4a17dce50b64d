"""What flows: events, the labels that follow them, and where each was read."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import msgspec

LabelValue: TypeAlias = bool | int | float | str
"""What a label may be once it has travelled: JSON's scalars."""


class TopicPartition(NamedTuple):
    """One ordered log: a topic's name and a partition number."""

    topic: str
    partition: int


class Position(NamedTuple):
    """Where one record stands: topic, partition and its offset in that partition."""

    topic: str
    partition: int
    offset: int


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that happened and asks for a forecast.

    id: unique name of the event, the one its label will carry.
    time: event time in seconds since 1970-01-01 UTC.
    features: field name → number, bool, string or None (missing).
    label: the outcome, where it is already known; it is learned right after the forecast.
    weight: how much that outcome counts, 1 by default.
    """

    id: str
    time: float
    features: dict[str, Any]
    label: LabelValue | None = None
    weight: float = 1.0


class Label(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The outcome of an earlier event, matched to it by id; time is when it became known, in seconds."""

    id: str
    time: float
    label: LabelValue
    weight: float = 1.0


class Malformed(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes that could not be read as an event or a label, with the reason; nothing is lost."""

    raw: bytes
    error: str
    time: float = 0.0


Headers: TypeAlias = tuple[tuple[str, bytes], ...]
"""What travels beside a message: names, which may repeat, with bytes."""


class Record(msgspec.Struct, frozen=True):
    """One entry of a log: where it was read and what it holds.

    raw: the bytes as they stand in the log; None where the source has none (memory, files).
    key: the message's key, where the log is keyed by bytes. headers: what travelled beside the message.
    """

    position: Position
    item: Event | Label | Malformed
    raw: bytes | None = None
    key: bytes | None = None
    headers: Headers = ()
