"""Tests of keras_transformer.layers.activations."""

import math

import keras
import numpy as np
import oracles
from oracles import assert_close, largest_difference

from keras_transformer.layers import EncoderBlock, FeedForward, gelu_tanh

X = np.linspace(-6, 6, 12_001, dtype="float32")


def test_gelu_tanh_is_the_approximation():  # L26
    x = X.astype("float64")
    expected = 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    assert_close(gelu_tanh(X), expected, 1e-6)


def test_both_forms_differ_by_little_and_not_by_nothing():  # L26
    exact, approximate = keras.activations.gelu(X), gelu_tanh(X)
    assert_close(exact, oracles.gelu(X.astype("float64")), 1e-6)
    assert 4.6e-4 < largest_difference(exact, approximate) < 4.8e-4
    differs = np.abs(np.array(exact) - np.array(approximate)) > 1e-4
    assert 2 < np.min(np.abs(X[differs])) + np.max(np.abs(X[differs])) < 5  # around 2, not at 0


def test_network_and_blocks_know_both_by_name():
    for name, function in (("gelu", keras.activations.gelu), ("gelu_tanh", gelu_tanh)):
        assert FeedForward(16, 8, activation=name).activation is function
        block = EncoderBlock(2, 8, 16, activation=name)
        assert block.feed_forward.sublayer.activation is function
        again = EncoderBlock.from_config(block.get_config())
        assert again.activation is function


def test_network_keeps_the_form_it_was_given(reload):
    inputs = keras.Input((None, 8))
    for name, function in (("gelu", keras.activations.gelu), ("gelu_tanh", gelu_tanh)):
        model = keras.Model(inputs, FeedForward(16, 8, activation=name)(inputs))
        again, x = reload(model), np.linspace(-9, 9, 40, dtype="float32").reshape(1, 5, 8)
        assert again.layers[-1].activation is function
        assert np.array_equal(again(x), model(x))
