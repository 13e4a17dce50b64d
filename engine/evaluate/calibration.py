"""How often what was forecast with a probability came true, in twenty bins."""

from __future__ import annotations

from collections.abc import Sequence

BINS = 20


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
