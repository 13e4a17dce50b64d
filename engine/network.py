"""The stack of layers: its parameters, and how they grow when features or classes appear."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

F32 = NDArray[np.float32]
PARAMETERS = ("W", "b", "V", "c", "R")


class Layers(NamedTuple):
    """The flat arrays of one network of L layers, H units each, D inputs, C outputs, all float32.

    W: (L, H, H + D) with columns [layer below | network input]; b: (L, H); V: (L, C, H); c: (L, C); R: (L, K),
    how much each head trusts the K forecasts that stand first among the inputs, C numbers each.
    square_x: (D,), square_u, square_h, square_d: (L, H), square_e: (L, C), square_r: (L, K) — running mean
    squares.
    """

    W: F32
    b: F32
    V: F32
    c: F32
    R: F32
    square_x: F32
    square_u: F32
    square_h: F32
    square_d: F32
    square_e: F32
    square_r: F32


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How large a network is: layers, units per layer, inputs, outputs, and forecasts among the inputs."""

    depth: int
    width: int
    inputs: int
    outputs: int
    recalled: int = 0


def mixed_bits(*lattice: NDArray[np.int64] | int) -> NDArray[np.float64]:
    """Uniform numbers in [0, 1) that depend on the lattice point alone (SplitMix64's finaliser, chained)."""
    state: Any = np.uint64(0x9E3779B97F4A7C15)
    with np.errstate(over="ignore"):
        for part in lattice:
            state = np.asarray(part, np.int64).astype(np.uint64) * np.uint64(0xBF58476D1CE4E5B9) ^ state
            state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            state = (state ^ (state >> np.uint64(31))) + np.uint64(0x9E3779B97F4A7C15)
    uniform: NDArray[np.float64] = (state >> np.uint64(11)).astype(np.float64) / float(1 << 53)
    return uniform


def allocate(shape: Shape, seed: int) -> Layers:
    """A fresh network: W uniform with variance 1/(fan-in), heads and offsets 0, R 1/K: a head's
    first forecast is the geometric mean of those it reads (the mean, for numbers).

    Each weight depends on the seed and its own place alone, not on when it was made. The storage of all
    parameters belongs to torch tensors; `tensors` gives them back.
    """
    import torch

    def zeros(*size: int) -> F32:
        array: F32 = torch.zeros(size, dtype=torch.float32).numpy()
        return array

    L, H, D, C, K = shape.depth, shape.width, shape.inputs, shape.outputs, shape.recalled
    layers = Layers(
        W=zeros(L, H, H + D), b=zeros(L, H), V=zeros(L, C, H), c=zeros(L, C), R=zeros(L, K),
        square_x=zeros(D), square_u=zeros(L, H), square_h=zeros(L, H), square_d=zeros(L, H),
        square_e=zeros(L, C), square_r=zeros(L, K),
    )  # fmt: skip
    layers.R[...] = 1.0 / max(K, 1)
    fill(layers, seed, np.arange(H + D), H + D)
    return layers


def fill(layers: Layers, seed: int, columns: NDArray[np.int64], fan_in: int) -> None:
    """Give these columns of W their starting values."""
    L, H, _ = layers.W.shape
    for layer in range(L):
        uniform = mixed_bits(seed, layer, np.arange(H)[:, None], columns[None, :])
        layers.W[layer][:, columns] = (uniform - 0.5) * np.sqrt(12.0 / max(fan_in, 1))


def grow(layers: Layers, seed: int, inputs: int, outputs: int, source: NDArray[np.int64]) -> Layers:
    """The same network with other inputs and outputs.

    source: (inputs,) int64 — for each new input the old one that it continues, or −1 for a new one.
    """
    L, H, _ = layers.W.shape
    K = layers.R.shape[1]
    fresh = allocate(Shape(depth=L, width=H, inputs=inputs, outputs=outputs, recalled=K), seed)
    old = layers.V.shape[1]
    kept = np.flatnonzero(source >= 0)
    fresh.W[:, :, :H] = layers.W[:, :, :H]
    fresh.W[:, :, H + kept] = layers.W[:, :, H + source[kept]]
    fresh.square_x[kept] = layers.square_x[source[kept]]
    fresh.V[:, :old] = layers.V
    fresh.c[:, :old] = layers.c
    fresh.square_e[:, :old] = layers.square_e
    for name in ("b", "square_u", "square_h", "square_d", "R", "square_r"):
        getattr(fresh, name)[...] = getattr(layers, name)
    return fresh


def tensors(layers: Layers) -> dict[str, torch.Tensor]:
    """The parameters as torch tensors over the same storage: a state_dict of W, b, V, c, R."""
    import torch

    return {name: torch.from_numpy(getattr(layers, name)) for name in PARAMETERS}


def load_tensors(layers: Layers, state: dict[str, Any]) -> None:
    """Copy a state_dict into the network; ValueError names a parameter that is missing or of another shape."""
    for name in PARAMETERS:
        if name not in state:
            raise ValueError(
                f"parameter {name!r} is missing from the state; expected {', '.join(PARAMETERS)}"
            )
        array = getattr(layers, name)
        value = np.asarray(state[name])
        if value.shape != array.shape:
            raise ValueError(
                f"parameter {name!r} has shape {value.shape}, this network's has {array.shape}; "
                "build the network with the same depth, width, features and classes first"
            )
        array[...] = value
