"""An array of pixels as an image: its planes, bounded in size, and a thumbnail whose cells are features."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.compiled import entry_point
from engine.encoders.filters import side_of

PIXELS = 48 * 48  # of a plane; larger images are shrunk by a whole factor
CHANNELS = 16
THUMBNAIL = 5  # cells along the side of a thumbnail, fewer where there are channels
LARGEST = 1e30  # a pixel beyond is taken as missing

F32 = NDArray[np.float32]


def is_image(shape: tuple[int, ...]) -> bool:
    """Whether an array of this shape is an image: (h, w) or (h, w, c) of at least 8 × 8 pixels."""
    return 2 <= len(shape) <= 3 and side_of(*shape[:2]) > 0 and (len(shape) == 2 or 1 <= shape[2] <= CHANNELS)


def measures(shape: tuple[int, ...]) -> tuple[int, ...]:
    """(c, h, w) of the planes of an image of this shape."""
    height, width = shape[:2]
    factor = factor_of(height, width)
    return shape[2] if len(shape) == 3 else 1, height // factor, width // factor


def cells(channels: int) -> int:
    """Cells along the side of a thumbnail: at most 25 numbers, and at least one cell."""
    return max(math.isqrt(THUMBNAIL**2 // channels), 1)


def factor_of(height: int, width: int) -> int:
    """By how much an image is shrunk: the least whole number that leaves at most PIXELS pixels."""
    factor = 1
    while (height // factor) * (width // factor) > PIXELS and min(height, width) // (factor + 1) >= 8:
        factor += 1
    return factor


def planes(array: NDArray[Any]) -> tuple[F32, int]:
    """(c, h, w) float32, NaN for missing, of an image (h, w) or (h, w, c); how many pixels were infinite.

    Larger images are shrunk to means over factor × factor pixels; what is left over at the edges is not seen.
    """
    image = np.asarray(array, np.float32)
    if image.ndim == 2:
        image = image[:, :, None]
    bad = 0
    if array.dtype.kind == "f":
        wrong = np.abs(image) > LARGEST
        bad = int(np.count_nonzero(wrong))
        if bad:
            image = np.where(wrong, np.float32(np.nan), image)
    out = np.ascontiguousarray(np.moveaxis(image, 2, 0))
    factor = factor_of(*out.shape[1:])
    if factor > 1:
        channels, height, width = out.shape
        small = np.zeros((channels, height // factor, width // factor), np.float32)
        shrink(out, factor, small)
        out = small
    return out, bad


def seen(image: F32) -> bool:
    """Whether any pixel of an image is there."""
    return not np.isnan(image[0, 0, 0]) or not bool(np.isnan(image).all())


def thumbnail(image: F32) -> list[float]:
    """Means over a grid of cells of an image (c, h, w), channel by channel; NaN where no pixel is there."""
    side = cells(image.shape[0])
    out = np.zeros(image.shape[0] * side * side, np.float32)
    average(image, side, out)
    cells_of: list[float] = out.tolist()
    return cells_of


@entry_point(nogil=True, error_model="numpy")
def shrink(image: F32, factor: int, out: F32) -> None:
    """out (c, h, w) ← means over factor × factor pixels that are there."""
    for channel in range(out.shape[0]):
        for y in range(out.shape[1]):
            for x in range(out.shape[2]):
                total, seen = 0.0, 0
                for dy in range(factor):
                    for dx in range(factor):
                        value = image[channel, y * factor + dy, x * factor + dx]
                        if not math.isnan(value):
                            total += value
                            seen += 1
                out[channel, y, x] = total / seen if seen > 0 else np.nan


@entry_point(nogil=True, error_model="numpy")
def average(image: F32, side: int, out: F32) -> None:
    """out (c side²,) ← means over side × side cells of pixels that are there."""
    channels, height, width = image.shape
    for channel in range(channels):
        for row in range(side):
            for column in range(side):
                total, seen = 0.0, 0
                for y in range(row * height // side, (row + 1) * height // side):
                    for x in range(column * width // side, (column + 1) * width // side):
                        value = image[channel, y, x]
                        if not math.isnan(value):
                            total += value
                            seen += 1
                out[(channel * side + row) * side + column] = total / seen if seen > 0 else np.nan
