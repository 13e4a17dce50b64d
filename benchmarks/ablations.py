"""ablations: what each part of the classifier is worth, by leaving it out on fourteen streams."""

from __future__ import annotations

import math

from benchmarks.contest import AT_ONCE, Results
from benchmarks.first import CONTEST, measured
from benchmarks.job import OWN, WITHOUT
from benchmarks.standings import Contest
from benchmarks.tables import Findings, shares

SWITCHES = ("context", "recall", "recall_heads", "metric", "trees", "early", "concepts")
COLUMNS = {"left out": 0, "error ratio": 3, "from": 3, "to": 3, "streams that lose": 0}


def run(stream: str | None = None, at_once: int = AT_ONCE) -> Findings:
    """Measure what is not measured yet or with other code, then the tables.

    stream: measure on this one alone. at_once: processes side by side, each with one thread.
    """
    found = Findings(
        name="ablations",
        title="What the parts are worth",
        about=(
            "OnlineClassifier on the first 10,000 rows of fourteen streams, as in [first](first.md), with one "
            "switch off. Error ratio: the share of wrong answers without the part over that with all parts, "
            "geometric mean over the streams, above 1 where the part helps; from, to: its 95 % interval over "
            f"{len(CONTEST.seeds)} paired seeds."
        ),
        columns=COLUMNS,
    )
    learners = [OWN, *(WITHOUT + part for part in SWITCHES)]
    kept = measured(found, CONTEST, learners, stream, at_once)
    ratios = Findings(
        name="",
        title="Error ratio per stream",
        about="The mean over the seeds.",
        columns={"left out": 0, **dict.fromkeys(CONTEST.streams, 3)},
    )
    for part in SWITCHES:
        per_stream = {name: _log_ratios(CONTEST, kept, part, name) for name in CONTEST.streams}
        there = {name: logs for name, logs in per_stream.items() if logs}
        if not there:
            continue
        by_seed = [sum(logs) / len(there) for logs in zip(*there.values(), strict=True)]
        mean, half = shares(by_seed)
        means = {name: sum(logs) / len(logs) for name, logs in there.items()}
        found.add(
            **{
                "left out": part,
                "error ratio": math.exp(mean),
                "from": math.exp(mean - half),
                "to": math.exp(mean + half),
                "streams that lose": f"{sum(m > 0 for m in means.values())} of {len(means)}",
            }
        )
        ratios.rows.append({"left out": part, **{name: math.exp(m) for name, m in means.items()}})
    found.below.append(ratios)
    return found


def _log_ratios(contest: Contest, kept: Results, part: str, stream: str) -> list[float]:
    """log(error without the part / error with it), one per seed; empty where a figure is missing or is 0."""
    whole, without = (contest.records(kept, name, stream) for name in (OWN, WITHOUT + part))
    if len(whole) != len(contest.seeds) or len(without) != len(contest.seeds):
        return []
    pairs = [(1.0 - a["accuracy"], 1.0 - b["accuracy"]) for a, b in zip(whole, without, strict=True)]
    return [math.log(b / a) for a, b in pairs] if all(a > 0.0 and b > 0.0 for a, b in pairs) else []
