"""How unlike what came before an event is: its distance to the nearest of a few earlier events, many times over.

512 earlier events stand in 64 groups of 8; an event's surprise is

    s = ln(median_g min_{j in g} D(x, x_j) + 0.001),
    D(x, x_j) = Σ_f min(|x_f − x_jf| / σ_f, 10),

with σ_f the deviation of all values of feature f so far, the present one included; where one of the two is
missing the term is min(1/√(p_f (1 − p_f)), 10), p_f the share of events that had f. Few events per group
(Sugiyama and Borgwardt 2013, "Rapid distance-based outlier detection via sampling") and the median over groups
keep a rare kind of event unlike the others, however close together its own lie. One event in 16 is stored, over
another drawn at random, so that the memory reaches back 8,192 events on average.

A surprise becomes a score by its rank among the last n, half of all so far and at most 4,096, so that a start
that knew little is soon left out: 1 − (r + ½)/(n + 1), r of them at least as great; for one above all of them
e^{−(s − max)} stands in the place of ½. (1 − score is the p-value of conformal prediction: Laxhammar and
Falkman 2010.)
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

GROUPS, MEMBERS = 64, 8
EVENTS = GROUPS * MEMBERS
WORK = 32_768  # features times groups that are compared; with more than 512 features fewer groups are read
FEWEST = 8  # groups
STORED = 16
RECENT = 4_096
FARTHEST = 10.0
NEAREST = 1e-3

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
part = njit(nogil=True, error_model="numpy")


class Seen(NamedTuple):
    """Earlier events, and the statistics by which they are compared; room for `d` features.

    values: (d, EVENTS) float64, NaN where missing; column g · MEMBERS + j is member j of group g.
    filled: (EVENTS,) bool.  mean, square, there: (d,) float64, Welford's statistics of the values that were
    there.  events: (1,) int64, how many were taken in.  random: (1,) uint64, of the places that are written over.
    """

    values: F64
    filled: NDArray[np.bool_]
    mean: F64
    square: F64
    there: F64
    events: I64
    random: NDArray[np.uint64]


class Recent(NamedTuple):
    """The last surprises of one kind: value (RECENT,) float64; place (2,) int64, the next one, how many ever."""

    value: F64
    place: I64


def allocate(features: int, seed: int) -> Seen:
    """Nothing seen yet, with room for so many features."""
    rows = max(features, 1)
    return Seen(
        values=np.full((rows, EVENTS), np.nan),
        filled=np.zeros(EVENTS, np.bool_),
        mean=np.zeros(rows),
        square=np.zeros(rows),
        there=np.zeros(rows),
        events=np.zeros(1, np.int64),
        random=np.array([seed], np.uint64),
    )


def widened(seen: Seen, features: int) -> Seen:
    """The same with room for at least so many features, a quarter more at a time; new ones were missing."""
    have = len(seen.mean)
    if features <= have:
        return seen
    wide = allocate(features + features // 4, 0)
    wide.values[:have] = seen.values
    for name in ("mean", "square", "there"):
        getattr(wide, name)[:have] = getattr(seen, name)
    return wide._replace(filled=seen.filled, events=seen.events, random=seen.random)


def recent() -> Recent:
    """No surprises yet."""
    return Recent(value=np.zeros(RECENT), place=np.zeros(2, np.int64))


@part
def gap(present: float, events: float) -> float:
    """What it counts that a feature is there in one of two events alone: 1 over its presence's deviation."""
    share = present / events
    variance = share * (1.0 - share)
    return min(1.0 / math.sqrt(variance), FARTHEST) if variance > 0.0 else 0.0


@part
def surprise(seen: Any, x: F64, farther: float, distance: F64) -> float:
    """s of x, (F,) float64 with NaN for missing; farther: added to each distance; distance: room, (EVENTS,)."""
    d = x.shape[0]
    groups = max(FEWEST, min(GROUPS, WORK // max(d, 1)))
    end = groups * MEMBERS
    for k in range(end):
        distance[k] = farther if seen.filled[k] else np.inf
    events = seen.events[0] + 1.0
    for f in range(d):
        value, count, row = x[f], seen.there[f], seen.values[f]
        if math.isnan(value):
            missing = gap(count, events)
            if missing > 0.0:
                for k in range(end):
                    distance[k] += 0.0 if math.isnan(row[k]) else missing
            continue
        missing = gap(count + 1.0, events)
        difference = value - seen.mean[f]
        centre = seen.mean[f] + difference / (count + 1.0)
        variance = (seen.square[f] + difference * (value - centre)) / (count + 1.0)
        scale = 1.0 / math.sqrt(variance) if variance > 1e-24 * (1.0 + centre * centre) else 0.0
        for k in range(end):
            away = min(abs(row[k] - value) * scale, FARTHEST)
            distance[k] += missing if math.isnan(row[k]) else away
    nearby, read = np.empty(groups), 0
    for g in range(groups):
        nearest = np.inf
        for k in range(g * MEMBERS, (g + 1) * MEMBERS):
            nearest = min(nearest, distance[k])
        if nearest < np.inf:
            nearby[read] = nearest
            read += 1
    return math.log(np.median(nearby[:read]) + NEAREST) if read else 0.0


@part
def drawn(random: NDArray[np.uint64]) -> int:
    """A number from 0 to 2³¹ − 1 (SplitMix64, Steele et al. 2014)."""
    random[0] += np.uint64(0x9E3779B97F4A7C15)
    z = random[0]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return int((z ^ (z >> np.uint64(31))) >> np.uint64(33))


@part
def place_of_next(seen: Any) -> int:
    """Where the next event is stored, −1 for nowhere: a drawn one of the empty places, else of all.

    Places in turn would part the groups by what comes in turns.
    """
    number = drawn(seen.random)
    empty = EVENTS - seen.filled.sum()
    if empty == 0:
        return number // STORED % EVENTS if number % STORED == 0 else -1
    left = number % empty
    for at in range(EVENTS):
        if not seen.filled[at]:
            if left == 0:
                return at
            left -= 1
    return -1


@part
def take(seen: Any, x: F64) -> int:
    """Let an event enter the statistics, and perhaps the memory; its place there, or −1."""
    for f in range(x.shape[0]):
        value = x[f]
        if not math.isnan(value):
            seen.there[f] += 1.0
            difference = value - seen.mean[f]
            seen.mean[f] += difference / seen.there[f]
            seen.square[f] += difference * (value - seen.mean[f])
    at = place_of_next(seen)
    seen.events[0] += 1
    if at >= 0:
        seen.filled[at] = True
        for f in range(seen.values.shape[0]):
            seen.values[f, at] = x[f] if f < x.shape[0] else np.nan
    return at


@part
def push(recent: Any, value: float) -> None:
    """One more surprise, over the oldest."""
    recent.value[recent.place[0]] = value
    recent.place[0] = (recent.place[0] + 1) % RECENT
    recent.place[1] += 1


@part
def at_least(values: F64, value: float) -> int:
    """How many of the values are as great or greater."""
    n = 0
    for i in range(values.shape[0]):
        n += values[i] >= value
    return n


@part
def unlikely(recent: Any, value: float) -> float:
    """The share of recent surprises that are at least as great, in (0, 1]; 1 before there is any."""
    n = min((recent.place[1] + 1) // 2, RECENT)
    if n == 0:
        return 1.0
    newest = recent.value[max(recent.place[0] - n, 0) : recent.place[0]]
    above = at_least(newest, value)
    others = recent.value[RECENT - (n - newest.shape[0]) :]
    above += at_least(others, value)
    rest = 0.5
    if above == 0:
        greatest = newest.max() if newest.shape[0] else -np.inf
        if others.shape[0]:
            greatest = max(greatest, others.max())
        rest = math.exp(max(greatest - value, -700.0))
    return (above + rest) / (n + 1.0)
