"""A snapshot of the label join from before it held arrays goes on as it would have."""

from __future__ import annotations

from streams.event import Label
from streams.join import PendingForecasts
from streams.join_before import arrays_of

BEFORE = {
    "ids": ["a", "b"],
    "times": [1.0, 4.0],
    "held": [{"id": "h", "time": 3.0, "label": 1}],
    "matched": [["m", 2.0]],
    "counts": {"matched": 7, "orphans": 1, "duplicate_labels": 0, "duplicate_events": 2, "expired": 3},
    "now": 5.0,
}


def test_what_waited_and_what_was_matched_is_known_again() -> None:
    pending = PendingForecasts[str]()
    pending.restore(*arrays_of(BEFORE), ["of a", "of b"])
    assert (pending.now, pending.counts.matched, pending.counts.expired) == (5.0, 7, 3)
    assert pending.repeats("m")
    assert pending.repeats("a")
    assert pending.match(Label(id="b", time=6.0, label=0)) == "of b"
    early = pending.put("h", "of h")
    assert early is not None
    assert early.label == Label(id="h", time=3.0, label=1)
    pending.match(Label(id="m", time=6.0, label=0))
    assert (pending.counts.late, pending.held) == (1, 0)


def test_an_empty_one_stays_empty() -> None:
    empty = {"ids": [], "times": [], "held": [], "matched": [], "counts": {}, "now": None}
    pending = PendingForecasts[str]()
    pending.restore(*arrays_of(empty), [])
    assert (len(pending), pending.held, pending.now) == (0, 0, float("-inf"))
