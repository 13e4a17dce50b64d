"""The metrics that a run shows: name, kind, what it means, and the labels beside the shard's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["counter", "gauge", "histogram", "summary"]


@dataclass(frozen=True)
class Family:
    """One metric; counters gain "_total" in their samples. bounds: of a histogram's buckets, ascending."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    bounds: Sequence[float] = ()


_PLACE = ("topic", "partition")
_PARTS = tuple(digit * 10.0**power for power in range(-6, 2) for digit in (1.0, 2.5, 5.0))
_DELAYS = (
    1.0,
    10.0,
    60.0,
    300.0,
    900.0,
    1800.0,
    *(3600.0 * n for n in (1, 2, 4, 8, 12, 24, 48, 96, 168, 336)),
)

FAMILIES: tuple[Family, ...] = (
    Family("everlearn_records", "counter", "Records taken from the log.", _PLACE),
    Family("everlearn_next_offset", "gauge", "Offset of the record that comes next.", _PLACE),
    Family("everlearn_lag_records", "gauge", "Records in the log that are not taken yet.", _PLACE),
    Family(
        "everlearn_broker_away_seconds",
        "gauge",
        "Seconds for which no broker has answered; 0 while one does.",
    ),
    Family("everlearn_events", "counter", "Events read."),
    Family("everlearn_answered_events", "counter", "Events that were answered with a forecast."),
    Family(
        "everlearn_replayed_events",
        "counter",
        "Events answered once more after a resume: they had been answered after the snapshot.",
    ),
    Family("everlearn_labels", "counter", "Labels read from a topic of their own."),
    Family(
        "everlearn_learned_labels", "counter", "Labels that were learned, those within events among them."
    ),
    Family("everlearn_unlearned_labels", "counter", "Labels scored and not learned: learning was frozen."),
    Family("everlearn_model_version", "gauge", "Labels that the model has learned in all its life."),
    Family(
        "everlearn_join",
        "counter",
        "What became of labels and events that were matched by id.",
        ("outcome",),
    ),
    Family("everlearn_waiting_forecasts", "gauge", "Forecasts that wait for their label."),
    Family(
        "everlearn_waiting_forecasts_bytes", "gauge", "Memory of the forecasts that wait for their label."
    ),
    Family("everlearn_held_labels", "gauge", "Labels that wait for their event."),
    Family("everlearn_paced_labels", "gauge", "Labels that wait because learning is paced."),
    Family(
        "everlearn_label_delay_seconds",
        "histogram",
        "Event time from an event to its label, of labels learned.",
        bounds=_DELAYS,
    ),
    Family("everlearn_refused_records", "counter", "Records that could not be used.", ("kind",)),
    Family(
        "everlearn_event_time_lag_seconds",
        "gauge",
        "The wall clock minus the event time of the last record, when that was taken.",
    ),
    Family("everlearn_event_time_seconds", "gauge", "Event time of the last record, since 1970-01-01 UTC."),
    Family(
        "everlearn_decode_seconds",
        "histogram",
        "Reading one record's bytes; one in 16 is measured, for all.",
        bounds=_PARTS,
    ),
    Family(
        "everlearn_forecast_seconds",
        "histogram",
        "One forecast; one in 16 is measured, for all.",
        bounds=_PARTS,
    ),
    Family(
        "everlearn_learn_seconds",
        "histogram",
        "Learning one label; one in 16 is measured, for all.",
        bounds=_PARTS,
    ),
    Family(
        "everlearn_together_seconds",
        "histogram",
        "Forecasting and learning one event of several that carry their labels and go together, in equal shares.",
        bounds=_PARTS,
    ),
    Family(
        "everlearn_answer_seconds",
        "histogram",
        "From taking an event to its answer, learning its own label included; of several together, a share.",
        bounds=_PARTS,
    ),
    Family(
        "everlearn_flush_seconds",
        "histogram",
        "Making answers and dead letters durable, once.",
        bounds=_PARTS,
    ),
    Family(
        "everlearn_journal_seconds",
        "histogram",
        "Making the order of records durable, once.",
        bounds=_PARTS,
    ),
    Family(
        "everlearn_snapshot_seconds",
        "histogram",
        "Copying and writing one snapshot until it was durable.",
        bounds=_PARTS,
    ),
    Family("everlearn_snapshot_age_seconds", "gauge", "Seconds since the last snapshot was durable."),
    Family("everlearn_snapshot_bytes", "gauge", "Size of the last snapshot."),
    Family("everlearn_snapshot_generation", "gauge", "Generation of the last snapshot: one per process."),
    Family("everlearn_snapshot_sequence", "gauge", "Number of the last snapshot within its generation."),
    Family(
        "everlearn_log_loss",
        "summary",
        "Log loss of what was answered, weighted; sum over count is the mean (classification).",
    ),
    Family(
        "everlearn_errors",
        "summary",
        "Answers that were wrong, weighted; sum over count is the share (classification).",
    ),
    Family("everlearn_absolute_error", "summary", "Absolute error of what was answered (regression)."),
    Family("everlearn_squared_error", "summary", "Squared error of what was answered (regression)."),
    Family("everlearn_drifts", "counter", "Moments at which the loss rose above what it had been."),
    Family("everlearn_expert_weight", "gauge", "Weight of an expert in the mixture.", ("expert",)),
    Family(
        "everlearn_rebalances", "counter", "Shards gained, revoked and lost by this process.", ("change",)
    ),
    Family("everlearn_shards", "gauge", "Shards that this process owns and turns."),
    Family("everlearn_build_info", "gauge", "Always 1; the release is in its label.", ("version",)),
)

OF_THE_PROCESS = ("everlearn_rebalances", "everlearn_shards", "everlearn_build_info")
"""These have no label `shard`."""


def labels_of(family: Family) -> tuple[str, ...]:
    """All label names of a metric, in order.

    >>> [labels_of(family) for family in FAMILIES if family.name == "everlearn_lag_records"]
    [('shard', 'topic', 'partition')]
    """
    return family.labels if family.name in OF_THE_PROCESS else ("shard", *family.labels)


def sample_names() -> set[str]:
    """The names under which Prometheus sees them.

    >>> sorted(name for name in sample_names() if "log_loss" in name)
    ['everlearn_log_loss_count', 'everlearn_log_loss_sum']
    """
    ends = {"counter": ("_total",), "gauge": ("",), "summary": ("_sum", "_count")}
    ends["histogram"] = ("_bucket", "_sum", "_count")
    return {family.name + end for family in FAMILIES for end in ends[family.kind]}
