"""`everlearn config`: the effective configuration with where each value came from, and examples to start from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

import typer

if TYPE_CHECKING:
    from engine.config.settings import Settings

HIDDEN = "**********"  # what pydantic shows of a secret
TEMPLATES = Path(__file__).parent.parent / "config" / "templates"

configs = typer.Typer(help="Look at a run's configuration, or begin one.", no_args_is_help=True)


def examples() -> list[str]:
    """The names of the examples.

    >>> "kafka" in examples()
    True
    """
    return sorted(path.stem for path in TEMPLATES.glob("*.toml"))


@configs.command("show")
def show(
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="The run's configuration, as TOML.")
    ] = None,
) -> None:
    """Print every setting in force and where it came from, as TOML; secrets are hidden."""
    from engine.config.settings import read_config

    for line in lines(read_config(config)):
        typer.echo(line)


@configs.command("example")
def example(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Which; without it all are named.")
    ] = None,
) -> None:
    """Print a commented example: everlearn config example kafka > orders.toml."""
    if name is None:
        typer.echo("\n".join(f"{known:<12} {_about(known)}" for known in examples()))
        return
    if name not in examples():
        from difflib import get_close_matches

        from engine.config.errors import ConfigError

        near = get_close_matches(name, examples(), n=1, cutoff=0.0)[0]
        raise ConfigError(
            [f"there is no example {name!r}; the nearest is {near}. All: {', '.join(examples())}"]
        )
    typer.echo((TEMPLATES / f"{name}.toml").read_text(encoding="utf-8"), nl=False)


@configs.command("keys")
def list_keys(
    markdown: Annotated[bool, typer.Option("--markdown", help="As the tables of the documentation.")] = False,
) -> None:
    """Print every key with its type, its default and what it means."""
    for line in reference() if markdown else _plain():
        typer.echo(line)


def reference() -> Iterator[str]:
    """Every key as rows of Markdown tables, one table per section."""
    table = None
    for path, kind, default, what in _described():
        above, _, name = path.rpartition(".")
        if above != table:
            table = above
            title = f"`[{above}]`: {_purpose(above)}" if above else "At the top"
            yield from ("", f"## {title}", "", "| key | type | default | meaning |", "|---|---|---|---|")
        yield f"| `{name}` | {kind.replace('|', chr(92) + '|')} | {default} | {what} |"


def _plain() -> Iterator[str]:
    for path, kind, default, what in _described():
        yield f"{path}: {kind}; {f'default {default}' if default else 'none by default'}\n    {what}"


def _described() -> Iterator[tuple[str, str, str, str]]:
    """(path, type, default, meaning) of every key."""
    from engine.config.settings import keys

    for path, field in keys():
        if path == "forecasts.topic":
            default = "EVENTS.forecasts"
        elif field.is_required():
            default = "must be given"
        else:
            default = "" if field.default in (None, {}) else json.dumps(field.default)
        yield path, kind_of(field.annotation), default, str(field.description)


def kind_of(annotation: Any) -> str:
    """A type in the words of a file.

    >>> kind_of(int | None), kind_of(list[str | list[str]])
    ('whole number', 'list of text or list of text')
    """
    if getattr(annotation, "__metadata__", None):
        return kind_of(annotation.__origin__)
    if get_origin(annotation) is Literal:
        return " | ".join(str(choice) for choice in get_args(annotation))
    if get_origin(annotation) is list:
        return f"list of {kind_of(get_args(annotation)[0])}"
    if get_origin(annotation) is dict:
        return "table"
    if get_origin(annotation) in (Union, UnionType):
        return " or ".join(kind_of(part) for part in get_args(annotation) if part is not type(None))
    words = {"bool": "true or false", "int": "whole number", "float": "number", "str": "text", "Path": "path"}
    return words.get(annotation.__name__, "text, secret")


def _purpose(section: str) -> str:
    """The first sentence of a section's docstring, as the rest of a title."""
    from engine.config.config import Config

    model: Any = Config
    for name in section.split("."):
        model = model.model_fields[name].annotation
    first = str(model.__doc__).partition("\n\n")[0]
    return first[0].lower() + " ".join(first[1:].split()).rstrip(".")


def lines(settings: Settings) -> Iterator[str]:
    """The effective configuration as TOML, with where each value came from behind it."""
    from engine.config.settings import keys

    values = settings.config.model_dump(mode="json", by_alias=True)
    table = ""
    for path, _ in keys():
        above, _, name = path.rpartition(".")
        if path == "source.settings":
            continue
        if above != table:
            if table == "source":
                yield from _of_broker(settings)
            table = above
            yield from ("", f"[{above}]")
        yield _line(name, _at(values, path), settings, path)


def _of_broker(settings: Settings) -> Iterator[str]:
    """The table of the broker's settings, where there are any."""
    from engine.config.sections import is_secret

    found = settings.config.source.settings
    if found:
        yield from ("", "[source.settings]")
    for name, value in found.items():
        yield _line(name, HIDDEN if is_secret(name) else value, settings, f"source.settings.{name}")


def _line(name: str, value: Any, settings: Settings, path: str) -> str:
    origin = settings.origin(path)
    if value is None or value == HIDDEN:
        text = f"# {name}: {value or 'none'}"
    else:  # JSON's text, numbers, truth values and lists are TOML's too
        text = f"{name} = {json.dumps(value, ensure_ascii=False)}"
    return f"{text:<48} # {' '.join(part for part in origin if part)}"


def _at(values: Any, path: str) -> Any:
    for name in path.split("."):
        values = values[name]
    return values


def _about(name: str) -> str:
    first = (TEMPLATES / f"{name}.toml").read_text(encoding="utf-8").splitlines()[0]
    return first.removeprefix("# ").partition(":")[0].rstrip(".")
