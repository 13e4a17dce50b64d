"""The steps of one event, in the order in which `engine.kernels.run` takes them: encode, recall, forecast, learn.

States and their parts are handed over by reference (`engine.borrowed`).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from engine import mixing, newton, sleep
from engine.layout import CENTRE, SPREAD
from engine.rules.local import SQUARE_DECAY, forward_layer, scale_input, update_layer
from memory import early as early_tree
from memory import lookback, metric, neighbours, rates, tree_kernels

CLIP = 4.0
FAR = 10.0  # deviations from the mean target, beyond which no model of the caller's own is heard
PRIOR_DECAY, SLOW_PRIOR_DECAY = 500.0, 5_000.0
TRANSITION_DECAY = 0.995
FAST = {"reassoc", "contract", "nsz"}
part = njit(fastmath=FAST, nogil=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


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
def encode(e: Any, context: Any, dim: Any, raw: F64, rate: F64, out: F64, tried: F32) -> None:
    """Outcome columns (rates,) and features (F,) as inputs, float32 values in float64 places.

    tried: (TRIED · F,) ← the features' contexts over all horizons, NaN for those of a missing one.
    """
    for r in range(dim.rates):
        out[r] = np.float32(standardise(rate[r], e.rate_mean[r], e.rate_square[r], e.rate_seen[r]))
    at = dim.rates
    for f in range(dim.features):
        x = raw[f]
        missing = math.isnan(x)
        z = 0.0 if missing else standardise(x, e.mean[f], e.square[f], e.seen[f])
        out[at] = np.float32(z)
        if dim.contexts == 3:
            lookback.compare(context, f, math.nan if missing else z, tried)
            out[at + 1] = 0.0 if missing else tried[lookback.SHORT * dim.features + f]
            out[at + 2] = 0.0 if missing else tried[context.chosen[f] * dim.features + f]
        at += dim.contexts


@part
def arrive(table: Any, rows: I64, time: float, outputs: int) -> None:
    """One more event of each row's key."""
    for k in range(rows.shape[0]):
        if rows[k] >= 0:
            rates.arrive(table, rows[k], time, outputs)


@part
def observe(e: Any, context: Any, dim: Any, raw: F64, rate: F64, encoded: F64) -> None:
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
        if dim.contexts == 3:
            lookback.pass_on(context, f, z, e.step[f])
    for r in range(dim.rates):
        x = rate[r]
        e.rate_seen[r] += 1.0
        difference = x - e.rate_mean[r]
        e.rate_mean[r] += difference / e.rate_seen[r]
        e.rate_square[r] += difference * (x - e.rate_mean[r])


@part
def project(brief: F32, dim: Any, encoded: F64, query: F32) -> None:
    """query (BRIEF,) ← the projection of many standardised features."""
    for b in range(brief.shape[0]):
        row = brief[b]
        total = np.float32(0.0)
        for f in range(dim.features):
            total += row[f] * np.float32(encoded[dim.rates + f])
        query[b] = total


@part
def near_query(brief: F32, dim: Any, encoded: F64, query: F32) -> int:
    """The standardised features alone, (F,), or a projection of them; returns how many numbers."""
    if dim.many == 1:
        project(brief, dim, encoded, query)
        return brief.shape[0]
    for f in range(dim.features):
        query[f] = np.float32(encoded[dim.rates + dim.contexts * f])
    return dim.features


@part
def context_query(brief: F32, dim: Any, encoded: F64, query: F32) -> int:
    """Outcome columns, features and their context (or a projection of the features), (D,); returns D."""
    if dim.many == 1:
        for i in range(dim.rates):
            query[i] = np.float32(encoded[i])
        project(brief, dim, encoded, query[dim.rates :])
        return dim.rates + brief.shape[0]
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
def hear(given: F64, expert: int, dim: Any, record: F64, p: F64) -> None:
    """What a model of the caller's own said, (C,); where it said nothing (NaN), what has no gradient."""
    at = expert * dim.outputs
    silent = math.isnan(given[at])
    if dim.regression == 1:
        z = 0.0 if silent else (given[at] - record[CENTRE]) / record[SPREAD]
        p[0] = min(max(z, -FAR), FAR)
        return
    for c in range(dim.outputs):
        p[c] = 1.0 / dim.outputs if silent else given[at + c]


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
        metric.adapt(memory, search, query, d, target, dim.regression == 1, found)
    neighbours.store(memory, search, query, d, target, serial)


@part
def tree_query(dim: Any, record: F64, x: F32) -> int:
    """What trees read: features as they are, NaN for missing, then outcome columns; how many."""
    d = dim.features + dim.rates
    for j in range(d):
        x[j] = np.float32(record[dim.at_raw + j])
    return d


@part
def ask_trees(trees: Any, x: F32, dim: Any, record: F64, node: F64, leaf: F64) -> None:
    """The trees' two forecasts."""
    tree_query(dim, record, x)
    regression = dim.regression == 1
    tree_kernels.say(trees, x, dim.outputs, regression, node, leaf)
    if regression:
        some = trees.place[0] > trees.place[1]
        node[0] = (node[0] - record[CENTRE]) / record[SPREAD] if some else 0.0
        leaf[0] = (leaf[0] - record[CENTRE]) / record[SPREAD] if some else 0.0


@part
def say_nothing(dim: Any, node: F64, leaf: F64) -> None:
    """What trees say that have seen nothing: classes alike, or the mean target."""
    for c in range(dim.outputs):
        node[c] = leaf[c] = 0.0 if dim.regression == 1 else 1.0 / dim.outputs


@part
def pass_by(trees: Any) -> None:
    """An event of which trees that are not grown learn nothing but that there was one."""
    trees.place[0] += 1
    trees.place[1] += 1


@part
def teach_trees(trees: Any, space: Any, x: F32, dim: Any, record: F64, target: float) -> None:
    """The event with its label comes into the trees' window."""
    d = tree_query(dim, record, x)
    tree_kernels.learn(trees, space, x, d, target, dim.regression == 1)


@part
def ask_early(early: Any, x: F32, dim: Any, record: F64, counts: F64, prior: F64, p: F64) -> None:
    """The early tree's forecast."""
    tree_query(dim, record, x)
    regression = dim.regression == 1
    prior_of(counts, regression, prior)
    early_tree.say(early, x, prior, dim.outputs, regression, p)
    if regression:
        p[0] = (p[0] - record[CENTRE]) / record[SPREAD] if early.place[0] > 0 else 0.0


@part
def teach_early(early: Any, space: Any, x: F32, dim: Any, record: F64, target: float) -> None:
    """The event with its label comes to the early tree."""
    d = tree_query(dim, record, x)
    early_tree.learn(early, space, x, d, target, dim.outputs, dim.regression == 1)


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
            net, layer, dim.width, dim.reads, dim.outputs, dim.activation, dim.regression == 1,
            above[layer], x, hidden[layer], slope[layer], above[layer + 1], p[layer],
        )  # fmt: skip


@part
def teach(net: Any, dim: Any, rate: float, step: float, target: float, weight: float, x: F32, x_scaled: F32,
          hidden: F32, slope: F32, above: F32, p: F64, delta: F32, sway: F32, scaled: F32) -> None:  # fmt: skip
    """Every layer takes its step from what it read and said in the sweep; no layer needs another's."""
    correction = 1.0 - SQUARE_DECAY**step
    scale_input(net, dim.reads, correction, x, x_scaled)
    for layer in range(dim.depth):
        update_layer(
            net, layer, dim.width, dim.reads, dim.outputs, dim.regression == 1, rate, correction, target, weight,
            above[layer], x, x_scaled, hidden[layer], slope[layer], p[layer], delta, sway, scaled,
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
    plain: Any, random: Any, weight: F32, offset: F32, dim: Any, voiced: int, encoded: F64, query: F32,
    wide: F64, p: F64,
) -> None:  # fmt: skip
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
    regression = dim.regression == 1
    if voiced & sleep.PLAIN != 0:
        for m in range(2):
            newton.say(plain, m, wide, dim.plain, dim.outputs, regression, p[m])
    if voiced & sleep.RANDOM != 0:
        inputs = dim.rates + read * dim.features
        newton.relu_features(weight, offset, query, inputs, wide[dim.plain : dim.random])
        for m in range(2):
            newton.say(random, m, wide, dim.random, dim.outputs, regression, p[2 + m])


@part
def newton_learn(
    plain: Any, random: Any, dim: Any, voiced: int, wide: F64, p: F64, target: float, weight: float, u: F64
) -> None:
    """The four second-order experts take their steps."""
    regression = dim.regression == 1
    for m in range(2):
        prior = newton.PRIORS[m]
        if voiced & sleep.PLAIN != 0:
            newton.learn(plain, m, prior, wide, dim.plain, dim.outputs, regression, p[m], target, weight, u)
        if voiced & sleep.RANDOM != 0:
            newton.learn(
                random, m, prior, wide, dim.random, dim.outputs, regression, p[2 + m], target, weight, u
            )


@part
def simple_experts(counts: F64, transition: F64, dim: Any, record: F64, p: F64, logp: F64) -> None:
    """The prior (expert 0) and, with label history, last label and transitions (the last two experts).

    What the last label was they read where the layers read it, in the record.
    """
    regression = dim.regression == 1
    if regression:
        p[0] = 0.0
        say(logp, regression, 0, p)
        if dim.history > 0:
            p[0] = record[dim.at_input + dim.recall]
            say(logp, regression, dim.experts - dim.lasting - 2, p)
            say(logp, regression, dim.experts - dim.lasting - 1, p)
        return
    prior_of(counts, regression, p)
    say(logp, regression, 0, p)
    if dim.history > 0:
        last = -1
        for c in range(dim.outputs):
            if record[dim.at_input + dim.recall + c] > 0.0:
                last = c
        for c in range(dim.outputs):
            p[c] = 0.9 if c == last else 0.1 / max(dim.outputs - 1, 1)
        say(logp, regression, dim.experts - dim.lasting - 2, p)
        for c in range(dim.outputs):
            p[c] = transition[max(last, 0), c] + 0.5 / dim.outputs
        total = 0.0
        for c in range(dim.outputs):  # apart: a sum beside a store may round by where the arrays lie
            total += p[c]
        for c in range(dim.outputs):
            p[c] /= total
        say(logp, regression, dim.experts - dim.lasting - 1, p)


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
def bucket_of(dim: Any, prior: F64, target: float) -> int:
    """The bucket of a label (`memory.lookback`): by its class, or by its distance from the mean of those before.

    prior: of a number, its statistics, (3,).
    """
    if dim.regression == 0:
        return int(target) % lookback.BUCKETS
    half = lookback.BUCKETS // 2
    centre, spread = centre_and_spread(prior)
    away = min(max(2.0 * (target - centre) / spread, -float(half)), half - 1.0)
    return math.floor(away) + half


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
