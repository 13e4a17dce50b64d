"""How often what was forecast with a probability came true, in twenty bins."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

BINS = 20
DRAWS = 200


class Calibration:
    """Weight, Σ probability and Σ outcome per bin of the forecast probability.

    >>> calibration = Calibration()
    >>> calibration.add(0.82, came=True, w=1.0)
    >>> calibration.add(0.84, came=False, w=1.0)
    >>> calibration.rows()
    [[0.83, 0.5, 2.0]]
    """

    def __init__(self, bins: Sequence[Sequence[float]] | None = None) -> None:
        """bins: what `state` gave."""
        self._bins = [list(row) for row in bins] if bins else [[0.0, 0.0, 0.0] for _ in range(BINS)]

    def add(self, told: float, came: bool, w: float) -> None:
        """A forecast of probability `told`, and whether it came."""
        row = self._bins[min(int(told * BINS), BINS - 1)]
        row[0] += w
        row[1] += w * told
        row[2] += w * came

    def rows(self, other: bool = False) -> list[list[float]]:
        """[mean forecast, observed share, weight] of each bin with events, ascending; other: of the opposite."""
        rows = [[told / w, came / w, w] for w, told, came in self._bins if w > 0.0]
        return [[1.0 - told, 1.0 - came, w] for told, came, w in reversed(rows)] if other else rows

    def state(self) -> list[list[float]]:
        """Everything, ready for JSON."""
        return [list(row) for row in self._bins]


def expected_error(told: ArrayLike, came: ArrayLike) -> float:
    """Expected calibration error: Σ_bins |Σ probability − Σ outcome| / n, over twenty bins of equal width.

    told: (n,) probabilities, such as each forecast's largest; came: (n,) whether it came true. Naeini et al.
    2015.

    >>> round(expected_error([0.7, 0.7, 0.7, 0.7], [True, True, True, False]), 9)
    0.05
    """
    p, y = np.asarray(told, np.float64), np.asarray(came, np.float64)
    return float(abs(_sums(p, p) - _sums(p, y)).sum() / max(len(p), 1))


def expected_error_by_chance(told: ArrayLike, draws: int = DRAWS, seed: int = 0) -> float:
    """What `expected_error` stays below in 95 of 100 cases where the probabilities are exactly right."""
    p = np.asarray(told, np.float64)
    drawn = np.random.default_rng(seed)
    return float(np.quantile([expected_error(p, drawn.random(len(p)) < p) for _ in range(draws)], 0.95))


def _sums(p: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    sums = np.bincount(np.minimum((p * BINS).astype(int), BINS - 1), values, BINS)
    return np.asarray(sums, np.float64)
