"""Whether a topic's messages are what a run expects, judged by a few of them, and what mapping may fit them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple, TypeAlias

from engine.doctor.finding import Finding
from streams.event import Event, Label, Malformed

DAY = 86400.0
EARLIEST = datetime(1990, 1, 1, tzinfo=UTC).timestamp()
UNITS = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
SHOWN = 24  # fields that are listed

Role: TypeAlias = Literal["events", "labels", "both"]


class Message(NamedTuple):
    """One message of a topic; timestamp: when the log took it, in seconds since 1970-01-01 UTC."""

    where: str
    raw: bytes
    key: bytes | None
    timestamp: float | None


def judge(
    topic: str,
    role: Role,
    messages: Sequence[Message],
    decode: Callable[[bytes, bytes | None, float | None], Event | Label | Malformed],
    now: float,
) -> Iterator[Finding]:
    """Findings on the messages of a topic that is read for this role; now: seconds since 1970-01-01 UTC.

    >>> from streams.codecs import decode
    >>> message = Message("paid 0:7", b'{"id":"a","time":1e9,"label":1}', None, None)
    >>> [(found.well, found.text) for found in judge("paid", "labels", [message], decode, 2e9)]
    [(True, 'all of 1 can be read'), (True, '2001-09-09T01:46:40 to 2001-09-09T01:46:40')]
    """
    name = f"{topic}: messages"
    if not messages:
        yield Finding(name, None, "none yet; run doctor again when there are some")
        return
    items = [decode(message.raw, message.key, message.timestamp) for message in messages]
    yield _read(name, role, messages, items)
    yield from _kinds(name, role, items)
    times = [item.time for item in items if not isinstance(item, Malformed)]
    if times:
        yield _times(f"{topic}: times", times, now)


def _read(
    name: str, role: Role, messages: Sequence[Message], items: Sequence[Event | Label | Malformed]
) -> Finding:
    bad = [(m, item) for m, item in zip(messages, items, strict=True) if isinstance(item, Malformed)]
    if not bad:
        return Finding(name, True, f"all of {len(messages)} can be read")
    reasons = Counter(item.error for _, item in bad).most_common(3)
    told = "; ".join(f"{count} × {reason[:200]}" for reason, count in reasons)
    text = f"{len(bad)} of {len(messages)} cannot be read, the first at {bad[0][0].where}: {told}"
    found = fields_of([message for message, _ in bad])
    if found:
        shown = ", ".join(f"{path} ({kind})" for path, kind in list(found.items())[:SHOWN])
        mapping = suggest([message for message, _ in bad], "labels" if role == "labels" else "events")
        text += f". Fields found: {shown}. A mapping that may fit: [fields] {mapping}"
    return Finding(name, False, text)


def _kinds(name: str, role: Role, items: Sequence[Event | Label | Malformed]) -> Iterator[Finding]:
    """Whether they are events where events are expected, and labels where labels are."""
    events = [item for item in items if isinstance(item, Event)]
    labels = [item for item in items if isinstance(item, Label)]
    if role == "events" and labels:
        yield Finding(
            name, False, f"{len(labels)} of {len(items)} are labels; name their topic as source.labels"
        )
    if role == "labels" and events:
        yield Finding(
            name, False, f"{len(events)} of {len(items)} are events; expected labels: see source.labels"
        )
    if role == "events" and events and not labels and all(event.label is None for event in events):
        yield Finding(
            name, None, "no event carries a label; nothing is learned unless labels come, see source.labels"
        )


def _times(name: str, times: Sequence[float], now: float) -> Finding:
    first, last = min(times), max(times)
    if last > now + DAY:
        for unit, factor in UNITS.items():
            if unit != "s" and EARLIEST <= last / factor <= now + DAY:
                return Finding(
                    name,
                    False,
                    f'{last:g} is no time in seconds but looks like {unit}; set fields.time_unit = "{unit}"',
                )
        return Finding(
            name, False, f"{_moment(last)} lies ahead of this clock; later events would be late against it"
        )
    if first < EARLIEST:
        return Finding(
            name, None, f"{_moment(first)} is long ago; check that times are seconds since 1970-01-01 UTC"
        )
    return Finding(name, True, f"{_moment(first)} to {_moment(last)}")


def _moment(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat(timespec="seconds")
    except (OverflowError, ValueError, OSError):
        return f"{seconds:g} s"


def fields_of(messages: Sequence[Message]) -> dict[str, str]:
    """The fields of messages that are JSON objects, as dotted paths, with the kind of their first value.

    >>> fields_of([Message("", b'{"order": {"id": "a"}, "paid": true}', None, None)])
    {'order.id': 'text', 'paid': 'true or false'}
    """
    found: dict[str, str] = {}
    for values in _flat(messages):
        for path, value in values.items():
            if found.get(path, "null") == "null":
                found[path] = _kind(value)
    return found


def suggest(messages: Sequence[Message], role: Literal["events", "labels"]) -> str:
    """A [fields] table in one line that may fit these messages; a guess by names and values.

    >>> raw = b'{"order_id": "a", "placed_at": 1714521600123, "amount": 3, "paid": true}'
    >>> suggest([Message("", raw, None, None)], "events")
    'id = "order_id", time = "placed_at", time_unit = "ms", features = "*"'
    """
    rows = list(_flat(messages))
    kinds = fields_of(messages)
    id = _best(kinds, ("id", "uuid", "key", "nr", "number"), lambda path: _tells_apart(rows, path)) or "$key"
    times = {path: unit for path in kinds if (unit := _unit([row.get(path) for row in rows])) is not None}
    words = ("time", "timestamp", "ts", "at", "date", "created", "when")
    time = _best(kinds, words, times.__contains__) or next(iter(times), "$timestamp")
    prefix = "label_" if role == "labels" else ""
    parts = [f'{prefix}id = "{id}"', f'{prefix}time = "{time}"']
    if times.get(time, "s") != "s":
        parts.append(f'time_unit = "{times[time]}"')
    rest = {path: kind for path, kind in kinds.items() if path not in (id, time)}
    label = _best(rest, ("label", "target", "y", "outcome", "class", "result"), lambda path: True)
    if role == "labels":
        truths = [path for path, kind in rest.items() if kind == "true or false"]
        parts.append(f'label = "{label or next(iter([*truths, *rest]), "…")}"')
    else:
        parts += ['features = "*"', *([f'target = "{label}"'] if label else [])]
    return ", ".join(parts)


def _best(kinds: dict[str, str], words: Sequence[str], fits: Callable[[str], bool]) -> str | None:
    """The first path that fits and whose name is one of the words, or else ends in one."""
    names = {path: path.rpartition(".")[2].lower() for path in kinds if fits(path)}
    for word in words:
        for path, name in names.items():
            if name == word:
                return path
    for word in words:
        for path, name in names.items():
            if name.endswith((f"_{word}", f"-{word}")) or (len(word) > 2 and name.startswith(word)):
                return path
    return None


def _tells_apart(rows: Sequence[dict[str, Any]], path: str) -> bool:
    values = [row.get(path) for row in rows]
    return all(isinstance(value, str | int) for value in values) and len(set(values)) == len(values)


def _unit(values: Sequence[Any]) -> str | None:
    """The unit in which all these values are times of the years 1990 to 2100; None where they are not."""
    there = [value for value in values if value is not None]
    if there and all(isinstance(value, str) for value in there):
        try:
            for value in there:
                datetime.fromisoformat(value)
        except ValueError:
            return None
        return "iso"
    if not there or not all(isinstance(v, int | float) and not isinstance(v, bool) for v in there):
        return None
    for unit, factor in UNITS.items():
        if all(EARLIEST <= value / factor <= 4.1e9 for value in there):
            return unit
    return None


def _flat(messages: Sequence[Message]) -> Iterator[dict[str, Any]]:
    for message in messages:
        try:
            found = json.loads(message.raw)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict):
            yield dict(_paths(found, ""))


def _paths(found: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in found.items():
        if isinstance(value, dict) and value and prefix.count(".") < 8:
            yield from _paths(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _kind(value: Any) -> str:
    kinds = {bool: "true or false", str: "text", list: "list", dict: "object", type(None): "null"}
    return kinds.get(type(value), "number")
