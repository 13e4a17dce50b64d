"""Kernels of the patch features of an image: learn the filters from a few images, then answer for one image.

A patch of p × p pixels over all channels has its mean removed and is divided by √(variance + 0.01). Whitened by
the Cholesky factor L of the patches' covariance, Σ + 0.3 (tr Σ/d) I = L Lᵀ, patches are clustered by
spherical k-means (Coates and Ng 2012); a filter g answers for a patch v with max(gᵀ L⁻¹ v − θ, 0), θ its 0.8
quantile, and answers are summed over 3 × 3 cells. (k-means does not see rotations, so the factor serves as
well as the root of Σ.) Pixels that are missing count as the mean of their patch.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from engine.compiled import entry_point

TAPS = 7  # filters are this wide in memory, narrower ones with zeros behind
CELLS = 3
NOISE = 0.01
RIDGE = 0.3
ROUNDS = 10
FLAT = 1e-6  # the square of a whitened patch that shows nothing
EXACT = {"contract", "nsz"}  # sums keep their order: no bit may depend on where arrays lie

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]


@entry_point(fastmath=EXACT, nogil=True, error_model="numpy")
def whitened(images: F32, low: float, span: float, side: int, places: I64, patches: F32, factor: F32) -> None:
    """patches (n, c side²) ← L⁻¹ v of the patches at `places`, (n, 3) of image, row, column.

    images: (m, c, h, w) float32, NaN for missing; factor: (c side², c side²), L.
    """
    channels = images.shape[1]
    n, d = patches.shape
    for i in range(n):
        image, top, left = places[i, 0], places[i, 1], places[i, 2]
        patch = patches[i]
        at, seen = 0, 0
        total = 0.0
        for channel in range(channels):
            for dy in range(side):
                for dx in range(side):
                    x = (images[image, channel, top + dy, left + dx] - low) / span
                    patch[at] = min(max(x, -1.0), 2.0) if not math.isnan(x) else np.nan
                    if not math.isnan(x):
                        total += patch[at]
                        seen += 1
                    at += 1
        mean = total / max(seen, 1)
        square = 0.0
        for k in range(d):
            difference = 0.0 if math.isnan(patch[k]) else patch[k] - mean
            patch[k] = difference
            square += difference * difference
        size = math.sqrt(square / max(seen, 1) + NOISE)
        for k in range(d):
            patch[k] = patch[k] / size
    covariance = np.zeros((d, d))
    for i in range(n):
        for a in range(d):
            x = patches[i, a]
            for b in range(d):
                covariance[a, b] += x * patches[i, b]
    trace = 0.0
    for a in range(d):
        trace += covariance[a, a]
    for a in range(d):
        covariance[a, a] += RIDGE * trace / d + 1e-9 * n
    for a in range(d):
        for b in range(d):
            covariance[a, b] /= n
    for a in range(d):
        for b in range(a + 1):
            total = covariance[a, b]
            for k in range(b):
                total -= factor[a, k] * factor[b, k]
            if a == b:
                factor[a, a] = math.sqrt(total)
            else:
                factor[a, b] = total / factor[b, b]
    for i in range(n):
        for a in range(d):
            total = patches[i, a]
            for k in range(a):
                total -= factor[a, k] * patches[i, k]
            patches[i, a] = total / factor[a, a]


@entry_point(fastmath=EXACT, nogil=True, error_model="numpy")
def clustered(patches: F32, centres: F32) -> None:
    """Spherical k-means: centres (d, k), unit columns, become the mean directions of their patches."""
    n, d = patches.shape
    k = centres.shape[1]
    said = np.zeros(k, np.float32)
    total = np.zeros((d, k), np.float32)
    for _ in range(ROUNDS):
        total[:] = 0.0
        for i in range(n):
            said[:] = 0.0
            square = 0.0
            for a in range(d):
                x = patches[i, a]
                square += x * x
                for f in range(k):
                    said[f] += x * centres[a, f]
            if square <= FLAT:
                continue
            best = 0
            for f in range(k):
                if said[f] > said[best]:
                    best = f
            size = math.sqrt(square)
            for a in range(d):
                total[a, best] += patches[i, a] / size
        for f in range(k):
            square = 0.0
            for a in range(d):
                square += total[a, f] * total[a, f]
            if square > 0.0:
                size = math.sqrt(square)
                for a in range(d):
                    centres[a, f] = total[a, f] / size


@njit(fastmath=EXACT, nogil=True, error_model="numpy")
def taps(plane: F32, one: F32, other: F32, side: int, width: int, size: int, first: F32, second: F32) -> None:
    """first, second (size,) ← themselves plus a plane seen through two filters (side, TAPS).

    Places at which a filter would reach over the right edge hold what it sees of the next row.
    """
    for dy in range(side):
        row = plane[dy * width :]
        a, b = one[dy], other[dy]
        a0, a1, a2, a3, a4, a5, a6 = a[0], a[1], a[2], a[3], a[4], a[5], a[6]
        b0, b1, b2, b3, b4, b5, b6 = b[0], b[1], b[2], b[3], b[4], b[5], b[6]
        for p in range(size):
            x0, x1, x2, x3 = row[p], row[p + 1], row[p + 2], row[p + 3]
            x4, x5, x6 = row[p + 4], row[p + 5], row[p + 6]
            first[p] += a0 * x0 + a1 * x1 + a2 * x2 + a3 * x3 + a4 * x4 + a5 * x5 + a6 * x6
            second[p] += b0 * x0 + b1 * x1 + b2 * x2 + b3 * x3 + b4 * x4 + b5 * x5 + b6 * x6


@njit(fastmath=EXACT, nogil=True, error_model="numpy")
def convolve(
    space: F32, one: F32, other: F32, channels: int, side: int, width: int, size: int, first: F32, second: F32
) -> None:
    """first, second (size,) ← an image's planes seen through two filters (c, side, TAPS)."""
    for p in range(size):
        first[p] = 0.0
        second[p] = 0.0
    for channel in range(channels):
        taps(space[channel], one[channel], other[channel], side, width, size, first, second)


@njit(fastmath=EXACT, nogil=True, error_model="numpy")
def measure_some(image: F32, side: int, mean: F32, sums: F32, scale: F32, seen: F32) -> None:
    """mean, scale ← those of every patch by the pixels that are there, from sums of them and of their squares."""
    channels, height, width = image.shape
    size = (height - side + 1) * width
    for p in range(size):
        seen[p] = 0.0
    for channel in range(channels):
        for dy in range(side):
            for dx in range(side):
                for p in range(min(size, height * width - dy * width - dx)):
                    q = p + dy * width + dx
                    if not math.isnan(image[channel, q // width, q % width]):
                        seen[p] += 1.0
    for p in range(size):
        count = max(seen[p], np.float32(1.0))
        average = mean[p] / count
        mean[p] = average
        scale[p] = np.float32(1.0) / np.sqrt(
            max(sums[p] / count - average * average, np.float32(0.0)) + np.float32(NOISE)
        )


@njit(fastmath=EXACT, nogil=True, error_model="numpy")
def pool(
    answer: F32, scale: F32, threshold: float, rows: int, columns: int, width: int, line: F32, out: F32
) -> None:
    """out (9,) ← sums over 3 × 3 cells of max(answer · scale − threshold, 0)."""
    for cell in range(CELLS):
        for x in range(width):
            line[x] = 0.0
        for y in range(cell * rows // CELLS, (cell + 1) * rows // CELLS):
            answers, scales = answer[y * width :], scale[y * width :]
            for x in range(width):
                line[x] += max(answers[x] * scales[x] - threshold, np.float32(0.0))
        for part in range(CELLS):
            total = np.float32(0.0)
            for x in range(part * columns // CELLS, (part + 1) * columns // CELLS):
                total += line[x]
            out[CELLS * cell + part] = total


@entry_point(fastmath=EXACT, nogil=True, error_model="numpy")
def respond(
    image: F32, low: float, span: float, side: int, filters: F32, threshold: F32, centre: F32, deviation: F32,
    loudest: float, space: F32, out: F32,
) -> None:  # fmt: skip
    """out (9 k,) ← the answers of k filters for an image (c, h, w), over 3 × 3 cells, in deviations.

    filters: (k, c, side, TAPS) float32, k even, each without mean; threshold: (k,). space: (c + 8, h w + 8)
    float32, whatever it holds.
    """
    channels, height, width = image.shape
    rows, columns = height - side + 1, width - side + 1
    size = rows * width
    mean, scale, sums, mask = space[channels], space[channels + 1], space[channels + 2], space[channels + 3]
    first, second, absent_first, absent_second = (
        space[channels + 4], space[channels + 5], space[channels + 6], space[channels + 7],
    )  # fmt: skip
    pixels = height * width
    missing = False
    for p in range(pixels + 8):
        mask[p] = 0.0
    for channel in range(channels):
        plane, flat = space[channel], image[channel].reshape(pixels)
        for p in range(pixels):
            x = np.float32((flat[p] - low) / span)
            if math.isnan(x):
                missing = True
            plane[p] = (
                min(max(x, np.float32(-1.0)), np.float32(2.0)) if not math.isnan(x) else np.float32(0.0)
            )
        for p in range(pixels, pixels + 8):
            plane[p] = 0.0
    count = np.float32(channels * side * side)
    for p in range(size):
        mean[p] = 0.0
        sums[p] = 0.0
    for channel in range(channels):
        plane = space[channel]
        for dy in range(side):
            for dx in range(side):
                shifted = plane[dy * width + dx :]
                for p in range(size):
                    x = shifted[p]
                    mean[p] += x
                    sums[p] += x * x
    if missing:
        measure_some(image, side, mean, sums, scale, mask)
    else:
        for p in range(size):
            average = mean[p] / count
            mean[p] = average
            scale[p] = np.float32(1.0) / np.sqrt(
                max(sums[p] / count - average * average, np.float32(0.0)) + np.float32(NOISE)
            )
    for f in range(0, filters.shape[0], 2):
        convolve(space, filters[f], filters[f + 1], channels, side, width, size, first, second)
        if missing:
            for p in range(size):
                absent_first[p] = 0.0
                absent_second[p] = 0.0
            for channel in range(channels):
                flat = image[channel].reshape(pixels)
                for p in range(pixels):
                    mask[p] = 0.0 if math.isnan(flat[p]) else 1.0
                taps(mask, filters[f, channel], filters[f + 1, channel], side, width, size, absent_first,
                     absent_second)  # fmt: skip
            for p in range(size):
                first[p] -= mean[p] * absent_first[p]
                second[p] -= mean[p] * absent_second[p]
        pool(first, scale, threshold[f], rows, columns, width, sums, out[CELLS * CELLS * f :])
        pool(second, scale, threshold[f + 1], rows, columns, width, sums, out[CELLS * CELLS * (f + 1) :])
    for j in range(out.shape[0]):
        out[j] = min(max((out[j] - centre[j]) / deviation[j], np.float32(-loudest)), np.float32(loudest))


@entry_point(fastmath=EXACT, nogil=True, error_model="numpy")
def product(patches: F32, centres: F32, out: F32) -> None:
    """out (n, k) ← patches (n, d) times centres (d, k)."""
    for i in range(patches.shape[0]):
        said = out[i]
        said[:] = 0.0
        for a in range(patches.shape[1]):
            x = patches[i, a]
            for f in range(centres.shape[1]):
                said[f] += x * centres[a, f]


@entry_point(fastmath=EXACT, nogil=True, error_model="numpy")
def unwhitened(factor: F32, centres: F32, out: F32) -> None:
    """out (k, d) ← filters for patches as they are: L⁻ᵀ of each centre (d, k), less its mean."""
    d, k = centres.shape
    for f in range(k):
        mean = 0.0
        for back in range(d):
            a = d - 1 - back
            total = centres[a, f]
            for b in range(a + 1, d):
                total -= factor[b, a] * out[f, b]
            out[f, a] = total / factor[a, a]
            mean += out[f, a]
        mean /= d
        for a in range(d):
            out[f, a] -= mean
