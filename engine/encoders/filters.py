"""Patch features of images: filters learned from a few images, frozen then, 1,152 numbers for each image."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.encoders import patches
from engine.network import mixed_bits

FILTERS = 128
NUMBERS = FILTERS * patches.CELLS**2
SAMPLED = 8_192  # patches from which filters are learned
QUANTILE = 0.8
LOUDEST = 4.0  # deviations
EXTREMES = 0.001  # of the pixels are below, and above, what counts as black and white

F32 = NDArray[np.float32]


class Filters(NamedTuple):
    """What makes numbers of an image (c, h, w); none of it changes once it is made.

    range: (2,) float32, black and how far it is to white. filters: (128, c, side, TAPS) float32, zeros beyond
    side; threshold: (128,). mean, deviation: (1152,) float32, of the numbers of the images that the filters
    were learned from.
    """

    range: F32
    filters: F32
    threshold: F32
    mean: F32
    deviation: F32


def side_of(height: int, width: int) -> int:
    """Pixels along a patch: 7, or 5 or 3 where the image is small; 0 where it is too small for patches."""
    least = min(height, width)
    return 0 if least < 8 else 3 if least < 12 else 5 if least < 20 else 7


def space_for(images: F32) -> F32:
    """Working space of `answers`; images: (…, c, h, w)."""
    channels, height, width = images.shape[-3:]
    return np.zeros((channels + 8, height * width + patches.TAPS + 1), np.float32)


def learn(images: F32, seed: int) -> Filters:
    """Filters from images (n, c, h, w) float32, NaN for missing.

    Pixels are measured from black to white, the 0.001 and 0.999 quantiles of these images, so that their unit
    does not matter; numbers of an image are standardised by those of these images.
    """
    n, channels, height, width = images.shape
    side = side_of(height, width)
    pixels = np.sort(images[np.isfinite(images)])
    low, high = (
        (pixels[round(q * (len(pixels) - 1))] for q in (EXTREMES, 1 - EXTREMES)) if len(pixels) else (0, 1)
    )
    if not high > low:
        low, high = (pixels[0], pixels[-1]) if len(pixels) else (0, 1)
    span = np.float32(high - low) if high > low else np.float32(1)
    sample = np.arange(SAMPLED)
    ends = (n, height - side + 1, width - side + 1)
    drawn = [(mixed_bits(seed, 90 + axis, sample) * end).astype(np.int64) for axis, end in enumerate(ends)]
    places = np.stack(drawn, axis=1)
    d = channels * side * side
    white, factor = np.zeros((SAMPLED, d), np.float32), np.zeros((d, d), np.float32)
    patches.whitened(images, float(low), float(span), side, places, white, factor)
    size = np.sqrt(np.sum(white * white, axis=1))
    shows = np.flatnonzero(size * size > patches.FLAT)
    centres = np.zeros((d, FILTERS), np.float32)
    if len(shows):
        order = shows[np.argsort(mixed_bits(seed, 93, shows), kind="stable")]
        first = order[np.arange(FILTERS) % len(order)]
        centres[:] = (white[first] / size[first, None]).T
        patches.clustered(white, centres)
    answers = np.zeros((SAMPLED, FILTERS), np.float32)
    patches.product(white, centres, answers)
    threshold = np.sort(answers, axis=0)[round(QUANTILE * (SAMPLED - 1))]
    plain = np.zeros((FILTERS, d), np.float32)
    patches.unwhitened(factor, centres, plain)
    filters = np.zeros((FILTERS, channels, side, patches.TAPS), np.float32)
    filters[..., :side] = plain.reshape(FILTERS, channels, side, side)
    made = Filters(
        np.array([low, span], np.float32), filters, threshold.copy(),
        np.zeros(NUMBERS, np.float32), np.ones(NUMBERS, np.float32),
    )  # fmt: skip
    said = np.zeros((n, NUMBERS), np.float32)
    space = space_for(images)
    for image, row in zip(images, said, strict=True):
        answer(made, image, space, row, loudest=np.inf)
    wide = said.astype(np.float64)
    made.mean[:] = wide.mean(axis=0)
    deviation = wide.std(axis=0)
    made.deviation[:] = np.sqrt(deviation**2 + 0.01 * np.mean(deviation**2) + 1e-12)
    return made


def answer(made: Filters, image: F32, space: F32, out: F32, *, loudest: float = LOUDEST) -> None:
    """out (1152,) ← the numbers of an image (c, h, w), standardised and within ±4."""
    side = made.filters.shape[2]
    patches.respond(
        image, float(made.range[0]), float(made.range[1]), side, made.filters, made.threshold, made.mean,
        made.deviation, loudest, space, out,
    )  # fmt: skip
