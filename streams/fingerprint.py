"""What tells a record from any other that may later stand at its offset: a short hash of its bytes."""

from __future__ import annotations

from hashlib import blake2b

from streams.codecs import encode_json
from streams.event import Malformed, Record


def fingerprint(raw: bytes) -> str:
    """BLAKE2b of a record's bytes, 16 hexadecimal digits.

    >>> fingerprint(b"{}")
    '01e7b720ff566d53'
    """
    return blake2b(raw, digest_size=8).hexdigest()


def fingerprint_of(record: Record) -> str:
    """The same of a record; where a source has no bytes, of the item as JSON.

    >>> from streams.event import Event, Position
    >>> record = Record(Position("events", 0, 0), Event(id="a", time=0.0, features={}))
    >>> fingerprint_of(record) == fingerprint(b'{"id":"a","time":0.0,"features":{}}')
    True
    """
    if record.raw is not None:
        return fingerprint(record.raw)
    item = record.item
    return fingerprint(item.raw if isinstance(item, Malformed) else encode_json(item))
