"""A masked key has no weight beside real ones, however low their scores are.

Also: layers.weights.
"""

import numpy as np
import pytest

from keras_transformer.layers import bias_of, scaled_dot_product_attention
from keras_transformer.layers.weights import weights_of

SCORES = np.array([[-2e4, -3e4, 0.0], [-1e30, -1e30, 5.0]], "float32")
MASK = np.array([[True, True, False]] * 2)
EXPECTED = [[1, 0, 0], [0.5, 0.5, 0]]


def by_products(mask, bias):
    # The first query and the first value are ones; a key of width 1 is the score itself.
    one = np.ones((2, 1, 1, 1), "float32")
    keys = SCORES[:, None, :, None]
    return scaled_dot_product_attention(one, keys, np.ones_like(keys), mask, bias)[1]


def by_any_score(mask, bias):
    return weights_of(SCORES[:, None, None, :], mask, bias)


@pytest.mark.parametrize("weights", [by_products, by_any_score])
def test_no_score_is_as_low_as_that_of_a_masked_key(weights):  # L07, L10
    mask = MASK[:, None, None, :]
    np.testing.assert_array_equal(np.array(weights(mask, None))[:, 0, 0], EXPECTED)


def test_a_mask_as_a_bias_is_as_low():
    bias = np.array(bias_of(MASK))
    assert (bias[MASK] == 0).all()
    assert (bias[~MASK] <= np.finfo("float32").min / 2).all()
