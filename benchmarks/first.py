"""first: the first 10,000 rows of fourteen streams, the engine with its defaults beside thirteen peers."""

from __future__ import annotations

import os
from collections.abc import Sequence

from benchmarks.contest import AT_ONCE, LIMIT, Results, measure, own_kept, peers_kept
from benchmarks.job import OWN
from benchmarks.standings import WORDS, Contest, beside_the_best, everybody, remarks
from benchmarks.tables import Findings
from streams.datasets import VARIABLE, is_recorded

FIRST_EIGHT = (
    "elec2",
    "weather",
    "phishing_uci",
    "outdoor",
    "luxembourg",
    "covertype100k",
    "insects_wbf",
    "pen_digits",
)
STREAMS = (*FIRST_EIGHT, "kdd99", "flights", "shuttle", "bananas", "phishing", "image_segments")
PEERS = (
    "river-logistic",
    "moa-efdt",
    "moa-ozaboost",
    "river-hat",
    "moa-samknn",
    "moa-srp-30",
    "river-arf",
    "river-knn",
    "river-amf",
    "river-leveraging-bagging",
    "moa-sgbt",
    "moa-arf-100",
    "river-srp",
)  # the cheap ones first
COLUMNS = {
    "stream": 0,
    "rows": 0,
    "best peer": 0,
    "its accuracy": 4,
    "everlearn": 4,
    "label before": 3,
    "standard error": 4,
    "behind, in standard errors": 1,
    "error ratio": 3,
    "its log loss": 3,
    "everlearn's log loss": 3,
}
CONTEST = Contest(streams=STREAMS, peers=PEERS, seeds=(0, 1, 2), rows=10_000)
JUDGED = (
    "One pass, test then train, label history off. everlearn with its defaults, the mean of {seeds} seeds; "
    "peers with theirs and one seed. “Best peer” is chosen per stream with hindsight, by accuracy; standard "
    "error: √(p(1 − p)/n) of its accuracy; behind: how many of these everlearn stands below it, negative where "
    "it stands above; “label before”: how often the label is that of the row before; error ratio: everlearn's "
    "share of wrong answers over the peer's. Labels of the flights come hours later, for all; everlearn is told "
    "their keys there. MOA is told all classes and text values "
    "beforehand, as it needs them; SAMkNN sees the label while it forecasts, to note which of its memories was "
    "right, on the flights before it is known."
)


def run(stream: str | None = None, ours: bool = False, at_once: int = AT_ONCE) -> Findings:
    """Measure what is not measured yet, and everlearn anew where its code has changed; then the tables.

    stream: measure on this one alone. ours: no peers. at_once: processes side by side, each with one thread.
    """
    found = Findings(
        name="first",
        title="The first 10,000 rows of fourteen streams",
        about=JUDGED.format(seeds=len(CONTEST.seeds)),
        columns=COLUMNS,
    )
    fill(found, CONTEST, stream=stream, ours=ours, at_once=at_once, first=len(FIRST_EIGHT))
    return found


def fill(
    found: Findings,
    contest: Contest,
    *,
    stream: str | None,
    ours: bool,
    at_once: int,
    first: int = 0,
    limit: int = LIMIT,
) -> None:
    """Measure, then add the rows, the tables of all learners and the notes."""
    own, peers = own_kept(), peers_kept()
    here, left = measurable(contest, stream)
    found.notes += left
    engine = [job for name in here for job in contest.jobs(OWN, name)]
    found.notes += measure(engine, own, limit=limit, at_once=at_once)
    if not ours:
        others = [job for peer in contest.peers for name in here for job in contest.jobs(peer, name)]
        found.notes += measure(others, peers, limit=limit, at_once=at_once)
    beside_the_best(found, contest, own, peers, first)
    for figure in (contest.score, contest.second):
        title = f"Every learner on every stream: {WORDS[figure]}"
        found.below.append(everybody(contest, figure, title, own, peers))
    found.notes += remarks(contest, own, peers)


def measured(
    found: Findings, contest: Contest, learners: Sequence[str], stream: str | None, at_once: int, *,
    seeds_in_turn: bool = False,
) -> Results:  # fmt: skip
    """All that is kept of the engine, after these learners of it were measured where they were not yet.

    stream: on this one alone. seeds_in_turn: every stream once before any twice.
    """
    kept = own_kept()
    here, left = measurable(contest, stream)
    found.notes += left
    jobs = [job for name in learners for where in here for job in contest.jobs(name, where)]
    if seeds_in_turn:
        jobs.sort(key=lambda job: job.seed)
    found.notes += measure(jobs, kept, at_once=at_once)
    return kept


def measurable(contest: Contest, stream: str | None) -> tuple[list[str], list[str]]:
    """(the streams to measure on, a note on those whose data is not here); `stream` asks for one alone."""
    wanted = [name for name in contest.streams if stream in (None, name)]
    left = [name for name in wanted if is_recorded(name)] if not os.environ.get(VARIABLE) else []
    notes = [f"Not run, for {VARIABLE} names no folder: {', '.join(left)}."] if left else []
    return [name for name in wanted if name not in left], notes
