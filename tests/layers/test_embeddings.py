"""Tests of keras_transformer.layers.embeddings."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from oracles import assert_close, largest_difference

from keras_transformer.layers import TokenEmbedding

IDS = np.array([[4, 0, 2], [2, 2, 1]])


def made(vocabulary_size=5, d_model=8, **options):
    layer = TokenEmbedding(vocabulary_size, d_model, **options)
    layer.build()
    return layer


def test_each_id_gets_its_row():  # L16
    layer = made(scale=False)
    assert layer(IDS).shape == (2, 3, 8)
    assert np.array_equal(layer(IDS), layer.table.numpy()[IDS])
    assert layer.count_params() == 5 * 8


def test_rows_are_scaled_by_the_root_of_the_width():  # L17
    layer = made(d_model=512)
    ratio = np.array(layer(IDS)) / layer.table.numpy()[IDS]
    assert_close(ratio, np.full(ratio.shape, 22.627417), 1e-4)


def test_scaled_vectors_are_as_large_as_the_positions_added_to_them():  # L17
    layer = made(1000, 512)
    norms = np.linalg.norm(layer(np.arange(1000)[None]), axis=-1)
    assert np.mean(norms) == pytest.approx(512**0.5, rel=0.02)  # the positions' norm is 16


def test_id_outside_the_vocabulary_is_an_error():  # L16
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"= 5 is not in \[0, 5\)"):
        made()(np.array([[1, 5]]))


def test_reversed_table_scores_every_token(rng):  # L32, L33
    layer, states = made(), rng.normal(size=(2, 3, 8)).astype("float32")
    logits = layer(states, reverse=True)
    assert logits.shape == (2, 3, 5)
    assert_close(logits, states @ layer.table.numpy().T)


def test_first_logits_have_unit_variance(rng):
    layer, states = made(1000, 64), rng.normal(size=(1, 50, 64)).astype("float32")
    assert np.std(layer(states, reverse=True)) == pytest.approx(1, rel=0.05)


def test_both_directions_train_one_table():  # L33
    layer = made()
    with tf.GradientTape() as tape:
        loss = ops.sum(layer(np.array([[1]]))[..., 0])
    inwards = tf.convert_to_tensor(tape.gradient(loss, layer.table.value))
    with tf.GradientTape() as tape:
        loss = ops.sum(layer(np.ones((1, 1, 8), "float32"), reverse=True)[..., 2])
    outwards = tf.convert_to_tensor(tape.gradient(loss, layer.table.value))
    assert np.flatnonzero(np.any(inwards, axis=1)).tolist() == [1]
    assert np.flatnonzero(np.any(outwards, axis=1)).tolist() == [2]
    assert len(layer.weights) == 1


@pytest.mark.parametrize(("policy", "bound"), [("mixed_float16", 5e-3), ("mixed_bfloat16", 4e-2)])
def test_mixed_precision_is_near_float32(rng, policy, bound):
    full, mixed = made(), made(dtype=policy)
    mixed.set_weights(full.get_weights())
    states = rng.normal(size=(2, 3, 8)).astype("float32")
    for inputs, reverse in ((IDS, False), (states, True)):
        output = mixed(inputs, reverse=reverse)
        assert output.dtype == policy.removeprefix("mixed_")
        assert_close(ops.cast(output, "float32"), full(inputs, reverse=reverse), bound)
    assert mixed.table.dtype == "float32"


def test_config_gives_back_the_layer():
    layer = TokenEmbedding(5, 8, scale=False, name="embedding")
    again = TokenEmbedding.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    assert (again.vocabulary_size, again.d_model, again.scale) == (5, 8, False)


def test_saved_layer_computes_the_same(reload):
    inputs, layer = keras.Input((None,), dtype="int32"), TokenEmbedding(5, 8)
    model = keras.Model(inputs, layer(layer(inputs), reverse=True))
    again = reload(model)
    assert np.array_equal(again(IDS), model(IDS))
    assert len(again.weights) == 1
    again.weights[0].assign(again.weights[0] + 1)
    assert largest_difference(again(IDS), model(IDS)) > 1e-3
