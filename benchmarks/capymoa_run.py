"""Runs in CapyMOA's own environment: one MOA classifier over a schedule of forecasts and labels, npz to npz."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np

# SAMkNN notes while it forecasts which of its memories is right, so the label must be there; what it answers does
# not depend on the label of the same call, which a test holds.
TOLD = ("moa-samknn",)


def _classifier(name: str, schema: Any, seed: int) -> Any:
    from capymoa import classifier

    if name == "moa-arf-100":
        return classifier.AdaptiveRandomForestClassifier(schema, random_seed=seed, ensemble_size=100)
    if name == "moa-srp-30":
        return classifier.StreamingRandomPatches(schema, random_seed=seed, ensemble_size=30)
    if name == "moa-samknn":
        return classifier.SAMkNN(schema, random_seed=seed)
    if name == "moa-sgbt":
        return classifier.StreamingGradientBoostedTrees(schema, random_seed=seed)
    if name == "moa-efdt":
        return classifier.EFDT(schema, random_seed=seed)
    if name == "moa-ozaboost":
        return classifier.OzaBoost(schema, random_seed=seed)
    raise ValueError(f"name is {name!r}; expected one of those in benchmarks/moa.py")


def main(read: str, write: str) -> None:
    """Read X (n, d), values (d,), y (n,), steps (m,) and say; write P (n, classes) and the processor's seconds.

    values: how many values a nominal column has, 0 for a number. steps: row i ≥ 0 is forecast, ~i is its label
    learned. A row of zeros in P is a forecast that MOA could not give.
    """
    from capymoa.core import Instance, LabeledInstance
    from capymoa.stream import Schema

    data = np.load(read)
    X, values, y, steps = (data[name] for name in ("X", "values", "y", "steps"))
    asked = json.loads(str(data["say"]))
    classes = int(y.max()) + 1
    names = [f"x{j}" for j in range(X.shape[1])]
    nominal = {name: _numbered(n) for name, n in zip(names, values.tolist(), strict=True) if n}
    schema = Schema.from_custom([*names, "y"], "y", {**nominal, "y": _numbered(classes)})
    model = _classifier(asked["name"], schema, asked["seed"])
    P = np.zeros((len(X), classes))

    def labelled(i: int) -> Any:
        return LabeledInstance.from_array(schema, X[i], int(y[i]))

    seconds = 0.0
    for step in steps.tolist():
        if step >= 0:
            row = labelled(step) if asked["name"] in TOLD else Instance.from_array(schema, X[step])
            start = time.process_time()
            p = model.predict_proba(row)
            seconds += time.process_time() - start
            if p is not None:
                P[step] = p
        else:
            row = labelled(~step)
            start = time.process_time()
            model.train(row)
            seconds += time.process_time() - start
    np.savez(write, P=P, seconds=seconds)


def _numbered(n: int) -> list[str]:
    return [f"v{k}" for k in range(n)]


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
