"""What a run's snapshot says about itself, in the form of each release, brought to the present one.

The file's own format has its version in the file (`engine/checkpoint_file.py`); this is about the contents:
the keys of its meta. Version 1 had no number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from engine.checkpoint_errors import CheckpointError, NewerFormat

POSITION_KEYS = ("positions", "last", "stages", "marks", "order", "cursor", "dead_cursor", "finished")
"""The keys that say where a run stands in its topics; they belong together and are replaced together."""


def _to_2(meta: dict[str, Any]) -> dict[str, Any]:
    """No fingerprints, no numbered order and no freezing before; the earliest also had no reasons of refusals."""
    shard = {"refusals": [], "frozen": False, **meta["shard"]}
    return {"last": [], "stages": [], "marks": [], "order": {"next": 0}, **meta, "shard": shard}


STEPS: list[Callable[[dict[str, Any]], dict[str, Any]]] = [_to_2]
"""Entry i turns the meta of version i + 1 into that of version i + 2; further ones are appended."""

CONTENTS = 1 + len(STEPS)
"""The version that is written, in the key `contents`."""


def up_to_date(meta: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The meta of a run's snapshot as this release would have written it; where: the file, for errors.

    Raises CheckpointError for what is no run's snapshot, NewerFormat for one of a later release.

    >>> old = {"config": {}, "shard": {}, "positions": [["events", 0, 7]], "cursor": 7, "dead_cursor": None,
    ...        "finished": False}
    >>> new = up_to_date(old, "a file")
    >>> new["contents"], new["last"], new["order"]
    (2, [], {'next': 0})
    """
    found = meta.get("contents", 1)
    if type(found) is not int or found < 1 or not {"config", "shard", "positions"} <= set(meta):
        raise CheckpointError(
            f"{where}: is no snapshot of a run (its contents are {', '.join(sorted(meta)) or 'empty'}); "
            "expected one that `everlearn run` wrote"
        )
    if found > CONTENTS:
        raise NewerFormat(
            f"{where}: contents of version {found}, this release reads up to {CONTENTS}; "
            "update everlearn, or use a checkpoint that this release wrote"
        )
    brought = dict(meta)
    for step in STEPS[found - 1 :]:
        brought = step(brought)
    return {**brought, "contents": CONTENTS}
