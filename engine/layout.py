"""Where everything stands: the sizes of a learner at a moment, and the places inside a kept forecast."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

NEIGHBOUR_EXPERTS = 4
HEADER = 8
MIXERS = 6

# Header of a record: the tally's stamp when it was made, event time, whether it was
# observed, and the target's mean and deviation at that time (regression).
STAMP, TIME, OBSERVED, CENTRE, SPREAD = range(5)


class Dim(NamedTuple):
    """The sizes and offsets that the kernels read, all integers; built by `Sizes.dim`."""

    features: int
    outputs: int
    rates: int
    contexts: int
    recall: int
    history: int
    inputs: int
    neighbours: int
    experts: int
    depth: int
    width: int
    activation: int
    regression: int
    metric: int
    keys: int
    categories: int
    at_raw: int
    at_rate: int
    at_input: int
    at_slot: int
    at_logp: int
    at_each: int
    at_p: int
    record: int


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """The sizes of a learner at one moment.

    features, outputs (classes, or 1), keys (key fields) and categories (categorical fields) grow; the rest is
    set by its options.
    """

    features: int
    outputs: int
    keys: int
    categories: int
    contexts: int
    recall: bool
    history: bool
    neighbours: int
    networks: int
    depth: int
    width: int
    activation: int
    regression: bool
    metric: bool
    key_horizons: int
    category_horizons: int

    @cached_property
    def rate_columns(self) -> int:
        """Columns of one key and horizon (see memory.rates)."""
        return 1 if self.outputs <= 2 else self.outputs if self.outputs <= 32 else 0

    @cached_property
    def rates(self) -> int:
        """Columns of outcome statistics: the keys' first, then the categories'."""
        return self.rate_columns * (
            self.keys * self.key_horizons + self.categories * self.category_horizons
        )

    @cached_property
    def recall_inputs(self) -> int:
        """Inputs that hold what the neighbour memories said."""
        return NEIGHBOUR_EXPERTS * self.outputs if self.recall else 0

    @cached_property
    def history_inputs(self) -> int:
        """Inputs that hold the last label."""
        return self.outputs if self.history else 0

    @cached_property
    def inputs(self) -> int:
        """What a layer reads beside the layer below: recall, last label, outcome rates, features."""
        return self.recall_inputs + self.history_inputs + self.rates + self.contexts * self.features

    @cached_property
    def experts(self) -> int:
        """How many forecasts are mixed."""
        return len(self.expert_names())

    def expert_names(self) -> list[str]:
        """The experts in the order of their rows."""
        names = ["prior", "neighbours", "neighbours nearest", "context neighbours", "context nearest"]
        names += ["fast layers", "slow layers", "linear"]
        if self.history:
            names += ["last label", "transitions"]
        return names

    @cached_property
    def dim(self) -> Dim:
        """Sizes and record offsets for the kernels."""
        at = HEADER
        offsets = []
        for size in (
            self.features,
            self.rates,
            self.inputs,
            2 * (1 + 2 * self.neighbours),
            self.experts * self.outputs,
            MIXERS * self.outputs,
            self.outputs,
        ):
            offsets.append(at)
            at += size
        return Dim(
            features=self.features, outputs=self.outputs, rates=self.rates, contexts=self.contexts,
            recall=self.recall_inputs, history=self.history_inputs, inputs=self.inputs,
            neighbours=self.neighbours, experts=self.experts, depth=self.depth, width=self.width,
            activation=self.activation, regression=int(self.regression), metric=int(self.metric),
            keys=self.keys, categories=self.categories,
            at_raw=offsets[0], at_rate=offsets[1], at_input=offsets[2], at_slot=offsets[3],
            at_logp=offsets[4], at_each=offsets[5], at_p=offsets[6], record=at,
        )  # fmt: skip

    def input_source(self, old: Sizes) -> NDArray[np.int64]:
        """For each input the one of `old` that it continues, or −1: (inputs,) int64."""
        source = np.full(self.inputs, -1, np.int64)
        if self.recall:
            for expert in range(NEIGHBOUR_EXPERTS):
                shared = np.arange(min(self.outputs, old.outputs))
                source[expert * self.outputs + shared] = expert * old.outputs + shared
        if self.history:
            shared = np.arange(min(self.outputs, old.outputs))
            source[self.recall_inputs + shared] = old.recall_inputs + shared
        source[self.recall_inputs + self.history_inputs :] = -1
        rate_at, old_rate_at = self.recall_inputs + self.history_inputs, old.recall_inputs + old.history_inputs
        rates = self.rate_source(old)
        source[rate_at : rate_at + self.rates] = np.where(rates >= 0, old_rate_at + rates, -1)
        shared = np.arange(self.contexts * min(self.features, old.features))
        source[rate_at + self.rates + shared] = old_rate_at + old.rates + shared
        return source

    def rate_source(self, old: Sizes) -> NDArray[np.int64]:
        """For each outcome column the one of `old` that it continues, or −1: (rates,) int64."""
        source = np.full(self.rates, -1, np.int64)
        if self.rate_columns != old.rate_columns and old.rate_columns == 1:
            return source  # one column for two classes becomes one per class: other numbers
        old_keys = old.keys * old.key_horizons * old.rate_columns
        new_keys = self.keys * self.key_horizons
        for index in range(self.rates):
            cell, column = divmod(index, self.rate_columns)
            if column >= old.rate_columns:
                continue
            if cell < new_keys:
                source[index] = cell * old.rate_columns + column
            elif cell - new_keys < old.categories * old.category_horizons:
                source[index] = old_keys + (cell - new_keys) * old.rate_columns + column
        return source
