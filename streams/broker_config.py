"""Settings for connections to a broker, such as TLS and SASL: kafka-python's names, checked before any use."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from streams.errors import BrokerConfigError

_OURS = {
    "acks", "allow_auto_create_topics", "auto_offset_reset", "bootstrap_servers", "enable_auto_commit",
    "enable_idempotence", "key_deserializer", "key_serializer", "transactional_id", "value_deserializer",
    "value_serializer",
}  # fmt: skip
_OBJECTS = {
    "default_offset_commit_callback", "kafka_client", "metric_reporters", "partition_assignment_strategy",
    "partitioner", "sasl_oauth_token_provider", "selector", "ssl_context",
}  # fmt: skip
_FILES = ("ssl_cafile", "ssl_certfile", "ssl_keyfile", "ssl_crlfile")
_PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
_WORDS: dict[str, Sequence[str]] = {
    "security_protocol": _PROTOCOLS,
    "sasl_mechanism": ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "GSSAPI", "OAUTHBEARER", "AWS_MSK_IAM"),
    "isolation_level": ("read_committed", "read_uncommitted"),
    "compression_type": ("gzip", "snappy", "lz4", "zstd"),
}
"""Values that are words, and no secret."""


def read_options(path: Path | None) -> dict[str, Any]:
    """The settings in a TOML file, its keys kafka-python's names; {} for None. Paths in it are passed through.

    security_protocol = "SASL_SSL"
    sasl_mechanism = "SCRAM-SHA-512"
    sasl_plain_username = "everlearn"
    sasl_plain_password = "…"
    ssl_cafile = "/etc/kafka/ca.pem"

    Raises BrokerConfigError where the file cannot be read or a setting is unknown or of the wrong kind; no
    error shows a value.
    """
    if path is None:
        return {}
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BrokerConfigError(
            f"--broker-config {path}: cannot be read ({error.strerror}); expected a TOML file"
        ) from None
    except ValueError as error:  # TOML's errors, and bytes that are no text
        raise BrokerConfigError(
            f'--broker-config {path}: not TOML ({error}); expected lines such as security_protocol = "SSL"'
        ) from None
    try:
        for name, value in found.items():
            if isinstance(value, dict):
                raise BrokerConfigError(f"[{name}] is a table; expected all settings at the top, in no table")
            if name in _OBJECTS:
                raise BrokerConfigError(
                    f"{name} is an object of Python, which no file can hold; leave it out"
                )
        return check_options({name: _tuples(value) for name, value in found.items()})
    except BrokerConfigError as error:
        raise BrokerConfigError(f"--broker-config {path}: {error}") from None


def check_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The same settings; BrokerConfigError where one is unknown, not for others to set, or of the wrong kind.

    No error repeats a value: a password may stand in the wrong place.
    """
    known = _known()
    for name, value in options.items():
        if name in _OURS:
            raise BrokerConfigError(f"{name} is set by everlearn itself; leave it out")
        if name not in known:
            near = get_close_matches(str(name), sorted(known.keys() - _OURS), n=1, cutoff=0.0)
            raise BrokerConfigError(f"{name} is no setting of kafka-python; the nearest is {near[0]}")
        expected = _kind(name, known[name])
        if expected and not (isinstance(value, expected) and isinstance(value, bool) == (expected is bool)):
            names = {bool: "true or false", str: "text"}
            raise BrokerConfigError(
                f"{name} is a value of type {type(value).__name__}; expected {names.get(expected, 'a number')}"
            )
    protocol = options.get("security_protocol", "PLAINTEXT")
    if protocol not in _PROTOCOLS:
        raise BrokerConfigError(
            f"security_protocol is none of {', '.join(_PROTOCOLS)}; set it to one of them"
        )
    if protocol.startswith("SASL") and not options.get("sasl_mechanism"):
        raise BrokerConfigError(
            f"security_protocol is {protocol} and sasl_mechanism is not given; expected one, such as PLAIN"
        )
    for name in _FILES:
        if options.get(name) is not None and not Path(options[name]).is_file():
            raise BrokerConfigError(f"{name} names no file; check the path")
    return dict(options)


def without_values(error: object, options: Mapping[str, Any] | None) -> str:
    """A client's error as text, without the values of settings that it repeats.

    >>> without_values("cannot parse socks5//me:secret", {"proxy_url": "socks5//me:secret"})
    'cannot parse …'
    """
    text = str(error)
    values = {
        value
        for name, value in (options or {}).items()
        if isinstance(value, str) and len(value) > 2 and value not in _WORDS.get(name, ())
    }
    for value in sorted(values, key=len, reverse=True):
        text = text.replace(value, "…")
    return text


def from_text(name: str, text: str) -> Any:
    """A setting from an environment variable, of the kind that its name asks for; text that is none stays text.

    >>> from_text("request_timeout_ms", "31000"), from_text("ssl_check_hostname", "false")
    (31000, False)
    """
    known = _known()
    kind = _kind(name, known[name]) if name in known else str
    if kind is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    if kind not in (None, str):
        try:
            return float(text) if "." in text else int(text)
        except ValueError:
            return text
    return text


def options_of(client: Any, options: Mapping[str, Any] | None) -> dict[str, Any]:
    """Those of the settings that a client of kafka-python knows: consumer, producer or admin."""
    return {
        name: value for name, value in check_options(options or {}).items() if name in client.DEFAULT_CONFIG
    }


def _known() -> dict[str, Any]:
    """Every setting of the three clients, with its default."""
    from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer

    return {**KafkaConsumer.DEFAULT_CONFIG, **KafkaAdminClient.DEFAULT_CONFIG, **KafkaProducer.DEFAULT_CONFIG}


def _kind(name: str, default: Any) -> Any:
    """The type that a setting must have; None where anything may be right."""
    if name in _OBJECTS:
        return None
    if isinstance(default, bool):
        return bool
    if isinstance(default, int | float):
        return int | float
    text = isinstance(default, str) or (default is None and name.startswith(("ssl_", "sasl_")))
    return str if text else None


def _tuples(value: Any) -> Any:
    """TOML's arrays as the tuples that kafka-python expects."""
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
