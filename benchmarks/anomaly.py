"""anomaly: `score_one` beside River's half-space trees, on streams with rare classes and injected outliers."""

from __future__ import annotations

import math
import os
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from benchmarks.tables import Findings
from engine import OnlineClassifier
from engine.learner import warmup

LIMIT = 20_000
WARM = 500
"""Events at the start whose scores are not judged: half-space trees have none before their first window ends."""
RARE = 400
SHARE = 0.01
CLUSTERS, FEATURES = 5, 10
RARE_CLASS = ("image_segments", "covertype100k", "outdoor", "weather")
"""Streams whose rarest class, thinned out, is to be told: not those by which the method was chosen."""
RARE_LIMIT, RAREST, THINNED = 8_000, 20, 0.02

COLUMNS = {
    "stream": 0,
    "events": 0,
    "anomalies": 4,
    "everlearn AUC": 4,
    "HST AUC": 4,
    "normal above 0.99": 4,
    "everlearn p50 µs": 0,
    "everlearn p99 µs": 0,
    "HST p50 µs": 0,
    "HST p99 µs": 0,
}


class Stream(NamedTuple):
    """Events in order, and whether each is an anomaly, which no learner is told."""

    events: list[dict[str, Any]]
    odd: NDArray[np.bool_]


def run() -> Findings:
    """ROC AUC and time per event, both without labels, in turns on the same events."""
    found = Findings(
        name="anomaly",
        title="Anomalies without labels: the engine beside half-space trees",
        about=(
            "Every event is scored, then observed; no label is given to anyone. everlearn: the defaults with "
            "`anomaly=True`, its `forecast_one` and `observe`, which make a forecast as well. HST: River's "
            "HalfSpaceTrees after MinMaxScaler, as its documentation has it, seed 42, strings left out. "
            f"The first {LIMIT:,} events at most; AUC over all but the first {WARM}. Normal above 0.99: the "
            "share of normal events whose score is above 0.99. Shuttle: the rare classes. kdd99: normal "
            f"connections and {RARE} attacks drawn from all among them. Rare class: the rarest class with "
            f"{RAREST} events or more among the first {RARE_LIMIT:,} rows, kept in at most {THINNED:.0%}; a rare "
            "class need be no outlier, and these streams had no part in the choice of the method, as the others "
            f"had. Outliers: {CLUSTERS} clusters in "
            f"{FEATURES} dimensions, {SHARE:.0%} of the events replaced: anywhere, values exchanged with other "
            "events, one value moved by 8, all close together between the clusters, or anywhere while the "
            "clusters wander."
        ),
        columns=COLUMNS,
    )
    warmup()
    for name, stream in streams(found):
        _add(found, name, stream)
    if found.rows:
        ahead = sum(row["everlearn AUC"] > row["HST AUC"] for row in found.rows)
        found.notes.append(f"AUC above that of half-space trees on {ahead} of {len(found.rows)} streams.")
    found.notes.append(_labels())
    return found


def _add(found: Findings, name: str, stream: Stream) -> None:
    ours, took = _scored(_everlearn(), stream.events)
    theirs, their_time = _scored(_half_space_trees(), stream.events)
    odd = stream.odd[WARM:]
    found.add(
        **{
            "stream": name,
            "events": len(stream.events),
            "anomalies": float(stream.odd.mean()),
            "everlearn AUC": float(roc_auc_score(odd, ours[WARM:])),
            "HST AUC": float(roc_auc_score(odd, theirs[WARM:])),
            "normal above 0.99": float((ours[WARM:][~odd] > 0.99).mean()),
            "everlearn p50 µs": took[0],
            "everlearn p99 µs": took[1],
            "HST p50 µs": their_time[0],
            "HST p99 µs": their_time[1],
        }
    )


Step = Callable[[dict[str, Any]], float]


def _scored(step: Step, events: list[dict[str, Any]]) -> tuple[NDArray[np.float64], tuple[float, float]]:
    """Scores, (n,), and the median and 99th percentile of the µs that an event took."""
    scores, took = np.zeros(len(events)), np.zeros(len(events))
    for i, x in enumerate(events):
        before = time.perf_counter()
        scores[i] = step(x)
        took[i] = time.perf_counter() - before
    return scores, (1e6 * float(np.median(took)), 1e6 * float(np.quantile(took, 0.99)))


def _everlearn() -> Step:
    model = OnlineClassifier(seed=0, anomaly=True)

    def step(x: dict[str, Any]) -> float:
        kept = model.forecast_one(x)
        model.observe(kept)
        return model.score(kept)

    return step


def _half_space_trees() -> Step:
    from river import anomaly, preprocessing

    model = preprocessing.MinMaxScaler() | anomaly.HalfSpaceTrees(seed=42)

    def step(x: dict[str, Any]) -> float:
        numbers = {name: value for name, value in x.items() if not isinstance(value, str)}
        score = model.score_one(numbers)
        model.learn_one(numbers)
        return float(score)

    return step


def streams(found: Findings) -> Iterator[tuple[str, Stream]]:
    """The streams by name; what is not there is noted."""
    from streams import datasets

    table = datasets.load("shuttle")
    rows = list(table.rows(0, LIMIT))
    common = statistics.mode(table.labels())
    yield "shuttle", Stream([row.x for row in rows], np.array([row.y != common for row in rows]))
    recorded = bool(os.environ.get("EVERLEARN_DATA"))
    if recorded:
        yield "kdd99", _attacks(datasets.load("kdd99"))
    else:
        found.notes.append("Without recorded streams: EVERLEARN_DATA names no folder with them.")
    for name in RARE_CLASS if recorded else RARE_CLASS[:1]:
        yield f"{name}, rare class", _rare_class(datasets.load(name))
    for kind in ("anywhere", "exchanged", "one value", "close together", "wandering"):
        yield f"outliers, {kind}", outliers(kind)


def _rare_class(table: Any) -> Stream:
    rows = list(table.rows(0, RARE_LIMIT))
    counts = Counter(row.y for row in rows)
    rare = min((label for label, n in counts.items() if n >= RAREST), key=lambda label: counts[label])
    kept = THINNED * len(rows) / counts[rare]
    rng = np.random.default_rng(0)
    rows = [row for row in rows if row.y != rare or rng.random() < kept]
    events = [{name: value for name, value in row.x.items() if value is not None} for row in rows]
    return Stream(events, np.array([row.y == rare for row in rows]))


def _attacks(table: Any) -> Stream:
    labels = np.array(table.labels())
    normal = np.flatnonzero(labels == "normal")[: LIMIT - RARE]
    attacks = np.flatnonzero(labels != "normal")
    rng = np.random.default_rng(0)
    drawn = rng.choice(attacks, RARE, replace=False)
    at = np.sort(rng.choice(len(normal) + RARE, RARE, replace=False))  # attacks come in floods: spread them
    odd = np.zeros(len(normal) + RARE, np.bool_)
    odd[at] = True
    order = np.empty(len(odd), np.int64)
    order[odd], order[~odd] = drawn, normal
    wanted = dict.fromkeys(order.tolist())
    held = {row.meta.row: row.x for row in table if row.meta.row in wanted}
    return Stream([held[row] for row in order.tolist()], odd)


def outliers(kind: str, n: int = LIMIT, seed: int = 0) -> Stream:
    """Clusters with outliers of a kind among them; `run` says of which."""
    rng = np.random.default_rng(seed)
    centre = rng.normal(0.0, 4.0, (CLUSTERS, FEATURES))
    shape = rng.normal(0.0, 1.0 / math.sqrt(FEATURES), (CLUSTERS, FEATURES, FEATURES))
    way = rng.normal(0.0, 4.0, (CLUSTERS, FEATURES)) * (kind == "wandering")
    cluster, odd = rng.integers(0, CLUSTERS, n), rng.random(n) < SHARE
    noise = rng.normal(size=(n, FEATURES))
    X = centre[cluster] + way[cluster] * (np.arange(n) / n)[:, None]
    X += np.einsum("nij,nj->ni", shape[cluster], noise)
    low, high = X.min(axis=0), X.max(axis=0)
    for i in np.flatnonzero(odd):
        if kind == "exchanged":
            taken = rng.random(FEATURES) < 0.5
            X[i, taken] = X[rng.integers(n), taken]
        elif kind == "one value":
            X[i, rng.integers(FEATURES)] += rng.choice([-8.0, 8.0])
        elif kind == "close together":
            X[i] = centre.mean(axis=0) + 0.1 * rng.normal(size=FEATURES)
        else:
            X[i] = rng.uniform(low, high)
    return Stream([dict(enumerate(row)) for row in X.tolist()], odd)


def _labels() -> str:
    """With a label: one label in a hundred replaced by another; how well `score_one(x, y)` finds them."""
    stream = outliers("anywhere", n=10_000, seed=1)
    rng = np.random.default_rng(1)
    truth = [int(sum(x.values()) > 0.0) for x in stream.events]
    wrong = rng.random(len(truth)) < SHARE
    model = OnlineClassifier(seed=0, anomaly=True)
    scores = []
    for x, y, flip in zip(stream.events, truth, wrong.tolist(), strict=True):
        kept = model.forecast_one(x)
        label = 1 - y if flip else y
        scores.append(model.score(kept, label))
        model.learn(kept, label)
    judged = ~stream.odd
    judged[:WARM] = False
    area = float(roc_auc_score(wrong[judged], np.array(scores)[judged]))
    return (
        f"With labels (is the sum of the values above 0?), {SHARE:.0%} of them wrong, `score` with the label "
        f"tells wrong ones from right ones among events that are no outliers with an AUC of {area:.4f}."
    )
