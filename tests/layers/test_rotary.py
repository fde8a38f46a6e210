"""Tests of keras_transformer.layers.rotary; in stacks and caches: test_attention_kinds."""

import keras
import numpy as np
import pytest
from fixtures_attention import normal
from keras import ops
from oracles import assert_close, largest_difference

from keras_transformer.layers import RotaryPositions, rotate


def turned(x, positions, base=10000.0):
    """Coordinates i and i + d / 2 as one complex number, times e^(i p / base^(2k / d))."""
    width = x.shape[-1]
    first, second = np.split(np.asarray(x, "float64"), 2, axis=-1)
    frequencies = base ** (-np.arange(0, width, 2) / width)
    y = (first + 1j * second) * np.exp(1j * np.multiply.outer(positions, frequencies))
    return np.concatenate([y.real, y.imag], axis=-1)


def rotation(positions, head_width=8, **options):
    return RotaryPositions(head_width, **options)(ops.convert_to_tensor(positions))["rotation"]


@pytest.mark.parametrize("base", [10000.0, 100.0])
def test_pairs_are_turned_as_complex_numbers(rng, base):
    x, positions = normal(rng, 2, 3, 5, 8), np.array([0, 1, 2, 40, 7])
    output = rotate(x, rotation(positions, base=base))
    for b in range(2):
        for h in range(3):
            assert_close(output[b, h], turned(x[b, h], positions, base))
    assert np.array_equal(output[:, :, 0], x[:, :, 0])  # position 0 is not turned


def test_rows_may_have_positions_of_their_own(rng):
    x, positions = normal(rng, 2, 3, 4, 8), np.array([[0, 1, 2, 3], [5, 5, 9, 0]])
    output = rotate(x, rotation(positions))
    for b in range(2):
        for h in range(3):
            assert_close(output[b, h], turned(x[b, h], positions[b]))


def test_products_depend_on_the_distance_alone(rng):
    query, key = (np.tile(normal(rng, 1, 1, 1, 8), (1, 1, 30, 1)) for _ in range(2))
    places = rotation(np.arange(30))
    products = np.array(rotate(query, places) @ np.swapaxes(rotate(key, places), -1, -2))[0, 0]
    for distance in range(-29, 30):
        assert np.ptp(np.diagonal(products, distance)) < 1e-4
    assert np.ptp(products[0]) > 1  # and they do depend on it
    half = np.array(query @ np.swapaxes(rotate(key, places), -1, -2))[0, 0]
    assert np.ptp(np.diagonal(half)) > 1  # if only keys are turned, on the key's position


def test_lengths_stay(rng):
    x = normal(rng, 2, 3, 5, 8)
    output = rotate(x, rotation(np.arange(5) + 1000))
    assert_close(np.linalg.norm(output, axis=-1), np.linalg.norm(x, axis=-1))
    assert largest_difference(output, x) > 0.5


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_angles_are_computed_in_float32(rng, dtype):
    x = ops.cast(normal(rng, 1, 1, 4, 8), dtype)
    positions = np.array([0, 1000, 5000, 5001])
    output = rotate(x, rotation(positions))
    assert output.dtype == dtype
    expected = turned(np.array(ops.cast(x, "float32"))[0, 0], positions)
    assert_close(ops.cast(output, "float32")[0, 0], expected, 2e-3 if dtype == "float16" else 2e-2)


def test_odd_width_is_refused():
    with pytest.raises(ValueError, match="even head_width, got 5"):
        RotaryPositions(5)


def test_config_gives_back_the_layer():
    layer = RotaryPositions(8, base=500.0, name="positions")
    again = RotaryPositions.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    assert (again.head_width, again.base) == (8, 500.0)
    assert layer.weights == []
    assert isinstance(layer, keras.layers.Layer)
