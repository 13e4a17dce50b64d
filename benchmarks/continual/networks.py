"""The baselines' networks: a small convolutional one for images, a perceptron for vectors."""

from __future__ import annotations

import torch
from torch import nn

HIDDEN = 256


def network(shape: tuple[int, ...], classes: int, seed: int) -> nn.Module:
    """For inputs (1, h, w): two convolutions (16 and 32 filters, 3 × 3), each halved by max-pooling, and 128
    units.

    For (d,): two layers of 256 units. ReLU throughout; weights are drawn as torch draws them, by the seed.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if len(shape) == 1:
            return nn.Sequential(
                nn.Linear(shape[0], HIDDEN),
                nn.ReLU(),
                nn.Linear(HIDDEN, HIDDEN),
                nn.ReLU(),
                nn.Linear(HIDDEN, classes),
            )
        channels, high, wide = shape
        return nn.Sequential(
            nn.Conv2d(channels, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(32 * (high // 4) * (wide // 4), 128),
            nn.ReLU(),
            nn.Linear(128, classes),
        )
