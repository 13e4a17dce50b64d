"""What a run remembers for its report: how the experts were weighed, and a few decisions explained."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from engine.evaluate.report import as_json

POINTS = 240


class Witness:
    """Sees every label as it is learned and keeps little: bounded curves, three explained decisions.

    of: the label of interest; the most confident right answer is chosen among those that foretold it (None:
    any label). after: labels to let pass before decisions are chosen, since a learner that has seen little
    is easily sure. The choice depends on the stream alone, so a resumed run ends with the same three: "right"
    and "wrong" (the answers with the highest probability), "typical" (its loss nearest to the mean loss).
    """

    def __init__(self, *, of: Any = None, after: int = 2000) -> None:
        self.of = of
        self.after = after
        self._labels = 0
        self._delay = 0.0
        self._loss = 0.0
        self._every = 16
        self._times: list[float] = []
        self._weights: list[dict[str, float]] = []
        self._best: dict[str, float] = {}
        self._chosen: dict[str, dict[str, Any]] = {}

    def saw(self, model: Any, forecast: Any, said: Any, label: Any, time: float) -> None:
        """A label was learned: `said` is what was answered for it, label → probability or a value."""
        self._labels += 1
        if forecast.time is not None:
            self._delay += time - forecast.time
        if self._labels % self._every == 0:
            self._times.append(time)
            self._weights.append({name: float(w) for name, w in model.expert_weights().items()})
            if len(self._times) > POINTS:
                self._times, self._weights = self._times[1::2], self._weights[1::2]
                self._every *= 2
        if isinstance(said, Mapping) and said:
            self._judge(model, forecast, said, label, time)

    def _judge(self, model: Any, forecast: Any, said: Mapping[Any, float], label: Any, time: float) -> None:
        loss = -math.log(min(max(said.get(label, 0.0), 1e-15), 1.0))
        self._loss += loss
        if self._labels <= self.after:
            return
        best = max(said, key=said.__getitem__)
        marks = {"typical": -abs(loss - self._loss / self._labels)}
        if best != label:
            marks["wrong"] = said[best]
        elif self.of is None or label == self.of:
            marks["right"] = said[best]
        for name, mark in marks.items():
            if mark > self._best.get(name, -math.inf):
                self._best[name] = mark
                self._chosen[name] = as_json(
                    {
                        "id": forecast.id,
                        "time": forecast.time,
                        "forecast": said,
                        "outcome": label,
                        "label_time": time,
                        **{key: value for key, value in model.explain(forecast).items() if key not in _OURS},
                    }
                )

    @property
    def label_delay(self) -> float | None:
        """Mean seconds from forecast to label; None before the first."""
        return self._delay / self._labels if self._labels else None

    def decisions(self) -> list[dict[str, Any]]:
        """The chosen decisions in the report's form, each with a note on why it was chosen."""
        notes = {
            "right": "The most confident answer that was right.",
            "wrong": "The most confident answer that was wrong.",
            "typical": "An ordinary one: its loss is closest to the mean.",
        }
        return [{**self._chosen[name], "note": note} for name, note in notes.items() if name in self._chosen]

    def experts(self) -> dict[str, Any]:
        """How the experts were weighed over time, in the report's form."""
        names = list(dict.fromkeys(name for row in self._weights for name in row))
        return {
            "time": list(self._times),
            "weights": {name: [row.get(name) for row in self._weights] for name in names},
        }

    def state(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        return {
            "of": self.of,
            "after": self.after,
            "sums": [self._labels, self._delay, self._loss, self._every],
            "times": list(self._times),
            "weights": [dict(row) for row in self._weights],
            "best": dict(self._best),
            "chosen": dict(self._chosen),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Witness:
        """The witness that `state` described."""
        self = cls(of=state["of"], after=state["after"])
        self._labels, self._delay, self._loss, self._every = state["sums"]
        self._times, self._weights = list(state["times"]), [dict(row) for row in state["weights"]]
        self._best, self._chosen = dict(state["best"]), dict(state["chosen"])
        return self


_OURS = ("id", "time", "forecast", "outcome", "label_time")
