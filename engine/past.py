"""Where what is live begins behind a file of history, and whether the file is the one that the run began with."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from engine.attach import AttachError
from engine.times import iso
from streams.clock import SystemClock
from streams.history_then_live import OVERLAP

if TYPE_CHECKING:
    from engine.journal import Journal, Reading, Start
    from streams.event import TopicPartition
    from streams.history_then_live import Known, Row
    from streams.protocols import Clock


def after(
    known: Known,
    journal: Journal,
    events: str,
    topics: Sequence[str],
    reading: Reading,
    clock: Clock | None = None,
) -> tuple[Reading, list[str]]:
    """The reading that begins behind history, and what is worth saying about it.

    Events begin OVERLAP before history ends. Labels begin with history: those of its events may be among them.
    Raises AttachError where history ends in the future and the topic of events holds nothing that late.
    """
    if not math.isfinite(known.end):
        return reading, []
    assert known.latest is not None
    notes = []
    if known.latest.time > known.end:
        notes.append(
            f"{_said(known.latest)} is far ahead of all other rows: what is live begins by those, an hour before "
            f"{iso(known.end)}"
        )
    positions, ends = _since(journal, [events], reading, known.end - OVERLAP)
    if any(ends.values()) and all(positions[partition] >= end for partition, end in ends.items()):
        if known.end > (clock or SystemClock()).time():
            raise AttachError(
                f"{_said(known.latest)}, which is in the future, and so are rows beside it; topic {events!r} "
                "holds nothing that late, and all of it would be passed over. Expected event times in seconds "
                "since 1970-01-01 UTC, set those rows right"
            )
        notes.append(
            f"topic {events!r} holds nothing from an hour before history ends ({iso(known.end)}) on: what is "
            "live begins at its end"
        )
    others = [topic for topic in topics if topic != events]
    if others:
        positions |= _since(journal, others, reading, known.begin)[0]
    return replace(reading, start=positions), notes


def _since(
    journal: Journal, topics: Sequence[str], reading: Reading, time: float
) -> tuple[dict[TopicPartition, int], dict[TopicPartition, int]]:
    """Where these topics have come to at a time, and where they end."""
    start: Start = time if time > 0 else "beginning"
    with contextlib.closing(journal.source(topics, replace(reading, start=start, bounded=True))) as source:
        return source.positions(), source.end_offsets()


def _said(row: Row) -> str:
    return f"row {row.number} of {row.topic} (id {row.id!r}) with the time {iso(row.time)}"
