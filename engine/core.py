"""The deterministic core: forecast, observe, learn over one state; no clock, no input or output, no thread."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine import compiled, experience, forecast, kernels, race, state, watch
from engine.added import Added, usable
from engine.encoders.categories import row_of
from engine.encoders.fields import Encoded, Fields
from engine.forecast import Forecast
from engine.kernels import ENCODED, FORECAST, LEARN, LIVE, OBSERVE, WARM, Settings, State
from engine.layout import MANY, OBSERVED, SENSED, Sizes
from engine.name_table import NameTable
from engine.names import from_json, plain, to_json
from engine.options import Options
from engine.packed import pack, under, unpack
from engine.rules.local import ACTIVATIONS
from engine.state_before import learner_of
from engine.surprise import Surprise, of_error, of_probability, of_rows
from engine.wide import Started, Wide
from memory import forest
from memory.overdue import Overdue

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Kept = tuple[Hashable | None, float | None, tuple[Hashable, ...]]
NOTHING: Kept = (None, None, ())


class Core:
    """All that a learner is, without the faces it shows; `classes` is empty for regression.

    Nothing here takes a label's meaning from anywhere but `learn`; `forecast` changes nothing.
    """

    def __init__(self, options: Options, *, regression: bool, experts: Sequence[Any] | None = None) -> None:
        self.options = options
        self.regression = regression
        self.fields = Fields(options.max_features)
        self.wide = Wide(options.seed)
        self.classes: dict[Hashable, int] = {}
        self.key_rows = NameTable()
        self.experience: dict[int, Kept] = {}
        self._names_due = 0  # the label number at which it is looked for what is gone
        self.overdue = Overdue(len(options.keys) + 1)
        self.counts = {"infinite_values": 0, "hashed_names": 0, "forgotten": 0}
        self.surprise = Surprise(options.seed) if options.anomaly else None
        self.added = Added(experts, regression=regression)
        self.chunk_scores = np.zeros(0)  # of the events that were learned together last
        self.sizes = Sizes(
            features=0, outputs=1, keys=len(options.keys), categories=0,
            contexts=3 if options.context else 1, recall=options.recall, heads=options.recall_heads,
            history=options.label_history, neighbours=options.neighbours, networks=2, depth=options.layers,
            width=options.width, activation=ACTIVATIONS[options.activation], regression=regression,
            metric=options.metric, trees=options.trees, early=options.early, kept=options.kept_bytes,
            key_horizons=len(options.horizons), category_horizons=len(options.category_horizons),
            added=self.added.names,
        )  # fmt: skip
        twice = [name for name, n in Counter(self.sizes.expert_names()).items() if n > 1]
        if twice:
            raise ValueError(
                f"experts holds one named {twice[0]!r}, as another expert is; give it a name with "
                "Expert(model, name=…)"
            )
        self.horizons = (options.horizons, options.category_horizons)
        self.state = state.make(
            self.sizes, options.seed, options.memory_budget, self.horizons, sleeps=options.sleep,
            watches=options.concepts,
        )  # fmt: skip
        self.concepts = race.begun(self.state.watch)
        self._prepare()

    def _prepare(self) -> None:
        self.dim = self.sizes.dim
        self.scratch = state.scratch(self.sizes, self.wide.units)
        self.settings = Settings(
            float(self.options.rate), float(self.options.slow_rate), float(self.options.linear_rate)
        )
        self._bound: tuple[Any, Any] = (None, None)
        self._warm: F64 | None = None
        self._labels = tuple(self.classes)
        self._X = np.zeros((1, self.sizes.features))
        self._W = np.zeros((1, self.sizes.wide + 1), np.float32)
        self._out = np.zeros((1, self.sizes.outputs))
        self._nobody = np.full(self.sizes.key_cells, -1, np.int64)
        self._nothing = np.full(self.sizes.categories, -1, np.int64)
        self._single = [np.zeros(1) for _ in range(3)]
        self._given = np.zeros((1, self.dim.added * self.sizes.outputs))
        times, targets, weights = self._single
        rows = self._nobody[None, :], self._nothing[None, :]
        self._unread = (self._X, self._W, times, *rows, targets, weights)

    # -- events ---------------------------------------------------------------------------------------------

    def forecast(
        self, x: Mapping[Hashable, Any], id: Hashable | None, time: float | None, *, live: bool = False
    ) -> Forecast:
        """What is expected for x, kept with all it was made from; live: x is an event that is learned from."""
        return self.forecast_encoded(self.fields.encode(x), self.key_values(x), id, time, x, live=live)

    def forecast_encoded(
        self, encoded: Encoded, keys: tuple[Hashable, ...], id: Hashable | None, time: float | None,
        x: Mapping[Hashable, Any], *, live: bool = False,
    ) -> Forecast:  # fmt: skip
        """The same for an event whose fields stand in slots; `encoded` becomes part of the forecast."""
        record = np.zeros(self.dim.record)
        kept = Forecast(
            id, time, int(self.state.tally[1]), self._labels, record, self.sizes, keys, encoded.categories,
            encoded.unknown, encoded.bad,
        )  # fmt: skip
        if self.added:
            kept.event = usable(x)
            self._given[0] = self.added.say(kept.event, self.classes, self.sizes.outputs)
        self._X[0] = encoded.values
        if self.sizes.wide:
            self.wide.encode(encoded.images, self._X[0], self._W[0])
        if encoded.images:
            kept.images = {n: image for n, image in encoded.images.items() if self.wide.awaits(n)}
        self._run(
            FORECAST | LIVE * live, math.nan if time is None else time, self._key_rows(keys, admit=False),
            self._category_rows(encoded.categories, admit=False), record,
        )  # fmt: skip
        if self.surprise is not None:
            new = sum(not math.isnan(value) for value in encoded.unknown.values())
            rare = self.fields.rarity(encoded.categories)
            kept.unlike, kept.surprise = self.surprise.unlike(encoded.values, rare, new)
        return kept

    def observe(self, kept: Forecast) -> None:
        """The event happened: new names get slots, running statistics and context advance; once per event."""
        if not kept.observed:
            keys, categories = self._admit(kept)
            self._advance(kept, keys)
            self._run(OBSERVE, kept.now, keys, categories, kept.record)
            if len(keys):  # from now on the label of this event is awaited
                number = int(kept.record[OBSERVED]) - 1
                self.overdue.arrive(self.state.key_rates, self.sizes.outputs, number, kept.now, keys.tolist())

    def _admit(self, kept: Forecast) -> tuple[I64, I64]:
        """Make room for what is new in an event; the rows of its keys and categories."""
        unknown, fields = kept.unknown, self.fields
        if made := self.wide.due():  # only now: the last one's label, where it came at once, has been learned
            self._make_maps(made)
        if kept.images:  # two of different shapes may have been forecast before the first was observed
            kept.images = {n: image for n, image in kept.images.items() if fields.admit_image(n, image)}
        rare = fields.rarity(kept.categories) if self.surprise is not None else 0.0
        if unknown or kept.categories:
            fields.admit(unknown, kept.categories)
            self._resize(features=fields.size, categories=len(fields.category_fields))
        self._relay(kept)
        if unknown:
            raw = kept.record[self.dim.at_raw : self.dim.at_rate]
            for slot, value in unknown.items():
                at = fields.slots.get(slot)
                if at is None:
                    self.counts["hashed_names"] += 1
                else:
                    raw[at] = value
            kept.unknown = {}
            self._warm = None
        self.counts["infinite_values"] += kept.infinite
        if kept.images or (self.sizes.many and not self.sizes.wide):
            raw = kept.record[self.dim.at_raw : self.dim.at_rate]
            number = int(self.state.tally[0])
            self.wide.collect(number, kept.id, kept.images, raw if self.sizes.many else None)
        if self.surprise is not None and kept.unlike is not None:
            raw = kept.record[self.dim.at_raw : self.dim.at_rate]
            self.surprise.observe(raw, rare, kept.unlike, kept.id)
        return self._rows(kept)

    def _relay(self, kept: Forecast) -> None:
        """Bring a kept forecast to the present sizes, and to maps that are there by now."""
        before = kept.sizes.wide
        forecast.relay(kept, self.sizes)
        if kept.sizes.wide > before:
            dim = self.dim
            out = np.zeros(dim.wide + 1, np.float32)
            self.wide.encode(kept.images, kept.record[dim.at_raw : dim.at_rate].copy(), out)
            places = kept.record[dim.at_wide :].view(np.float32)
            places[before : dim.wide] = out[before:-1]
            kept.record[SENSED] = out[-1] if not before else kept.record[SENSED]
            kept.images = {n: image for n, image in kept.images.items() if self.wide.awaits(n)}
            self._warm = None

    def _make_maps(self, names: list[Hashable | None]) -> None:
        """The first events suffice for these maps: make them, and hand over the events that came before."""
        started = self.wide.make(names)
        units = self.wide.units
        source = self.wide.size if units is None else len(units.spread)
        self._resize(wide=self.wide.size, wide_inputs=self.wide.inputs, source=source)
        self._start_wide(started)
        self._named()

    def _start_wide(self, started: Started) -> None:
        """Labelled events from before the map: what reads the wide vector learns them first."""
        if self.sizes.lasting and len(started.targets):
            kernels.start_lasting(self._bind(), *started)

    def _rows(self, kept: Forecast) -> tuple[I64, I64]:
        keys = self._key_rows(kept.keys, admit=True)
        categories = self._category_rows(kept.categories, admit=True)
        if kept.keys or kept.categories:
            self._make_rows()
        return keys, categories

    def _advance(self, kept: Forecast, keys: I64) -> None:
        """Event time comes to this event, which is about to be observed: some labels are overdue by now."""
        if len(keys):
            self.overdue.advance(self.state.key_rates, self.sizes.outputs, kept.now)

    def learn(self, kept: Forecast, target: Any, weight: float) -> None:
        """The label of a kept forecast; target is a checked label, or a number for regression.

        With weight 0 nothing is learned: the event is observed if it was not, it waits no longer for its
        label, and a new class gets its column.
        """
        if kept.learned:
            raise ValueError(
                f"the label of this forecast (id {kept.id!r}) was learned before; a forecast is learned once: "
                "ask for a new one with forecast_one"
            )
        if weight == 0.0:
            kept.learned = True
            self.observe(kept)
            self._target(target)
            self.overdue.drop(self.state.key_rates, self.sizes.outputs, int(kept.record[OBSERVED]) - 1)
            return
        if not kept.observed and not self.regression and target not in self.classes:
            self.observe(kept)  # a new class changes the sizes: the event enters the statistics before it
        number = self._target(target)
        operations = LEARN
        if kept.observed:
            self._relay(kept)
            keys, categories = self._rows(kept)
        else:
            operations |= OBSERVE
            keys, categories = self._admit(kept)
            self._advance(kept, keys)
        if len(keys) and kept.observed:
            self._end_wait(kept)
        self.keep([(kept.id, kept.time, kept.keys)])
        self._run(operations, kept.now, keys, categories, kept.record, number, weight)
        kept.learned = True
        if self.added:
            self.added.learn(kept.event, target, weight)
            kept.event = None
        if self.wide.early:
            self.wide.label(int(kept.record[OBSERVED]) - 1, number, weight, int(self.state.tally[1]) - 1)
        if self.surprise is not None and kept.surprise is not None:
            self.surprise.learn(kept.surprise, self.label_surprise(kept, target))

    def label_surprise(self, kept: Forecast, target: Any) -> float:
        """How surprising a label is after its forecast: little probability, or a great error."""
        if self.regression:
            return of_error(kept.value - target)
        at = self.classes.get(target, len(kept.labels))
        known = at < len(kept.labels)
        return of_probability(float(kept.record[kept.sizes.dim.at_p + at]) if known else 0.0)

    def _end_wait(self, kept: Forecast) -> None:
        """The label of this event came: it is no longer awaited, and its delay is learned.

        A label that comes before any later event shows no delay, whatever path it takes.
        """
        table, outputs = self.state.key_rates, self.sizes.outputs
        number = int(kept.record[OBSERVED]) - 1
        if number == int(self.state.tally[0]) - 1:
            self.overdue.drop(table, outputs, number)
        else:
            self.overdue.label(table, outputs, number, float(self.state.now[0]))

    def _target(self, target: Any) -> float:
        if self.regression:
            return float(target)
        index = self.classes.get(target)
        if index is None:
            index = self.classes[target] = len(self.classes)
            self._labels = tuple(self.classes)
            if index >= self.sizes.outputs:
                self._resize(outputs=index + 1)
        return float(index)

    def _run(
        self, operations: int, time: float, keys: I64, categories: I64, record: F64,
        target: float = 0.0, weight: float = 1.0,
    ) -> None:  # fmt: skip
        """One event through the kernels; FORECAST reads its values from self._X.

        A label that comes before the kernels were asked anything else finds the layers as they spoke.
        """
        times, targets, weights = self._single
        times[0], targets[0], weights[0] = time, target, weight
        if operations & LEARN:
            self._make_room(1)
            if self._warm is record:
                operations |= WARM
        kernel()(
            operations, self._bind(), self._X, self._W, times, keys[None, :], categories[None, :], targets,
            weights, record, self._out, self._given,
        )  # fmt: skip
        if operations & FORECAST:
            self._warm = record
        elif operations & LEARN:
            self._warm = None
            if self.state.watch.place[watch.STOP]:
                race.step(self.concepts, self)

    def ask(self, bound: Any, record: F64, given: F64 | None) -> F64:
        """What other states say of an event as it was seen: (outputs,), until anything else is asked."""
        self._warm = None
        if given is not None:
            self._given[0] = given
        kernel()(FORECAST | ENCODED | LIVE, bound, *self._unread, record, self._out, self._given)
        said: F64 = self._out[0]
        return said

    def _bind(self) -> Any:
        if self._bound[0] is not self.state:
            self._bound = (self.state, kernels.bind(self.state, self.scratch, self.dim, self.settings))
        return self._bound[1]

    # -- chunks ---------------------------------------------------------------------------------------------

    def run_chunk(
        self, operations: int, X: F64, W: F32, times: F64, keys: I64, categories: I64, targets: F64,
        weights: F64, *, ids: Sequence[Hashable | None] | None = None, rare: F64 | None = None,
        given: F64 | None = None,
    ) -> F64:  # fmt: skip
        """The same operations for every row of X and W, the wide vectors, in order; (n, outputs) forecasts.

        ids, rare: the events' ids and how rare their categories are, for what is kept of anomalies. given: what
        the caller's own experts said, as `Added.follow` says it.
        """
        n = len(X)
        self._warm = None
        out = np.zeros((n, self.sizes.outputs))
        record = np.zeros(self.dim.record)
        if given is None:
            given = np.zeros((n, 0))
        at = 0
        while at < n:
            if operations & LEARN:
                self._make_room(n - at)
            at += kernel()(
                operations, self._bind(), X[at:], W[at:], times[at:], keys[at:], categories[at:], targets[at:],
                weights[at:], record, out[at:], given[at:],
            )  # fmt: skip
            if operations & LEARN and self.state.watch.place[watch.STOP]:
                race.step(self.concepts, self)
        if self.surprise is not None and operations & LEARN:
            said = of_rows(out, targets, weights, regression=self.regression)
            self.chunk_scores = self.surprise.follow(X, rare, said, ids)
        return out

    def chunk_keys(self, rows: Sequence[tuple[Hashable, ...]], n: int, *, admit: bool) -> I64:
        """Rows of the outcome statistics for a chunk of key values: (n, fields)."""
        if not self.options.keys:
            return np.full((n, 0), -1, np.int64)
        out = np.array([self._key_rows(values, admit=admit) for values in rows], np.int64)
        self._make_rows()
        return out.reshape(n, self.sizes.key_cells)

    # -- keys and rows --------------------------------------------------------------------------------------

    def key_values(self, x: Mapping[Hashable, Any]) -> tuple[Hashable, ...]:
        """The values of the key fields in one event; None where one is missing."""
        if not self.options.keys:
            return ()
        return tuple(
            tuple(_key_part(x, part) for part in key) if isinstance(key, tuple) else _key_part(x, key)
            for key in self.options.keys
        )

    def _key_rows(self, values: tuple[Hashable, ...], *, admit: bool) -> I64:
        if not values:
            return self._nobody
        out = np.full(self.sizes.key_cells, -1, np.int64)
        out[:1] = 0  # what all events share
        for i, value in enumerate(values):
            if not _missing(value):
                out[1 + i] = row_of(self.key_rows, (i, value), admit=admit)
        return out

    def known_keys(self, values: tuple[Hashable, ...]) -> I64 | None:
        """The rows of an event's key values; None where one of them has no row yet."""
        rows = self._key_rows(values, admit=False)
        for i, value in enumerate(values):
            if rows[1 + i] < 0 and not _missing(value):
                return None
        return rows

    def _category_rows(self, categories: Mapping[Hashable, str], *, admit: bool) -> I64:
        return self.fields.rows(categories, admit=admit) if categories else self._nothing

    def _make_rows(self) -> None:
        keys, categories = len(self.key_rows) + 1, self.fields.categories.rows + 1
        if keys <= len(self.state.key_rates.time) and categories <= len(self.state.category_rates.time):
            return
        self.state = self.state._replace(
            key_rates=state.with_rows(self.state.key_rates, keys),
            category_rates=state.with_rows(self.state.category_rates, categories),
        )

    def _make_room(self, events: int) -> None:
        """The trees have room for so many more events."""
        if not self.sizes.forested:
            return
        trees = forest.roomier(self.state.forest, events)
        if trees is not self.state.forest:
            self.state = self.state._replace(forest=trees)

    def _resize(self, **sizes: int) -> None:
        if sizes.get("features", self.sizes.features) > MANY:
            sizes["many"] = True
        sizes["pictured"] = self.fields.pictured()
        new = replace(self.sizes, **sizes)  # type: ignore[arg-type] # sizes that grow are integers
        if new == self.sizes:
            return
        slots = self.state.near.serial.shape[0]
        self.concepts.grow(self, self.sizes, new)
        self.state = state.grow(
            self.state, self.sizes, new, self.options.seed, self.options.memory_budget, self.horizons
        )
        if self.state.near.serial.shape[0] < slots:
            self._named()
        self.sizes = new
        self._prepare()

    # -- experience -----------------------------------------------------------------------------------------

    def keep(self, events: Sequence[Kept]) -> None:
        """Id, time and keys of events about to be learned, in order."""
        if not self.experience and all(event == NOTHING for event in events):
            return
        first = int(self.state.tally[1])
        if first >= self._names_due:  # what is gone is looked for now and then
            self._named()
            self._names_due = first + max(len(self.state.near.serial), state.TREE_EVENTS)
        for serial, kept in enumerate(events, first):
            if kept != NOTHING:
                self.experience[serial] = kept

    def stored(self) -> I64:
        """Label numbers of events in memories and trees, among kept examples, or waiting for a map, sorted."""
        waiting = np.array([event.serial for event in self.wide.early], np.int64)
        held = [*self.concepts.serials(self.state), self.state.lasting.episodic.serial, waiting]
        found = np.unique(np.concatenate(held))
        return found[found >= 0]

    def experiences(self) -> int:
        """How many there are of `stored`."""
        return len(self.stored())

    def _named(self) -> None:
        """Let go of the names of events that are stored no longer."""
        if not self.experience:
            return
        held = np.isin(np.fromiter(self.experience, np.int64, len(self.experience)), self.stored())
        self.experience = dict(itertools.compress(self.experience.items(), held.tolist()))

    def forget(self, id: Hashable) -> int:
        """Remove stored events with this id from every memory; how many there were."""
        serials = [s for s, (known, _, _) in self.experience.items() if known is not None and known == id]
        waiting = {event.serial for event in self.wide.early if event.id == id}
        removed = 0
        for serial in serials:
            found = self.concepts.forget(self, serial) or serial in waiting
            if self.sizes.lasting:
                found = bool(kernels.forget_kept(self.state.lasting.episodic, serial)) or found
            removed += found
            del self.experience[serial]
        seen = 0 if self.surprise is None else self.surprise.forget(id)
        self.wide.forget(id)
        removed = max(removed, seen)
        if removed:
            self.state.tally[4:] += 1
            self.counts["forgotten"] += removed
        return removed

    def bytes_by_memory(self) -> dict[str, int]:
        """Bytes of each memory, at their present sizes."""

        def of(group: Any) -> int:
            return sum(part.nbytes for part in group)

        held = {"neighbours": of(self.state.near) + of(self.state.context)}
        if self.sizes.forested:
            held["trees"] = of(self.state.forest)
        if self.options.early:
            held["early tree"] = of(self.state.early)
        if self.concepts.stored:
            held["concepts"] = self.concepts.nbytes()
        held["outcome rates"] = of(self.state.key_rates) + of(self.state.category_rates)
        if self.sizes.lasting:
            held |= experience.memory_bytes(self.state.lasting)
        return held

    # -- snapshot -------------------------------------------------------------------------------------------

    def to_state(self, *, added: bool = True) -> tuple[state.Arrays, dict[str, Any]]:
        """A copy of everything that changes: arrays, and JSON-able meta, small whatever was learned.

        Without `added` the caller's own experts are left out.
        """
        fields, fields_meta = self.fields.state()
        self._named()
        has = self.options
        parts = {"forest": has.trees, "early": has.early, "rival": has.sleep, "sleep": has.sleep}
        parts["watch"] = has.concepts
        arrays = state.flatten(self.state, absent=[group for group, there in parts.items() if not there])
        arrays |= {f"fields.{name}": array for name, array in fields.items()}
        arrays |= {f"overdue.{name}": array for name, array in self.overdue.snapshot().items()}
        arrays |= {f"wide.{name}": array for name, array in self.wide.snapshot().items()}
        arrays["key_rows"] = self.key_rows.snapshot()
        arrays["experience.serial"] = np.fromiter(self.experience, np.int64, len(self.experience))
        arrays["experience.events"] = pack(list(self.experience.values()))
        if has.concepts:
            arrays |= {f"concepts.{name}": array for name, array in self.concepts.snapshot().items()}
        if self.surprise is not None:
            arrays |= {f"surprise.{name}": array for name, array in self.surprise.snapshot().items()}
        if added:
            arrays |= {f"experts.{name}": array for name, array in self.added.snapshot().items()}
        return arrays, {
            **({"experts": self.added.meta()} if self.added else {}),
            "regression": self.regression,
            "options": self.options.to_json(),
            "fields": fields_meta,
            "classes": [to_json(label) for label in self.classes],
            "sizes": forecast.grown(self.sizes),
            "counts": dict(self.counts),
        }

    @classmethod
    def from_state(
        cls, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any], experts: Sequence[Any] | None = None,
        models: Sequence[Any] | None = None,
    ) -> Core:  # fmt: skip
        """The core that `to_state` copied, in this release or before.

        experts: the caller's own, as they were given; models: the same as they are by now, where the state does
        not hold them.
        """
        arrays, meta = learner_of(arrays, meta)
        core = cls(Options.from_json(meta["options"]), regression=bool(meta["regression"]), experts=experts)
        core.added.known(meta.get("experts", ()))
        if models is None:
            core.added.restore(under(arrays, "experts."))
        else:
            core.added.models = list(models)
        core.fields = Fields.from_state(under(arrays, "fields."), meta["fields"])
        core.classes = {from_json(label): i for i, label in enumerate(meta["classes"])}
        core.key_rows = NameTable.restored(arrays["key_rows"])
        core.wide.restore(under(arrays, "wide."))
        core.sizes = replace(core.sizes, **meta["sizes"], pictured=core.fields.pictured())
        serials, events = arrays["experience.serial"].tolist(), unpack(arrays["experience.events"])
        core.experience = dict(zip(serials, events, strict=True))
        core.overdue.restore(under(arrays, "overdue."))
        core.counts = dict(meta["counts"])
        if core.surprise is not None:
            core.surprise.restore(under(arrays, "surprise."))
        core.state = state.unflatten(arrays)
        core.concepts.restore(under(arrays, "concepts."), core.state)
        core._prepare()
        if not core.sizes.forested:  # in a release before, they were grown over images alone, too
            core.state = without_trees(core.state)
            for concept in core.concepts.all():
                concept.state = without_trees(concept.state)
        core._resize()  # in a release before, many features were read as few are
        resized = watch.resized(core.state.watch, core.dim)  # in a release before, records were shorter
        core.state = core.state._replace(watch=resized)
        return core


def without_trees(held: State) -> State:
    """A state whose trees are gone, but not how many events they have seen."""
    return held._replace(forest=state.no_trees(int(held.forest.place[0])))


def _missing(value: Hashable) -> bool:
    return value is None or (isinstance(value, tuple) and None in value)


def _key_part(x: Mapping[Hashable, Any], name: Hashable) -> Hashable:
    value = plain(x.get(name))
    if isinstance(value, float):
        if math.isnan(value):
            return None
        if value.is_integer():
            return int(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(
        f"key field {name!r} is {value!r} of type {type(value).__name__}; expected a string, number or boolean"
    )


_ready = False


def kernel() -> Any:
    """The compiled entry point; the first time, the kernels are compiled where no process has done so."""
    global _ready
    if not _ready:
        compiled.prepare()
        _ready = True
    return kernels.run
