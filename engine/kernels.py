"""The hot path: one compiled call does any of forecast, observe and learn for a run of events, in order.

Everything an event needs afterwards stands in its record, a flat float64 row whose offsets `Dim` names. One
entry point serves single events and chunks, so both do the same arithmetic and agree to the bit.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit, types
from numba.experimental import structref
from numpy.typing import NDArray

from engine import mixing, newton
from engine.compiled import entry_point
from engine.layout import CENTRE, MOVES, OBSERVED, SPREAD, STAMP, TIME, VALUE
from engine.rules.local import SQUARE_DECAY, forward_layer, scale_input, update_layer
from memory import neighbours, rates

FORECAST, OBSERVE, LEARN = 1, 2, 4
CLIP = 4.0
SHORT, LONG = 2.0, 24.0
PRIOR_DECAY, SLOW_PRIOR_DECAY = 500.0, 5_000.0
TRANSITION_DECAY = 0.995
FAST = {"reassoc", "contract", "arcp", "nsz", "afn"}

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


class Encoder(NamedTuple):
    """Running statistics of F features and R outcome columns (float64, with room to grow).

    mean, square, seen: Welford's mean, sum of squared deviations and count per feature.
    short, long: (F,) moving averages of the standardised feature over 2 and 24 events; step: (F,) count.
    rate_mean, rate_square, rate_seen: (R,) likewise for outcome columns.
    """

    mean: F64
    square: F64
    seen: F64
    short: F64
    long: F64
    step: F64
    rate_mean: F64
    rate_square: F64
    rate_seen: F64


class Linear(NamedTuple):
    """Softmax regression on features and outcome columns: weight, square (C, D) and bias, bias_square (C,)."""

    weight: F64
    square: F64
    bias: F64
    bias_square: F64


class State(NamedTuple):
    """All that changes while a learner runs.

    tally: (6,) int64 — events observed, labels learned, last label, the one before (−1: none), a stamp
        that moves whenever another recall could find others, and how often stored events changed their slots.
    plain, random: second-order experts; random_weight, random_offset: the ReLU features of the latter.
    prior: (2, C) float64 class counts decayed over 500 and 5,000 labels; regression: (1, 3)
        count, mean and squared deviations of the target.
    transition: (C, C) float64 decayed counts of label after label (1 × 1 without label history).
    """

    encoder: Any
    near: Any
    context: Any
    fast: Any
    slow: Any
    linear: Any
    plain: Any
    random: Any
    random_weight: F32
    random_offset: F32
    mixer: Any
    key_rates: Any
    category_rates: Any
    prior: F64
    transition: F64
    tally: I64
    now: F64


class Scratch(NamedTuple):
    """Working space of the kernels; nothing in it outlives a call."""

    query: F32
    other: F32
    work: F32
    out: F32
    weight: F32
    block: F32
    distance: F64
    slot: I64
    share: F64
    pull: F64
    gradient: F64
    soft: F64
    rank: F64
    x: F32
    x_scaled: F32
    fast_hidden: F32
    fast_slope: F32
    fast_above: F32
    fast_p: F64
    slow_hidden: F32
    slow_slope: F32
    slow_above: F32
    slow_p: F64
    delta: F32
    scaled: F32
    linear_p: F64
    prior: F64
    wide: F64
    u: F64
    newton_p: F64
    logp: F64
    each: F64
    p: F64


class Settings(NamedTuple):
    """Step sizes and the like, all float64."""

    fast_rate: float
    slow_rate: float
    linear_rate: float


@structref.register
class BoundType(types.StructRef):  # type: ignore[misc]
    """The compiled type of `Bound`."""

    def preprocess_fields(self, fields: Any) -> Any:
        """Integers are integers here, not literals."""
        return tuple((name, types.unliteral(kind)) for name, kind in fields)


class Bound(structref.StructRefProxy):  # type: ignore[misc]
    """State, scratch, dim and settings behind one pointer: handing over a hundred arrays costs 20 µs a call."""


structref.define_proxy(Bound, BoundType, ["state", "scratch", "dim", "settings"])


@entry_point()
def bind(state: Any, scratch: Any, dim: Any, settings: Any) -> Any:
    """What `run` works on; to be made anew whenever one of the four is replaced."""
    return Bound(state, scratch, dim, settings)


@njit(fastmath=FAST, nogil=True, error_model="numpy")
def standardise(x: float, mean: float, square: float, seen: float) -> float:
    """x against mean and deviation of all values so far, itself included, clipped to ±4."""
    n = seen + 1.0
    difference = x - mean
    centre = mean + difference / n
    variance = (square + difference * (x - centre)) / n
    if not variance > 1e-24 * (1.0 + centre * centre):
        return 0.0
    return min(max((x - centre) / math.sqrt(variance), -CLIP), CLIP)


@njit(fastmath=FAST, nogil=True, error_model="numpy")
def prior_of(state: Any, dim: Any, which: int, prior: F64) -> None:
    """Class frequencies (C,), recent (0) or of longer (1); or the mean target (1,)."""
    if dim.regression == 1:
        prior[0] = state.prior[0, 1]
        return
    total = 0.0
    for c in range(dim.outputs):
        total += state.prior[which, c] + 0.5
    for c in range(dim.outputs):
        prior[c] = (state.prior[which, c] + 0.5) / total


@njit(fastmath=FAST, nogil=True, error_model="numpy")
def encode(state: Any, dim: Any, scratch: Any, record: F64, keys: I64, categories: I64, base: int) -> None:
    """Outcome columns and features of the event into its inputs, float32 values in float64 places."""
    e = state.encoder
    if dim.rates > 0:
        prior_of(state, dim, 1, scratch.prior)
        split = 0
        if keys.shape[0] > 0:
            split = (
                keys.shape[0]
                * state.key_rates.horizon.shape[0]
                * (rates.rate_columns(dim.outputs) + rates.COUNTS)
            )
            rates.read(
                state.key_rates, keys, record[TIME], scratch.prior, dim.outputs, True,
                record[dim.at_rate : dim.at_rate + split],
            )  # fmt: skip
        rates.read(
            state.category_rates, categories, float(state.tally[0]), scratch.prior, dim.outputs, False,
            record[dim.at_rate + split : dim.at_rate + dim.rates],
        )  # fmt: skip
    for r in range(dim.rates):
        record[base + r] = np.float32(
            standardise(record[dim.at_rate + r], e.rate_mean[r], e.rate_square[r], e.rate_seen[r])
        )
    at = base + dim.rates
    for f in range(dim.features):
        x = record[dim.at_raw + f]
        z = 0.0 if math.isnan(x) else standardise(x, e.mean[f], e.square[f], e.seen[f])
        record[at] = np.float32(z)
        if dim.contexts == 3:
            missing = math.isnan(x)
            record[at + 1] = 0.0 if missing else np.float32(z - e.short[f])
            record[at + 2] = 0.0 if missing else np.float32(z - e.long[f])
        at += dim.contexts


@njit(fastmath=FAST, nogil=True, error_model="numpy")
def observe(state: Any, dim: Any, record: F64, keys: I64, categories: I64, base: int) -> None:
    """Let the event enter the running statistics, the label-free context and its keys' counts of events."""
    e = state.encoder
    for k in range(keys.shape[0]):
        if keys[k] >= 0:
            rates.arrive(state.key_rates, keys[k], record[TIME], dim.outputs)
    for k in range(categories.shape[0]):
        if categories[k] >= 0:
            rates.arrive(state.category_rates, categories[k], float(state.tally[0]), dim.outputs)
    for f in range(dim.features):
        x = record[dim.at_raw + f]
        if math.isnan(x):
            continue
        z = record[base + dim.rates + dim.contexts * f]
        e.seen[f] += 1.0
        difference = x - e.mean[f]
        e.mean[f] += difference / e.seen[f]
        e.square[f] += difference * (x - e.mean[f])
        e.step[f] += 1.0
        e.short[f] += (z - e.short[f]) / min(SHORT, e.step[f])
        e.long[f] += (z - e.long[f]) / min(LONG, e.step[f])
    for r in range(dim.rates):
        x = record[dim.at_rate + r]
        e.rate_seen[r] += 1.0
        difference = x - e.rate_mean[r]
        e.rate_mean[r] += difference / e.rate_seen[r]
        e.rate_square[r] += difference * (x - e.rate_mean[r])
    state.tally[0] += 1
    if record[TIME] > state.now[0]:
        state.now[0] = record[TIME]


@njit(fastmath=FAST, nogil=True, error_model="numpy")
def near_query(dim: Any, record: F64, base: int, query: F32) -> None:
    """The standardised features alone, (F,)."""
    for f in range(dim.features):
        query[f] = np.float32(record[base + dim.rates + dim.contexts * f])


@njit(fastmath=FAST, nogil=True, error_model="numpy")
def context_query(dim: Any, record: F64, base: int, query: F32) -> int:
    """Outcome columns, features and their context, (D,); returns D."""
    d = dim.rates + dim.contexts * dim.features
    for i in range(d):
        query[i] = np.float32(record[base + i])
    return d


@njit(fastmath=FAST, nogil=True, error_model="numpy")
def say(scratch: Any, dim: Any, row: int, values: F64) -> None:
    """Write one expert's forecast: log p floored, or the value."""
    if dim.regression == 1:
        scratch.logp[row, 0] = values[0]
        return
    for c in range(dim.outputs):
        scratch.logp[row, c] = math.log(max(values[c], mixing.FLOOR))


@njit(fastmath=FAST, nogil=True, error_model="numpy")
def consult(
    state: Any, dim: Any, scratch: Any, memory: Any, query: F32, d: int, at: int, record: F64
) -> None:
    """Recall from one neighbour memory: forecasts into soft and rank, who was recalled into the record."""
    k = dim.neighbours
    distance, slot = scratch.distance[:k], scratch.slot[:k]
    found = neighbours.recall(memory, query, d, distance, slot, scratch.work, scratch.weight, scratch.block)
    record[at] = found
    for j in range(found):
        record[at + 1 + j] = slot[j]
        record[at + 1 + k + j] = distance[j]
    if dim.regression == 1:
        soft, rank = neighbours.average(memory, distance, slot, found, scratch.share)
        if found == 0:
            soft = rank = record[CENTRE]
        scratch.soft[0] = (soft - record[CENTRE]) / record[SPREAD]
        scratch.rank[0] = (rank - record[CENTRE]) / record[SPREAD]
    else:
        neighbours.vote(memory, distance, slot, found, dim.outputs, scratch.share, scratch.soft, scratch.rank)


@njit(fastmath=FAST, nogil=True, error_model="numpy")
def remember(state: Any, dim: Any, scratch: Any, memory: Any, query: F32, d: int, at: int, record: F64,
             fresh: bool, target: float) -> None:  # fmt: skip
    """Let the metric learn from the neighbours of a labelled event, then store the event."""
    k = dim.neighbours
    distance, slot = scratch.distance[:k], scratch.slot[:k]
    if dim.metric == 1:
        if fresh:
            found = int(record[at])
            for j in range(found):
                slot[j] = int(record[at + 1 + j])
                distance[j] = record[at + 1 + k + j]
        else:
            found = neighbours.recall(
                memory, query, d, distance, slot, scratch.work, scratch.weight, scratch.block
            )
        neighbours.adapt(
            memory, query, d, target, dim.regression == 1, distance, slot, found, scratch.share, scratch.pull,
            scratch.gradient,
        )  # fmt: skip
    neighbours.store(memory, query, d, target, state.tally[1], scratch.work, scratch.weight, scratch.out)


@njit(fastmath=FAST, nogil=True, error_model="numpy")
def remind(dim: Any, scratch: Any, record: F64, expert: int, values: F64) -> None:
    """What a memory said becomes an input of every layer: log p + 2, floored at p = 0.01; or the value."""
    if dim.recall == 0:
        return
    at = dim.at_input + expert * dim.outputs
    for c in range(dim.outputs):
        if dim.regression == 1:
            record[at + c] = np.float32(values[c])
        else:
            record[at + c] = np.float32(math.log(max(values[c], 0.01)) + 2.0)


@njit(fastmath=FAST, nogil=True, error_model="numpy")
def recall(state: Any, dim: Any, scratch: Any, record: F64, base: int) -> None:
    """Both memories are asked; their forecasts are experts 1 to 4 and inputs of every layer."""
    near_query(dim, record, base, scratch.query)
    consult(state, dim, scratch, state.near, scratch.query, dim.features, dim.at_slot, record)
    say(scratch, dim, 1, scratch.soft)
    say(scratch, dim, 2, scratch.rank)
    remind(dim, scratch, record, 0, scratch.soft)
    remind(dim, scratch, record, 1, scratch.rank)
    d = context_query(dim, record, base, scratch.query)
    at = dim.at_slot + 1 + 2 * dim.neighbours
    consult(state, dim, scratch, state.context, scratch.query, d, at, record)
    say(scratch, dim, 3, scratch.soft)
    say(scratch, dim, 4, scratch.rank)
    remind(dim, scratch, record, 2, scratch.soft)
    remind(dim, scratch, record, 3, scratch.rank)


@njit(fastmath=FAST, nogil=True, error_model="numpy")
def sweep(net: Any, dim: Any, x: F32, hidden: F32, slope: F32, above: F32, p: F64) -> None:
    """Every layer of a network runs once, from the first to the last."""
    for layer in range(dim.depth):
        forward_layer(
            net, layer, dim.width, dim.inputs, dim.outputs, dim.activation, dim.regression == 1,
            above[layer], x, hidden[layer], slope[layer], above[layer + 1], p[layer],
        )  # fmt: skip


@njit(fastmath=FAST, nogil=True, error_model="numpy")
def teach(net: Any, dim: Any, rate: float, step: float, target: float, scratch: Any, hidden: F32, slope: F32,
          above: F32, p: F64) -> None:  # fmt: skip
    """Every layer takes its step from what it read and said in the sweep; no layer needs another's."""
    correction = 1.0 - SQUARE_DECAY**step
    scale_input(net, dim.inputs, correction, scratch.x, scratch.x_scaled)
    for layer in range(dim.depth):
        update_layer(
            net, layer, dim.width, dim.inputs, dim.outputs, dim.regression == 1, rate, correction, target,
            above[layer], scratch.x_scaled, hidden[layer], slope[layer], p[layer], scratch.delta,
            scratch.scaled,
        )  # fmt: skip


@njit(fastmath=FAST, nogil=True, error_model="numpy")
def linear_say(linear: Any, dim: Any, record: F64, base: int, p: F64) -> None:
    """p ← softmax(W x + b), or W x + b for regression."""
    d = dim.rates + dim.contexts * dim.features
    top = -np.inf
    for c in range(dim.outputs):
        z = linear.bias[c]
        for i in range(d):
            z += linear.weight[c, i] * record[base + i]
        p[c] = z
        top = max(top, z)
    if dim.regression == 0:
        total = 0.0
        for c in range(dim.outputs):
            p[c] = math.exp(p[c] - top)
            total += p[c]
        for c in range(dim.outputs):
            p[c] /= total


@njit(fastmath=FAST, nogil=True, error_model="numpy")
def linear_learn(linear: Any, dim: Any, record: F64, base: int, p: F64, target: float, rate: float) -> None:
    """One AdaGrad step (Duchi et al. 2011) of softmax regression."""
    d = dim.rates + dim.contexts * dim.features
    for c in range(dim.outputs):
        if dim.regression == 1:
            e = min(max(p[c] - target, -3.0), 3.0)
        else:
            e = p[c] - (1.0 if c == int(target) else 0.0)
        linear.bias_square[c] += e * e
        linear.bias[c] -= rate * e / (math.sqrt(linear.bias_square[c]) + 1e-8)
        for i in range(d):
            g = e * record[base + i]
            linear.square[c, i] += g * g
            linear.weight[c, i] -= rate * g / (math.sqrt(linear.square[c, i]) + 1e-8)


@njit(fastmath=FAST, nogil=True, error_model="numpy")
def newton_say(state: Any, dim: Any, scratch: Any, record: F64, base: int) -> None:
    """The four second-order experts forecast; their inputs stay in scratch.wide for `newton_learn`."""
    wide = scratch.wide
    wide[0] = 1.0
    for r in range(dim.plain_rates):
        wide[1 + r] = record[base + r]
    stride = dim.plain_stride
    for f in range(dim.features):
        for part in range(stride):
            wide[1 + dim.plain_rates + f * stride + part] = record[base + dim.rates + f * dim.contexts + part]
    read = max(stride, 1)
    for r in range(dim.rates):
        scratch.query[r] = np.float32(record[base + r])
    for f in range(dim.features):
        for part in range(read):
            scratch.query[dim.rates + f * read + part] = np.float32(
                record[base + dim.rates + f * dim.contexts + part]
            )
    newton.relu_features(
        state.random_weight, state.random_offset, scratch.query, dim.rates + read * dim.features,
        wide[dim.plain : dim.random],
    )  # fmt: skip
    regression = dim.regression == 1
    for m in range(2):
        newton.say(state.plain, m, wide, dim.plain, dim.outputs, regression, scratch.newton_p[m])
        newton.say(state.random, m, wide, dim.random, dim.outputs, regression, scratch.newton_p[2 + m])


@njit(fastmath=FAST, nogil=True, error_model="numpy")
def newton_learn(state: Any, dim: Any, scratch: Any, target: float, weight: float) -> None:
    """The four second-order experts take their steps."""
    regression = dim.regression == 1
    for m in range(2):
        prior = newton.PRIORS[m]
        newton.learn(
            state.plain, m, prior, scratch.wide, dim.plain, dim.outputs, regression, scratch.newton_p[m],
            target, weight, scratch.u,
        )  # fmt: skip
        newton.learn(
            state.random, m, prior, scratch.wide, dim.random, dim.outputs, regression,
            scratch.newton_p[2 + m], target, weight, scratch.u,
        )  # fmt: skip


@njit(fastmath=FAST, nogil=True, error_model="numpy")
def simple_experts(state: Any, dim: Any, scratch: Any, record: F64) -> None:
    """The prior (expert 0) and, with label history, last label and transitions (the last two experts)."""
    p = scratch.soft
    if dim.regression == 1:
        p[0] = 0.0
        say(scratch, dim, 0, p)
        if dim.history > 0:
            p[0] = (state.transition[0, 0] - record[CENTRE]) / record[SPREAD]
            say(scratch, dim, dim.experts - 2, p)
            say(scratch, dim, dim.experts - 1, p)
        return
    prior_of(state, dim, 0, p)
    say(scratch, dim, 0, p)
    if dim.history > 0:
        last = state.tally[2]
        for c in range(dim.outputs):
            p[c] = 0.9 if c == last else 0.1 / max(dim.outputs - 1, 1)
        say(scratch, dim, dim.experts - 2, p)
        total = 0.0
        for c in range(dim.outputs):
            p[c] = state.transition[max(last, 0), c] + 0.5 / dim.outputs
            total += p[c]
        for c in range(dim.outputs):
            p[c] /= total
        say(scratch, dim, dim.experts - 1, p)


@njit(fastmath=FAST, nogil=True, error_model="numpy")
def centre_and_spread(seen: F64) -> tuple[float, float]:
    """Mean and standard deviation of the targets so far; (0, 1) before there are two different ones."""
    if seen[0] < 1.0:
        return 0.0, 1.0
    variance = seen[2] / seen[0]
    if not variance > 1e-24 * (1.0 + seen[1] * seen[1]):
        return seen[1], max(abs(seen[1]), 1.0)
    return seen[1], math.sqrt(variance)


@njit(fastmath=FAST, nogil=True, error_model="numpy")
def follow(state: Any, dim: Any, target: float, weight: float) -> None:
    """Class frequencies and the sequence of labels advance by one label."""
    if dim.regression == 1:
        seen = state.prior[0]
        seen[0] += 1.0
        difference = target - seen[1]
        seen[1] += difference / seen[0]
        seen[2] += difference * (target - seen[1])
        if dim.history > 0:
            state.transition[0, 0] = target
        return
    label = int(target)
    for c in range(dim.outputs):
        state.prior[0, c] *= 1.0 - 1.0 / PRIOR_DECAY
        state.prior[1, c] *= 1.0 - 1.0 / SLOW_PRIOR_DECAY
    state.prior[0, label] += weight
    state.prior[1, label] += weight
    if dim.history > 0:
        last = state.tally[2]
        if last >= 0:
            for c in range(dim.outputs):
                state.transition[last, c] *= TRANSITION_DECAY
            state.transition[last, label] += weight
    state.tally[3] = state.tally[2]
    state.tally[2] = label


@entry_point(fastmath=FAST, nogil=True, error_model="numpy")
def run(
    operations: int, bound: Any, X: F64, times: F64, keys: I64, categories: I64, targets: F64, weights: F64,
    record: F64, out: F64,
) -> None:  # fmt: skip
    """Do FORECAST, OBSERVE and LEARN (those set in `operations`), in this order, for each of n events.

    X: (n, F) float64, NaN for missing; times: (n,); keys: (n, fields) rows of the outcome statistics, −1 for
    unknown; categories likewise; targets, weights: (n,); weight 0 teaches nothing. record: (size,) float64,
    the kept forecast, read and written; out: (n, C) float64, the forecasts.
    """
    state, scratch, dim, settings = bound.state, bound.scratch, bound.dim, bound.settings
    n = times.shape[0]
    regression = dim.regression == 1
    base = dim.at_input + dim.recall + dim.history
    forecasting = operations & FORECAST != 0
    learning = operations & LEARN != 0
    logp, each, p = scratch.logp, scratch.each, scratch.p
    linear_at = 7
    for row in range(n):
        if forecasting:
            record[STAMP] = state.tally[4]
            record[MOVES] = state.tally[5]
            record[TIME] = float(state.tally[0]) if math.isnan(times[row]) else times[row]
            record[OBSERVED] = 0.0
            record[CENTRE], record[SPREAD] = 0.0, 1.0
            if regression:
                record[CENTRE], record[SPREAD] = centre_and_spread(state.prior[0])
            for f in range(dim.features):
                record[dim.at_raw + f] = X[row, f]
            encode(state, dim, scratch, record, keys[row], categories[row], base)
            for c in range(dim.history):
                record[dim.at_input + dim.recall + c] = 1.0 if state.tally[2] == c else 0.0
            if regression and dim.history > 0:
                record[dim.at_input + dim.recall] = np.float32(
                    (state.transition[0, 0] - record[CENTRE]) / record[SPREAD]
                )
            recall(state, dim, scratch, record, base)
            simple_experts(state, dim, scratch, record)
        if forecasting or learning:
            for i in range(dim.inputs):
                scratch.x[i] = np.float32(record[dim.at_input + i])
            if settings.fast_rate > 0.0:
                sweep(state.fast, dim, scratch.x, scratch.fast_hidden, scratch.fast_slope, scratch.fast_above,
                      scratch.fast_p)  # fmt: skip
            if settings.slow_rate > 0.0:
                sweep(state.slow, dim, scratch.x, scratch.slow_hidden, scratch.slow_slope, scratch.slow_above,
                      scratch.slow_p)  # fmt: skip
            linear_say(state.linear, dim, record, base, scratch.linear_p)
            newton_say(state, dim, scratch, record, base)
        if forecasting:
            say(scratch, dim, 5, scratch.fast_p[dim.depth - 1])
            say(scratch, dim, 6, scratch.slow_p[dim.depth - 1])
            say(scratch, dim, linear_at, scratch.linear_p)
            for m in range(4):
                say(scratch, dim, linear_at + 1 + m, scratch.newton_p[m])
            if regression:
                p[0] = mixing.mix_values(state.mixer, logp, dim.experts, each)
            else:
                mixing.mix(state.mixer, logp, dim.experts, dim.outputs, each, p)
            for c in range(dim.outputs):
                out[row, c] = p[c] * record[SPREAD] + record[CENTRE]
                record[VALUE] = out[row, 0]  # rounded once, here, for arrays and single events alike
                record[dim.at_p + c] = p[c]
                for k in range(dim.experts):
                    record[dim.at_logp + k * dim.outputs + c] = logp[k, c]
                for m in range(each.shape[0]):
                    record[dim.at_each + m * dim.outputs + c] = each[m, c]
        if operations & OBSERVE != 0:
            observe(state, dim, record, keys[row], categories[row], base)
            record[OBSERVED] = float(state.tally[0])
        if learning and weights[row] > 0.0:
            weight, target = weights[row], targets[row]
            fresh = int(record[STAMP]) == state.tally[4]
            for c in range(dim.outputs):
                for k in range(dim.experts):
                    logp[k, c] = record[dim.at_logp + k * dim.outputs + c]
                for m in range(each.shape[0]):
                    each[m, c] = record[dim.at_each + m * dim.outputs + c]
            inner = target
            if regression:
                inner = (target - record[CENTRE]) / record[SPREAD]
                if record[CENTRE] != 0.0 or record[SPREAD] != 1.0:  # the target's scale was known by then
                    mixing.weigh_values(state.mixer, logp, dim.experts, each, inner, weight)
                centre, spread = centre_and_spread(state.prior[0])
                inner = (target - centre) / spread
            else:
                mixing.weigh(state.mixer, logp, dim.experts, dim.outputs, each, int(target), weight)
            step = float(state.tally[1] + 1)
            if settings.fast_rate > 0.0:
                teach(state.fast, dim, settings.fast_rate * weight, step, inner, scratch, scratch.fast_hidden,
                      scratch.fast_slope, scratch.fast_above, scratch.fast_p)  # fmt: skip
            if settings.slow_rate > 0.0:
                teach(state.slow, dim, settings.slow_rate * weight, step, inner, scratch, scratch.slow_hidden,
                      scratch.slow_slope, scratch.slow_above, scratch.slow_p)  # fmt: skip
            linear_learn(state.linear, dim, record, base, scratch.linear_p, inner,
                         settings.linear_rate * weight)  # fmt: skip
            newton_learn(state, dim, scratch, inner, weight)
            near_query(dim, record, base, scratch.query)
            remember(state, dim, scratch, state.near, scratch.query, dim.features, dim.at_slot, record,
                     fresh, target)  # fmt: skip
            d = context_query(dim, record, base, scratch.query)
            remember(state, dim, scratch, state.context, scratch.query, d,
                     dim.at_slot + 1 + 2 * dim.neighbours, record, fresh, target)  # fmt: skip
            for k in range(keys.shape[1]):
                if keys[row, k] >= 0:
                    rates.outcome(
                        state.key_rates, keys[row, k], record[TIME], target, weight, dim.outputs, regression
                    )
            for k in range(categories.shape[1]):
                if categories[row, k] >= 0:
                    rates.outcome(
                        state.category_rates, categories[row, k], record[OBSERVED] - 1.0, target, weight,
                        dim.outputs, regression,
                    )  # fmt: skip
            follow(state, dim, target, weight)
            state.tally[1] += 1
            state.tally[4] += 1
