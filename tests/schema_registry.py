"""A schema registry on 127.0.0.1 for tests: Confluent's two addresses for reading, and messages written by it."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import fastavro

from streams.clock import ManualClock
from streams.codecs import FieldMap, SchemaRegistry

READING = {
    "type": "record",
    "name": "weather.Reading",
    "fields": [
        {"name": "station", "type": "long"},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "rain", "type": ["null", "double"]},
        {"name": "wind", "type": {"type": "record", "name": "Wind", "fields": [
            {"name": "speed", "type": "float"},
            {"name": "from", "type": {"type": "enum", "name": "Side", "symbols": ["N", "S"]}}]}},
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 6, "scale": 2}},
        {"name": "track", "type": {"type": "array", "items": "int"}},
        {"name": "storm", "type": ["null", "boolean"], "default": None},
    ],
}  # fmt: skip
VALUES: dict[str, Any] = {
    "station": 9, "at": datetime(1970, 1, 2, tzinfo=UTC), "rain": None, "wind": {"speed": 1.5, "from": "S"},
    "price": Decimal("12.50"), "track": [1, 2], "storm": True,
}  # fmt: skip
FIELDS = FieldMap(id="station", time="at", target="storm")
CANONICAL = {
    "type": "record", "name": "Message", "fields": [
        {"name": "id", "type": "string"}, {"name": "time", "type": "double"},
        {"name": "features", "type": ["null", {"type": "map", "values": ["null", "double", "string"]}]},
        {"name": "label", "type": ["null", "int"]}, {"name": "weight", "type": ["null", "double"]}],
}  # fmt: skip


class FakeRegistry:
    """schemas: number → answer. subjects: (subject, version) → answer. asked: the paths, in order.

    authorization: the header that is expected; None lets everyone in. failing: how many of the next answers
    are status 503. broken: the number of a schema for which they always are. fixed: status and body of every
    answer, where set.
    """

    def __init__(self) -> None:
        self.schemas: dict[int, dict[str, Any]] = {}
        self.subjects: dict[tuple[str, int], dict[str, Any]] = {}
        self.asked: list[str] = []
        self.authorization: str | None = None
        self.failing = 0
        self.broken: int | None = None
        self.fixed: tuple[int, bytes] | None = None
        self.url = ""

    def add(self, number: int, schema: Any, kind: str | None = None, references: Any = ()) -> None:
        """Register a schema, given as JSON's values."""
        self.schemas[number] = answer(schema, kind, references)

    def reply(self, path: str, authorization: str | None) -> tuple[int, bytes]:
        self.asked.append(path)
        if self.failing or path == f"/schemas/ids/{self.broken}":
            self.failing = max(0, self.failing - 1)
            return 503, b"later"
        if self.fixed is not None:
            return self.fixed
        if self.authorization is not None and authorization != self.authorization:
            return 401, b'{"error_code":40101,"message":"Unauthorized"}'
        parts = path.strip("/").split("/")
        found, code = None, 404
        if parts[:2] == ["schemas", "ids"]:
            found, code = self.schemas.get(int(parts[2])), 40403
        elif parts[0] == "subjects":
            found, code = self.subjects.get((parts[1], int(parts[3]))), 40401
        if found is None:
            return 404, json.dumps({"error_code": code, "message": "not found"}).encode()
        return 200, json.dumps(found).encode()


def answer(schema: Any, kind: str | None = None, references: Any = ()) -> dict[str, Any]:
    """What a registry says of a schema."""
    found: dict[str, Any] = {"schema": json.dumps(schema)}
    if kind is not None:
        found["schemaType"] = kind
    if references:
        found["references"] = references
    return found


@contextmanager
def running() -> Iterator[FakeRegistry]:
    """A registry that answers on a free port."""
    registry = FakeRegistry()

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = registry.reply(self.path, self.headers.get("Authorization"))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing is printed."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    registry.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield registry
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def client(fake: FakeRegistry, **options: Any) -> SchemaRegistry:
    """What reads from the registry, with a clock that waits for nothing."""
    return SchemaRegistry(fake.url, clock=ManualClock(), **options)


def framed(number: int, body: bytes) -> bytes:
    """A message as producers write it that use a registry."""
    return b"\0" + number.to_bytes(4, "big") + body


def avro(number: int, schema: Any, value: Any) -> bytes:
    """The same in Avro."""
    buffer = io.BytesIO()
    fastavro.schemaless_writer(buffer, fastavro.parse_schema(schema), value)
    return framed(number, buffer.getvalue())
