"""The public face: OnlineClassifier and OnlineRegressor, with River's protocol, arrays, kept forecasts."""

from __future__ import annotations

import copy
import math
import numbers
import os
import threading
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from river import base

from engine import arrays
from engine.chunk import Chunk
from engine.core import Core
from engine.encoders.fields import LARGEST, as_float
from engine.explain import context_horizons, expert_weights, explain
from engine.forecast import Forecast, pack, unpack
from engine.names import plain, storable
from engine.options import HOUR, KEPT_BYTES, Options, key_fields, numbers_of
from engine.sleep import asleep
from engine.state_before import forecasts_of

if TYPE_CHECKING:
    import torch

F64 = NDArray[np.float64]
Features = Mapping[Hashable, Any]


class _Face:
    """What both learners share: a core behind a lock, and the last forecast for `learn_one` to use again."""

    _regression: bool
    _core: Core
    experts: Sequence[Any] | None

    def _start(self, core: Core | None = None) -> None:
        options: dict[str, Any] = {name: getattr(self, name, 2) for name in Options.__dataclass_fields__}
        options["keys"] = () if options["keys"] is None else key_fields(options["keys"])
        for name in ("horizons", "category_horizons"):
            options[name] = numbers_of(name, options[name])
        self._core = core or Core(Options(**options), regression=self._regression, experts=self.experts)
        self._lock = threading.RLock()
        self._last: tuple[Any, Any, Any, Any, Forecast] | None = None
        self._shared = False

    # -- one event at a time --------------------------------------------------------------------------------

    def forecast_one(
        self, x: Features, id: Hashable | None = None, time: float | None = None, *, live: bool = True
    ) -> Forecast:
        """A forecast for event x that can be kept until its label comes; changes nothing.

        live: x is an event of the stream that is learned, answered by what followed the stream best. False asks
        as `predict_proba` does: a learner of images or many features then finds out by what it remembers whether
        x is like the events of late or like older ones.

        time: the event's, in seconds; without it, events are counted instead.
        FeatureError (a TypeError) names a field whose value cannot be used; TypeError a field's name or an id
        that no file can hold: str, int, float, bool and tuples of them are taken.
        """
        with self._lock:
            kept = self._ask(x, _checked_id(id), _checked_time(time), live=live)
            self._shared = True
            return kept

    def _ask(self, x: Features, id: Hashable | None, time: float | None, *, live: bool = False) -> Forecast:
        core = self._core
        encoded = core.fields.encode(x)
        kept = core.forecast_encoded(encoded, core.key_values(x), id, time, x, live=live)
        events, _, _, _, stamp, *_ = core.state.tally.tolist()
        lost = encoded.fleeting or (core.sizes.lasting and not live)  # what is learned from is asked live
        self._last = None if lost else (dict(x), time, stamp, events, kept)
        self._shared = False
        return kept

    def observe(self, forecast: Forecast) -> None:
        """The event of a kept forecast happened: encoders and label-free context advance. Once per event."""
        with self._lock:
            self._core.observe(forecast)

    def learn(self, forecast: Forecast, y: Any, w: float = 1.0) -> None:
        """The label (or number) of a kept forecast came, at once or hours later; w is its weight.

        A forecast is learned once; a second time is a ValueError. The weight scales the error before it is
        put in proportion to its running size: what counts is how weights differ, at most tenfold per step.
        With w = 0 nothing is learned and `counters()["labels"]` does not count it: the event is observed if
        it was not, it waits no longer for its label, and a new class gets its column.
        """
        with self._lock:
            target = self._checked(y)
            self._core.learn(forecast, target, _checked_weight(w))

    def learn_one(
        self, x: Features, y: Any, w: float = 1.0, *, id: Hashable | None = None, time: float | None = None
    ) -> None:
        """Forecast, observe and learn one labelled event; with weight w = 0 it is observed alone."""
        with self._lock:
            target, weight, id = self._checked(y), _checked_weight(w), _checked_id(id)
            time = _checked_time(time)
            kept = self._again(x, time)
            if kept is None:
                kept = self._core.forecast(x, id, time, live=True)
            elif self._shared:  # the one that was handed out stays as it is
                kept = replace(kept, id=id, record=kept.record.copy())
            else:
                kept.id = id
            self._last = None
            self._core.learn(kept, target, weight)

    def chunk(self, size: int = 64) -> Chunk:
        """Room for labelled events that are forecast and learned in one call, as one after the other.

        Not for use by several threads: it takes no lock.
        """
        return Chunk(self._core, self._checked_all_of, size)

    def _checked_all_of(self, y: Any, w: float, id: Any, time: Any) -> Any:
        _checked_weight(w)
        return self._checked(y), _checked_id(id), _checked_time(time)

    def _again(self, x: Features, time: float | None) -> Forecast | None:
        """The forecast just made for this very event, if nothing has changed since."""
        if self._last is None:
            return None
        known, when, stamp, seen, kept = self._last
        events, _, _, _, now, *_ = self._core.state.tally.tolist()
        same = stamp == now and seen == events and when == time and kept.sizes is self._core.sizes
        return kept if same and known == x and not kept.observed else None

    def explain_one(self, x: Features, time: float | None = None) -> dict[str, Any]:
        """What a forecast for x rests on: experts with weights, recalled experiences, outcome statistics."""
        with self._lock:
            return explain(self._core, self._core.forecast(x, None, _checked_time(time)))

    def explain(self, forecast: Forecast) -> dict[str, Any]:
        """The same for a kept forecast; `recalled_lost` counts the experiences that are no longer known."""
        with self._lock:
            return explain(self._core, forecast)

    def score_one(self, x: Features, y: Any = None, *, time: float | None = None) -> float:
        """How anomalous event x is, alone or with its label y: from 0 to 1, higher is more so; changes nothing.

        Without y it is how far x is from earlier events, by its features alone, as a rank among recent events
        (half of all so far, at most 4,096): about one event in a hundred is above 0.99 while the stream goes on
        as it did. With y the little probability (for a number, the great error) that the forecast gave counts
        as well. Events enter what they are compared with when they are observed, labelled or not; those that
        are only observed suffice. 0 before the first. `memory/surprise.py` has the formulas.

        Raises ValueError for a learner without `anomaly=True`.

        >>> from engine import OnlineClassifier
        >>> model = OnlineClassifier(anomaly=True)
        >>> for i in range(300):
        ...     model.observe(model.forecast_one({"load": i % 7, "degrees": 20 + i % 5}))
        >>> model.score_one({"load": 3, "degrees": 21}) < 0.9 < model.score_one({"load": 3, "degrees": 80})
        True
        """
        with self._lock:
            return self._score(self._ask(x, None, _checked_time(time)), y)

    def score(self, forecast: Forecast, y: Any = None) -> float:
        """The same for a kept forecast, by its `surprise`, which is the score without y at the time of asking."""
        with self._lock:
            return self._score(forecast, y)

    def _score(self, forecast: Forecast, y: Any) -> float:
        surprise = self._core.surprise
        if surprise is None or forecast.surprise is None:
            raise ValueError(
                f"anomaly is False; expected {type(self).__name__}(anomaly=True) from the first event on, "
                "so that there are earlier events to compare with"
            )
        said = None if y is None else self._core.label_surprise(forecast, self._checked(y))
        return surprise.score(forecast.surprise, said)

    def forget(self, id: Hashable) -> int:
        """Remove the stored experiences of this event id from every memory; returns how many there were.

        What weights and counts have learned from them stays.
        """
        with self._lock:
            return self._core.forget(id)

    # -- what is inside -------------------------------------------------------------------------------------

    def expert_weights(self) -> dict[str, float]:
        """Expert → its mixing weight, averaged over the mixers by their belief; 0 while it sleeps."""
        with self._lock:
            return expert_weights(self._core)

    def asleep(self) -> tuple[str, ...]:
        """The experts that earned nothing lately and sleep: they neither forecast nor learn (`sleep=True`)."""
        with self._lock:
            return asleep(self._core.state.sleep)

    def context_horizons(self) -> dict[Hashable, float]:
        """Number field → over how many events the longer of its contexts looks back (`memory.lookback`).

        {} without context, or where there are too many features for it.
        """
        with self._lock:
            return context_horizons(self._core)

    def counters(self) -> dict[str, int]:
        """Events observed, labels learned, features, classes, stored experiences, and survived bad values."""
        with self._lock:
            core = self._core
            return {
                "events": int(core.state.tally[0]),
                "labels": int(core.state.tally[1]),
                "features": core.sizes.features,
                "classes": len(core.classes),
                "experiences": core.experiences(),
                **core.counts,
                **(
                    {"concepts": len(core.concepts.stored), "returns": core.concepts.returns}
                    if core.options.concepts
                    else {}
                ),
                **({"expert_faults": sum(core.added.faults.values())} if core.added else {}),
            }

    def expert_faults(self) -> dict[str, tuple[int, str]]:
        """Expert of the caller's own → how often its forecasts or learning failed, and why the last time."""
        with self._lock:
            added = self._core.added
            return {name: (added.faults[name], added.last[name]) for name in added.names}

    def memory_bytes(self) -> int:
        """Bytes of all that was learned and is kept; of the caller's own experts what River says."""
        with self._lock:
            held = self._core.to_state(added=False)[0]
            return sum(array.nbytes for array in held.values()) + self._core.added.memory_bytes()

    def bytes_by_memory(self) -> dict[str, int]:
        """Memory → its bytes as they stand; the options bound them, and once windows are full they are flat.

        >>> from engine import OnlineClassifier
        >>> sorted(OnlineClassifier(trees=False).bytes_by_memory())
        ['early tree', 'neighbours', 'outcome rates']
        """
        with self._lock:
            return self._core.bytes_by_memory()

    def networks(self) -> dict[str, dict[str, torch.Tensor]]:
        """The layers' parameters as torch tensors over the live storage: {"fast": {"W", "b", "V", "c"}, …}.

        W: (layers, width, width + inputs), b: (layers, width), V: (layers, outputs, width), c: (layers,
        outputs). They are replaced when features or classes appear.
        """
        from engine.network import tensors

        with self._lock:
            return {"fast": tensors(self._core.state.fast), "slow": tensors(self._core.state.slow)}

    # -- keeping --------------------------------------------------------------------------------------------

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """A copy of everything that changes: arrays by name, and JSON-able meta.

        ValueError where one of `experts` has no way to be saved.
        """
        with self._lock:
            tensors, meta = self._core.to_state()
            return tensors, {"learner": type(self).__name__, **meta}

    @classmethod
    def from_state(
        cls, tensors: Mapping[str, NDArray[Any]], meta: Mapping[str, Any],
        experts: Sequence[Any] | None = None,
    ) -> Self:  # fmt: skip
        """The learner that `state` copied; it continues to the bit. experts: as the constructor's, if any."""
        if meta.get("learner") != cls.__name__:
            raise ValueError(
                f"the state is of a {meta.get('learner')!r}; expected {cls.__name__!r}: "
                "load it with the class that wrote it"
            )
        model = cls.__new__(cls)
        core = Core.from_state(tensors, meta, experts)
        for name in Options.__dataclass_fields__:
            setattr(model, name, core.options.shown(name))
        model.experts = experts
        model._start(core)
        return model

    def again(self, tensors: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> Self:
        """The learner that `state` copied, with the experts that were given to this one."""
        return type(self).from_state(tensors, meta, self.experts)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the learner to one file (safetensors with JSON), atomically; never pickle."""
        from engine import checkpoint

        tensors, meta = self.state()
        checkpoint.write(path, tensors, {"model": meta})

    @classmethod
    def load(cls, path: str | os.PathLike[str], experts: Sequence[Any] | None = None) -> Self:
        """Read what `save` wrote; CheckpointError says what is wrong with a file that cannot be used.

        experts: as the constructor was given them, where it was; their `from_bytes` read what `to_bytes` wrote.
        """
        from engine import checkpoint

        tensors, meta = checkpoint.read(path)
        if "model" not in meta:
            raise checkpoint.CheckpointError(
                f"{os.fspath(path)} is a checkpoint without a model of its own; expected a file written by "
                f"{cls.__name__}.save; a loop's snapshot is read by `everlearn run`"
            )
        try:
            return cls.from_state(tensors, meta["model"], experts)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise checkpoint.CheckpointError(f"{os.fspath(path)}: {error}") from error

    def pack(self, forecasts: Sequence[Forecast]) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Kept forecasts as arrays and JSON-able meta, for a snapshot."""
        return pack(forecasts), {}

    def unpack(self, tensors: dict[str, NDArray[Any]], meta: dict[str, Any]) -> list[Forecast]:
        """The forecasts that `pack` took, in this release or before."""
        packed, _ = forecasts_of(tensors, meta)
        return unpack(packed, self._core.sizes, tuple(self._core.classes))

    def __getstate__(self) -> dict[str, Any]:
        with self._lock:
            tensors, meta = self._core.to_state(added=False)
            own = {"experts": self.experts, "models": self._core.added.models} if self._core.added else {}
            return {"tensors": tensors, "meta": {"learner": type(self).__name__, **meta}, **own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.experts = state.get("experts")
        core = Core.from_state(state["tensors"], state["meta"], self.experts, state.get("models", ()))
        for name in Options.__dataclass_fields__:
            setattr(self, name, core.options.shown(name))
        self._start(core)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        model = type(self).__new__(type(self))
        model.__setstate__(copy.deepcopy(self.__getstate__(), memo))
        return model

    def clone(self, new_params: dict[str, Any] | None = None, include_attributes: bool = False) -> Self:
        """A fresh learner with the same options; with `include_attributes`, one that knows the same."""
        if not include_attributes:
            return super().clone(new_params)  # type: ignore[misc, no-any-return]
        if new_params:
            raise ValueError(
                f"new_params is {new_params!r} with include_attributes=True; expected one of the two: "
                "what was learned belongs to the options it was learned under"
            )
        return copy.deepcopy(self)

    def _checked(self, y: Any) -> Any:
        raise TypeError  # pragma: no cover - each learner has its own


class OnlineClassifier(_Face, base.Classifier):  # type: ignore[misc]
    """A classifier that learns from every labelled event the moment it comes.

    Layers under the local rule, neighbours recalled under learned metrics and a linear model are mixed by
    what each forecast before it saw the label (`docs/mathematics.md` has the formulas). A field may hold an
    image, an array (h, w) or (h, w, c) of at least 8 × 8 pixels.

    layers, width, activation: the stack of local layers ("leaky_relu", "tanh", "sigmoid").
    rate, slow_rate: step sizes of the fast and the slow stack; linear_rate: of the linear expert.
    neighbours: events recalled per memory and forecast.
    context: layers also read each feature against its averages over 2 events and over a horizon that it chooses.
    recall: layers also read what memories and trees say.  recall_heads: so do their heads, which add it to what
    they say themselves.  metric: the memories' distances are learned.
    trees: sliding-window trees are among the experts (over images alone they say nothing).  early: one greedy
    tree on the first 200 events is.
    sleep: experts that earn nothing on a stream fall asleep there and cost no time; they are tried again later.
    concepts: what was learned of earlier concepts is stored, recognised when one comes back, and taken up again
    (not where images or many features are read; `counters()` tells how many are stored and how many came back).
    label_history: forecasts may use the labels that came just before.
    anomaly: earlier events are kept to tell how unlike them a new one is (`score_one`).
    keys: fields, or tuples of fields, whose outcomes are counted, over `horizons` of event time (seconds;
    events where no times are given).  category_horizons: the same for categories, in events, at least 500.
    max_features, max_classes: bounds; further feature names share slots, a further class is an error.
    memory_budget: bytes for stored experience.  kept_bytes: of images, or of many features, bytes for examples
    that are kept to be learned again, whatever comes (0: none).  seed: of everything random.
    experts: models of River's (or `Expert`s, with a name and ways to save them); copies of them are asked and
    taught with every event beside the other experts, and weighed as these are. One that fails is left out of
    that forecast and counted (`expert_faults`).

    >>> from engine import OnlineClassifier
    >>> model = OnlineClassifier(seed=0)
    >>> for i in range(200):
    ...     model.learn_one({"height": i % 7, "colour": "red" if i % 2 else "blue"}, i % 7 > 3)
    >>> model.predict_one({"height": 6, "colour": "red"})
    True
    """

    _regression = False

    def __init__(
        self,
        *,
        layers: int = 3,
        width: int = 64,
        activation: str = "leaky_relu",
        rate: float = 0.003,
        slow_rate: float = 0.0001,
        linear_rate: float = 0.02,
        neighbours: int = 12,
        context: bool = True,
        recall: bool = True,
        recall_heads: bool = True,
        metric: bool = True,
        trees: bool = True,
        early: bool = True,
        sleep: bool = True,
        concepts: bool = True,
        label_history: bool = False,
        anomaly: bool = False,
        keys: Sequence[Hashable] | None = None,
        horizons: Sequence[float] = (HOUR, 6 * HOUR, 24 * HOUR, 240 * HOUR),
        category_horizons: Sequence[float] = (1_000.0, 10_000.0),
        max_features: int = 4_096,
        max_classes: int = 1_024,
        memory_budget: int = 256 << 20,
        kept_bytes: int = KEPT_BYTES,
        experts: Sequence[Any] | None = None,
        seed: int = 0,
    ) -> None:
        self.layers = layers
        self.width = width
        self.activation = activation
        self.rate = rate
        self.slow_rate = slow_rate
        self.linear_rate = linear_rate
        self.neighbours = neighbours
        self.context = context
        self.recall = recall
        self.recall_heads = recall_heads
        self.metric = metric
        self.trees = trees
        self.early = early
        self.sleep = sleep
        self.concepts = concepts
        self.label_history = label_history
        self.anomaly = anomaly
        self.keys = keys
        self.horizons = horizons
        self.category_horizons = category_horizons
        self.max_features = max_features
        self.max_classes = max_classes
        self.memory_budget = memory_budget
        self.kept_bytes = kept_bytes
        self.experts = experts
        self.seed = seed
        self._start()

    @property
    def _multiclass(self) -> bool:
        return True

    @property
    def classes_(self) -> tuple[Hashable, ...]:
        """Labels in the order of first appearance; the columns of every array of probabilities."""
        return tuple(self._core.classes)

    def predict_proba_one(self, x: Features, **known: Any) -> dict[Hashable, float]:
        """Label → probability, sums to 1; {} before the first label. `time=` may be given."""
        with self._lock:
            return self._ask(x, **_asked(**known)).proba

    def predict_one(self, x: Features, **known: Any) -> Hashable | None:
        """The most probable label, the first seen among equals; None before the first label."""
        with self._lock:
            kept = self._ask(x, **_asked(**known))
        return kept.labels[int(np.argmax(kept.probabilities))] if kept.labels else None

    def predict_proba(self, X: ArrayLike, *, times: ArrayLike | None = None) -> F64:
        """X (n, features) or images (n, h, w[, c]) → (n, classes) float64; nothing is learned."""
        table = arrays.table(X)
        with self._lock:
            when = arrays.column(times, len(table), "times", math.nan)
            return arrays.forecasts(self._core, table, when)[:, : len(self._core.classes)]

    def test_then_train(
        self, X: ArrayLike, y: ArrayLike | Sequence[Hashable], *, times: ArrayLike | None = None,
        w: ArrayLike | None = None, ids: ArrayLike | Sequence[Hashable] | None = None,
    ) -> F64:  # fmt: skip
        """Row i is forecast, then label i learned, in order: (n, classes) float64.

        X: (n, features) or images; y: (n,) labels; times: (n,) seconds; w: (n,) weights, 0 for a row that is
        observed and teaches nothing; ids: (n,), kept with what is stored, as `forget` needs them. Columns
        follow `classes_`; a class not yet seen has 0, and rows before the first label are all 0.
        """
        table = arrays.table(X)
        labels = y.tolist() if isinstance(y, np.ndarray) else list(y)  # type: ignore[arg-type]
        if len(labels) != len(table):
            raise ValueError(f"y has {len(labels)} labels, X has {len(table)} rows; expected one per row")
        with self._lock:
            labels = self._checked_all(labels)
            when = arrays.column(times, len(table), "times", math.nan)
            weights = arrays.column(w, len(table), "w", 1.0)
            names = arrays.id_column(ids, len(table))
            out = arrays.test_then_train(self._core, table, labels, when, weights, names)
            return out[:, : len(self._core.classes)]

    def _checked_all(self, labels: list[Any]) -> list[Any]:
        checked: dict[Any, Any] = {}
        new = 0
        text: bool | None = None
        for label in labels:
            try:
                if label in checked:
                    continue
            except TypeError:
                pass  # `_checked` says what is wrong
            checked[label] = self._checked(label)
            new += checked[label] not in self._core.classes
            if text is None:
                text = isinstance(checked[label], str)
            if text != isinstance(checked[label], str):
                raise TypeError(
                    f"y holds {label!r} of type {type(label).__name__} beside {labels[0]!r} of type "
                    f"{type(labels[0]).__name__}; convert it so that all labels are of one type"
                )
        if len(self._core.classes) + new > self.max_classes:
            raise ValueError(self._too_many(f"{new} new labels"))
        return [checked[label] for label in labels]

    def _too_many(self, found: str) -> str:
        return (
            f"{found} would make more than max_classes={self.max_classes} classes "
            f"({len(self._core.classes)} so far); is the label an id or a number? "
            "Use OnlineRegressor for numbers, or raise max_classes"
        )

    def _checked(self, y: Any) -> Hashable:
        label = plain(y)
        if label is None or (isinstance(label, float) and not math.isfinite(label)):
            raise ValueError(f"the label is {label!r}; expected a class; leave events without one unlearned")
        try:
            known = label in self._core.classes
        except TypeError:
            raise TypeError(
                f"the label {label!r} of type {type(label).__name__} is not hashable; "
                "expected an int, str or bool"
            ) from None
        if known:
            return label  # type: ignore[no-any-return]
        label = storable("the label", label)
        if self._core.classes:
            first = next(iter(self._core.classes))
            if isinstance(first, str) != isinstance(label, str):
                raise TypeError(
                    f"the label {label!r} is of type {type(label).__name__}, but the labels so far are of "
                    f"type {type(first).__name__} (such as {first!r}); convert it: all labels are of one type"
                )
        if len(self._core.classes) >= self.max_classes:
            raise ValueError(self._too_many(f"the label {label!r}"))
        return label  # type: ignore[no-any-return]


class OnlineRegressor(_Face, base.Regressor):  # type: ignore[misc]
    """A regressor that learns from every event with a target as it comes; options as OnlineClassifier.

    >>> from engine import OnlineRegressor
    >>> model = OnlineRegressor(seed=0)
    >>> numbers = np.random.default_rng(0).uniform(0, 10, 300)
    >>> for x in numbers:
    ...     model.learn_one({"x": x}, 3.0 * x + 1.0)
    >>> abs(model.predict_one({"x": 4.0}) - 13.0) < 1.0
    True
    """

    _regression = True
    recall_heads = False  # no choice: see docs/decisions/0012

    def __init__(
        self,
        *,
        layers: int = 3,
        width: int = 64,
        activation: str = "leaky_relu",
        rate: float = 0.003,
        slow_rate: float = 0.0001,
        linear_rate: float = 0.02,
        neighbours: int = 12,
        context: bool = True,
        recall: bool = True,
        metric: bool = True,
        trees: bool = True,
        early: bool = True,
        sleep: bool = True,
        concepts: bool = True,
        label_history: bool = False,
        anomaly: bool = False,
        keys: Sequence[Hashable] | None = None,
        horizons: Sequence[float] = (HOUR, 6 * HOUR, 24 * HOUR, 240 * HOUR),
        category_horizons: Sequence[float] = (1_000.0, 10_000.0),
        max_features: int = 4_096,
        memory_budget: int = 256 << 20,
        experts: Sequence[Any] | None = None,
        seed: int = 0,
    ) -> None:
        self.layers = layers
        self.width = width
        self.activation = activation
        self.rate = rate
        self.slow_rate = slow_rate
        self.linear_rate = linear_rate
        self.neighbours = neighbours
        self.context = context
        self.recall = recall
        self.metric = metric
        self.trees = trees
        self.early = early
        self.sleep = sleep
        self.concepts = concepts
        self.label_history = label_history
        self.anomaly = anomaly
        self.keys = keys
        self.horizons = horizons
        self.category_horizons = category_horizons
        self.max_features = max_features
        self.memory_budget = memory_budget
        self.experts = experts
        self.seed = seed
        self._start()

    def predict_one(self, x: Features, **known: Any) -> float:
        """The expected target, in its own unit; 0 before the first target. `time=` may be given."""
        with self._lock:
            return self._ask(x, **_asked(**known)).value

    def predict(self, X: ArrayLike, *, times: ArrayLike | None = None) -> F64:
        """X (n, features) or images → (n,) float64; nothing is learned."""
        table = arrays.table(X)
        with self._lock:
            when = arrays.column(times, len(table), "times", math.nan)
            return arrays.forecasts(self._core, table, when)[:, 0]

    def test_then_train(
        self, X: ArrayLike, y: ArrayLike, *, times: ArrayLike | None = None, w: ArrayLike | None = None,
        ids: ArrayLike | Sequence[Hashable] | None = None,
    ) -> F64:  # fmt: skip
        """Row i is forecast, then target i learned, in order: (n,) float64; arguments as OnlineClassifier's."""
        table = arrays.table(X)
        targets = [self._checked(target) for target in (y.tolist() if isinstance(y, np.ndarray) else list(y))]  # type: ignore[arg-type]
        if len(targets) != len(table):
            raise ValueError(f"y has {len(targets)} targets, X has {len(table)} rows; expected one per row")
        with self._lock:
            when = arrays.column(times, len(table), "times", math.nan)
            weights = arrays.column(w, len(table), "w", 1.0)
            names = arrays.id_column(ids, len(table))
            return arrays.test_then_train(self._core, table, targets, when, weights, names)[:, 0]

    def _checked(self, y: Any) -> float:
        target = plain(y)
        if isinstance(target, bool) or not isinstance(target, numbers.Real):
            raise TypeError(
                f"the target is {target!r} of type {type(target).__name__}; expected a number; "
                "use OnlineClassifier for classes"
            )
        value = as_float(target)
        if not abs(value) <= LARGEST:
            raise ValueError(f"the target is {target!r}; expected a finite number within ±{LARGEST:g}")
        return value


def _checked_time(time: float | None) -> float | None:
    if time is None:
        return None
    value = _number(time)
    if value is None or math.isinf(value):
        raise ValueError(f"time is {time!r} of type {type(time).__name__}; expected seconds, finite, or None")
    return None if math.isnan(value) else value


def _asked(id: Hashable | None = None, time: float | None = None) -> dict[str, Any]:
    return {"id": _checked_id(id), "time": _checked_time(time)}


def _checked_id(id: Hashable | None) -> Hashable | None:
    return id if id is None or type(id) is str or type(id) is int else storable("the id", id)


def _checked_weight(w: float) -> float:
    value = _number(w)
    if value is None or not 0.0 <= value <= arrays.HEAVIEST:
        raise ValueError(f"the weight w is {w!r}; expected a number from 0 to {arrays.HEAVIEST:g}")
    return value


def _number(value: Any) -> float | None:
    """As float64; None for what is no number (text that looks like one included)."""
    if type(value) is float:
        return value
    return as_float(value) if isinstance(value, (numbers.Real, np.number)) else None


def warmup() -> float:
    """Compile the kernels, or load them from the cache; the seconds it took."""
    from time import perf_counter

    from engine import compiled, kernels, wide

    start = perf_counter()
    model = OnlineClassifier(layers=1, width=2, anomaly=True)
    for i in range(3):
        model.learn_one({"x": float(i)}, i % 2)
    model.score_one({"x": 0.0}, 1)
    model.test_then_train(np.zeros((2, 1)), [0, 1])
    none = np.zeros(0)
    table = np.zeros((0, 1))
    core = model._core
    kernels.start_lasting(core._bind(), table.astype(np.float32), table, none, none, none.astype(np.int64))
    kernels.forget_kept(core.state.lasting.episodic, 0)
    wide.warmup()
    compiled.mark_ready()
    return perf_counter() - start
