"""Kept examples of the baselines: a reservoir over the stream, and a greedy balanced buffer."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Reservoir:
    """A uniform sample of all events so far (Vitter 1985, algorithm R).

    Event n takes the place of a random one with probability capacity / n. Kept are the events as they came,
    their class and, with `outputs`, what the network said of them.
    """

    def __init__(self, capacity: int, shape: tuple[int, ...], dtype: Any, outputs: int, seed: int) -> None:
        self.capacity = capacity
        self._random = np.random.default_rng(seed)
        self._X = np.zeros((capacity, *shape), dtype)
        self._y = np.zeros(capacity, np.int64)
        self._said = torch.zeros(capacity, outputs)
        self.seen = 0

    def __len__(self) -> int:
        return min(self.seen, self.capacity)

    def add(self, X: NDArray[Any], y: NDArray[np.int64], said: Tensor | None = None) -> None:
        """Offer a batch of events, one after the other."""
        for i in range(len(X)):
            at = self.seen if self.seen < self.capacity else int(self._random.integers(self.seen + 1))
            self.seen += 1
            if at < self.capacity:
                self._X[at], self._y[at] = X[i], y[i]
                if said is not None:
                    self._said[at] = said[i]

    def draw(self, n: int) -> tuple[NDArray[Any], Tensor, Tensor]:
        """At most n different kept events: X, classes, and what was said of them."""
        at = self._random.choice(len(self), min(n, len(self)), replace=False)
        return self._X[at], torch.from_numpy(self._y[at]), self._said[at]

    def memory_bytes(self) -> int:
        """Of all places, filled or not; a class is a byte."""
        return self._X.nbytes + self.capacity + self._said.nbytes


class Greedy:
    """As many events of each class as there is room for (Prabhu et al. 2020, "GDumb").

    An event enters while its class has fewer than capacity / classes so far; where the buffer is full one of the
    class that has most, drawn at random, makes room.
    """

    def __init__(self, capacity: int, shape: tuple[int, ...], dtype: Any, seed: int) -> None:
        self.capacity = capacity
        self._random = np.random.default_rng(seed)
        self._X = np.zeros((capacity, *shape), dtype)
        self._places: dict[int, list[int]] = {}
        self._used = 0

    def __len__(self) -> int:
        return self._used

    def counts(self) -> dict[int, int]:
        """Class → how many are kept."""
        return {label: len(places) for label, places in self._places.items()}

    def add(self, X: NDArray[Any], y: NDArray[np.int64]) -> None:
        """Offer a batch of events, one after the other."""
        for i, label in enumerate(y.tolist()):
            mine = self._places.setdefault(label, [])
            if len(mine) >= self.capacity / len(self._places):
                continue
            if self._used < self.capacity:
                at = self._used
                self._used += 1
            else:
                most = max(self._places.values(), key=len)
                at = most.pop(int(self._random.integers(len(most))))
            self._X[at] = X[i]
            mine.append(at)

    def all(self) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Everything that is kept."""
        at = [place for places in self._places.values() for place in places]
        y = [label for label, places in self._places.items() for _ in places]
        return self._X[at], np.array(y, np.int64)

    def memory_bytes(self) -> int:
        """Of all places, filled or not; a class is a byte."""
        return self._X.nbytes + self.capacity
