"""decode: what reading one message takes, per format and layout, beside a decoder that checks nothing."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import msgspec

from benchmarks.tables import Findings
from streams.codecs import FieldMap, decoder_for, encode_event, encode_msgpack
from streams.event import Event

ROUNDS = 300
CALLS = 500  # per round; the ways take turns, so that all meet the same machine

NAMES = ("date", "day", "period", "nswprice", "nswdemand", "vicprice", "vicdemand", "transfer")
VALUES = (0.425556, 2.0, 0.042553, 0.051699, 0.38363, 0.003467, 0.422915, 0.414912)


def run() -> Findings:
    """µs per message shaped like elec2's: an id, a time, eight numbers and a label."""
    found = Findings(
        name="decode",
        title="Reading one message",
        about=(
            "An event of eight numbers with id, time and label, read from bytes. Bare is msgspec's decoder into "
            f"dicts, which checks nothing. Median and fastest of {ROUNDS} rounds of {CALLS} calls, taking turns."
        ),
        columns={"what": 0, "bytes": 0, "median µs": 2, "fastest µs": 2, "to bare": 2},
    )
    cases = _cases()
    took: dict[str, list[float]] = {what: [] for what in cases}
    for _ in range(ROUNDS):
        for what, (read, raw) in cases.items():
            before = time.perf_counter()
            for _ in range(CALLS):
                read(raw)
            took[what].append((time.perf_counter() - before) / CALLS * 1e6)
    bare = statistics.median(took["bare JSON"])
    for what, seconds in took.items():
        median = statistics.median(seconds)
        times = {"median µs": median, "fastest µs": min(seconds), "to bare": median / bare}
        found.add(what=what, bytes=len(cases[what][1]), **times)
    return found


def _cases() -> dict[str, tuple[Callable[[bytes], Any], bytes]]:
    features = dict(zip(NAMES, VALUES, strict=True))
    event = Event(id="elec2-12345", time=1357034400.0, features=features, label="UP")
    canonical, packed = encode_event(event), encode_msgpack(event)
    around = {"no": "elec2-12345", "ts": 1357034400000, "class": "UP"}
    flat, nested = msgspec.json.encode(around | features), msgspec.json.encode(around | {"values": features})
    every = FieldMap(id="no", time="ts", time_unit="ms", target="class")
    named = FieldMap(id="no", time="ts", time_unit="ms", target="class", features=NAMES)
    return {
        "bare JSON": (msgspec.json.decode, canonical),
        "JSON": (decoder_for("json"), canonical),
        "JSON, mapped, every field": (decoder_for("json", every), flat),
        "JSON, mapped, named fields": (decoder_for("json", named), flat),
        "JSON, mapped, an object inside": (decoder_for("json", every), nested),
        "MessagePack": (decoder_for("msgpack"), packed),
        "MessagePack, mapped": (decoder_for("msgpack", every), msgspec.msgpack.encode(around | features)),
    }
