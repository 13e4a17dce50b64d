"""One description of a run: task and sections, and what a run asks of them together.

`engine.config.settings.read_config` makes a `Config` from a TOML file, environment variables and command-line
options; `Config(...)` in Python takes the same names and reads nothing else. What must not change between
runs on the same snapshots is listed in `engine.config.identity`, what settings must agree on in
`engine.config.cross_checks`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from engine.config.sections import (
    DeadSection,
    DuplicatesSection,
    FieldsSection,
    ForecastsSection,
    FormatSection,
    LabelsSection,
    LearnerSection,
    LearningSection,
    LogSection,
    MemorySection,
    MetricsSection,
    SnapshotsSection,
    SourceSection,
    Task,
)
from engine.config.starts import Start


class Config(BaseSettings):
    """A run: what to read, how to learn, where to answer. In Python every section takes a dict.

    Raises pydantic.ValidationError, a ValueError, for unknown names and values that cannot be used.

    >>> config = Config(source={"log": "shop.log", "events": "orders"}, snapshots={"folder": "snapshots"})
    >>> config.forecasts.topic, config.learner.width, config.source.start
    ('orders.forecasts', 64, None)
    """

    model_config = SettingsConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    task: Task = Field(default="classification", description="what labels are: classification or regression")
    source: SourceSection
    format: FormatSection = FormatSection()
    fields: FieldsSection = FieldsSection()
    labels: LabelsSection = LabelsSection()
    duplicates: DuplicatesSection = DuplicatesSection()
    learning: LearningSection = LearningSection()
    learner: LearnerSection = LearnerSection()
    memory: MemorySection = MemorySection()
    snapshots: SnapshotsSection
    forecasts: ForecastsSection
    dead: DeadSection = DeadSection()
    metrics: MetricsSection = MetricsSection()
    log: LogSection = LogSection()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        *others: PydanticBaseSettingsSource,
        **more: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What is given, and nothing else: files and variables are read by `engine.config.settings` alone."""
        return (init_settings,)

    @model_validator(mode="before")
    @classmethod
    def _answers(cls, values: dict[str, Any]) -> dict[str, Any]:
        """The topic of answers follows from that of the events where it is not given."""
        source, forecasts = values.get("source"), values.get("forecasts", {})
        events = source.get("events") if isinstance(source, dict) else None
        if isinstance(events, str) and isinstance(forecasts, dict) and "topic" not in forecasts:
            return {**values, "forecasts": {**forecasts, "topic": f"{events}.forecasts"}}
        return values

    @property
    def start(self) -> Start | None:
        """Where a first run begins: "beginning", "end", seconds since 1970, or a file; None: not said."""
        return self.source.start

    @property
    def topics(self) -> list[str]:
        """The topics to read."""
        return list(
            dict.fromkeys([self.source.events, *([self.source.labels] if self.source.labels else [])])
        )

    @property
    def outputs(self) -> list[str]:
        """The topics to write."""
        return [topic for topic in (self.forecasts.topic, self.dead.topic, self.labels.report) if topic]

    @property
    def learner_options(self) -> dict[str, Any]:
        """What the learner's constructor takes."""
        options: dict[str, Any] = self.learner.model_dump()
        options["keys"] = tuple(tuple(key) if isinstance(key, list) else key for key in options["keys"])
        options["memory_budget"] = self.memory.budget
        if self.task == "regression":
            del options["max_classes"], options["recall_heads"]
            return options
        return {**options, "kept_bytes": self.memory.kept}

    @property
    def broker_options(self) -> dict[str, Any]:
        """kafka-python's settings as its clients take them, passwords in plain: show them to nobody.

        Raises BrokerConfigError where the file of a password cannot be read.
        """
        plain: dict[str, Any] = {}
        for name, value in self.source.settings.items():
            if name.endswith("_password_file"):
                plain[name.removesuffix("_file")] = _password(name, value)
            elif isinstance(value, list):
                plain[name] = tuple(tuple(item) if isinstance(item, list) else item for item in value)
            else:
                plain[name] = value.get_secret_value() if isinstance(value, SecretStr) else value
        return plain


def _password(name: str, path: str) -> str:
    from streams.errors import BrokerConfigError

    try:
        return Path(path).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise BrokerConfigError(
            f"source.settings.{name} names a file that cannot be read ({reason}); "
            "expected a file that holds the password and nothing else"
        ) from None
