"""The front door: a format's name, a field map and a registry give what reads a topic, or what writes one."""

from __future__ import annotations

from typing import Any

import msgspec

from streams.codecs.fields import FieldMap
from streams.codecs.json import decode, encode_json, flat_json, parse_json
from streams.codecs.mapping import mapped
from streams.codecs.message import Encode, Parse, Unreadable, Wire, finite_item, reason
from streams.codecs.msgpack import decode_msgpack, encode_msgpack, flat_msgpack, parse_msgpack
from streams.codecs.registry import SchemaRegistry
from streams.codecs.values import plain
from streams.event import Event, Label, Malformed
from streams.protocols import Decode

FORMATS = ("json", "msgpack", "avro", "json-schema")
"""What topics can be read in; the last two through a schema registry."""
WRITTEN = ("json", "msgpack")
"""What topics can be written in."""


def decoder_for(
    format: str, fields: FieldMap | None = None, registry: SchemaRegistry | None = None
) -> Decode:
    """What reads a topic's messages.

    format: one of FORMATS. fields: where id, time, features and outcome stand; None for the canonical message
    (`streams.codecs.message`). registry: where schemas come from, for "avro" and "json-schema".
    What is returned never raises for a message: what cannot be read comes back as Malformed. Where the registry
    cannot be reached it raises RegistryUnavailable, and the message has not been read.
    Raises ValueError for an unknown format or a registry too many or too few, MissingExtra where a package is
    not installed.

    >>> decoder_for("json")(b'{"id":"a","time":1,"label":"late"}')
    Label(id='a', time=1.0, label='late', weight=1.0)
    >>> read = decoder_for("json", FieldMap(id="$key", time="day", time_unit="iso", features=["rain"]))
    >>> read(b'{"day": "1970-01-02", "rain": 0.5, "wind": 3}', key=b"station 9")
    Event(id='station 9', time=86400.0, features={'rain': 0.5}, label=None, weight=1.0)
    """
    if format not in FORMATS:
        raise ValueError(f"format is {format!r}; expected one of {', '.join(FORMATS)}")
    if format in WRITTEN:
        if registry is not None:
            raise ValueError(
                f"format {format!r} needs no registry; leave it out or set 'avro' or 'json-schema'"
            )
        if fields is None:
            return decode if format == "json" else decode_msgpack
        if format == "json":
            return mapped(fields, parse_json, flat_json)
        return mapped(fields, parse_msgpack, flat_msgpack)
    if registry is None:
        raise ValueError(f"format {format!r} needs a registry; give its url")
    if format == "avro":
        from streams.codecs.avro import avro_parser

        parse, form = avro_parser(registry), "Avro"
    else:
        from streams.codecs.json_schema import json_schema_parser

        parse, form = json_schema_parser(registry), "JSON"
    return canonical(parse, form) if fields is None else mapped(fields, parse)


def encoder_for(format: str) -> Encode:
    """What writes a sink's messages: "json" or "msgpack".

    >>> encoder_for("json")({"forecast": float("nan")})
    b'{"forecast":null}'
    """
    if format not in WRITTEN:
        written = " or ".join(map(repr, WRITTEN))
        also = ", which is read, not written" if format in FORMATS else ""
        raise ValueError(f"format is {format!r}{also}; expected {written}")
    return encode_json if format == "json" else encode_msgpack


def canonical(parse: Parse, form: str) -> Decode:
    """What reads canonical messages out of what `parse` gives; a field that is null counts as absent."""

    def read(
        raw: bytes, key: bytes | None = None, timestamp: float | None = None
    ) -> Event | Label | Malformed:
        try:
            return _item(parse(raw), form)
        except Unreadable as error:
            return Malformed(raw=bytes(raw), error=str(error))

    return read


def _item(found: Any, form: str) -> Event | Label:
    if isinstance(found, dict):
        found = {name: plain(value) for name, value in found.items() if value is not None}
        features = found.get("features")
        if isinstance(features, dict):
            found["features"] = {name: plain(value) for name, value in features.items()}
    try:
        wire = msgspec.convert(found, Wire)
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as error:
        raise Unreadable(reason(found, form, error)) from error
    return finite_item(wire)
