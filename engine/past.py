"""Where what is live begins behind a file of history, and whether the file is the one that the run began with."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from engine.attach import AttachError
from engine.checkpoint import CheckpointError
from engine.checkpoint.file import peek
from engine.times import iso
from streams.clock import SystemClock
from streams.history_then_live import OVERLAP

if TYPE_CHECKING:
    from engine.checkpoint import CheckpointStore
    from engine.journal import Journal, Reading, Start
    from streams.event import TopicPartition
    from streams.history_then_live import Known, Row
    from streams.protocols import Clock

HISTORY = "source.history"
"""Its name among what must not change between runs on the same snapshots."""


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


def identity(known: Known) -> dict[str, Any]:
    """What a snapshot says about history, JSON-compatible: it is another for a file that has changed."""
    topics = sorted({topic for topic, _ in known.past})
    return {"topics": topics, "rows": known.rows, "fingerprint": known.fingerprint}


def check(known: Known | None, store: CheckpointStore) -> None:
    """AttachError where the run of these snapshots was begun with another history, with none, or with one.

    known: what is asked for; None where that is no file.
    """
    entries = store.ls()
    try:
        meta = peek(entries[-1].path) if entries else None
    except CheckpointError:
        return  # the run goes on from an earlier one, or says what is damaged
    if meta is None:
        return
    kept, asked = meta["config"].get(HISTORY), None if known is None else identity(known)
    if kept == asked:
        return
    anew = "or begin anew with an empty folder for snapshots"
    if kept is None:
        raise AttachError(
            f"{store.folder}: this run was begun without a file of history, and --from names one; leave --from "
            f"out to go on, {anew}"
        )
    file = f"a file of history ({', '.join(kept['topics'])}, {kept['rows']} rows)"
    if asked is None:
        raise AttachError(
            f"{store.folder}: this run was begun with {file}, and --from names none; name the same by --from "
            f"FILE to go on, {anew}"
        )
    if kept["topics"] != asked["topics"]:
        raise AttachError(
            f"{store.folder}: this run was begun with {file}, and --from names another, "
            f"{', '.join(asked['topics'])}; name the same by --from FILE to go on, {anew}"
        )
    found = f"{asked['rows']} rows" if kept["rows"] != asked["rows"] else "as many, but others"
    raise AttachError(
        f"{store.folder}: this run was begun with {file}, and the file has changed since: it holds {found}. "
        f"Restore it as it was, {anew}"
    )


def _since(
    journal: Journal, topics: Sequence[str], reading: Reading, time: float
) -> tuple[dict[TopicPartition, int], dict[TopicPartition, int]]:
    """Where these topics have come to at a time, and where they end."""
    start: Start = time if time > 0 else "beginning"
    with contextlib.closing(journal.source(topics, replace(reading, start=start, bounded=True))) as source:
        return source.positions(), source.end_offsets()


def _said(row: Row) -> str:
    return f"row {row.number} of {row.topic} with the time {iso(row.time)}"
