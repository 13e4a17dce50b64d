"""Which jobs there are: methods, inputs, budgets and seeds, and the settings to choose among."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from benchmarks.continual.job import JOINT, MIXED, TUNING_SEED, Job
from benchmarks.continual.methods import METHODS, SETTINGS
from benchmarks.job import OWN

SETS: dict[str, tuple[int, ...]] = {
    "images": (8_000_000, 400_000, 0),
    "flat": (8_000_000, 400_000),
    "permuted": (8_000_000,),
}
"""Set → bytes of kept examples."""
KEEPS_NOTHING = ("fine-tuning", "online EWC", "streaming LDA", JOINT)
INPUTS = {"images": ("pixels", "patches"), "flat": ("pixels", "random"), "permuted": ("pixels", "random")}
EVERYBODY = (OWN, MIXED, JOINT, *METHODS)


def methods_of(name: str, kept: int) -> list[str]:
    """Who takes part in a set at a budget: where nothing is kept those that need nothing, at others all.

    What keeps no examples does not depend on the budget, and is measured once, at the set's first one.
    """
    own = [OWN, MIXED]
    if kept == 0:
        return [*own, *KEEPS_NOTHING]
    return [*own, JOINT, *METHODS]


def inputs_of(name: str, method: str) -> tuple[str, ...]:
    """What a method reads in a set: pixels, and patch features (images) or random units (vectors).

    LDA of images reads random units of the pixels, for pixels alone are no features.
    """
    if method in (OWN, MIXED):
        return ("pixels",)
    if method == "streaming LDA":
        return ("random", "patches") if name == "images" else ("random",)
    return INPUTS[name]


def budget_of(name: str, method: str, kept: int) -> int:
    """The budget whose record counts for this method at this one."""
    return SETS[name][0] if method in KEEPS_NOTHING else kept


def candidates(name: str, method: str) -> Iterator[Job]:
    """Short runs among whose settings the best is chosen, per input; on a seed of their own."""
    for input in inputs_of(name, method):
        for setting in SETTINGS["fine-tuning" if method == JOINT else method]:
            yield Job(
                set=name,
                kept=SETS[name][0],
                method=method,
                input=input,
                seed=TUNING_SEED,
                rate=setting.rate,
                repeats=setting.repeats,
                strength=setting.strength,
                tuning=True,
            )


def full(name: str, method: str, kept: int, chosen: Sequence[Job], seeds: int) -> Iterator[Job]:
    """The runs of a method in a set at a budget: every seed, with the setting chosen for each input."""
    if method in (OWN, MIXED):
        for seed in range(seeds):
            yield Job(set=name, kept=kept, method=method, seed=seed)
        return
    for job in chosen:
        for seed in range(seeds):
            yield replace(job, kept=budget_of(name, method, kept), seed=seed, tuning=False)
