"""Tests of keras_transformer.layers.masks."""

import numpy as np
import pytest
import tensorflow as tf

from keras_transformer.layers import attend_to, cache_mask, causal_mask, padding_mask


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
