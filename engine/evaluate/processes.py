"""Jobs in processes of their own, a few at once, each with one thread; a job that fails or dies ends alone."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Failure:
    """Why a job has no result."""

    reason: str


def run_all(
    work: Callable[[Any, Callable[[Any], None]], Any],
    jobs: Sequence[Any],
    *,
    at_once: int,
    tell: Callable[[int, Any], None],
) -> list[Any]:
    """What `work(job, say)` returned for each job, in order, or a Failure.

    work: a function of a module, with results and jobs that can be pickled; it may call `say(news)`, which ends
    in `tell(number of the job, news)` here. at_once: how many processes, 1 or more. Interrupted, all end.
    """
    found: list[Any] = [None] * len(jobs)
    running: dict[Connection, tuple[int, BaseProcess]] = {}
    waiting = list(enumerate(jobs))[::-1]
    try:
        while running or waiting:
            while waiting and len(running) < at_once:
                number, job = waiting.pop()
                here, process = _start(work, job)
                running[here] = (number, process)
            ready = set(wait(list(running)))
            for here in [connection for connection in running if connection in ready]:
                number, process = running[here]
                try:
                    kind, news = here.recv()
                except (EOFError, OSError):  # it died, perhaps in the middle of its news
                    process.join()
                    kind, news = "end", Failure(_died(process.exitcode))
                if kind == "news":
                    tell(number, news)
                    continue
                found[number] = news
                del running[here]
                here.close()
                process.join()
    finally:
        for here, (_, process) in running.items():
            here.close()
            process.terminate()
            process.join()
    return found


def _start(work: Callable[..., Any], job: Any) -> tuple[Connection, BaseProcess]:
    context = get_context("spawn")  # a fork would copy the locks of numba's and torch's threads
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(there, work, job), daemon=True)
    with _one_thread():
        process.start()
    there.close()
    return here, process


@contextmanager
def _one_thread() -> Iterator[None]:
    """Libraries read these as they are loaded, so they are set while a process starts."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _child(there: Connection, work: Callable[..., Any], job: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends it
    try:
        result = work(job, lambda news: there.send(("news", news)))
    except BrokenPipeError:  # the parent is gone
        return
    except Exception as error:
        text = " ".join(str(error).split())
        result = Failure(f"{type(error).__name__}: {text}" if text else type(error).__name__)
    there.send(("end", result))


def _died(code: int | None) -> str:
    if code == -signal.SIGKILL:
        return "its process was killed, perhaps for want of memory: try --limit, or --at-once 1"
    return f"its process ended with exit code {code} and no result"
