"""How soon a learner is itself again after its task has changed, told apart by how often the task has come."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SHARE = 0.95  # of the accuracy before the switch
WINDOW = 50  # events over which accuracy is taken after a switch
BEFORE = 1_000  # events before a switch, at most, that say how accurate the learner was
AFTER = 1_000  # events after it, at most, whose shortfall is summed
LATER = 3  # visits from the third on are told together


@dataclass(frozen=True)
class Switch:
    """A change of task: the first event of the new one, the how manieth visit it is, what happened then.

    right: (events,), 1 where the live forecast was right, up to the next switch. before: accuracy over the last
    events of the task before.
    """

    at: int
    task: int
    visit: int
    before: float
    right: NDArray[np.float64]


def switches(right: NDArray[Any], starts: Sequence[int], order: Sequence[int]) -> list[Switch]:
    """The switches of a stream: right (events,), starts and order (parts,): first event and task of each part.

    Parts that follow each other with the same task are no switch.
    """
    hits = np.asarray(right, dtype=np.float64)
    ends = [*starts[1:], len(hits)]
    found, visits = [], {order[0]: 1}
    for k in range(1, len(starts)):
        task = order[k]
        if task == order[k - 1]:
            continue
        visits[task] = visits.get(task, 0) + 1
        before = hits[max(starts[k - 1], starts[k] - BEFORE) : starts[k]]
        found.append(Switch(starts[k], task, visits[task], float(before.mean()), hits[starts[k] : ends[k]]))
    return found


def recovery(right: NDArray[Any], before: float) -> int | None:
    """Events until the mean over the next 50 is at least 95 % of the accuracy before; None where it never is.

    min {t : (1/50) Σ_{s = t}^{t + 49} right_s ≥ 0.95 · before}

    >>> recovery(np.repeat([0.0, 1.0], [20, 100]), before=1.0)
    18
    """
    if len(right) < WINDOW:
        return None
    sums = np.convolve(np.asarray(right, dtype=np.float64), np.ones(WINDOW), "valid")
    well = np.flatnonzero(sums >= SHARE * before * WINDOW - 1e-9)
    return int(well[0]) if len(well) else None


def shortfall(right: NDArray[Any], before: float) -> float:
    """Right answers missing in the 1,000 events after a switch: Σ (before − right_t); below 0 if there are more.

    >>> shortfall(np.repeat([0.0, 1.0], [20, 100]), before=1.0)
    20.0
    """
    return float(np.sum(before - np.asarray(right[:AFTER], dtype=np.float64)))


def by_visit(found: Sequence[Switch]) -> Iterator[dict[str, Any]]:
    """First visits, second ones, and all from the third on: `visit`, `switches`, `recovery`, `shortfall`.

    Recovery is that of the mean over the switches, event by event: single ones are noise. Switches of several
    runs may be given together.
    """
    for visit in range(1, LATER + 1):
        mine = [s for s in found if s.visit == visit or (visit == LATER and s.visit > visit)]
        if not mine:
            continue
        length = min(len(s.right) for s in mine)
        mean = np.mean([s.right[:length] for s in mine], axis=0)
        before = float(np.mean([s.before for s in mine]))
        yield {
            "visit": visit,
            "and_later": visit == LATER,
            "switches": len(mine),
            "accuracy_before": before,
            "recovery": recovery(mean, before),
            "shortfall": float(np.mean([shortfall(s.right, s.before) for s in mine])),
        }
