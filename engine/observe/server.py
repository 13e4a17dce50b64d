"""A small HTTP server beside the loops: /metrics for Prometheus, /healthz for whoever restarts what is ill."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from prometheus_client.exposition import CONTENT_TYPE_LATEST

if TYPE_CHECKING:
    from engine.observe.health import Health
    from engine.observe.metrics import Metrics


class CannotListen(OSError):
    """The address for metrics cannot be used; the text says why and what to do."""


class Server:
    """Answers GET /metrics and /healthz (200 where the process is well, else 503) until `close`.

    host: 127.0.0.1 by default, so that nothing outside the machine can ask; "" for all addresses. port: 0 for
    any that is free; `port` and `url` then say which. Raises CannotListen.

    >>> from engine.observe.health import Health, ask
    >>> from engine.observe.metrics import Metrics
    >>> with Server(Metrics(), Health(), port=0) as server:
    ...     ask(server.url)
    (False, 'starting')
    """

    def __init__(
        self, metrics: Metrics, health: Health, *, host: str = "127.0.0.1", port: int = 9464
    ) -> None:
        try:
            self._server = _Listening((host, port), _answers(metrics, health))
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or error
            raise CannotListen(
                f"metrics cannot be shown at {host or '*'}:{port} ({why}); end what listens there, or choose "
                "another host or port of [metrics] (port 0: any that is free)"
            ) from None
        self.host = host
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where it answers."""
        host = "127.0.0.1" if self.host in ("", "0.0.0.0") else self.host
        return f"http://{host}:{self.port}"

    def close(self) -> None:
        """Stop answering and free the port; closing twice is allowed."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class _Listening(ThreadingHTTPServer):
    daemon_threads = True  # a request that hangs does not keep the process
    block_on_close = False


def _answers(metrics: Metrics, health: Health) -> type[BaseHTTPRequestHandler]:
    class Answers(BaseHTTPRequestHandler):
        server_version = "everlearn"
        sys_version = ""
        timeout = 10.0  # seconds for a request to come

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/metrics":
                self._send(200, CONTENT_TYPE_LATEST, metrics.text())
            elif path == "/healthz":
                report = health.report()
                body = json.dumps(report, indent=1).encode() + b"\n"
                self._send(200 if report["well"] else 503, "application/json", body)
            else:
                self._send(404, "text/plain; charset=utf-8", b"There are /metrics and /healthz.\n")

        def _send(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: a request every few seconds is no news."""

    return Answers
