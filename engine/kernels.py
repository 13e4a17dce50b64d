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

FORECAST, OBSERVE, LEARN, WARM = 1, 2, 4, 8
CLIP = 4.0
SHORT, LONG = 2.0, 24.0
PRIOR_DECAY, SLOW_PRIOR_DECAY = 500.0, 5_000.0
TRANSITION_DECAY = 0.995
FAST = {"reassoc", "contract", "arcp", "nsz", "afn"}
part = njit(
    fastmath=FAST, nogil=True, error_model="numpy", forceinline=True
)  # states are costly to hand over

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

    near: Any
    context: Any
    query: F32
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
    sway: F32
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


@part
def standardise(x: float, mean: float, square: float, seen: float) -> float:
    """x against mean and deviation of all values so far, itself included, clipped to ±4."""
    n = seen + 1.0
    difference = x - mean
    centre = mean + difference / n
    variance = (square + difference * (x - centre)) / n
    if not variance > 1e-24 * (1.0 + centre * centre):
        return 0.0
    return min(max((x - centre) / math.sqrt(variance), -CLIP), CLIP)


@part
def prior_of(counts: F64, regression: bool, prior: F64) -> None:
    """Class frequencies (C,) from their decayed counts; or the mean target (1,) from (3,) statistics."""
    if regression:
        prior[0] = counts[1]
        return
    total = 0.0
    for c in range(prior.shape[0]):
        total += counts[c] + 0.5
    for c in range(prior.shape[0]):
        prior[c] = (counts[c] + 0.5) / total


@part
def outcome_columns(
    key_rates: Any, category_rates: Any, prior: F64, dim: Any, time: float, number: float, keys: I64,
    categories: I64, out: F64,
) -> None:  # fmt: skip
    """What is known of the outcomes of the event's keys and categories, (rates,)."""
    split = 0
    if keys.shape[0] > 0:
        split = keys.shape[0] * key_rates.horizon.shape[0] * (rates.rate_columns(dim.outputs) + rates.COUNTS)
        rates.read(key_rates, keys, time, prior, dim.outputs, True, out[:split])
    rates.read(category_rates, categories, number, prior, dim.outputs, False, out[split : dim.rates])


@part
def encode(e: Any, dim: Any, raw: F64, rate: F64, out: F64) -> None:
    """Outcome columns (rates,) and features (F,) as inputs, float32 values in float64 places."""
    for r in range(dim.rates):
        out[r] = np.float32(standardise(rate[r], e.rate_mean[r], e.rate_square[r], e.rate_seen[r]))
    at = dim.rates
    for f in range(dim.features):
        x = raw[f]
        missing = math.isnan(x)
        z = 0.0 if missing else standardise(x, e.mean[f], e.square[f], e.seen[f])
        out[at] = np.float32(z)
        if dim.contexts == 3:
            out[at + 1] = 0.0 if missing else np.float32(z - e.short[f])
            out[at + 2] = 0.0 if missing else np.float32(z - e.long[f])
        at += dim.contexts


@part
def arrive(table: Any, rows: I64, time: float, outputs: int) -> None:
    """One more event of each row's key."""
    for k in range(rows.shape[0]):
        if rows[k] >= 0:
            rates.arrive(table, rows[k], time, outputs)


@part
def observe(e: Any, dim: Any, raw: F64, rate: F64, encoded: F64) -> None:
    """Let the event enter the running statistics and the label-free context."""
    for f in range(dim.features):
        x = raw[f]
        if math.isnan(x):
            continue
        z = encoded[dim.rates + dim.contexts * f]
        e.seen[f] += 1.0
        difference = x - e.mean[f]
        e.mean[f] += difference / e.seen[f]
        e.square[f] += difference * (x - e.mean[f])
        e.step[f] += 1.0
        e.short[f] += (z - e.short[f]) / min(SHORT, e.step[f])
        e.long[f] += (z - e.long[f]) / min(LONG, e.step[f])
    for r in range(dim.rates):
        x = rate[r]
        e.rate_seen[r] += 1.0
        difference = x - e.rate_mean[r]
        e.rate_mean[r] += difference / e.rate_seen[r]
        e.rate_square[r] += difference * (x - e.rate_mean[r])


@part
def near_query(dim: Any, encoded: F64, query: F32) -> None:
    """The standardised features alone, (F,)."""
    for f in range(dim.features):
        query[f] = np.float32(encoded[dim.rates + dim.contexts * f])


@part
def context_query(dim: Any, encoded: F64, query: F32) -> int:
    """Outcome columns, features and their context, (D,); returns D."""
    d = dim.rates + dim.contexts * dim.features
    for i in range(d):
        query[i] = np.float32(encoded[i])
    return d


@part
def say(logp: F64, regression: bool, row: int, values: F64) -> None:
    """Write one expert's forecast: log p floored, or the value."""
    said = logp[row]
    if regression:
        said[0] = values[0]
        return
    for c in range(said.shape[0]):
        said[c] = math.log(max(values[c], mixing.FLOOR))


@part
def consult(
    dim: Any, memory: Any, search: Any, query: F32, d: int, at: int, record: F64, soft_p: F64, rank_p: F64
) -> None:
    """Recall from one neighbour memory: its two forecasts, and who was recalled into the record."""
    k = dim.neighbours
    distance, slot = search.distance, search.slot
    found = neighbours.recall(memory, search, query, d)
    record[at] = found
    for j in range(found):
        record[at + 1 + j] = slot[j]
        record[at + 1 + k + j] = distance[j]
    if dim.regression == 1:
        soft, rank = neighbours.average(memory, distance, slot, found, search.share)
        if found == 0:
            soft = rank = record[CENTRE]
        soft_p[0] = (soft - record[CENTRE]) / record[SPREAD]
        rank_p[0] = (rank - record[CENTRE]) / record[SPREAD]
    else:
        neighbours.vote(memory, distance, slot, found, dim.outputs, search.share, soft_p, rank_p)


@part
def remember(dim: Any, memory: Any, search: Any, query: F32, d: int, at: int, record: F64, fresh: bool,
             target: float, serial: int) -> None:  # fmt: skip
    """Let the metric learn from the neighbours of a labelled event, then store the event."""
    k = dim.neighbours
    if dim.metric == 1:
        if fresh:
            found = int(record[at])
            for j in range(found):
                search.slot[j] = int(record[at + 1 + j])
                search.distance[j] = record[at + 1 + k + j]
        else:
            found = neighbours.recall(memory, search, query, d)
        neighbours.adapt(memory, search, query, d, target, dim.regression == 1, found)
    neighbours.store(memory, search, query, d, target, serial)


@part
def remind(dim: Any, expert: int, values: F64, record: F64) -> None:
    """What a memory said becomes an input of every layer: log p + 2, floored at p = 0.01; or the value."""
    if dim.recall == 0:
        return
    at = dim.at_input + expert * dim.outputs
    for c in range(dim.outputs):
        if dim.regression == 1:
            record[at + c] = np.float32(values[c])
        else:
            record[at + c] = np.float32(math.log(max(values[c], 0.01)) + 2.0)


@part
def sweep(net: Any, dim: Any, x: F32, hidden: F32, slope: F32, above: F32, p: F64) -> None:
    """Every layer of a network runs once, from the first to the last."""
    for layer in range(dim.depth):
        forward_layer(
            net, layer, dim.width, dim.inputs, dim.outputs, dim.activation, dim.regression == 1,
            above[layer], x, hidden[layer], slope[layer], above[layer + 1], p[layer],
        )  # fmt: skip


@part
def teach(net: Any, dim: Any, rate: float, step: float, target: float, weight: float, x: F32, x_scaled: F32,
          hidden: F32, slope: F32, above: F32, p: F64, delta: F32, sway: F32, scaled: F32) -> None:  # fmt: skip
    """Every layer takes its step from what it read and said in the sweep; no layer needs another's."""
    correction = 1.0 - SQUARE_DECAY**step
    scale_input(net, dim.inputs, correction, x, x_scaled)
    for layer in range(dim.depth):
        update_layer(
            net, layer, dim.width, dim.inputs, dim.outputs, dim.regression == 1, rate, correction, target, weight,
            above[layer], x_scaled, hidden[layer], slope[layer], p[layer], delta, sway, scaled,
        )  # fmt: skip


@part
def linear_say(linear: Any, dim: Any, encoded: F64, p: F64) -> None:
    """p ← softmax(W x + b), or W x + b for regression."""
    d = dim.rates + dim.contexts * dim.features
    top = -np.inf
    for c in range(dim.outputs):
        z = linear.bias[c]
        for i in range(d):
            z += linear.weight[c, i] * encoded[i]
        p[c] = z
        top = max(top, z)
    if dim.regression == 0:
        total = 0.0
        for c in range(dim.outputs):
            p[c] = math.exp(p[c] - top)
            total += p[c]
        for c in range(dim.outputs):
            p[c] /= total


@part
def linear_learn(
    linear: Any, dim: Any, encoded: F64, p: F64, target: float, rate: float, weight: float
) -> None:
    """One AdaGrad step (Duchi et al. 2011) of softmax regression."""
    d = dim.rates + dim.contexts * dim.features
    for c in range(dim.outputs):
        if dim.regression == 1:
            e = weight * min(max(p[c] - target, -3.0), 3.0)
        else:
            e = weight * (p[c] - (1.0 if c == int(target) else 0.0))
        linear.bias_square[c] += e * e
        linear.bias[c] -= rate * e / (math.sqrt(linear.bias_square[c]) + 1e-8)
        for i in range(d):
            g = e * encoded[i]
            linear.square[c, i] += g * g
            linear.weight[c, i] -= rate * g / (math.sqrt(linear.square[c, i]) + 1e-8)


@part
def newton_say(
    plain: Any, random: Any, weight: F32, offset: F32, dim: Any, encoded: F64, query: F32, wide: F64, p: F64
) -> None:
    """The four second-order experts forecast; their inputs stay in `wide` for `newton_learn`."""
    wide[0] = 1.0
    for r in range(dim.plain_rates):
        wide[1 + r] = encoded[r]
    for r in range(dim.rates):
        query[r] = np.float32(encoded[r])
    stride = dim.plain_stride
    read = max(stride, 1)
    for f in range(dim.features):
        at = dim.rates + f * dim.contexts
        for part in range(stride):
            wide[1 + dim.plain_rates + f * stride + part] = encoded[at + part]
        for part in range(read):
            query[dim.rates + f * read + part] = np.float32(encoded[at + part])
    newton.relu_features(weight, offset, query, dim.rates + read * dim.features, wide[dim.plain : dim.random])
    regression = dim.regression == 1
    for m in range(2):
        newton.say(plain, m, wide, dim.plain, dim.outputs, regression, p[m])
        newton.say(random, m, wide, dim.random, dim.outputs, regression, p[2 + m])


@part
def newton_learn(
    plain: Any, random: Any, dim: Any, wide: F64, p: F64, target: float, weight: float, u: F64
) -> None:
    """The four second-order experts take their steps."""
    regression = dim.regression == 1
    for m in range(2):
        prior = newton.PRIORS[m]
        newton.learn(plain, m, prior, wide, dim.plain, dim.outputs, regression, p[m], target, weight, u)
        newton.learn(random, m, prior, wide, dim.random, dim.outputs, regression, p[2 + m], target, weight, u)


@part
def simple_experts(counts: F64, transition: F64, last: int, dim: Any, record: F64, p: F64, logp: F64) -> None:
    """The prior (expert 0) and, with label history, last label and transitions (the last two experts)."""
    regression = dim.regression == 1
    if regression:
        p[0] = 0.0
        say(logp, regression, 0, p)
        if dim.history > 0:
            p[0] = (transition[0, 0] - record[CENTRE]) / record[SPREAD]
            say(logp, regression, dim.experts - 2, p)
            say(logp, regression, dim.experts - 1, p)
        return
    prior_of(counts, regression, p)
    say(logp, regression, 0, p)
    if dim.history > 0:
        for c in range(dim.outputs):
            p[c] = 0.9 if c == last else 0.1 / max(dim.outputs - 1, 1)
        say(logp, regression, dim.experts - 2, p)
        for c in range(dim.outputs):
            p[c] = transition[max(last, 0), c] + 0.5 / dim.outputs
        total = 0.0
        for c in range(dim.outputs):  # apart: a sum beside a store may round by where the arrays lie
            total += p[c]
        for c in range(dim.outputs):
            p[c] /= total
        say(logp, regression, dim.experts - 1, p)


@part
def centre_and_spread(seen: F64) -> tuple[float, float]:
    """Mean and standard deviation of the targets so far; (0, 1) before there are two different ones."""
    if seen[0] < 1.0:
        return 0.0, 1.0
    variance = seen[2] / seen[0]
    if not variance > 1e-24 * (1.0 + seen[1] * seen[1]):
        return seen[1], max(abs(seen[1]), 1.0)
    return seen[1], math.sqrt(variance)


@part
def follow(prior: F64, transition: F64, tally: I64, dim: Any, target: float, weight: float) -> None:
    """Class frequencies and the sequence of labels advance by one label."""
    if dim.regression == 1:
        seen = prior[0]
        seen[0] += 1.0
        difference = target - seen[1]
        seen[1] += difference / seen[0]
        seen[2] += difference * (target - seen[1])
        if dim.history > 0:
            transition[0, 0] = target
        return
    label = int(target)
    for c in range(dim.outputs):
        prior[0, c] *= 1.0 - 1.0 / PRIOR_DECAY
        prior[1, c] *= 1.0 - 1.0 / SLOW_PRIOR_DECAY
    prior[0, label] += weight
    prior[1, label] += weight
    if dim.history > 0:
        last = tally[2]
        if last >= 0:
            for c in range(dim.outputs):
                transition[last, c] *= TRANSITION_DECAY
            transition[last, label] += weight
    tally[3] = tally[2]
    tally[2] = label


@entry_point(fastmath=FAST, nogil=True, error_model="numpy")
def run(
    operations: int, bound: Any, X: F64, times: F64, keys: I64, categories: I64, targets: F64, weights: F64,
    record: F64, out: F64,
) -> None:  # fmt: skip
    """Do FORECAST, OBSERVE and LEARN (those set in `operations`), in this order, for each of n events.

    WARM says that the layers stand in scratch as they spoke in this record's forecast.

    X: (n, F) float64, NaN for missing; times: (n,); keys: (n, fields) rows of the outcome statistics, −1 for
    unknown; categories likewise; targets, weights: (n,); weight 0 teaches nothing. record: (size,) float64,
    the kept forecast, read and written; out: (n, C) float64, the forecasts.
    """
    state, scratch, dim, settings = bound.state, bound.scratch, bound.dim, bound.settings
    n = times.shape[0]
    regression = dim.regression == 1
    forecasting = operations & FORECAST != 0
    learning = operations & LEARN != 0
    logp, each, p, query, tally = scratch.logp, scratch.each, scratch.p, scratch.query, state.tally
    raw = record[dim.at_raw : dim.at_raw + dim.features]
    rate = record[dim.at_rate : dim.at_rate + dim.rates]
    encoded = record[dim.at_input + dim.recall + dim.history : dim.at_input + dim.inputs]
    at_context = dim.at_slot + 1 + 2 * dim.neighbours
    linear_at = 7
    for row in range(n):
        if forecasting:
            record[STAMP] = tally[4]
            record[MOVES] = tally[5]
            record[TIME] = float(tally[0]) if math.isnan(times[row]) else times[row]
            record[OBSERVED] = 0.0
            record[CENTRE], record[SPREAD] = 0.0, 1.0
            if regression:
                record[CENTRE], record[SPREAD] = centre_and_spread(state.prior[0])
            for f in range(dim.features):
                raw[f] = X[row, f]
            if dim.rates > 0:
                prior_of(state.prior[0 if regression else 1], regression, scratch.prior)
                outcome_columns(
                    state.key_rates, state.category_rates, scratch.prior, dim, record[TIME], float(tally[0]),
                    keys[row], categories[row], rate,
                )  # fmt: skip
            encode(state.encoder, dim, raw, rate, encoded)
            for c in range(dim.history):
                record[dim.at_input + dim.recall + c] = 1.0 if tally[2] == c else 0.0
            if regression and dim.history > 0:
                record[dim.at_input + dim.recall] = np.float32(
                    (state.transition[0, 0] - record[CENTRE]) / record[SPREAD]
                )
            near_query(dim, encoded, query)
            consult(dim, state.near, scratch.near, query, dim.features, dim.at_slot, record, scratch.soft,
                    scratch.rank)  # fmt: skip
            for said, values in enumerate((scratch.soft, scratch.rank)):
                say(logp, regression, 1 + said, values)
                remind(dim, said, values, record)
            d = context_query(dim, encoded, query)
            consult(dim, state.context, scratch.context, query, d, at_context, record, scratch.soft,
                    scratch.rank)  # fmt: skip
            for said, values in enumerate((scratch.soft, scratch.rank)):
                say(logp, regression, 3 + said, values)
                remind(dim, 2 + said, values, record)
            simple_experts(state.prior[0], state.transition, tally[2], dim, record, scratch.soft, logp)
        if forecasting or (learning and operations & WARM == 0):
            for i in range(dim.inputs):
                scratch.x[i] = np.float32(record[dim.at_input + i])
            if settings.fast_rate > 0.0:
                sweep(state.fast, dim, scratch.x, scratch.fast_hidden, scratch.fast_slope, scratch.fast_above,
                      scratch.fast_p)  # fmt: skip
            if settings.slow_rate > 0.0:
                sweep(state.slow, dim, scratch.x, scratch.slow_hidden, scratch.slow_slope, scratch.slow_above,
                      scratch.slow_p)  # fmt: skip
            linear_say(state.linear, dim, encoded, scratch.linear_p)
            newton_say(
                state.plain, state.random, state.random_weight, state.random_offset, dim, encoded, query,
                scratch.wide, scratch.newton_p,
            )  # fmt: skip
        if forecasting:
            say(logp, regression, 5, scratch.fast_p[dim.depth - 1])
            say(logp, regression, 6, scratch.slow_p[dim.depth - 1])
            say(logp, regression, linear_at, scratch.linear_p)
            for m in range(4):
                say(logp, regression, linear_at + 1 + m, scratch.newton_p[m])
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
            arrive(state.key_rates, keys[row], record[TIME], dim.outputs)
            arrive(state.category_rates, categories[row], float(tally[0]), dim.outputs)
            observe(state.encoder, dim, raw, rate, encoded)
            tally[0] += 1
            state.now[0] = max(state.now[0], record[TIME])
            record[OBSERVED] = float(tally[0])
        if learning and weights[row] > 0.0:
            weight, target = weights[row], targets[row]
            fresh = int(record[STAMP]) == tally[4]
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
            step = float(tally[1] + 1)
            if settings.fast_rate > 0.0:
                teach(state.fast, dim, settings.fast_rate, step, inner, weight, scratch.x, scratch.x_scaled,
                      scratch.fast_hidden, scratch.fast_slope, scratch.fast_above, scratch.fast_p,
                      scratch.delta, scratch.sway, scratch.scaled)  # fmt: skip
            if settings.slow_rate > 0.0:
                teach(state.slow, dim, settings.slow_rate, step, inner, weight, scratch.x, scratch.x_scaled,
                      scratch.slow_hidden, scratch.slow_slope, scratch.slow_above, scratch.slow_p,
                      scratch.delta, scratch.sway, scratch.scaled)  # fmt: skip
            linear_learn(state.linear, dim, encoded, scratch.linear_p, inner, settings.linear_rate, weight)
            newton_learn(state.plain, state.random, dim, scratch.wide, scratch.newton_p, inner, weight,
                         scratch.u)  # fmt: skip
            near_query(dim, encoded, query)
            remember(dim, state.near, scratch.near, query, dim.features, dim.at_slot, record, fresh, target,
                     tally[1])  # fmt: skip
            d = context_query(dim, encoded, query)
            remember(dim, state.context, scratch.context, query, d, at_context, record, fresh, target,
                     tally[1])  # fmt: skip
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
            follow(state.prior, state.transition, tally, dim, target, weight)
            tally[1] += 1
            tally[4] += 1
