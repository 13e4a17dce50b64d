"""What a learner can be told, checked once and carried inside as one value."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import asdict, dataclass
from typing import Any

from engine.names import from_json, storable, to_json

KeyField = Hashable
HOUR = 3600.0
KEPT_BYTES = 8_000_000


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of OnlineClassifier and OnlineRegressor; their docstrings say what each means."""

    layers: int
    width: int
    activation: str
    rate: float
    slow_rate: float
    linear_rate: float
    neighbours: int
    context: bool
    recall: bool
    recall_heads: bool
    metric: bool
    trees: bool
    early: bool
    sleep: bool
    concepts: bool
    label_history: bool
    anomaly: bool
    keys: tuple[KeyField, ...]
    horizons: tuple[float, ...]
    category_horizons: tuple[float, ...]
    max_features: int
    max_classes: int
    memory_budget: int
    kept_bytes: int
    seed: int

    def __post_init__(self) -> None:
        for name, low in (
            ("layers", 1), ("width", 1), ("neighbours", 2), ("max_features", 1), ("max_classes", 2),
            ("memory_budget", 1 << 20), ("kept_bytes", 0), ("seed", 0),
        ):  # fmt: skip
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < low:
                raise ValueError(f"{name} is {value!r}; expected an integer of at least {low}")
        for name in ("rate", "slow_rate", "linear_rate"):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
                raise ValueError(f"{name} is {value!r}; expected a finite step size of at least 0")
        for name in (
            "context", "recall", "recall_heads", "metric", "trees", "early", "sleep", "concepts", "label_history",
            "anomaly",
        ):  # fmt: skip
            value = getattr(self, name)
            if not isinstance(value, bool):
                raise ValueError(f"{name} is {value!r}; expected True or False")
        from engine.rules.local import ACTIVATIONS

        if not isinstance(self.activation, str) or self.activation not in ACTIVATIONS:
            raise ValueError(
                f"activation is {self.activation!r}; expected one of {', '.join(sorted(ACTIVATIONS))}"
            )
        for name, least in (("horizons", 0.0), ("category_horizons", 500.0)):
            value = getattr(self, name)
            if not value or not all(
                isinstance(h, (int, float)) and not isinstance(h, bool) and max(least, 1e-9) <= h < math.inf
                for h in value
            ):
                raise ValueError(f"{name} is {value!r}; expected finite numbers above 0, at least {least:g}")

    def shown(self, name: str) -> Any:
        """An option as the constructor takes it: no keys are None."""
        value = getattr(self, name)
        return None if name == "keys" and not value else value

    def to_json(self) -> dict[str, Any]:
        """As JSON; `from_json` restores it."""
        return asdict(self) | {"keys": [to_json(key) for key in self.keys]}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Options:
        """The options that `to_json` described; ValueError where a later release described them."""
        later = sorted(set(data) - set(cls.__dataclass_fields__))
        if later:
            raise ValueError(
                f"the learner has options that this release does not know: {', '.join(later)}; expected some of "
                f"{', '.join(cls.__dataclass_fields__)}: a later release wrote it, load it with that one"
            )
        return cls(
            **dict.fromkeys(
                ("trees", "early", "sleep", "concepts", "anomaly", "recall_heads"), False
            )  # a learner of before had none
            | {"kept_bytes": KEPT_BYTES}
            | data
            | {
                "keys": tuple(from_json(key) for key in data["keys"]),
                "horizons": tuple(data["horizons"]),
                "category_horizons": tuple(data["category_horizons"]),
            }
        )


def key_fields(keys: Any) -> tuple[KeyField, ...]:
    """The constructor's `keys` as a tuple; ValueError where it is a bare string."""
    if isinstance(keys, (str, bytes)) or not isinstance(keys, (tuple, list)):
        raise ValueError(
            f"keys is {keys!r}; expected a tuple of field names, such as ('carrier', ('carrier', 'origin'))"
        )
    fields = tuple(tuple(key) if isinstance(key, list) else key for key in keys)
    for key in fields:
        try:
            storable("the key", key)
        except TypeError:
            raise ValueError(
                f"keys holds {key!r} of type {type(key).__name__}; expected field names or tuples of them"
            ) from None
    return fields


def numbers_of(name: str, values: Any) -> tuple[float, ...]:
    """The constructor's `horizons` or `category_horizons` as a tuple; ValueError where it is no sequence."""
    if isinstance(values, (str, bytes)) or not hasattr(values, "__iter__"):
        raise ValueError(f"{name} is {values!r}; expected a sequence of numbers, such as (3600.0, 86400.0)")
    return tuple(values)
