"""Schemas by their number, from a registry that speaks Confluent's protocol; each is fetched once.

A message written through a registry begins with a byte 0 and the schema's number as four bytes, high one first;
the rest is the message itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, urlsplit

from streams.clock import SystemClock
from streams.codecs.message import Unreadable, shown
from streams.errors import MissingExtra, RegistryUnavailable
from streams.protocols import Clock

if TYPE_CHECKING:
    import httpx

ASK_AGAIN = 60.0  # seconds after which a number that the registry did not know is asked for again
_ATTEMPTS = 3
_PAUSE = 0.5  # seconds before the second attempt, twice as long before the third
_UNKNOWN_KEPT = 10_000  # unknown numbers that are remembered
_DEEPEST = 32  # schemas that refer to schemas
_NOT_FOUND = (40401, 40402, 40403)  # the registry's own codes: no such subject, version, schema


class Schema(NamedTuple):
    """One schema of a registry: its number, kind ("AVRO", "JSON", "PROTOBUF"), text, and what it refers to.

    references: name → text of every schema it needs, those first that others need.
    """

    number: int
    kind: str
    text: str
    references: Mapping[str, str]


class SchemaRegistry:
    """Schemas from the registry at `url`, with basic authentication (username, password) or a bearer token.

    timeout: seconds for each answer. ca: a file of certificates to trust, instead of the system's.
    Nothing is asked before the first schema is needed. Proxies are taken from the environment, as usual.
    Raises ValueError for settings that cannot be used, MissingExtra where httpx is not installed.

    >>> SchemaRegistry("http://127.0.0.1:8081", username="reader", password="secret")
    SchemaRegistry('http://127.0.0.1:8081')
    """

    def __init__(
        self,
        url: str,
        *,
        username: str | None = None,
        password: str | None = None,
        token: str | None = None,
        timeout: float = 10.0,
        ca: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"the registry's url is {url!r}; expected http://host:port or https://host:port")
        if parts.username is not None or parts.password is not None:
            raise ValueError("the registry's url holds a login; pass it as username and password instead")
        if (username is None) != (password is None):
            raise ValueError("only one of username and password is given; expected both or neither")
        if token is not None and username is not None:
            raise ValueError("both token and username are given; expected one way to log in")
        if not timeout > 0:
            raise ValueError(f"timeout is {timeout}; expected seconds above 0")
        client = extra("httpx").Client
        self.url = url.rstrip("/")
        self._clock = clock or SystemClock()
        self._schemas: dict[int, Schema] = {}
        self._unknown: dict[int, tuple[float, str]] = {}  # number → when to ask again, and why there is none
        headers = {"Accept": "application/vnd.schemaregistry.v1+json, application/json"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        try:
            self._client: httpx.Client = client(
                headers=headers,
                auth=None if username is None else (username, password),
                timeout=timeout,
                **({} if ca is None else {"verify": _trusted(ca)}),
            )
        except OSError as error:
            raise ValueError(
                f"ca is {ca!r}, which holds no certificates that can be read: {error}"
            ) from error

    def __repr__(self) -> str:
        return f"SchemaRegistry({self.url!r})"

    def schema(self, number: int) -> Schema:
        """The schema of this number.

        Raises Unreadable where the registry has none, RegistryUnavailable where it does not say.
        """
        known = self._schemas.get(number)
        if known is not None:
            return known
        now = self._clock.monotonic()
        until, reason = self._unknown.get(number, (now, ""))
        if now < until:
            raise Unreadable(reason)
        try:
            schema = self._fetched(number)
        except Unreadable as error:
            if len(self._unknown) >= _UNKNOWN_KEPT:
                self._unknown.clear()
            self._unknown[number] = (now + ASK_AGAIN, str(error))
            raise
        self._schemas[number] = schema
        return schema

    def _fetched(self, number: int) -> Schema:
        found = self._get(f"/schemas/ids/{number}")
        if found is None:
            raise Unreadable(
                f"schema {number} is not in the registry {self.url}; the message was written with another "
                "registry, or its schema was deleted"
            )
        references: dict[str, str] = {}
        self._follow(found, references, {}, 0)
        return Schema(number, str(found.get("schemaType") or "AVRO"), _text(found, self.url), references)

    def _follow(
        self, found: Mapping[str, Any], texts: dict[str, str], seen: dict[str, None], depth: int
    ) -> None:
        """Add what a schema refers to, the innermost first."""
        for reference in found.get("references") or ():
            try:
                name, subject = str(reference["name"]), str(reference["subject"])
                version = int(reference["version"])
            except (TypeError, LookupError, ValueError) as error:
                raise RegistryUnavailable(
                    f"the schema registry {self.url} gave {shown(reference)} as a reference to a schema; "
                    "expected its name, subject and version"
                ) from error
            if name in seen:
                continue
            seen[name] = None
            if depth >= _DEEPEST:
                raise Unreadable(f"its schema refers to schemas more than {_DEEPEST} deep; expected fewer")
            inner = self._get(f"/subjects/{quote(subject, safe='')}/versions/{version}")
            if inner is None:
                raise Unreadable(
                    f"its schema refers to {name!r} (subject {subject!r}, version {version}), "
                    f"which is not in the registry {self.url}"
                )
            self._follow(inner, texts, seen, depth + 1)
            texts[name] = _text(inner, self.url)

    def _get(self, path: str) -> dict[str, Any] | None:
        """The registry's answer; None where it says that it has no such schema."""
        http = extra("httpx")
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                answer = self._client.get(self.url + path)
            except (http.HTTPError, http.InvalidURL) as error:
                problem = f"does not answer ({type(error).__name__}: {error})"
            else:
                if answer.status_code < 500 and answer.status_code != 429:
                    return self._read(path, answer)
                problem = f"answers with status {answer.status_code}"
            if attempt < _ATTEMPTS:
                self._clock.sleep(_PAUSE * attempt)
        raise RegistryUnavailable(
            f"the schema registry {self.url} {problem}, asked {_ATTEMPTS} times; nothing was lost, messages "
            "wait in their topic: start again when it is there, or correct its url"
        )

    def _read(self, path: str, answer: httpx.Response) -> dict[str, Any] | None:
        try:
            found = answer.json()
        except ValueError:
            found = None
        if answer.status_code == 404 and isinstance(found, dict) and found.get("error_code") in _NOT_FOUND:
            return None
        if answer.status_code in (401, 403):
            raise RegistryUnavailable(
                f"the schema registry {self.url} refuses the login (status {answer.status_code}); "
                "give username and password or a token that may read schemas"
            )
        if answer.status_code != 200 or not isinstance(found, dict):
            raise RegistryUnavailable(
                f"{self.url}{path} is answered with status {answer.status_code} and no schema; expected a schema "
                "registry there, correct its url"
            )
        return found

    def close(self) -> None:
        """Release connections; closing twice is allowed."""
        self._client.close()


def framed(raw: bytes) -> tuple[int, bytes]:
    """(schema number, the message itself) of bytes written through a registry; Unreadable where they were not.

    >>> framed(bytes([0, 0, 0, 1, 2]) + b"rest")
    (258, b'rest')
    """
    if not raw:
        raise Unreadable("empty message; expected a byte 0 and the number of a schema")
    if raw[0] != 0:
        raise Unreadable(
            f"the message begins with byte {raw[0]}; expected 0 and the number of a schema, as producers write "
            "that use a registry; for plain JSON set the format to 'json'"
        )
    if len(raw) < 5:
        raise Unreadable(f"the message has {len(raw)} bytes; expected 5 or more: byte 0, a schema's number")
    return int.from_bytes(raw[1:5], "big"), raw[5:]


def extra(module: str) -> Any:
    """A package of the extra `schema`; MissingExtra where it is not installed."""
    from importlib import import_module

    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtra(
            f"formats with a schema registry need {module}, which is not installed; "
            "install it: pip install everlearn[schema]"
        ) from error


def _trusted(ca: str) -> Any:
    import ssl

    return ssl.create_default_context(cafile=ca)


def _text(found: Mapping[str, Any], url: str) -> str:
    text = found.get("schema")
    if not isinstance(text, str):
        raise RegistryUnavailable(f"the schema registry {url} gave {shown(text)} as a schema; expected text")
    return text
