"""continual: Split-MNIST and Permuted-MNIST in one pass, the engine beside eight baselines with as many "
"bytes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

from benchmarks.continual.job import (
    JOINT,
    MIXED,
    PERMUTED_EVENTS,
    PERMUTED_TASKS,
    PERMUTED_TESTS,
    STATISTICS,
    TUNING_EVENTS,
    Job,
)
from benchmarks.continual.methods import BATCH
from benchmarks.continual.plan import EVERYBODY, SETS, candidates, full, methods_of
from benchmarks.continual.records import Records, measure
from benchmarks.job import OWN
from benchmarks.tables import Findings
from streams.datasets import VARIABLE

TITLES = {
    "images": "Split-MNIST, images",
    "flat": "Split-MNIST, flat",
    "permuted": f"Permuted-MNIST, flat, {PERMUTED_TASKS} tasks",
}
COLUMNS = {
    "method": 0, "reads": 0, "setting": 0, "seeds": 0, "accuracy": 4, "spread": 4, "live": 4, "any time": 4,
    "forgetting": 4, "largest drop": 4, "µs per event": 0, "MB": 1,
}  # fmt: skip
SUMMARY = {
    "stream": 0, "everlearn": 4, "spread": 4, "shuffled": 4, "live": 4, "forgetting": 4, "µs per event": 0,
    "best baseline": 0, "its accuracy": 4, "its µs": 0, "best no slower": 0, "accuracy of that": 4,
    "joint": 4,
}  # fmt: skip
ABOUT = (
    "Split-MNIST: five tasks of two classes, 60,000 events once, in order of tasks, tested on the 10,000 "
    "held-out ones; "
    f"Permuted-MNIST: {PERMUTED_TASKS} tasks with {PERMUTED_EVENTS:,} events each, tested on "
    f"{PERMUTED_TESTS:,} per "
    "task. No task is told, while learning or when asked, but ends of tasks to online EWC and GDumb; the "
    "baselines know "
    "all classes beforehand. Everybody has the bytes of kept examples that the table names and "
    f"{', '.join(f'{size / 1e6:g} MB ({name})' for name, size in STATISTICS.items())} beside them, as the engine "
    "takes, for network, statistics and features; baselines may use them for "
    "further "
    "examples. Where none are kept only what needs none takes part. everlearn: `OnlineClassifier` with its "
    "defaults and "
    "`kept_bytes`; shuffled: the same over the events of all tasks mixed. Baselines learn in batches of "
    f"{BATCH} new "
    f"events and {BATCH} kept ones; each reads pixels (a small convolutional network, a perceptron for flat "
    "vectors) and "
    "features (patches learned from the first 100 events for images, random units for flat vectors), the "
    "better counts; "
    "step sizes are the best of a few, for one and for four steps per batch apart, on the first "
    f"{TUNING_EVENTS:,} events of each task "
    "with a seed "
    "of its own, by accuracy on held-out events. joint: fine-tuning on the shuffled events, an upper line. "
    "Time is the "
    "processor's in forecasting and learning, MB is what is kept at the end."
)


def run(set: str | None = None, seeds: int = 5, methods: str | None = None, at_once: int = 1) -> Findings:
    """Measure what is not measured yet, then the tables of all that is.

    set: "images", "flat" or "permuted" alone. seeds: of each method at each budget. methods: names, parted by
    commas. at_once: processes side by side, each with one thread. Raises ValueError for names that are not
    known.
    """
    wanted = EVERYBODY if methods is None else tuple(name.strip() for name in methods.split(","))
    for name, known in ((set or "images", tuple(SETS)), *((method, EVERYBODY) for method in wanted)):
        if name not in known:
            raise ValueError(f"{name!r} is not known; expected one of {'; '.join(known)}")
    found = Findings(
        name="continual",
        title="Continual learning: the engine beside baselines with as many bytes",
        about=ABOUT,
        columns=SUMMARY,
    )
    kept = Records()
    if os.environ.get(VARIABLE):
        for name in SETS if set is None else (set,):
            found.notes += fill(name, wanted, kept, seeds, at_once)
    else:
        found.notes.append(f"Not run, for {VARIABLE} names no folder with mnist.")
    for name, budgets in SETS.items():
        for bytes_kept in budgets:
            table = standings(name, bytes_kept, kept, seeds)
            if table.rows:
                found.below.append(table)
                found.add(**summary(table))
    return found


def fill(name: str, wanted: Sequence[str], kept: Records, seeds: int, at_once: int) -> list[str]:
    """Choose settings, then run every method at every budget; what went wrong."""
    mine = [method for method in EVERYBODY if method in wanted]
    tried = [job for method in mine if method not in (OWN, MIXED) for job in candidates(name, method)]
    failed = measure(tried, kept, at_once)
    jobs = [
        job
        for bytes_kept in SETS[name]
        for method in methods_of(name, bytes_kept)
        if method in mine
        for job in full(name, method, bytes_kept, chosen(name, method, kept), seeds)
    ]
    jobs.sort(key=lambda job: job.seed)  # a run that is stopped leaves whole tables of fewer seeds
    return failed + measure(jobs, kept, at_once)


def chosen(name: str, method: str, kept: Records) -> list[Job]:
    """For each input and number of steps per batch the setting that was most accurate in the short runs."""
    found: dict[tuple[str, int], tuple[float, Job]] = {}
    if method in (OWN, MIXED):
        return []
    for job in candidates(name, method):
        record, kind = kept.get(job), (job.input, job.repeats)
        if record is not None and record["final_accuracy"] > found.get(kind, (-1.0, job))[0]:
            found[kind] = record["final_accuracy"], job
    return [job for _, job in found.values()]


def standings(name: str, bytes_kept: int, kept: Records, seeds: int) -> Findings:
    """One row per method and number of steps, by the input on which it was better."""
    table = Findings(
        name=f"continual-{name}-{bytes_kept}",
        title=f"{TITLES[name]}: {bytes_kept / 1e6:g} MB of examples",
        about="",
        columns=COLUMNS,
    )
    for method in methods_of(name, bytes_kept):
        by_kind: dict[tuple[int, str], list[dict[str, Any]]] = {}
        for job in full(name, method, bytes_kept, chosen(name, method, kept), seeds):
            record = kept.get(job)
            if record is not None:
                by_kind.setdefault((job.repeats, job.input), []).append(record)
        for repeats in sorted({repeats for repeats, _ in by_kind}):
            rows = [row(method, records) for kind, records in by_kind.items() if kind[0] == repeats]
            table.rows.append(max(rows, key=lambda each: each["accuracy"]))
    return table


def row(method: str, records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A method's seeds as one row: means, and the standard deviation of the accuracy."""

    def mean(name: str) -> float | None:
        values = [record[name] for record in records if record.get(name) is not None]
        return fmean(values) if values else None

    first = records[0]
    accuracies = [record["final_accuracy"] for record in records]
    return {
        "method": method + (f", {first['repeats']} steps" if first["repeats"] > 1 else ""),
        "reads": "" if method in (OWN, MIXED) else first["input"],
        "setting": _setting(first) if method not in (OWN, MIXED) else "",
        "seeds": len(records),
        "accuracy": fmean(accuracies),
        "spread": stdev(accuracies) if len(accuracies) > 1 else None,
        "live": mean("live_accuracy"),
        "any time": mean("anytime_accuracy"),
        "forgetting": mean("forgetting"),
        "largest drop": mean("largest_drop"),
        "µs per event": mean("us_per_event"),
        "MB": (mean("memory_bytes") or 0.0) / 1e6,
    }


def _setting(record: dict[str, Any]) -> str:
    if record["method"] == "streaming LDA":
        return f"ε {record['rate']:g}"
    return f"{record['rate']:g}" + (f", λ {record['strength']:g}" if record["strength"] else "")


def summary(table: Findings) -> dict[str, Any]:
    """The engine beside the best baseline of a table, and beside the best that takes no longer."""
    rows = {row["method"]: row for row in table.rows}
    own: dict[str, Any] = rows.get(OWN, {})
    others = [row for method, row in rows.items() if method not in (OWN, MIXED, JOINT)]
    quick = [row for row in others if own and row["µs per event"] <= own["µs per event"]]
    best: dict[str, Any] = max(others, key=lambda row: row["accuracy"], default={})
    best_quick: dict[str, Any] = max(quick, key=lambda row: row["accuracy"], default={})
    return {
        "stream": table.title,
        "everlearn": own.get("accuracy"),
        "spread": own.get("spread"),
        "shuffled": rows.get(MIXED, {}).get("accuracy"),
        "live": own.get("live"),
        "forgetting": own.get("forgetting"),
        "µs per event": own.get("µs per event"),
        "best baseline": best.get("method"),
        "its accuracy": best.get("accuracy"),
        "its µs": best.get("µs per event"),
        "best no slower": best_quick.get("method"),
        "accuracy of that": best_quick.get("accuracy"),
        "joint": rows.get(JOINT, {}).get("accuracy"),
    }
