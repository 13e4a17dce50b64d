"""How much better one learner was than another over the same events, and how sure that is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

BLOCKS = 50
STUDENT = 2.0096  # the 97.5 % quantile of Student's t with 49 degrees of freedom


@dataclass(frozen=True)
class Paired:
    """A mean difference and half the width of its 95 % interval, None with fewer than two events per block."""

    difference: float
    half_width: float | None

    @property
    def sure(self) -> bool:
        """Whether 0 lies outside of the interval."""
        return self.half_width is not None and abs(self.difference) > self.half_width


def paired(a: ArrayLike, b: ArrayLike, weights: ArrayLike | None = None) -> Paired:
    """The mean of a − b over events, by weight, with a 95 % interval from 50 blocks of consecutive events.

    a, b: (n,) what each event said of two learners, in the order of labels; weights: (n,), all 1 without them.
    Events next to each other are not independent, blocks nearly are: with D = Σ W_k d_k / Σ W_k over blocks of
    weight W_k and mean difference d_k, and r_k = W_k (d_k − D) / mean W, half the width is
    t √(Σ r_k² / (50 · 49)) with t = 2.01, Student's for 49 degrees of freedom. ValueError where lengths differ.

    >>> right = np.tile([1.0, 1.0, 0.0, 1.0], 100)  # each block of 8 is right in three of four
    >>> paired(right, np.zeros(400))
    Paired(difference=0.75, half_width=0.0)
    >>> paired([1.0, 0.0], [0.0, 0.0])
    Paired(difference=0.5, half_width=None)
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    heavy = np.ones(len(first)) if weights is None else np.asarray(weights, dtype=np.float64)
    if not len(first) == len(second) == len(heavy):
        raise ValueError(
            f"a, b and weights have {len(first)}, {len(second)} and {len(heavy)} events; expected equal numbers"
        )
    whole = float(heavy.sum())
    if whole <= 0.0:
        return Paired(0.0, None)
    differences = (first - second) * heavy
    mean = float(differences.sum()) / whole
    if len(first) < 2 * BLOCKS:
        return Paired(mean, None)
    sums = np.array([block.sum() for block in np.array_split(differences, BLOCKS)])
    sizes = np.array([block.sum() for block in np.array_split(heavy, BLOCKS)])
    return Paired(mean, paired_blocks(sums, sizes).half_width)


def paired_blocks(sums: ArrayLike, sizes: ArrayLike) -> Paired:
    """The same from 50 blocks: (50,) each block's Σ of weighted differences, and its weight."""
    total, weight = np.asarray(sums, np.float64), np.asarray(sizes, np.float64)
    mean, whole = float(total.sum()) / float(weight.sum()), float(weight.sum())
    rest = (total - mean * weight) / (whole / BLOCKS)
    return Paired(mean, STUDENT * math.sqrt(float(rest @ rest) / (BLOCKS * (BLOCKS - 1))))
