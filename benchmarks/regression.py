"""regression: mean absolute error on three streams, the engine beside River's regressors."""

from __future__ import annotations

from benchmarks.contest import AT_ONCE
from benchmarks.first import fill
from benchmarks.standings import Contest
from benchmarks.tables import Findings

CONTEST = Contest(
    streams=("bike_sharing", "beijing_pm25", "trump_approval"),
    peers=(
        "river-linear",
        "river-amrules",
        "river-knn-regressor",
        "river-amf-regressor",
        "river-arf-regressor",
    ),
    seeds=(0, 1, 2),
    rows=10_000,
    score="mae",
    second="rmse",
)
COLUMNS = {
    "stream": 0,
    "rows": 0,
    "best peer": 0,
    "its MAE": 4,
    "everlearn": 4,
    "error ratio": 3,
    "its RMSE": 4,
    "everlearn's RMSE": 4,
}


def run(stream: str | None = None, ours: bool = False, at_once: int = AT_ONCE) -> Findings:
    """Measure what is not measured yet, and everlearn anew where its code has changed; then the tables.

    stream: measure on this one alone. ours: no peers. at_once: processes side by side, each with one thread.
    """
    found = Findings(
        name="regression",
        title="Regression: the first 10,000 rows of three streams",
        about=(
            "One pass, test then train, label history off; trump_approval has 1,001 rows. everlearn with its "
            "defaults, the mean of three seeds; peers with one. “Best peer” is chosen per stream with "
            "hindsight, by its mean absolute error."
        ),
        columns=COLUMNS,
    )
    fill(found, CONTEST, stream=stream, ours=ours, at_once=at_once)
    return found
