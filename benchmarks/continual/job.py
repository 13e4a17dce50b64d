"""One learner over one scenario, in a process of its own with one thread: `python -m "
"benchmarks.continual.job JOB`."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Hashable
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib.metadata import version
from typing import Any

import numpy as np

from benchmarks.continual.features import Map, Patches, Pixels, RandomUnits
from benchmarks.continual.methods import METHODS, Baseline, Setting
from benchmarks.job import OWN, sources
from benchmarks.job import versions as own_versions
from engine.evaluate.continual.course import follow
from engine.evaluate.continual.drawing import Asked
from engine.evaluate.continual.scenarios import make
from engine.evaluate.continual.tasks import Examples, Scenario

JOINT = "joint"
MIXED = f"{OWN} shuffled"
STATISTICS = {"images": 20_000_000, "flat": 48_000_000, "permuted": 48_000_000}
"""Bytes that everybody has in a set beside the kept examples, as many as the engine takes: for network,
statistics, features, further examples."""
TUNING_SEED, TUNING_EVENTS, TUNING_TESTS = 1_000, 1_000, 2_000
PERMUTED_EVENTS, PERMUTED_TASKS, PERMUTED_TESTS = 6_000, 10, 2_000
FIGURES = (
    "final_accuracy", "average_accuracy", "learning_accuracy", "live_accuracy", "anytime_accuracy", "forgetting",
    "largest_drop", "us_per_event", "memory_bytes", "events", "tests",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is measured.

    set: "images" (28 × 28), "flat" (784 numbers) or "permuted" (flat, ten orders of pixels). kept: bytes of
    examples; 0: none are kept. input: "pixels", "patches" or "random", what a baseline reads. method:
    "everlearn", "everlearn shuffled", "joint" or a baseline's name. tuning: on the first 1,000 events per task
    alone, to choose a setting.
    """

    set: str
    kept: int
    method: str
    input: str = "pixels"
    seed: int = 0
    rate: float = 0.0
    repeats: int = 1
    strength: float = 0.0
    tuning: bool = False

    @property
    def own(self) -> bool:
        """Whether it is the engine's and not a baseline's."""
        return self.method in (OWN, MIXED)

    @property
    def mixed(self) -> bool:
        """Whether events are shuffled over tasks."""
        return self.method in (JOINT, MIXED)


@cache
def versions(own: bool, set: str) -> str:
    """What a figure depends on: the engine's sources, or torch, the baselines' sources and a set's bytes."""
    if own:
        return str(own_versions(OWN))
    digest = hashlib.sha256(str(STATISTICS[set]).encode())
    for name, text in sorted(sources("benchmarks.continual.methods").items()):
        digest.update(name.encode() + text)
    return f"torch {version('torch')}, sources {digest.hexdigest()[:12]}"


def scenario_of(job: Job, examples: Examples | None = None) -> Scenario:
    """The job's stream; examples: instead of MNIST's (images)."""
    from engine.evaluate.continual.command import examples_of

    given = examples or examples_of("mnist")
    X = np.asarray(given.X)
    flat = given if job.set == "images" else replace(given, X=X.reshape(len(X), -1))
    tests = TUNING_TESTS if job.tuning else None
    if job.set == "permuted":
        asked = Asked(tasks=PERMUTED_TASKS, events_per_task=TUNING_EVENTS if job.tuning else PERMUTED_EVENTS)
        scenario = make(
            "permuted", _fewer_tests(flat, PERMUTED_TESTS // (4 if job.tuning else 1)), asked, job.seed
        )
    else:
        asked = Asked(classes_per_task=2, events_per_task=TUNING_EVENTS if job.tuning else None)
        scenario = make("class-incremental", _fewer_tests(flat, tests), asked, job.seed)
    return scenario.shuffled(job.seed) if job.mixed else scenario


def _fewer_tests(examples: Examples, n: int | None) -> Examples:
    """The first n held-out events alone; the others are no part of the set."""
    if n is None or examples.held_out is None:
        return examples
    held = np.flatnonzero(examples.held_out)[:n]
    rows = np.sort(np.concatenate([np.flatnonzero(~examples.held_out), held]))
    X = np.asarray(examples.X)[rows]
    return replace(examples, X=X, labels=[examples.labels[i] for i in rows], held_out=examples.held_out[rows])


def learner(job: Job, scenario: Scenario) -> Any:
    """The engine with its defaults and so many kept bytes, or a baseline with its setting."""
    if job.own:
        from engine.learner import OnlineClassifier, warmup
        from engine.options import Options

        warmup()
        known = {"kept_bytes": job.kept} if "kept_bytes" in Options.__dataclass_fields__ else {}
        return OnlineClassifier(seed=job.seed, **known)
    method: type[Baseline] = METHODS["fine-tuning" if job.method == JOINT else job.method]
    labels: set[Hashable] = set(scenario.examples.labels)
    setting = Setting(job.rate, job.repeats, job.strength)
    shape = np.asarray(scenario.examples.X).shape[1:]
    return method(
        map_of(job, shape), sorted(labels, key=str), setting, job.kept + STATISTICS[job.set], job.seed
    )


def map_of(job: Job, shape: tuple[int, ...]) -> Map:
    """What the baseline reads of events of this shape."""
    if job.input == "patches":
        return Patches(job.seed)
    if job.input == "random":
        return RandomUnits(int(np.prod(shape)), job.seed)
    return Pixels(shape)


def run(job: Job, examples: Examples | None = None) -> dict[str, Any]:
    """The job with its figures, by the processor's time, which does not grow where others use the machine."""
    scenario = scenario_of(job, examples)
    began = time.process_time()
    model = learner(job, scenario)
    found = follow(model, scenario, ordered=not job.mixed, probes=1, clock=time.process_time).result()
    told = getattr(model, "bytes_by_memory", None)
    return {
        **asdict(job),
        **({} if told is None else {"bytes_by_memory": told()}),
        **{name: found[name] for name in FIGURES if name in found},
        "cpu_seconds": round(time.process_time() - began, 1),
        "versions": versions(job.own, job.set),
    }
