"""River's learners as peers: the same raw events as the engine's, missing values and strings included.

Missing values (None, NaN, infinities, or a field that is not there) are filled with the running mean of
that number so far or the text "missing" for a string, and left out before the field's first value; for
peers whose numbers are standardised, leaving a number out is the same as its mean. A field keeps the
kind of its first value; a value of the other kind counts as missing. Strings are one-hot for linear peers,
neighbours, Mondrian forests and regression, nominal for other classification trees.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from engine.evaluate.fields import Fields

Label = Any
WINDOW = 1_000  # events that River's neighbours keep


@dataclass(frozen=True, kw_only=True)
class RiverPeer:
    """How one of River's learners is made and fed.

    make: from a seed. fill: missing values are filled. text: strings stay strings. two: it tells two labels
    apart, which become False and True. weighted: its `learn_one` takes sample weights.
    """

    title: str
    about: str
    make: Callable[[int], Any]
    task: str = "classification"
    fill: bool = False
    text: bool = False
    two: bool = False
    weighted: bool = False


def _standardised(last: Any) -> Any:
    from river import compose, preprocessing

    numbers = compose.SelectType(float) | preprocessing.StandardScaler()
    return (numbers + compose.SelectType(int)) | last  # strings have become {"field=value": 1}


def _logistic(seed: int) -> Any:
    from river import linear_model

    return _standardised(linear_model.LogisticRegression())


def _adagrad(seed: int) -> Any:
    from river import linear_model, optim

    return _standardised(linear_model.LogisticRegression(optimizer=optim.AdaGrad(0.05)))


def _softmax(seed: int) -> Any:
    from river import linear_model

    return _standardised(linear_model.SoftmaxRegression())


def _linear(seed: int) -> Any:
    from river import linear_model

    return _standardised(linear_model.LinearRegression())


def _adagrad_linear(seed: int) -> Any:
    from river import linear_model, optim, preprocessing

    return _standardised(
        preprocessing.TargetStandardScaler(
            regressor=linear_model.LinearRegression(optimizer=optim.AdaGrad(0.1))
        )
    )


def _forest(seed: int) -> Any:
    from river import forest

    return forest.ARFClassifier(n_models=10, seed=seed)


def _forest_regressor(seed: int) -> Any:
    from river import forest

    return forest.ARFRegressor(n_models=10, seed=seed)


def _mondrian(seed: int) -> Any:
    from river import forest

    return forest.AMFClassifier(n_estimators=10, seed=seed)


def _mondrian_regressor(seed: int) -> Any:
    from river import forest

    return forest.AMFRegressor(n_estimators=10, seed=seed)


def _leveraging(seed: int) -> Any:
    from river import ensemble, tree

    return ensemble.LeveragingBaggingClassifier(tree.HoeffdingTreeClassifier(), n_models=10, seed=seed)


def _patches(seed: int) -> Any:
    from river import ensemble

    return ensemble.SRPClassifier(n_models=10, seed=seed)


def _neighbours(seed: int) -> Any:
    from river import neighbors

    return _standardised(neighbors.KNNClassifier(engine=neighbors.LazySearch(window_size=WINDOW)))


def _neighbours_regressor(seed: int) -> Any:
    from river import neighbors

    return _standardised(neighbors.KNNRegressor(engine=neighbors.LazySearch(window_size=WINDOW)))


def _rules(seed: int) -> Any:
    from river import rules

    return rules.AMRules()


def _tree(seed: int) -> Any:
    from river import tree

    return tree.HoeffdingAdaptiveTreeClassifier(seed=seed)


_SCALED = "standardised numbers, one-hot strings"
_NEAREST = f"{_SCALED}, the five nearest of the last {WINDOW:,} events"

RIVER: dict[str, RiverPeer] = {
    "river-logistic": RiverPeer(
        title="River logistic regression",
        about=f"{_SCALED}, SGD",
        make=_logistic,
        two=True,
        weighted=True,
    ),
    "river-logistic-adagrad": RiverPeer(
        title="River logistic regression, AdaGrad",
        about=f"{_SCALED}, AdaGrad steps of 0.05",
        make=_adagrad,
        two=True,
        weighted=True,
    ),
    "river-softmax": RiverPeer(title="River softmax regression", about=f"{_SCALED}, SGD", make=_softmax),
    "river-arf": RiverPeer(
        title="River ARF-10",
        about="adaptive random forest of ten trees",
        make=_forest,
        fill=True,
        text=True,
    ),
    "river-amf": RiverPeer(
        title="River AMF-10",
        about="aggregated Mondrian forest of ten trees, one-hot strings",
        make=_mondrian,
        fill=True,
    ),
    "river-leveraging-bagging": RiverPeer(
        title="River leveraging bagging",
        about="ten Hoeffding trees",
        make=_leveraging,
        fill=True,
        text=True,
    ),
    "river-srp": RiverPeer(
        title="River SRP-10",
        about="streaming random patches, ten Hoeffding trees on 60 % of the features each",
        make=_patches,
        fill=True,
        text=True,
    ),
    "river-hat": RiverPeer(
        title="River Hoeffding adaptive tree",
        about="one tree that regrows where it drifts",
        make=_tree,
        fill=True,
        text=True,
        weighted=True,
    ),
    "river-knn": RiverPeer(title="River kNN", about=_NEAREST, make=_neighbours),
    "river-linear": RiverPeer(
        title="River linear regression",
        about=f"{_SCALED}, SGD",
        make=_linear,
        task="regression",
        weighted=True,
    ),
    "river-linear-adagrad": RiverPeer(  # steps of SGD run away on a feature that is rarely not 0
        title="River linear regression, AdaGrad",
        about=f"{_SCALED}, standardised target, AdaGrad steps of 0.1",
        make=_adagrad_linear,
        task="regression",
    ),
    "river-arf-regressor": RiverPeer(
        title="River ARF-10 regressor",
        about="adaptive random forest of ten regression trees",
        make=_forest_regressor,
        task="regression",
        fill=True,
    ),
    "river-amf-regressor": RiverPeer(
        title="River AMF-10 regressor",
        about="aggregated Mondrian forest of ten regression trees",
        make=_mondrian_regressor,
        task="regression",
        fill=True,
    ),
    "river-amrules": RiverPeer(
        title="River AMRules",
        about="adaptive model rules",
        make=_rules,
        task="regression",
        fill=True,
    ),
    "river-knn-regressor": RiverPeer(
        title="River kNN regressor", about=_NEAREST, make=_neighbours_regressor, task="regression"
    ),
}


class River:
    """One of River's learners behind the calls that the evaluation needs; `engine.evaluate.peers` makes it."""

    def __init__(self, name: str, seed: int) -> None:
        how = RIVER[name]
        self.name, self.title, self.about, self.task = name, how.title, how.about, how.task
        self.weighted = how.weighted
        self.model = how.make(seed)
        self._two = how.two
        self._fields = Fields(fill=how.fill, text=how.text)
        self._labels: list[Label] = []

    def predict_proba_one(self, x: Mapping[Any, Any]) -> dict[Label, float]:
        """Label → probability, {} before the first label. Nothing is learned."""
        if not self._labels:
            return {}
        answer: dict[Any, float] = self.model.predict_proba_one(self._fields.row(x))
        if not self._two:
            return answer or {label: 1.0 / len(self._labels) for label in self._labels}
        if len(self._labels) == 1:
            return {self._labels[0]: 1.0}
        p = float(answer.get(True, 0.5))
        return {self._labels[0]: 1.0 - p, self._labels[1]: p}

    def predict_one(self, x: Mapping[Any, Any]) -> Any:
        """The likeliest label (None before the first), or the value of a regression."""
        if self.task == "regression":
            return float(self.model.predict_one(self._fields.row(x)) or 0.0)
        answer = self.predict_proba_one(x)
        return max(answer, key=lambda label: answer[label]) if answer else None

    def learn_one(self, x: Mapping[Any, Any], y: Label, w: float = 1.0) -> None:
        """Learn one event's label; ValueError for a third label where the peer tells two apart.

        w: its weight, which peers that are not `weighted` take for 1; with 0 nothing is learned.
        """
        row = self._fields.row(x, learn=True)
        if w == 0.0:
            return
        if self.task == "regression":
            y = float(y)
        elif y not in self._labels:
            if self._two and len(self._labels) == 2:
                raise ValueError(
                    f"y={y!r}: {self.name} tells two labels apart and has seen {self._labels!r}; "
                    "use 'river-softmax' for more"
                )
            self._labels.append(y)
        target = len(self._labels) == 2 and y == self._labels[1] if self._two else y
        if self.weighted and w != 1.0:
            self.model.learn_one(row, target, w=w)
        else:
            self.model.learn_one(row, target)

    def memory_bytes(self) -> int:
        """What River says that its model takes, in bytes."""
        return int(self.model._raw_memory_usage)
