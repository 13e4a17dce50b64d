"""A network of the engine's size that learns by backpropagation, one event at a time, as a peer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any
from zlib import crc32

import torch
from torch import Tensor, nn

from engine.evaluate.fields import Fields

LAYERS, WIDTH = 3, 64
LIMIT = 4.0  # standardised numbers are clipped here
MAX_COLUMNS = 512  # what comes later shares columns


class Backprop:
    """Three hidden layers of 64 rectified units under cross-entropy (squared error for regression), in torch.

    Each label makes one step of the optimiser on the gradient of its own event, which goes back through all
    layers. It reads an event's features and nothing of other events: numbers standardised by the mean and
    deviation so far (Welford, an event included once it is learned) and clipped to ±4, a missing one as the mean,
    strings one-hot. Input columns and classes are added as they appear: new inputs with weights drawn as torch
    draws them, new classes with weights 0. A regression's target is standardised the same way.

    kind: "adam" (torch's defaults) or "rmsprop" (α 0.99, no momentum). rate: its step size. Torch's number of
    threads is set to 1, for the whole process.

    >>> peer = Backprop("adam", 0.003)
    >>> for i in range(300):
    ...     peer.learn_one({"height": i % 7, "colour": "red" if i % 2 else "blue"}, i % 7 > 3)
    >>> peer.predict_one({"height": 6, "colour": "red"})
    True
    """

    weighted = True

    def __init__(self, kind: str, rate: float, *, regression: bool = False, seed: int = 0) -> None:
        if kind not in ("adam", "rmsprop"):
            raise ValueError(f"kind={kind!r}: expected 'adam' or 'rmsprop'")
        torch.set_num_threads(1)
        self.task = "regression" if regression else "classification"
        self.name = f"backprop-{kind}-{rate:g}" + ("-regressor" if regression else "")
        self.title = f"Backpropagation, {'Adam' if kind == 'adam' else 'RMSprop'} {rate:g}"
        self.about = f"{LAYERS} hidden layers of {WIDTH} ReLU in torch, one event at a time"
        self._random = torch.Generator().manual_seed(seed)
        self._regression = regression
        self._fields = Fields(fill=False, text=False)
        self._columns: dict[str, int] = {}
        self._spread: dict[str, _Spread] = {}
        self._target = _Spread()
        self._labels: list[Any] = []
        sizes = [0, *[WIDTH] * LAYERS, 1 if regression else 0]
        self._weights = [torch.zeros(n, m) for m, n in pairwise(sizes)]
        self._biases = [torch.zeros(n) for n in sizes[1:]]
        drawn = slice(1, None) if regression else slice(1, -1)
        for tensor in (*self._weights[drawn], *self._biases[drawn]):
            self._draw(tensor, WIDTH)
        for tensor in self._tensors():
            tensor.requires_grad_()
        make = torch.optim.Adam if kind == "adam" else torch.optim.RMSprop
        self._optimiser: torch.optim.Optimizer = make(self._tensors(), lr=rate)

    @classmethod
    def named(cls, name: str, seed: int = 0) -> Backprop:
        """The peer of a name such as "backprop-adam-0.001" or "backprop-rmsprop-0.003-regressor"."""
        _, kind, rate, *rest = name.split("-")
        return cls(kind, float(rate), regression=bool(rest), seed=seed)

    def _draw(self, tensor: Tensor, inputs: int) -> None:
        bound = 1.0 / math.sqrt(inputs)
        tensor.uniform_(-bound, bound, generator=self._random)

    def _tensors(self) -> list[Tensor]:
        return [*self._weights, *self._biases]

    # -- asking ---------------------------------------------------------------------------------------------

    def predict_proba_one(self, x: Mapping[Any, Any]) -> dict[Any, float]:
        """Label → probability, {} before the first label. Nothing is learned."""
        if not self._labels:
            return {}
        with torch.no_grad():
            out = self._forward(self._input(self._fields.row(x)))
            p = torch.softmax(out.double(), dim=0)
        return dict(zip(self._labels, p.tolist(), strict=True))

    def predict_one(self, x: Mapping[Any, Any]) -> Any:
        """The likeliest label (None before the first), or the value of a regression."""
        if self._regression:
            if not self._columns:
                return 0.0
            with torch.no_grad():
                value = self._forward(self._input(self._fields.row(x))).item()
            return self._target.mean + value * self._target.deviation
        answer = self.predict_proba_one(x)
        return max(answer, key=lambda label: answer[label]) if answer else None

    def _input(self, row: Mapping[str, Any]) -> Tensor:
        values = [0.0] * self._weights[0].shape[1]
        for name, value in row.items():
            column = self._column(name)
            if column is None:
                continue
            if isinstance(value, int):  # a string's indicator
                values[column] += 1.0
            elif name in self._spread:
                values[column] += min(max(self._spread[name].standardised(value), -LIMIT), LIMIT)
        return torch.tensor(values)

    def _column(self, name: str) -> int | None:
        if name in self._columns or len(self._columns) < MAX_COLUMNS:
            return self._columns.get(name)
        return crc32(name.encode(errors="replace")) % MAX_COLUMNS

    def _forward(self, h: Tensor) -> Tensor:
        *hidden, (last, bias) = zip(self._weights, self._biases, strict=True)
        for weight, offset in hidden:
            h = torch.relu(nn.functional.linear(h, weight, offset))
        return nn.functional.linear(h, last, bias)

    # -- learning -------------------------------------------------------------------------------------------

    def learn_one(self, x: Mapping[Any, Any], y: Any, w: float = 1.0) -> None:
        """One step on this event's loss, times its weight w; with weight 0 nothing is learned."""
        if w == 0.0:
            return
        row = self._fields.row(x, learn=True)
        self._meet(row)
        if not self._regression and y not in self._labels:
            self._labels.append(y)
            self._grow(len(self._weights) - 1, rows=1)
        out = self._forward(self._input(row))
        if self._regression:
            self._target.add(float(y))
            loss = (out[0] - self._target.standardised(float(y))).square() / 2.0
        else:
            loss = nn.functional.cross_entropy(out, torch.tensor(self._labels.index(y)))
        self._optimiser.zero_grad()
        (w * loss).backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()

    def _meet(self, row: Mapping[str, Any]) -> None:
        new = 0
        for name, value in row.items():
            if name not in self._columns and len(self._columns) < MAX_COLUMNS:
                self._columns[name] = len(self._columns)
                new += 1
            if isinstance(value, float):
                self._spread.setdefault(name, _Spread()).add(value)
        if new:
            first = self._weights[0].shape[1] == 0
            self._grow(0, columns=new)
            with torch.no_grad():
                self._draw(self._weights[0].data[:, -new:], len(self._columns))
                if first:
                    self._draw(self._biases[0].data, new)

    def _grow(self, layer: int, *, rows: int = 0, columns: int = 0) -> None:
        """Widen one layer, and what the optimiser keeps of it, by zeros."""
        self._widen(self._weights[layer], (0, columns, 0, rows))
        self._widen(self._biases[layer], (0, rows))

    def _widen(self, tensor: Tensor, by: tuple[int, ...]) -> None:
        kept = self._optimiser.state[tensor]
        for name, part in kept.items():
            if part.shape == tensor.shape:  # all but the count of steps
                kept[name] = nn.functional.pad(part, by)
        tensor.data = nn.functional.pad(tensor.data, by)
        tensor.grad = None

    def memory_bytes(self) -> int:
        """Parameters and what the optimiser keeps of each."""
        kept = (part for state in self._optimiser.state.values() for part in state.values())
        return sum(part.nbytes for part in (*self._tensors(), *kept))


class _Spread:
    """Running mean and deviation (Welford)."""

    def __init__(self) -> None:
        self.n, self.mean, self._m2 = 0, 0.0, 0.0

    def add(self, value: float) -> None:
        """Count one value."""
        self.n += 1
        change = value - self.mean
        self.mean += change / self.n
        self._m2 += change * (value - self.mean)

    @property
    def deviation(self) -> float:
        """The standard deviation so far; 1 where all values were equal."""
        return math.sqrt(self._m2 / self.n) if self._m2 > 0.0 else 1.0

    def standardised(self, value: float) -> float:
        """How many deviations the value is above the mean."""
        return (value - self.mean) / self.deviation
