"""What people do today: gradient-boosted trees, trained anew every night on all labels known by then."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

HOUR_UTC = 8.0  # 3 or 4 o'clock in New York: no flight leaves then
MANY = (
    255  # the trees take at most so many categories; fields with more (tail and flight numbers) are left out
)


def matrix(columns: dict[str, list[Any]]) -> tuple[NDArray[np.float64], list[bool], list[str]]:
    """(X (n, d) float64 with NaN for missing, which columns are categories, their names)."""
    found, categories, names = [], [], []
    for name, values in columns.items():
        if any(isinstance(value, str) for value in values):
            seen: dict[str, int] = {}
            codes = [np.nan if v is None else float(seen.setdefault(v, len(seen))) for v in values]
            if len(seen) > MANY:
                continue
            found.append(np.array(codes))
            categories.append(True)
        else:
            found.append(np.array([np.nan if v is None else float(v) for v in values]))
            categories.append(False)
        names.append(name)
    return np.stack(found, axis=1), categories, names


def boosted_nightly(
    X: NDArray[np.float64],
    categories: Sequence[bool],
    y: NDArray[np.int64],
    time: NDArray[np.float64],
    label_time: NDArray[np.float64],
    seed: int = 0,
) -> NDArray[np.float64]:
    """(n,) probability of class 1 per row; NaN before the first night. Rows in the order of time.

    scikit-learn's HistGradientBoostingClassifier with its defaults but a learning rate of 0.05, trained each
    night at `HOUR_UTC` on every row whose label was known before.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    p = np.full(len(y), np.nan)
    night = np.floor((time - HOUR_UTC * 3600.0) / 86400.0)
    for day in np.unique(night)[1:]:
        starts = day * 86400.0 + HOUR_UTC * 3600.0
        known = label_time < starts
        today = night == day
        if len(np.unique(y[known])) < 2:
            continue
        model = HistGradientBoostingClassifier(
            learning_rate=0.05, categorical_features=list(categories), random_state=seed
        )
        model.fit(X[known], y[known])
        p[today] = model.predict_proba(X[today])[:, 1]
    return p
