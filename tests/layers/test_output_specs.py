"""Tests that layers have the shapes that they say without being run."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from fixtures_families import make_cases

CASES = make_cases()


def assert_as_said(specs, values):
    """Compare what a graph of layers says of its outputs with what it makes."""
    specs, values = keras.tree.flatten(specs), keras.tree.flatten(values)
    for spec, value in zip(specs, values, strict=True):
        assert spec.dtype == keras.backend.standardize_dtype(value.dtype)
        for said, made in zip(spec.shape, value.shape, strict=True):
            assert said in (None, made)


@pytest.mark.parametrize("name", CASES)
def test_outputs_have_the_shapes_that_are_said(name):
    model = CASES[name].make()
    inputs = CASES[name].inputs
    outputs = model(inputs, training=False)
    assert_as_said(model.outputs, outputs)
    shapes = {key: x.shape for key, x in inputs.items()}
    made = keras.tree.map_structure(lambda x: tuple(x.shape), outputs)
    assert model.compute_output_shape(shapes) == made


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("name", ["Transformer", "T5", "Gpt"])
def test_decoding_has_the_shapes_that_are_said(name, dtype):
    model = CASES[name].make(dtype=dtype)
    source = np.array([[5, 6, 3], [7, 3, 0]], "int32")
    read = model.encoder(source)
    assert_as_said(model.encoder.outputs, read)
    bias, memory = read
    ids, index, visible = tf.constant([[2], [2]]), tf.constant(0), tf.ones((1, 1, 4), tf.bool)
    step = model.decoder_step([ids, index, model.empty_caches(2, 4), visible, bias, memory])
    assert_as_said(model.decoder_step.outputs, step)
