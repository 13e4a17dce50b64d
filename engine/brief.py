"""The projection by which neighbours are sought where features are many, and how stored events come under it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.layout import BRIEF, Sizes
from engine.network import mixed_bits
from memory import neighbours, tiles

F32 = NDArray[np.float32]


def projection(sizes: Sizes, seed: int) -> F32:
    """(BRIEF, features) float32, normal of variance 1/BRIEF (Johnson and Lindenstrauss 1984); else (1, 1).

    A number depends on the seed and its place alone: features that appear later leave the others' as they are.
    """
    if not sizes.many:
        return np.zeros((1, 1), np.float32)
    row, column = np.arange(BRIEF)[:, None], np.arange(sizes.features)[None, :]
    first, second = mixed_bits(seed, 95, row, column), mixed_bits(seed, 96, row, column)
    normal = np.sqrt(-2.0 * np.log1p(-first)) * np.cos(2.0 * np.pi * second)
    out: F32 = (normal / np.sqrt(BRIEF)).astype(np.float32)
    return out


def near_map(old: Sizes, brief: F32) -> F32:
    """(BRIEF, features of `old`): what the memory of features held, as it compares it now."""
    out: F32 = brief[:, : old.features]
    return out


def context_map(old: Sizes, new: Sizes, brief: F32) -> F32:
    """(rates + BRIEF, numbers of `old`): the same for the memory of context."""
    source = new.rate_source(old)
    out = np.zeros((new.context_numbers, old.context_numbers), np.float32)
    kept = np.flatnonzero(source >= 0)
    out[kept, source[kept]] = 1.0
    out[new.rates :, old.rates + old.parts * np.arange(old.features)] = near_map(old, brief)
    return out


def mapped(memory: neighbours.Neighbours, events: int, numbers: F32) -> neighbours.Neighbours:
    """A memory of at most `events` events whose numbers are `numbers` (d, old d) times what they were.

    The newest events stay; the metric, which knew other numbers, starts again.
    """
    slots, held = memory.target.shape[0], int(memory.place[1])
    events = min(events, slots) if held else events
    fresh = neighbours.allocate(len(numbers), events, full=False)
    oldest = int(memory.place[0]) if held == slots else 0
    order = ((oldest + np.arange(held)) % slots)[-fresh.target.shape[0] :]
    n = len(order)
    if n:
        values = tiles.table(memory.buffer)[: numbers.shape[1], order]
        table = np.zeros((fresh.logw.shape[0], fresh.target.shape[0]), np.float32)
        table[: len(numbers), :n] = np.einsum("ij,jk->ik", numbers, values, optimize=False)
        fresh.buffer[...] = tiles.tiled(table)
    fresh.target[:n] = memory.target[order]
    fresh.serial[:n] = memory.serial[order]
    fresh.place[:] = (n % fresh.target.shape[0], n, 0, 0)
    return fresh
