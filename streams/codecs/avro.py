"""Avro messages that were written through a schema registry: bytes to dicts, by the schema they name.

Two kinds of schema are refused, because a few bytes of such a message could end the process: one that holds
itself (depth without limit), and arrays of items that take no bytes (length without limit).
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

from streams.codecs.message import Parse, Unreadable
from streams.codecs.registry import Schema, SchemaRegistry, extra, framed

_AROUND = "EverlearnMessage"  # without a namespace, which names inside would take on
_PRIMITIVE = {"null", "boolean", "int", "long", "float", "double", "bytes", "string"}


def avro_parser(registry: SchemaRegistry) -> Parse:
    """What reads Avro messages, each by the schema whose number it carries.

    The reader raises Unreadable with the reason, and RegistryUnavailable where a schema cannot be fetched.
    Raises MissingExtra where fastavro is not installed.
    """
    reader = extra("fastavro").schemaless_reader
    known: dict[int, Any] = {}  # number → parsed schema, or the reason why there is none

    def parse(raw: bytes) -> Any:
        number, body = framed(raw)
        schema = known.get(number)
        if schema is None:
            try:
                schema = parsed(registry.schema(number))
            except _Unfit as error:
                schema = str(error)
            known[number] = schema
        if isinstance(schema, str):
            raise Unreadable(schema)
        buffer = io.BytesIO(body)
        try:
            found = reader(buffer, schema, None)
        except (
            Exception
        ) as error:  # bytes that are no message of this schema: it raises what it stumbles over
            raise Unreadable(f"not readable by Avro schema {number}: {_said(error)}") from error
        left = len(body) - buffer.tell()
        if left:
            raise Unreadable(
                f"{left:,} bytes are left behind the message; Avro schema {number} ends before them"
            )
        return found["message"]

    return parse


class _Unfit(Exception):
    """A schema that no message is read by, with the reason."""


def parsed(schema: Schema) -> Any:
    """The schema as fastavro reads by it; _Unfit says why it cannot be used.

    It is the one field of a record around it, which takes no bytes of its own: so that unions and names, which
    carry no definitions with them, are read as records are.
    """
    if schema.kind != "AVRO":
        raise _Unfit(f"schema {schema.number} is of kind {schema.kind}; expected AVRO, set another format")
    parse_schema = extra("fastavro").parse_schema
    names: dict[str, Any] = {}
    try:
        for text in schema.references.values():
            parse_schema(json.loads(text), named_schemas=names)
        message = {"name": "message", "type": json.loads(schema.text)}
        found = parse_schema({"type": "record", "name": _AROUND, "fields": [message]}, named_schemas=names)
        _least(found, names, frozenset())
    except _Unfit as error:
        raise _Unfit(f"schema {schema.number} is not supported: {error}") from error
    except Exception as error:  # not JSON, not Avro: whatever stands in the registry
        raise _Unfit(f"schema {schema.number} is no Avro schema: {_said(error)}") from error
    return found


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:300]


def _least(schema: Any, names: Mapping[str, Any], inside: frozenset[str]) -> int:
    """The least bytes a value takes; _Unfit for a schema that holds itself, or items that take none."""
    if isinstance(schema, list):
        return 1 + min((_least(branch, names, inside) for branch in schema), default=0)
    if isinstance(schema, str):
        if schema in _PRIMITIVE:
            return {"null": 0, "float": 4, "double": 8}.get(schema, 1)
        if schema in inside:
            raise _Unfit(f"{schema} holds itself, and its depth has no limit; expected one that does not")
        return _least(names[schema], names, inside)
    kind = schema["type"]
    if kind in ("record", "error"):
        within = inside | {schema["name"]}
        return sum(_least(field["type"], names, within) for field in schema["fields"])
    if kind == "array":
        if not _least(schema["items"], names, inside):
            raise _Unfit("it holds an array whose items take no bytes, and its length has no limit")
        return 1
    if kind == "map":
        _least(schema["values"], names, inside)
        return 1
    if kind == "fixed":
        return int(schema["size"])
    if kind == "enum":
        return 1
    return _least(kind, names, inside)
