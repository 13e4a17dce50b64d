"""The race between the state at work and frozen concepts, begun by an alarm of `engine.watch`.

While losses are what they were nothing is asked of the concepts; now and then the parts that follow the present
swiftly are noted. From an alarm on concepts race, event by event, each event as it was seen when it was forecast:

    W_k = Σ clip(l − l_k, ±CLIP)     l, l_k: losses of the state at work, before it learned, and of concept k

Concept k takes over once W_k > TAKES_OVER and is out once W_k < FALLS_OUT. By Ville's inequality the state at
work, where it is right, is replaced with a probability of at most e^−TAKES_OVER. Of the n events that led to
the alarm the best start counts by half, less log n: they were chosen for their losses.

Where losses go on rising, the state at work is copied as it was when all was well: its earlier self. When a
concept takes over, a copy of it goes to work, and the frozen one is the earlier self now; the state that was at
work is stored. The earlier self races with the others, and is not out before `CLOSE` labels. If it wins, what
was learned since was wrong, and is undone. Once it is out, the state at work has become another concept, and it
stays as one of its own, unless its own losses are what they always were: then the state at work has but learned
more of the same. Whoever is not out after `LONGEST` labels says what the state at work says, and goes. Of more
than may be stored those go that were not at work for longest.

Concepts' forecasts are paid from `SHARE` forecasts per label, so that their time is bounded; a concept that comes
back earns `REWARD`. Every race that finds nothing raises the thresholds, a concept that comes back lowers them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from engine import kernels, state, watch
from engine.concepts import (
    OWN,
    SLOW,
    SWIFT,
    Concept,
    Concepts,
    alone,
    joined,
    lasting_runs,
    own_labels,
    own_number,
    room,
)
from engine.kernels import State
from engine.layout import CENTRE, SPREAD
from engine.mixing import FLOOR
from engine.steps import centre_and_spread

EVERY = 256  # labels between two notes of what is well
ASKED, COPIED = 7.0, 10.0  # risen losses from which on others are asked, and from which on a copy is taken
WARY, WARIEST = 0.03, 2.0  # by how much more after every race that found nothing, and at most
CLIP, TAKES_OVER, FALLS_OUT = 6.0, 5.0, -4.0  # nats
BEFORE = 0.5  # what evidence from before the alarm counts
SAME = (
    0.5  # of what an earlier self is behind: where its loss is above its own by less, it is the same concept
)
CLOSE, SELDOM = 24, 4  # labels of a race after which only every fourth is looked at
LONGEST, SHORTER = 100, 50  # labels of a race with an earlier self, and of one without
APART, MOST_APART = 1_000, 8_000  # labels between two copies, twice as many after each that was of no use
SHARE, SAVED, REWARD = 0.04, 300.0, 100.0  # forecasts per label, at most saved, for a concept that came back
RESERVED, LEAST = 120.0, 20.0  # of them, for losses that go on rising, and without which no race begins
LEAST_ERROR = 0.02  # spreads of the target


def begun(held: watch.Watch) -> Concepts:
    """No concept; the first alarm is for a copy, for there is nobody to ask."""
    held.sums[[watch.THRESHOLD, watch.LOW]] = COPIED
    return Concepts(SAVED, APART)


def step(concepts: Concepts, core: Any) -> None:
    """The core has learned a label and stopped: all is well, an alarm begins a race, or the race goes on."""
    held, labels = core.state.watch, int(core.state.tally[1])
    why, count = int(held.place[watch.STOP]), int(held.place[watch.COUNT])
    held.place[watch.STOP] = watch.NOTHING
    if why == watch.WELL:
        if concepts.well is None or not state.copied_into(concepts.well, core.state, SWIFT):
            concepts.well = alone(state.duplicate(core.state, SWIFT), SWIFT)
        held.place[watch.DUE] = count + EVERY
        return
    concepts.credit = min(SAVED, concepts.credit + SHARE * (labels - concepts.paid))
    concepts.paid = labels
    first = count - 1
    if why == watch.ALARM:
        if not room(core.sizes, core.options.memory_budget):
            held.place[watch.DEAF] = labels + MOST_APART
            return
        rising = int(held.place[watch.SINCE])
        concepts.since, concepts.onset = labels, labels - (count - rising)
        held.place[watch.MODE], held.place[watch.DUE] = watch.RACE, 0
        for concept in concepts.stored:
            concept.begins()
        first = max(rising, count - watch.RING)
    _ask(concepts, core, range(count - 1, first - 1, -1), labels)
    best = max(concepts.stored, key=lambda c: -math.inf if c.out else c.evidence, default=None)
    if best is not None and not best.out and best.evidence > TAKES_OVER:
        _take_over(concepts, core, best, labels)
        return
    if concepts.earlier is None and held.sums[watch.RISEN] > COPIED * concepts.caution:
        _copy(concepts, core, labels)
    if _over(concepts, core, labels):
        _end(concepts, core, labels)
    elif labels - concepts.since >= CLOSE:
        held.place[watch.DUE] = count + SELDOM


def _ask(concepts: Concepts, core: Any, events: range, labels: int) -> None:
    """Ask those in the race about these of the last events, the newest first."""
    serials = core.state.watch.serial
    for concept in concepts.stored:
        total, best, asked = 0.0, 0.0, 0
        for number in () if concept.out else events:
            slot = number % watch.RING
            if serials[slot] < 0:  # forgotten
                break
            total += _gain(concepts, core, concept, slot)
            asked += 1
            best = max(best, total)
            if total < FALLS_OUT:
                break
        leading = len(events) > 1 and best > 0.0
        concept.evidence += BEFORE * best - math.log(asked) if leading else total
        if concept is concepts.earlier and labels - concepts.since < CLOSE:
            concept.evidence = max(concept.evidence, FALLS_OUT)  # a burst of noise is no concept
        concept.out = concept.out or concept.evidence < FALLS_OUT


def _gain(concepts: Concepts, core: Any, concept: Concept, slot: int) -> float:
    """By how much the concept forecast an event better than the state at work, clipped.

    For regression in units of that state's mean error: differences of a Laplace distribution's log likelihoods.
    """
    held, dim = core.state.watch, core.dim
    record, target = held.record[slot].copy(), float(held.target[slot])
    before, spread = float(record[CENTRE]), float(record[SPREAD])
    given = None
    if dim.added:
        first = dim.experts - dim.added - (2 if dim.history else 0)
        given = record[dim.at_logp + first * dim.outputs :][: dim.added * dim.outputs]
        given = given * spread + before if core.regression else np.exp(given)
    if core.regression:
        centre, scale = centre_and_spread.py_func(concept.state.prior[0])
        if dim.history:
            at = dim.at_input + dim.recall
            record[at] = np.float32((record[at] * spread + before - centre) / scale)
        record[CENTRE], record[SPREAD] = centre, scale
    out = core.ask(_bound(core, concept), record, given)
    concepts.credit -= 1.0
    if core.regression:
        theirs = abs(float(out[0]) - target) / spread
        unit = max(float(held.sums[watch.MEAN]), LEAST_ERROR)
    else:
        theirs, unit = -math.log(max(float(out[int(target)]), FLOOR)), 1.0
    concept.excess += (min(theirs, watch.MOST) - concept.mean) / unit
    return min(max((float(held.loss[slot]) - theirs) / unit, -CLIP), CLIP)


def _bound(core: Any, concept: Concept) -> Any:
    """The concept's own with what belongs to the present, as the kernels take it."""
    if concept.bound[0] is not core.state:
        linked = joined(core.state, concept.state)
        concept.bound = (core.state, kernels.bind(linked, core.scratch, core.dim, core.settings))
    return concept.bound[1]


def _copy(concepts: Concepts, core: Any, labels: int) -> None:
    """Keep the state at work as it was when all was well, or the one that was kept not long ago."""
    spare = concepts.spare
    if labels - concepts.copied >= concepts.apart:
        concepts.copied = labels
        parts = OWN if concepts.well is None else SLOW
        if spare is not None and state.copied_into(spare.state, core.state, parts):
            own = spare.state
        else:
            own = state.duplicate(core.state, parts)
        spare = _frozen(concepts, core, own, labels)
    if spare is not None:
        concepts.spare, concepts.earlier, concepts.since = None, spare, labels
        spare.begins()
        concepts.stored.append(spare)


def _frozen(concepts: Concepts, core: Any, own: State, labels: int) -> Concept:
    """The state at work as a concept, without what it has learned since losses began to rise.

    Neighbours keep the few events; trees forget them, and the swift parts are those that were noted.
    """
    sums, runs = core.state.watch.sums, concepts.runs
    if concepts.well is not None:
        own = own._replace(**{name: getattr(concepts.well, name) for name in SWIFT})
        concepts.well, core.state.watch.place[watch.DUE] = None, 0
    if core.sizes.forested:
        for serial in range(concepts.onset, labels):
            kernels.forget_in_trees(own.forest, own_number(runs, serial), core.regression)
    first, _, had = runs[-1]
    mean, variance = float(sums[watch.MEAN]), float(sums[watch.VARIANCE])
    return Concept(alone(own, OWN), mean, variance, labels, [*runs[:-1], (first, labels, had)])


def _take_over(concepts: Concepts, core: Any, concept: Concept, labels: int) -> None:
    """A copy of the concept goes to work; the state that was is stored, unless it has an earlier self."""
    if concepts.earlier is None:
        concepts.stored.append(_frozen(concepts, core, core.state, labels))
    concepts.returns += concept is not concepts.earlier
    concepts.earlier, concepts.spare, concepts.well = concept, None, None
    concepts.runs = [
        *lasting_runs(concept, trees=core.sizes.forested),
        (labels, -1, own_labels(concept.runs)),
    ]
    core.state = joined(core.state, state.duplicate(concept.state, OWN))
    core.state.tally[4:] += 1  # another recall finds others, in other slots
    held = core.state.watch
    held.sums[watch.MEAN], held.sums[watch.VARIANCE] = concept.mean, concept.variance
    held.sums[watch.RISEN], held.place[watch.SINCE] = 0.0, held.place[watch.COUNT]
    held.place[watch.DUE] = 0
    concepts.since = concepts.onset = labels
    for each in concepts.stored:
        each.begins()
    _let_go(concepts, core)


def _over(concepts: Concepts, core: Any, labels: int) -> bool:
    """Whether the race ends."""
    if concepts.credit < 1.0 or all(concept.out for concept in concepts.stored):
        return True
    if concepts.earlier is not None:
        return labels - concepts.since >= LONGEST
    return labels - concepts.since >= SHORTER or core.state.watch.sums[watch.RISEN] == 0.0


def _end(concepts: Concepts, core: Any, labels: int) -> None:
    """The race is over: what is the same concept as the state at work goes, and the thresholds are set anew."""
    held, earlier = core.state.watch, concepts.earlier
    whole = earlier is not None and labels - concepts.since >= LONGEST
    came_back = False
    if earlier is not None:
        returned = earlier.until <= concepts.runs[-1][0]  # it was not copied from the state at work
        came_back = returned and labels - concepts.since >= CLOSE  # and has stood
        if not earlier.out or earlier.excess < -SAME * earlier.evidence:
            concepts.stored.remove(earlier)
            if returned:
                concepts.apart = APART
            else:
                concepts.spare, concepts.apart = earlier, min(2 * concepts.apart, MOST_APART)
        else:
            concepts.apart = APART
            held.sums[watch.LABELS] = watch.FEWEST  # another concept has other losses
    if whole:
        concepts.stored = [concept for concept in concepts.stored if concept.out]
    concepts.earlier = None
    _let_go(concepts, core)
    for concept in concepts.stored:
        concept.bound = (None, None)
    if came_back:
        concepts.credit = min(SAVED, concepts.credit + REWARD)
    concepts.caution = 1.0 if came_back else min(concepts.caution + WARY, WARIEST)
    high = COPIED * concepts.caution
    low = ASKED * concepts.caution if concepts.stored and concepts.credit > RESERVED else high
    if earlier is not None or held.sums[watch.RISEN] > high:
        held.sums[watch.RISEN] = 0.0
    held.sums[watch.LOW] = low
    held.sums[watch.THRESHOLD] = high if held.sums[watch.RISEN] > 0.0 else low
    held.place[watch.MODE], held.place[watch.DUE] = watch.QUIET, 0
    if concepts.credit < LEAST:
        held.place[watch.DEAF] = labels + math.ceil((LEAST - concepts.credit) / SHARE)


def _let_go(concepts: Concepts, core: Any) -> None:
    """As many as may be: those that were not at work for longest go."""
    most = room(core.sizes, core.options.memory_budget) + (concepts.earlier is not None)
    while len(concepts.stored) > most:
        rest = (concept for concept in concepts.stored if concept is not concepts.earlier)
        concepts.stored.remove(min(rest, key=lambda c: c.until))
