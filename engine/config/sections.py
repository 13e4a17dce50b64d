"""The sections of a configuration: every key with its type, default and meaning."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationInfo, field_validator

from engine.config.starts import StartAt

Task = Literal["classification", "regression"]
Topic = Annotated[str, Field(min_length=1, max_length=249, pattern=r"^[a-zA-Z0-9._-]+$")]
Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Step = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Wire = Literal["json", "msgpack", "avro", "json-schema"]


def is_secret(name: str) -> bool:
    """Whether a setting of this name must never be shown.

    >>> is_secret("sasl_plain_password"), is_secret("sasl_plain_password_file")
    (True, False)
    """
    return name.endswith(("password", "secret", "token"))


def may_hold_a_secret(path: str) -> bool:
    """Whether an error about this key must not repeat its value: secrets stand there, in it or around it.

    >>> may_hold_a_secret("source.settings"), may_hold_a_secret("format"), may_hold_a_secret("source.batch")
    (True, True, False)
    """
    places = ("source.settings", "format.registry")
    around = any(f"{place}.".startswith(f"{path}.") or path.startswith(f"{place}.") for place in places)
    return around or is_secret(path)


class Section(BaseModel):
    """A table of the file; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_numbers(cls, value: Any, info: ValidationInfo) -> Any:
        """Pydantic would take true for 1."""
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation is not bool:
            raise ValueError("expected a number or text")
        return value


class SourceSection(Section):
    """Where events and labels come from: a broker's topics or an embedded log, one of the two."""

    broker: str | None = Field(
        default=None, description="host:port of a Kafka broker, several joined by commas"
    )
    log: Path | None = Field(default=None, description="file of an embedded log, instead of a broker")
    events: Topic = Field(description="topic of events, with or without their label")
    labels: Topic | None = Field(
        default=None,
        description="topic of labels that come later; may be that of the events; none: events carry them",
    )
    client: Literal["kafka-python", "confluent"] = Field(
        default="kafka-python",
        description="library that talks to the broker; confluent needs everlearn[confluent]",
    )
    start: StartAt | None = Field(
        default=None,
        alias="from",
        description="where a first run begins: beginning, end, a time (ISO 8601, or seconds since 1970), or a "
        "file of history (CSV, Parquet, JSON lines, embedded log) that is learned before what is live; later "
        "runs go on from their snapshot",
    )
    bounded: bool = Field(
        default=False, description="end where the topics end now, instead of waiting for more"
    )
    group: str | None = Field(
        default=None,
        min_length=1,
        description="consumer group through which several processes share the shards",
    )
    instance: str | None = Field(
        default=None,
        min_length=1,
        description="this process's fixed name in the group, so that a restart moves nothing",
    )
    shards: Literal["all", "partition"] = Field(
        default="all",
        description="all: one model learns from all partitions, further members of the group stand by; "
        "partition: one model for each partition number",
    )
    batch: Count = Field(default=256, description="records per poll, at most")
    settings: dict[str, Any] = Field(
        default={},
        description="settings of the broker's clients by kafka-python's names, such as security_protocol; for a "
        "password also NAME_file, a file that holds it",
    )

    @field_validator("settings")
    @classmethod
    def _hidden(cls, settings: dict[str, Any]) -> dict[str, Any]:
        """Passwords are not shown by accident."""
        return {
            name: SecretStr(value) if is_secret(name) and isinstance(value, str) else value
            for name, value in settings.items()
        }


class RegistrySection(Section):
    """The schema registry that avro and json-schema need."""

    url: str | None = Field(
        default=None, pattern=r"^https?://", description="address of the registry, http:// or https://"
    )
    username: str | None = Field(default=None, description="name for its basic authentication")
    password: SecretStr | None = Field(default=None, description="password for it; best from the environment")
    token: SecretStr | None = Field(default=None, description="bearer token, instead of name and password")
    ca_file: Path | None = Field(
        default=None, description="file of the authorities that its certificate is checked by"
    )


class FormatSection(Section):
    """How messages are written."""

    events: Wire = Field(default="json", description="form of events: json, msgpack, avro or json-schema")
    labels: Wire = Field(default="json", description="form of labels")
    registry: RegistrySection = Field(default=RegistrySection(), description="for avro and json-schema")


class FieldsSection(Section):
    """Which fields of a message mean what; without this section messages have the canonical form.

    Dotted paths reach into nested objects: customer.id.
    """

    id: str | None = Field(default=None, description="field of the event's id; $key: the message's key")
    time: str | None = Field(
        default=None, description="field of the event's time; $timestamp: the message's timestamp"
    )
    time_unit: Literal["s", "ms", "us", "ns", "iso"] = Field(
        default="s",
        description="unit of times: s, ms, us or ns since 1970-01-01 UTC, or iso for ISO 8601 text",
    )
    features: list[str] | Literal["*"] = Field(
        default="*", description="fields that are features; *: all that mean nothing else here"
    )
    exclude: list[str] = Field(default=[], description="fields that are left out of *")
    weight: str | None = Field(default=None, description="field of the event's weight")
    target: str | None = Field(default=None, description="field of the label inside the event")
    label_id: str | None = Field(
        default=None, description="in labels: field of the event's id; $key as above"
    )
    label_time: str | None = Field(
        default=None, description="in labels: field of the time the label was known; $timestamp as above"
    )
    label: str | None = Field(default=None, description="in labels: field of the label itself")


class LabelsSection(Section):
    """How labels that come later find their forecasts."""

    max_age: Seconds = Field(
        default=14 * 86400.0, description="seconds of event time that a forecast waits for its label"
    )
    max_waiting: Count = Field(
        default=100_000, description="forecasts that wait, at most; the oldest gives way"
    )
    max_bytes: int = Field(
        default=1 << 30, ge=1 << 20, description="bytes of waiting forecasts, at most; the oldest gives way"
    )
    max_held: Count = Field(default=10_000, description="labels that wait for their event, at most")
    corrections: Literal["ignore", "learn"] = Field(
        default="ignore", description="a further label that differs: ignore it, or learn it too"
    )
    correct_within: Count = Field(
        default=10_000, description="labelled events that are kept so that a correction can be learned"
    )
    remembered: Count = Field(
        default=100_000,
        description="ids of labels that are remembered, to know late, repeated and corrected ones",
    )
    report: Topic | None = Field(
        default=None, description="topic for orphan, late, duplicate and corrected labels"
    )


class DuplicatesSection(Section):
    """Events that come twice."""

    window: Count = Field(
        default=100_000, description="ids that are remembered, so that an event is answered once"
    )


class LearningSection(Section):
    """Whether labels are learned, and how fast."""

    frozen: bool = Field(default=False, description="answer, and learn nothing")
    at_most: Count | None = Field(
        default=None, description="labels that are learned per interval, at most; the rest wait"
    )
    per: Seconds | None = Field(default=None, description="the interval, in seconds of event time")
    max_queued: Count = Field(default=100_000, description="labels that wait for their turn, at most")


class LearnerSection(Section):
    """Options of OnlineClassifier and OnlineRegressor by their names; memory has its own section."""

    layers: Count = Field(default=3, description="local layers in a stack")
    width: Count = Field(default=64, description="units in a layer")
    activation: Literal["leaky_relu", "tanh", "sigmoid"] = Field(
        default="leaky_relu", description="of the layers"
    )
    rate: Step = Field(default=0.003, description="step size of the fast stack")
    slow_rate: Step = Field(default=0.0001, description="step size of the slow stack")
    linear_rate: Step = Field(default=0.02, description="step size of the linear expert")
    neighbours: int = Field(default=12, ge=2, description="events recalled per memory and forecast")
    context: bool = Field(default=True, description="layers also read features against their recent averages")
    recall: bool = Field(default=True, description="layers also read what the memories say")
    recall_heads: bool = Field(
        default=True, description="in classification, the heads of the layers add it to what they say"
    )
    metric: bool = Field(default=True, description="the memories' distances are learned")
    trees: bool = Field(
        default=True, description="sliding-window trees are among the experts; not over images alone"
    )
    early: bool = Field(
        default=True, description="one greedy tree on the first 200 events is among the experts"
    )
    sleep: bool = Field(default=True, description="experts that earn nothing fall asleep and cost no time")
    concepts: bool = Field(
        default=True, description="what was learned of a concept is stored, and taken up when it comes back"
    )
    label_history: bool = Field(
        default=False, description="forecasts may use the labels that came just before"
    )
    anomaly: bool = Field(default=False, description="answers say how unlike earlier events each event is")
    keys: list[str | list[str]] = Field(
        default=[], description="fields that name entities, or lists of fields that do together"
    )
    horizons: list[Seconds] = Field(
        default=[3600.0, 21600.0, 86400.0, 864000.0],
        min_length=1,
        description="seconds of event time over which a key's outcomes are counted",
    )
    category_horizons: list[Annotated[float, Field(ge=500, allow_inf_nan=False)]] = Field(
        default=[1_000.0, 10_000.0],
        min_length=1,
        description="events over which a category's outcomes are counted",
    )
    max_features: Count = Field(default=4_096, description="names of features; further ones share places")
    max_classes: int = Field(
        default=1_024, ge=2, description="classes, in classification; a further one is refused"
    )
    seed: int = Field(default=0, ge=0, description="of all randomness")


class MemorySection(Section):
    """Stored experience."""

    budget: int = Field(default=256 << 20, ge=1 << 20, description="bytes of stored experience, at most")
    kept: int = Field(
        default=8_000_000,
        ge=0,
        description="bytes of examples kept to be learned again, of images or many features, in classification",
    )


class SnapshotsSection(Section):
    """Where and when everything that changes is kept."""

    folder: Path = Field(description="folder of snapshots, local or shared; made where it is not there")
    keep: Count = Field(default=3, description="newest snapshots that are kept")
    hourly: int = Field(
        default=0,
        ge=0,
        description="hours of which the last snapshot is kept besides; hours without one do not count",
    )
    daily: int = Field(
        default=0,
        ge=0,
        description="days (UTC) of which the last snapshot is kept besides; days without one do not count",
    )
    every_seconds: float = Field(
        default=30.0, ge=0.1, allow_inf_nan=False, description="seconds between snapshots"
    )
    every_records: Count = Field(
        default=20_000, description="records between snapshots, whichever comes first"
    )


class ForecastsSection(Section):
    """Where answers go."""

    topic: Topic = Field(description="topic of answers; EVENTS.forecasts where it is not given")
    transactional: bool = Field(
        default=False,
        description="one transaction per flush, so that readers of committed records see no answer twice",
    )


class DeadSection(Section):
    """Records that cannot be used."""

    topic: Topic | None = Field(
        default=None, description="topic of dead letters; none: only counts and reasons"
    )
    max_ratio: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="share of unusable records past which the run stops, everything being saved; 1: no limit",
    )
    over: Count = Field(default=1_000, description="records over which the share is measured")
    max_run: Count | None = Field(
        default=None,
        description="unusable records one after the other at which the run stops; none: no limit",
    )


class MetricsSection(Section):
    """Figures for Prometheus."""

    host: str = Field(default="127.0.0.1", min_length=1, description="address to listen on; 0.0.0.0 for all")
    port: int | None = Field(default=None, ge=1, le=65535, description="port of /metrics; none: not served")


class LogSection(Section):
    """Lines that the run writes about itself to standard error; without this section it writes none."""

    format: Literal["console", "json"] = Field(
        default="console", description="json: one object a line; console: the same keys for people"
    )
    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="what is left out below it"
    )
