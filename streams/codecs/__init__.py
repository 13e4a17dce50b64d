"""How bytes become events and labels, and back: JSON, MessagePack, and Avro and JSON Schema through a registry.

`formats` is the front door, `message` the canonical message, `fields` the map for messages of another layout.
"""

from streams.codecs.fields import FieldMap
from streams.codecs.formats import FORMATS, WRITTEN, decoder_for, encoder_for
from streams.codecs.json import decode, encode_event, encode_json, encode_label
from streams.codecs.message import LONGEST, Encode
from streams.codecs.msgpack import decode_msgpack, encode_msgpack
from streams.codecs.registry import SchemaRegistry

__all__ = [
    "FORMATS",
    "LONGEST",
    "WRITTEN",
    "Encode",
    "FieldMap",
    "SchemaRegistry",
    "decode",
    "decode_msgpack",
    "decoder_for",
    "encode_event",
    "encode_json",
    "encode_label",
    "encode_msgpack",
    "encoder_for",
]
