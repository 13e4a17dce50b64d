"""Generated streams whose drift is known: each a function of a seed and a length, the same every time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streams.table import Table

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

SEA_THRESHOLDS = (8.0, 9.0, 7.0, 9.5)


def _table(name: str, X: npt.NDArray[np.float64], y: npt.NDArray[np.int64]) -> Table:
    import pyarrow as pa

    features = pa.table({f"x{j}": X[:, j] for j in range(X.shape[1])})
    return Table(name, features, target=pa.array(y), task="classification", target_name="y")


def _check(n: int, **counts: int) -> None:
    for name, value in {"n": n, **counts}.items():
        if value < 1:
            raise ValueError(f"{name} is {value}; expected at least 1")


def sea_abrupt(n: int = 20_000, *, seed: int = 0, noise: float = 0.1) -> Table:
    """The SEA concepts with abrupt drift: x0, x1, x2 ~ U(0, 10), y = 1 where x0 + x1 ≤ θ; x2 says nothing.

    θ is 8, 9, 7 and 9.5 in the four quarters of the stream; a share `noise` of the labels is flipped.
    The best accuracy possible is 1 − noise. Street & Kim 2001, "A streaming ensemble algorithm (SEA) for
    large-scale classification".
    """
    import numpy as np

    _check(n)
    if not 0.0 <= noise < 1.0:
        raise ValueError(f"noise is {noise}; expected a share of at least 0 and below 1")
    random = np.random.default_rng(seed)
    X = random.uniform(0.0, 10.0, (n, 3))
    theta = np.asarray(SEA_THRESHOLDS)[np.arange(n) * len(SEA_THRESHOLDS) // n]
    flipped = random.random(n) < noise
    y = ((X[:, 0] + X[:, 1] <= theta) ^ flipped).astype(np.int64)
    return _table("sea_abrupt", X, y)


def rotating_hyperplane(
    n: int = 20_000,
    *,
    seed: int = 0,
    features: int = 10,
    drifting: int = 5,
    step: float = 0.001,
    turn: float = 0.001,
    noise: float = 0.05,
) -> Table:
    """A boundary that turns slowly: x ~ U(0, 1)^d, y = 1 where Σ wᵢxᵢ ≥ ½ Σ wᵢ, w ~ U(0, 1)^d at first.

    At each row the first `drifting` weights move by ±`step`; each turns round with probability `turn`.
    A share `noise` of the labels is flipped. Hulten, Spencer & Domingos 2001, "Mining time-changing data
    streams".
    """
    import numpy as np

    _check(n, features=features)
    if not 0 <= drifting <= features:
        raise ValueError(f"drifting is {drifting}; expected 0 to features = {features}")
    random = np.random.default_rng(seed)
    X = random.random((n, features))
    w = np.tile(random.random(features), (n, 1))
    direction = np.where(random.random(drifting) < 0.5, -1.0, 1.0)
    turns = np.cumprod(np.where(random.random((n, drifting)) < turn, -1.0, 1.0), axis=0)
    w[:, :drifting] += step * np.cumsum(direction * turns, axis=0)
    flipped = random.random(n) < noise
    y = (((X * w).sum(axis=1) >= 0.5 * w.sum(axis=1)) ^ flipped).astype(np.int64)
    return _table("rotating_hyperplane", X, y)


def recurring_rbf(
    n: int = 20_000,
    *,
    seed: int = 0,
    features: int = 10,
    classes: int = 5,
    centroids: int = 4,
    concepts: int = 3,
    block: int = 2_000,
) -> Table:
    """Gaussian clusters in concepts that come back: row i follows concept ⌊i / block⌋ mod concepts.

    In a concept each class has `centroids` centres c ~ U(0, 1)^d with spreads r ~ U(0.02, 0.12);
    x = c + r · N(0, I) for a class and centre drawn uniformly. A concept that returns is the same to the bit
    in its centres, so that what was kept of it can be used again.
    """
    import numpy as np

    _check(n, features=features, classes=classes, centroids=centroids, concepts=concepts, block=block)
    random = np.random.default_rng(seed)
    centres = random.random((concepts, classes, centroids, features))
    spread = random.uniform(0.02, 0.12, (concepts, classes, centroids))
    concept = np.arange(n) // block % concepts
    y = random.integers(0, classes, n)
    which = random.integers(0, centroids, n)
    shift = random.standard_normal((n, features))
    X = centres[concept, y, which] + spread[concept, y, which][:, None] * shift
    return _table("recurring_rbf", X, y.astype(np.int64))
