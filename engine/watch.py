"""Whether the present goes on: a running test of the mixture's loss, and the last events with their labels.

With l the loss of the mixture before it learns a label (at most `MOST`), m and s its running mean and deviation
over `HORIZON` labels,

    g ← max(0, g + min((l − m) / max(s, FLOOR), STEP) − SLACK)

is Page's (1954) cumulative sum: about 0 while losses are what they were, and rising from the event on from
which they are greater. Above a threshold it is an alarm: the run of events stops after that event, and
`engine.race` takes over. It stops as well, now and then, while g is 0, for what is well to be noted. The last
`RING` labelled events stay as they were forecast, so that others can be asked about them.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from engine.layout import Dim

OFF, QUIET, RACE = -1, 0, 1
NOTHING, ALARM, WELL, ASK = range(4)
MODE, STOP, COUNT, SINCE, DEAF, DUE = range(6)
MEAN, VARIANCE, RISEN, THRESHOLD, LABELS, LOW = range(6)
RING = 32  # events
HORIZON = 500.0  # labels
FEWEST, START = 50.0, 200  # labels before g rises, and before the first alarm
MOST, FLOOR = 4.0, 0.1  # nats, or spreads of the target
STEP, SLACK = 4.0, 0.25  # deviations
FAST = {"reassoc", "contract", "nsz"}
part = njit(fastmath=FAST, nogil=True, error_model="numpy", forceinline=True)

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


class Watch(NamedTuple):
    """The test, and the last events.

    place: (6,) int64 — OFF: no test, QUIET, or RACE while concepts race; why the run of events stops after the
    last label: NOTHING, ALARM, WELL where g is 0 and it was due, ASK where it was due in a race; labels seen;
    how many there were when g was 0 last; the label number from which on alarms are heard; how many labels have
    to be seen before it is due. sums: (6,) float64 — m, s², g, the threshold, the labels in m, and the
    threshold from the next time on that g is 0. record: (RING, record) float64, the events as forecast; target,
    loss: (RING,) float64; serial: (RING,) int64, their label numbers, −1 for none.
    """

    place: I64
    sums: F64
    record: F64
    target: F64
    loss: F64
    serial: I64


def allocate(record: int, *, on: bool, threshold: float = 0.0) -> Watch:
    """Nothing seen yet; record: numbers of an event's record."""
    ring = RING if on else 1
    return Watch(
        place=np.array([QUIET if on else OFF, NOTHING, 0, 0, START, START], np.int64),
        sums=np.array([0.0, 0.0, 0.0, threshold, 0.0, threshold]),
        record=np.zeros((ring, record if on else 1)),
        target=np.zeros(ring),
        loss=np.zeros(ring),
        serial=np.full(ring, -1, np.int64),
    )


def resized(watch: Watch, dim: Dim) -> Watch:
    """The same test for other sizes; the last events had others, and are gone."""
    if watch.place[MODE] == OFF or watch.record.shape[1] == dim.record:
        return watch
    return watch._replace(record=np.zeros((RING, dim.record)), serial=np.full(RING, -1, np.int64))


@part
def follow(watch: Any, record: F64, target: float, loss: float, serial: int) -> None:
    """A label was learned, and the forecast of its event had this loss."""
    place, sums = watch.place, watch.sums
    if place[MODE] == OFF:
        return
    slot = place[COUNT] % RING
    kept = watch.record[slot]
    for i in range(kept.shape[0]):
        kept[i] = record[i]
    watch.target[slot], watch.loss[slot], watch.serial[slot] = target, loss, serial
    lost = min(loss, MOST)
    away = lost - sums[MEAN]
    risen = sums[RISEN] + min(away / max(math.sqrt(sums[VARIANCE]), FLOOR), STEP) - SLACK
    if not risen > 0.0 or sums[LABELS] < FEWEST:
        risen = 0.0
        place[SINCE] = place[COUNT] + 1
        sums[THRESHOLD] = sums[LOW]
    sums[RISEN] = risen
    sums[LABELS] += 1.0
    share = 1.0 / min(sums[LABELS], HORIZON)
    sums[MEAN] += share * away
    sums[VARIANCE] += share * ((1.0 - share) * away * away - sums[VARIANCE])
    place[COUNT] += 1
    due = place[COUNT] >= place[DUE]
    if place[MODE] == RACE:
        place[STOP] = ASK if due else NOTHING
    elif risen > sums[THRESHOLD] and serial >= place[DEAF]:
        place[STOP] = ALARM
    elif risen == 0.0 and due:
        place[STOP] = WELL
