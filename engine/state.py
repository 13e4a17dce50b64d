"""The state of a learner as flat arrays: made, grown when features or classes appear, flattened to be kept."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine import brief, experience, mixing, network, newton, sleep, watch
from engine.encoders.categories import MAX_ROWS
from engine.kernels import Encoder, Linear, Scratch, State, refill
from engine.layout import BRIEF, RANDOM_UNITS, TREES, Sizes
from memory import analytic, early, episodic, forest, lookback, metric, neighbours, rates, tiles
from memory.rates import COUNTS

Arrays = dict[str, NDArray[Any]]
NEAR_EVENTS, CONTEXT_EVENTS, TREE_EVENTS = 8_192, 4_096, 10_000
MANY_TREES = 8_000_000  # bytes of trees over many features
ALIGNED = 64  # bytes
GROUPS: dict[str, type[Any]] = {
    "encoder": Encoder,
    "near": neighbours.Neighbours,
    "context": neighbours.Neighbours,
    "fast": network.Layers,
    "slow": network.Layers,
    "linear": Linear,
    "plain": newton.SecondOrder,
    "random": newton.SecondOrder,
    "forest": forest.Forest,
    "early": early.Early,
    "mixer": mixing.Mixer,
    "rival": mixing.Mixer,
    "sleep": sleep.Sleep,
    "key_rates": rates.Rates,
    "category_rates": rates.Rates,
    "watch": watch.Watch,
    "lookback": lookback.Lookback,
}
LATER = ("forest", "early", "rival", "sleep", "watch")  # a learner of before may have none
LASTING: dict[str, type[Any] | None] = {
    "analytic": analytic.Analytic,
    "episodic": episodic.Episodic,
    "layer": network.Layers,
    "mean": network.Layers,
    "old": mixing.Mixer,
    "lately": None,
    "steps": None,
    "present": None,
}
PLAIN = ("random_weight", "random_offset", "brief", "prior", "transition", "tally", "now")


def targets(sizes: Sizes) -> int:
    """Columns of outcomes in the statistics per key: one per class, or the sum of targets."""
    return sizes.outputs


def query_size(sizes: Sizes) -> int:
    """What the context memory stores per event."""
    return sizes.context_numbers


def roomy(rows: int) -> int:
    """Rows that a memory for so many numbers may have, the room for further names included."""
    return rows + rows // 4 + 4


def tree_bytes(sizes: Sizes) -> int:
    """Bytes per event of the trees' window, every array at its largest."""
    nodes = 4 * (7 + sizes.outputs) * forest.NODES
    return (4 * (sizes.features + sizes.rates) + 9 + (TREES + 1) * (8 + nodes)) * 5 // 4


def trees(state: State, old: Sizes, new: Sizes, budget: int, seed: int) -> forest.Forest:
    """The same trees for other sizes; where the window shrinks they are grown anew from the newest events."""
    learned = int(state.forest.place[0])
    if not new.forested:
        return no_trees(learned) if old.forested else state.forest
    window, source, d = tree_window(new, budget), new.tree_source(old), new.features + new.rates
    if not old.forested:
        fresh = forest.allocate(TREES, d, new.outputs, window, seed)
        fresh.place[:2] = learned
        return fresh
    if window >= state.forest.place[2]:
        same = d == old.features + old.rates and new.outputs == old.outputs
        return state.forest if same else forest.widened(state.forest, d, new.outputs, source)
    fresh = forest.allocate(TREES, d, new.outputs, window, seed)
    if not state.forest.place[0]:
        return fresh
    fresh = forest.roomier(fresh, forest.slots_for(window))
    fresh.random[:] = state.forest.random
    refill(fresh, forest.room(d, new.outputs, window), state.forest, source, new.regression)
    return fresh


def no_trees(learned: int = 0) -> forest.Forest:
    """What stands in the place of trees where there are none; learned: events so far, which it counts on."""
    none = forest.allocate(1, 1, 1, forest.FIRST, 0)
    none.place[:2] = learned
    return none


def no_early() -> early.Early:
    """What stands in the place of the early tree where there is none."""
    return early.allocate(1, 1, events=1)


def tree_window(sizes: Sizes, budget: int) -> int:
    """Events that the trees hold: half of the budget is theirs, and `MANY_TREES` at most over many features."""
    if not sizes.forested:
        return 0
    most = min(budget // 2, MANY_TREES) if sizes.many else budget // 2
    return max(forest.FIRST, min(TREE_EVENTS, most // tree_bytes(sizes)))


def windows(sizes: Sizes, budget: int) -> tuple[int, int]:
    """Events that the two neighbour memories may hold within `budget` bytes."""
    full = sizes.near_numbers <= metric.FULL_METRIC
    per_near = 4 * roomy(sizes.near_numbers) * (2 if full else 1) + 16
    per_context = 4 * roomy(query_size(sizes)) + 16
    budget -= tree_window(sizes, budget) * tree_bytes(sizes)
    fixed = 2 * 4 * tiles.BLOCK  # `projected` of a memory without a full metric
    share = min(1.0, (budget - fixed) / (NEAR_EVENTS * per_near + CONTEXT_EVENTS * per_context))
    return tuple(  # type: ignore[return-value]
        max(tiles.BLOCK, int(events * share) // tiles.BLOCK * tiles.BLOCK)
        for events in (NEAR_EVENTS, CONTEXT_EVENTS)
    )


def make(
    sizes: Sizes, seed: int, budget: int, horizons: tuple[tuple[float, ...], tuple[float, ...]], *,
    sleeps: bool = True, watches: bool = False,
) -> State:  # fmt: skip
    """An empty learner of these sizes; `sleeps`: experts that earn nothing fall asleep; `watches`: see Watch."""
    z = np.zeros
    near, context = windows(sizes, budget)
    shape = network.Shape(
        depth=sizes.depth, width=sizes.width, inputs=sizes.reads, outputs=sizes.outputs,
        recalled=sizes.recalled if sizes.recall and sizes.heads else 0,
    )  # fmt: skip
    d = query_size(sizes)
    columns = sizes.rates + sizes.parts * sizes.features
    c = sizes.outputs
    return State(
        encoder=Encoder(*(z(sizes.features) for _ in range(4)), *(z(sizes.rates) for _ in range(3))),
        near=neighbours.allocate(sizes.near_numbers, near, full=sizes.near_numbers <= metric.FULL_METRIC),
        context=neighbours.allocate(d, context, full=False),
        fast=network.allocate(shape, 2 * seed),
        slow=network.allocate(shape, 2 * seed + 1),
        linear=Linear(z((c, columns)), z((c, columns)), z(c), z(c)),
        plain=newton.allocate(sizes.plain, c),
        random=newton.allocate(sizes.plain + RANDOM_UNITS, c),
        random_weight=newton.random_features(RANDOM_UNITS, sizes.random_inputs, seed)[0],
        random_offset=newton.random_features(RANDOM_UNITS, sizes.random_inputs, seed)[1],
        brief=brief.projection(sizes, seed),
        forest=no_trees()
        if not sizes.forested
        else forest.allocate(TREES, sizes.features + sizes.rates, c, tree_window(sizes, budget), seed),
        early=early.allocate(sizes.features + sizes.rates, c) if sizes.early else no_early(),
        lasting=experience.made(sizes, seed),
        mixer=mixing.allocate(sizes.experts, sizes.mixers),
        rival=mixing.allocate(sizes.experts, sizes.mixers),
        sleep=sleep.allocate(sizes.experts, on=sleeps),
        key_rates=rates.allocate(1, np.array(horizons[0]), targets(sizes)),
        category_rates=rates.allocate(1, np.array(horizons[1]), targets(sizes)),
        prior=z((1, 3) if sizes.regression else (2, c)),
        transition=z((c, c) if sizes.history else (1, 1)),
        tally=np.array([0, 0, -1, -1, 0, 0], np.int64),
        now=z(1),
        watch=watch.allocate(sizes.dim.record, on=watches),
        lookback=lookback.allocate(sizes.compared),
    )


def scratch(sizes: Sizes, units: Any = None) -> Scratch:
    """Working space for kernels of these sizes; units: the map from many features to the wide vector."""

    def f(*size: int) -> NDArray[np.float32]:
        return np.zeros(size, np.float32)

    z = np.zeros
    n = max(sizes.reads, sizes.features, query_size(sizes), metric.FULL_METRIC)
    k = max(sizes.neighbours, 1)
    L, H, C = sizes.depth, sizes.width, sizes.outputs
    return Scratch(
        near=neighbours.searching(sizes.near_numbers, k), context=neighbours.searching(query_size(sizes), k),
        forest=forest.room(sizes.features + sizes.rates, C, TREE_EVENTS),
        early=early.room(C),
        lasting=experience.room(sizes, units),
        tree_x=f(max(sizes.features + sizes.rates, 1)),
        query=f(n), soft=z(C), rank=z(C),
        x=f(n), x_scaled=f(n),
        fast_hidden=f(L, H), fast_slope=f(L, H), fast_above=f(L + 1, H), fast_p=z((L, C)),
        slow_hidden=f(L, H), slow_slope=f(L, H), slow_above=f(L + 1, H), slow_p=z((L, C)),
        delta=f(H), sway=f(H), scaled=f(H), linear_p=z(C), prior=z(C),
        wide=z(sizes.plain + RANDOM_UNITS), u=z(sizes.plain + RANDOM_UNITS), newton_p=z((4, C)),
        logp=z((sizes.experts, C)), each=z((sizes.mixers, C)), p=z(C),
        voices=z((sizes.experts, C)), rival_each=z((sizes.mixers, C)), rival_p=z(C),
    )  # fmt: skip


def spread(old: NDArray[Any], source: NDArray[np.int64], axis: int = 0) -> NDArray[Any]:
    """A copy of `old` with its `axis` rearranged: index i continues old index source[i], zeros where −1."""
    shape = list(old.shape)
    shape[axis] = len(source)
    out = np.zeros(shape, old.dtype)
    kept = np.flatnonzero(source >= 0)
    index = [slice(None)] * old.ndim
    index[axis] = kept  # type: ignore[call-overload]
    out[tuple(index)] = np.take(old, source[kept], axis=axis)
    return out


def widen(memory: neighbours.Neighbours, d: int, events: int, source: NDArray[np.int64], *, full: bool
          ) -> neighbours.Neighbours:  # fmt: skip
    """A neighbour memory for d numbers and at most `events` events.

    Rows are added by a quarter at a time, so that names that keep appearing cost little each. Where the
    window shrinks the newest events stay.
    """
    rows, slots = memory.logw.shape[0], memory.target.shape[0]
    was_full = bool(memory.place[3])
    appended = bool(np.array_equal(source, continued(d, int((source >= 0).sum()))))
    if d <= rows and events >= slots and was_full == full and appended:
        return memory
    room = d if d <= rows else max(d, min(roomy(rows), 4 * d))
    events = min(events, slots) if memory.place[1] else events
    fresh = neighbours.allocate(room, events, full=full)
    held = int(memory.place[1])
    oldest = int(memory.place[0]) if held == slots else 0
    order = (oldest + np.arange(held)) % slots
    order = order[-fresh.target.shape[0] :]
    kept = np.flatnonzero(source >= 0)
    n = len(order)
    held_numbers = np.zeros((fresh.logw.shape[0], fresh.target.shape[0]), np.float32)
    held_numbers[kept, :n] = tiles.table(memory.buffer)[source[kept]][:, order]
    fresh.buffer[...] = tiles.tiled(held_numbers)
    fresh.target[:n] = memory.target[order]
    fresh.serial[:n] = memory.serial[order]
    fresh.place[:] = (n % fresh.target.shape[0], n, 0, int(full))
    fresh.logw[kept] = memory.logw[source[kept]]
    fresh.logw_square[kept] = memory.logw_square[source[kept]]
    fresh.scale[:] = memory.scale
    if full:
        fresh.matrix[:] = memory.matrix
        fresh.matrix_square[:] = memory.matrix_square
        root = np.exp(0.5 * fresh.logw[:d])[:, None]
        held_numbers[:d, :n] = fresh.matrix[:d, :d] @ (root * held_numbers[:d, :n])
        fresh.projected[...] = tiles.tiled(held_numbers)
    return fresh


def moved(old: neighbours.Neighbours, new: neighbours.Neighbours) -> bool:
    """Whether an event stands in another slot of a memory than before, or in none."""
    n = min(len(old.serial), len(new.serial))
    same = np.array_equal(old.serial[:n], new.serial[:n]) and bool((old.serial[n:] < 0).all())
    return new is not old and not same


def continued(size: int, old: int) -> NDArray[np.int64]:
    """0 … for what was there, −1 for what is new."""
    return np.where(np.arange(size) < old, np.arange(size), -1)


def grow(state: State, old: Sizes, new: Sizes, seed: int, budget: int,
         horizons: tuple[tuple[float, ...], tuple[float, ...]]) -> State:  # fmt: skip
    """The same learner with other sizes."""
    rate_source = new.rate_source(old)
    block = new.feature_source(old)
    columns = np.concatenate([rate_source, np.where(block >= 0, old.rates + block, -1)])
    projection = brief.projection(new, seed)
    near, context = remembered(state, old, new, budget, projection, columns)
    inputs = new.read_source(old)
    outputs = continued(new.outputs, old.outputs)
    linear = Linear(
        weight=spread(spread(state.linear.weight, columns, 1), outputs),
        square=spread(spread(state.linear.square, columns, 1), outputs),
        bias=spread(state.linear.bias, outputs),
        bias_square=spread(state.linear.bias_square, outputs),
    )
    counts = targets(old) + np.arange(COUNTS)
    outcomes = np.concatenate([continued(targets(new), targets(old)), counts])
    plain = new.plain_source(old)
    units = old.plain + np.arange(RANDOM_UNITS)
    tally = state.tally.copy()
    tally[4] += 1
    tally[5] += moved(state.near, near) or moved(state.context, context)

    def reclassed(table: rates.Rates) -> rates.Rates:
        return table._replace(total=spread(table.total, outcomes, 2))

    return State(
        encoder=resize_encoder(state.encoder, old, new),
        near=near,
        context=context,
        fast=network.grow(state.fast, 2 * seed, new.reads, new.outputs, inputs),
        slow=network.grow(state.slow, 2 * seed + 1, new.reads, new.outputs, inputs),
        linear=linear,
        plain=newton.grow(state.plain, new.outputs, plain),
        random=newton.grow(state.random, new.outputs, np.concatenate([plain, units])),
        random_weight=newton.random_features(RANDOM_UNITS, new.random_inputs, seed)[0],
        random_offset=newton.random_features(RANDOM_UNITS, new.random_inputs, seed)[1],
        brief=projection,
        forest=trees(state, old, new, budget, seed),
        early=early.widened(state.early, new.features + new.rates, new.outputs, new.tree_source(old))
        if new.early
        else state.early,
        lasting=experience.grown(state.lasting, old, new, seed),
        **sleep.grown(state.mixer, state.rival, state.sleep, new.experts),
        key_rates=reclassed(state.key_rates),
        category_rates=reclassed(state.category_rates),
        prior=state.prior if new.regression else spread(state.prior, outputs, 1),
        transition=spread(spread(state.transition, outputs), outputs, 1) if new.history else state.transition,
        tally=tally,
        now=state.now,
        lookback=lookback.grown(state.lookback, new.compared),
        watch=watch.resized(state.watch, new.dim) if new.concepts else watch.allocate(1, on=False),
    )


def remembered(
    state: State, old: Sizes, new: Sizes, budget: int, projection: NDArray[np.float32],
    columns: NDArray[np.int64],
) -> tuple[neighbours.Neighbours, neighbours.Neighbours]:  # fmt: skip
    """The two neighbour memories for other sizes; columns: for what layers read of features, where it was."""
    near_events, context_events = windows(new, budget)
    if new.many and not old.many:
        return (
            brief.mapped(state.near, near_events, brief.near_map(old, projection)),
            brief.mapped(state.context, context_events, brief.context_map(old, new, projection)),
        )
    features, query = continued(new.near_numbers, old.near_numbers), columns
    if new.many:
        rates = new.rate_source(old)
        query = np.concatenate([rates, old.rates + np.arange(BRIEF)])
    near = widen(
        state.near, new.near_numbers, near_events, features, full=new.near_numbers <= metric.FULL_METRIC
    )
    return near, widen(state.context, query_size(new), context_events, query, full=False)


def resize_encoder(encoder: Encoder, old: Sizes, new: Sizes) -> Encoder:
    """Statistics of new features and outcome columns start empty."""
    features = continued(new.features, old.features)
    source = new.rate_source(old)
    return Encoder(
        **{name: spread(getattr(encoder, name), features) for name in Encoder._fields[:4]},
        rate_mean=spread(encoder.rate_mean, source),
        rate_square=spread(encoder.rate_square, source),
        rate_seen=spread(encoder.rate_seen, source),
    )


def without(memory: neighbours.Neighbours, serial: int) -> tuple[neighbours.Neighbours, bool]:
    """The memory without the event of this label number, the others in order of age; whether it was there."""
    slots = memory.target.shape[0]
    held = int(memory.place[1])
    oldest = int(memory.place[0]) if held == slots else 0
    order = (oldest + np.arange(held)) % slots
    kept = order[memory.serial[order] != serial]
    n = len(kept)
    if n == held:
        return memory, False
    fresh = memory._replace(
        buffer=compacted(memory.buffer, kept),
        projected=compacted(memory.projected, kept) if memory.place[3] else memory.projected,
        target=np.zeros_like(memory.target),
        serial=np.full_like(memory.serial, -1),
        place=np.array([n % slots, n, 0, memory.place[3]], np.int64),
    )
    fresh.target[:n] = memory.target[kept]
    fresh.serial[:n] = memory.serial[kept]
    return fresh, True


def compacted(events: NDArray[np.float32], kept: NDArray[np.int64]) -> NDArray[np.float32]:
    """Tiles with the events of these slots alone, in this order, from slot 0 on."""
    values = tiles.table(events)
    moved = np.zeros_like(values)
    moved[:, : len(kept)] = values[:, kept]
    return tiles.tiled(moved)


def with_rows(table: rates.Rates, rows: int) -> rates.Rates:
    """The same statistics with room for at least `rows` rows (doubled as needed)."""
    have = table.time.shape[0]
    if rows <= have:
        return table
    room = continued(max(rows, min(2 * have, MAX_ROWS + 1)), have)
    time = np.full(len(room), -np.inf)
    time[:have] = table.time
    return table._replace(total=spread(table.total, room), time=time)


def flatten(state: State, *, absent: Collection[str] = ()) -> Arrays:
    """Every array under its name, copied; without those of the groups that are `absent`."""
    arrays = {name: getattr(state, name) for name in PLAIN if name != "brief" or state.brief.size > 1}
    for group, kind in GROUPS.items():
        if group in absent:
            continue
        held = getattr(state, group)
        if group == "forest":
            held = forest.trimmed(held)
        for field in kind._fields:
            arrays[f"{group}.{field}"] = getattr(held, field)
    if experience.there(state.lasting):
        for part, kind_of in LASTING.items():
            held = getattr(state.lasting, part)
            if kind_of is None:
                arrays[f"lasting.{part}"] = held
            else:
                arrays |= {f"lasting.{part}.{field}": getattr(held, field) for field in kind_of._fields}
    trusted = (".R", ".square_r")  # no columns: layers of before heads read forecasts, or that recall nothing
    return copied({name: array for name, array in arrays.items() if array.size or not name.endswith(trusted)})


def copied(arrays: Arrays) -> Arrays:
    """The same in one new block of memory."""
    out = in_one_block(arrays, np.empty)
    for name, array in arrays.items():
        out[name][...] = array
    return out


def in_one_block(arrays: Arrays, make: Callable[[int, Any], NDArray[Any]]) -> Arrays:
    """As large ones in one new block of memory: the system hands that out in large pages, many times as fast.

    make: `np.empty` or `np.zeros`.
    """
    room = {name: -(-array.nbytes // ALIGNED) * ALIGNED for name, array in arrays.items()}
    block, at = make(sum(room.values()), np.uint8), 0
    out = {}
    for name, array in arrays.items():
        out[name] = block[at : at + array.nbytes].view(array.dtype).reshape(array.shape)
        at += room[name]
    return out


def arrays_of(state: State, groups: Collection[str], *, trimmed: bool = False) -> Arrays:
    """The arrays of some parts under their names; trimmed: trees without the room that none has used yet."""
    arrays = {}
    for group in groups:
        held = getattr(state, group)
        if group not in GROUPS:
            arrays[group] = held
            continue
        if group == "forest" and trimmed:
            held = forest.trimmed(held)
        arrays |= {f"{group}.{field}": getattr(held, field) for field in GROUPS[group]._fields}
    return arrays


def duplicate(state: State, groups: Collection[str]) -> State:
    """The state with copies of these parts, in one new block of memory."""
    arrays, used = arrays_of(state, groups), int(state.forest.used.max()) if "forest" in groups else 0
    fresh = in_one_block(arrays, np.zeros)
    for name, array in arrays.items():
        if name == "forest.node":
            fresh[name][:, :used] = array[:, :used]  # what no tree has used yet is zero
        else:
            fresh[name][...] = array
    return regrouped(state, fresh, groups)


def copied_into(fresh: State, state: State, groups: Collection[str]) -> bool:
    """Copy these parts into those of another state; False where they have other sizes, and nothing was copied."""
    to, source = arrays_of(fresh, groups), arrays_of(state, groups)
    if any(to[name].shape != array.shape for name, array in source.items()):
        return False
    for name, array in source.items():
        np.copyto(to[name], array)
    return True


def regrouped(state: State, arrays: Mapping[str, NDArray[Any]], groups: Collection[str]) -> State:
    """The state with other arrays in these parts."""
    parts = {
        group: GROUPS[group](**{field: arrays[f"{group}.{field}"] for field in GROUPS[group]._fields})
        if group in GROUPS
        else arrays[group]
        for group in groups
    }
    return state._replace(**parts)


def restored(
    present: State, arrays: Mapping[str, NDArray[Any]], prefix: str, groups: Collection[str]
) -> State:
    """The present state with these parts as they stand in a snapshot under a prefix."""
    names = arrays_of(present, groups)
    own = {name: np.array(arrays[prefix + name], order="C", copy=True) for name in names}
    found = regrouped(present, own, groups)
    return found._replace(forest=forest.padded(found.forest)) if "forest" in groups else found


def unflatten(arrays: Mapping[str, NDArray[Any]]) -> State:
    """The state that `flatten` took apart; KeyError names what is missing."""
    import torch

    arrays = {"brief": np.zeros((1, 1), np.float32), **arrays}  # where features are few

    for net in ("fast", "slow", "lasting.layer", "lasting.mean"):  # of before heads read forecasts
        if f"{net}.W" in arrays:
            none = np.zeros((len(arrays[f"{net}.W"]), 0), np.float32)
            arrays = {f"{net}.R": none, f"{net}.square_r": none, **arrays}

    def owned(name: str) -> NDArray[Any]:
        array = np.array(arrays[name], order="C", copy=True)
        if name.split(".")[0] in ("fast", "slow") or name.startswith(("lasting.layer", "lasting.mean")):
            tensor: NDArray[Any] = torch.from_numpy(array).numpy()
            return tensor
        return array

    groups = {
        group: kind(**{field: owned(f"{group}.{field}") for field in kind._fields})
        for group, kind in GROUPS.items()
        if f"{group}.{kind._fields[0]}" in arrays or group not in LATER
    }
    groups["forest"] = forest.padded(groups["forest"]) if "forest" in groups else no_trees()
    groups.setdefault("early", no_early())
    groups.setdefault("watch", watch.allocate(1, on=False))
    if "sleep" not in groups:
        mixers, experts = groups["mixer"].weight.shape
        groups["rival"] = mixing.allocate(experts, mixers)
        groups["sleep"] = sleep.allocate(experts, on=False)
    lasting = experience.nothing()
    if "lasting.steps" in arrays:
        unknown = np.zeros(len(arrays["lasting.layer.square_x"]) + 1, np.float32)
        arrays = {"lasting.present": unknown, **arrays}  # of before present and past were told apart
        parts = {
            part: owned(f"lasting.{part}")
            if kind is None
            else kind(**{field: owned(f"lasting.{part}.{field}") for field in kind._fields})
            for part, kind in LASTING.items()
        }
        held: Any = parts["analytic"]
        parts["analytic"] = held._replace(factor=held.factor.astype(np.float32, copy=False))  # was float64
        lasting = experience.Experience(**parts)
    return State(**groups, lasting=lasting, **{name: owned(name) for name in PLAIN})
