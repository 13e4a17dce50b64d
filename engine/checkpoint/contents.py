"""What a run's snapshot says about itself, in the form of each release, brought to the present one.

The file's own format has its version in the file (`engine/checkpoint/file.py`); this is about the contents: the
keys of its meta, and the names of its arrays. Version 1 had no number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from engine.checkpoint.errors import CheckpointError, NewerFormat
from engine.checkpoint.file import Arrays, Meta
from engine.checkpoint.store import Snapshot
from engine.packed import under
from engine.state_before import forecasts_of, learner_of, metrics_of
from streams.join_before import arrays_of

POSITION_KEYS = (
    "positions",
    "last",
    "stages",
    "marks",
    "order",
    "cursor",
    "dead_cursor",
    "report_cursor",
    "finished",
)
"""The keys that say where a run stands in its topics; they belong together and are replaced together."""


def _to_2(arrays: Arrays, meta: Meta) -> tuple[Arrays, Meta]:
    """No fingerprints, no numbered order, no freezing and no pacing before; labels and ids waited as JSON."""
    shard: dict[str, Any] = {"refusals": [], "frozen": False, "pacer": None, **meta["shard"]}
    if "ids" in shard.get("join", {}):
        join, shard["join"] = arrays_of(shard["join"])
        arrays = {**arrays, **{f"join/{name}": array for name, array in join.items()}}
    absent: Meta = {"last": [], "stages": [], "marks": [], "order": {"next": 0}, "report_cursor": None}
    absent |= {"began": [], "refused_lately": None}
    return arrays, {**absent, **meta, "shard": shard}


def _to_3(arrays: Arrays, meta: Meta) -> tuple[Arrays, Meta]:
    """Names, waiting forecasts and ranks stood as JSON before."""
    shard = dict(meta["shard"])
    for part, form in (("learner", learner_of), ("pending", forecasts_of), ("metrics", metrics_of)):
        arrays, shard[part] = _formed(arrays, shard.get(part, {}), part, form)
    return arrays, {**meta, "shard": shard}


def _to_4(arrays: Arrays, meta: Meta) -> tuple[Arrays, Meta]:
    """A learner had two averages per feature before, and shorter records: `engine.forecast.unpack` reads them."""
    shard = dict(meta["shard"])
    arrays, shard["learner"] = _formed(arrays, shard.get("learner", {}), "learner", learner_of)
    return arrays, {**meta, "shard": shard}


def _formed(
    arrays: Arrays, meta: Meta, part: str, form: Callable[[Arrays, Meta], tuple[Mapping[str, Any], Any]]
) -> tuple[Arrays, Any]:
    """All arrays with those of one part, whose own meta this is, in another form; and that meta."""
    found, formed = form(under(arrays, f"{part}/"), meta)
    others = {name: array for name, array in arrays.items() if not name.startswith(f"{part}/")}
    return {**others, **{f"{part}/{name}": array for name, array in found.items()}}, formed


STEPS: list[Callable[[Arrays, Meta], tuple[Arrays, Meta]]] = [_to_2, _to_3, _to_4]
"""Entry i turns arrays and meta of version i + 1 into those of version i + 2; further ones are appended."""

CONTENTS = 1 + len(STEPS)
"""The version that is written, in the key `contents`."""


def up_to_date(snapshot: Snapshot) -> Snapshot:
    """A run's snapshot as this release would have written it.

    Raises CheckpointError for what is no run's snapshot, NewerFormat for one of a later release.

    >>> from pathlib import Path
    >>> old = {"config": {}, "shard": {}, "positions": [["events", 0, 7]], "cursor": 7, "dead_cursor": None,
    ...        "finished": False}
    >>> new = up_to_date(Snapshot(Path("a file"), 1, 1, {}, old)).meta
    >>> new["contents"], new["last"], new["order"]
    (4, [], {'next': 0})
    """
    arrays, meta = snapshot.arrays, snapshot.meta
    found = meta.get("contents", 1)
    if type(found) is not int or found < 1 or not {"config", "shard", "positions"} <= set(meta):
        raise CheckpointError(
            f"{snapshot.path}: is no snapshot of a run (its contents are {', '.join(sorted(meta)) or 'empty'}); "
            "expected one that `everlearn run` wrote"
        )
    if found > CONTENTS:
        raise NewerFormat(
            f"{snapshot.path}: contents of version {found}, this release reads up to {CONTENTS}; "
            "update everlearn, or use a checkpoint that this release wrote"
        )
    for step in STEPS[found - 1 :]:
        arrays, meta = step(arrays, meta)
    return snapshot._replace(arrays=arrays, meta={**meta, "contents": CONTENTS})
