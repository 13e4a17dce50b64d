"""kafka-python's settings in librdkafka's names: the one place where they are translated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streams.errors import BrokerConfigError

_SAME = (
    "client_id", "client_rack", "group_id", "group_instance_id", "fetch_min_bytes", "fetch_max_bytes",
    "max_partition_fetch_bytes", "retry_backoff_ms", "reconnect_backoff_ms", "reconnect_backoff_max_ms",
    "max_in_flight_requests_per_connection", "check_crcs", "isolation_level", "metadata_max_age_ms",
    "session_timeout_ms", "heartbeat_interval_ms", "max_poll_interval_ms", "receive_message_max_bytes",
    "security_protocol", "connections_max_idle_ms", "sasl_mechanism", "sasl_kerberos_service_name",
    "client_dns_lookup", "compression_type", "batch_size", "linger_ms", "delivery_timeout_ms",
    "transaction_timeout_ms",
)  # fmt: skip
_OTHER = {
    "fetch_max_wait_ms": "fetch.wait.max.ms",
    "max_request_size": "message.max.bytes",
    "receive_buffer_bytes": "socket.receive.buffer.bytes",
    "request_timeout_ms": "socket.timeout.ms",
    "retries": "retries",
    "sasl_plain_password": "sasl.password",
    "sasl_plain_username": "sasl.username",
    "send_buffer_bytes": "socket.send.buffer.bytes",
    "ssl_cafile": "ssl.ca.location",
    "ssl_certfile": "ssl.certificate.location",
    "ssl_ciphers": "ssl.cipher.suites",
    "ssl_crlfile": "ssl.crl.location",
    "ssl_keyfile": "ssl.key.location",
    "ssl_password": "ssl.key.password",
}
_OURS = {"bootstrap_timeout_ms", "max_block_ms"}  # what the reader and the writer take for themselves


def translated(options: Mapping[str, Any]) -> dict[str, Any]:
    """The same settings by librdkafka's names; None values are left out, as they mean the default.

    Raises BrokerConfigError where librdkafka has nothing that means the same.

    >>> translated({"sasl_plain_username": "me", "ssl_check_hostname": False, "linger_ms": 5})
    {'sasl.username': 'me', 'ssl.endpoint.identification.algorithm': 'none', 'linger.ms': 5}
    >>> translated({"proxy_url": "socks5://proxy"})
    Traceback (most recent call last):
    streams.errors.BrokerConfigError: proxy_url has no counterpart in the client 'confluent'; leave it out, \
or set client to 'kafka-python'
    """
    found: dict[str, Any] = {}
    for name, value in options.items():
        if name in _OURS or value is None:
            continue
        if name in _SAME:
            found[name.replace("_", ".")] = value
        elif name in _OTHER:
            found[_OTHER[name]] = value
        elif name == "ssl_check_hostname":
            found["ssl.endpoint.identification.algorithm"] = "https" if value else "none"
        elif name == "sasl_oauth_token_provider":
            found["oauth_cb"] = _oauth(value)
        else:
            raise BrokerConfigError(
                f"{name} has no counterpart in the client 'confluent'; leave it out, or set client to "
                "'kafka-python'"
            )
    if "metadata.max.age.ms" in found:  # librdkafka asks by one setting and forgets by the other
        found["topic.metadata.refresh.interval.ms"] = found["metadata.max.age.ms"]
        found["metadata.max.age.ms"] = max(3 * int(found["metadata.max.age.ms"]), 1)
    return found


def _oauth(provider: Any) -> Any:
    """kafka-python's token provider as librdkafka's callback: a token and the time it ends."""
    import time

    lasts = float(getattr(provider, "lifetime", 300.0))
    return lambda _: (provider.token(), time.time() + lasts)
