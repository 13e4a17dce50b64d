"""The observers of a process as it is configured: log lines, metrics, health, and the server that shows them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, TextIO

from engine.observe import Observer, Several

if TYPE_CHECKING:
    from streams.protocols import Clock


@contextmanager
def observing(
    *,
    host: str = "127.0.0.1",
    port: int | None = 9464,
    format: Literal["json", "console"] | None = "json",
    level: str = "info",
    within: float = 60.0,
    lag: bool = True,
    stream: TextIO | None = None,
    clock: Clock | None = None,
) -> Iterator[Observer]:
    """One observer for all loops of a process, as long as the context lasts.

    port: of the server for metrics and health; 0 for any that is free, None for no server. format: of log
    lines; None writes none. level: the least that is written. within: see `Health`. lag: whether the log is asked
    where it ends. Raises CannotListen.

    >>> with observing(port=None, format=None) as observer:
    ...     observer.waiting("nothing is there yet")
    """
    from engine.observe.health import Health
    from engine.observe.metrics import Metrics

    metrics = Metrics(lag_every=5.0 if lag else None, clock=clock)
    health = Health(within=within, clock=clock)
    observers: list[Observer] = [metrics, health]
    logs = None
    if format is not None:
        from engine.observe.logs import Logs

        logs = Logs(format=format, level=level, stream=stream, clock=clock)
        observers.append(logs)
    if port is None:
        yield Several(*observers)
        return
    from engine.observe.server import Server

    with Server(metrics, health, host=host, port=port) as server:
        if logs is not None:
            logs.listening(server.url)
        yield Several(*observers)
