"""Tests of keras_transformer.layers.dropout."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_transformer.layers import Dropout


def dropped_share(values):
    return float(np.mean(np.asarray(values, "float32") == 0))


@pytest.mark.parametrize("width", [64, 63])
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_the_rate_is_met_and_the_mean_is_kept(rate, width):  # T17
    output = Dropout(rate, seed=1)(tf.ones((2000, 8, width)), training=True).numpy()
    deviation = np.sqrt(rate * (1 - rate) / output.size)  # of the share, were each drawn alone
    assert abs(dropped_share(output) - rate) < 4 * deviation
    assert abs(output.mean() - 1) < 4 * deviation / (1 - rate)
    np.testing.assert_allclose(np.unique(output), [0, 1 / (1 - rate)], rtol=2e-4)


def test_the_share_that_stays_is_the_one_divided_by():
    rate = 1.4 / 2**16  # one value of 65,536 drops out
    output = Dropout(rate, seed=1)(tf.ones((64, 65536)), training=True).numpy()
    assert 20 < np.sum(output == 0) < 120  # 64 expected; 90 at the rate as given
    assert output.max() == np.float32(2**16 / (2**16 - 1))


def test_neighbours_are_independent():
    """Two numbers share a random integer; each half of it must be random by itself."""
    output = Dropout(0.5, seed=2)(tf.ones((1000, 2000)), training=True).numpy() > 0
    for distance in (1, 2):
        both = np.mean(output[:, ::2] & np.roll(output, -distance, axis=1)[:, ::2])
        assert abs(both - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 1e6)
    assert abs(output[:, ::2].mean() - output[:, 1::2].mean()) < 4 * 0.5 * np.sqrt(2 / 1e6)


def test_each_call_draws_anew_and_a_seed_draws_again():
    inputs = tf.ones((4, 64))
    first, again = Dropout(0.5, seed=3), Dropout(0.5, seed=3)
    one, two = first(inputs, training=True), first(inputs, training=True)
    assert np.any(one != two)
    np.testing.assert_array_equal(one, again(inputs, training=True))
    np.testing.assert_array_equal(two, again(inputs, training=True))


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_nothing_is_dropped_at_inference(rate):
    inputs = tf.random.normal((4, 7))
    layer = Dropout(rate)
    for output in (layer(inputs), layer(inputs, training=False)):
        np.testing.assert_array_equal(output, inputs)


def test_the_ends_of_the_range():
    inputs = tf.ones((4, 6))
    np.testing.assert_array_equal(Dropout(1.0)(inputs, training=True), tf.zeros((4, 6)))
    np.testing.assert_array_equal(Dropout(0.0)(inputs, training=True), inputs)
    with pytest.raises(ValueError, match=r"rate.*1\.5"):
        Dropout(1.5)


@pytest.mark.parametrize("shape", [(0, 6), (0, 5), (3, 1), (5,)])
def test_any_shape(shape):
    assert Dropout(0.5)(tf.ones(shape), training=True).shape == shape


def test_shapes_that_are_not_known_yet():
    layer = Dropout(0.5, seed=4)

    @tf.function(input_signature=[tf.TensorSpec([None, None]), tf.TensorSpec([None, 6])])
    def both(a, b):
        a, b = layer(a, training=True), layer(b, training=True)
        assert b.shape.as_list() == [None, 6]
        return a, b

    a, b = both(tf.ones((300, 7)), tf.ones((300, 6)))
    assert a.shape == (300, 7)
    assert 0.4 < dropped_share(a) < 0.6
    assert 0.4 < dropped_share(b) < 0.6


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_lower_precision_is_kept(policy):
    output = Dropout(0.25, dtype=policy)(tf.ones((50, 100)), training=True)
    assert output.dtype == keras.DTypePolicy(policy).compute_dtype
    assert 0.2 < dropped_share(output) < 0.3


def test_the_gradient_passes_where_the_value_did():
    inputs = tf.random.normal((20, 30))
    layer = Dropout(0.3, seed=5)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        output = layer(inputs, training=True)
    gradient = tape.gradient(output, inputs)
    np.testing.assert_allclose(gradient * inputs, output, rtol=1e-6)


def test_a_noise_shape_is_drawn_as_keras_does():
    output = Dropout(0.5, noise_shape=(None, 1), seed=6)(tf.ones((50, 8)), training=True).numpy()
    assert np.all(output == output[:, :1])
    assert 0 < dropped_share(output) < 1


def test_with_xla():
    layer = Dropout(0.5, seed=7)
    output = tf.function(lambda x: layer(x, training=True), jit_compile=True)(tf.ones((100, 100)))
    assert 0.45 < dropped_share(output) < 0.55


def test_it_is_saved_and_loaded(tmp_path):
    inputs = keras.Input((8,))
    model = keras.Model(inputs, Dropout(0.5, seed=8)(inputs))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(loaded.layers[-1], Dropout)
    x = tf.ones((4, 8))
    np.testing.assert_array_equal(model(x, training=True), loaded(x, training=True))
