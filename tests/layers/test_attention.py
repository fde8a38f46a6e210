"""Tests of keras_transformer.layers.attention."""

import itertools

import keras
import numpy as np
import oracles
import pytest
import tensorflow as tf
from keras import ops
from oracles import assert_close, largest_difference, shake

from keras_transformer.layers import (
    MultiHeadAttention,
    attend_to,
    cache_mask,
    causal_mask,
    scaled_dot_product_attention,
)

HALF = ["float16", "bfloat16"]


def normal(rng, *shape, dtype="float32"):
    return ops.convert_to_tensor(rng.normal(size=shape), dtype=dtype)


def float64(x):
    return np.array(ops.cast(x, "float64"))


def made(rng, num_heads=2, d_model=8, **options):
    layer = MultiHeadAttention(num_heads, d_model, **options)
    layer.build((None, None, d_model))
    shake(layer, rng)
    return layer


# The function


@pytest.mark.parametrize("d_k", [4, 64])
@pytest.mark.parametrize("masked", [False, True])
def test_attention_is_the_formula(rng, d_k, masked):  # L01, W6, W53
    query, key = normal(rng, 2, 2, 3, d_k), normal(rng, 2, 2, 5, d_k)
    value = normal(rng, 2, 2, 5, 6)
    mask = rng.random((2, 1, 3, 5)) < 0.5 if masked else None
    output, weights = scaled_dot_product_attention(query, key, value, mask)
    for b in range(2):
        for h in range(2):
            row_mask = mask[b, 0] if masked else None
            expected = oracles.attention(query[b, h], key[b, h], value[b, h], row_mask)
            assert_close(output[b, h], expected[0])
            assert_close(weights[b, h], expected[1])


def test_bias_is_added_to_the_scores(rng):
    query, key, value = (normal(rng, 1, 1, 3, 4) for _ in range(3))
    bias = rng.normal(size=(3, 3)).astype("float32")
    output, _ = scaled_dot_product_attention(query, key, value, attention_bias=bias)
    assert_close(output[0, 0], oracles.attention(query[0, 0], key[0, 0], value[0, 0], bias=bias)[0])


@pytest.mark.parametrize("d_k", [4, 64, 1024])
def test_softmax_is_as_sharp_at_any_width(rng, d_k):  # W6: divided by sqrt(d_k), not by d_k
    query, key = normal(rng, 1, 1, 200, d_k), normal(rng, 1, 1, 20, d_k)
    weights = scaled_dot_product_attention(query, key, key)[1]
    assert 0.1 < np.mean(np.max(weights, -1)) < 0.3


def test_scaling_keeps_the_gradient_of_the_softmax_alive(rng):  # W6
    query, key = normal(rng, 1, 1, 20, 512), normal(rng, 1, 1, 10, 512)

    def gradient(scale):
        bias = tf.zeros((20, 10))
        with tf.GradientTape() as tape:
            tape.watch(bias)
            weights = scaled_dot_product_attention(scale * query, key, key, attention_bias=bias)[1]
            weights = weights[0, 0]
        return np.median(np.linalg.norm(tape.batch_jacobian(weights, bias), axis=(1, 2)))

    assert gradient(1.0) > 20 * gradient(512**0.5)  # the factor undoes the division


@pytest.mark.parametrize("dtype", ["float32", *HALF])
def test_weights_are_a_distribution(rng, dtype):  # L13, C18; summed in 16 bits: off by 1e-3
    query, key = normal(rng, 2, 2, 7, 8, dtype=dtype), normal(rng, 2, 2, 50, 8, dtype=dtype)
    mask = rng.random((2, 1, 7, 50)) < 0.9
    weights = scaled_dot_product_attention(query, key, key, mask)[1]
    assert weights.dtype == tf.float32
    assert np.min(weights) >= 0
    assert_close(ops.sum(weights, -1), np.ones((2, 2, 7)), 1e-6)


def test_large_scores_pick_one_key(rng):  # L13
    query, key = normal(rng, 1, 1, 9, 8), normal(rng, 1, 1, 5, 8)
    mild, sharp = (scaled_dot_product_attention(c * query, key, key)[1] for c in (1.0, 1e5))
    assert np.max(mild) < 0.99
    assert_close(ops.max(sharp, -1), np.ones((1, 1, 9)))
    assert np.all(np.argmax(mild, -1) == np.argmax(sharp, -1))


@pytest.mark.parametrize("dtype", ["float32", *HALF])
def test_masked_keys_have_weight_exactly_zero(rng, dtype):  # L10, L12, C17
    query, key, value = (normal(rng, 1, 2, 4, 8, dtype=dtype) for _ in range(3))
    mask = np.array([True, True, False, False])
    output, weights = scaled_dot_product_attention(query, key, value, mask)
    assert not np.any(weights[..., 2:])
    alone, _ = scaled_dot_product_attention(query, key[:, :, :2], value[:, :, :2])
    assert_close(float64(output), float64(alone), 1e-6 if dtype == "float32" else 1e-2)
    assert np.all(np.array(scaled_dot_product_attention(query, key, value)[1])[..., 2:] > 0)


@pytest.mark.parametrize("dtype", ["float32", *HALF])
def test_a_query_without_keys_gets_zeros(rng, dtype):  # L12, W51
    query, key, value = (normal(rng, 1, 1, 3, 8, dtype=dtype) for _ in range(3))
    mask = np.array([[True, True, True], [False, False, False], [True, False, False]])
    with tf.GradientTape() as tape:
        tape.watch([query, key, value])
        output, weights = scaled_dot_product_attention(query, key, value, mask)
    assert not np.any(float64(output)[0, 0, 1])
    assert not np.any(weights[0, 0, 1])
    assert np.all(float64(output)[0, 0, [0, 2]])
    for gradient in tape.gradient(output, [query, key, value]):
        assert np.all(np.isfinite(float64(gradient)))


@pytest.mark.parametrize(("dtype", "bound"), [("float16", 2e-3), ("bfloat16", 2e-2)])
def test_half_precision_is_near_float64(rng, dtype, bound):
    query, key, value = (normal(rng, 1, 1, 16, 32, dtype=dtype) for _ in range(3))
    output, weights = scaled_dot_product_attention(query, key, value)
    expected = oracles.attention(*(float64(x)[0, 0] for x in (query, key, value)))
    assert output.dtype == dtype
    assert_close(float64(output)[0, 0], expected[0], bound)
    assert_close(weights[0, 0], expected[1], bound)


def test_float16_scores_are_scaled_before_they_overflow():
    query = ops.full((1, 1, 2, 64), 40.0, dtype="float16")  # the plain product is 102,400
    output, weights = scaled_dot_product_attention(query, query, query)
    assert_close(weights[0, 0], np.full((2, 2), 0.5))
    assert np.all(np.isfinite(float64(output)))


def test_dropout_acts_on_the_weights_that_mix_and_not_on_those_returned(rng):  # L31
    query = normal(rng, 1, 1, 3, 4)
    output, weights = scaled_dot_product_attention(query, query, query, dropout=lambda w: 0 * w)
    assert not np.any(output)
    assert_close(ops.sum(weights, -1), np.ones((1, 1, 3)))


# The layer


@pytest.mark.parametrize("num_heads", [1, 2, 4])
@pytest.mark.parametrize("crossed", [False, True])
def test_layer_is_separate_heads_joined_and_projected(rng, num_heads, crossed):  # L03, L05, W2, W30
    layer = made(rng, num_heads)
    query, source = normal(rng, 2, 3, 8), normal(rng, 2, 5, 8) if crossed else None
    mask = rng.random((2, 3, 5 if crossed else 3)) < 0.7
    output = layer(query, source=source, attention_mask=mask)
    for b in range(2):
        row_source = None if source is None else source[b]
        assert_close(output[b], oracles.multi_head_attention(layer, query[b], row_source, mask[b]))


def test_layer_agrees_with_keras(rng):  # L03, W8: Keras writes the same kernels as (D, H, D / H)
    ours, theirs = made(rng, 4), keras.layers.MultiHeadAttention(4, 2)
    query, source = normal(rng, 2, 3, 8), normal(rng, 2, 5, 8)
    theirs.build(query.shape, source.shape)
    weights = [w.reshape(v.shape) for w, v in zip(ours.get_weights(), theirs.weights, strict=True)]
    theirs.set_weights(weights)
    assert_close(ours(query, source=source), theirs(query, source))


def test_heads_share_the_width(rng):  # L04, W8
    layer = made(rng, num_heads=4, d_model=8)
    keys, values = layer.keys_and_values(normal(rng, 3, 5, 8))
    assert keys.shape == values.shape == (3, 4, 5, 2)  # (B, H, S, D / H)
    assert layer.key_projection.kernel.shape == (8, 8)
    assert layer(normal(rng, 3, 5, 8)).shape == (3, 5, 8)


@pytest.mark.parametrize("num_heads", [3, 0, 16])
def test_number_of_heads_must_divide_the_width(num_heads):  # L04
    with pytest.raises(ValueError, match=f"d_model=8 and num_heads={num_heads}"):
        MultiHeadAttention(num_heads, 8)


def test_input_of_another_width_is_refused(rng):
    with pytest.raises(ValueError, match=r"d_model=8, got shape \(1, 2, 6\)"):
        MultiHeadAttention(2, 8)(normal(rng, 1, 2, 6))


def test_rows_of_the_output_projection_belong_to_heads(rng):  # L05
    layer, x = made(rng), normal(rng, 1, 3, 8)
    weights = layer.get_weights()

    def output_without(*changes):
        changed = [w.copy() for w in weights]
        for i, head_1 in changes:
            changed[i][head_1] = 0
        layer.set_weights(changed)
        return layer(x)

    paths = [w.path.split("/")[-2:] for w in layer.weights]
    kernel, bias = paths.index(["value", "kernel"]), paths.index(["value", "bias"])
    silent = output_without((kernel, np.s_[:, 4:]), (bias, np.s_[4:]))
    unread = output_without((paths.index(["output", "kernel"]), np.s_[4:]))
    assert_close(unread, silent, 1e-6)
    assert largest_difference(unread, output_without()) > 1e-2


def test_queries_keys_and_values_have_projections_of_their_own(rng):  # L02, W2, W48
    layer, x = made(rng), normal(rng, 1, 3, 8)
    projections = [layer.query_projection, layer.key_projection, layer.value_projection]
    assert len({id(p.kernel) for p in projections}) == 3
    output, weights = layer(x, return_attention=True)
    for projection, moves_weights in zip(projections, [True, True, False], strict=True):
        kernel = projection.kernel.numpy()
        projection.kernel.assign(kernel + rng.normal(size=kernel.shape))
        new_output, new_weights = layer(x, return_attention=True)
        assert largest_difference(new_output, output) > 1e-3
        assert (largest_difference(new_weights, weights) > 1e-3) == moves_weights
        if not moves_weights:
            assert np.array_equal(new_weights, weights)
        projection.kernel.assign(kernel)


def test_kernels_begin_as_parts_of_one(rng):
    """Glorot's rule for (D, 3 D) has half the variance of that for (D, D)."""
    width = 256
    layer = MultiHeadAttention(4, width)
    x = normal(rng, 2, 32, width)
    _, weights = layer(x, return_attention=True)
    kernels = {
        name: getattr(layer, f"{name}_projection").kernel.numpy()
        for name in ("query", "key", "value", "output")
    }
    for name, kernel in kernels.items():
        limit = np.sqrt(6 / (2 * width if name == "output" else 4 * width))
        assert np.max(np.abs(kernel)) == pytest.approx(limit, rel=1e-3), name
        assert np.var(kernel) == pytest.approx(limit**2 / 3, rel=0.02), name
    for a, b in itertools.combinations(kernels.values(), 2):
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.02  # each has its own
    assert np.var(np.log(weights), axis=-1).mean() == pytest.approx(0.25, abs=0.05)  # of the scores


def test_every_position_reaches_every_position(rng):  # L06
    layer, x = made(rng), tf.constant(normal(rng, 1, 4, 8))
    with tf.GradientTape() as tape:
        tape.watch(x)
        output = layer(x)
    jacobian = tape.jacobian(output, x)[0, :, :, 0]  # (T out, D, T in, D)
    assert np.all(np.max(np.abs(jacobian), axis=(1, 3)) > 1e-4)


def test_every_input_feature_reaches_every_head(rng):  # W30
    layer, x = made(rng), tf.constant(normal(rng, 1, 4, 8))
    layer.output_projection.kernel.assign(np.eye(8))  # columns 0-3 are head 0, 4-7 are head 1
    with tf.GradientTape() as tape:
        tape.watch(x)
        output = layer(x)
    jacobian = np.abs(tape.jacobian(output, x)[0, :, :, 0])  # (T out, D out, T in, D in)
    for head in (slice(0, 4), slice(4, 8)):
        assert np.all(np.max(jacobian[:, head], axis=(0, 1, 2)) > 1e-4)


def test_self_attention_takes_all_three_from_one_sequence(rng):  # L06
    layer, x = made(rng), normal(rng, 2, 3, 8)
    assert np.array_equal(layer(x), layer(x, source=x))


@pytest.mark.parametrize("source_length", [1, 5])
def test_cross_attention_keeps_the_length_of_the_query(rng, source_length):  # L07, W43
    layer, query = made(rng), normal(rng, 2, 3, 8)
    source = normal(rng, 2, source_length, 8)
    output, weights = layer(query, source=source, return_attention=True)
    assert output.shape == (2, 3, 8)
    assert weights.shape == (2, 2, 3, source_length)
    assert largest_difference(output, layer(query, source=source + 1)) > 1e-3


def test_number_of_parameters_does_not_depend_on_heads():  # W10
    for num_heads in (1, 2, 4, 8, 16):
        layer = MultiHeadAttention(num_heads, 512)
        layer.build((None, None, 512))
        assert layer.count_params() == 1_050_624


def test_padding_has_no_influence(rng):  # L10, C17, W13
    layer, real = made(rng), normal(rng, 1, 3, 8)
    padded = ops.concatenate([real, normal(rng, 1, 3, 8)], axis=1)
    mask = attend_to(np.array([[True] * 3 + [False] * 3]))
    alone = layer(real)
    assert_close(layer(padded, attention_mask=mask)[:, :3], alone, 1e-6)
    assert largest_difference(layer(padded)[:, :3], alone) > 1e-2  # the check can fail


def test_step_by_step_equals_all_at_once(rng):  # D03, W33
    layer, x = made(rng), normal(rng, 2, 4, 8)
    expected = layer(x, attention_mask=causal_mask(4))
    cache = (ops.ones((2, 2, 6, 4)), ops.ones((2, 2, 6, 4)))  # what is there is not looked at
    for index in range(4):
        output, cache = layer(
            x[:, index : index + 1],
            attention_mask=cache_mask(index, 6),
            cache=cache,
            cache_index=index,
        )
        assert_close(output[:, 0], expected[:, index])
    for written, computed in zip(cache, layer.keys_and_values(x), strict=True):
        assert_close(written[:, :, :4], computed)
        assert np.array_equal(written[:, :, 4:], np.ones((2, 2, 2, 4)))


def test_keys_and_values_can_be_computed_beforehand(rng):  # D03
    layer, query, source = made(rng), normal(rng, 2, 3, 8), normal(rng, 2, 5, 8)
    cache = layer.keys_and_values(source)
    assert_close(layer(query, cache=cache), layer(query, source=source), 1e-6)


def test_dropout_acts_in_training_only(rng):  # L31
    layer, x = made(rng, dropout=0.5), normal(rng, 2, 3, 8)
    assert largest_difference(layer(x, training=True), layer(x, training=True)) > 1e-3
    assert np.array_equal(layer(x, training=False), layer(x))


def test_bias_can_be_left_out():
    layer = MultiHeadAttention(2, 8, use_bias=False)
    layer.build((None, None, 8))
    assert [w.shape for w in layer.weights] == [(8, 8)] * 4


@pytest.mark.parametrize(("policy", "bound"), [("mixed_float16", 5e-3), ("mixed_bfloat16", 5e-2)])
def test_mixed_precision_is_near_float32(rng, policy, bound):
    full = made(rng, d_model=16)
    mixed = MultiHeadAttention(2, 16, dtype=policy)
    mixed.build((None, None, 16))
    mixed.set_weights(full.get_weights())
    x = normal(rng, 2, 6, 16)
    mask = np.ones((2, 6, 6), "bool")
    mask[1, 2] = False
    output, weights = mixed(x, attention_mask=mask, return_attention=True)
    assert output.dtype == policy.removeprefix("mixed_")
    assert weights.dtype == "float32"
    assert {w.dtype for w in mixed.weights} == {"float32"}
    expected = np.array(full(x, attention_mask=mask))
    assert_close(float64(output), expected, bound * np.max(np.abs(expected)))


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_bias_stays_in_float32_in_mixed_precision(policy):
    layer, x = MultiHeadAttention(1, 8, dtype=policy), ops.zeros((1, 2, 8))
    far = [[-150.0, -150.6], [-1e9, -1e9]]  # no bfloat16 lies between -150 and -151
    bias = ops.convert_to_tensor([[far]], dtype="float32")
    output, weights = layer(x, attention_bias=bias, return_attention=True)
    assert_close(weights[0, 0], oracles.softmax(np.array([[0.6, 0.0], [0.0, 0.0]])), 1e-5)
    assert np.all(np.isfinite(float64(output)))


def test_config_gives_back_the_layer(rng):
    layer = MultiHeadAttention(2, 8, dropout=0.1, use_bias=False, name="attention")
    again = MultiHeadAttention.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    assert (again.num_heads, again.d_model, again.dropout, again.use_bias) == (2, 8, 0.1, False)


def test_saved_layer_computes_the_same(rng, reload):
    query, source = keras.Input((None, 8)), keras.Input((None, 8))
    layer = MultiHeadAttention(2, 8)
    model = keras.Model([query, source], layer(query, source=source))
    shake(layer, rng)
    inputs = [normal(rng, 2, 3, 8), normal(rng, 2, 5, 8)]
    assert np.array_equal(reload(model)(inputs), model(inputs))


@pytest.mark.parametrize("head_width", [3, 4, 16])
def test_width_of_a_head_can_be_chosen(rng, head_width):  # as in T5 of 11 billion, or Gemma
    layer, x = made(rng, num_heads=2, d_model=8, head_width=head_width), normal(rng, 1, 3, 8)
    assert layer.query_projection.kernel.shape == (8, 2 * head_width)
    assert layer.output_projection.kernel.shape == (2 * head_width, 8)
    assert layer.cache_shape == (2, head_width)
    key, value = (np.array(y)[0] for y in layer.keys_and_values(x))
    query = np.array(layer.query_projection(x))[0].reshape(3, 2, head_width).swapaxes(0, 1)
    heads = [oracles.attention(query[h], key[h], value[h])[0] for h in range(2)]
    expected = layer.output_projection(np.concatenate(heads, axis=-1)[None].astype("float32"))
    assert_close(layer(x), expected)
    again = MultiHeadAttention.from_config(layer.get_config())
    assert again.head_width == head_width


def test_heads_that_do_not_divide_the_width_may_have_one_of_their_own(rng):
    assert made(rng, num_heads=3, d_model=8, head_width=4)(normal(rng, 1, 2, 8)).shape == (1, 2, 8)
    with pytest.raises(ValueError, match="num_heads=0"):
        MultiHeadAttention(0, 8, head_width=4)
