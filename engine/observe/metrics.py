"""Metrics for Prometheus, read from the loops a few times a second in their own thread.

What happens per event is counted where it happens anyway; here it is copied (`reading`) now and then, and when
Prometheus asks, the last copy is what it gets. Counters begin at 0 with every process, as Prometheus expects.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    SummaryMetricFamily,
)

from engine.evaluate.latency import Latency
from engine.observe.families import FAMILIES, Family, labels_of
from engine.observe.reading import Tally, refused_kind
from streams.clock import SystemClock
from streams.protocols import Clock

if TYPE_CHECKING:
    from engine.deadletters.refusal import Refusal
    from engine.observe import Change, Resumed, Saved, Watched
    from streams.event import Record


class Metrics:
    """An observer whose `registry` holds everything that `families` names, and the process's memory and time.

    every: seconds between readings of a loop. lag_every: seconds between questions to the log where it ends;
    None: never asked, and no lag is shown.

    >>> metrics = Metrics()
    >>> metrics.rebalanced("gained", ["0"])
    >>> [line for line in metrics.text().decode().splitlines() if line.startswith("everlearn_rebalances_total")]
    ['everlearn_rebalances_total{change="gained"} 1.0']
    """

    def __init__(
        self, *, every: float = 0.5, lag_every: float | None = 5.0, clock: Clock | None = None
    ) -> None:
        self.registry = CollectorRegistry()
        self._every, self._lag_every = every, lag_every
        self._clock = clock or SystemClock()
        self._tallies: dict[str, Tally] = {}
        self._owned: dict[str, Watched] = {}
        self._changes: dict[str, int] = {}
        ProcessCollector(registry=self.registry)
        self.registry.register(self)

    # -- being told ---------------------------------------------------------------------------------

    def resumed(self, loop: Watched, how: Resumed) -> None:
        """Counters go on from here; answers that had been given before are counted as replayed."""
        tally = self._of(loop)
        tally.begin(loop, how)
        tally.read(loop, self._lag_every)

    def turned(self, loop: Watched, records: Sequence[Record]) -> None:
        """Count records by partition, and read the loop where it is time to."""
        tally = self._of(loop)
        tally.take(records)
        if self._clock.monotonic() - tally.reading.at >= self._every:
            tally.read(loop, self._lag_every)

    def refused(self, loop: Watched, refusal: Refusal) -> None:
        """Count it by kind."""
        kind, tally = refused_kind(refusal), self._of(loop)
        tally.refused[kind] = tally.refused.get(kind, 0) + 1

    def saved(self, loop: Watched, what: Saved) -> None:
        """Remember which snapshot it was."""
        tally = self._of(loop)
        tally.saved(what.entry, self._clock.monotonic())
        tally.saving.add(what.seconds)
        tally.read(loop, self._lag_every)

    def stopped(self, loop: Watched, reason: str) -> None:
        """A last reading."""
        self._of(loop).read(loop, None)
        self._owned.pop(loop.name, None)

    def rebalanced(self, change: Change, shards: Sequence[str]) -> None:
        """Count it by kind."""
        self._changes[change] = self._changes.get(change, 0) + len(shards)

    def waiting(self, reason: str) -> None:
        """Nothing."""

    def _of(self, loop: Watched) -> Tally:
        tally = self._tallies.get(loop.name)
        if tally is None:
            tally = self._tallies[loop.name] = Tally(self._clock)
            tally.rebase(loop)
        self._owned[loop.name] = loop
        return tally

    # -- telling ------------------------------------------------------------------------------------

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return bytes(generate_latest(self.registry))

    def describe(self) -> list[Metric]:
        """Every family without samples, for the registry's check of names."""
        return [_family(family) for family in FAMILIES]

    def collect(self) -> Iterator[Metric]:
        """Every family with the samples of all shards."""
        readings = {name: tally.reading for name, tally in sorted(self._tallies.items())}
        now = self._clock.monotonic()
        ages = {name: tally.age(now) for name, tally in self._tallies.items()}
        for family in FAMILIES:
            metric = _family(family)
            if family.name == "everlearn_build_info":
                metric.add_metric([_release()], 1.0)  # type: ignore[attr-defined]  # each kind has its own
            elif family.name == "everlearn_shards":
                metric.add_metric([], float(len(self._owned)))  # type: ignore[attr-defined]
            elif family.name == "everlearn_rebalances":
                _add(metric, family, (), {(change,): n for change, n in list(self._changes.items())})
            elif family.name == "everlearn_snapshot_age_seconds":
                for name, age in sorted(ages.items()):
                    if age is not None:
                        _add(metric, family, (name,), {(): age})
            elif family.name == "everlearn_broker_away_seconds":
                away = {name: loop.absence.seconds for name, loop in self._owned.copy().items()}
                for name in readings:
                    _add(metric, family, (name,), {(): away.get(name) or 0.0})
            else:
                for name, reading in readings.items():
                    _add(metric, family, (name,), reading.of(family.name))
            yield metric


def _release() -> str:
    from engine import __version__

    return __version__


def _family(family: Family) -> Metric:
    kinds = {
        "counter": CounterMetricFamily,
        "gauge": GaugeMetricFamily,
        "histogram": HistogramMetricFamily,
        "summary": SummaryMetricFamily,
    }
    made: Metric = kinds[family.kind](family.name, family.help, labels=labels_of(family))
    return made


def _add(metric: Any, family: Family, shard: tuple[str, ...], values: Mapping[tuple[str, ...], Any]) -> None:
    """Add samples: label values beside the shard → number, (sum, count) of a summary, histogram."""
    for labels, value in values.items():
        names = [*shard, *labels]
        if isinstance(value, Latency):
            below = value.below(family.bounds)
            buckets = [(_bound(bound), n) for bound, n in zip(family.bounds, below, strict=True)]
            metric.add_metric(names, [*buckets, ("+Inf", value.count)], value.seconds)
        elif family.kind == "summary":
            total, count = value
            metric.add_metric(names, count_value=count, sum_value=total)
        else:
            metric.add_metric(names, float(value))


def _bound(seconds: float) -> str:
    return f"{seconds:.12g}"
