"""Tests of keras_transformer.layers.positions."""

import keras
import numpy as np
import oracles
import pytest
import tensorflow as tf
from keras import ops
from oracles import assert_close, largest_difference

from keras_transformer.layers import LearnedPositions, SinusoidalPositions, sinusoidal_table

BOTH = pytest.mark.parametrize("layer_class", [SinusoidalPositions, LearnedPositions])


def normal(rng, *shape):
    return rng.normal(size=shape).astype("float32")


@pytest.mark.parametrize(("length", "d_model"), [(1, 2), (7, 8), (300, 64)])
def test_table_is_the_formula(length, d_model):  # L18
    table = sinusoidal_table(length, d_model)
    assert table.dtype == np.float32
    assert_close(table, oracles.sinusoidal(length, d_model), 1e-6)


def test_sines_and_cosines_take_turns():  # L18
    table = sinusoidal_table(50, 16)
    assert np.array_equal(table[0], [0, 1] * 8)
    side_by_side = np.concatenate([table[:, 0::2], table[:, 1::2]], axis=1)
    assert largest_difference(side_by_side, oracles.sinusoidal(50, 16)) > 0.5


def test_every_row_has_the_same_norm():  # L18
    assert_close(np.linalg.norm(sinusoidal_table(256, 512), axis=1), np.full(256, 16.0), 1e-4)


def test_similarity_depends_on_the_distance_alone():
    table = sinusoidal_table(60, 16)
    for distance in range(30):
        assert np.ptp(np.diagonal(table @ table.T, distance)) < 1e-4


@pytest.mark.parametrize(
    "make", [sinusoidal_table, lambda n, d: SinusoidalPositions(n)(ops.ones((1, n, d)))]
)
def test_sinusoidal_positions_need_an_even_width(make):
    with pytest.raises(ValueError, match="even d_model, got 5"):
        make(3, 5)


def test_sinusoidal_encoding_is_added(rng):  # L18, L19
    layer, x = SinusoidalPositions(10), normal(rng, 2, 6, 8)
    assert layer(x).shape == x.shape
    assert_close(layer(x) - x, [oracles.sinusoidal(6, 8)] * 2, 1e-6)
    assert layer.weights == []


def test_learned_encoding_is_added(rng):  # L19, L20
    layer, x = LearnedPositions(10), normal(rng, 2, 6, 8)
    assert_close(layer(x) - x, [layer.table[:6]] * 2, 1e-6)
    assert layer.count_params() == 10 * 8
    assert 0.01 < np.std(layer.table) < 0.03


@BOTH
def test_positions_can_start_anywhere(rng, layer_class):
    layer, x = layer_class(10), normal(rng, 2, 6, 8)
    whole = layer(x)
    assert_close(layer(x[:, 4:], start=4), whole[:, 4:], 1e-6)
    one_step = tf.function(lambda x, start: layer(x, start=start))
    for start in range(6):
        assert_close(one_step(x[:, start : start + 1], tf.constant(start))[:, 0], whole[:, start])


def test_only_the_positions_in_use_are_trained(rng):  # L20
    layer, x = LearnedPositions(10), normal(rng, 2, 6, 8)
    with tf.GradientTape() as tape:
        loss = ops.sum(layer(x) ** 2)
    gradient = tf.convert_to_tensor(tape.gradient(loss, layer.table.value))
    assert np.all(gradient[:6])
    assert not np.any(gradient[6:])


@BOTH
def test_sequence_that_is_too_long_is_refused(layer_class):  # L20
    layer = layer_class(4)
    assert layer(ops.ones((1, 4, 8))).shape == (1, 4, 8)
    with pytest.raises(ValueError, match=r"max_length=4 positions, but the sequence needs 5"):
        layer(ops.ones((1, 5, 8)))
    with pytest.raises(ValueError, match="needs 6"):
        layer(ops.ones((1, 3, 8)), start=3)


@BOTH
def test_sequence_that_is_too_long_is_refused_in_a_graph(layer_class):  # L20
    layer = layer_class(4)
    traced = tf.function(layer, input_signature=[tf.TensorSpec((1, None, 8))])
    assert traced(tf.ones((1, 4, 8))).shape == (1, 4, 8)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"4 is not in \[0, 4\)"):
        traced(tf.ones((1, 5, 8)))


@BOTH
@pytest.mark.parametrize(("policy", "bound"), [("mixed_float16", 5e-3), ("mixed_bfloat16", 4e-2)])
def test_mixed_precision_is_near_float32(rng, layer_class, policy, bound):
    full, mixed, x = layer_class(10), layer_class(10, dtype=policy), normal(rng, 2, 6, 8)
    expected = full(x)
    mixed(x)
    mixed.set_weights(full.get_weights())
    assert mixed(x).dtype == policy.removeprefix("mixed_")
    assert_close(ops.cast(mixed(x), "float32"), expected, bound)


@BOTH
def test_config_gives_back_the_layer(layer_class):
    layer = layer_class(10, name="positions")
    again = layer_class.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    assert again.max_length == 10


@BOTH
def test_saved_layer_computes_the_same(rng, reload, layer_class):
    inputs = keras.Input((None, 8))
    model, x = keras.Model(inputs, layer_class(10)(inputs)), normal(rng, 2, 6, 8)
    assert np.array_equal(reload(model)(x), model(x))
