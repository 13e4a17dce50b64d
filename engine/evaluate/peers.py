"""The learners that stand beside the engine: River's, and a network of its size by backpropagation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from engine.evaluate.river_peers import RIVER, River

RATES = ("0.0003", "0.001", "0.003")
BACKPROP = tuple(f"backprop-{kind}-{rate}" for kind in ("adam", "rmsprop") for rate in RATES)
BACKPROP_REGRESSORS = tuple(f"{name}-regressor" for name in BACKPROP)
PEERS = (*RIVER, *BACKPROP, *BACKPROP_REGRESSORS)


class Peer(Protocol):
    """A learner that takes raw events one by one; made by `make_peer`.

    task: "classification" or "regression". weighted: `learn_one` heeds its weight.
    """

    name: str
    title: str
    about: str
    task: str
    weighted: bool

    def predict_proba_one(self, x: Mapping[Any, Any]) -> dict[Any, float]:
        """Label → probability, {} before the first label. Nothing is learned."""
        ...

    def predict_one(self, x: Mapping[Any, Any]) -> Any:
        """The likeliest label (None before the first), or the value of a regression."""
        ...

    def learn_one(self, x: Mapping[Any, Any], y: Any, w: float = 1.0) -> None:
        """Learn one event's label, of weight w where the peer takes weights."""
        ...

    def memory_bytes(self) -> int:
        """Bytes of what it has learned and keeps."""
        ...


def make_peer(name: str, seed: int = 0) -> Peer:
    """A fresh peer by its permanent name (`PEERS` lists them); ValueError names the known ones.

    >>> peer = make_peer("river-logistic")
    >>> peer.learn_one({"wind": 3.0, "sky": "clear"}, "on time")
    >>> peer.learn_one({"wind": None, "sky": "fog"}, "late")
    >>> sorted(peer.predict_proba_one({"wind": 30.0, "sky": "fog"}))
    ['late', 'on time']
    """
    if name in RIVER:
        return River(name, seed)
    if name in PEERS:
        from engine.evaluate.backprop import Backprop

        return Backprop.named(name, seed)
    raise ValueError(f"name={name!r}: no such peer; known are {', '.join(PEERS)}")


def task_of(name: str) -> str:
    """ "classification" or "regression", without making the peer."""
    if name in RIVER:
        return RIVER[name].task
    return "regression" if name.endswith("-regressor") else "classification"
