"""Tests of keras_transformer.layers.shared_projections; for every kind: test_attention_kinds."""

import numpy as np
import oracles
import pytest
from fixtures_attention import built, normal
from keras import ops
from oracles import assert_close, largest_difference

from keras_transformer.layers import (
    MultiHeadAttention,
    RotaryPositions,
    SharedProjectionAttention,
    rotate,
)

SHARED = pytest.mark.parametrize(
    ("share_qk", "share_kv"), [(False, False), (True, False), (False, True), (True, True)]
)


@SHARED
@pytest.mark.parametrize("crossed", [False, True])
def test_layer_is_the_formula_with_the_same_kernels(rng, share_qk, share_kv, crossed):  # L45, L46
    layer = built(SharedProjectionAttention(2, 8, share_qk=share_qk, share_kv=share_kv), rng)
    x, source = normal(rng, 2, 3, 8), normal(rng, 2, 5, 8) if crossed else None
    mask = rng.random((2, 3, 5 if crossed else 3)) < 0.7
    output = layer(x, source=source, attention_mask=mask)
    for b in range(2):
        row_source = None if source is None else source[b]
        assert_close(output[b], oracles.multi_head_attention(layer, x[b], row_source, mask[b]))


@SHARED
def test_each_thing_shared_saves_a_kernel_and_a_bias(rng, share_qk, share_kv):  # L45, L46
    layer = built(SharedProjectionAttention(2, 8, share_qk=share_qk, share_kv=share_kv), rng)
    assert layer.count_params() == (4 - share_qk - share_kv) * (64 + 8)
    assert (layer.query_projection is layer.key_projection) == share_qk
    assert (layer.key_projection is layer.value_projection) == share_kv


def test_nothing_is_shared_by_default(rng):  # L46
    layer, plain = SharedProjectionAttention(2, 8), MultiHeadAttention(2, 8)
    for each in (layer, plain):
        each.build((None, None, 8))
    plain.set_weights(layer.get_weights())
    x = normal(rng, 1, 3, 8)
    assert (layer.share_qk, layer.share_kv) == (False, False)
    assert np.array_equal(layer(x), plain(x))


def test_scores_are_symmetric_with_shared_queries_and_keys(rng):  # L45, C05
    def asymmetry(layer):
        logs = np.log(layer(normal(rng, 1, 6, 8), return_attention=True)[1][0])
        # w_ij w_jk w_ki = w_ik w_kj w_ji for all i, j, k if the scores are symmetric, whatever
        # constant softmax adds to a row.
        skew = logs - np.swapaxes(logs, -1, -2)
        around = skew[:, :, :, None] + skew[:, None, :, :] - skew[:, :, None, :]
        return np.max(np.abs(around))

    assert asymmetry(built(SharedProjectionAttention(2, 8, share_qk=True), rng)) < 1e-5
    assert asymmetry(built(SharedProjectionAttention(2, 8, share_kv=True), rng)) > 0.1


def test_shared_keys_are_turned_and_values_are_not(rng):
    layer, x = built(SharedProjectionAttention(2, 8, share_kv=True), rng), normal(rng, 1, 5, 8)
    rotation = RotaryPositions(4)(ops.arange(5))["rotation"]
    key, value = layer.keys_and_values(x, rotation)
    assert_close(key, rotate(value, rotation))
    assert largest_difference(key, value) > 0.1
    assert np.array_equal(value, layer.keys_and_values(x)[0])


@SHARED
def test_config_gives_back_what_is_shared(share_qk, share_kv):
    layer = SharedProjectionAttention(2, 8, share_qk=share_qk, share_kv=share_kv)
    again = SharedProjectionAttention.from_config(layer.get_config())
    assert (again.share_qk, again.share_kv) == (share_qk, share_kv)
