"""Prequential figures: what a stream's forecasts were worth, each judged before its label was learned.

Conventions, the same for every learner and for late labels:

* Events count in the order in which their labels arrive; that is also the order behind "same as before"
  in `kappa_temporal`.
* An empty forecast (`{}`, or a row of zeros: nothing learned yet) is wrong, and its log loss is that of an
  even guess among the classes seen so far, this label's included, but at least two. A class that was not
  in a non-empty forecast had probability 0, which log loss clips at 1e-15.
* Not-a-number and infinite probabilities count as 0, a regression value that is not finite as the mean of
  the labels so far; both are counted in `bad_forecasts`.
* The forecast class is the first of those with the highest probability.
* No clock is read here. Durations belong to `engine.evaluate.latency`.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from engine.evaluate.auc import RankHistogram, log_odds
from engine.evaluate.calibration import Calibration
from engine.evaluate.classes import kappa, per_class
from engine.evaluate.curve import Curve
from engine.evaluate.drift import DriftMeter

Task = Literal["classification", "regression"]
_TOGETHER = 256  # deferred forecasts that are judged at once


class PrequentialMetrics:
    """All figures of one learner on one stream, in bounded memory.

    task: "classification" or "regression". window: events per block of `curve()`.
    positive: the class that calibration speaks of where there are two; by default the one whose text sorts
    last (True, 1, "yes" before "no"). each: three array("d") to which every event adds its weight, what it says
    for the headline (1 or 0 for right or wrong, or the absolute error) and its loss (log loss, or squared error);
    they are no part of `state`.

    >>> metrics = PrequentialMetrics()
    >>> metrics.update(True, {})
    >>> metrics.update(False, {True: 0.8, False: 0.2})
    >>> metrics.update(True, {True: 0.9, False: 0.1})
    >>> result = metrics.result()
    >>> result["events"], round(result["accuracy"], 3), round(result["log_loss"], 3)
    (3, 0.333, 0.803)
    """

    def __init__(
        self,
        task: Task = "classification",
        *,
        window: int = 200,
        positive: Hashable | None = None,
        each: tuple[array[float], array[float], array[float]] | None = None,
    ) -> None:
        if task not in ("classification", "regression"):
            raise ValueError(f"task={task!r}: expected 'classification' or 'regression'")
        self.task: Task = task
        self.window = window
        self.positive = positive
        self._each = each
        self._curve = Curve(window=window)
        self._drift = DriftMeter()
        self._deferred: list[tuple[Any, Mapping[Any, float] | float, float, float | None]] = []
        self._events = 0
        self._bad = 0
        self._empty = 0
        self._weight = 0.0
        self._first_time: float | None = None
        self._last_time: float | None = None
        # classification
        self._classes: list[Hashable] = []
        self._place: dict[Hashable, int] = {}
        self._support: list[float] = []
        self._predicted: list[float] = []
        self._hits: list[float] = []
        self._loss = 0.0
        self._previous = -1
        self._kept_hits = 0.0
        self._ranks = RankHistogram() if task == "classification" else None
        self._calibration = Calibration()  # of the class first seen
        # regression
        self._absolute = 0.0
        self._square = 0.0
        self._mean = 0.0
        self._m2 = 0.0
        self._last_label = 0.0
        self._kept_absolute = 0.0

    # -- taking events ------------------------------------------------------------------------------

    def update(
        self, y: Any, forecast: Mapping[Any, float] | float, w: float = 1.0, time: float | None = None
    ) -> None:
        """Judge one forecast (label → probability, or a value) by its label y, known at `time`."""
        if self.task == "regression":
            if isinstance(forecast, Mapping):
                raise TypeError(f"forecast={forecast!r}: expected a number, the task is regression")
            self._add_value(float(y), float(forecast), w, time)
            return
        if not isinstance(forecast, (dict, Mapping)):  # a dict is seen ten times as fast as any mapping
            raise TypeError(
                f"forecast={forecast!r}: expected label → probability, the task is classification"
            )
        label = self._register(y)
        best, best_p, p_true, p_first, p_other, bad = None, 0.0, 0.0, 0.0, 0.0, 0
        first = self._classes[0]
        for name, value in forecast.items():
            p = float(value)
            if not math.isfinite(p):
                bad, p = 1, 0.0
            if p > best_p:
                best, best_p = name, p
            if name == y:
                p_true = p
            if name == first:
                p_first = p
            elif p > p_other:
                p_other = p
        self._bad += bad
        predicted = -1 if best_p <= 0.0 else self._register(best)
        self._add_class(label, predicted, p_true, p_first, p_other, best_p, w, time)

    def defer(self, y: Any, forecast: Mapping[Any, float] | float, w: float, time: float | None) -> None:
        """As `update`, but judged with some others, at the latest when a figure is asked for.

        The same result to the bit in half the time: the code that judges is then in the processor's cache. The
        forecast must not be changed afterwards.
        """
        self._deferred.append((y, forecast, w, time))
        if len(self._deferred) >= _TOGETHER:
            self.catch_up()

    def catch_up(self) -> None:
        """Judge what was deferred."""
        waiting, self._deferred = self._deferred, []
        for y, forecast, w, time in waiting:
            self.update(y, forecast, w, time)

    def update_many(
        self,
        Y: ArrayLike,
        forecasts: ArrayLike,
        classes: Sequence[Hashable] | None = None,
        w: ArrayLike | None = None,
        times: ArrayLike | None = None,
    ) -> None:
        """Judge n forecasts, with the same result to the bit as `update` one by one.

        Classification: Y (n,) int, positions in `classes`; forecasts (n, classes). Regression: Y (n,),
        forecasts (n,). w (n,) weights, times (n,) seconds; None for weight 1 and no times.
        """
        n = len(np.asarray(Y))
        weights = [1.0] * n if w is None else np.asarray(w, dtype=np.float64).tolist()
        moments = [None] * n if times is None else np.asarray(times, dtype=np.float64).tolist()
        if self.task == "regression":
            labels = np.asarray(Y, dtype=np.float64).tolist()
            values = np.asarray(forecasts, dtype=np.float64).tolist()
            for y, value, weight, moment in zip(labels, values, weights, moments, strict=True):
                self._add_value(y, value, weight, moment)
            return
        P = np.asarray(forecasts, dtype=np.float64)
        if classes is None or P.ndim != 2 or P.shape != (n, len(classes)):
            wanted = "None" if classes is None else f"({n}, {len(classes)})"
            raise ValueError(
                f"forecasts: shape {P.shape} with classes of shape {wanted}; expected them equal"
            )
        if n == 0:
            return
        finite = np.isfinite(P)
        if not finite.all():
            self._bad += int((~finite.all(axis=1)).sum())
            P = np.where(finite, P, 0.0)
        P = np.maximum(P, 0.0)
        at = np.asarray(Y, dtype=np.int64)
        best = P.argmax(axis=1)
        rows = np.arange(n)
        self._register(classes[int(at[0])])
        column = next((k for k, name in enumerate(classes) if name == self._classes[0]), -1)
        p_first = P[:, column] if column >= 0 else np.zeros(n)
        others = P if column < 0 else np.delete(P, column, axis=1)
        p_other = others.max(axis=1) if others.shape[1] else np.zeros(n)
        for y, k, p_best, p_true, p_a, p_b, weight, moment in zip(
            at.tolist(),
            best.tolist(),
            P[rows, best].tolist(),
            P[rows, at].tolist(),
            p_first.tolist(),
            p_other.tolist(),
            weights,
            moments,
            strict=True,
        ):
            label = self._register(classes[y])
            predicted = -1 if p_best <= 0.0 else self._register(classes[k])
            self._add_class(label, predicted, p_true, p_a, p_b, p_best, weight, moment)

    def _register(self, label: Any) -> int:
        place = self._place.get(label)
        if place is None:
            place = self._place[label] = len(self._classes)
            self._classes.append(label)
            self._support.append(0.0)
            self._predicted.append(0.0)
            self._hits.append(0.0)
        return place

    def _arrived(self, w: float, time: float | None) -> None:
        if not (math.isfinite(w) and w >= 0.0):
            raise ValueError(f"w={w!r}: expected a finite weight of at least 0")
        self._events += 1
        self._weight += w
        if time is not None:
            self._first_time = time if self._first_time is None else self._first_time
            self._last_time = time

    def _add_class(
        self,
        label: int,
        predicted: int,
        p_true: float,
        p_first: float,
        p_other: float,
        p_best: float,
        w: float,
        time: float | None,
    ) -> None:
        self._arrived(w, time)
        hit = label == predicted
        score = math.nan
        two = len(self._classes) <= 2
        if predicted < 0:
            self._empty += 1
            loss = math.log(max(2, len(self._classes)))
            p_first = p_best = 0.5
            score = 0.0 if two else math.nan
        else:
            loss = -math.log(min(max(p_true, 1e-15), 1.0))
            self._predicted[predicted] += w
            if two:
                score = log_odds(p_first, p_other)
        self._support[label] += w
        self._hits[label] += w * hit
        self._loss += w * loss
        self._kept_hits += w * (label == self._previous)
        self._previous = label
        if two and self._ranks is not None:
            self._ranks.add(score, label == 0, w)
        told, came = (p_first, label == 0) if two else (p_best, hit)
        self._calibration.add(told, came, w)
        if self._each is not None:
            self._tell(w, float(hit), loss)
        self._curve.add(w, float(hit), loss, time, score, label == 0)
        self._drift.update(min(loss, 5.0), time)

    def _add_value(self, y: float, value: float, w: float, time: float | None) -> None:
        if not math.isfinite(y):
            raise ValueError(f"y={y!r}: expected a finite label")
        self._arrived(w, time)
        if not math.isfinite(value):
            self._bad += 1
            value = self._mean
        error = abs(y - value)
        self._absolute += w * error
        self._square += w * error * error
        self._kept_absolute += w * abs(y - self._last_label) if self._events > 1 else w * error
        self._last_label = y
        if w > 0.0:
            change = y - self._mean
            self._mean += change * w / self._weight
            self._m2 += w * change * (y - self._mean)
        if self._each is not None:
            self._tell(w, error, error * error)
        self._curve.add(w, error, error * error, time, math.nan, False)
        self._drift.update(error, time)

    def _tell(self, *figures: float) -> None:
        for column, figure in zip(self._each or (), figures, strict=True):
            column.append(figure)

    # -- telling ------------------------------------------------------------------------------------

    def headline(self) -> float | None:
        """Accuracy or mean absolute error so far, at no cost; for progress bars."""
        self.catch_up()
        if not self._weight:
            return None
        return (sum(self._hits) if self.task == "classification" else self._absolute) / self._weight

    def totals(self) -> dict[str, float]:
        """Sums over all labels so far, at no cost: `weight`, and weighted `log_loss` and `errors` (answers that
        were wrong), or `absolute_error` and `squared_error`. The difference of two is a window's.
        """
        self.catch_up()
        if self.task == "regression":
            return {
                "weight": self._weight,
                "absolute_error": self._absolute,
                "squared_error": self._square,
            }
        wrong = max(self._weight - sum(self._hits), 0.0)
        return {"weight": self._weight, "log_loss": self._loss, "errors": wrong}

    @property
    def drifts(self) -> int:
        """How many drifts were found so far."""
        self.catch_up()
        return self._drift.count

    def result(self) -> dict[str, Any]:
        """The figures so far; None where one is not defined (yet).

        Classification: events, accuracy, log_loss, kappa_temporal (1 is perfect, 0 is as good as "the same
        label as the one before"), kappa, balanced_accuracy (mean recall of the classes that came), roc_auc
        (two classes), f1 per class and macro_f1, per_class, rare_recall and rare_classes (those below 5 %, see
        `engine.evaluate.classes`), no_change_accuracy, classes, class_weights, calibration (rows of mean
        forecast, observed share, weight; of class `positive` for two classes, of the class forecast for more).
        Regression: events, mae, rmse, r2, no_change_mae. Both: bad_forecasts, empty_forecasts, first_time,
        last_time, drifts {count, last, marks [[event, time]]}.
        """
        self.catch_up()
        common = {
            "task": self.task,
            "bad_forecasts": self._bad,
            "empty_forecasts": self._empty,
            "first_time": self._first_time,
            "last_time": self._last_time,
            "drifts": {
                "count": self._drift.count,
                "last": self._drift.last,
                "marks": [list(mark) for mark in self._drift.marks],
            },
        }
        figures = self._of_classes() if self.task == "classification" else self._of_values()
        return {"events": self._events, **figures, **common}

    def _of_values(self) -> dict[str, Any]:
        w = self._weight
        return {
            "mae": self._absolute / w if w else None,
            "rmse": math.sqrt(self._square / w) if w else None,
            "r2": 1.0 - self._square / self._m2 if self._m2 > 0.0 else None,
            "no_change_mae": self._kept_absolute / w if w else None,
        }

    def _of_classes(self) -> dict[str, Any]:
        w = self._weight
        accuracy = sum(self._hits) / w if w else None
        kept = self._kept_hits / w if w else None
        chance = sum(a * b for a, b in zip(self._support, self._predicted, strict=True)) / w**2 if w else 1.0
        positive, calibration = self._calibrated()
        return {
            "accuracy": accuracy,
            "log_loss": self._loss / w if w else None,
            "kappa_temporal": kappa(accuracy, kept),
            "roc_auc": self._ranks.area() if self._ranks is not None and len(self._classes) == 2 else None,
            "kappa": kappa(accuracy, chance),
            **per_class(self._classes, self._support, self._predicted, self._hits),
            "no_change_accuracy": kept,
            "classes": list(self._classes),
            "class_weights": list(self._support),
            "positive": positive,
            "calibration": calibration,
        }

    def _calibrated(self) -> tuple[Any, list[list[float]]]:
        if len(self._classes) != 2:
            return None, self._calibration.rows()
        chosen = self._place.get(self.positive, -1)
        if chosen < 0:
            chosen = max((0, 1), key=lambda k: str(self._classes[k]))
        return self._classes[chosen], self._calibration.rows(other=chosen == 1)

    def curve(self) -> list[dict[str, Any]]:
        """At most 240 points over the stream: events, time, and accuracy, log_loss, roc_auc or mae, rmse."""
        self.catch_up()
        if self.task == "regression":
            return self._curve.result(("mae", "rmse"), root=True, ranked=False)
        return self._curve.result(("accuracy", "log_loss"), ranked=len(self._classes) == 2)

    # -- keeping ------------------------------------------------------------------------------------

    _NUMBERS = (
        *("_events", "_bad", "_empty", "_weight", "_first_time", "_last_time"),
        *("_loss", "_previous", "_kept_hits"),
        *("_absolute", "_square", "_mean", "_m2", "_last_label", "_kept_absolute"),
    )

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Everything: arrays, and what is ready for JSON (labels must be bool, int, float or str).

        `from_state` goes on from it to the bit.
        """
        self.catch_up()
        ranks = {} if self._ranks is None else self._ranks.state()
        return {f"ranks.{name}": array for name, array in ranks.items()}, {
            "task": self.task,
            "window": self.window,
            "positive": self.positive,
            "numbers": {name[1:]: getattr(self, name) for name in self._NUMBERS},
            "classes": list(self._classes),
            "tallies": [list(self._support), list(self._predicted), list(self._hits)],
            "calibration": self._calibration.state(),
            "curve": self._curve.state(),
            "drift": self._drift.state(),
        }

    @classmethod
    def from_state(cls, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> PrequentialMetrics:
        """The metrics that `state` described."""
        self = cls(meta["task"], window=meta["window"], positive=meta["positive"])
        for name in cls._NUMBERS:
            setattr(self, name, meta["numbers"][name[1:]])
        for label in meta["classes"]:
            self._register(label)
        self._support, self._predicted, self._hits = (list(row) for row in meta["tallies"])
        self._calibration = Calibration(meta["calibration"])
        if self._ranks is not None:
            self._ranks = RankHistogram.from_state(
                {name: arrays[f"ranks.{name}"] for name in ("bins", "weights")}
            )
        self._curve = Curve.from_state(meta["curve"])
        self._drift = DriftMeter.from_state(meta["drift"])
        return self
