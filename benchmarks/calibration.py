"""calibration: whether what is forecast with a probability comes true as often, on fourteen streams."""

from __future__ import annotations

import math

from benchmarks.contest import AT_ONCE, Results
from benchmarks.first import CONTEST, measured
from benchmarks.job import INSIDE
from benchmarks.standings import Contest
from benchmarks.tables import Findings

COLUMNS = {
    "stream": 0,
    "labels": 0,
    "told": 4,
    "came true": 4,
    "calibration error": 4,
    "by chance at most": 4,
    "log loss": 4,
    "gain by a temperature": 5,
    "±": 5,
    "temperature": 3,
}


def run(stream: str | None = None, at_once: int = AT_ONCE) -> Findings:
    """Measure what is not measured yet or with other code, then the table.

    stream: measure on this one alone. at_once: processes side by side, each with one thread.
    """
    found = Findings(
        name="calibration",
        title="Whether probabilities come true",
        about=(
            "OnlineClassifier's defaults on the first 10,000 rows of fourteen streams, the mean of "
            f"{len(CONTEST.seeds)} seeds. Told: the mean probability of the likeliest class; came true: how "
            "often it was right; calibration error: the mean difference of the two over twenty bins, "
            "weighted by their events; by chance at most: what it stays below in 95 of 100 draws of labels from "
            "the very probabilities told. A temperature is what recalibration would add: p^β over its sum, β by "
            "Newton's steps on the log loss, each label learned after it was forecast; its gain in log loss with "
            "the 95 % interval of one seed, over 50 blocks of labels; its last β."
        ),
        columns=COLUMNS,
    )
    kept = measured(found, CONTEST, [INSIDE], stream, at_once)
    fill(found, CONTEST, kept)
    return found


def fill(found: Findings, contest: Contest, kept: Results) -> None:
    """Add the rows and what follows from them."""
    ratios, beyond, sure = [], [], []
    for stream in contest.streams:
        records = contest.records(kept, INSIDE, stream)
        if not records:
            continue

        def mean(name: str, of: list[dict[str, dict[str, float]]] = records) -> float:
            return sum(record["calibration"][name] for record in of) / len(of)

        loss = sum(record["log_loss"] for record in records) / len(records)
        found.add(
            **{
                "stream": stream,
                "labels": records[0]["evaluated"],
                "told": mean("told"),
                "came true": mean("came"),
                "calibration error": mean("error"),
                "by chance at most": mean("by_chance"),
                "log loss": loss,
                "gain by a temperature": mean("gain"),
                "±": mean("half_width"),
                "temperature": mean("temperature"),
            }
        )
        ratios.append(mean("log_loss_with_temperature") / loss)
        if mean("error") > mean("by_chance"):
            beyond.append(stream)
        if abs(mean("gain")) > mean("half_width"):
            sure.append(f"{stream} ({mean('gain'):+.4f})")
    if ratios:
        ratio = math.exp(sum(map(math.log, ratios)) / len(ratios))
        found.notes += [
            f"Beyond what chance explains: {', '.join(beyond) or 'none'}.",
            f"A temperature makes the log loss {ratio:.4f} of itself, geometric mean; it changes it for sure on "
            f"{', '.join(sure) or 'no stream'}.",
        ]
