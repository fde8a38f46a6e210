"""Tests of keras_transformer.layers.masks."""

import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from oracles import assert_close, softmax

from keras_transformer.layers import attend_to, bias_of, cache_mask, causal_mask, padding_mask


def test_padding_mask_is_true_at_real_tokens():  # L10
    ids = np.array([[5, 3, 0], [7, 8, 3], [0, 0, 0]])
    mask = padding_mask(ids)
    assert mask.dtype == tf.bool
    assert np.array_equal(mask, [[True, True, False], [True, True, True], [False] * 3])


def test_padding_can_have_another_id():
    assert np.array_equal(padding_mask(np.array([[0, 5, 1]]), padding_id=1), [[True, True, False]])


@pytest.mark.parametrize("length", [1, 2, 5])
def test_causal_mask_is_a_triangle_with_its_diagonal(length):  # L09, W49
    mask = causal_mask(length)
    assert mask.dtype == tf.bool
    assert mask.shape == (1, length, length)
    for query in range(length):
        for key in range(length):
            assert bool(mask[0, query, key]) == (key <= query)


def test_causal_mask_takes_a_length_that_is_not_known_beforehand():
    traced = tf.function(causal_mask, input_signature=[tf.TensorSpec((), tf.int32)])
    for length in (1, 4):
        assert np.array_equal(traced(length), causal_mask(length))


@pytest.mark.parametrize("index", range(4))
def test_cache_mask_is_a_row_of_the_causal_mask(index):
    mask = cache_mask(tf.constant(index), 4)
    assert mask.shape == (1, 1, 4)
    assert np.array_equal(mask[:, 0], causal_mask(4)[:, index])


def test_padding_is_hidden_from_every_query_alike():  # W12: this is also the cross-attention's mask
    mask = attend_to(padding_mask(np.array([[5, 3, 0], [7, 8, 3]])))
    assert mask.shape == (2, 1, 3)
    everywhere = np.broadcast_to(mask, (2, 4, 3))
    assert np.array_equal(everywhere[0], [[True, True, False]] * 4)
    assert np.all(everywhere[1])


def test_bias_hides_what_a_mask_hides():
    mask = np.array([[True, False, True], [False, True, True]])
    bias = bias_of(ops.convert_to_tensor(mask))
    assert bias.dtype == tf.float32
    assert np.all(np.isfinite(bias))
    assert not np.any(np.array(bias)[mask])
    scores = ops.convert_to_tensor([[100.0, 1e6, 101.0], [1e6, 3.0, 2.0]])
    weights = np.array(ops.softmax(scores + bias))
    assert not np.any(weights[~mask])
    for row in range(2):
        left = np.array(scores, "float64")[row, mask[row]]
        assert_close(weights[row, mask[row]], softmax(left), 1e-6)
