"""What must not change between runs on the same snapshots, and what may, each with the reason."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from engine.checkpoint import CheckpointError

if TYPE_CHECKING:
    from engine.config.config import Config

MUST_STAY: dict[str, str] = {
    "task": "the model is a classifier or a regressor",
    "source.events": "positions are those of this topic",
    "source.labels": "positions are those of this topic",
    "source.shards": "a shard's partitions and its model belong together",
    "source.settings.isolation_level": "decides which records are read",
    "format.events": "records behind the snapshot are read again and must mean the same",
    "format.labels": "as format.events",
    "fields": "as format.events",
    "labels.max_age": "decides which labels meet their forecast",
    "labels.max_waiting": "as labels.max_age",
    "labels.max_bytes": "as labels.max_age",
    "labels.max_held": "as labels.max_age",
    "labels.corrections": "decides what is learned",
    "labels.correct_within": "as labels.corrections",
    "labels.remembered": "as labels.max_age",
    "labels.report": "the snapshot's cursor is a place in this topic",
    "duplicates.window": "decides which events are answered",
    "learning.at_most": "decides what is learned when",
    "learning.per": "as learning.at_most",
    "learning.max_queued": "as learning.at_most",
    "learner": "the model was made with these options",
    "memory.budget": "the memories have this size",
    "memory.kept": "as memory.budget",
    "forecasts.topic": "the snapshot's cursor is a place in this topic",
    "dead.topic": "the snapshot's cursor is a place in this topic",
}
"""Key, or section, → why. Resuming with another value would learn something else from the same records."""

MAY_CHANGE: dict[str, str] = {
    "source.broker": "positions are checked against the log that answers",
    "source.log": "as source.broker",
    "source.client": "both clients deliver the same records",
    "source.from": "a word or a time counts for a first run alone; a file of history is read by every run, "
    "give the same again",
    "source.bounded": "a bounded run may be gone on from live",
    "source.group": "who owns a shard does not change what it learns",
    "source.instance": "as source.group",
    "source.batch": "batches of any size give the same model",
    "source.settings": "how a broker is reached, but for isolation_level",
    "format.registry": "how the registry is reached",
    "learning.frozen": "thawing is recorded in the order of records",
    "snapshots": "where, how often and how many",
    "forecasts.transactional": "how answers are written",
    "dead.max_ratio": "when the run stops",
    "dead.over": "as dead.max_ratio",
    "dead.max_run": "as dead.max_ratio",
    "metrics": "how the run is watched",
    "log": "how the run is watched",
}
"""Key, or section, → why it is not part of the identity."""

_UNSAID = {"source.settings.isolation_level": "read_committed"}
"""What holds where settings of the broker's clients say nothing."""

MAY_BEGIN = ("dead.topic", "labels.report")
"""Outputs that may be added later: there is no cursor yet."""


def identity_of(config: Config) -> dict[str, Any]:
    """Key path → value, JSON-compatible, of all that must not change.

    >>> from engine.config.config import Config
    >>> config = Config(source={"log": "l", "events": "orders"}, snapshots={"folder": "s"})
    >>> identity_of(config)["source.events"], identity_of(config)["learner.seed"]
    ('orders', 0)
    """
    found: dict[str, Any] = {}
    for path in MUST_STAY:
        section, _, name = path.partition(".")
        value = getattr(config, section)
        if name.startswith("settings."):
            found[path] = value.settings.get(name.removeprefix("settings."), _UNSAID[path])
        elif name:
            found[path] = getattr(value, name)
        elif hasattr(value, "model_dump"):
            found |= {f"{path}.{key}": part for key, part in value.model_dump(mode="json").items()}
        else:
            found[path] = value
    plain: dict[str, Any] = json.loads(json.dumps(found))
    return plain


def check_identity(asked: Mapping[str, Any], kept: Mapping[str, Any], where: str) -> None:
    """CheckpointError where a snapshot's identity is not the one asked for; where: the snapshot's name.

    What a snapshot does not name had its default when it was written. All differences are told at once.
    """
    asked = json.loads(json.dumps(dict(asked)))
    defaults = {} if asked.keys() == kept.keys() else _defaults()
    said = []
    for name in sorted({*asked, *kept}):
        a, k = asked.get(name, defaults.get(name)), kept.get(name, defaults.get(name))
        if a != k and not (k is None and name in MAY_BEGIN):
            said.append(f"{name} is {k!r} there, asked for {a!r}")
    if said:
        raise CheckpointError(
            f"{where}: {'; '.join(said)}; run with the same options, or with another folder for snapshots"
        )


def _defaults() -> dict[str, Any]:
    """What the settings that have a default stand at without being given."""
    from engine.config.config import Config

    config = Config.model_validate({"source": {"events": "events"}, "snapshots": {"folder": "snapshots"}})
    needed = ("source.events", "forecasts.topic")
    return {name: value for name, value in identity_of(config).items() if name not in needed}
