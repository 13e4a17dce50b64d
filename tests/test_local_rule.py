"""The local rule: the kernels are their NumPy twins, and no layer feels what lies above it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import network
from engine.rules import local


class Stack:
    """A bare stack of layers, driven event by event through the kernels."""

    def __init__(self, depth: int, width: int, inputs: int, outputs: int, activation: str, seed: int,
                 recalled: int = 0) -> None:  # fmt: skip
        self.depth, self.width, self.inputs, self.outputs = depth, width, inputs, outputs
        self.activation = local.ACTIVATIONS[activation]
        shape = network.Shape(depth=depth, width=width, inputs=inputs, outputs=outputs, recalled=recalled)
        self.layers = network.allocate(shape, seed)
        f = np.float32
        self.hidden, self.slope = np.zeros((depth, width), f), np.zeros((depth, width), f)
        self.above, self.p = np.zeros((depth + 1, width), f), np.zeros((depth, outputs))
        self.delta, self.sway, self.scaled = (np.zeros(width, f) for _ in range(3))
        self.x_scaled = np.zeros(inputs, f)
        self.step = 0

    def learn(
        self,
        x: np.ndarray,
        target: float,
        rate: float = 0.01,
        regression: bool = False,
        weight: float = 1.0,
    ) -> np.ndarray:
        self.step += 1
        correction = 1.0 - local.SQUARE_DECAY**self.step
        for k in range(self.depth):
            local.forward_layer(
                self.layers, k, self.width, self.inputs, self.outputs, self.activation, regression,
                self.above[k], x, self.hidden[k], self.slope[k], self.above[k + 1], self.p[k],
            )  # fmt: skip
        said = self.p.copy()
        local.scale_input(self.layers, self.inputs, correction, x, self.x_scaled)
        for k in range(self.depth):
            local.update_layer(
                self.layers, k, self.width, self.inputs, self.outputs, regression, rate, correction, target,
                weight, self.above[k], x, self.x_scaled, self.hidden[k], self.slope[k], self.p[k], self.delta,
                self.sway, self.scaled,
            )  # fmt: skip
        return said


@pytest.mark.parametrize("activation", sorted(local.ACTIVATIONS))
def test_a_layers_update_is_the_same_to_the_bit_whatever_lies_above_it(activation: str) -> None:
    rng = np.random.default_rng(1)
    low, high = (Stack(depth, 12, 7, 3, activation, seed=5) for depth in (2, 9))
    for _ in range(60):
        x, target = rng.normal(size=7).astype(np.float32), float(rng.integers(3))
        said_low, said_high = low.learn(x, target), high.learn(x, target)
        assert np.array_equal(said_low, said_high[:2])
    for name, array in zip(low.layers._fields, low.layers, strict=True):
        other = getattr(high.layers, name)
        assert np.array_equal(array, other if name == "square_x" else other[:2]), name


@settings(max_examples=40, deadline=None)
@given(
    activation=st.sampled_from(sorted(local.ACTIVATIONS)),
    width=st.integers(1, 9),
    inputs=st.integers(1, 11),
    outputs=st.integers(2, 5),
    regression=st.booleans(),
    recalled=st.integers(0, 3),
    seed=st.integers(0, 2**16),
)
def test_the_kernels_follow_their_numpy_twin(
    activation: str, width: int, inputs: int, outputs: int, regression: bool, recalled: int, seed: int
) -> None:
    outputs = 1 if regression else outputs
    inputs += recalled * outputs
    stack = Stack(1, width, inputs, outputs, activation, seed, recalled)
    rng = np.random.default_rng(seed)
    parameters = {
        "W": stack.layers.W[0][:, width:].astype(np.float64), "b": np.zeros(width),
        "V": np.zeros((outputs, width)), "c": np.zeros(outputs),
        "R": np.full(recalled, 1.0 / max(recalled, 1)),
    }  # fmt: skip
    squares = {"u": np.zeros(inputs), "h": np.zeros(width), "e": np.zeros(outputs), "d": np.zeros(width),
               "r": np.zeros(recalled)}  # fmt: skip
    for step in range(1, 6):
        x = rng.normal(size=inputs).astype(np.float32)
        target = float(rng.normal()) if regression else float(rng.integers(outputs))
        wanted = np.array([target]) if regression else np.eye(outputs)[int(target)]
        _, _, p = local.numpy_forward(
            *(parameters[name].astype(np.float32) for name in "WbVcR"), x, stack.activation, regression
        )
        weight = float(rng.choice([0.5, 1.0, 3.0]))
        said = stack.learn(x, target, regression=regression, weight=weight)
        np.testing.assert_allclose(said[0], p, rtol=1e-3, atol=1e-4)
        parameters, squares = local.numpy_update(
            parameters,
            squares,
            step,
            0.01,
            x.astype(np.float64),
            wanted,
            stack.activation,
            regression,
            weight,
        )
    for name, array in (("V", stack.layers.V[0]), ("c", stack.layers.c[0]), ("R", stack.layers.R[0])):
        np.testing.assert_allclose(array, parameters[name], rtol=2e-2, atol=2e-3)


def test_before_it_has_learned_a_head_says_the_geometric_mean_of_what_it_reads() -> None:
    stack = Stack(3, 4, 8, 2, "sigmoid", seed=1, recalled=3)
    said = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]])
    x = np.concatenate([np.log(said).ravel() + 2.0, [5.0, -3.0]]).astype(np.float32)
    p = stack.learn(x, 0.0)
    mean = np.exp(np.log(said).mean(axis=0))
    np.testing.assert_allclose(p, np.tile(mean / mean.sum(), (3, 1)), rtol=1e-5)
    for _ in range(300):  # the first is right, the others are not
        stack.learn(x, 0.0)
    assert (stack.layers.R[:, 0] > stack.layers.R[:, 2]).all()


def test_a_thousand_sigmoid_layers_all_learn() -> None:
    rng = np.random.default_rng(0)
    stack = Stack(1000, 8, 6, 2, "sigmoid", seed=3)
    right = np.zeros(1000)
    for i in range(500):
        x = rng.normal(size=6).astype(np.float32)
        target = float(x[0] + x[1] > 0)
        said = stack.learn(x, target, rate=0.003)
        if i >= 250:
            right += said.argmax(axis=1) == target
    assert right.min() / 250 > 0.85


def test_growing_keeps_what_was_learned_and_gives_new_weights_their_own_values() -> None:
    stack = Stack(2, 4, 3, 2, "tanh", seed=7)
    rng = np.random.default_rng(2)
    for _ in range(20):
        stack.learn(rng.normal(size=3).astype(np.float32), float(rng.integers(2)))
    grown = network.grow(stack.layers, 7, 5, 3, np.array([2, -1, 0, 1, -1]))
    assert np.array_equal(
        grown.W[:, :, 4 + np.array([0, 2, 3])], stack.layers.W[:, :, 4 + np.array([2, 0, 1])]
    )
    assert np.array_equal(grown.V[:, :2], stack.layers.V)
    assert not grown.V[:, 2].any()
    again = network.grow(stack.layers, 7, 5, 3, np.array([2, -1, 0, 1, -1]))
    assert np.array_equal(grown.W, again.W)
    assert grown.W[:, :, 5].std() > 0


def test_parameters_at_rest_are_torch_tensors_over_the_same_storage() -> None:
    layers = network.allocate(network.Shape(depth=1, width=2, inputs=3, outputs=2), 0)
    tensors = network.tensors(layers)
    tensors["b"][0, 1] = 5.0
    assert layers.b[0, 1] == 5.0
    state = {name: tensor.clone() for name, tensor in tensors.items()}
    layers.W[...] = 0
    network.load_tensors(layers, state)
    assert layers.W.any()
    with pytest.raises(ValueError, match="'V' has shape"):
        network.load_tensors(layers, state | {"V": np.zeros((1, 1))})
    with pytest.raises(ValueError, match="'c' is missing"):
        network.load_tensors(layers, {name: state[name] for name in "WbV"})
