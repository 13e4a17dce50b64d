"""What settings must agree on: each disagreement with the keys it is about and what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

from engine.config.config import Config

Named: TypeAlias = Callable[[str], str]
"""The name by which a key was given: "--events", EVERLEARN_SOURCE__EVENTS, or the key path itself."""
Disagreement: TypeAlias = tuple[tuple[str, ...], str]

WITH_REGISTRY = ("avro", "json-schema")


def disagreements(config: Config, named: Named) -> Iterator[Disagreement]:
    """(key paths, what is wrong with them and what to do), for everything that does not fit together."""
    yield from _places(config, named)
    yield from _topics(config, named)
    yield from _formats(config, named)
    yield from _fields(config, named)
    yield from _learning(config, named)
    yield from _settings(config, named)


def _places(config: Config, named: Named) -> Iterator[Disagreement]:
    source = config.source
    if (source.broker is None) == (source.log is None):
        found = "neither" if source.log is None else "both"
        yield (
            ("source.broker", "source.log"),
            f"{found} of source.log and source.broker is given; expected one of --log FILE and --broker ADDRESS, "
            "or of these two keys",
        )
    needs_broker = {
        "source.group": source.group is not None,
        "source.client": source.client != "kafka-python",
        "source.shards": source.shards == "partition",
        "forecasts.transactional": config.forecasts.transactional,
    }
    for path, asked in needs_broker.items():
        if asked and source.broker is None:
            yield (
                (path, "source.broker"),
                f"{named(path)} is given without a broker; expected source.broker beside it, or leave it out",
            )
    if source.settings and source.broker is None:
        name = named("source.settings")
        other = "--broker" if name.startswith("--") else "source.broker"
        yield (
            ("source.settings", "source.broker"),
            f"{name} is given without {other}; expected both or neither",
        )
    for path, asked in (
        ("source.shards", source.shards == "partition"),
        ("source.instance", source.instance is not None),
    ):
        if asked and source.group is None:
            yield (
                (path, "source.group"),
                f"{named(path)} is {_value(config, path)!r} without source.group; expected the consumer group "
                "through which processes share the shards. Set source.group",
            )
    if isinstance(source.start, Path) and source.log is not None and source.start == source.log:
        yield (
            ("source.from", "source.log"),
            f"{named('source.from')} is the embedded log {source.log} that is read; expected a file of history, "
            "or beginning for all of the log",
        )


def _topics(config: Config, named: Named) -> Iterator[Disagreement]:
    read = {"source.events": config.source.events, "source.labels": config.source.labels}
    written = {
        "forecasts.topic": config.forecasts.topic,
        "dead.topic": config.dead.topic,
        "labels.report": config.labels.report,
    }
    told: set[frozenset[str]] = set()
    for path, topic in written.items():
        for other, its in (read | written).items():
            pair = frozenset((path, other))
            if topic is not None and topic == its and other != path and pair not in told:
                told.add(pair)
                yield (
                    (path, other),
                    f"{named(path)} and {named(other)} are both topic {topic!r}; expected a topic of its own for "
                    f"what is written, because a run that goes on cuts it back. Use another {named(path)}",
                )


def _formats(config: Config, named: Named) -> Iterator[Disagreement]:
    form, registry = config.format, config.format.registry
    for path, asked in (("format.events", form.events), ("format.labels", form.labels)):
        if asked in WITH_REGISTRY and registry.url is None:
            yield (
                (path, "format.registry.url"),
                f"{named(path)} is {asked!r} without format.registry.url; expected the address of the schema "
                "registry, such as http://registry:8081",
            )
    if config.source.labels == config.source.events and form.events != form.labels:
        yield (
            ("format.labels", "format.events"),
            f"{named('format.labels')} is {form.labels!r} and {named('format.events')} is {form.events!r}, but "
            f"both are in topic {config.source.events!r}; expected one form per topic",
        )
    if (registry.username is None) != (registry.password is None):
        yield (
            ("format.registry.username", "format.registry.password"),
            "one of format.registry.username and format.registry.password is given; expected both or neither",
        )
    if registry.token is not None and registry.username is not None:
        yield (
            ("format.registry.token", "format.registry.username"),
            "format.registry.token and format.registry.username are both given; expected one way to log in",
        )


def _fields(config: Config, named: Named) -> Iterator[Disagreement]:
    fields = config.fields
    given = [f"fields.{name}" for name, value in fields if value != type(fields).model_fields[name].default]
    of_labels = [path for path in given if path.startswith("fields.label")]
    of_events = [path for path in given if path not in (*of_labels, "fields.time_unit")]
    if given == ["fields.time_unit"]:
        of_events = given
    for path in ("fields.id", "fields.time"):
        if of_events and path not in given:
            special = "$key for the message's key" if path == "fields.id" else "$timestamp for the message's"
            yield (
                (path,),
                f"{named(of_events[0])} is given without {path}; expected the field that holds the event's "
                f"{path.removeprefix('fields.')}, or {special}. Without any of [fields] messages are canonical",
            )
    if of_labels and config.source.labels is None:
        path = of_labels[0]
        yield (
            (path, "source.labels"),
            f"{named(path)} is given without source.labels; expected the topic of labels, or fields.target where "
            "events carry their label",
        )
    for path in ("fields.label_id", "fields.label_time", "fields.label"):
        if of_labels and path not in given:
            yield (
                (path,),
                f"{named(of_labels[0])} is given without {path}; expected fields.label_id, "
                "fields.label_time and fields.label together",
            )
    if given and config.source.labels == config.source.events:
        yield (
            (given[0], "source.labels"),
            f"{named(given[0])} is given and events and labels are both in topic {config.source.events!r}; "
            "expected a topic of their own for labels, because fields cannot tell the two apart",
        )
    if fields.features != "*" and fields.exclude:
        yield (
            ("fields.exclude", "fields.features"),
            f"{named('fields.exclude')} is given beside a list of fields.features; expected it with "
            'features = "*" alone',
        )


def _learning(config: Config, named: Named) -> Iterator[Disagreement]:
    learning = config.learning
    if (learning.at_most is None) != (learning.per is None):
        there, lacks = ("at_most", "per") if learning.per is None else ("per", "at_most")
        yield (
            ("learning.at_most", "learning.per"),
            f"{named(f'learning.{there}')} is given without learning.{lacks}; expected both: at most so many "
            "labels per so many seconds of event time",
        )


def _settings(config: Config, named: Named) -> Iterator[Disagreement]:
    """kafka-python's settings one by one, then together."""
    from streams.broker_config import check_options
    from streams.errors import BrokerConfigError

    if not config.source.settings:
        return
    told = False
    for name, value in config.source.settings.items():
        path = f"source.settings.{name}"
        if name.endswith("_password_file"):
            name, value = name.removesuffix("_file"), "in a file"
            if name in config.source.settings:
                told = True
                yield (
                    (path,),
                    f"{named(path)} and source.settings.{name} are both given; expected one of them",
                )
        elif hasattr(value, "get_secret_value"):
            value = value.get_secret_value()
        try:
            if name != "security_protocol" or not str(value).startswith("SASL"):
                check_options({name: value})
        except BrokerConfigError as error:
            told = True
            yield (path,), f"{named('source.settings')}: {error}"
    if not told:
        try:
            check_options(config.broker_options)
        except BrokerConfigError as error:
            yield ("source.settings",), f"{named('source.settings')}: {error}"


def _value(config: Config, path: str) -> object:
    section, _, name = path.partition(".")
    return getattr(getattr(config, section), name)
