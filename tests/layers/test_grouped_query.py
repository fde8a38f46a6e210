"""Tests of keras_transformer.layers.grouped_query; for every kind: test_attention_kinds."""

import numpy as np
import pytest
from fixtures_attention import built, normal
from keras import ops
from oracles import assert_close, largest_difference

from keras_transformer.layers import (
    Decoder,
    GroupedQueryAttention,
    MultiHeadAttention,
    RotaryPositions,
)


def repeated(layer):
    """Make multi-head attention in which the heads of a group have the same keys and values."""
    plain = MultiHeadAttention(layer.num_heads, layer.d_model, head_width=layer.head_width)
    plain.build((None, None, layer.d_model))
    for name in ("query", "key", "value", "output"):
        weights = getattr(layer, f"{name}_projection").get_weights()
        if name in ("key", "value"):
            times = layer.num_heads // layer.num_kv_heads
            split = [
                w.reshape(*w.shape[:-1], layer.num_kv_heads, layer.head_width) for w in weights
            ]
            weights = [
                np.repeat(w, times, axis=-2).reshape(*w.shape[:-2], layer.num_heads * w.shape[-1])
                for w in split
            ]
        getattr(plain, f"{name}_projection").set_weights(weights)
    return plain


@pytest.mark.parametrize("num_kv_heads", [1, 2, 4])
@pytest.mark.parametrize("head_width", [None, 3])
def test_it_is_multi_head_attention_with_repeated_keys_and_values(rng, num_kv_heads, head_width):
    options = {"num_kv_heads": num_kv_heads, "head_width": head_width}
    layer = built(GroupedQueryAttention(4, 8, **options), rng)
    query, source = normal(rng, 2, 3, 8), normal(rng, 2, 5, 8)
    arguments = {
        "attention_mask": rng.random((2, 3, 5)) < 0.7,
        "attention_bias": normal(rng, 2, 4, 3, 5),
        "return_attention": True,
    }
    output, weights = layer(query, source=source, **arguments)
    expected, expected_weights = repeated(layer)(query, source=source, **arguments)
    assert_close(output, expected)
    assert_close(weights, expected_weights)


def test_neighbours_share_keys_and_values(rng):
    """Heads 0 and 1 read the first pair, 2 and 3 the second."""
    layer, x = built(GroupedQueryAttention(4, 8, num_kv_heads=2), rng), normal(rng, 1, 5, 8)
    _, before = layer(x, return_attention=True)
    kernel, *others = layer.key_projection.get_weights()
    kernel[:, 2:] += normal(rng, 8, 2)  # the second of two heads of keys
    layer.key_projection.set_weights([kernel, *others])
    _, after = layer(x, return_attention=True)
    assert np.array_equal(after[:, :2], before[:, :2])
    for head in (2, 3):
        assert largest_difference(after[:, head], before[:, head]) > 1e-3


def test_as_many_groups_as_heads_is_multi_head_attention(rng):
    layer, plain = GroupedQueryAttention(4, 8, num_kv_heads=4), MultiHeadAttention(4, 8)
    for each in (layer, plain):
        each.build((None, None, 8))
    layer.set_weights(plain.get_weights())
    x = normal(rng, 2, 5, 8)
    assert_close(layer(x), plain(x), 1e-6)


@pytest.mark.parametrize("bias_heads", [1, 4])
def test_biases_for_all_heads_and_for_each_are_taken(rng, bias_heads):
    layer, x = built(GroupedQueryAttention(4, 8, num_kv_heads=2), rng), normal(rng, 2, 5, 8)
    bias = normal(rng, 1, bias_heads, 5, 5)
    assert_close(layer(x, attention_bias=bias), repeated(layer)(x, attention_bias=bias))
    assert largest_difference(layer(x, attention_bias=bias), layer(x)) > 1e-3


def test_rotation_reaches_the_shared_keys(rng):
    layer, x = built(GroupedQueryAttention(4, 8, num_kv_heads=2), rng), normal(rng, 2, 5, 8)
    rotation = RotaryPositions(2)(ops.arange(5))["rotation"]
    assert_close(layer(x, rotation=rotation), repeated(layer)(x, rotation=rotation))


@pytest.mark.parametrize("num_kv_heads", [1, 2, 4])
def test_cache_and_kernels_shrink_with_the_groups(rng, num_kv_heads):
    attention = GroupedQueryAttention(4, 8, num_kv_heads=num_kv_heads)
    options = {"num_heads": 4, "d_model": 8, "d_ff": 16, "cross_attention": False}
    decoder, plain = Decoder(2, attention=attention, **options), Decoder(2, **options)
    for each in (decoder, plain):
        each.build((None, None, 8))

    def size(stack):
        return sum(np.size(x) for cache in stack.empty_caches(3, 10) for x in cache)

    assert size(decoder) * 4 == size(plain) * num_kv_heads
    layer = decoder.blocks[0].self_attention.sublayer
    assert layer.cache_shape == (num_kv_heads, 2)
    assert layer.keys_and_values(normal(rng, 3, 5, 8))[0].shape == (3, num_kv_heads, 5, 2)
    assert layer.key_projection.kernel.shape == (8, 2 * num_kv_heads)
    assert layer.query_projection.kernel.shape == (8, 8)


@pytest.mark.parametrize("num_kv_heads", [0, 3, 8])
def test_number_of_groups_must_divide_that_of_heads(num_kv_heads):
    with pytest.raises(ValueError, match=f"num_heads=4 and num_kv_heads={num_kv_heads}"):
        GroupedQueryAttention(4, 8, num_kv_heads=num_kv_heads)


def test_config_gives_back_the_groups():
    layer = GroupedQueryAttention(4, 8, num_kv_heads=2)
    assert GroupedQueryAttention.from_config(layer.get_config()).num_kv_heads == 2
