"""A forecast that can be kept: what was said, and all it was made from, for the label that comes later."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine import packed
from engine.encoders.fields import Slot
from engine.layout import OBSERVED, TIME, VALUE, Sizes
from memory.lookback import TRIED


@dataclass(slots=True, eq=False, repr=False)
class Forecast:
    """What was answered for one event, and what it takes to learn its label hours later.

    id, time: the event's, as given (None where they were not). version: labels learned at that time.
    labels: the classes known then, in the order of columns; empty for regression. record: (size,) float64,
    the encoding, the recalled neighbours, the experts' and mixers' forecasts; `sizes` says what stands where.
    keys: values of the key fields; categories: (field, value) pairs; unknown: names that had no slot yet.
    infinite: numbers of the event that were infinite, taken as missing. learned: whether its label was.
    surprise: how unlike earlier events this one is by its features, from 0 to 1 as `score_one` says it, at the
    time of asking; unlike: the same before it was ranked. Both are None without `anomaly=True`. event: what the
    caller's own experts will learn from, None where there are none. images: (c, h, w) per image field whose
    filters were still to be learned.
    """

    id: Hashable | None
    time: float | None
    version: int
    labels: tuple[Hashable, ...]
    record: NDArray[np.float64]
    sizes: Sizes
    keys: tuple[Hashable, ...] = ()
    categories: dict[Hashable, str] = field(default_factory=dict)
    unknown: dict[Slot, float] = field(default_factory=dict)
    infinite: int = 0
    learned: bool = False
    surprise: float | None = None
    unlike: float | None = None
    event: dict[Hashable, Any] | None = None
    images: dict[Hashable, NDArray[np.float32]] = field(default_factory=dict)

    def __repr__(self) -> str:
        said = f"value={self.value:g}" if self.sizes.regression else f"proba={self.proba}"
        asked = f"id={self.id!r}, time={self.time}, version={self.version}"
        return f"Forecast({asked}, {said}, learned={self.learned})"

    @property
    def observed(self) -> bool:
        """Whether the event has entered the running statistics."""
        return bool(self.record[OBSERVED])

    @property
    def nbytes(self) -> int:
        """Memory that it takes while it waits: its record, and about 1 kB for what stands beside it."""
        return self.record.nbytes + sum(image.nbytes for image in self.images.values()) + 1024

    @property
    def now(self) -> float:
        """The event's time, or its number where none was given."""
        return float(self.record[TIME])

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """(classes,) float64 in the order of `labels`; sums to 1, empty before the first label."""
        at = self.sizes.dim.at_p
        return self.record[at : at + len(self.labels)].copy()

    @property
    def proba(self) -> dict[Hashable, float]:
        """Label → probability; {} before the first label."""
        at = self.sizes.dim.at_p
        labels = self.labels
        return dict(zip(labels, self.record[at : at + len(labels)].tolist(), strict=True))

    @property
    def value(self) -> float:
        """The forecast of a regression, in the target's unit."""
        return float(self.record[VALUE])

    def answers(self) -> NDArray[np.float64]:
        """(outputs,) float64 as an array learner returns it: a column per class, 0 before the first label."""
        if self.sizes.regression:
            return np.array([self.value])
        out = np.zeros(self.sizes.outputs)
        p = self.probabilities
        out[: len(p)] = p
        return out

    def expert_forecasts(self) -> dict[str, NDArray[np.float64]]:
        """Expert → (classes,) probabilities, or → (1,) standardised value for regression; of those awake."""
        dim = self.sizes.dim
        table = self.record[dim.at_logp : dim.at_each].reshape(dim.experts, dim.outputs)
        awake = ~np.isnan(table[:, 0])
        names = [name for name, spoke in zip(self.sizes.expert_names(), awake, strict=True) if spoke]
        if self.sizes.regression:
            return dict(zip(names, table[awake], strict=True))
        p = np.exp(table[awake, : max(len(self.labels), 1)])
        return dict(zip(names, p / p.sum(axis=1, keepdims=True), strict=True))

    @property
    def experts(self) -> dict[str, dict[Hashable, float]]:
        """Expert → label → probability; of those awake."""
        return {
            name: dict(zip(self.labels, p.tolist(), strict=False))
            for name, p in self.expert_forecasts().items()
        }


def relay(forecast: Forecast, new: Sizes) -> None:
    """Bring a kept forecast to a learner's present sizes: new names are missing, new classes improbable."""
    old = forecast.sizes
    if old is new or old == new:
        return
    from engine.mixing import FLOOR

    a, b = old.dim, new.dim
    record = np.zeros(b.record)
    source = forecast.record
    record[: a.at_raw] = source[: a.at_raw]
    record[b.at_raw : b.at_rate] = np.nan
    record[b.at_raw : b.at_raw + a.features] = source[a.at_raw : a.at_rate]
    for start_new, start_old, mapping in (
        (b.at_rate, a.at_rate, new.rate_source(old)),
        (b.at_input, a.at_input, new.input_source(old)),
    ):
        kept = np.flatnonzero(mapping >= 0)
        record[start_new + kept] = source[start_old + mapping[kept]]
    if new.recall and not new.regression and new.outputs > old.outputs:
        recall = record[b.at_input : b.at_input + b.recall].reshape(-1, b.outputs)
        recall[:, old.outputs :] = np.float32(math.log(0.01) + 2.0)
    record[b.at_slot : b.at_logp] = source[a.at_slot : a.at_logp]
    for at_new, at_old, rows, fill in (
        (b.at_logp, a.at_logp, a.experts, math.log(FLOOR)),
        (b.at_each, a.at_each, new.mixers, 0.0),
        (b.at_p, a.at_p, 1, 0.0),
    ):
        table = record[at_new : at_new + rows * b.outputs].reshape(rows, b.outputs)
        table[:, a.outputs :] = fill
        table[:, : a.outputs] = source[at_old : at_old + rows * a.outputs].reshape(rows, a.outputs)
    if b.experts > a.experts:  # experts that were not there then said nothing
        more = b.at_logp + a.experts * b.outputs
        record[more : b.at_each] = 0.0 if new.regression else -math.log(b.outputs)
    record[b.at_wide : b.at_wide + a.at_tried - a.at_wide] = source[a.at_wide : a.at_tried]
    tried = record[b.at_tried :].view(np.float32)[: TRIED * b.compared].reshape(TRIED, b.compared)
    tried[...] = np.nan
    if a.compared and b.compared:
        tried[:, : a.compared] = (
            source[a.at_tried :].view(np.float32)[: TRIED * a.compared].reshape(TRIED, -1)
        )
    forecast.record, forecast.sizes = record, new


GROWN = ("features", "outputs", "keys", "categories", "many", "wide", "wide_inputs", "source")
"""The sizes in which kept forecasts may differ."""
ALWAYS = 4
"""How many of them are written even where the others are all 0."""


def grown(sizes: Sizes) -> dict[str, int]:
    """These sizes, ready for JSON."""
    found = {name: int(getattr(sizes, name)) for name in GROWN}
    return found if any(list(found.values())[ALWAYS:]) else dict(list(found.items())[:ALWAYS])


def pack(forecasts: Sequence[Forecast]) -> dict[str, NDArray[Any]]:
    """Kept forecasts as few arrays; what all of them share is left out."""
    n = len(forecasts)
    sizes = list(map(attrgetter("sizes"), forecasts))
    rows: dict[tuple[int, ...], int] = {}
    grown = attrgetter(*GROWN)
    row_of = {key: rows.setdefault(grown(each), len(rows)) for key, each in {id(s): s for s in sizes}.items()}

    def numbers(values: Iterable[int]) -> NDArray[np.int64]:
        return np.fromiter(values, np.int64, n)

    scored = [(f.surprise, f.unlike) for f in forecasts if f.surprise is not None]
    anomalies = {"anomalies": np.array(scored)} if scored else {}  # all have a surprise, or none
    known = [f.event for f in forecasts]
    some = any(event is not None for event in known)
    events = {"events": packed.pack([_packable(event) for event in known])} if some else {}
    table = np.array(list(rows), np.int64).reshape(-1, len(GROWN))
    held = [(at, name) for at, each in enumerate(forecasts) for name in each.images]
    images: dict[str, NDArray[Any]] = {
        f"image{i}": forecasts[at].images[name].copy() for i, (at, name) in enumerate(held)
    }
    if held:
        images["images"] = packed.pack(held)
    return {
        **anomalies,
        **events,
        **images,
        "records": np.concatenate([f.record for f in forecasts]) if n else np.zeros(0),
        "names": packed.pack(list(map(attrgetter("id", "keys", "categories", "unknown"), forecasts))),
        "times": np.array(list(map(attrgetter("time"), forecasts)), np.float64),  # NaN where there is none
        "versions": numbers(map(attrgetter("version"), forecasts)),
        "infinite": numbers(map(attrgetter("infinite"), forecasts)),
        "labels": numbers(map(len, map(attrgetter("labels"), forecasts))),
        "sizes": table if table[:, ALWAYS:].any() else table[:, :ALWAYS].copy(),
        "sizes_row": numbers(map(row_of.__getitem__, map(id, sizes))),
    }


def unpack(arrays: Mapping[str, NDArray[Any]], base: Sizes, labels: Sequence[Hashable]) -> list[Forecast]:
    """What `pack` took; base: what all share, labels: the classes of which each forecast knew the first few."""
    few = dict.fromkeys(GROWN[ALWAYS:], 0)
    sizes = [replace(base, **few | dict(zip(GROWN, row, strict=False))) for row in arrays["sizes"].tolist()]
    known = {n: tuple(labels[:n]) for n in set(arrays["labels"].tolist())}
    columns = [arrays[name].tolist() for name in ("times", "versions", "infinite", "labels", "sizes_row")]
    columns += arrays["anomalies"].T.tolist() if "anomalies" in arrays else [[None] * len(columns[0])] * 2
    columns.append(packed.unpack(arrays["events"]) if "events" in arrays else [None] * len(columns[0]))
    dims = [sizes[row].dim for row in columns[4]]
    numbers, shorter = len(arrays["records"]), sum(dim.at_tried for dim in dims)
    if numbers not in (shorter, whole := sum(dim.record for dim in dims)):
        raise ValueError(
            f"records have {numbers} numbers; expected {whole}, or {shorter} of an earlier release"
        )
    untried = numbers < whole
    at, out = 0, []
    for names, time, version, infinite, count, row, surprise, unlike, event in zip(
        packed.unpack(arrays["names"]), *columns, strict=True
    ):
        name, keys, categories, unknown = names
        dim = sizes[row].dim
        end = at + (dim.at_tried if untried else dim.record)
        record = np.zeros(dim.record)
        record[dim.at_tried :].view(np.float32)[:] = np.nan
        record[: end - at] = arrays["records"][at:end]
        out.append(
            Forecast(
                id=name,
                time=None if math.isnan(time) else time,
                version=version,
                infinite=infinite,
                labels=known[count],
                record=record,
                sizes=sizes[row],
                keys=keys,
                categories=categories,
                unknown=unknown,
                surprise=surprise,
                unlike=unlike,
                event=event,
            )
        )
        at = end
    for i, (which, field_name) in enumerate(packed.unpack(arrays["images"]) if "images" in arrays else ()):
        out[which].images[field_name] = np.array(arrays[f"image{i}"], order="C", copy=True)
    return out


def _packable(event: dict[Hashable, Any] | None) -> dict[Hashable, Any] | None:
    """The event, or None where no file can hold it (an image)."""
    try:
        packed.encoded(event)
    except TypeError:
        return None
    return event
