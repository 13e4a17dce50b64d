"""Dead letters read back, and their records sent again to where they came from, once.

What was sent again is remembered in a topic beside the dead letters, `<dead>.retried`: before records are sent,
a message says which and where their topics end; after it another says that they were. Where the second is
missing, the records behind these ends are compared with what was about to be sent, so that a kill in between
sends nothing twice. A record is known by its position and a fingerprint, not by its letter, which a run that was
killed may have written to a broker twice.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import msgspec

from engine.crashpoints import crash_point
from engine.deadletters.refusal import Letter, read_letter
from engine.deadletters.refusals import kind_of
from streams.codecs import encode_json
from streams.event import Position
from streams.fingerprint import fingerprint
from streams.raw import Raw, RawLog

PAGE = 500  # messages at a time

Name: TypeAlias = tuple[str, int, int, str]
"""Topic, partition, offset and fingerprint of a record."""


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """Which dead letters: all that hold for every one of these.

    reason: text that stands in the reason, in capitals or not. since: event time in seconds, or later.
    at: partitions and offsets of the letters themselves.
    """

    reason: str | None = None
    since: float | None = None
    at: frozenset[tuple[int, int]] | None = None

    def holds(self, letter: Letter) -> bool:
        """Whether a letter is among them."""
        return (
            (self.reason is None or self.reason.casefold() in letter.reason.casefold())
            and (self.since is None or letter.time >= self.since)
            and (self.at is None or letter.at[1:] in self.at)
        )


@dataclass
class Retried:
    """What a retry did: letters sent (or to be sent), those that were sent before, and why others were not."""

    sent: list[Letter] = field(default_factory=list)
    before: list[Letter] = field(default_factory=list)
    failed: list[tuple[Letter, str]] = field(default_factory=list)


def letters(log: RawLog, dead: str, chosen: Chosen | None = None) -> Iterator[Letter]:
    """The dead letters of a topic by partition and offset; ValueError where it holds something else."""
    chosen = chosen or Chosen()
    for position, raw in _messages(log, dead):
        letter = read_letter(position, raw.value or b"")
        if chosen.holds(letter):
            yield letter


def kinds(found: Sequence[Letter]) -> list[tuple[int, str]]:
    """How many letters there are of each kind of reason, the most frequent first."""
    counts = Counter(kind_of(letter.reason) for letter in found)
    return [(count, kind) for kind, count in counts.most_common()]


def name_of(letter: Letter) -> Name:
    """What its record is known by."""
    return (*letter.position, (letter.sha256 or "")[:16] if letter.raw is None else fingerprint(letter.raw))


def marks_of(dead: str) -> str:
    """The topic in which what was sent again is remembered."""
    return f"{dead}.retried"


class Retry:
    """Sends the records of dead letters again: bytes, key and headers as they were.

    dead: topic of the letters. to: topic to send to, in the same partition where it has one of that number; None:
    the topic that each record came from. again: also those that were sent before.
    """

    def __init__(self, log: RawLog, dead: str, *, to: str | None = None, again: bool = False) -> None:
        self._log, self._dead, self._to, self._again = log, dead, to, again
        self._known: dict[Name, Letter] = {}
        self._targets: dict[str, list[int]] = {}

    def __call__(self, chosen: Chosen, *, dry: bool = False) -> Retried:
        """Send what is chosen and was not sent before; dry: send nothing and write nothing."""
        done = self._done(dry)
        found = Retried()
        batch: list[tuple[Letter, Raw]] = []
        for letter in letters(self._log, self._dead, chosen):
            name = name_of(letter)
            if name in done:
                found.before.append(letter)
                continue
            done.add(name)  # a second letter of the same record
            raw, problem = self._original(letter)
            if raw is None:
                found.failed.append((letter, problem))
                continue
            found.sent.append(letter)
            batch.append((letter, raw))
            if len(batch) == PAGE and not dry:
                self._send(batch)
                batch = []
        if batch and not dry:
            self._send(batch)
        return found

    def sent_before(self) -> set[Name]:
        """The records that were sent again, as far as that is noted."""
        sent, begun, _ = self._marks()
        return sent - begun

    def _done(self, dry: bool) -> set[Name]:
        sent, begun, ends = self._marks()
        if begun:
            there = self._behind(ends)
            known = {name_of(letter): letter for letter in letters(self._log, self._dead)}
            arrived = set()
            for name in sorted(begun):
                raw = self._original(known[name])[0] if name in known else None
                if raw is not None and there[_digest(raw)]:
                    there[_digest(raw)] -= 1
                    arrived.add(name)
            sent = (sent - begun) | arrived
            if not dry:
                self._note({"sent": sorted(arrived)})
        return set() if self._again else sent

    def _marks(self) -> tuple[set[Name], set[Name], list[tuple[str, int, int]]]:
        """What was sent, what of it was begun and not noted as sent, and where topics ended before that."""
        sent: set[Name] = set()
        begun: set[Name] = set()
        ends: list[tuple[str, int, int]] = []
        for _, raw in _messages(self._log, marks_of(self._dead)):
            mark = msgspec.json.decode(raw.value or b"{}")
            if "sending" in mark:
                begun = {_name(name) for name in mark["sending"]}
                ends = [(topic, number, end) for topic, number, end in mark["ends"]]
            else:
                begun, ends = set(), []
                sent |= {_name(name) for name in mark["sent"]}
        return sent | begun, begun, ends

    def _behind(self, ends: Sequence[tuple[str, int, int]]) -> Counter[bytes]:
        """How often each message stands behind these ends."""
        found: Counter[bytes] = Counter()
        for topic, number, end in ends:
            found.update(_digest(raw) for _, raw in _pages(self._log, topic, number, end))
        return found

    def _original(self, letter: Letter) -> tuple[Raw | None, str]:
        """The record as it was, and why it cannot be had where it cannot."""
        topic = self._to or letter.position.topic
        if not self._partitions(topic):
            return None, f"there is no topic {topic!r} to send it to"
        doubtful = (
            not letter.raw or letter.rewritten
        )  # an empty record may be a broker's message without value
        stands = self._standing(letter) if doubtful or self._log.near else None
        if letter.raw is not None and (stands is None or not letter.rewritten):
            if stands is not None and stands.value in (letter.raw, letter.raw or None):
                return stands, ""  # with the time and key that an embedded log does not tell with it
            return Raw(letter.raw, letter.key, letter.headers, letter.time), ""
        if stands is None:
            return None, f"its {letter.size:,} bytes were not kept, and its topic no longer holds it"
        if letter.raw is None and hashlib.sha256(stands.value or b"").hexdigest() != letter.sha256:
            return None, "another record stands at its position now"
        return stands, ""

    def _standing(self, letter: Letter) -> Raw | None:
        topic, partition, offset = letter.position
        if partition not in self._partitions(topic):
            return None
        begin, end = self._log.bounds(topic, partition)
        found = self._log.read(topic, partition, offset, 1) if begin <= offset < end else []
        return found[0][1] if found and found[0][0] == offset else None

    def _partitions(self, topic: str) -> list[int]:
        if topic not in self._targets:
            self._targets[topic] = self._log.partitions(topic)
        return self._targets[topic]

    def _send(self, batch: Sequence[tuple[Letter, Raw]]) -> None:
        by_target: dict[tuple[str, int], list[Raw]] = {}
        for letter, raw in batch:
            topic = self._to or letter.position.topic
            there = self._partitions(topic)
            number = letter.position.partition
            by_target.setdefault(
                (topic, number if number in there else there[number % len(there)]), []
            ).append(raw)
        names = [name_of(letter) for letter, _ in batch]
        ends = [[*target, self._log.bounds(*target)[1]] for target in by_target]
        self._note({"sending": names, "ends": ends})
        crash_point("dlq.noted")
        for (topic, number), messages in by_target.items():
            self._log.append(topic, number, messages)
            crash_point("dlq.sent")
        self._note({"sent": names})

    def _note(self, mark: dict[str, object]) -> None:
        self._log.make(marks_of(self._dead))
        self._log.append(marks_of(self._dead), 0, [Raw(encode_json(mark), None, (), 0.0)])


def _messages(log: RawLog, topic: str) -> Iterator[tuple[Position, Raw]]:
    for number in log.partitions(topic):
        for offset, raw in _pages(log, topic, number, 0):
            yield Position(topic, number, offset), raw


def _pages(log: RawLog, topic: str, number: int, start: int) -> Iterator[tuple[int, Raw]]:
    while page := log.read(topic, number, start, PAGE):
        yield from page
        start = page[-1][0] + 1


def _name(found: Sequence[object]) -> Name:
    topic, partition, offset, mark = found
    return str(topic), int(str(partition)), int(str(offset)), str(mark)


def _digest(raw: Raw) -> bytes:
    whole = [raw.value, raw.key or b"", list(raw.headers)]
    return hashlib.blake2b(msgspec.msgpack.encode(whole), digest_size=16).digest()
