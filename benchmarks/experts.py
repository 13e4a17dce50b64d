"""experts: what each expert does alone beside the best peer, and what the mixture loses without it."""

from __future__ import annotations

import math
from typing import Any

from benchmarks.contest import AT_ONCE, Results, peers_kept
from benchmarks.first import CONTEST, measured
from benchmarks.job import INSIDE
from benchmarks.standings import Contest
from benchmarks.tables import Findings, shares

NETWORK = ("fast layers", "slow layers")
COLUMNS = {
    "expert": 0,
    "alone, beside the best peer": 3,
    "better than it on": 0,
    "alone, beside the whole": 3,
    "lost without it": 4,
    "from": 4,
    "to": 4,
    "log loss lost": 4,
}


def run(stream: str | None = None, at_once: int = AT_ONCE) -> Findings:
    """Measure what is not measured yet or with other code, then the tables.

    stream: measure on this one alone. at_once: processes side by side, each with one thread.
    """
    found = Findings(
        name="experts",
        title="What each expert alone does, and what is lost without it",
        about=(
            "OnlineClassifier's defaults, all experts awake, on the first 10,000 rows of fourteen streams, "
            f"{len(CONTEST.seeds)} seeds. Alone: the share of wrong answers if this expert's forecast were the "
            "answer (layers: their last head's, which reads context and recall), over that of the best peer "
            "(chosen per stream with hindsight, as in [first](first.md)) and over that of the whole mixture. "
            "Lost without it: the share of wrong answers of the same mixers without this expert, over that with "
            "it; layers go on reading what a memory says. From, to: 95 % interval over paired seeds. Log loss "
            "lost: by how much it is higher without. Geometric means of the ratios, the mean of the differences; "
            "streams on which one of the two made no mistake are left out."
        ),
        columns=COLUMNS,
    )
    kept = measured(found, CONTEST, [INSIDE], stream, at_once)
    fill(found, CONTEST, kept, peers_kept())
    return found


def fill(found: Findings, contest: Contest, kept: Results, peers: Results) -> None:
    """Add the rows, the table per stream and what follows from them."""
    inside = {s: contest.records(kept, INSIDE, s) for s in contest.streams}
    inside = {s: records for s, records in inside.items() if len(records) == len(contest.seeds)}
    if not inside:
        return
    best = {s: best_error(contest, peers, s) for s in inside}
    names = list(next(iter(inside.values()))[0]["experts"])
    each = Findings(
        name="",
        title="Error ratio per stream, alone beside the best peer",
        about="The mean over the seeds.",
        columns={"expert": 0, **dict.fromkeys(inside, 3)},
    )
    for name in names:
        alone = {s: _mean(records, name, "alone") for s, records in inside.items()}
        ratios = {s: alone[s] / best[s] for s in inside if alone[s] > 0.0 and best[s] > 0.0}
        whole = [alone[s] / _error(records) for s, records in inside.items() if alone[s] and _error(records)]
        seeds = [_lost(inside, name, seed) for seed in range(len(contest.seeds))]
        mean, half = shares([sum(logs) / len(logs) for logs in seeds if logs])
        loss = [
            sum(r["experts"][name]["without"]["log_loss"] - r["log_loss"] for r in records) / len(records)
            for records in inside.values()
        ]
        found.add(
            **{
                "expert": name,
                "alone, beside the best peer": _geometric(list(ratios.values())),
                "better than it on": f"{sum(ratio < 1.0 for ratio in ratios.values())} of {len(ratios)}",
                "alone, beside the whole": _geometric(whole),
                "lost without it": math.exp(mean),
                "from": math.exp(mean - half),
                "to": math.exp(mean + half),
                "log loss lost": sum(loss) / len(loss),
            }
        )
        each.rows.append({"expert": name, **ratios})
    better = {s: min(row.get(s, math.nan) for row in each.rows if row["expert"] in NETWORK) for s in inside}
    there = [value for value in better.values() if math.isfinite(value)]
    if there:
        found.notes.append(
            "The network alone, the better of its fast and its slow stack per stream with hindsight: "
            f"{_geometric(there):.3f} of the best peer's errors, geometric mean over {len(there)} streams."
        )
    lost = Findings(
        name="",
        title="Error ratio per stream, without the expert",
        about="The mixture without this expert over the mixture with it, the mean over the seeds.",
        columns={"expert": 0, **dict.fromkeys(inside, 3)},
    )
    for name in names:
        without = {s: _mean(records, name, "without") for s, records in inside.items()}
        row = {s: without[s] / _error(records) for s, records in inside.items() if _error(records)}
        lost.rows.append({"expert": name, **row})
    found.below += [each, lost]


def best_error(contest: Contest, peers: Results, stream: str) -> float:
    """The least share of wrong answers of a peer, NaN where none was measured."""
    records = [r for peer in contest.peers for r in contest.records(peers, peer, stream)]
    return min((1.0 - r["accuracy"] for r in records), default=math.nan)


def _error(records: list[dict[str, Any]]) -> float:
    return sum(1.0 - float(r["accuracy"]) for r in records) / len(records)


def _mean(records: list[dict[str, Any]], name: str, how: str) -> float:
    return sum(float(r["experts"][name][how]["error"]) for r in records) / len(records)


def _lost(inside: dict[str, list[dict[str, Any]]], name: str, seed: int) -> list[float]:
    """log(error without the expert / error with it) of one seed, a number per stream."""
    pairs = [
        (r[seed]["experts"][name]["without"]["error"], 1.0 - r[seed]["accuracy"]) for r in inside.values()
    ]
    return [math.log(a / b) for a, b in pairs if a > 0.0 and b > 0.0]


def _geometric(ratios: list[float]) -> float:
    return math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else math.nan
