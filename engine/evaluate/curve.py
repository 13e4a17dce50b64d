"""Figures over time for plots: windows of equal length, merged in pairs when there are too many."""

from __future__ import annotations

import math
from typing import Any

from engine.evaluate.auc import exact_auc


class Curve:
    """At most `points` windows over the whole stream, each the sum of blocks of `window` events.

    Every event brings two numbers (for classification: right or wrong, and its log loss; for regression:
    the absolute error and its square) and, for two classes, its log-odds and class. A full block is
    added to the window at the end; when `points` windows are full, neighbours merge and windows get twice
    as long. The area under the ROC curve is exact within a block; a window shows its blocks' mean,
    weighted by their pairs.
    """

    def __init__(self, *, window: int = 200, points: int = 240) -> None:
        if window < 1 or points < 2:
            raise ValueError(f"window={window}, points={points}: expected window ≥ 1 and points ≥ 2")
        self.window = window
        self.points = points
        self.blocks = 1  # blocks per window at present
        self.events = 0
        # window: [events up to its end, time of its last one, weight, Σ first, Σ second, pairs, Σ area·pairs]
        self._done: list[list[Any]] = []
        self._open: list[Any] | None = None  # full blocks that do not fill a window yet
        self._open_blocks = 0
        self._block: list[Any] = [0, None, 0.0, 0.0, 0.0, 0, 0.0]
        self._in_block = 0
        self._scores: list[float] = []
        self._positive: list[bool] = []

    def add(self, w: float, first: float, second: float, time: float | None, score: float, pos: bool) -> None:
        """Take one event; score NaN where there is no ranking of two classes."""
        self.events += 1
        block = self._block
        block[0], block[1] = self.events, time
        block[2] += w
        block[3] += w * first
        block[4] += w * second
        if not math.isnan(score):
            self._scores.append(score)
            self._positive.append(pos)
        self._in_block += 1
        if self._in_block == self.window:
            self._close_block()

    def _close_block(self) -> None:
        block = self._ranked(self._block)
        self._block = [0, None, 0.0, 0.0, 0.0, 0, 0.0]
        self._scores, self._positive, self._in_block = [], [], 0
        self._open = block if self._open is None else _join(self._open, block)
        self._open_blocks += 1
        if self._open_blocks < self.blocks:
            return
        self._done.append(self._open)
        self._open, self._open_blocks = None, 0
        if len(self._done) == self.points:
            last = self._done.pop() if len(self._done) % 2 else None
            self._done = [_join(a, b) for a, b in zip(self._done[::2], self._done[1::2], strict=True)]
            if last is not None:
                self._open, self._open_blocks = last, self.blocks
            self.blocks *= 2

    def _ranked(self, block: list[Any]) -> list[Any]:
        area, pairs = exact_auc(self._scores, self._positive) if self._scores else (0.5, 0)
        return [*block[:5], pairs, area * pairs]

    def result(
        self, names: tuple[str, str], *, root: bool = False, ranked: bool = True
    ) -> list[dict[str, Any]]:
        """Points in order: `events`, `time`, the two names' means (second one's root on wish), `roc_auc`.

        The window at the end is shown from half its length on, or where it is the only one.
        """
        rows = list(self._done)
        rest = self._open
        if self._in_block:
            block = self._ranked(self._block)
            rest = block if rest is None else _join(rest, block)
        length = self._open_blocks * self.window + self._in_block
        if rest is not None and (not rows or 2 * length >= self.blocks * self.window):
            rows.append(rest)
        points = []
        for events, time, weight, first, second, pairs, area in rows:
            if weight <= 0:
                continue
            mean = second / weight
            points.append(
                {
                    "events": events,
                    "time": time,
                    names[0]: first / weight,
                    names[1]: math.sqrt(mean) if root else mean,
                    **({"roc_auc": area / pairs if pairs else None} if ranked else {}),
                }
            )
        return points

    def state(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        return {
            "options": [self.window, self.points],
            "counts": [self.blocks, self.events, self._open_blocks, self._in_block],
            "done": [list(row) for row in self._done],
            "open": None if self._open is None else list(self._open),
            "block": list(self._block),
            "scores": list(self._scores),
            "positive": list(self._positive),
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Curve:
        """The curve that `state` described."""
        window, points = state["options"]
        self = cls(window=window, points=points)
        self.blocks, self.events, self._open_blocks, self._in_block = state["counts"]
        self._done = [list(row) for row in state["done"]]
        self._open = None if state["open"] is None else list(state["open"])
        self._block = list(state["block"])
        self._scores, self._positive = list(state["scores"]), list(state["positive"])
        return self


def _join(a: list[Any], b: list[Any]) -> list[Any]:
    return [b[0], b[1], *(x + y for x, y in zip(a[2:], b[2:], strict=True))]
