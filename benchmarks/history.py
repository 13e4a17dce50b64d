"""history: the first 10,000 rows with the labels before as features, for the engine and for its peers alike."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.contest import AT_ONCE
from benchmarks.first import COLUMNS, CONTEST, FIRST_EIGHT, JUDGED, fill
from benchmarks.tables import Findings

DEAR = ("river-amf", "river-leveraging-bagging", "river-srp", "moa-sgbt", "moa-arf-100")
WITH_HISTORY = replace(CONTEST, history=True, peers=tuple(peer for peer in CONTEST.peers if peer not in DEAR))


def run(stream: str | None = None, ours: bool = False, at_once: int = AT_ONCE) -> Findings:
    """Measure what is not measured yet, then the tables; a run that was stopped goes on.

    stream: measure on this one alone. ours: no peers. at_once: processes side by side, each with one thread.
    """
    found = Findings(
        name="history",
        title="The first 10,000 rows with label history",
        about=(
            "Forecasts may use the labels before: everlearn with `label_history=True`, each peer with the last "
            "three labels that are known when it is asked as further features. Without the five dearest peers "
            "(`python -m benchmarks full` has them). "
            + JUDGED.format(seeds=len(WITH_HISTORY.seeds)).replace(", label history off", "")
        ),
        columns=COLUMNS,
    )
    fill(found, WITH_HISTORY, stream=stream, ours=ours, at_once=at_once, first=len(FIRST_EIGHT))
    return found
