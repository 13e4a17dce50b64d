"""Dead letters: they give back what was refused, and past the limits the loop stops and can go on."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plain_learner import PlainLearner

from engine.checkpoint import CheckpointStore
from engine.deadletters.limits import Limits, RefusedLately, TooManyRefused
from engine.deadletters.refusal import KEPT_BYTES, Refusal, read_letter
from engine.evaluate.metrics import PrequentialMetrics
from engine.run import Loop
from engine.shard import Shard
from streams.codecs import encode_json
from streams.event import Event, Label, Malformed, Position, Record
from streams.replay import ListSink, ListSource

AT = Position("orders.dead", 0, 3)


def sent(record: Record, reason: str = "not JSON") -> Any:
    """The dead letter of a record, as a log would give it back."""
    return read_letter(AT, encode_json(Refusal(record, reason, 5.0).message()))


@given(
    raw=st.binary(max_size=300) | st.text(max_size=100).map(lambda text: text.encode(errors="surrogatepass")),
    key=st.none() | st.binary(max_size=50),
    headers=st.lists(st.tuples(st.text("abü. ", max_size=8), st.binary(max_size=30)), max_size=4),
)
def test_a_dead_letter_gives_back_bytes_key_and_headers(
    raw: bytes, key: bytes | None, headers: list[tuple[str, bytes]]
) -> None:
    record = Record(Position("orders", 2, 17), Malformed(raw=raw, error="e"), raw, key, tuple(headers))
    letter = sent(record)
    assert (letter.raw, letter.key, letter.headers) == (raw, key, tuple(headers))
    assert (letter.position, letter.at) == (record.position, AT)
    assert (letter.reason, letter.time, letter.size) == ("not JSON", 5.0, len(raw))


def test_a_record_that_is_json_stands_in_its_dead_letter_as_readable_text() -> None:
    raw = '{ "id":"a", "time":1, "features":{"naïve": 1e5} }'.encode()
    message = Refusal(
        Record(Position("e", 0, 0), Event(id="a", time=1, features={}), raw), "r", 1.0
    ).message()
    assert message["record"] == raw.decode()
    assert "record_base64" not in message
    assert "key" not in message
    assert "headers" not in message


@pytest.mark.parametrize(
    ("raw", "start"),
    [
        (b"\xff" * 100_000, b"\xff" * KEPT_BYTES),
        (("a" + "é" * 50_000).encode(), ("a" + "é" * 32_767).encode()),
    ],
)
def test_a_record_that_is_too_large_tells_its_start_length_and_hash(raw: bytes, start: bytes) -> None:
    letter = sent(Record(Position("e", 0, 0), Malformed(raw=raw, error="e"), raw, b"key"))
    assert letter.raw is None
    assert letter.size == len(raw)
    assert letter.sha256 == hashlib.sha256(raw).hexdigest()
    assert letter.key == b"key"
    message = Refusal(Record(Position("e", 0, 0), Malformed(raw=raw, error="e"), raw), "r", 0.0).message()
    text = message.get("record", "").encode()
    assert text == start or len(message["record_base64"]) == 4 * (KEPT_BYTES // 3 + 1)


def test_large_keys_and_headers_count_too() -> None:
    raw, headers = b"{broken", (("trace", b"\x01" * KEPT_BYTES),)
    letter = sent(Record(Position("e", 0, 0), Malformed(raw=raw, error="e"), raw, b"k", headers))
    assert (letter.raw, letter.key, letter.headers) == (None, None, ())
    assert letter.size == 7


def test_many_empty_headers_do_not_make_a_dead_letter_too_large() -> None:
    record = Record(Position("e", 0, 0), Malformed(raw=b"{", error=""), b"{", None, (("", b""),) * 300_000)
    assert len(encode_json(Refusal(record, "r", 1.0).message())) < 1_000_000


@pytest.mark.parametrize(
    "raw", [b"", b"{}", b"[1]", b'{"topic":"a","partition":0,"offset":1,"time":0,"reason":""']
)
def test_what_is_no_dead_letter_is_told_as_such(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"'orders\.dead' partition 0 offset 3 is no dead letter"):
        read_letter(AT, raw)


def test_a_malformed_record_has_the_latest_event_time_before_it() -> None:
    items = [Event(id="a", time=70.0, features={}), Malformed(raw=b"{", error="broken")]
    dead = ListSink()
    assert Loop(make_shard(), ListSource(items), ListSink(), dead=dead).run()
    assert dead.messages[0][1]["time"] == 70.0


# -- limits --------------------------------------------------------------------------------------------------

GOOD, BAD = Event(id="a", time=0.0, features={"x": 1.0}), Malformed(raw=b"{", error="broken at 7")


def make_shard() -> Shard:
    return Shard(PlainLearner(), PrequentialMetrics())


def make_items(pattern: str) -> list[Any]:
    """One record per character: "." is good, "x" is bad."""
    return [
        Event(id=str(i), time=float(i), features={"x": 1.0}) if mark == "." else BAD
        for i, mark in enumerate(pattern)
    ]


def taken(pattern: str, limits: Limits) -> int | None:
    """How many records are taken until the loop stops; None where it does not."""
    loop = Loop(make_shard(), ListSource(make_items(pattern)), ListSink(), limits=limits)
    try:
        loop.run()
    except TooManyRefused:
        return loop.records
    return None


@pytest.mark.parametrize(
    ("pattern", "limits", "stops"),
    [
        ("x" * 30, Limits(max_ratio=0.5, over=10), 6),
        ("....x.x.x.x.x.x.x.x", Limits(max_ratio=0.5, over=10), None),
        ("..........xx.xx.xx.xx.", Limits(max_ratio=0.5, over=10), 18),
        ("xxxxx.....xxxxx.....x", Limits(max_ratio=0.5, over=10), None),
        ("xxxxx....xxxxxx", Limits(max_ratio=0.5, over=10), 10),
        ("..xx.xxx.xxxx...", Limits(max_ratio=None, max_run=4), 13),
        ("..xx.xxx.xxx...", Limits(max_ratio=None, max_run=4), None),
        ("x" * 30, Limits(max_ratio=1.0, over=10), None),
        ("x" * 30, Limits(max_ratio=None), None),
        ("x" * 600, Limits(), 501),
    ],
)
def test_the_loop_stops_right_after_the_record_that_passes_a_limit(
    pattern: str, limits: Limits, stops: int | None
) -> None:
    assert taken(pattern, limits) == stops


def open_loop(pattern: str, folder: Path, dead: ListSink, sink: ListSink, **options: Any) -> Loop:
    source = ListSource(make_items(pattern))
    store = CheckpointStore(folder)
    return Loop(make_shard(), source, sink, store, dead=dead, batch=4, **options)


def test_past_a_limit_everything_is_saved_and_a_new_start_takes_nothing_until_it_is_told_to(
    tmp_path: Path,
) -> None:
    dead, sink = ListSink(), ListSink()
    limits = Limits(max_ratio=0.5, over=10)
    for _ in range(3):
        loop = open_loop("......xxxxxxxx......", tmp_path, dead, sink, limits=limits)
        with pytest.raises(TooManyRefused, match="6 of the last 10 records were refused, more than 50 %"):
            loop.run()
    assert len(dead.messages) == 6
    assert len(sink.messages) == 6
    latest = CheckpointStore(tmp_path).latest()
    assert latest is not None
    assert latest.meta["positions"] == [["events", 0, 12]]


def test_with_a_higher_limit_or_when_told_to_the_run_goes_on(tmp_path: Path) -> None:
    pattern = "......xxxxxxxx......"
    options: list[dict[str, Any]] = [
        {"limits": Limits(max_ratio=0.9, over=10)},
        {"limits": Limits(max_ratio=0.5, over=10), "past_refused": True},
        {"limits": None},
    ]
    for i, option in enumerate(options):
        dead, sink, folder = ListSink(), ListSink(), tmp_path / str(i)
        with pytest.raises(TooManyRefused):
            open_loop(pattern, folder, dead, sink, limits=Limits(max_ratio=0.5, over=10)).run()
        assert open_loop(pattern, folder, dead, sink, **option).run()
        assert (len(dead.messages), len(sink.messages)) == (8, 12)


class Killed(Exception):
    """Stands for the end of a process: no snapshot is written."""


@pytest.mark.parametrize("kill", range(1, 19))
def test_a_restart_does_not_begin_to_count_anew(tmp_path: Path, kill: int) -> None:
    pattern = "..x..x.xx.x.xx.xx.xx.."
    limits = Limits(max_ratio=0.5, over=8)
    stops = taken(pattern, limits)
    dead, sink = ListSink(), ListSink()
    loop = open_loop(pattern, tmp_path, dead, sink, limits=limits, every_records=3)

    def stop() -> bool:
        if loop.records == kill:
            raise Killed
        return False

    with pytest.raises((Killed, TooManyRefused)):
        loop.run(stop)
    again = open_loop(pattern, tmp_path, dead, sink, limits=limits, every_records=3)
    with pytest.raises(TooManyRefused):
        again.run()
    assert again.shard.counts.records == stops


def test_the_error_says_which_reasons_were_most_frequent_and_where_they_began() -> None:
    items = [*make_items(".xxx"), Label(id="0", time=9.0, label=1), GOOD]
    items += [Event(id=f"t{i}", time=1.0, features={"x": "text"}) for i in range(4)]
    loop = Loop(make_shard(), ListSource(items), ListSink(), limits=Limits(over=12))
    with pytest.raises(TooManyRefused) as told:
        loop.run()
    text = str(told.value)
    assert text.index("4 × the first at events 0:6: ") < text.index(
        "3 × the first at events 0:1: broken at 7"
    )
    assert "--past-refused" in text


def test_limits_that_make_no_sense_are_refused() -> None:
    for wrong in ({"max_ratio": 0.0}, {"max_ratio": 1.5}, {"over": 0}, {"max_run": 0}):
        with pytest.raises(ValueError, match="expected"):
            Limits(**wrong)


@given(refused=st.lists(st.booleans(), max_size=60), over=st.integers(1, 12), ratio=st.floats(0.05, 1.0))
def test_the_share_is_that_of_the_last_records(refused: list[bool], over: int, ratio: float) -> None:
    lately = RefusedLately(Limits(max_ratio=ratio, over=over))
    for number, bad in enumerate(refused, 1):
        if bad:
            lately.add(number, 0)
        kept = RefusedLately(Limits(max_ratio=ratio, over=over))
        kept.restore(lately.state())
        wanted = sum(refused[max(0, number - over) : number]) > ratio * over
        assert (lately.excess(number) is not None) == wanted == (kept.excess(number) is not None)
