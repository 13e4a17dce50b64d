"""Measures of continual learning on a matrix of accuracies: what was kept, lost and carried over."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

F64 = NDArray[np.float64]


def measures(R: ArrayLike, order: Sequence[int], chance: float) -> dict[str, float | None]:
    """All measures by name; None where there is nothing to measure, as forgetting with one task.

    R: (parts, tasks), R[i, j] the accuracy on task j's held-out events after part i of the stream.
    order: (parts,), the task that each part teaches; in a plain sequence of tasks 0, 1, 2, …
    chance: what guessing gets, 1 / classes.
    Raises ValueError where the shapes do not fit.

    >>> found = measures([[0.9, 0.1], [0.6, 0.8]], order=[0, 1], chance=0.5)
    >>> {name: None if value is None else round(value, 3) for name, value in found.items()}
    {'average_accuracy': 0.7, 'learning_accuracy': 0.85, 'forgetting': 0.3, 'largest_drop': 0.3, \
'backward_transfer': -0.3, 'forward_transfer': -0.4}
    """
    matrix = np.asarray(R, dtype=np.float64)
    if matrix.ndim != 2 or len(matrix) != len(order) or set(order) != set(range(matrix.shape[1])):
        raise ValueError(
            f"R has shape {matrix.shape} and order is {list(order)}; expected (parts, tasks), one entry of "
            "order per part, and every task from 0 on in it"
        )
    return {
        "average_accuracy": float(matrix[-1].mean()),
        "learning_accuracy": learning_accuracy(matrix, order),
        "forgetting": forgetting(matrix, order),
        "largest_drop": largest_drop(matrix),
        "backward_transfer": backward_transfer(matrix, order),
        "forward_transfer": forward_transfer(matrix, order, chance),
    }


def first_parts(order: Sequence[int]) -> list[int]:
    """Task → the part that teaches it first.

    >>> first_parts([0, 1, 0, 1])
    [0, 1]
    """
    return [list(order).index(task) for task in range(max(order) + 1)]


def learning_accuracy(R: F64, order: Sequence[int]) -> float:
    """Mean accuracy on each task right after it was taught first: mean_j R[f_j, j] (Riemer et al. 2019)."""
    return float(np.mean([R[first, task] for task, first in enumerate(first_parts(order))]))


def forgetting(R: F64, order: Sequence[int]) -> float | None:
    """Mean over all tasks but the last taught of max_{i < last} R[i, j] − R[last, j].

    Chaudhry et al. 2018, "Riemannian walk for incremental learning". Negative where a task got better still.
    """
    lost = [float(R[:-1, task].max() - R[-1, task]) for task in set(order) if task != order[-1]]
    return float(np.mean(lost)) if lost else None


def largest_drop(R: F64) -> float:
    """How far the task that lost most stands below its best: max_j (max_i R[i, j] − R[last, j])."""
    return float((R.max(axis=0) - R[-1]).max())


def backward_transfer(R: F64, order: Sequence[int]) -> float | None:
    """What later tasks did to earlier ones: mean of R[last, j] − R[f_j, j] over all tasks but the last taught.

    Lopez-Paz and Ranzato 2017, "Gradient episodic memory for continual learning".
    """
    rows = enumerate(first_parts(order))
    moved = [float(R[-1, task] - R[first, task]) for task, first in rows if task != order[-1]]
    return float(np.mean(moved)) if moved else None


def forward_transfer(R: F64, order: Sequence[int], chance: float) -> float | None:
    """What earlier tasks did for later ones before these were taught: mean of R[f_j − 1, j] − chance, f_j ≥ 1.

    Lopez-Paz and Ranzato 2017; their b_j, the accuracy of a learner with random weights, is `chance` here. Where
    every task has classes of its own it cannot be above −chance, for nobody names a class he never heard of.
    """
    ahead = [float(R[first - 1, task] - chance) for task, first in enumerate(first_parts(order)) if first]
    return float(np.mean(ahead)) if ahead else None


def anytime_accuracy(events: Sequence[int], accuracy: Sequence[float]) -> float:
    """The area under accuracy over events, each point standing for the events since the one before.

    Σ_k a_k (n_k − n_{k−1}) / n_last (Koh et al. 2022, "Online continual learning on class incremental blurry
    task configuration with anytime inference").

    >>> anytime_accuracy([10, 20, 40], [0.4, 0.6, 0.8])
    0.65
    """
    spans = np.diff(np.asarray(events, dtype=np.float64), prepend=0.0)
    return float(spans @ np.asarray(accuracy, dtype=np.float64) / spans.sum())
