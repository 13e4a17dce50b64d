"""flights_year: all flights of 2013; the engine beside a regression that is given the same outcome rates."""

from __future__ import annotations

import numpy as np

from benchmarks.flights import Kept, Recorded, add, joined
from benchmarks.rates import outcome_rates
from benchmarks.tables import Findings
from engine import OnlineClassifier
from engine.demo import KEYS
from engine.evaluate.peers import make_peer
from engine.evaluate.prequential import evaluate
from engine.learner import warmup
from streams.flights import flights_table

MONTHS = tuple(range(1, 13))
PEER = "river-logistic-adagrad"
COLUMNS = {"learner": 0, "outcome rates": 0, "AUC": 4, "log loss": 4, "accuracy": 4}


def run(months: tuple[int, ...] = MONTHS) -> Findings:
    """AUC and log loss over the year, as `flights` measures two months of it."""
    table = flights_table(months)
    found = Findings(
        name="flights_year",
        title="Flights of a whole year: will they arrive 15 minutes late, or not at all?",
        about=(
            f"The {len(table):,} departures from New York in 2013, as in [flights](flights.md): forecast at "
            "scheduled departure, learned hours later. Beside the engine the best of River's learners there, "
            "given the same outcome rates as features."
        ),
        columns=COLUMNS,
    )
    warmup()
    add(found, "everlearn", "as context", evaluate(Kept(OnlineClassifier(seed=0, keys=KEYS)), table))
    columns = {name: [row.x[name] for row in table.rows()] for name in table.columns}
    y = np.array(table.labels(), dtype=np.int64)
    rates, names = outcome_rates(columns, KEYS, y, np.array(table.times()), np.array(table.label_times()))
    peer = Recorded(make_peer(PEER))
    add(found, peer.model.title, "as features", evaluate(peer, joined(table, columns, rates, names)))
    return found
