"""full: all rows of the fourteen streams, five seeds, label history off and on; it may take a day."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.contest import AT_ONCE
from benchmarks.first import COLUMNS, CONTEST, FIRST_EIGHT, JUDGED, fill
from benchmarks.tables import Findings

OFF = replace(CONTEST, rows=None, seeds=(0, 1, 2, 3, 4))
ON = replace(OFF, history=True)
LIMIT = 4 * 3600


def run(stream: str | None = None, ours: bool = False, at_once: int = AT_ONCE) -> Findings:
    """Measure what is not measured yet, then the tables; a run that was stopped goes on.

    stream: measure on this one alone. ours: no peers. at_once: processes side by side, each with one thread.
    """
    found = Findings(
        name="full",
        title="All rows of fourteen streams",
        about=JUDGED.format(seeds=len(OFF.seeds)),
        columns=COLUMNS,
    )
    history = Findings(
        name="",
        title="With label history",
        about="Forecasts may use the label before; peers get the last one that is known as one more feature.",
        columns=COLUMNS,
    )
    for table, contest in ((found, OFF), (history, ON)):
        fill(
            table,
            contest,
            stream=stream,
            ours=ours,
            at_once=at_once,
            first=len(FIRST_EIGHT),
            limit=LIMIT,
        )
    below, history.below = history.below, []
    for table in below:
        table.title += ", with label history"
    found.below += [history, *below]
    return found
