"""Whether a process is well: its loops turn, or it has nothing to do."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from streams.clock import SystemClock
from streams.protocols import Clock

if TYPE_CHECKING:
    from engine.deadletters.refusal import Refusal
    from engine.observe import Change, Resumed, Saved, Watched
    from streams.event import Record


class Health:
    """An observer that knows when a loop turned last.

    within: seconds without a turn and without a word of waiting after which a process is no longer well; longer
    than one poll, one snapshot or the compilation of kernels may take.

    >>> health = Health()
    >>> health.report()["state"]
    'starting'
    >>> health.waiting("another member owns the topic")
    >>> health.well, health.report()["state"]
    (True, 'waiting')
    """

    def __init__(self, *, within: float = 60.0, clock: Clock | None = None) -> None:
        if not within > 0:
            raise ValueError(f"within is {within}; expected seconds above 0")
        self.within = within
        self._clock = clock or SystemClock()
        self._state = "starting"
        self._reason: str | None = None
        self._sign: float | None = None  # the last sign of life
        self._loops: dict[str, Watched] = {}
        self._saved: dict[str, float] = {}

    def resumed(self, loop: Watched, how: Resumed) -> None:
        """The loop is about to turn."""
        self._loops[loop.name] = loop
        self._running()

    def turned(self, loop: Watched, records: Sequence[Record]) -> None:
        """A sign of life."""
        self._running()

    def refused(self, loop: Watched, refusal: Refusal) -> None:
        """Nothing."""

    def saved(self, loop: Watched, what: Saved) -> None:
        """The snapshot's time, and a sign of life."""
        self._saved[loop.name] = self._clock.monotonic()
        self._running()

    def stopped(self, loop: Watched, reason: str) -> None:
        """Where it was the last loop, the process is stopped, unless it then waits."""
        self._loops.pop(loop.name, None)
        if not self._loops:
            self._state, self._reason = "stopped", reason

    def rebalanced(self, change: Change, shards: Sequence[str]) -> None:
        """Nothing."""

    def waiting(self, reason: str) -> None:
        """A sign of life of a process that has nothing to do."""
        self._sign = self._clock.monotonic()
        if not self._loops:
            self._state, self._reason = "waiting", reason

    def _running(self) -> None:
        self._sign, self._state, self._reason = self._clock.monotonic(), "running", None

    @property
    def well(self) -> bool:
        """Whether there was a sign of life within `within` seconds, and the process is not at its end."""
        alive = self._sign is not None and self._clock.monotonic() - self._sign <= self.within
        return alive and self._state in ("running", "waiting")

    def report(self) -> dict[str, Any]:
        """JSON-compatible: well, state, reason, seconds since the last sign of life, and every shard's positions.

        state: "starting", "running", "waiting", "stopped", or "stuck" where the last sign is too long ago. While
        no broker answers it is "waiting", and well: the run goes on by itself, or ends once its patience does.
        """
        now = self._clock.monotonic()
        well, state, reason = self.well, self._state, self._reason
        gone = [s for loop in list(self._loops.values()) if (s := loop.absence.seconds) is not None]
        if state == "running" and gone:
            state, reason = "waiting", f"no broker has answered for {max(gone):.0f} s"
        shards = {}
        for name, loop in list(self._loops.items()):
            at = {f"{topic}:{number}": offset for (topic, number), offset in sorted(loop.positions.items())}
            saved = self._saved.get(name)
            age = None if saved is None else round(now - saved, 3)
            away = loop.absence.seconds
            shards[name] = {
                "positions": at,
                "snapshot_age_seconds": age,
                "broker_away_seconds": None if away is None else round(away, 3),
            }
        return {
            "well": well,
            "state": "stuck" if not well and state in ("running", "waiting") else state,
            "reason": reason,
            "seconds_since_sign": None if self._sign is None else round(now - self._sign, 3),
            "shards": shards,
        }


def ask(url: str, timeout: float = 5.0) -> tuple[bool, str]:
    """Whether the process whose /healthz is at `url` is well, and what it says, on one line.

    ValueError where `url` is no http address; a bare host:port or a missing path is completed.
    """
    full = url if "://" in url else f"http://{url}"
    parts = urlsplit(full)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"URL is {url!r}; expected an address such as http://127.0.0.1:9464/healthz")
    if parts.path in ("", "/"):
        full = full.rstrip("/") + "/healthz"
    try:
        with urllib.request.urlopen(full, timeout=timeout) as answer:
            return True, _words(answer.read())
    except urllib.error.HTTPError as error:
        return False, _words(error.read())
    except OSError as error:
        return False, f"nothing answers at {full} ({getattr(error, 'reason', error)})"


def _words(body: bytes) -> str:
    """State, reason and positions of a report; of another text the start."""
    try:
        report = json.loads(body)
        state, reason = report["state"], report["reason"]
        shards = report["shards"].items()
    except (ValueError, KeyError, TypeError, AttributeError):
        return " ".join(body.decode(errors="replace").split())[:200]
    at = [f"shard {name} at {places['positions']}" for name, places in shards]
    return "; ".join([f"{state}: {reason}" if reason else str(state), *at])
