"""Models of the caller's own among the experts: asked and taught with every event, whatever they do."""

from __future__ import annotations

import copy
import inspect
import math
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.names import plain

F64 = NDArray[np.float64]
Event = Mapping[Hashable, Any]
OFF = 0.01  # how far probabilities may be from summing to 1


@dataclass(frozen=True)
class Expert:
    """A model of River's, or with its `learn_one` and `predict_proba_one` (`predict_one`), as one more expert.

    name: what it is called among the experts; the model's class without one. to_bytes, from_bytes: what writes
    the model's state for `save` and snapshots, and makes a model from it; without them the learner can be copied
    and pickled, not saved.

    >>> import json
    >>> from river.linear_model import LogisticRegression
    >>> def restored(data):
    ...     model = LogisticRegression()
    ...     model._weights, model.intercept = json.loads(data)
    ...     return model
    >>> Expert(LogisticRegression(), name="line", from_bytes=restored,
    ...        to_bytes=lambda model: json.dumps([model.weights, model.intercept]).encode()).name
    'line'
    """

    model: Any
    name: str | None = None
    to_bytes: Callable[[Any], bytes] | None = None
    from_bytes: Callable[[bytes], Any] | None = None


class Added:
    """Copies of the models that were given, their names, and how often each of them failed.

    A forecast that cannot be used (an exception, NaN, a negative number, probabilities that do not sum to 1) and
    an event that could not be learned are counted; the model says nothing then, and the stream goes on.
    """

    def __init__(self, given: Sequence[Any] | None, *, regression: bool) -> None:
        if isinstance(given, (str, bytes)) or not isinstance(given, (tuple, list, type(None))):
            raise ValueError(f"experts is {given!r}; expected a tuple of models, such as (HATClassifier(),)")
        self._given = [each if isinstance(each, Expert) else Expert(each) for each in given or ()]
        self._regression = regression
        asked = ("learn_one", "predict_one" if regression else "predict_proba_one")
        for expert in self._given:
            if isinstance(expert.model, type) or not all(hasattr(expert.model, name) for name in asked):
                raise ValueError(
                    f"experts holds {expert.model!r}; expected a model with {' and '.join(asked)}, made already"
                )
        self.models = [copy.deepcopy(expert.model) for expert in self._given]
        names = [expert.name or type(expert.model).__name__ for expert in self._given]
        seen = Counter[str]()
        self.names: tuple[str, ...] = ()
        for name in names:
            seen[name] += 1
            self.names += (f"{name} {seen[name]}" if seen[name] > 1 else name,)
        self.faults = dict.fromkeys(self.names, 0)
        self.last = dict.fromkeys(self.names, "")

    def __len__(self) -> int:
        return len(self.models)

    def say(self, x: Event, classes: Mapping[Hashable, int], outputs: int) -> F64:
        """(experts · outputs,) float64: probabilities by class, or values; NaN where one says nothing."""
        out = np.full((len(self.models), outputs), np.nan)
        for name, model, row in zip(self.names, self.models, out, strict=True):
            try:
                if self._regression:
                    self._value(name, model.predict_one(dict(x)), row)
                else:
                    self._probabilities(name, _asked(model, dict(x)), classes, row)
            except Exception as error:
                row[:] = np.nan
                self._failed(name, f"{type(error).__name__}: {error}")
        return out.ravel()

    def _value(self, name: str, said: Any, row: F64) -> None:
        if said is None:
            return
        value = float(said)
        if math.isfinite(value):
            row[0] = value
        else:
            self._failed(name, f"its forecast is {value}")

    def _probabilities(
        self, name: str, said: Mapping[Hashable, Any], classes: Mapping[Hashable, int], row: F64
    ) -> None:
        p = {label: float(value) for label, value in said.items()}
        total = math.fsum(p.values())
        if total == 0.0 and not any(p.values()):
            return
        if not abs(total - 1.0) <= OFF or min(p.values()) < 0.0:
            self._failed(name, f"its probabilities sum to {total:g}, the least is {min(p.values()):g}")
            return
        known = math.fsum(value for label, value in p.items() if label in classes)
        if known > 0.0:
            row[:] = 0.0
            for label, value in p.items():
                if label in classes:
                    row[classes[label]] = value / known

    def learn(self, x: Event | None, y: Any, w: float) -> None:
        """Teach all of them one label; x None: the event is not known any more."""
        for name, model in zip(self.names, self.models, strict=True):
            try:
                if x is None:
                    self._failed(name, "its event could not be kept until the label came")
                elif w != 1.0 and "w" in inspect.signature(model.learn_one).parameters:
                    model.learn_one(dict(x), y, w=w)
                else:
                    model.learn_one(dict(x), y)
            except Exception as error:
                self._failed(name, f"{type(error).__name__}: {error}")

    def follow(
        self, events: Sequence[Event], targets: Sequence[Any], weights: F64, classes: Mapping[Hashable, int],
        outputs: int,
    ) -> F64:  # fmt: skip
        """(n, experts · outputs) float64: each event is forecast, then its label learned, in order."""
        out = np.zeros((len(events), len(self.models) * outputs))
        for i, (event, target, weight) in enumerate(zip(events, targets, weights.tolist(), strict=True)):
            x = usable(event)
            out[i] = self.say(x, classes, outputs)
            if weight > 0.0:
                self.learn(x, target, weight)
        return out

    def _failed(self, name: str, why: str) -> None:
        self.faults[name] += 1
        self.last[name] = why[:200]

    # -- keeping --------------------------------------------------------------------------------------------

    def meta(self) -> list[list[Any]]:
        """[[name, faults, the last one], …], JSON-able."""
        return [[name, self.faults[name], self.last[name]] for name in self.names]

    def snapshot(self) -> dict[str, NDArray[np.uint8]]:
        """Number → the model's bytes; ValueError where one has no way to be saved."""
        held = {}
        for i, (name, expert, model) in enumerate(zip(self.names, self._given, self.models, strict=True)):
            if expert.to_bytes is None:
                raise ValueError(
                    f"the expert {name!r} has no to_bytes, and no file holds a pickle: expected "
                    "Expert(model, to_bytes=…, from_bytes=…) with functions of yours (pickle.dumps and "
                    "pickle.loads, where you trust whoever can write the file); copy.deepcopy works without"
                )
            data = expert.to_bytes(model)
            if not isinstance(data, bytes):
                raise TypeError(
                    f"to_bytes of the expert {name!r} gave a {type(data).__name__}; expected bytes"
                )
            held[str(i)] = np.frombuffer(data, np.uint8)
        return held

    def known(self, meta: Sequence[Sequence[Any]]) -> None:
        """Go on counting from what `meta` said; ValueError where that is of other experts."""
        names = tuple(name for name, *_ in meta)
        if names != self.names:
            raise ValueError(
                f"the state has {_told(names)} among its experts, and {_told(self.names)} is given; expected the "
                "same: load it with experts=(…), in the same order, by the same names"
            )
        for name, faults, last in meta:
            self.faults[name], self.last[name] = int(faults), last

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """The models of `snapshot`; ValueError where one has no way to be read."""
        for i, (name, expert) in enumerate(zip(self.names, self._given, strict=True)):
            if expert.from_bytes is None:
                raise ValueError(
                    f"the expert {name!r} has no from_bytes; expected Expert(model, to_bytes=…, from_bytes=…) "
                    "with the function that reads what its to_bytes wrote"
                )
            self.models[i] = expert.from_bytes(arrays[str(i)].tobytes())

    def memory_bytes(self) -> int:
        """What River says that its models take."""
        return sum(int(getattr(model, "_raw_memory_usage", 0)) for model in self.models)


def usable(x: Event) -> dict[Hashable, Any]:
    """An event as River's models take it: what is missing (None, NaN) is not there."""
    values = {name: plain(value) for name, value in x.items()}
    return {
        name: value
        for name, value in values.items()
        if value is not None and not (isinstance(value, float) and math.isnan(value))
    }


def _asked(model: Any, x: dict[Hashable, Any]) -> Mapping[Hashable, Any]:
    """Label → probability; all of it on one label where the model names no more."""
    try:
        said: Mapping[Hashable, Any] = model.predict_proba_one(x)
    except NotImplementedError:
        label = model.predict_one(x)
        return {} if label is None else {label: 1.0}
    return said


def _told(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names) or "no model of the caller's own"
