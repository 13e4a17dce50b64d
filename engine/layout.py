"""Where everything stands: the sizes of a learner at a moment, and the places inside a kept forecast."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from memory.lookback import TRIED

NEIGHBOUR_EXPERTS, TREE_EXPERTS = 4, 2
TREES = 6
GROWN = 1  # of Dim.trees: experts that are trees; 0: no such experts, 2: none grown, they say nothing
ALL_MIXERS = 8
HEADER = 8
COUNTS = 3
RANDOM_UNITS = 64
PLAIN_WITH_CONTEXT, PLAIN_WIDEST = 192, 256
MANY = 128  # features from which on neighbours are sought by a projection, and context is left out
BRIEF = 48  # numbers of that projection
LASTING = ("analytic memory", "rehearsed layer")  # experts on the wide vector (engine.experience)

# Header of a record: the tally's stamp when it was made, event time, one more than
# the number under which it was observed (0: not yet), the target's mean and deviation at that time, the
# forecast in the target's unit (regression), how often stored events had changed their slots, and which part of
# what the wide vector is made from was there.
STAMP, TIME, OBSERVED, CENTRE, SPREAD, VALUE, MOVES, SENSED = range(8)


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
    trees: int
    early: int
    added: int
    keys: int
    categories: int
    plain: int
    plain_rates: int
    plain_stride: int
    random: int
    many: int
    wide: int
    wide_inputs: int
    reads: int
    lasting: int
    compared: int
    at_raw: int
    at_rate: int
    at_input: int
    at_slot: int
    at_logp: int
    at_each: int
    at_p: int
    at_wide: int
    at_tried: int
    record: int


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """The sizes of a learner at one moment.

    features, outputs (classes, or 1), keys (key fields) and categories (categorical fields) grow; the rest is
    set by its options. added: names of the caller's own experts. pictured: features that are cells of images'
    thumbnails. many: whether there are more than MANY features;
    wide: numbers of the wide vector (engine.wide), of which layers read the first wide_inputs; source: numbers
    that a kept example consists of: these grow, too. kept: bytes for examples.
    """

    features: int
    outputs: int
    keys: int
    categories: int
    contexts: int
    recall: bool
    heads: bool
    history: bool
    neighbours: int
    networks: int
    depth: int
    width: int
    activation: int
    regression: bool
    metric: bool
    trees: bool
    early: bool
    key_horizons: int
    category_horizons: int
    added: tuple[str, ...] = ()
    pictured: int = 0
    many: bool = False
    wide: int = 0
    wide_inputs: int = 0
    source: int = 0
    kept: int = 0

    @cached_property
    def parts(self) -> int:
        """Inputs per feature: itself and its context (3), or alone (1)."""
        return 1 if self.many else self.contexts

    @cached_property
    def concepts(self) -> bool:
        """Whether concepts may be stored: experience over wide inputs keeps what was learned in another way."""
        return not self.many and not self.wide

    @cached_property
    def compared(self) -> int:
        """Features whose context over several horizons is tried: those that have context."""
        return self.features if self.parts > 1 else 0

    @cached_property
    def near_numbers(self) -> int:
        """What the memory of features compares: all of them, or a projection where they are many."""
        return BRIEF if self.many else self.features

    @cached_property
    def context_numbers(self) -> int:
        """What the memory of context compares: outcome columns, and features with context or a projection."""
        return self.rates + (BRIEF if self.many else self.parts * self.features)

    @cached_property
    def rate_columns(self) -> int:
        """Columns of one key and horizon (see memory.rates)."""
        return 1 if self.outputs <= 2 else self.outputs if self.outputs <= 32 else 0

    @cached_property
    def key_cells(self) -> int:
        """Key fields, and before them one that all events share, where there are any."""
        return self.keys + 1 if self.keys else 0

    @cached_property
    def key_columns(self) -> int:
        """Columns of the keys' outcome statistics: rates and counts."""
        return self.key_cells * self.key_horizons * (self.rate_columns + COUNTS)

    @cached_property
    def rates(self) -> int:
        """Columns of outcome statistics: the keys' first, then the categories', which have rates alone."""
        return self.key_columns + self.categories * self.category_horizons * self.rate_columns

    @cached_property
    def plain_rates(self) -> int:
        """Outcome columns that second-order experts read: all, or none where they alone are too many."""
        return self.rates if 1 + self.rates <= PLAIN_WIDEST else 0

    @cached_property
    def plain_stride(self) -> int:
        """How second-order experts read a feature: with its context (3), alone (1), or not at all (0)."""
        if self.many:
            return 0
        if 1 + self.plain_rates + self.contexts * self.features <= PLAIN_WITH_CONTEXT:
            return self.contexts
        return 1 if 1 + self.plain_rates + self.features <= PLAIN_WIDEST else 0

    @cached_property
    def plain(self) -> int:
        """Inputs of the second-order experts: a constant, outcome columns, features; at most PLAIN_WIDEST.

        Their covariance has the square of it.
        """
        return 1 + self.plain_rates + self.plain_stride * self.features

    @cached_property
    def random_inputs(self) -> int:
        """What the random features read."""
        return self.rates + max(self.plain_stride, 1) * self.features

    @cached_property
    def recalled(self) -> int:
        """Experts whose forecasts the layers read: the neighbour memories' and the trees'."""
        return NEIGHBOUR_EXPERTS + (TREE_EXPERTS if self.trees else 0)

    @cached_property
    def forested(self) -> bool:
        """Whether trees are grown: not where images' thumbnails are all there is (decision 0009)."""
        return self.trees and (not self.pictured or self.pictured < self.features or self.rates > 0)

    @cached_property
    def mixers(self) -> int:
        """How many mixers weigh the experts; Bayes' rule is among them where there are trees."""
        return ALL_MIXERS if self.trees else ALL_MIXERS - 1

    @cached_property
    def recall_inputs(self) -> int:
        """Inputs that hold what the neighbour memories and the trees said."""
        return self.recalled * self.outputs if self.recall else 0

    @cached_property
    def history_inputs(self) -> int:
        """Inputs that hold the last label."""
        return self.outputs if self.history else 0

    @cached_property
    def inputs(self) -> int:
        """What a layer reads beside the layer below: recall, last label, outcome rates, features."""
        return self.recall_inputs + self.history_inputs + self.rates + self.parts * self.features

    @cached_property
    def reads(self) -> int:
        """All that a layer reads beside the layer below: inputs, and numbers of the wide vector."""
        return self.inputs + self.wide_inputs

    @cached_property
    def lasting(self) -> int:
        """How many experts read the wide vector."""
        return len(LASTING) if self.wide and not self.regression else 0

    @cached_property
    def experts(self) -> int:
        """How many forecasts are mixed."""
        return len(self.expert_names())

    def expert_names(self) -> list[str]:
        """The experts in the order of their rows."""
        names = ["prior", "neighbours", "neighbours nearest", "context neighbours", "context nearest"]
        names += ["fast layers", "slow layers", "linear"]
        names += [
            "second order, firm",
            "second order, loose",
            "random features, firm",
            "random features, loose",
        ]
        if self.trees:
            names += ["trees", "trees, leaves"]
        if self.early:
            names += ["early tree"]
        names += self.added
        if self.history:
            names += ["last label", "transitions"]
        if self.lasting:
            names += LASTING
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
            self.mixers * self.outputs,
            self.outputs,
            (self.wide + 1) // 2,  # float32, two in a place
            (TRIED * self.compared + 1) // 2,  # likewise
        ):
            offsets.append(at)
            at += size
        return Dim(
            features=self.features, outputs=self.outputs, rates=self.rates, contexts=self.parts,
            recall=self.recall_inputs, history=self.history_inputs, inputs=self.inputs,
            neighbours=self.neighbours, experts=self.experts, depth=self.depth, width=self.width,
            activation=self.activation, regression=int(self.regression), metric=int(self.metric),
            trees=GROWN + (not self.forested) if self.trees else 0, early=int(self.early), added=len(self.added),
            keys=self.key_cells, categories=self.categories,
            plain=self.plain, plain_rates=self.plain_rates, plain_stride=self.plain_stride,
            random=self.plain + RANDOM_UNITS,
            many=int(self.many), wide=self.wide, wide_inputs=self.wide_inputs, reads=self.reads,
            lasting=self.lasting, compared=self.compared,
            at_raw=offsets[0], at_rate=offsets[1], at_input=offsets[2], at_slot=offsets[3],
            at_logp=offsets[4], at_each=offsets[5], at_p=offsets[6], at_wide=offsets[7], at_tried=offsets[8],
            record=at,
        )  # fmt: skip

    def input_source(self, old: Sizes) -> NDArray[np.int64]:
        """For each input the one of `old` that it continues, or −1: (inputs,) int64."""
        source = np.full(self.inputs, -1, np.int64)
        if self.recall:
            for expert in range(self.recalled):
                shared = np.arange(min(self.outputs, old.outputs))
                source[expert * self.outputs + shared] = expert * old.outputs + shared
        if self.history:
            shared = np.arange(min(self.outputs, old.outputs))
            source[self.recall_inputs + shared] = old.recall_inputs + shared
        source[self.recall_inputs + self.history_inputs :] = -1
        rate_at, old_rate_at = (
            self.recall_inputs + self.history_inputs,
            old.recall_inputs + old.history_inputs,
        )
        rates = self.rate_source(old)
        source[rate_at : rate_at + self.rates] = np.where(rates >= 0, old_rate_at + rates, -1)
        features = self.feature_source(old)
        source[rate_at + self.rates :] = np.where(features >= 0, old_rate_at + old.rates + features, -1)
        return source

    def read_source(self, old: Sizes) -> NDArray[np.int64]:
        """The same for all that layers read: (reads,) int64."""
        wide = np.full(self.wide_inputs, -1, np.int64)
        shared = np.arange(min(self.wide_inputs, old.wide_inputs))
        wide[shared] = old.inputs + shared
        return np.concatenate([self.input_source(old), wide])

    def feature_source(self, old: Sizes) -> NDArray[np.int64]:
        """For each input of a feature, itself and its context, the one of `old` that it continues, or −1."""
        source = np.full((self.features, self.parts), -1, np.int64)
        features, parts = min(self.features, old.features), min(self.parts, old.parts)
        source[:features, :parts] = old.parts * np.arange(features)[:, None] + np.arange(parts)
        return source.ravel()

    def rate_source(self, old: Sizes) -> NDArray[np.int64]:
        """For each outcome column the one of `old` that it continues, or −1: (rates,) int64."""
        source = np.full(self.rates, -1, np.int64)
        same = self.rate_columns == old.rate_columns or old.rate_columns > 1
        shared = min(self.rate_columns, old.rate_columns) if same else 0
        blocks = (
            (0, 0, min(self.key_cells, old.key_cells) * self.key_horizons, COUNTS),
            (
                self.key_columns,
                old.key_columns,
                min(self.categories, old.categories) * self.category_horizons,
                0,
            ),
        )
        for start, old_start, cells, counts in blocks:
            width, old_width = self.rate_columns + counts, old.rate_columns + counts
            for cell in range(cells):
                at, was = start + cell * width, old_start + cell * old_width
                source[at : at + shared] = was + np.arange(shared)
                at, was = at + self.rate_columns, was + old.rate_columns
                source[at : at + counts] = was + np.arange(counts)
        return source

    def tree_source(self, old: Sizes) -> NDArray[np.int64]:
        """For each number that trees read, features then outcome columns, the one of `old`, or −1."""
        features = np.full(self.features, -1, np.int64)
        features[: old.features] = np.arange(old.features)
        rates = self.rate_source(old)
        return np.concatenate([features, np.where(rates >= 0, old.features + rates, -1)])

    def plain_source(self, old: Sizes) -> NDArray[np.int64]:
        """For each input of the second-order experts the one of `old` that it continues, or −1."""
        source = np.full(self.plain, -1, np.int64)
        source[0] = 0
        rates = self.rate_source(old)
        if self.plain_rates and old.plain_rates:
            source[1 : 1 + self.rates] = np.where(rates >= 0, 1 + rates, -1)
        parts = min(self.plain_stride, old.plain_stride)
        for feature in range(min(self.features, old.features)):
            at = 1 + self.plain_rates + feature * self.plain_stride
            was = 1 + old.plain_rates + feature * old.plain_stride
            source[at : at + parts] = was + np.arange(parts)
        return source
