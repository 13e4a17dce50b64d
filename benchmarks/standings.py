"""From records of many learners on many streams to tables: the engine beside the best peer, and everybody."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks import moa
from benchmarks.contest import Results
from benchmarks.job import OWN, Job, versions
from benchmarks.tables import Findings
from engine.evaluate.river_peers import RIVER
from engine.evaluate.words import duration

TITLES = {
    OWN: "everlearn",
    **{name: peer.title for name, peer in RIVER.items()},
    **moa.PEERS,
    "river-logistic": "River logistic or softmax regression",
}
WORDS = {"accuracy": "accuracy", "log_loss": "log loss", "mae": "MAE", "rmse": "RMSE"}


@dataclass(frozen=True)
class Contest:
    """Which learners meet on which streams, and by what they are judged.

    rows: the first so many, None for all. score: the figure that decides. second: one shown beside it.
    """

    streams: tuple[str, ...]
    peers: tuple[str, ...]
    seeds: tuple[int, ...]
    rows: int | None
    history: bool = False
    score: str = "accuracy"
    second: str = "log_loss"

    def error(self, value: float) -> float:
        """What is wrong about a score: 1 − accuracy, or a mean error as it is."""
        return 1.0 - value if self.score == "accuracy" else value

    def jobs(self, learner: str, stream: str) -> list[Job]:
        """The learner's jobs on a stream: peers have one seed."""
        seeds = self.seeds if learner.startswith(OWN) else self.seeds[:1]
        return [
            Job(stream=stream, learner=learner, rows=self.rows, seed=seed, history=self.history)
            for seed in seeds
        ]

    def records(self, kept: Results, learner: str, stream: str) -> list[dict[str, Any]]:
        """The figures of those jobs, as far as they are there."""
        found = [kept.get(job) for job in self.jobs(learner, stream)]
        return [record for record in found if record is not None and self.score in record]


def beside_the_best(found: Findings, contest: Contest, own: Results, peers: Results, first: int = 0) -> None:
    """Add a row per stream, engine beside the peer that is best there with hindsight; then geometric means.

    first: also a mean over the first so many streams.
    """
    ratios: list[float] = []
    score, second = WORDS[contest.score], WORDS[contest.second]
    for stream in contest.streams:
        ours = contest.records(own, OWN, stream)
        theirs = [r for name in contest.peers for r in contest.records(peers, name, stream)]
        if not ours or not theirs:
            ratios.append(math.nan)
            continue
        best = min(theirs, key=lambda record: contest.error(record[contest.score]))
        value = _mean(ours, contest.score)
        ratio = contest.error(value) / contest.error(best[contest.score])
        ratios.append(ratio)
        row = {
            "stream": stream,
            "rows": best["evaluated"],
            "best peer": TITLES[best["learner"]],
            f"its {score}": best[contest.score],
            "everlearn": value,
            "error ratio": ratio,
            f"its {second}": best[contest.second],
            f"everlearn's {second}": _mean(ours, contest.second),
        }
        if contest.score == "accuracy":
            p = best[contest.score]
            spread = math.sqrt(p * (1.0 - p) / best["evaluated"])
            row |= {"standard error": spread, "behind, in standard errors": (p - value) / spread}
            wrong = (1.0 - ours[0]["accuracy"]) / (1.0 - ours[0]["kappa_temporal"])
            row["label before"] = 1.0 - wrong
        found.add(**row)
    for title, part in (
        (f"geometric mean, first {first}", ratios[:first]),
        ("geometric mean", ratios),
    ):
        there = [ratio for ratio in part if math.isfinite(ratio) and ratio > 0.0]
        if there:
            named = title if len(there) == len(part) else f"{title} ({len(there)} of {len(part)})"
            mean = math.exp(sum(math.log(ratio) for ratio in there) / len(there))
            found.add(**{"stream": named, "error ratio": mean})


def everybody(contest: Contest, figure: str, title: str, own: Results, peers: Results) -> Findings:
    """Every learner on every stream: one figure, an en dash where it was not measured."""
    found = Findings(
        name="", title=title, about="", columns={"learner": 0, **dict.fromkeys(contest.streams, 3)}
    )
    for learner in (OWN, *contest.peers):
        kept = own if learner == OWN else peers
        row: dict[str, Any] = {"learner": TITLES[learner]}
        for stream in contest.streams:
            records = contest.records(kept, learner, stream)
            if records:
                row[stream] = _mean(records, figure)
        if len(row) > 1:
            found.rows.append(row)
    return found


def remarks(contest: Contest, own: Results, peers: Results) -> list[str]:
    """What a reader must know of the records: versions, what was ended, what is missing or of an older state."""
    said: list[str] = []
    used: dict[str, None] = {}
    missing: dict[str, list[str]] = {}
    for learner in contest.peers:
        for stream in contest.streams:
            record = peers.get(contest.jobs(learner, stream)[0])
            if record is None:
                missing.setdefault(learner, []).append(stream)
            elif "over" in record:
                minutes = record["over"] / 60.0
                said.append(f"{TITLES[learner]} on {stream} was ended after {minutes:.0f} minutes of a core.")
            else:
                used[record["versions"]] = None
    for learner, streams in missing.items():
        where = "any stream" if len(streams) == len(contest.streams) else ", ".join(streams)
        said.append(f"{TITLES[learner]} has not been measured on {where}.")
    timed = [peers.seconds(contest.jobs(p, s)[0]) for p in contest.peers for s in contest.streams]
    timed = [seconds for seconds in timed if math.isfinite(seconds)]
    if used:
        said.append(
            f"Peers: {', '.join(sorted(used))}. Their figures are kept in [{peers.path.name}]"
            f"({peers.path.name}); remove a line to have it measured again. "
            f"{len(timed)} runs, those timed, took {duration(sum(timed))} of one core."
        )
    here = versions(OWN)
    old = [
        stream
        for stream in contest.streams
        if any(record["versions"] != here for record in contest.records(own, OWN, stream))
    ]
    if old:
        said.append(f"Figures of everlearn before its last change: {', '.join(old)}.")
    return said


def _mean(records: Sequence[dict[str, Any]], figure: str) -> float:
    return sum(float(record[figure]) for record in records) / len(records)
