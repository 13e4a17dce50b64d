"""Experience over wide inputs: what two more experts say, and what is answered of tasks that are past.

A wide vector z (`engine.wide`) is read by

- the analytic memory, which never forgets (`memory.analytic_kernels`);
- the rehearsed layer, a slow path: one local layer of 256 units (`engine.rules.local`) that with every event also
  looks at `REHEARSALS` kept examples, classes in turn (`memory.episodic_kernels`), and learns from those it does
  not know yet, p(y) < `KNOWN`: steps of the local rule are as long for a small error as for a great one, and
  thousands of them for what is known teach the kept examples by heart. Classes not seen lately are left out of
  the new event's loss (ER-ACE, Caccia et al. 2022); it answers by running means of its weights. It reads z where
  that comes from images, and many features themselves, standardised by the map's frozen scaler.

The layers that read images follow the present: the fast path. Two mixtures weigh them. The learner's own learns
from live events; the other, `old`, weighs the two above, and learns from kept examples that train neither, each
asked some twenty times in all: a few would be learned by heart.

With L the classes seen lately, the mixture that never left the past says whether what is asked is of L, and
within L both say of what:

    p(c) = p_old(L) p_old(c) p_live(c) / Σ_L p_old p_live for c in L,   p(c) = p_old(c) for the others

Where all classes were seen lately, tasks may still differ by what their events look like. A logistic regression
on the layer's input learns to tell each new event from a kept one of more than `PAST` events ago, by normalised
steps (Widrow and Hoff 1960); with q its probability that what is asked is of the present,

    p = g p_live + (1 − g) p_old,   g = min(1, q/¼):

on a stream that stays as it is nobody can tell, q stays near ½, and the answer is p_live to the bit.

An event that the caller says is live is answered by p_live alone.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from engine import mixing, network
from engine.encoders import random_units
from engine.layout import LASTING, Sizes
from engine.rules.local import LEAKY_RELU, SQUARE_DECAY, forward_layer, scale_input, update_layer
from memory import analytic, analytic_kernels, episodic, episodic_kernels

WIDTH = 256
REHEARSALS = 6
RATE = 0.0005
KNOWN = 0.99
AVERAGED = 2_500.0  # events over which weights are averaged
ROTATION = 16  # the means of one row in so many follow with each event
LATELY, SEEN_LATELY = 0.98, 0.5  # a class counts as seen for at most 228 events after its last
CLIP = 4.0  # deviations of many features
SURPRISED = 1e-6
SOON, SELDOM = (
    2.0,
    1e-4,
)  # how often a withheld example is asked: soon after each other at first, later seldom
UNHEARD = 1e-300
PAST = 256  # events after which a kept example stands for the past
TELLING = 0.1  # step of the regression that tells present from past
OFFSET = 0.25  # of that step, for the offset
DOUBTED = 0.25  # a lower probability of the present: the past is heard
START = np.array([1.0, 0.0])  # the weights of `old` before it has learned

# nobody calls these from Python: without wrappers they compile in half of the time
part = njit(nogil=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


class Experience(NamedTuple):
    """What a learner of wide inputs remembers, flat arrays and groups of them.

    layer, mean: the rehearsed layer as it learns, and the running means by which it answers.
    old: the mixture that withheld examples teach.  lately: (C,) float64, how often each class was seen, decayed.
    steps: (2,) int64, updates of the layer and events learned.  present: (source + 1,) float32, what tells an
    event of the present from a kept one, an offset last.
    """

    analytic: Any
    episodic: Any
    layer: Any
    mean: Any
    old: Any
    lately: F64
    steps: I64
    present: F32


class Room(NamedTuple):
    """Working space, and the frozen map from many features to z; nothing that changes outlives a call."""

    z: F32
    u: F32
    scaled_u: F32
    hidden: F32
    slope: F32
    above: F32
    delta: F32
    sway: F32
    scaled: F32
    s: F64
    p: F64
    y: F64
    said: F64
    logp: F64
    each: F64
    old: F64
    centre: F64
    spread: F64
    zeros: F64
    ones: F64
    x: F64
    signs: F32
    scale: F32
    offset: F32
    space: F32


def allocate(wide: int, source: int, outputs: int, kept: int, seed: int) -> Experience:
    """Nothing learned yet; wide, source: numbers of z, and of what examples keep; kept: bytes."""
    width = WIDTH if wide else 1
    shape = network.Shape(depth=1, width=width, inputs=source, outputs=outputs)
    old = mixing.allocate(len(LASTING))
    old.weight[:] = START
    old.weight[mixing.POSTERIOR] = START * (1 - mixing.POSTERIOR_SHARE) + mixing.POSTERIOR_SHARE / len(
        LASTING
    )
    slots = episodic.slots_for(kept, source) if wide else 0
    return Experience(
        analytic=analytic.allocate(wide, outputs),
        episodic=episodic.allocate(slots, source, outputs, seed),
        layer=network.allocate(shape, 2 * seed + 11), mean=network.allocate(shape, 2 * seed + 11),
        old=old, lately=np.zeros(outputs), steps=np.zeros(2, np.int64),
        present=np.zeros(source + 1, np.float32),
    )  # fmt: skip


def nothing() -> Experience:
    """What stands in its place where there is no wide vector."""
    return allocate(0, 0, 1, 0, 0)


def made(sizes: Sizes, seed: int) -> Experience:
    """The experience of a learner of these sizes, empty."""
    if not sizes.lasting:
        return nothing()
    return allocate(sizes.wide, sizes.source, sizes.outputs, sizes.kept, seed)


def there(e: Experience) -> bool:
    """Whether there is any."""
    return bool(e.analytic.mean.shape[1] > 0)


def grown(e: Experience, old: Sizes, new: Sizes, seed: int) -> Experience:
    """The same for other sizes: more classes keep what was learned, another wide vector starts anew."""
    if new.lasting == old.lasting and new.wide == old.wide and new.outputs == old.outputs:
        return e
    if not new.lasting or new.wide != old.wide:
        return made(new, seed)
    same = np.arange(new.source)
    lately = np.zeros(new.outputs)
    lately[: len(e.lately)] = e.lately
    return e._replace(
        analytic=analytic.grown(e.analytic, new.outputs),
        episodic=episodic.grown(e.episodic, new.outputs),
        layer=network.grow(e.layer, 2 * seed + 11, new.source, new.outputs, same),
        mean=network.grow(e.mean, 2 * seed + 11, new.source, new.outputs, same),
        lately=lately,
    )


def room(sizes: Sizes, units: Any) -> Room:
    """Working space; units: the map of many features, None where the layer reads z itself."""
    f, z = np.float32, np.zeros
    wide, source, outputs = (sizes.wide, sizes.source, sizes.outputs) if sizes.lasting else (0, 0, 1)
    made = (z(1), z(1), z((1, 3, 1), f), z(1, f), z(1, f)) if units is None else units
    centre, spread, signs, scale, offset = made
    return Room(
        z=z(wide, f), u=z(source, f), scaled_u=z(source, f), hidden=z(WIDTH, f), slope=z(WIDTH, f),
        above=z(WIDTH, f), delta=z(WIDTH, f), sway=z(WIDTH, f), scaled=z(WIDTH, f),
        s=z(outputs), p=z(outputs), y=z(wide), said=z((len(LASTING), outputs)), logp=z((len(LASTING), outputs)),
        each=z((mixing.MIXERS, outputs)), old=z(outputs),
        centre=centre, spread=spread, zeros=np.zeros(len(spread)), ones=(spread > 0.0).astype(np.float64),
        x=z(len(spread)), signs=signs, scale=scale, offset=offset, space=z((2, signs.shape[2]), f),
    )  # fmt: skip


def memory_bytes(e: Experience) -> dict[str, int]:
    """Bytes of statistics, of kept examples and of the rehearsed layer."""
    kept = episodic.bytes_of(e.episodic)
    return {
        "analytic memory": sum(part.nbytes for part in e.analytic),
        "kept examples": kept["kept"],
        "beside kept examples": kept["beside"],
        "rehearsed layer": sum(part.nbytes for net in (e.layer, e.mean) for part in net),
    }


@part
def read(r: Any, many: bool, wide: F32, raw: F64) -> None:
    """r.z ← the wide vector of an event, r.u ← what the layer reads and examples keep."""
    for i in range(r.z.shape[0]):
        r.z[i] = wide[i]
    if not many:
        for i in range(r.u.shape[0]):
            r.u[i] = wide[i]
        return
    for f in range(r.u.shape[0]):
        r.u[f] = np.float32(0.0)
        if r.spread[f] > 0.0 and not math.isnan(raw[f]):
            value = np.float32((raw[f] - r.centre[f]) / r.spread[f])
            r.u[f] = min(max(value, np.float32(-CLIP)), np.float32(CLIP))


@part
def recall(e: Any, r: Any, many: bool, slot: int) -> None:
    """r.z, r.u ← those of a kept example."""
    episodic_kernels.decode(e.episodic.code[slot], e.episodic.top[0], r.u)
    if not many:
        for i in range(r.z.shape[0]):
            r.z[i] = r.u[i]
        return
    for f in range(r.x.shape[0]):
        r.x[f] = r.u[f]
    random_units.answer(r.zeros, r.ones, r.signs, r.scale, r.offset, r.x, r.space[0], r.space[1], r.z)


@part
def forward(net: Any, outputs: int, r: Any, p: F64) -> None:
    """One layer's forecast p (C,) for r.u."""
    forward_layer(
        net, 0, WIDTH, r.u.shape[0], outputs, LEAKY_RELU, False, r.above, r.u, r.hidden, r.slope, r.above, p
    )


@part
def step(e: Any, outputs: int, c: int, weight: float, r: Any, p: F64) -> None:
    """One step of the local rule, after `forward`."""
    e.steps[0] += 1
    correction = 1.0 - SQUARE_DECAY ** float(e.steps[0])
    scale_input(e.layer, r.u.shape[0], correction, r.u, r.scaled_u)
    update_layer(
        e.layer, 0, WIDTH, r.u.shape[0], outputs, False, RATE, correction, float(c), weight, r.above, r.u,
        r.scaled_u, r.hidden, r.slope, p, r.delta, r.sway, r.scaled,
    )  # fmt: skip


@part
def leave_out(lately: F64, outputs: int, c: int, p: F64) -> None:
    """p over the classes seen lately alone, c among them."""
    total = 0.0
    for b in range(outputs):
        if lately[b] < SEEN_LATELY and b != c:
            p[b] = 0.0
    for b in range(outputs):
        total += p[b]
    for b in range(outputs):
        p[b] /= max(total, 1e-300)


@part
def toward(mean: F32, now: F32, share: float) -> None:
    """mean ← mean + share (now − mean)."""
    take = np.float32(share)
    for i in range(mean.shape[0]):
        mean[i] += take * (now[i] - mean[i])


@part
def average(e: Any) -> None:
    """The running means of the layer's weights follow, a part of the rows with each event."""
    mean, layer, events = e.mean, e.layer, e.steps[1]
    share = max(1.0 / AVERAGED, 1.0 / (1.0 + events))
    more = 1.0 - (1.0 - share) ** ROTATION
    for j in range(events % ROTATION, layer.W.shape[1], ROTATION):
        toward(mean.W[0, j], layer.W[0, j], more)
    for c in range(layer.V.shape[1]):
        toward(mean.V[0, c], layer.V[0, c], share)
    toward(mean.b[0], layer.b[0], share)
    toward(mean.c[0], layer.c[0], share)


@part
def say(e: Any, r: Any, outputs: int, said: F64) -> None:
    """said (2, C) ← what analytic memory and rehearsed layer expect of r.z and r.u."""
    analytic_kernels.say(e.analytic, r.z, outputs, said[0])
    forward(e.mean, outputs, r, said[1])


@part
def say_old(e: Any, r: Any, outputs: int) -> None:
    """r.old (C,) ← the mixture that withheld examples teach, of r.said."""
    for k in range(r.said.shape[0]):
        for c in range(outputs):
            r.logp[k, c] = math.log(max(r.said[k, c], mixing.FLOOR))
    mixing.mix(e.old, r.logp, r.said.shape[0], outputs, r.each, r.old)


@part
def presence(e: Any, r: Any) -> float:
    """The probability that r.u is an event of the present and not of the past; ½ where nothing is known."""
    s = e.present[r.u.shape[0]]
    for i in range(r.u.shape[0]):
        s += e.present[i] * r.u[i]
    return 1.0 / (1.0 + math.exp(-min(max(float(s), -30.0), 30.0)))


@part
def tell(e: Any, r: Any, now: float) -> None:
    """r.u is of the present (1) or of the past (0): one step."""
    energy = np.float32(1.0)
    for i in range(r.u.shape[0]):
        energy += r.u[i] * r.u[i]
    step = np.float32(TELLING * (now - presence(e, r)))
    e.present[r.u.shape[0]] += np.float32(OFFSET) * step
    for i in range(r.u.shape[0]):
        e.present[i] += step / energy * r.u[i]


@part
def trust(e: Any, r: Any, outputs: int, p: F64) -> None:
    """p, the live mixture, ← the answer; r.said and r.u are the event's.

    Where all classes were seen lately and the event looks like those of the present, p stays as it is.
    """
    present = 0
    for c in range(outputs):
        present += 1 if e.lately[c] >= SEEN_LATELY else 0
    if present == outputs:
        g = presence(e, r) / DOUBTED
        if g < 1.0:
            say_old(e, r, outputs)
            for c in range(outputs):
                p[c] = g * p[c] + (1.0 - g) * r.old[c]
        return
    say_old(e, r, outputs)
    lately, both = 0.0, 0.0
    for c in range(outputs):
        if e.lately[c] >= SEEN_LATELY:
            lately += r.old[c]
            both += r.old[c] * p[c]
    for c in range(outputs):
        if e.lately[c] < SEEN_LATELY or both <= UNHEARD:
            p[c] = r.old[c]
        else:
            p[c] *= r.old[c] * (lately / both)


@part
def due(e: Any) -> bool:
    """Whether a withheld example is to be asked: of n after t events with probability n (2/t + 1/10,000)."""
    held = episodic_kernels.how_many(e.episodic, 1)
    often = held * (SOON / e.steps[1] + SELDOM)
    return held > 0 and episodic_kernels.uniform(e.episodic.random) < often


@part
def check(e: Any, r: Any, many: bool, outputs: int) -> None:
    """The weights of `old` learn from one withheld example."""
    slot = episodic_kernels.rehearse(e.episodic, 1)
    if slot < 0:
        return
    recall(e, r, many, slot)
    say(e, r, outputs, r.said)
    say_old(e, r, outputs)
    mixing.weigh(e.old, r.logp, r.said.shape[0], outputs, r.each, e.episodic.label[slot], 1.0)


@part
def rehearse(e: Any, r: Any, outputs: int) -> None:
    """The layer learns from one kept example, where that is not known."""
    slot = episodic_kernels.rehearse(e.episodic, 0)
    if slot < 0:
        return
    episodic_kernels.decode(e.episodic.code[slot], e.episodic.top[0], r.u)
    c = e.episodic.label[slot]
    forward(e.layer, outputs, r, r.p)
    if r.p[c] < KNOWN:
        step(e, outputs, c, 1.0, r, r.p)


@part
def learn(
    e: Any, r: Any, many: bool, outputs: int, c: int, weight: float, expected: float, serial: int
) -> None:
    """A labelled event, read into r: kept or not, and unless it is withheld, learned by both; then rehearsals.

    expected: the probability that it was given.
    """
    for b in range(outputs):
        e.lately[b] *= LATELY
    e.lately[c] += 1.0
    kept = episodic_kernels.keep(e.episodic, r.u, c, -math.log(max(expected, SURPRISED)), serial)
    e.steps[1] += 1
    past = episodic_kernels.drawn_before(e.episodic, serial - PAST)
    if past >= 0:
        tell(e, r, 1.0)
    if kept < 1:
        analytic_kernels.temper(e.analytic, r.z, outputs, c, r.s, r.p)
        analytic_kernels.learn(e.analytic, r.z, c, weight, r.y)
        forward(e.layer, outputs, r, r.p)
        leave_out(e.lately, outputs, c, r.p)
        if r.p[c] < KNOWN:
            step(e, outputs, c, weight, r, r.p)
    for _ in range(REHEARSALS):
        rehearse(e, r, outputs)
    average(e)
    if due(e):
        check(e, r, many, outputs)
    if past >= 0:
        episodic_kernels.decode(e.episodic.code[past], e.episodic.top[0], r.u)
        tell(e, r, 0.0)
