"""startup: what a user waits for before the first event: imports, the command line, the kernels."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.tables import Findings

REPEATS = 5
ONE_EVENT = "from engine import OnlineClassifier; OnlineClassifier().learn_one({'x': 1.0}, 1)"


def run() -> Findings:
    """Seconds of fresh processes: median and slowest of five, the kernels' compilation once."""
    found = Findings(
        name="startup",
        title="Starting up",
        about="Seconds until a fresh process is done; median and slowest of five, with warm file caches.",
        columns={"what": 0, "median s": 2, "slowest s": 2},
    )
    script = Path(sys.executable).with_name("everlearn")
    command = [str(script)] if script.exists() else [sys.executable, "-m", "engine.cli"]
    kernels = "from engine.learner import warmup; warmup()"
    _measure(found, "python -c pass", [sys.executable, "-c", "pass"])
    _measure(found, "import engine", [sys.executable, "-c", "import engine"])
    _measure(found, "everlearn --help", [*command, "--help"])
    _measure(found, "import engine, learn one event (kernels cached)", [sys.executable, "-c", ONE_EVENT])
    _measure(found, "kernels from the cache", [sys.executable, "-c", kernels])
    with tempfile.TemporaryDirectory() as empty:
        command = [sys.executable, "-c", kernels]
        _measure(found, "kernels compiled (once per machine)", command, 1, EVERLEARN_CACHE=empty)
    return found


def _measure(found: Findings, what: str, command: list[str], repeats: int = REPEATS, **extra: str) -> None:
    seconds = []
    for turn in range(repeats + (repeats > 1)):
        before = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, **extra})
        if turn or repeats == 1:  # the first of many fills the caches
            seconds.append(time.perf_counter() - before)
    found.add(**{"what": what, "median s": statistics.median(seconds), "slowest s": max(seconds)})
