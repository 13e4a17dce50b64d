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

from engine import experience, mixing, sleep, watch
from engine.borrowed import borrow
from engine.compiled import entry_point
from engine.layout import CENTRE, GROWN, MOVES, OBSERVED, SENSED, SPREAD, STAMP, TIME, VALUE
from engine.steps import (
    arrive,
    ask_early,
    ask_trees,
    bucket_of,
    centre_and_spread,
    consult,
    context_query,
    encode,
    follow,
    hear,
    linear_learn,
    linear_say,
    near_query,
    newton_learn,
    newton_say,
    observe,
    outcome_columns,
    pass_by,
    prior_of,
    remember,
    remind,
    say,
    say_nothing,
    simple_experts,
    sweep,
    teach,
    teach_early,
    teach_trees,
)
from memory import episodic_kernels, lookback, rates, tree_kernels

FORECAST, OBSERVE, LEARN, WARM, LIVE, ENCODED = 1, 2, 4, 8, 16, 32
FAST = {"reassoc", "contract", "nsz"}

# Arrays taken from a state count no references, here and in all that is called from here and allocates nothing:
# the callers hold them, and counting took half of the time. Nothing is forced into its caller: what is called
# from here would be as well, and compiling one function of 100,000 instructions takes two minutes.
uncounted = njit(
    fastmath=FAST, nogil=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True, _nrt=False
)

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


class Encoder(NamedTuple):
    """Running statistics of F features and R outcome columns (float64, with room to grow).

    mean, square, seen: Welford's mean, sum of squared deviations and count per feature.
    step: (F,) count of values.
    rate_mean, rate_square, rate_seen: (R,) likewise for outcome columns.
    """

    mean: F64
    square: F64
    seen: F64
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
    forest: sliding-window trees.  early: one tree on the first events.  lasting: experience over wide inputs
        (`engine.experience`).  plain, random: second-order experts; random_weight, random_offset: the ReLU
        features of the latter.  mixer, rival: the mixture, and one that hears other experts (`engine.sleep`).
        brief: (BRIEF, F) float32, the projection of many features; (1, 1) if they are few.
        watch: whether losses are what they were, and the last events (`engine.watch`).
    lookback: over how many events each feature's context looks back (`memory.lookback`).
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
    brief: F32
    forest: Any
    early: Any
    lasting: Any
    mixer: Any
    rival: Any
    sleep: Any
    key_rates: Any
    category_rates: Any
    prior: F64
    transition: F64
    tally: I64
    now: F64
    watch: Any
    lookback: Any


class Scratch(NamedTuple):
    """Working space of the kernels; nothing in it outlives a call."""

    near: Any
    context: Any
    forest: Any
    early: Any
    lasting: Any
    tree_x: F32
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
    voices: F64
    rival_each: F64
    rival_p: F64


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


@experience.part
def recall_lasting(e: Any, room: Any, dim: Any, record: F64, wide: F32, raw: F64, logp: F64) -> None:
    """What the experts on the wide vector say; all classes alike where nothing of it was there."""
    if record[SENSED] > 0.0:
        experience.read(room, dim.wide_inputs == 0, wide, raw)
        experience.say(e, room, dim.outputs, room.said)
    else:
        for k in range(dim.lasting):
            for c in range(dim.outputs):
                room.said[k, c] = 1.0 / dim.outputs
    for k in range(dim.lasting):
        row = logp[dim.experts - dim.lasting + k]
        for c in range(dim.outputs):
            row[c] = math.log(max(room.said[k, c], mixing.FLOOR))


@experience.part
def learn_lasting(
    e: Any, room: Any, mixer: Any, dim: Any, record: F64, wide: F32, raw: F64, each: F64, label: int,
    weight: float, serial: int,
) -> None:  # fmt: skip
    """The label of an event comes to the experts on the wide vector; before the mixers learn from it."""
    expected = 0.0
    for m in range(each.shape[0]):
        expected += mixer.belief[m] * each[m, label]
    many = dim.wide_inputs == 0
    experience.read(room, many, wide, raw)
    experience.learn(e, room, many, dim.outputs, label, weight, expected, serial)


@uncounted
def events(
    operations: int, state: Any, scratch: Any, dim: Any, settings: Any, X: F64, W: F32, times: F64, keys: I64,
    categories: I64, targets: F64, weights: F64, record: F64, out: F64, given: F64,
) -> int:  # fmt: skip
    """What `run` does, with what is bound."""
    n = times.shape[0]
    regression = dim.regression == 1
    forecasting = operations & FORECAST != 0
    learning = operations & LEARN != 0
    logp, each, p, query, tally = scratch.logp, scratch.each, scratch.p, scratch.query, state.tally
    raw = record[dim.at_raw : dim.at_raw + dim.features]
    rate = record[dim.at_rate : dim.at_rate + dim.rates]
    encoded = record[dim.at_input + dim.recall + dim.history : dim.at_input + dim.inputs]
    wide = record[dim.at_wide :].view(np.float32)[: dim.wide]
    tried = record[dim.at_tried :].view(np.float32)[: lookback.TRIED * dim.compared]
    at_context = dim.at_slot + 1 + 2 * dim.neighbours
    linear_at = 7
    added_at = dim.experts - dim.lasting - dim.added - (2 if dim.history > 0 else 0)
    voices, sleeping = scratch.voices, state.sleep
    for row in range(n):
        voiced = sleep.voiced(sleeping)
        if forecasting and operations & ENCODED == 0:
            record[STAMP] = tally[4]
            record[MOVES] = tally[5]
            record[TIME] = float(tally[0]) if math.isnan(times[row]) else times[row]
            record[OBSERVED] = 0.0
            record[CENTRE], record[SPREAD] = 0.0, 1.0
            if regression:
                record[CENTRE], record[SPREAD] = centre_and_spread(state.prior[0])
            for f in range(dim.features):
                raw[f] = X[row, f]
            record[SENSED] = W[row, dim.wide]
            for i in range(dim.wide):
                wide[i] = W[row, i]
            if dim.rates > 0:
                prior_of(state.prior[0 if regression else 1], regression, scratch.prior)
                outcome_columns(
                    state.key_rates, state.category_rates, scratch.prior, dim, record[TIME], float(tally[0]),
                    keys[row], categories[row], rate,
                )  # fmt: skip
            encode(state.encoder, state.lookback, dim, raw, rate, encoded, tried)
            for c in range(dim.history):
                record[dim.at_input + dim.recall + c] = 1.0 if tally[2] == c else 0.0
            if regression and dim.history > 0:
                record[dim.at_input + dim.recall] = np.float32(
                    (state.transition[0, 0] - record[CENTRE]) / record[SPREAD]
                )
        if forecasting:
            d = near_query(state.brief, dim, encoded, query)
            consult(dim, state.near, scratch.near, query, d, dim.at_slot, record, scratch.soft,
                    scratch.rank)  # fmt: skip
            for said, values in enumerate((scratch.soft, scratch.rank)):
                say(logp, regression, 1 + said, values)
                remind(dim, said, values, record)
            d = context_query(state.brief, dim, encoded, query)
            consult(dim, state.context, scratch.context, query, d, at_context, record, scratch.soft,
                    scratch.rank)  # fmt: skip
            for said, values in enumerate((scratch.soft, scratch.rank)):
                say(logp, regression, 3 + said, values)
                remind(dim, 2 + said, values, record)
            if dim.trees > 0:
                if dim.trees == GROWN:
                    ask_trees(state.forest, scratch.tree_x, dim, record, scratch.soft, scratch.rank)
                else:
                    say_nothing(dim, scratch.soft, scratch.rank)
                for said, values in enumerate((scratch.soft, scratch.rank)):
                    say(logp, regression, linear_at + 5 + said, values)
                    remind(dim, 4 + said, values, record)
            if dim.early == 1:
                ask_early(
                    state.early, scratch.tree_x, dim, record, state.prior[0], scratch.soft, scratch.rank
                )
                say(logp, regression, added_at - 1, scratch.rank)
            simple_experts(state.prior[0], state.transition, dim, record, scratch.soft, logp)
        if forecasting or (learning and operations & WARM == 0):
            for i in range(dim.inputs):
                scratch.x[i] = np.float32(record[dim.at_input + i])
            for i in range(dim.wide_inputs):
                scratch.x[dim.inputs + i] = wide[i]
            if settings.fast_rate > 0.0 and voiced & sleep.FAST_LAYERS != 0:
                sweep(state.fast, dim, scratch.x, scratch.fast_hidden, scratch.fast_slope, scratch.fast_above,
                      scratch.fast_p)  # fmt: skip
            if settings.slow_rate > 0.0 and voiced & sleep.SLOW_LAYERS != 0:
                sweep(state.slow, dim, scratch.x, scratch.slow_hidden, scratch.slow_slope, scratch.slow_above,
                      scratch.slow_p)  # fmt: skip
            if voiced & sleep.LINEAR != 0:
                linear_say(state.linear, dim, encoded, scratch.linear_p)
            newton_say(
                state.plain, state.random, state.random_weight, state.random_offset, dim, voiced, encoded, query,
                scratch.wide, scratch.newton_p,
            )  # fmt: skip
        if forecasting:
            say(logp, regression, 5, scratch.fast_p[dim.depth - 1])
            say(logp, regression, 6, scratch.slow_p[dim.depth - 1])
            say(logp, regression, linear_at, scratch.linear_p)
            for m in range(4):
                say(logp, regression, linear_at + 1 + m, scratch.newton_p[m])
            for a in range(dim.added):
                hear(given[row], a, dim, record, scratch.soft)
                say(logp, regression, added_at + a, scratch.soft)
            if dim.lasting > 0:
                recall_lasting(state.lasting, scratch.lasting, dim, record, wide, raw, logp)
            for k in range(sleep.MEMBERS.shape[0]):
                if voiced & sleep.MEMBERS[k] == 0:
                    sleep.hush(logp, sleep.FIRST + k)
            heard = sleep.hear(sleeping, 0, dim, logp, record, voices)
            sleep.mix(state.mixer, dim, voices, heard, each, p)
            if dim.lasting > 0 and operations & LIVE == 0 and record[SENSED] > 0.0:
                experience.trust(state.lasting, scratch.lasting, dim.outputs, p)
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
            observe(state.encoder, state.lookback, dim, raw, rate, encoded)
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
            if dim.lasting > 0 and record[SENSED] > 0.0:
                learn_lasting(state.lasting, scratch.lasting, state.mixer, dim, record, wide, raw, each,
                              int(target), weight, tally[1])  # fmt: skip
            inner = target
            if regression:
                inner = (target - record[CENTRE]) / record[SPREAD]
            if (
                not regression or record[CENTRE] != 0.0 or record[SPREAD] != 1.0
            ):  # the target's scale is known
                heard = sleep.hear(sleeping, 0, dim, logp, record, voices)
                loss = sleep.loss_before(sleeping, state.mixer, dim, record, fresh, voices, heard,
                                         scratch.rival_each, scratch.rival_p, inner)  # fmt: skip
                sleep.weigh(state.mixer, dim, voices, heard, each, inner, weight)
                sleep.follow(
                    sleeping, state.mixer, state.rival, dim, logp, record, voices, scratch.rival_each,
                    scratch.rival_p, inner, weight, tally[1], loss,
                )  # fmt: skip
                watch.follow(state.watch, record, target, loss, tally[1])
            if regression:
                centre, spread = centre_and_spread(state.prior[0])
                inner = (target - centre) / spread
            step = float(tally[1] + 1)
            if settings.fast_rate > 0.0 and voiced & sleep.FAST_LAYERS != 0:
                teach(state.fast, dim, settings.fast_rate, step, inner, weight, scratch.x, scratch.x_scaled,
                      scratch.fast_hidden, scratch.fast_slope, scratch.fast_above, scratch.fast_p,
                      scratch.delta, scratch.sway, scratch.scaled)  # fmt: skip
            if settings.slow_rate > 0.0 and voiced & sleep.SLOW_LAYERS != 0:
                teach(state.slow, dim, settings.slow_rate, step, inner, weight, scratch.x, scratch.x_scaled,
                      scratch.slow_hidden, scratch.slow_slope, scratch.slow_above, scratch.slow_p,
                      scratch.delta, scratch.sway, scratch.scaled)  # fmt: skip
            if voiced & sleep.LINEAR != 0:
                linear_learn(
                    state.linear, dim, encoded, scratch.linear_p, inner, settings.linear_rate, weight
                )
            newton_learn(state.plain, state.random, dim, voiced, scratch.wide, scratch.newton_p, inner, weight,
                         scratch.u)  # fmt: skip
            if dim.trees == GROWN:
                teach_trees(state.forest, scratch.forest, scratch.tree_x, dim, record, target)
            elif dim.trees > 0:
                pass_by(state.forest)
            if dim.early == 1:
                teach_early(state.early, scratch.early, scratch.tree_x, dim, record, target)
            d = near_query(state.brief, dim, encoded, query)
            remember(dim, state.near, scratch.near, query, d, dim.at_slot, record, fresh, target,
                     tally[1])  # fmt: skip
            d = context_query(state.brief, dim, encoded, query)
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
            if dim.compared > 0:
                lookback.learn(state.lookback, encoded[dim.rates :], dim.contexts, tried,
                               bucket_of(dim, state.prior[0], target))  # fmt: skip
            follow(state.prior, state.transition, tally, dim, target, weight)
            tally[1] += 1
            tally[4] += 1
            if state.watch.place[watch.STOP] != watch.NOTHING:
                return row + 1
    return n


@entry_point(fastmath=FAST, nogil=True, error_model="numpy")
def run(
    operations: int, bound: Any, X: F64, W: F32, times: F64, keys: I64, categories: I64, targets: F64,
    weights: F64, record: F64, out: F64, given: F64,
) -> int:  # fmt: skip
    """Do FORECAST, OBSERVE and LEARN (those set in `operations`), in this order, for each of n events.

    WARM says that the layers stand in scratch as they spoke in this record's forecast, LIVE that the events are
    the stream's own: nothing needs to find out whether they are like those of late or like older ones. ENCODED
    with FORECAST asks about one event as it was seen: the record holds it already, and X, times, keys and
    categories are not read. Returns how many events were done: after a label the run may stop for
    `engine.race`.

    X: (n, F) float64, NaN for missing; W: (n, wide + 1) float32, the wide vector and how much of what it is made
    from was there, 0 to 1; times: (n,); keys: (n, fields) rows of the outcome statistics, −1 for
    unknown; categories likewise; targets, weights: (n,); weight 0 teaches nothing. record: (size,) float64,
    the kept forecast, read and written; out: (n, C) float64, the forecasts. given: (n, added · C), what the
    caller's own experts say, NaN for nothing; read by FORECAST.
    """
    at = borrow(bound)
    return events(
        operations, at.state, at.scratch, at.dim, at.settings, X, W, times, keys, categories, targets,
        weights, record, out, given,
    )  # fmt: skip


@entry_point(fastmath=FAST, nogil=True, error_model="numpy")
def forget_in_trees(trees: Any, serial: int, regression: bool) -> bool:
    """`memory.tree_kernels.forget`, for Python."""
    return tree_kernels.forget(trees, serial, regression)


@entry_point(fastmath=FAST, nogil=True, error_model="numpy")
def refill(fresh: Any, space: Any, old: Any, source: I64, regression: bool) -> None:
    """`memory.tree_kernels.refill`, for Python."""
    tree_kernels.refill(fresh, space, old, source, regression)


@entry_point(nogil=True, error_model="numpy")
def start_lasting(bound: Any, wide: F32, values: F64, targets: F64, weights: F64, serials: I64) -> None:
    """Labelled events from before there was a wide vector, see `engine.wide.Started`."""
    at = borrow(bound)
    e, room, dim = at.state.lasting, at.scratch.lasting, at.dim
    many = dim.wide_inputs == 0
    for i in range(targets.shape[0]):
        if wide[i, dim.wide] > 0.0:
            experience.read(room, many, wide[i], values[i])
            experience.learn(e, room, many, dim.outputs, int(targets[i]), weights[i], 1.0, serials[i])


@entry_point(nogil=True, error_model="numpy")
def forget_kept(examples: Any, serial: int) -> bool:
    """`memory.episodic_kernels.forget`, for Python."""
    return episodic_kernels.forget(examples, serial)
