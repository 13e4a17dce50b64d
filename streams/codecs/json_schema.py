"""JSON messages that were written through a schema registry: validated by the schema they name."""

from __future__ import annotations

import json
from typing import Any

from streams.codecs.json import parse_json
from streams.codecs.message import Parse, Unreadable, shown
from streams.codecs.registry import Schema, SchemaRegistry, extra, framed


def json_schema_parser(registry: SchemaRegistry) -> Parse:
    """What reads JSON messages, each validated by the schema whose number it carries.

    The reader raises Unreadable with the reason, and RegistryUnavailable where a schema cannot be fetched.
    Raises MissingExtra where jsonschema is not installed.
    """
    extra("jsonschema")
    known: dict[int, Any] = {}  # number → validator, or the reason why there is none

    def parse(raw: bytes) -> Any:
        number, body = framed(raw)
        validator = known.get(number)
        if validator is None:
            try:
                validator = validator_of(registry.schema(number))
            except _Unfit as error:
                validator = str(error)
            known[number] = validator
        if isinstance(validator, str):
            raise Unreadable(validator)
        found = parse_json(body)
        try:
            wrong = next(validator.iter_errors(found), None)
        except (
            Exception
        ) as error:  # a reference that leads nowhere, a pattern that is none, too deep a message
            raise Unreadable(f"cannot be held against schema {number}: {_said(error)}") from error
        if wrong is not None:
            raise Unreadable(_wrong(number, wrong))
        return found

    return parse


class _Unfit(Exception):
    """A schema that no message is validated by, with the reason."""


def validator_of(schema: Schema) -> Any:
    """The schema as jsonschema validates by it; _Unfit says why it cannot be used.

    The draft is the one the schema names, 2020-12 where it names none. What it refers to comes from the registry;
    nothing else is fetched.
    """
    if schema.kind != "JSON":
        raise _Unfit(f"schema {schema.number} is of kind {schema.kind}; expected JSON, set another format")
    jsonschema, referencing = extra("jsonschema"), extra("referencing")
    from referencing.jsonschema import DRAFT202012

    try:
        found = json.loads(schema.text)
        draft = jsonschema.validators.validator_for(found, default=jsonschema.Draft202012Validator)
        draft.check_schema(found)
        resources = [
            (name, referencing.Resource.from_contents(json.loads(text), default_specification=DRAFT202012))
            for name, text in schema.references.items()
        ]
        return draft(found, registry=referencing.Registry().with_resources(resources))
    except Exception as error:  # not JSON, no schema: whatever stands in the registry
        raise _Unfit(f"schema {schema.number} is no JSON schema: {_said(error)}") from error


def _wrong(number: int, error: Any) -> str:
    """Where a message breaks its schema, and which of its rules."""
    place = ".".join(map(str, error.absolute_path)) or "the message"
    if error.validator in ("required", "additionalProperties", "dependentRequired"):
        return f"{place} breaks schema {number}: {error.message[:200]}"
    return (
        f"{place} is {shown(error.instance)}, which breaks schema {number}: "
        f"expected {error.validator} {shown(error.validator_value)}"
    )


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:300]
