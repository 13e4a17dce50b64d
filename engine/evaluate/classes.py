"""Figures that look at classes apart: precision, recall and F1 of each, and how rare ones fare."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

RARE = 0.05  # a class with a smaller share of the weight is rare


def per_class(
    classes: Sequence[Hashable], support: Sequence[float], predicted: Sequence[float], hits: Sequence[float]
) -> dict[str, Any]:
    """What can be said of each class that came, and of all of them.

    support, predicted, hits: (classes,) weight of the labels, of the forecasts and of those that were right.
    per_class: class → precision (None where it was never forecast), recall = hits/support, f1 = 2 hits/(support +
    predicted), share = support/Σ support. balanced_accuracy: the mean recall. macro_f1: the mean F1. f1: class →
    F1. rare_recall: the mean recall of the classes whose share is below 5 %, `rare_classes`; None without one.

    >>> found = per_class(["common", "rare"], support=[97.0, 3.0], predicted=[98.0, 2.0], hits=[97.0, 2.0])
    >>> found["rare_classes"], round(found["rare_recall"], 3), round(found["balanced_accuracy"], 3)
    (['rare'], 0.667, 0.833)
    >>> found["per_class"]["rare"]["precision"], found["per_class"]["rare"]["share"]
    (1.0, 0.03)
    """
    whole = sum(support)
    came = [k for k, weight in enumerate(support) if weight > 0.0]
    each = {
        str(classes[k]): {
            "precision": hits[k] / predicted[k] if predicted[k] > 0.0 else None,
            "recall": hits[k] / support[k],
            "f1": 2.0 * hits[k] / (support[k] + predicted[k]),
            "share": support[k] / whole,
        }
        for k in came
    }
    rare = [k for k in came if support[k] < RARE * whole]
    f1 = {name: row["f1"] for name, row in each.items()}
    return {
        "balanced_accuracy": _mean([hits[k] / support[k] for k in came]),
        "f1": f1,
        "macro_f1": _mean([2.0 * hits[k] / (support[k] + predicted[k]) for k in came]),
        "per_class": each,
        "rare_recall": _mean([hits[k] / support[k] for k in rare]),
        "rare_classes": [classes[k] for k in rare],
    }


def kappa(accuracy: float | None, reference: float | None) -> float | None:
    """(accuracy − reference)/(1 − reference): 1 is perfect, 0 as good as the reference; None where that is 1.

    >>> kappa(0.75, 0.5), kappa(0.9, 1.0)
    (0.5, None)
    """
    if accuracy is None or reference is None or reference >= 1.0:
        return None
    return (accuracy - reference) / (1.0 - reference)


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
