"""The observers of a process as it is configured: log lines, metrics, health, and the server that shows them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Literal, TextIO

from engine.observe import Observer, Several

if TYPE_CHECKING:
    from engine.observe.logs import Logs
    from streams.protocols import Clock

_LOGGERS = ("engine", "streams", "kafka")


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
    with ExitStack() as stack:
        logs = None
        if format is not None:
            from engine.observe.logs import Logs

            logs = Logs(format=format, level=level, stream=stream, clock=clock)
            observers.append(logs)
            stack.enter_context(_passing(logs))
        if port is not None:
            from engine.observe.server import Server

            server = stack.enter_context(Server(metrics, health, host=host, port=port))
            if logs is not None:
                logs.listening(server.url)
        yield Several(*observers)


@contextmanager
def _passing(logs: Logs) -> Iterator[None]:
    """Warnings that modules give to Python's `logging` come as lines too, instead of as bare text."""
    handler = _Handler(logs)
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    before = [logger.propagate for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.propagate = False
    try:
        yield
    finally:
        for logger, propagate in zip(loggers, before, strict=True):
            logger.removeHandler(handler)
            logger.propagate = propagate


class _Handler(logging.Handler):
    def __init__(self, logs: Logs) -> None:
        super().__init__(logging.WARNING)
        self._logs = logs

    def emit(self, record: logging.LogRecord) -> None:
        level = "warning" if record.levelno < logging.ERROR else "error"
        self._logs.said(level, " ".join(record.getMessage().split()))
