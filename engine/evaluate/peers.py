"""River's learners as peers: the same raw events as the engine's, missing values and strings included.

Missing values (None, NaN, infinities, or a field that is not there) are filled with the running mean of
that number so far or the text "missing" for a string, and left out before the field's first value; for the
linear peers, whose numbers are standardised, leaving a number out is the same as its mean. A field keeps the
kind of its first value; a value of the other kind counts as missing. Strings are one-hot for linear peers and
for regression, nominal for classification trees.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

Label = Any


def _scaled_logistic(seed: int) -> Any:
    from river import linear_model

    return _linear(linear_model.LogisticRegression())


def _adagrad_logistic(seed: int) -> Any:
    from river import linear_model, optim

    return _linear(linear_model.LogisticRegression(optimizer=optim.AdaGrad(0.05)))


def _scaled_softmax(seed: int) -> Any:
    from river import linear_model

    return _linear(linear_model.SoftmaxRegression())


def _scaled_linear(seed: int) -> Any:
    from river import linear_model

    return _linear(linear_model.LinearRegression())


def _linear(last: Any) -> Any:
    from river import compose, preprocessing

    numbers = compose.SelectType(float) | preprocessing.StandardScaler()
    return (numbers + compose.SelectType(int)) | last  # strings have become {"field=value": 1}


def _forest(seed: int) -> Any:
    from river import forest

    return forest.ARFClassifier(n_models=10, seed=seed)


def _forest_regressor(seed: int) -> Any:
    from river import forest

    return forest.ARFRegressor(n_models=10, seed=seed)


def _tree(seed: int) -> Any:
    from river import tree

    return tree.HoeffdingAdaptiveTreeClassifier(seed=seed)


# name: (title, what it is, task, factory, fill what is missing, labels become False and True)
_PEERS: dict[str, tuple[str, str, str, Callable[[int], Any], bool, bool]] = {
    "river-logistic": (
        "River logistic regression",
        "standardised numbers, one-hot strings, SGD",
        "classification",
        _scaled_logistic,
        False,
        True,
    ),
    "river-logistic-adagrad": (
        "River logistic regression, AdaGrad",
        "standardised numbers, one-hot strings, AdaGrad steps of 0.05",
        "classification",
        _adagrad_logistic,
        False,
        True,
    ),
    "river-softmax": (
        "River softmax regression",
        "standardised numbers, one-hot strings, SGD",
        "classification",
        _scaled_softmax,
        False,
        False,
    ),
    "river-arf": (
        "River ARF-10",
        "adaptive random forest of ten trees",
        "classification",
        _forest,
        True,
        False,
    ),
    "river-hat": (
        "River Hoeffding adaptive tree",
        "one tree that regrows where it drifts",
        "classification",
        _tree,
        True,
        False,
    ),
    "river-linear": (
        "River linear regression",
        "standardised numbers, one-hot strings, SGD",
        "regression",
        _scaled_linear,
        False,
        False,
    ),
    "river-arf-regressor": (
        "River ARF-10 regressor",
        "adaptive random forest of ten regression trees",
        "regression",
        _forest_regressor,
        True,
        False,
    ),
}
PEERS = tuple(_PEERS)


def _one_hot(row: dict[str, Any]) -> dict[str, Any]:
    """Strings as {"field=value": 1}. River's own encoder also writes a 0 for every other value ever seen:
    the same for a linear model, and a thousand times slower where a field has thousands of values."""
    return {
        f"{name}={value}" if isinstance(value, str) else name: 1 if isinstance(value, str) else value
        for name, value in row.items()
    }


class Peer:
    """One peer behind the calls that the evaluation needs; made by `make_peer`."""

    def __init__(self, name: str, seed: int) -> None:
        self.name = name
        self.title, self.about, self.task, factory, self._fill, self._two = _PEERS[name]
        self.model = factory(seed)
        self._labels: list[Label] = []
        self._mean: dict[str, list[float]] = {}
        self._texts: set[str] = set()

    def _clean(self, x: Mapping[Any, Any], learn: bool) -> dict[str, Any]:
        row: dict[str, Any] = {}
        for key, value in x.items():
            name = str(key)
            if isinstance(value, str):
                if name not in self._mean:
                    row[name] = value
                    if learn:
                        self._texts.add(name)
                continue
            number = math.nan if value is None else float(value)
            if math.isfinite(number) and name not in self._texts:
                row[name] = number
                if learn:
                    mean = self._mean.setdefault(name, [0.0, 0.0])
                    mean[0] += 1.0
                    mean[1] += (number - mean[1]) / mean[0]
        if not self._fill:
            return _one_hot(row)
        for name, (_, middle) in self._mean.items():
            row.setdefault(name, middle)
        for name in self._texts:
            row.setdefault(name, "missing")
        if self.task == "regression":  # the linear models in the leaves of River's trees want numbers
            row = _one_hot(row)
        return {name: row[name] for name in sorted(row)}

    def predict_proba_one(self, x: Mapping[Any, Any]) -> dict[Label, float]:
        """Label → probability, {} before the first label. Nothing is learned."""
        if not self._labels:
            return {}
        answer: dict[Any, float] = self.model.predict_proba_one(self._clean(x, learn=False))
        if not self._two:
            return answer or {label: 1.0 / len(self._labels) for label in self._labels}
        if len(self._labels) == 1:
            return {self._labels[0]: 1.0}
        p = float(answer.get(True, 0.5))
        return {self._labels[0]: 1.0 - p, self._labels[1]: p}

    def predict_one(self, x: Mapping[Any, Any]) -> Any:
        """The likeliest label (None before the first), or the value of a regression."""
        if self.task == "regression":
            return float(self.model.predict_one(self._clean(x, learn=False)) or 0.0)
        answer = self.predict_proba_one(x)
        return max(answer, key=lambda label: answer[label]) if answer else None

    def learn_one(self, x: Mapping[Any, Any], y: Label) -> None:
        """Learn one event's label; ValueError for a third label where the peer tells two apart."""
        row = self._clean(x, learn=True)
        if self.task == "regression":
            self.model.learn_one(row, float(y))
            return
        if y not in self._labels:
            if self._two and len(self._labels) == 2:
                raise ValueError(
                    f"y={y!r}: {self.name} tells two labels apart and has seen {self._labels!r}; "
                    "use 'river-softmax' for more"
                )
            self._labels.append(y)
        self.model.learn_one(row, len(self._labels) == 2 and y == self._labels[1] if self._two else y)


def make_peer(name: str, seed: int = 0) -> Peer:
    """A fresh peer by its permanent name (`PEERS` lists them); ValueError names the known ones.

    >>> peer = make_peer("river-logistic")
    >>> peer.learn_one({"wind": 3.0, "sky": "clear"}, "on time")
    >>> peer.learn_one({"wind": None, "sky": "fog"}, "late")
    >>> sorted(peer.predict_proba_one({"wind": 30.0, "sky": "fog"}))
    ['late', 'on time']
    """
    if name not in _PEERS:
        raise ValueError(f"name={name!r}: no such peer; known are {', '.join(PEERS)}")
    return Peer(name, seed)
