"""Reads a run's configuration: a TOML file, environment variables over it, command-line options over both.

All that is wrong comes in one error, each with the place it was given, what was found and what was expected.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import EnvSettingsSource, TomlConfigSettingsSource

from engine.config.config import Config
from engine.config.cross_checks import disagreements
from engine.config.errors import ConfigError, expected, shown
from engine.config.sections import may_hold_a_secret

PREFIX = "EVERLEARN_"
OPTIONS = {
    "--task": "task",
    "--broker": "source.broker",
    "--log": "source.log",
    "--events": "source.events",
    "--labels": "source.labels",
    "--from": "source.from",
    "--bounded": "source.bounded",
    "--broker-config": "source.settings",
    "--key": "learner.keys",
    "--seed": "learner.seed",
    "--label-history": "learner.label_history",
    "--snapshots": "snapshots.folder",
    "--every-seconds": "snapshots.every_seconds",
    "--forecasts": "forecasts.topic",
    "--dead": "dead.topic",
}
"""Command-line option → the key it sets."""
_OPTION_OF = {path: option for option, path in OPTIONS.items()}
_PLACEHOLDERS = {"source.events": "events", "snapshots.folder": "snapshots"}


class Origin(NamedTuple):
    """Where a value came from; kind: default, file, environment or option, name: the file's, variable's, …"""

    kind: str
    name: str


DEFAULT = Origin("default", "")


class Settings(NamedTuple):
    """A configuration that fits together, and key path → where its value came from, for all but defaults."""

    config: Config
    origins: dict[str, Origin]

    def origin(self, path: str) -> Origin:
        """Where the value of a key came from."""
        return self.origins.get(path, DEFAULT)


def read_config(file: Path | None = None, options: Mapping[str, Any] | None = None) -> Settings:
    """The configuration of a run. options: command-line option → value, None where it is not given.

    Of source.broker and source.log, a later place that gives one sets aside the other of an earlier place.
    Raises ConfigError with everything that is wrong, OSError's text included where the file cannot be read.
    """
    reading = _Reading(file)
    if file is not None:
        reading.lay(reading.of_file(file), lambda path: Origin("file", str(file)))
    reading.lay(reading.of_environment(), lambda path: Origin("environment", variable(path)))
    given = {name: value for name, value in (options or {}).items() if not _absent(value)}
    broker_config = given.pop("--broker-config", None)
    reading.lay(_of_options(given), lambda path: Origin("option", _OPTION_OF[path]))
    reading.lay_broker_config(broker_config)
    return reading.finish()


def _absent(value: Any) -> bool:
    """Whether an option is not given; 0 is."""
    return value is None or value is False or value == []


def variable(path: str) -> str:
    """The environment variable of a key.

    >>> variable("source.settings.sasl_plain_password")
    'EVERLEARN_SOURCE__SETTINGS__SASL_PLAIN_PASSWORD'
    """
    return PREFIX + path.replace(".", "__").upper()


def keys() -> Iterator[tuple[str, FieldInfo]]:
    """Every key path with its field, in the order of the model; tables are not among them."""
    yield from _keys(Config, "")


def _keys(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        path = f"{prefix}{field.alias or name}"
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _keys(field.annotation, f"{path}.")
        else:
            yield path, field


def given_by_environment() -> bool:
    """Whether any variable of the environment is a setting."""
    known = {variable(path) for path, _ in keys()}
    return any(name in known or name.startswith(variable("source.settings") + "__") for name in os.environ)


class _Reading:
    """Values laid over one another, and what was wrong with them."""

    def __init__(self, file: Path | None) -> None:
        self.file = file
        self.values: dict[str, Any] = {}
        self.origins: dict[str, Origin] = {}
        self.problems: list[str] = []
        self.ill: set[str] = set()

    # -- the places -------------------------------------------------------------------------------------------

    def of_file(self, file: Path) -> dict[str, Any]:
        """The file's tables; ConfigError where it cannot be read at all."""
        try:
            if not file.is_file():
                file.read_bytes()  # raises why
            return dict(TomlConfigSettingsSource(Config, file)())
        except OSError as error:
            raise ConfigError(
                [f"--config {file}: cannot be read ({error.strerror}); expected a TOML file"]
            ) from None
        except ValueError as error:
            text = f"--config {file}: not TOML ({error}); see everlearn config example"
            raise ConfigError([text]) from None

    def of_environment(self) -> dict[str, Any]:
        """What variables say; those that name no setting are told."""
        known = {variable(path) for path, _ in keys()}
        joined = {name.replace("__", "_"): name for name in known}
        sections = {name for name in Config.model_fields if name != "task"}
        settings = variable("source.settings") + "__"
        for name in sorted(os.environ):
            if not name.startswith(PREFIX) or name in known or name.startswith(settings):
                continue
            rest = name.removeprefix(PREFIX)
            if "__" not in rest and rest.lower() not in sections and name not in joined:
                continue  # another variable of ours, such as EVERLEARN_DATA
            near = joined.get(name) or get_close_matches(name, sorted(known), n=1, cutoff=0.0)[0]
            self.problems.append(f"{name} is no setting; the nearest is {near}. Rename or unset it")
        found = dict(_Variables(Config)())
        source = found.get("source")
        if isinstance(source, dict) and isinstance(source.get("settings"), dict):
            from streams.broker_config import from_text

            source["settings"] = {
                name: from_text(name, text) if isinstance(text, str) else text
                for name, text in source["settings"].items()
            }
        return found

    def lay_broker_config(self, path: Path | None) -> None:
        """The file of --broker-config over everything else."""
        from streams.broker_config import read_options
        from streams.errors import BrokerConfigError

        if path is None:
            return
        if not self.values.get("source", {}).get("broker"):
            self.problems.append(
                f"--broker-config {path} is given without --broker; expected both or neither"
            )
            return
        try:
            values = {"source": {"settings": read_options(path)}}
        except BrokerConfigError as error:
            self.problems.append(str(error))
            return
        self.lay(values, lambda _: Origin("option", f"--broker-config {path}"))

    # -- laying over one another ------------------------------------------------------------------------------

    def lay(self, values: dict[str, Any], origin: Any) -> None:
        """Put values over those that are there."""
        source = values.get("source")
        if isinstance(source, dict) and isinstance(self.values.get("source"), dict):
            for one, other in (("broker", "log"), ("log", "broker")):
                if one in source and other not in source:
                    self.values["source"].pop(other, None)
        self._lay(self.values, values, "", origin)

    def _lay(self, under: dict[str, Any], over: dict[str, Any], prefix: str, origin: Any) -> None:
        for name, value in over.items():
            path = f"{prefix}{name}"
            if isinstance(value, dict):
                below = under.get(name)
                if not isinstance(below, dict):
                    below = under[name] = {}
                self._lay(below, value, f"{path}.", origin)
                self.origins.setdefault(path, origin(path)) if not value else None
            else:
                under[name] = value
                self.origins[path] = origin(path)

    # -- the result -------------------------------------------------------------------------------------------

    def finish(self) -> Settings:
        """The configuration; ConfigError where anything is wrong."""
        config = self._validated()
        if config is not None:
            for paths, text in disagreements(config, self.named):
                if not self.ill & set(paths):
                    self.problems.append(text)
        if self.problems or config is None:
            raise ConfigError(self.problems)
        return Settings(config, self.origins)

    def _validated(self) -> Config | None:
        """The configuration, without the values that were told to be ill; None where that leaves nothing."""
        for _ in range(3):  # what is dropped can be missed in its place
            for table in ("source", "snapshots", "forecasts"):  # a table that is not there lacks its keys
                self.values.setdefault(table, {})
            try:
                return Config(**self.values)
            except ValidationError as error:
                for found in error.errors(include_url=False):
                    self._tell(found)
        return None

    def _tell(self, found: Any) -> None:
        path, value = self._place(found["loc"])
        if path in self.ill:
            return
        self.ill.add(path)
        if found["type"] == "missing":
            if path == "forecasts.topic":
                self._set(path, "answers")
                return
            option = _OPTION_OF.get(path)
            ways = [f"{option}", variable(path)] if option else [variable(path)]
            name = path if self.file is not None or option is None else option
            what = next(field.description for key, field in keys() if key == path)
            self.problems.append(
                f"{name} is not given; expected the {what}. "
                f"Set {path} in the file of --config, or {' or '.join(ways)}"
            )
            self._set(path, _PLACEHOLDERS[path])
            return
        where = self.named(path, whole=True)
        from_variable = self.origins.get(path, DEFAULT).kind == "environment"
        if found["type"] == "extra_forbidden":
            if not from_variable:  # those have been told
                self.problems.append(f"{where} is no setting; {nearest(path)}")
        else:
            text = "not shown, because it may hold a secret" if may_hold_a_secret(path) else shown(value)
            self.problems.append(f"{where} is {text}; {expected(found, from_variable)}")
        self._drop(path)
        if path in _PLACEHOLDERS:
            self._set(path, _PLACEHOLDERS[path])
        if path == "source.events" or path == "forecasts":
            self.ill.add("forecasts.topic")

    def named(self, path: str, *, whole: bool = False) -> str:
        """A key by the name under which it was given; whole: with the file's name before it."""
        origin = self.origins.get(path)
        if origin is None:
            inner = [other for place, other in self.origins.items() if place.startswith(f"{path}.")]
            origin = inner[0] if inner and path == "source.settings" else DEFAULT
        if origin.kind in ("environment", "option"):
            return variable(path) if origin.kind == "environment" else origin.name
        if origin.kind == "default" and self.file is None:
            return _OPTION_OF.get(path, path)
        return f"{self.file}: {path}" if whole else path

    def _place(self, loc: tuple[int | str, ...]) -> tuple[str, Any]:
        """The key path that an error is about, and the value there."""
        value: Any = self.values
        parts: list[str] = []
        for part in loc:
            if not isinstance(value, dict) or not isinstance(part, str):
                break
            parts.append(part)
            if part not in value:
                value = None
                break
            value = value[part]
        return ".".join(parts), value

    def _drop(self, path: str) -> None:
        *above, last = path.split(".")
        table: Any = self.values
        for name in above:
            table = table.get(name, {})
        table.pop(last, None)

    def _set(self, path: str, value: Any) -> None:
        *above, last = path.split(".")
        table: Any = self.values
        for name in above:
            table = table.setdefault(name, {})
        table[last] = value


class _Variables(EnvSettingsSource):
    """Environment variables: lists as JSON, everything else as the text it is."""

    def __init__(self, settings: type[Config]) -> None:
        super().__init__(settings, env_prefix=PREFIX, env_nested_delimiter="__", env_ignore_empty=True)

    def decode_complex_value(self, field_name: str, field: FieldInfo | None, value: Any) -> Any:
        """A list from JSON; text that is none stays text, and is told where a list is expected."""
        if field is None:  # a setting of the broker's clients: its kind is known by its name
            return value
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            return {}  # a section as a whole is no setting, which has been told
        try:
            return super().decode_complex_value(field_name, field, value)
        except ValueError:
            return value


def _of_options(given: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for option, value in given.items():
        section, _, name = OPTIONS[option].partition(".")
        if name:
            values.setdefault(section, {})[name] = value
        else:
            values[section] = value
    return values


def nearest(path: str) -> str:
    """The known key that is most like this one: in its own table, or anywhere by its last name."""
    if path in ("learner.memory_budget", "learner.kept_bytes"):
        return f"expected memory.{'budget' if path.endswith('budget') else 'kept'}, its own section"
    known = [key for key, _ in keys()]
    tables = sorted({key.rpartition(".")[0] for key in known} - {""})
    table, _, last = path.rpartition(".")
    if not table:
        near = get_close_matches(path, [*tables, "task"], n=1, cutoff=0.6)
        if near:
            return f"the nearest is {near[0]}"
    names = {key.rpartition(".")[2]: key for key in reversed(known)}
    beside = [key for key in known if key.rpartition(".")[0] == table]
    if table:
        near = get_close_matches(path, beside, n=1, cutoff=0.75)
        if near:
            return f"the nearest is {near[0]}"
    elsewhere = get_close_matches(last, sorted(names), n=1, cutoff=0.75)
    if elsewhere:
        return f"the nearest is {names[elsewhere[0]]}"
    return f"the nearest is {get_close_matches(path, beside or known, n=1, cutoff=0.0)[0]}"
