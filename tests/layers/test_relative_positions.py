"""Tests of keras_transformer.layers.relative_positions; in stacks: test_attention_kinds.

Also: layers.pairs.
"""

import keras
import numpy as np
import pytest
from fixtures_attention import built, normal
from keras import ops
from oracles import assert_close, largest_difference

from keras_transformer.layers import BucketedBias, Distances, LinearBias, MultiHeadAttention
from keras_transformer.layers.relative_positions import distances, slopes_of


def of(layer, queries, keys):
    layer.build()
    return layer(ops.convert_to_tensor(queries), ops.convert_to_tensor(keys))


# Distances


def test_distances_are_query_less_key():
    found = Distances()(ops.arange(3), ops.arange(2) + 5)["distance"]
    assert np.array_equal(found, [[[-5, -6], [-4, -5], [-3, -4]]])


def test_rows_may_have_positions_of_their_own():
    queries, keys = np.array([[0, 1], [5, 3]]), np.array([0, 2, 4])
    found = distances(ops.convert_to_tensor(queries), ops.convert_to_tensor(keys))
    for row in range(2):
        assert np.array_equal(found[row], queries[row][:, None] - keys[None])
    found = distances(ops.convert_to_tensor(keys), ops.convert_to_tensor(queries))
    assert np.array_equal(found[1], keys[:, None] - queries[1][None])


# T5's buckets

# The first distance of each bucket with 8 buckets and a largest distance of 16, by hand. In both
# directions there are 4 for each: 0 and 1 exact, then 2 that share the way from 2 to 16 evenly in
# its logarithm, up to 2 * 8^(1/2) = 5.66 and beyond. In one direction 0 to 3 are exact, and 4 share
# the way from 4 to 16: 4 * 4^(1/4) = 5.66, 8, 11.3.
BY_HAND = {
    True: {1: {0: 0, 1: 1, 2: 2, 5: 2, 6: 3, 99: 3}, -1: {0: 0, 1: 5, 2: 6, 5: 6, 6: 7, 99: 7}},
    False: {
        1: {0: 0, 1: 1, 2: 2, 3: 3, 4: 4, 5: 4, 6: 5, 7: 5, 8: 6, 11: 6, 12: 7, 16: 7, 99: 7},
        -1: {0: 0, 1: 0, 50: 0},
    },
}
# The first distance of each bucket in `T5Attention._relative_position_bucket` of transformers
# 5.23, with 32 buckets and a largest distance of 128.
OF_TRANSFORMERS = {
    True: [0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 23, 32, 46, 64, 91],
    False: [*range(17), 19, 21, 24, 27, 31, 35, 40, 46, 52, 59, 67, 77, 87, 99, 113],
}


@pytest.mark.parametrize("bidirectional", [True, False])
def test_buckets_by_hand(bidirectional):
    layer = BucketedBias(1, num_buckets=8, max_distance=16, bidirectional=bidirectional)
    for sign, table in BY_HAND[bidirectional].items():
        for distance, bucket in table.items():
            found = layer.buckets(ops.convert_to_tensor([sign * distance]))
            assert (distance, int(found[0])) == (distance, bucket)


@pytest.mark.parametrize("bidirectional", [True, False])
def test_buckets_are_those_of_transformers(bidirectional):
    layer, reach = BucketedBias(1, bidirectional=bidirectional), np.arange(301)
    firsts = OF_TRANSFORMERS[bidirectional]
    expected = np.searchsorted(firsts, reach, side="right") - 1
    behind, ahead = (layer.buckets(ops.convert_to_tensor(sign * reach)) for sign in (1, -1))
    assert np.array_equal(behind, expected)
    assert np.array_equal(ahead, np.where(reach > 0, expected + 16, 0) * bidirectional)


@pytest.mark.parametrize("bidirectional", [True, False])
def test_bias_is_looked_up_for_each_head(rng, bidirectional):
    layer = BucketedBias(3, num_buckets=8, max_distance=16, bidirectional=bidirectional)
    queries, keys = np.array([[0, 4, 9], [7, 7, 1]]), np.arange(12)
    layer.build()
    layer.table.assign(normal(rng, 8, 3))
    bias = of_built(layer, queries, keys)
    assert bias.shape == (2, 3, 3, 12)
    table = layer.table.numpy()
    for b in range(2):
        for t in range(3):
            for s in range(12):
                sign, distance = np.sign(queries[b, t] - s) or 1, abs(queries[b, t] - s)
                firsts = BY_HAND[bidirectional][int(sign)]
                bucket = firsts[max(d for d in firsts if d <= distance)]
                assert np.array_equal(bias[b, :, t, s], table[bucket])


def of_built(layer, queries, keys):
    found = layer(ops.convert_to_tensor(queries), ops.convert_to_tensor(keys))
    return np.array(found["attention_bias"])


def test_table_is_small_and_trained():
    layer = BucketedBias(4, num_buckets=32)
    layer.build()
    assert layer.count_params() == 32 * 4
    assert 0.01 < np.std(layer.table.numpy()) < 0.03


# ALiBi


def test_slopes_are_those_published():
    # ofirpress/attention_with_linear_biases, get_slopes(8) and get_slopes(12).
    assert slopes_of(8) == [1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 128, 1 / 256]
    twelve = [2 ** -(i + 1) for i in range(8)] + [2**-0.5, 2**-1.5, 2**-2.5, 2**-3.5]
    assert_close(slopes_of(12), twelve, 1e-12)
    assert_close(slopes_of(1), [1 / 256], 1e-12)


@pytest.mark.parametrize("num_heads", [2, 3, 8, 12])
def test_bias_falls_linearly(num_heads):
    bias = np.array(of(LinearBias(num_heads), np.arange(5), np.arange(7))["attention_bias"])
    distance = np.abs(np.arange(5)[:, None] - np.arange(7))
    assert bias.shape == (1, num_heads, 5, 7)
    for head, slope in enumerate(slopes_of(num_heads)):
        assert_close(bias[0, head], -slope * distance, 1e-6)


def test_far_keys_lose_weight(rng):
    layer, x = built(MultiHeadAttention(2, 8), rng), np.tile(normal(rng, 1, 1, 8), (1, 6, 1))
    bias = of(LinearBias(2), np.arange(6), np.arange(6))
    _, weights = layer(x, return_attention=True, **bias)  # all tokens alike: the bias decides
    expected = np.exp(np.array(bias["attention_bias"]))
    assert_close(weights, expected / expected.sum(-1, keepdims=True))
    assert np.all(np.diff(weights[0, :, 0], axis=-1) < 0)
    assert_close(layer(x, return_attention=True)[1], np.full((1, 2, 6, 6), 1 / 6))


# All


@pytest.mark.parametrize(
    "layer", [BucketedBias(2, 8, 16), LinearBias(2), Distances()], ids=["buckets", "linear", "bare"]
)
def test_row_of_a_step_is_the_row_of_the_whole(layer):
    layer.build()
    [whole] = layer(ops.arange(6), ops.arange(6)).values()
    for index in range(6):
        [step] = layer(ops.convert_to_tensor([index]), ops.arange(6)).values()
        assert np.array_equal(step[..., 0, :], np.array(whole)[..., index, :])
    [moved] = layer(ops.convert_to_tensor([3]), ops.arange(6) + 1).values()
    assert largest_difference(moved[..., 0, :], np.array(whole)[..., 3, :]) > 1e-3


@pytest.mark.parametrize(
    "layer",
    [BucketedBias(2, 8, 16, bidirectional=False, name="b"), LinearBias(3, name="l"), Distances()],
    ids=["buckets", "linear", "bare"],
)
def test_config_gives_back_the_layer(layer):
    again = type(layer).from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    names = ["num_heads", "num_buckets", "max_distance", "bidirectional"]
    assert [getattr(again, n, None) for n in names] == [getattr(layer, n, None) for n in names]
    assert isinstance(again, keras.layers.Layer)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("layer_class", [BucketedBias, LinearBias])
def test_bias_is_float32_in_mixed_precision(layer_class, policy):
    bias = of(layer_class(2, dtype=policy), np.arange(3) + 500, np.arange(503))["attention_bias"]
    assert bias.dtype == "float32"
    if layer_class is LinearBias:
        assert bias[0, 0, 1, 0] == -501 / 16  # bfloat16 has no such number
