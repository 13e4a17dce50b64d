"""Two replays of one stretch, label by label: how much better one was, how sure that is, how often they agree."""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streams.event import Headers
from streams.protocols import Sink, notes_of

BLOCKS = 20
STUDENT = 2.093  # the 97.5 % quantile of Student's t with 19 degrees of freedom


class Losses:
    """What every label cost, in the place of a shard's witness: it sees each label as it is learned.

    Classification: −log of the label's probability, clipped at 1e-15, and whether the answer was wrong.
    Regression: the absolute error.
    """

    def __init__(self) -> None:
        self._ids = array("q")
        self._loss = array("d")
        self._wrong = array("d")

    def saw(self, model: Any, forecast: Any, said: Any, label: Any, time: float) -> None:
        """A label was learned; said: what was answered."""
        self._ids.append(_hash(str(forecast.id)))
        if not isinstance(said, Mapping):
            self._loss.append(abs(float(said) - float(label)))
            self._wrong.append(math.nan)
            return
        best = max(said, key=said.__getitem__) if said else None
        p = said.get(label, 0.0) if said else 0.5  # nothing learned yet: an even guess
        self._loss.append(-math.log(min(max(p, 1e-15), 1.0)))
        self._wrong.append(float(best != label))

    def state(self) -> None:
        """Nothing of it belongs to a snapshot."""

    def table(self) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
        """Ids as hashes, losses and wrong answers, each (labels,), in the order in which labels were learned."""
        return np.array(self._ids), np.array(self._loss), np.array(self._wrong)


class Answers:
    """A sink that remembers every answer in few bytes, and passes it on."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._ids = array("q")
        self._said = array("d")

    def write(self, key: str, value: Mapping[str, Any], headers: Headers = ()) -> None:
        """Remember what was said for this id."""
        said = value.get("forecast")
        number = float(said) if isinstance(said, float) else float(_hash(repr(said)))
        self._ids.append(_hash(key))
        self._said.append(number)
        self._sink.write(key, value, headers)

    def table(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Ids as hashes and what was said as numbers, each (answers,)."""
        return np.array(self._ids), np.array(self._said)

    def hurry(self) -> None:
        """The sink's."""
        self._sink.hurry()

    def flush(self) -> None:
        """The sink's."""
        self._sink.flush()

    def cursor(self) -> Any:
        """The sink's."""
        return self._sink.cursor()

    def rewind(self, cursor: Any) -> int:
        """A replay writes every answer once."""
        raise ValueError("a comparison does not go back; make it anew")

    @property
    def notes(self) -> list[str]:
        """The sink's."""
        return notes_of(self._sink)

    def close(self) -> None:
        """The sink's."""
        self._sink.close()

    def abandon(self) -> None:
        """The sink's."""
        self._sink.abandon()


def compared(a: Losses, b: Losses) -> dict[str, Any]:
    """What b cost less (−) or more (+) than a per label, over the labels that both learned.

    labels: how many. loss, wrong: {"difference", "half_width"}: the mean difference, and half the width of its
    95 % interval by Student's t over BLOCKS blocks of labels in a's order; labels next to each other are not
    independent, blocks nearly are. half_width is None with fewer labels than blocks; wrong is None in regression.

    >>> first, second = Losses(), Losses()
    >>> for i in range(40):
    ...     for losses, p in ((first, 0.5), (second, 0.6)):
    ...         losses.saw(None, type("F", (), {"id": i}), {1: p, 0: 1 - p}, 1, 0.0)
    >>> found = compared(first, second)
    >>> found["labels"], round(found["loss"]["difference"], 3), round(found["loss"]["half_width"], 6)
    (40, -0.182, 0.0)
    """
    (ids, loss, wrong), (others, other_loss, other_wrong) = a.table(), b.table()
    _, mine, theirs = np.intersect1d(ids, others, return_indices=True)
    order = np.argsort(mine, kind="stable")
    mine, theirs = mine[order], theirs[order]
    differences = other_loss[theirs] - loss[mine]
    errors = other_wrong[theirs] - wrong[mine]
    classes = len(errors) > 0 and not np.isnan(errors).any()
    return {
        "labels": len(mine),
        "loss": _interval(differences),
        "wrong": _interval(errors) if classes else None,
    }


def agreement(a: Answers, b: Answers) -> dict[str, Any]:
    """For how many events both answered, the share of equal answers."""
    (ids, said), (others, other_said) = a.table(), b.table()
    _, mine, theirs = np.intersect1d(ids, others, return_indices=True)
    if not len(mine):
        return {"events": 0, "equal": None}
    equal = float(np.mean(said[mine] == other_said[theirs]))
    return {"events": len(mine), "equal": equal}


def _interval(values: NDArray[np.float64]) -> dict[str, float | None]:
    if not len(values):
        return {"difference": None, "half_width": None}
    mean = float(values.mean())
    if len(values) < BLOCKS:
        return {"difference": mean, "half_width": None}
    blocks = np.array([block.mean() for block in np.array_split(values, BLOCKS)])
    return {"difference": mean, "half_width": STUDENT * float(blocks.std(ddof=1)) / math.sqrt(BLOCKS)}


def _hash(text: str) -> int:
    return int.from_bytes(
        blake2b(text.encode(errors="replace"), digest_size=8).digest(), "little", signed=True
    )
