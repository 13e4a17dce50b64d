"""Label history for peers: the labels just before become features."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.evaluate.peers import Peer

LAGS = 3


@dataclass(frozen=True)
class Asked:
    """A forecast with the features that it was made from: the event's and the labels known then."""

    x: dict[str, Any]
    proba: dict[Any, float] = field(default_factory=dict)
    value: float = 0.0


class Lagged:
    """A peer that is told the last labels that were known when it was asked.

    They are the features "label 1 before" to "label 3 before": text for classes, numbers for regression, missing
    before there were any. What it learns from is what it was asked with, however late the label comes.

    >>> from engine.evaluate.peers import make_peer
    >>> peer = Lagged(make_peer("river-hat"))
    >>> peer.learn(peer.forecast_one({"a": 1.0}), "yes")
    >>> peer.forecast_one({"a": 2.0}).x
    {'a': 2.0, 'label 1 before': 'yes', 'label 2 before': None, 'label 3 before': None}
    """

    def __init__(self, peer: Peer, lags: int = LAGS) -> None:
        self.peer = peer
        self._lags = lags
        self._last: deque[Any] = deque(maxlen=lags)

    def forecast_one(self, x: Mapping[Any, Any], id: Any = None, time: float | None = None) -> Asked:
        """Ask the peer; nothing is learned."""
        row = {str(name): value for name, value in x.items()}
        for lag in range(1, self._lags + 1):
            row[f"label {lag} before"] = self._last[-lag] if lag <= len(self._last) else None
        if self.peer.task == "regression":
            return Asked(row, value=float(self.peer.predict_one(row)))
        return Asked(row, proba=self.peer.predict_proba_one(row))

    def observe(self, asked: Asked) -> None:
        """An event without a label teaches a peer nothing."""

    def learn(self, asked: Asked, y: Any, w: float = 1.0) -> None:
        """Its label came; it is the last one from now on."""
        self.peer.learn_one(asked.x, y, w)
        self._last.append(float(y) if self.peer.task == "regression" else str(y))

    def memory_bytes(self) -> int:
        """The peer's."""
        return self.peer.memory_bytes()
