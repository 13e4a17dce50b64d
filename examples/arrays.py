"""Rows of a NumPy array, chunk by chunk; saved half-way, the loaded model continues to the bit."""

import tempfile
from pathlib import Path

import numpy as np

from engine import OnlineClassifier

rng = np.random.default_rng(0)
X = rng.normal(size=(4000, 6))
X[rng.random(X.shape) < 0.05] = np.nan  # missing
turn = np.linspace(0, np.pi, len(X))  # the boundary drifts
y = np.where(np.nansum(X[:, :2] * np.c_[np.cos(turn), np.sin(turn)], axis=1) > 0, "up", "down")

# Row i is forecast before label i is learned; a row of probabilities per event, a column per class.
model = OnlineClassifier(seed=0)
first = model.test_then_train(X[:2000], y[:2000])
print("columns:", model.classes_, "shape:", first.shape, "before the first label:", first[0])

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "model.everlearn"
    model.save(path)
    loaded = OnlineClassifier.load(path)

going_on = model.test_then_train(X[2000:], y[2000:])
continued = np.vstack([loaded.test_then_train(chunk, labels) for chunk, labels in (
    (X[2000:2700], y[2000:2700]), (X[2700:], y[2700:]),
)])  # fmt: skip
print("loaded and continued in other chunks, the same to the bit:", np.array_equal(going_on, continued))

said = np.array(model.classes_)[np.vstack([first[1:], going_on]).argmax(axis=1)]
print(f"accuracy while the boundary turns by 180 degrees: {np.mean(said == y[1:]):.3f}")
print("predict_proba learns nothing:", np.array_equal(model.predict_proba(X[:3]), model.predict_proba(X[:3])))
