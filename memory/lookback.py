"""Over how many events each feature's context looks back: as many as tell most about the label.

Context is what is new about a value: its distance c = z − E_h from a moving average over h events, E_h ← E_h +
(z − E_h)/min(h, i). Each feature has two, over `LENGTHS[SHORT]` events and over a horizon of its own,
`LENGTHS[USUAL]` at first. What a horizon would be worth is measured at every label, for all of `LENGTHS` side by
side: the mutual information of the label's bucket y (its class's number modulo `BUCKETS`, or a range of numbers)
and of the bin b that c falls in, bins of a quarter of c's root mean square each, in nats, less what chance gives
(Miller 1955):

    I = Σ_b,y n_by/n · log(n_by n / (n_b n_y)) − (B − 1)(Y − 1)/2n

B and Y count what is not empty; every label counts once, whatever it weighs. When the labels have doubled, from
`FIRST` to `MOST`, and then every `MOST`, a feature that had a value with at least `FIRST` of them takes the
horizon with the greatest I, if that exceeds by `NOISE`/√n and the share `BETTER` both I of the horizon that it
has and I of z itself: where the past of a feature tells nothing, longer and longer averages come ever nearer to
z, and nothing speaks for any of them. What is counted is what stood in the record of the label's event, so
labels that come late count like others.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

LENGTHS = np.array([2.0, 6.0, 12.0, 24.0, 48.0, 96.0, 192.0, 384.0])  # events
SHORT, USUAL = 0, 3  # places in it
TRIED = len(LENGTHS)
BUCKETS, BINS = 8, 16
BETTER, NOISE = 0.05, 0.7  # another horizon must tell more by this share, and by NOISE/√n
FIRST, MOST = 1_024.0, 8_192.0  # labels before the first choice, and after which half of the counts is left
FAST = {"reassoc", "contract", "nsz"}
part = njit(fastmath=FAST, nogil=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


class Lookback(NamedTuple):
    """Moving averages of F features, and what their contexts have told about labels.

    mean: (TRIED, F) float64, the averages; chosen: (F,) int64, places in `LENGTHS`. cells: (F, TRIED + 1, BINS,
    BUCKETS) float32, labels by bin of the context, in the last row of z itself, and bucket; square: (F,
    TRIED + 1) float64, sums of squares of the same; seen: (F,) how many. labels: (2,) float64, labels counted,
    and the number from which on the features are judged next, one per label;
    infinite: nothing is counted or judged.
    """

    mean: F64
    chosen: I64
    cells: F32
    square: F64
    seen: F64
    labels: F64


def allocate(features: int) -> Lookback:
    """Nothing seen yet."""
    return Lookback(
        mean=np.zeros((TRIED, features)),
        chosen=np.full(features, USUAL, np.int64),
        cells=np.zeros((features, TRIED + 1, BINS, BUCKETS), np.float32),
        square=np.zeros((features, TRIED + 1)),
        seen=np.zeros(features),
        labels=np.array([0.0, FIRST]),
    )


def before(short: F64, long: F64) -> Lookback:
    """What a learner had that knew the averages over 2 and 24 events alone: it keeps to them."""
    fresh = allocate(len(short))
    fresh.mean[...] = long
    fresh.mean[SHORT] = short
    fresh.labels[1] = np.inf
    return fresh


def grown(past: Lookback, features: int) -> Lookback:
    """The same with room for more features, of which nothing is known yet."""
    held = past.mean.shape[1]
    if features == held:
        return past
    fresh, shared = allocate(features), min(held, features)
    fresh.mean[:, :shared] = past.mean[:, :shared]
    for name in ("chosen", "cells", "square", "seen"):
        getattr(fresh, name)[:shared] = getattr(past, name)[:shared]
    fresh.labels[...] = past.labels
    return fresh


@part
def compare(past: Any, feature: int, z: float, tried: F32) -> None:
    """tried[:, feature] ← z against the averages; tried: (TRIED · F,) float32, NaN where z is missing."""
    features = past.mean.shape[1]
    for j in range(TRIED):
        tried[j * features + feature] = np.float32(z - past.mean[j, feature])


@part
def pass_on(past: Any, feature: int, z: float, number: float) -> None:
    """The averages advance by the feature's value; number: its values so far, this one included."""
    for j in range(TRIED):
        past.mean[j, feature] += (z - past.mean[j, feature]) / min(LENGTHS[j], number)


@part
def learn(past: Any, encoded: F64, stride: int, tried: F32, bucket: int) -> None:
    """A label in this bucket: what its event's contexts told; encoded: z of feature f at f · stride."""
    features, labels = past.mean.shape[1], past.labels
    if not labels[1] < np.inf:
        return
    for f in range(features):
        if tried[f] == tried[f]:
            past.seen[f] += 1.0
            for j in range(TRIED):
                note(past, f, j, tried[j * features + f], bucket)
            note(past, f, TRIED, encoded[f * stride], bucket)
    labels[0] += 1.0
    turn = int(labels[0] - labels[1])
    if 0 <= turn < features:
        past.chosen[turn] = best(past, turn)
        if past.seen[turn] >= MOST:
            halve(past, turn)
    if turn >= features:
        labels[1] += min(labels[1], MOST)


@part
def note(past: Any, feature: int, row: int, c: float, bucket: int) -> None:
    """One context of one event; the bins follow its root mean square."""
    square = past.square[feature, row] + c * c
    past.square[feature, row] = square
    place = BINS // 2
    if square > 0.0:
        place += math.floor(min(max(4.0 * c * math.sqrt(past.seen[feature] / square), -BINS), BINS))
    past.cells[feature, row, min(max(place, 0), BINS - 1), bucket] += np.float32(1.0)


@part
def halve(past: Any, feature: int) -> None:
    """Half of what was counted is left, so that what comes later counts for more."""
    past.seen[feature] *= 0.5
    for row in range(TRIED + 1):
        past.square[feature, row] *= 0.5
        for b in range(BINS):
            for y in range(BUCKETS):
                past.cells[feature, row, b, y] *= np.float32(0.5)


@part
def told(past: Any, feature: int, row: int) -> float:
    """I of one context of a feature, of z itself in row TRIED, in nats."""
    cells = past.cells[feature, row]
    n, total, kinds, bins = 0.0, 0.0, 0, 0
    for y in range(BUCKETS):
        held = 0.0
        for b in range(BINS):
            held += cells[b, y]
        if held > 0.0:
            n += held
            total -= held * math.log(held)
            kinds += 1
    for b in range(BINS):
        held = 0.0
        for y in range(BUCKETS):
            m = cells[b, y]
            if m > 0.0:
                held += m
                total += m * math.log(m)
        if held > 0.0:
            total -= held * math.log(held)
            bins += 1
    if not n > 0.0:
        return 0.0
    return total / n + math.log(n) - (bins - 1) * (kinds - 1) / (2.0 * n)


@part
def best(past: Any, feature: int) -> int:
    """The place of the horizon that the feature shall have."""
    now = past.chosen[feature]
    if past.seen[feature] < FIRST:
        return now
    known = max(told(past, feature, TRIED), told(past, feature, now), 0.0)
    bar = (known + NOISE / math.sqrt(past.seen[feature])) * (1.0 + BETTER)
    for j in range(SHORT + 1, TRIED):
        value = told(past, feature, j)
        if value > bar:
            now, bar = j, value
    return now
