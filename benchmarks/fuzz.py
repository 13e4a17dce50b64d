"""fuzz: a hundred thousand messages that others got wrong, through the whole loop; each is accounted for once."""

from __future__ import annotations

import json
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.tables import Findings
from engine import OnlineClassifier
from engine.evaluate.metrics import PrequentialMetrics
from engine.run import Loop
from engine.shard import Shard
from streams.codecs import FieldMap, decoder_for, encode_json, encode_msgpack
from streams.event import Label, Malformed
from streams.log import EmbeddedLog, LogSink
from streams.log_source import LogSource
from streams.protocols import Decode

MESSAGES = 100_000
IDS = 5_000  # names that events and labels share, so that some match and some come twice
MAP = FieldMap(id="trip.id", time="trip.start", time_unit="ms", target="tip", exclude=["driver"])

FORMATS: dict[str, tuple[Decode, Callable[[Any], bytes]]] = {
    "json": (decoder_for("json"), encode_json),
    "json, mapped": (decoder_for("json", MAP), encode_json),
    "msgpack": (decoder_for("msgpack"), encode_msgpack),
    "msgpack, mapped": (decoder_for("msgpack", MAP), encode_msgpack),
}
"""Name → how a topic is read, and how what is right at first is written."""


def run() -> Findings:
    """What became of each format's share of the messages; a wrong account is an error."""
    found = Findings(
        name="fuzz",
        title="Fuzzed messages",
        about=(
            f"{MESSAGES:,} messages in an embedded log, read by the loop with an OnlineClassifier of one layer "
            "of 4 units: random bytes, valid messages with bits flipped, cut, spliced, and with values of "
            "wrong types put in. Every record must be answered, a label, a repeat, or in the dead letters "
            "exactly once, by topic, partition and offset, and nothing may raise."
        ),
        columns={
            "format": 0, "messages": 0, "answered": 0, "labels": 0, "repeats": 0, "learned": 0, "dead": 0,
            "reasons": 0,
        },
    )  # fmt: skip
    began = time.perf_counter()
    for name in FORMATS:
        with tempfile.TemporaryDirectory() as folder:
            model = OnlineClassifier(seed=0, layers=1, width=4)
            found.add(format=name, **account(name, MESSAGES // len(FORMATS), model, Path(folder)))
    found.notes.append(
        "labels: those that came by themselves, for an event that was known or not; repeats: events not "
        "answered, as their id had come before; dead: malformed messages, and events and labels that the "
        "learner refuses; reasons: kinds of dead letters, by their first four words."
    )
    found.notes.append(f"{MESSAGES:,} messages in {time.perf_counter() - began:.0f} s.")
    return found


def account(name: str, messages: int, model: Any, folder: Path, seed: int = 0) -> dict[str, int]:
    """Run fuzzed messages of a format through the loop; what became of them.

    Raises AssertionError where a record is not accounted for exactly once.
    """
    decode, encode = FORMATS[name]
    with EmbeddedLog(folder / "log.db") as log:
        raws = list(fuzzed(messages, encode, name.endswith("mapped"), random.Random(seed)))
        log.append_many("events", 0, [("", 0.0, raw) for raw in raws])
        source = LogSource(log, "events", bounded=True, decoders={"events": decode})
        shard = Shard(model, PrequentialMetrics("classification"))
        sink, dead = LogSink(log, "answers"), LogSink(log, "dead")
        try:
            assert Loop(shard, source, sink, dead=dead, every_records=messages).run(), "the loop did not end"
        finally:
            source.close()
        answers = [msgspec.json.decode(row.value) for row in log.read("answers", 0, 0, messages + 1)]
        letters = [msgspec.json.decode(row.value) for row in log.read("dead", 0, 0, messages + 1)]
    kinds = Counter(" ".join(letter["reason"].split()[:4]) for letter in letters)
    answered, buried = _offsets(answers), _offsets(letters)
    assert max(answered.values()) == 1, "a record was answered twice"
    seen: set[str] = set()
    labels = repeats = 0
    for offset, raw in enumerate(raws):
        item = decode(raw)
        where = f"record {offset}, {raw[:60]!r},"
        if isinstance(item, Malformed):
            assert item.raw == raw, f"{where} lost its bytes"
            assert item.error, f"{where} is malformed without a reason"
            assert offset not in answered, f"{where} is malformed and was answered"
            assert buried[offset] == 1, f"{where} is malformed and {buried[offset]} times in the dead letters"
        elif isinstance(item, Label):
            assert offset not in answered, f"{where} is a label and was answered"
            assert buried[offset] <= 1, f"{where} is a label and {buried[offset]} times in the dead letters"
            labels += 1
        elif offset in answered:  # its own label may be refused
            assert buried[offset] <= 1, f"{where} is answered and {buried[offset]} times in the dead letters"
            assert item.id not in seen, f"{where} repeats an event and was answered"
            seen.add(item.id)
        elif item.id in seen:
            assert buried[offset] <= 1, f"{where} is a repeat and {buried[offset]} times in the dead letters"
            repeats += 1
        else:
            assert buried[offset] == 1, (
                f"{where} is an event: no answer, {buried[offset]} times a dead letter"
            )
    counts = shard.counts
    assert (counts.answered, counts.labels) == (len(answered), labels)
    assert counts.malformed + counts.refused == len(letters)
    return {
        "messages": messages, "answered": len(answered), "labels": labels, "repeats": repeats,
        "learned": counts.learned, "dead": len(letters), "reasons": len(kinds),
    }  # fmt: skip


def _offsets(messages: list[dict[str, Any]]) -> Counter[int]:
    """How many of these messages name each offset of the topic that was read."""
    assert {(message["topic"], message["partition"]) for message in messages} == {("events", 0)}
    return Counter(message["offset"] for message in messages)


def fuzzed(
    messages: int, encode: Callable[[Any], bytes], mapped: bool, rng: random.Random
) -> Iterator[bytes]:
    """Messages of a seeded generator: a few that are right, then one in six is, and others by chance."""
    whole = [encode(_message(rng, mapped)) for _ in range(200)]
    ways = (_valid, _random, _flipped, _cut, _spliced, _wrong)
    yield from whole[:20]
    for _ in range(messages - 20):
        yield rng.choice(ways)(whole, encode, mapped, rng)


def _message(rng: random.Random, mapped: bool) -> dict[str, Any]:
    """A valid event, or (canonical ones) a label now and then."""
    id, when = f"e{rng.randrange(IDS)}", rng.uniform(0.0, 1e5)
    features: dict[str, Any] = {f"x{i}": rng.gauss(0.0, 1.0) for i in range(rng.randint(1, 4))}
    if rng.random() < 0.2:
        features["carrier"] = rng.choice(["UA", "NZ", None])
    label = rng.choice([None, 0, 1])
    if mapped:
        trip = {"id": rng.choice([id, rng.randrange(IDS)]), "start": int(when * 1e3)}
        track = {"track": [1, 2.5]} if rng.random() < 0.1 else {}
        return {"trip": trip, "from": features, "driver": "d", "tip": label, **track}
    if rng.random() < 0.3:
        return {"id": id, "time": when, "label": rng.randrange(2)}
    return {"id": id, "time": when, "features": features, "label": label}


def _valid(whole: list[bytes], encode: Callable[[Any], bytes], mapped: bool, rng: random.Random) -> bytes:
    return encode(_message(rng, mapped))


def _random(whole: list[bytes], encode: Callable[[Any], bytes], mapped: bool, rng: random.Random) -> bytes:
    return rng.randbytes(rng.choice([0, 1, 2, 8, 64, 300]))


def _flipped(whole: list[bytes], encode: Callable[[Any], bytes], mapped: bool, rng: random.Random) -> bytes:
    raw = bytearray(rng.choice(whole))
    for _ in range(rng.randint(1, 3)):
        raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
    return bytes(raw)


def _cut(whole: list[bytes], encode: Callable[[Any], bytes], mapped: bool, rng: random.Random) -> bytes:
    raw = rng.choice(whole)
    return raw[: rng.randrange(len(raw))]


def _spliced(whole: list[bytes], encode: Callable[[Any], bytes], mapped: bool, rng: random.Random) -> bytes:
    one, other = rng.choice(whole), rng.choice(whole)
    return one[: rng.randrange(len(one))] + other[rng.randrange(len(other)) :]


ODD: tuple[Any, ...] = (
    None, True, -1, 0, 1.5, 10**18, 2**64, 10**30, 1e308, -1e308, 5e-324, -0.0, "", "x", "é\u2028\0", "l" * 1024,
    "l" * 1025, [], [1, 2.5], ["a"], [[1], [2, 3]], {}, {"deep": {"er": 1}}, {"": 1}, "2013-01-01T00:00:00Z",
)  # fmt: skip
RAW_JSON = (
    b"NaN", b"Infinity", b"-Infinity", b"1e999", b"1e-999", b"-0", b"0e" + b"9" * 400, b"1" * 400, b"9" * 5000,
    b'"\\ud800"', b'"\xff\xfe"', b"[" * 3000, b'{"a":' * 3000, b'1,"id":"again"', b"tru", b"'x'", b"\x00",
    b'"\\u0000"', b"0x10", b"[1,]", b"",
)  # fmt: skip


def _wrong(whole: list[bytes], encode: Callable[[Any], bytes], mapped: bool, rng: random.Random) -> bytes:
    """One of the message's values is something else, or written as JSON would not have it."""
    message = _message(rng, mapped)
    inside = rng.choice([message, *(value for value in message.values() if isinstance(value, dict))])
    name = rng.choice([*inside, "more"])
    if encode is encode_json and rng.random() < 0.5:
        inside[name] = "@here@"
        return json.dumps(message).encode().replace(b'"@here@"', rng.choice(RAW_JSON))
    inside[name] = rng.choice(ODD)
    return encode(message)
