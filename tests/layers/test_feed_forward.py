"""Tests of keras_transformer.layers.feed_forward and keras_transformer.layers.linear.

Also: layers.linear.
"""

import keras
import numpy as np
import oracles
import pytest
from keras import ops
from oracles import assert_close, largest_difference, shake

from keras_transformer.layers import FeedForward, Linear


def normal(rng, *shape):
    return rng.normal(size=shape).astype("float32")


def made(rng, d_ff=16, d_model=8, **options):
    layer = FeedForward(d_ff, d_model, **options)
    layer.build((None, None, d_model))
    shake(layer, rng)
    return layer


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_network_is_two_linear_maps_with_an_activation_between(rng, activation):  # L24, W52
    layer, x = made(rng, activation=activation), normal(rng, 2, 3, 8)
    expected = [oracles.feed_forward(layer, row, getattr(oracles, activation)) for row in x]
    assert_close(layer(x), expected)
    assert [w.shape for w in layer.weights] == [(8, 16), (16,), (16, 8), (8,)]


def test_relu_blocks_the_negative_and_passes_the_positive(rng):  # L25
    layer, x = made(rng, d_ff=8), normal(rng, 2, 3, 8)
    layer.set_weights([np.eye(8), np.zeros(8), np.eye(8), np.zeros(8)])
    assert np.array_equal(layer(x), np.maximum(x, 0))
    assert 0.2 < np.mean(x < 0) < 0.8


def test_gelu_is_the_exact_form(rng):  # L26
    x = np.linspace(-5, 5, 1001, dtype="float32").reshape(1, 1001, 1)
    layer = made(rng, d_ff=1, d_model=1, activation="gelu")
    layer.set_weights([np.ones((1, 1)), np.zeros(1), np.ones((1, 1)), np.zeros(1)])
    approximate = ops.gelu(x, approximate=True)
    assert_close(layer(x), oracles.gelu(x.astype("float64")), 1e-6)
    assert 4e-4 < largest_difference(layer(x), approximate) < 5e-4


def test_every_position_is_treated_alone_and_alike(rng):  # L24
    layer, x = made(rng), normal(rng, 2, 5, 8)
    output, order = np.array(layer(x)), [3, 0, 4, 1, 2]
    for t in range(5):
        assert_close(layer(x[:, t : t + 1])[:, 0], output[:, t], 1e-6)
    assert_close(layer(x[:, order]), output[:, order], 1e-6)


def test_dropout_acts_on_the_hidden_layer_in_training_only(rng):  # L31
    layer, x = made(rng, dropout=0.5), normal(rng, 2, 3, 8)
    assert np.array_equal(layer(x, training=False), layer(x, training=False))
    assert largest_difference(layer(x, training=True), layer(x, training=False)) > 1e-3
    layer.expand.set_weights([np.zeros((8, 16)), np.zeros(16)])  # a hidden layer of zeros
    assert np.array_equal(layer(x, training=True), layer(x, training=False))


@pytest.mark.parametrize(("policy", "bound"), [("mixed_float16", 5e-3), ("mixed_bfloat16", 4e-2)])
def test_mixed_precision_is_near_float32(rng, policy, bound):
    full, mixed, x = made(rng), made(rng, dtype=policy), normal(rng, 2, 3, 8)
    mixed.set_weights(full.get_weights())
    expected = np.array(full(x))
    assert mixed(x).dtype == policy.removeprefix("mixed_")
    assert_close(ops.cast(mixed(x), "float32"), expected, bound * np.max(np.abs(expected)))


def test_config_gives_back_the_layer():
    layer = FeedForward(16, 8, activation="gelu", dropout=0.1, name="network")
    again = FeedForward.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    assert (again.d_ff, again.d_model, again.dropout) == (16, 8, 0.1)
    assert again.activation is keras.activations.gelu


def test_saved_layer_computes_the_same(rng, reload):
    inputs, layer = keras.Input((None, 8)), FeedForward(16, 8, activation="gelu")
    model, x = keras.Model(inputs, layer(inputs)), normal(rng, 2, 3, 8)
    shake(layer, rng)
    assert np.array_equal(reload(model)(x), model(x))


@pytest.mark.parametrize("shape", [(4, 8), (2, 3, 8), (2, 3, 5, 8)])
def test_linear_maps_the_last_axis(rng, shape):
    layer, x = Linear(6, activation="relu"), normal(rng, *shape)
    layer.build(shape)
    shake(layer, rng)
    kernel, bias = layer.get_weights()
    assert layer(x).shape == (*shape[:-1], 6)
    assert_close(layer(x), oracles.relu(x @ kernel + bias))


def test_saved_linear_computes_the_same(rng, reload):
    inputs = keras.Input((None, 8))
    layer = Linear(6, use_bias=False)
    model, x = keras.Model(inputs, layer(inputs)), normal(rng, 2, 3, 8)
    again = reload(model)
    assert type(again.layers[-1]) is Linear
    assert again.layers[-1].get_config() == layer.get_config()
    assert np.array_equal(again(x), model(x))


# Gates


@pytest.mark.parametrize(
    ("activation", "function"),
    [("relu", oracles.relu), ("gelu", oracles.gelu), ("silu", lambda x: x / (1 + np.exp(-x)))],
)
@pytest.mark.parametrize("use_bias", [True, False])
def test_gated_network_multiplies_two_maps(rng, activation, function, use_bias):  # GEGLU, SwiGLU
    layer = made(rng, activation=activation, gated=True, use_bias=use_bias)
    x = normal(rng, 2, 3, 8)

    def linear(part, y):
        kernel, *bias = part.get_weights()
        return y @ kernel.astype("float64") + (bias[0] if use_bias else 0)

    hidden = function(linear(layer.expand, x)) * linear(layer.gate, x)
    assert_close(layer(x), linear(layer.contract, hidden))
    maps = [(8, 16), (8, 16), (16, 8)]
    assert sorted(tuple(w.shape) for w in layer.weights if len(w.shape) == 2) == sorted(maps)
    assert len(layer.weights) == (6 if use_bias else 3)


def test_gate_can_close(rng):
    layer, x = made(rng, gated=True), normal(rng, 2, 3, 8)
    open_ = np.array(layer(x))
    layer.gate.set_weights([np.zeros((8, 16)), np.zeros(16)])
    closed = np.array(layer(x))
    assert_close(closed, np.broadcast_to(layer.contract.bias.numpy(), closed.shape))
    assert largest_difference(open_, closed) > 1e-2


def test_saved_gated_network_computes_the_same(rng, reload):
    inputs, options = keras.Input((None, 8)), {"gated": True, "use_bias": False}
    layer = FeedForward(16, 8, activation="silu", **options)
    model, x = keras.Model(inputs, layer(inputs)), normal(rng, 2, 4, 8)
    again = reload(model)
    assert np.array_equal(again(x), model(x))
    assert {k: v for k, v in again.layers[-1].get_config().items() if k in options} == options


@pytest.mark.parametrize("activation", ["linear", "relu"])
def test_without_activation_the_network_is_affine(rng, activation):  # C39
    layer, (a, b) = made(rng, activation=activation), normal(rng, 2, 1, 3, 8)
    nothing = np.array(layer(np.zeros((1, 3, 8))))
    excess = np.array(layer(a + b)) - layer(a) - layer(b) + nothing
    if activation == "linear":
        assert_close(excess, np.zeros_like(excess))
    else:
        assert largest_difference(excess, np.zeros_like(excess)) > 0.1
