"""backprop: the same layers on the same inputs, learned by backpropagation, beside the engine's over seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.contest import AT_ONCE, Results
from benchmarks.first import CONTEST, measured
from benchmarks.job import BESIDE, OWN
from benchmarks.schedule import steps_of
from benchmarks.standings import Contest
from benchmarks.tables import Findings
from engine.evaluate.paired import BLOCKS, paired_blocks
from engine.evaluate.prequential import evaluate
from engine.forecast import Forecast
from engine.layout import Sizes
from engine.rules.local import LEAK
from streams.table import Table

F32 = NDArray[np.float32]
LAYERS, WIDTH = 3, 64
RULES = tuple((kind, rate) for kind in ("adam", "rmsprop") for rate in (0.0003, 0.001, 0.003))
NETWORK = ("fast layers", "slow layers")
COLUMNS = {
    "stream": 0,
    "labels": 0,
    "seeds": 0,
    "backpropagation": 4,
    "by": 0,
    "network": 4,
    "ahead": 4,
    "±": 4,
    "everlearn": 4,
    "it is ahead": 4,
    "± of it": 4,
}


def run(stream: str | None = None, at_once: int = AT_ONCE) -> Findings:
    """Measure what is not measured yet or with other code, then the table.

    stream: measure on this one alone. at_once: processes side by side, each with one thread.
    """
    found = Findings(
        name="backprop",
        title="The same layers by backpropagation",
        about=(
            "The first 10,000 rows of fourteen streams. Backpropagation gets what the engine's layers get, "
            "number for number (features standardised, their context, outcome columns, what memories and trees "
            f"recall), and the same layers: {LAYERS} of {WIDTH} leaky rectified units, each reading the input "
            "besides the layer below, one head on the last; in torch, one event at a time, under cross-entropy, "
            "each label learned when it is known. Adam (torch's defaults) and RMSprop (α 0.99, no momentum) at "
            "three rates each; the best of the six per stream with hindsight. Network: the last head of the "
            "engine's fast or slow layers alone, the better per stream with hindsight. Accuracy, the mean of "
            f"the seeds; ahead: the difference with its 95 % interval over {BLOCKS} blocks of labels."
        ),
        columns=COLUMNS,
    )
    kept = measured(found, CONTEST, [BESIDE], stream, at_once, seeds_in_turn=True)
    fill(found, CONTEST, kept)
    return found


def fill(found: Findings, contest: Contest, kept: Results) -> None:
    """Add the rows and what follows from them."""
    unsure: dict[str, list[str]] = {"network": [], "everlearn": []}
    behind: dict[str, list[str]] = {"network": [], "everlearn": []}
    streams = 0
    for stream in contest.streams:
        records = contest.records(kept, BESIDE, stream)
        if not records:
            continue
        streams += 1
        sizes = np.array(records[0]["blocks"], np.float64)
        right = {name: np.mean([r["right"][name] for r in records], axis=0) for name in records[0]["right"]}

        by, net = _best(right, [named(*rule) for rule in RULES]), _best(right, NETWORK)
        gaps = {
            who: paired_blocks(right[name] - right[by], sizes)
            for who, name in (("network", net), ("everlearn", OWN))
        }
        for who, gap in gaps.items():
            if not (gap.sure and gap.difference > 0.0):
                unsure[who].append(stream)
            if gap.sure and gap.difference < 0.0:
                behind[who].append(stream)
        labels = sizes.sum()
        found.add(
            **{
                "stream": stream,
                "labels": int(labels),
                "seeds": len(records),
                "backpropagation": right[by].sum() / labels,
                "by": by,
                "network": right[net].sum() / labels,
                "ahead": gaps["network"].difference,
                "±": gaps["network"].half_width,
                "everlearn": right[OWN].sum() / labels,
                "it is ahead": gaps["everlearn"].difference,
                "± of it": gaps["everlearn"].half_width,
            }
        )
    for who, names in unsure.items():
        if streams:
            found.notes.append(
                f"{'The network' if who == 'network' else 'everlearn'} is surely ahead on "
                f"{streams - len(names)} of {streams} streams, not on {', '.join(names) or 'none'}; "
                f"surely behind on {', '.join(behind[who]) or 'none'}."
            )


def _best(right: Mapping[str, NDArray[np.float64]], names: Sequence[str]) -> str:
    return max(names, key=lambda name: float(right[name].sum()))


def named(kind: str, rate: float) -> str:
    """As tables name it.

    >>> named("adam", 0.001)
    'Adam 0.001'
    """
    return f"{'Adam' if kind == 'adam' else 'RMSprop'} {rate:g}"


class Inputs:
    """A classifier whose layers' inputs are kept, each under a number that it keeps as others are added."""

    def __init__(self, learner: Any) -> None:
        self.learner = learner
        self._sizes: Sizes | None = None
        self._columns = np.zeros(0, np.int64)
        self._count = 0
        self.x: dict[Any, tuple[NDArray[np.int64], F32]] = {}
        self.right: dict[str, list[bool]] = {name: [] for name in (OWN, *NETWORK)}
        self.labels: dict[Any, int] = {}

    def forecast_one(self, x: Mapping[Any, Any], id: Any = None, time: float | None = None) -> Forecast:
        """The learner's; what its layers read is kept under `id`."""
        kept: Forecast = self.learner.forecast_one(x, id=id, time=time)
        dim = kept.sizes.dim
        self.x[id] = self._numbered(kept.sizes), kept.record[dim.at_input : dim.at_slot].astype(np.float32)
        return kept

    def _numbered(self, sizes: Sizes) -> NDArray[np.int64]:
        """The number of each input."""
        if sizes is not self._sizes:
            source = np.full(sizes.inputs, -1) if self._sizes is None else sizes.input_source(self._sizes)
            new = source < 0
            columns = np.where(new, 0, self._columns[source] if len(self._columns) else 0)
            columns[new] = self._count + np.arange(new.sum())
            self._sizes, self._columns, self._count = sizes, columns, self._count + int(new.sum())
        return self._columns

    def observe(self, kept: Forecast) -> None:
        """As the learner's."""
        self.learner.observe(kept)

    def learn(self, kept: Forecast, y: Any, w: float = 1.0) -> None:
        """Judge the learner and its layers, then let it learn."""
        n = len(kept.labels)
        label = self.learner._core.classes.get(y, n)
        said = {OWN: kept.probabilities, **kept.expert_forecasts()}
        for name, right in self.right.items():
            right.append(label < n and int(said[name][:n].argmax()) == label)
        self.learner.learn(kept, y, w)
        self.labels[kept.id] = self.learner._core.classes[y]

    def forecasts(self) -> NDArray[np.int64]:
        """(K, classes) numbers of the inputs that are forecasts of memories and trees."""
        sizes = self._sizes
        recalled = 0 if sizes is None else sizes.recall_inputs
        return self._columns[:recalled].reshape(-1, 1 if sizes is None else sizes.outputs)

    def table(self, rows: int) -> F32:
        """(rows, all inputs that there ever were) float32, 0 where one was not there yet."""
        out = np.zeros((rows, self._count), np.float32)
        for row, (columns, values) in self.x.items():
            out[row, columns] = values
        return out


class Nets:
    """Six equal networks under six optimisers, side by side: forward and backward are one batch for all.

    inputs, classes: how many there will be; a class that has had no label yet is left out of the softmax.
    forecasts: (K, classes) inputs that the head adds to its scores with weights that start as 1/K.
    """

    def __init__(self, inputs: int, classes: int, seed: int, forecasts: NDArray[np.int64]) -> None:
        torch.set_num_threads(1)
        shapes: list[tuple[int, int]] = [(WIDTH, inputs), (WIDTH, 1)]
        for _ in range(LAYERS - 1):
            shapes += [(WIDTH, WIDTH + inputs), (WIDTH, 1)]
        shapes += [(classes, WIDTH), (classes, 1)]
        drawn = torch.Generator().manual_seed(seed)
        parts = []
        for number, (rows, columns) in enumerate(shapes):
            reads = shapes[number - number % 2][1]
            bound = 0.0 if number >= len(shapes) - 2 else 1.0 / math.sqrt(reads)
            parts.append((2.0 * torch.rand(rows * columns, generator=drawn) - 1.0) * bound)
        self._forecasts = torch.from_numpy(forecasts)
        trusted = len(forecasts)
        parts.append(torch.full((trusted,), 1.0 / max(trusted, 1)))
        start = torch.cat(parts)
        self._shapes = shapes
        self.weights = [start.clone().requires_grad_() for _ in RULES]
        groups: dict[str, list[dict[str, Any]]] = {"adam": [], "rmsprop": []}
        for (kind, rate), weights in zip(RULES, self.weights, strict=True):
            groups[kind].append({"params": [weights], "lr": rate})
        self._optimisers: list[torch.optim.Optimizer] = [
            torch.optim.Adam(groups["adam"]),
            torch.optim.RMSprop(groups["rmsprop"]),
        ]

    def forward(self, x: Tensor, known: int) -> Tensor:
        """(6, known classes) scores of one event x (inputs,)."""
        flat, at = torch.stack(self.weights), 0
        matrices = []
        for rows, columns in self._shapes:
            matrices.append(flat[:, at : at + rows * columns].view(-1, rows, columns))
            at += rows * columns
        read = x.expand(len(RULES), -1).unsqueeze(2)
        h = read
        for layer in range(LAYERS):
            u = read if layer == 0 else torch.cat([h, read], dim=1)
            h = torch.nn.functional.leaky_relu(
                torch.baddbmm(matrices[2 * layer + 1], matrices[2 * layer], u), LEAK
            )
        scores = torch.baddbmm(matrices[-1][:, :known], matrices[-2][:, :known], h)
        return scores.squeeze(2) + flat[:, at:] @ x[self._forecasts[:, :known]]

    def learn(self, x: Tensor, label: int, known: int) -> None:
        """One step of every optimiser on this event's cross-entropy."""
        scores = self.forward(x, known)
        wanted = torch.full((len(RULES),), label)
        for optimiser in self._optimisers:
            optimiser.zero_grad()
        torch.nn.functional.cross_entropy(scores, wanted, reduction="sum").backward()  # type: ignore[no-untyped-call]
        for optimiser in self._optimisers:
            optimiser.step()


def figures(learner: Any, table: Table, rows: int, seed: int) -> dict[str, Any]:
    """accuracy; `blocks`: labels in each block; `right`: learner → right answers in each block."""
    watched = Inputs(learner)
    evaluate(watched, table, limit=rows, arrays=False)
    right = {name: np.array(hits, np.float64) for name, hits in watched.right.items()}
    right |= _backpropagated(watched, steps_of(table, rows), rows, seed)
    n = len(right[OWN])
    return {
        "evaluated": n,
        "accuracy": float(right[OWN].mean()),
        "blocks": [len(block) for block in np.array_split(np.zeros(n), BLOCKS)],
        "right": {
            name: [int(block.sum()) for block in np.array_split(hits, BLOCKS)] for name, hits in right.items()
        },
    }


def _backpropagated(
    watched: Inputs, steps: Sequence[int], rows: int, seed: int
) -> dict[str, NDArray[np.float64]]:
    X, labels = torch.from_numpy(watched.table(rows)), watched.labels
    nets = Nets(X.shape[1], max(labels.values()) + 1, seed, watched.forecasts())
    known, said, hits = 0, dict[int, NDArray[np.int64]](), list[NDArray[np.bool_]]()
    nothing = np.full(len(RULES), -1)
    for step in steps:
        if step >= 0:
            with torch.no_grad():
                said[step] = nets.forward(X[step], known).argmax(dim=1).numpy() if known else nothing
            continue
        label = labels[~step]
        hits.append(said.pop(~step) == label)
        known = max(known, label + 1)
        nets.learn(X[~step], label, known)
    columns = np.array(hits, np.float64).T
    return {named(*rule): column for rule, column in zip(RULES, columns, strict=True)}
