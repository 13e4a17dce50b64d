"""A run as a person at a terminal sees it: where it begins, how it goes, how it ended."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from engine.observe import Resumed, Saved, Silent, Watched

if TYPE_CHECKING:
    from engine.observe import Change
    from engine.terminal import View
    from streams.event import Record

SHOW_SECONDS = 1.0


class Told(Silent):
    """An observer that shows the loops of a process in a view.

    >>> from rich.console import Console
    >>> from engine.terminal import PlainView
    >>> Told(PlainView(Console())).waiting("another process owns the shard")
    waits: another process owns the shard
    """

    def __init__(self, view: View) -> None:
        self._view = view
        self._loops: dict[str, Watched] = {}
        self._shown = 0.0
        self._reason = ""

    def resumed(self, loop: Watched, how: Resumed) -> None:
        """Say so."""
        self._loops[loop.name] = loop
        if how.entry is not None:
            self._view.say(f"goes on from {how.entry.path.parent}{_of(loop)}: {counted(loop)}")
        for note in how.notes:
            self._view.say(f"  {note}")

    def turned(self, loop: Watched, records: Sequence[Record]) -> None:
        """Show the figures, once a second; say once that the broker has gone away or is back."""
        if (turn := loop.absence.turn) is not None:
            gone = f"no broker has answered for {turn[1]:.0f} s{_of(loop)}; the run waits for it"
            back = f"the broker is back after {turn[1]:.0f} s{_of(loop)}"
            self._view.say(gone if turn[0] == "away" else back)
        now = time.monotonic()
        if now - self._shown >= SHOW_SECONDS:
            self._shown = now
            self._show(loop)

    def saved(self, loop: Watched, what: Saved) -> None:
        """Nothing: the end says where snapshots are."""

    def rebalanced(self, change: Change, shards: Sequence[str]) -> None:
        """Say which shards came or went."""
        self._view.say(f"{change}: shard {', '.join(shards)}")

    def waiting(self, reason: str) -> None:
        """Say it once, until something else is waited for."""
        if reason != self._reason:
            self._reason = reason
            self._view.say(f"waits: {reason}")

    def end(self, folder: Path, *, finished: bool) -> None:
        """The figures as they are at last, and what could not be used."""
        for loop in self._loops.values():
            self._show(loop)
        self._view.close()
        how = "finished" if finished else "stopped"
        for loop in self._loops.values():
            self._view.say(f"{how}{_of(loop)}: {counted(loop)}; snapshot in {folder}")
            for line in loop.shard.refusals.lines():
                self._view.say(f"  {line}")

    def _show(self, loop: Watched) -> None:
        from engine.terminal import Progress, Row

        figures = loop.shard.metrics.result()
        speed = 1e6 / mean if (mean := loop.latency.result()["mean"]) > 0 else None
        self._view.show(
            Progress(
                rows=[Row.of("everlearn", figures, speed)],
                time=figures["last_time"],
                experts=dict(loop.shard.model.expert_weights()),
                drifts=figures["drifts"]["count"],
                last_drift=figures["drifts"]["last"],
            )
        )


def _of(loop: Watched) -> str:
    return "" if loop.name == "0" else f" (shard {loop.name})"


def counted(loop: Watched) -> str:
    """Events, labels and refused records so far, in words."""
    counts, join = loop.shard.counts, loop.shard.pending.counts
    refused = counts.refused + counts.malformed
    text = f"{counts.events:,} events, {counts.learned:,} labels learned, {refused:,} records refused"
    lost = {
        "labels too late (labels.max_age)": join.late,
        "labels of no event": join.orphans,
        "forecasts given up without a label": join.expired,
        "labels that waited too long for their turn": join.dropped,
    }
    return ", ".join([text, *(f"{n:,} {what}" for what, n in lost.items() if n)])
