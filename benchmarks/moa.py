"""CapyMOA's classifiers as peers: tables as numbers, a process in its own environment, answers judged alike."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.schedule import Told, steps_of
from engine.evaluate.prequential import Evaluation, evaluate
from streams.table import Table

PEERS = {
    "moa-arf-100": "MOA ARF-100",
    "moa-srp-30": "MOA SRP-30",
    "moa-samknn": "MOA SAMkNN",
    "moa-sgbt": "MOA SGBT",
    "moa-efdt": "MOA EFDT",
    "moa-ozaboost": "MOA OzaBoost",
}
PROJECT = Path(__file__).parent.parent
PYTHON = PROJECT / ".venv-capymoa" / "bin" / "python"
JVM = "-Xmx8g -Xss10M -XX:+UseSerialGC -XX:ActiveProcessorCount=1"
MISSING = "missing"


def numbers(table: Table, rows: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """(X, values): the first rows as MOA takes them, X (rows, d) float64, values (d,) int64.

    A text column holds the place of its value among values[j] of them, "missing" being one of them where
    a row lacks it; in a column of numbers (values[j] = 0) a missing one is the mean of the rows before, 0
    before the first.
    """
    columns: dict[str, list[Any]] = {name: [] for name in table.columns}
    for row in table.rows(0, rows):
        for name, value in row.x.items():
            columns[name].append(value)
    X = np.zeros((rows, len(columns)))
    values = np.zeros(len(columns), dtype=np.int64)
    for j, column in enumerate(columns.values()):
        if any(isinstance(value, str) for value in column):
            place: dict[str, int] = {}
            for i, value in enumerate(column):
                X[i, j] = place.setdefault(MISSING if value is None else str(value), len(place))
            values[j] = len(place)
        else:
            X[:, j] = _filled(np.array([math.nan if v is None else float(v) for v in column]))
    return X, values


def _filled(column: NDArray[np.float64]) -> NDArray[np.float64]:
    there = np.isfinite(column)
    known = np.where(there, column, 0.0)
    mean = np.cumsum(known) / np.maximum(np.cumsum(there), 1)
    return np.where(there, column, mean)  # where one is missing the mean holds the rows before alone


def version() -> str | None:
    """ "capymoa 0.15.1" where its environment is there, else None."""
    if not PYTHON.exists() or shutil.which("java") is None:
        return None
    pinned = (Path(__file__).parent / "capymoa-requirements.txt").read_text(encoding="utf-8")
    found = re.search(r"^capymoa==(\S+)$", pinned, re.MULTILINE)
    return f"capymoa {found[1]}" if found else None


def judge(name: str, table: Table, *, rows: int, seed: int = 0) -> Evaluation:
    """The peer over the first rows: test then train, labels when they come, judged as `evaluate` judges.

    Classes, and values of text columns, are told to MOA beforehand, as it needs them.
    RuntimeError with the last lines of its process where that failed.
    """
    if version() is None:
        raise RuntimeError(f"{name} runs in an environment of its own with Java; run: make capymoa")
    classes: dict[Any, int] = {}
    y = [-1 if label is None else classes.setdefault(label, len(classes)) for label in table.labels()[:rows]]
    P, seconds = _answers(name, table, rows, np.array(y), seed)
    run = evaluate(Told(P, list(classes)), table, limit=rows)
    run.seconds = seconds
    return run


def _answers(
    name: str, table: Table, rows: int, y: NDArray[np.int64], seed: int
) -> tuple[NDArray[np.float64], float]:
    """(P (rows, classes), the processor's seconds inside its calls), from CapyMOA's environment."""
    X, values = numbers(table, rows)
    with tempfile.TemporaryDirectory() as folder:
        read, write = Path(folder, "read.npz"), Path(folder, "write.npz")
        say = json.dumps({"name": name, "seed": seed})
        np.savez(read, X=X, values=values, y=y, steps=np.array(steps_of(table, rows)), say=say)
        script = Path(__file__).with_name("capymoa_run.py")
        ended = subprocess.run(
            [str(PYTHON), "-P", str(script), str(read), str(write)],
            env={**os.environ, "CAPYMOA_JVM_ARGS": JVM, "PYTHONPATH": ""},
            cwd=folder,
            capture_output=True,
            text=True,
        )
        if ended.returncode == -signal.SIGXCPU:  # it inherits this process's limit, and so does its end
            os.kill(os.getpid(), signal.SIGXCPU)
        if ended.returncode:
            raise RuntimeError(f"{name} on {table.name} ended with an error:\n{ended.stderr[-2000:]}")
        answers = np.load(write)
        return answers["P"], float(answers["seconds"])
