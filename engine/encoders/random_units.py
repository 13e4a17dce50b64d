"""Random ReLU features of many numbers: 2,048 units behind a scaler that is learned early and frozen.

A unit says max(s rᵀ z + o, 0) of the features z, each less its mean and over a quarter of its range, within ±4;
rows r of a block are those of H D₃ H D₂ H D₁, with H a Hadamard matrix and D random signs, which acts as a
matrix of normal numbers does (Yu et al. 2016) at a cost of log₂ d sums per unit. s = 1.5 · 2^U(−1, 1)/√d with d
features that vary, o = 1.5 (U(0, 1) − ½). A feature that has not varied yet is measured over the median of the
others' ranges: it may begin to, and says nothing until then.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.compiled import entry_point
from engine.network import mixed_bits

UNITS = 2_048
EXTENT = 4.0  # of a feature, in which it is measured: rare values stay small
CLIP = 4.0
EXACT = {"contract", "nsz"}

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]


class Units(NamedTuple):
    """What makes numbers of features; none of it changes once it is made.

    mean, spread: (F,) float64, spread 0 where no feature varied, and none is read. scale, offset: (2048,)
    float32. signs: (blocks, 3, b) float32, ±1, b a power of two of at least F.
    """

    mean: F64
    spread: F64
    signs: F32
    scale: F32
    offset: F32


def learn(rows: F64, seed: int) -> Units:
    """Units for features, their scaler from rows (n, F) with NaN for missing."""
    features = rows.shape[1]
    there = ~np.isnan(rows)
    mean = np.where(there, rows, 0.0).sum(axis=0) / np.maximum(there.sum(axis=0), 1)
    extent = np.where(there, rows, -np.inf).max(axis=0) - np.where(there, rows, np.inf).min(axis=0)
    varies = extent > 1e-12 * (1.0 + np.abs(mean))
    usual = float(np.median(extent[varies])) if varies.any() else 0.0
    spread = np.where(varies, extent, usual) / EXTENT
    size = 1 << max(features - 1, 1).bit_length()
    size = min(size, UNITS) if features <= UNITS else size
    blocks = -(-UNITS // size)
    signs = np.where(mixed_bits(seed, 97, np.arange(blocks * 3 * size)) < 0.5, -1.0, 1.0)
    unit = np.arange(UNITS)
    scale = 1.5 * 2.0 ** (2.0 * mixed_bits(seed, 98, unit) - 1.0)
    offset = 1.5 * (mixed_bits(seed, 99, unit) - 0.5)
    varying = max(int(np.count_nonzero(varies)), 1)
    return Units(
        mean, spread, signs.reshape(blocks, 3, size).astype(np.float32),
        (scale / np.sqrt(varying) / size).astype(np.float32), offset.astype(np.float32),
    )  # fmt: skip


@entry_point(fastmath=EXACT, nogil=True, error_model="numpy")
def answer(
    mean: F64, spread: F64, signs: F32, scale: F32, offset: F32, x: F64, z: F32, space: F32, out: F32
) -> None:
    """out (2048,) ← what the units say of features x (at least F,), NaN for missing; z, space: (b,)."""
    blocks, _, size = signs.shape
    z[:] = 0.0
    for f in range(mean.shape[0]):
        if spread[f] > 0.0 and not np.isnan(x[f]):
            value = np.float32((x[f] - mean[f]) / spread[f])
            z[f] = min(max(value, np.float32(-CLIP)), np.float32(CLIP))
    for block in range(blocks):
        for i in range(size):
            space[i] = z[i]
        for turn in range(3):
            for i in range(size):
                space[i] *= signs[block, turn, i]
            half = 1
            while half < size:
                for start in range(0, size, 2 * half):
                    for i in range(start, start + half):
                        a, b = space[i], space[i + half]
                        space[i] = a + b
                        space[i + half] = a - b
                half *= 2
        at = block * size
        for i in range(min(size, out.shape[0] - at)):
            out[at + i] = max(scale[at + i] * space[i] + offset[at + i], np.float32(0.0))
