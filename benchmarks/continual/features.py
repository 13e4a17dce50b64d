"""Inputs of the baselines: pixels, local patch features learned from the first events, random units."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

FIRST = 100  # events from which a map is learned
PATCH, FILTERS, POOLED = 7, 128, 3
QUANTILE = 0.8
VARIANCE = 0.01  # added to a patch's variance, pixels from 0 to 1
RIDGE = 0.3  # of the mean eigenvalue, in whitening
ROUNDS = 20  # of k-means
BLOCK = 250  # images at once
LIMIT = 4.0  # standardised features are clipped here
UNITS = 1_024


class Map(Protocol):
    """From events to what a baseline reads; `needs` events are handed to `fit` first, in one array."""

    needs: int
    shape: tuple[int, ...]

    def fit(self, X: NDArray[Any]) -> None:
        """Learn the map from the first events, without labels."""

    def __call__(self, X: NDArray[Any]) -> Tensor:
        """(n, *shape) float32."""

    def memory_bytes(self) -> int:
        """What the map itself keeps."""


class Pixels:
    """Grey values from 0 to 1, less 0.5 and times 2; images (n, h, w) get a channel, (n, 1, h, w)."""

    needs = 0

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = (1, *shape) if len(shape) == 2 else shape

    def fit(self, X: NDArray[Any]) -> None:
        """Nothing to learn."""

    def __call__(self, X: NDArray[Any]) -> Tensor:
        """(n, 1, h, w) or (n, d)."""
        return (grey(X) - 0.5).mul(2.0).reshape(-1, *self.shape)

    def memory_bytes(self) -> int:
        """Nothing."""
        return 0


class Patches:
    """Local patch features of images (n, h, w): 3 × 3 cells of 128 filters, 1,152 numbers.

    Patches of 7 × 7, each with its mean taken away and over √(its variance + 0.01), whitened by ZCA (ridge 0.3
    of the mean eigenvalue); 128 filters by spherical k-means on those of the first 100 events; ReLU of a
    filter's response less its 0.8 quantile there, summed over 3 × 3 cells. Numbers are standardised by those
    100 events. Coates, Lee and Ng 2011, "An analysis of single-layer networks in unsupervised feature learning".
    """

    needs = FIRST
    shape = (FILTERS * POOLED * POOLED,)

    def __init__(self, seed: int = 0) -> None:
        self._random = torch.Generator().manual_seed(seed)
        self._weights = self._offset = self._threshold = self._mean = self._scale = torch.zeros(0)

    def fit(self, X: NDArray[Any]) -> None:
        """Learn whitening, filters and thresholds from images (n, h, w)."""
        images = grey(X)
        cut = images.unfold(1, PATCH, 1).unfold(2, PATCH, 1).reshape(-1, PATCH * PATCH)
        rows = cut[cut.std(dim=1) > 1e-3]  # empty ground says nothing
        rows = rows - rows.mean(dim=1, keepdim=True)
        rows = rows / (rows.square().mean(dim=1, keepdim=True) + VARIANCE).sqrt()
        centre = rows.mean(dim=0)
        values, vectors = torch.linalg.eigh(torch.cov(rows.T))
        whitening = vectors @ torch.diag((values + RIDGE * values.mean()).rsqrt()) @ vectors.T
        filters = spherical_means((rows - centre) @ whitening, FILTERS, self._random)
        self._weights = whitening @ filters.T
        self._offset = centre @ self._weights
        said = self._responses(images).permute(0, 2, 3, 1).reshape(-1, FILTERS)
        self._threshold = torch.quantile(said[:: max(1, len(said) // 20_000)], QUANTILE, dim=0)
        self._mean, self._scale = torch.zeros(self.shape), torch.ones(self.shape)
        pooled = self(X)
        self._mean, self._scale = pooled.mean(dim=0), pooled.std(dim=0).clamp_min(1e-3)

    def __call__(self, X: NDArray[Any]) -> Tensor:
        """(n, 1152)."""
        cells = []
        for images in grey(X).split(BLOCK):
            over = torch.relu(self._responses(images) - self._threshold[:, None, None])
            cells.append(nn.functional.adaptive_avg_pool2d(over, POOLED).flatten(1))
        return ((torch.cat(cells) - self._mean) / self._scale).clamp(-LIMIT, LIMIT)

    def _responses(self, images: Tensor) -> Tensor:
        """(n, 128, rows, columns): each filter on every patch, normalised and whitened, by one convolution.

        With a patch p of mean m and deviation s: ((p − m)/s − c) W = (p W − m 1ᵀW)/s − c W.
        """
        x = images[:, None]
        mean = nn.functional.avg_pool2d(x, PATCH, 1)
        variance = nn.functional.avg_pool2d(x.square(), PATCH, 1) - mean.square()
        said = nn.functional.conv2d(x, self._weights.T.reshape(FILTERS, 1, PATCH, PATCH))
        said = said - mean * self._weights.sum(dim=0)[:, None, None]
        return said / (variance.clamp_min(0.0) + VARIANCE).sqrt() - self._offset[:, None, None]

    def memory_bytes(self) -> int:
        """Filters, thresholds and the scale of what they say."""
        return sum(t.nbytes for t in (self._weights, self._offset, self._threshold, self._mean, self._scale))


class RandomUnits:
    """ReLU of random sums of the pixels: max(0, W x), W drawn from N(0, 1/d), standardised by the first 100 "
    "events."""

    needs = FIRST
    shape = (UNITS,)

    def __init__(self, width: int, seed: int = 0) -> None:
        drawn = torch.Generator().manual_seed(seed)
        self._weights = torch.randn(width, UNITS, generator=drawn) / width**0.5
        self._centre = torch.zeros(width)
        self._mean, self._scale = torch.zeros(UNITS), torch.ones(UNITS)

    def fit(self, X: NDArray[Any]) -> None:
        """Learn where the pixels' middle is, and the units' scale."""
        self._centre = grey(X).flatten(1).mean(dim=0)
        said = self(X)
        self._mean, self._scale = said.mean(dim=0), said.std(dim=0).clamp_min(1e-3)

    def __call__(self, X: NDArray[Any]) -> Tensor:
        """(n, 1024)."""
        said = torch.relu((grey(X).flatten(1) - self._centre) @ self._weights)
        return ((said - self._mean) / self._scale).clamp(-LIMIT, LIMIT)

    def memory_bytes(self) -> int:
        """Their weights and scales; a seed would do for the weights, but they are there."""
        return sum(t.nbytes for t in (self._weights, self._centre, self._mean, self._scale))


def grey(X: NDArray[Any]) -> Tensor:
    """Pixels as float32; bytes are taken from 0 to 1."""
    values = torch.from_numpy(np.ascontiguousarray(X)).float()
    return values / 255.0 if X.dtype == np.uint8 else values


def spherical_means(rows: Tensor, k: int, random: torch.Generator) -> Tensor:
    """(k, d) filters of length 1: each the direction of the sum of the rows that lean most to it."""
    rows = rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-6)
    found = rows[torch.randperm(len(rows), generator=random)[:k]].clone()
    for _ in range(ROUNDS):
        best = (rows @ found.T).argmax(dim=1)
        sums = torch.zeros_like(found).index_add_(0, best, rows)
        lonely = sums.norm(dim=1) < 1e-6
        sums[lonely] = rows[torch.randint(len(rows), (int(lonely.sum()),), generator=random)]
        found = sums / sums.norm(dim=1, keepdim=True)
    return found
