"""Experts that earn nothing fall asleep, and are tried again later: a rival mixture without them decides.

A group of experts (`GROUPS`) that is asleep neither forecasts nor learns nor is mixed. Whether a set of groups
(`SETS`) is worth its time is tried, not estimated: the mixture's weights are copied for a rival that does not
hear the set, both go on learning from the same events, and only the mixture answers. With l the mixture's loss
(−log p of the label, or the absolute error in spreads of the target), l' the rival's, d = Σ (l' − l) over the
trial, and s = √Σ (l' − l)², the set

    falls asleep  once  d + 1.5 s < 0.001 Σ l,  or if  d < 0.001 Σ l  after 3,000 labels
    stays awake   once  d − 1.5 s > 0.001 Σ l,  or else after 3,000 labels

looked at every 500 labels. Where the rival wins it becomes the mixture, with the weights that it has learned by
then. A set that sleeps is tried again after 8,000 labels, then 16,000, 32,000 and 64,000, or when the loss of
the last 200 labels is twice that of the last 2,000: now the rival hears it, from weight 0 on, for 1,000 labels
that do not count, and has to be better by 0.001 Σ l in the same way. One set is tried at a time, in turn.

An expert that said nothing of an event (it slept when the forecast was made and is awake when its label comes)
is taken to have said what the mixture said (specialists: Freund, Schapire, Singer and Warmuth 1997).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from engine import mixing

FAST_LAYERS, SLOW_LAYERS, LINEAR, PLAIN, RANDOM = 1, 2, 4, 8, 16
GROUPS = {
    FAST_LAYERS: ("fast layers",),
    SLOW_LAYERS: ("slow layers",),
    LINEAR: ("linear",),
    PLAIN: ("second order, firm", "second order, loose"),
    RANDOM: ("random features, firm", "random features, loose"),
}
ALL = FAST_LAYERS | SLOW_LAYERS | LINEAR | PLAIN | RANDOM
FIRST = 5  # the expert's row from which on groups stand
MEMBERS = np.array([FAST_LAYERS, SLOW_LAYERS, LINEAR, PLAIN, PLAIN, RANDOM, RANDOM])
SETS = np.array([FAST_LAYERS | SLOW_LAYERS, RANDOM, PLAIN, SLOW_LAYERS, FAST_LAYERS, LINEAR])

OFF, IDLE, WITHOUT, AGAIN = -1, 0, 1, 2
PHASE, AWAKE, TRIED, HEARD, RIVALS, SET, LABELS, NEXT = range(8)
DIFFERENCE, SQUARES, LOSS, SHORT, LONG = range(5)
START = 500  # labels before the first trial
CHECK, LONGEST, PROBATION = 500, 3_000, 1_000  # labels
WORTH, SURE = 0.001, 1.5
PATIENCE, MOST_PATIENCE = 8_000, 64_000  # labels for which a set sleeps before it is tried again
RECENT, EARLIER, ALARM = 200.0, 2_000.0, 2.0
FAST = {"reassoc", "contract", "nsz"}
part = njit(fastmath=FAST, nogil=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


class Sleep(NamedTuple):
    """Who is awake, and the trial under way; K experts, S sets of groups.

    order: (2, K) int64 — the experts in the order of the mixture's columns, and of the rival's; those that are
    heard come first. place: (8,) int64 — phase; the groups awake and those that the rival hears, as bits; how
    many experts either hears; the set tried, or next to be tried; labels of the trial; from which label on the
    next trial may begin. until: (S,) int64 — from which label on a set that sleeps is to be tried again, −1 for
    one that is awake. patience: (S,) int64 labels. sums: (5,) float64 — d, s², Σ l; the mean loss of the last
    200 labels and of the last 2,000.
    """

    order: I64
    place: I64
    until: I64
    patience: I64
    sums: F64


def allocate(experts: int, *, on: bool) -> Sleep:
    """All awake; without `on` they stay so."""
    order = np.arange(experts)
    return Sleep(
        order=np.stack([order, order]),
        place=np.array([IDLE if on else OFF, ALL, ALL, experts, experts, 0, 0, START], np.int64),
        until=np.full(len(SETS), -1, np.int64),
        patience=np.full(len(SETS), PATIENCE, np.int64),
        sums=np.zeros(5),
    )


def grown(mixer: Any, rival: Any, sleep: Sleep, experts: int) -> dict[str, Any]:
    """mixer, rival and sleep with more experts, behind all others by number and heard from now on."""
    have = sleep.order.shape[1]
    if experts == have:
        return {"mixer": mixer, "rival": rival, "sleep": sleep}
    heard, rivals = int(sleep.place[HEARD]), int(sleep.place[RIVALS])
    new = np.arange(have, experts)
    place = sleep.place.copy()
    place[HEARD] += len(new)
    place[RIVALS] += len(new)
    return {
        "mixer": mixing.grown(mixer, heard, len(new)),
        "rival": mixing.grown(rival, rivals, len(new)),
        "sleep": sleep._replace(
            order=np.stack(
                [np.insert(sleep.order[which], at, new) for which, at in enumerate((heard, rivals))]
            ),
            place=place,
        ),
    }


def asleep(state: Sleep) -> tuple[str, ...]:
    """The names of the experts that sleep."""
    awake = int(state.place[AWAKE])
    return tuple(name for group, names in GROUPS.items() if not awake & group for name in names)


def by_expert(state: Sleep, columns: F64) -> F64:
    """Columns of the mixture (…, K) in the order of the experts; 0 for those asleep."""
    out = np.zeros_like(columns)
    heard = int(state.place[HEARD])
    out[..., state.order[0, :heard]] = columns[..., :heard]
    return out


@part
def voiced(sleep: Any) -> int:
    """The groups that forecast and learn now, as bits: those awake and those on trial."""
    place = sleep.place
    if place[PHASE] == AGAIN:
        return place[AWAKE] | place[TRIED]
    return place[AWAKE]


@part
def hush(logp: F64, row: int) -> None:
    """An expert says nothing: NaN."""
    for c in range(logp.shape[1]):
        logp[row, c] = np.nan


@part
def hear(sleep: Any, which: int, dim: Any, logp: F64, record: F64, voices: F64) -> int:
    """voices ← what the experts said whom the mixture (0) or its rival (1) hears, in their order; how many."""
    heard = sleep.place[HEARD + which]
    for j in range(heard):
        said, voice = logp[sleep.order[which, j]], voices[j]
        silent = math.isnan(said[0])
        for c in range(dim.outputs):
            voice[c] = said[c]
            if silent:
                p = record[dim.at_p + c]
                voice[c] = p if dim.regression == 1 else math.log(max(p, mixing.FLOOR))
    return heard


@part
def loss_of(dim: Any, p: F64, target: float) -> float:
    """The loss of a forecast."""
    if dim.regression == 1:
        return abs(p[0] - target)
    return -math.log(max(p[int(target)], mixing.FLOOR))


@part
def mix(mixer: Any, dim: Any, voices: F64, heard: int, each: F64, p: F64) -> None:
    """each ← the mixers' forecasts, p ← the mixture's, from what was heard."""
    if dim.regression == 1:
        p[0] = mixing.mix_values(mixer, voices, heard, each)
    else:
        mixing.mix(mixer, voices, heard, dim.outputs, each, p)


@part
def weigh(mixer: Any, dim: Any, voices: F64, heard: int, each: F64, target: float, weight: float) -> None:
    """The mixers learn from a label."""
    if dim.regression == 1:
        mixing.weigh_values(mixer, voices, heard, each, target, weight)
    else:
        mixing.weigh(mixer, voices, heard, dim.outputs, each, int(target), weight)


@part
def loss_before(
    sleep: Any, mixer: Any, dim: Any, record: F64, fresh: bool, voices: F64, heard: int, each: F64, p: F64,
    target: float,
) -> float:  # fmt: skip
    """The mixture's loss as it stands before it learns; a trial compares like with like, late labels included."""
    if fresh or sleep.place[PHASE] <= IDLE:
        return loss_of(dim, record[dim.at_p : dim.at_p + dim.outputs], target)
    mix(mixer, dim, voices, heard, each, p)
    return loss_of(dim, p, target)


@part
def believe_alike(to: Any, source: Any) -> None:
    """One mixture believes in its mixers as another does."""
    for i in range(source.step.shape[0]):
        to.step[i] = source.step[i]
    for m in range(source.belief.shape[0]):
        to.belief[m] = source.belief[m]


@part
def taken_over(to: Any, source: Any) -> None:
    """One mixture becomes a copy of another."""
    mixers, experts = source.weight.shape
    believe_alike(to, source)
    for m in range(mixers):
        for k in range(experts):
            to.weight[m, k], to.square[m, k] = source.weight[m, k], source.square[m, k]
    for a in range(experts):
        for b in range(experts):
            to.covariance[a, b] = source.covariance[a, b]


@part
def heard_of(expert: int, groups: int) -> int:
    """1 where the expert belongs to one of the groups, or to none at all; else 0."""
    if expert < FIRST or expert - FIRST >= MEMBERS.shape[0]:
        return 1
    return 1 if MEMBERS[expert - FIRST] & groups != 0 else 0


@part
def arrange(sleep: Any, mixer: Any, rival: Any, groups: int) -> int:
    """The rival becomes a copy of the mixture that hears these groups; how many experts it hears.

    Its columns are moved so that those heard come first. Where some fall silent the others' weights keep their
    sum; those heard anew start with weight 0.
    """
    order, experts, mixers = sleep.order, sleep.order.shape[1], mixer.belief.shape[0]
    before, n, at = sleep.place[HEARD], 0, 0
    for j in range(experts):
        n += heard_of(order[0, j], groups)
    silent = n
    for j in range(experts):  # columns of the mixture at first, below the numbers of their experts
        if heard_of(order[0, j], groups) == 1:
            order[1, at] = j
            at += 1
        else:
            order[1, silent] = j
            silent += 1
    believe_alike(rival, mixer)
    for a in range(experts):
        was = order[1, a]
        known = was < before and a < n
        for b in range(experts):
            rival.covariance[a, b] = mixer.covariance[was, order[1, b]]
            if not known or not (order[1, b] < before and b < n):
                rival.covariance[a, b] = mixing.NEWTON_PRIOR if a == b else 0.0
        for m in range(mixers):
            rival.weight[m, a] = mixer.weight[m, was] if known else 0.0
            rival.square[m, a] = mixer.square[m, was] if known else 0.0
    for m in range(mixers):
        total, left = 0.0, 0.0
        for j in range(before):
            total += mixer.weight[m, j]
        for a in range(n):
            left += rival.weight[m, a]
        share = 1.0
        if total > 0.0 and left > 0.0:
            share = min(max(total / left, 0.5), 2.0)
        if m == mixing.POSTERIOR:
            share = total / max(left, 1e-12)
        for a in range(n):
            rival.weight[m, a] *= share
        if m == mixing.POSTERIOR:  # whom Bayes' rule gives nothing it can never give anything
            for a in range(n):
                rival.weight[m, a] = max(rival.weight[m, a], mixing.POSTERIOR_SHARE / n)
    for a in range(experts):
        order[1, a] = order[0, order[1, a]]
    return n


@part
def begin(sleep: Any, mixer: Any, rival: Any, number: int) -> None:
    """Begin a trial of the next set that is wholly awake, or that has slept for long enough."""
    place = sleep.place
    sets = SETS.shape[0]
    for _ in range(sets):
        groups, at = SETS[place[SET]], place[SET]
        phase = IDLE
        if place[AWAKE] & groups == groups:
            phase, place[TRIED] = WITHOUT, place[AWAKE] & ~groups
        elif place[AWAKE] & groups == 0 and sleep.until[at] >= 0 and number >= sleep.until[at]:
            phase, place[TRIED] = AGAIN, place[AWAKE] | groups
        if phase != IDLE:
            place[PHASE], place[LABELS] = phase, 0
            place[RIVALS] = arrange(sleep, mixer, rival, place[TRIED])
            for i in range(SHORT):
                sleep.sums[i] = 0.0
            return
        place[SET] = (at + 1) % sets
    place[NEXT] = number + CHECK


@part
def verdict(sleep: Any, counted: int) -> int:
    """1: the rival becomes the mixture, −1: it does not, 0: the trial goes on."""
    sums = sleep.sums
    doubt = SURE * math.sqrt(sums[SQUARES])
    worth = WORTH * sums[LOSS] if sleep.place[PHASE] == WITHOUT else -WORTH * sums[LOSS]
    if sums[DIFFERENCE] + doubt < worth:
        return 1
    if sums[DIFFERENCE] - doubt > worth:
        return -1
    if counted >= LONGEST:
        return 1 if sums[DIFFERENCE] < worth else -1
    return 0


@part
def end(sleep: Any, mixer: Any, rival: Any, number: int, won: bool) -> None:
    """A trial ends: the rival becomes the mixture, or is forgotten."""
    place, at = sleep.place, sleep.place[SET]
    if won:
        taken_over(mixer, rival)
        for j in range(sleep.order.shape[1]):
            sleep.order[0, j] = sleep.order[1, j]
        place[AWAKE], place[HEARD] = place[TRIED], place[RIVALS]
    if place[PHASE] == AGAIN:
        sleep.patience[at] = PATIENCE if won else min(2 * sleep.patience[at], MOST_PATIENCE)
    if won == (place[PHASE] == WITHOUT):
        sleep.until[at] = number + sleep.patience[at]
    elif won:
        sleep.until[at] = -1
    place[PHASE], place[NEXT] = IDLE, number
    place[SET] = (at + 1) % SETS.shape[0]


@part
def follow(
    sleep: Any, mixer: Any, rival: Any, dim: Any, logp: F64, record: F64, voices: F64, each: F64, p: F64,
    target: float, weight: float, number: int, loss: float,
) -> None:  # fmt: skip
    """The mixture, whose loss was `loss`, has learned a label: so does the rival; a trial may begin or end."""
    place, sums = sleep.place, sleep.sums
    if place[PHASE] == OFF:
        return
    sums[SHORT] += (loss - sums[SHORT]) / min(number + 1.0, RECENT)
    sums[LONG] += (loss - sums[LONG]) / min(number + 1.0, EARLIER)
    if number > EARLIER and sums[SHORT] > ALARM * sums[LONG]:
        sums[LONG] = sums[SHORT]
        for at in range(SETS.shape[0]):
            if sleep.until[at] >= 0:
                sleep.until[at] = number
    if place[PHASE] == IDLE:
        if number >= place[NEXT]:
            begin(sleep, mixer, rival, number)
        return
    heard = hear(sleep, 1, dim, logp, record, voices)
    mix(rival, dim, voices, heard, each, p)
    theirs = loss_of(dim, p, target)
    weigh(rival, dim, voices, heard, each, target, weight)
    place[LABELS] += 1
    counted = place[LABELS] - (PROBATION if place[PHASE] == AGAIN else 0)
    if counted <= 0:
        return
    heavy = min(weight, mixing.HEAVIEST)
    difference = heavy * (theirs - loss)
    sums[DIFFERENCE] += difference
    sums[SQUARES] += difference * difference
    sums[LOSS] += heavy * loss
    if counted % CHECK == 0:
        said = verdict(sleep, counted)
        if said != 0:
            end(sleep, mixer, rival, number + 1, said == 1)
