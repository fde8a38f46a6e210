"""What textbooks claim of attention, positions, norms and feed-forward networks, measured.

Where a claim holds under a condition only, the condition is part of the test, and so is a case in
which it does not hold. What only training can show is in `experiments`.
"""

import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from fixtures_attention import largest_tensor, normal
from keras import ops
from oracles import assert_close, largest_difference, shake

from keras_transformer.layers import (
    AdditiveAttention,
    Encoder,
    EncoderBlock,
    FeedForward,
    Linear,
    MultiHeadAttention,
    SharedProjectionAttention,
    SinusoidalPositions,
    TokenEmbedding,
    causal_mask,
    scaled_dot_product_attention,
    sinusoidal_table,
)


def jacobian_norm(weights):
    """Median norm of the derivative of the softmax by its scores: diag(w) - w w^T for each row."""
    rows = np.asarray(weights, "float64").reshape(-1, weights.shape[-1])
    jacobians = [np.diag(row) - np.outer(row, row) for row in rows]
    return np.median([np.linalg.norm(jacobian) for jacobian in jacobians])


def weights_of_normal_vectors(rng, d_k, length=64, factor=1.0):
    query, key = normal(rng, 1, 1, length, d_k), normal(rng, 1, 1, length, d_k)
    return np.array(scaled_dot_product_attention(factor * query, key, key)[1])


# The scale of the scores


@pytest.mark.parametrize("d_k", [4, 16, 64, 256, 1024])
def test_products_have_variance_d_k_and_the_scale_makes_it_1(rng, d_k):  # C01, C02
    query, key = normal(rng, 1, 1, 600, d_k), normal(rng, 1, 1, 600, d_k)
    products = np.array(ops.matmul(query, ops.swapaxes(key, -1, -2)))
    assert np.mean(products) == pytest.approx(0, abs=0.05 * d_k**0.5)
    assert np.var(products) / d_k == pytest.approx(1, abs=0.05)
    weights = scaled_dot_product_attention(query, key, key)[1]
    scores = np.log(np.asarray(weights, "float64"))  # up to a constant a row
    assert np.var(scores, axis=-1).mean() == pytest.approx(1, abs=0.05)
    assert np.var(products / d_k) < 0.3  # the divisor is the root


def test_unscaled_scores_stop_the_gradient_where_heads_are_wide(rng):  # C03, W6
    scaled, unscaled = (weights_of_normal_vectors(rng, 512, factor=f) for f in (1, 512**0.5))
    assert jacobian_norm(scaled) > 20 * jacobian_norm(unscaled)
    assert np.mean(np.max(scaled, -1)) < 0.2
    assert np.mean(np.max(unscaled, -1)) > 0.8


def test_unscaled_scores_do_no_harm_where_heads_are_narrow(rng):  # C03: the condition
    scaled, unscaled = (weights_of_normal_vectors(rng, 16, factor=f) for f in (1, 16**0.5))
    assert jacobian_norm(unscaled) > jacobian_norm(scaled)


# Shared queries and keys


def diagonal_weight(rng, length, d_model=512, variance=None, share_qk=True, size=1.0):
    """Return the mean weight of tokens for themselves before training, in heads of width 64."""
    heads = d_model // 64 if variance is None else 1
    layer = SharedProjectionAttention(heads, d_model, share_qk=share_qk, head_width=64)
    layer.build((None, None, d_model))
    if variance is not None:
        for projection in (layer.query_projection, layer.key_projection):
            kernel = projection.kernel
            kernel.assign(variance**0.5 * rng.normal(size=kernel.shape))
    x = size * normal(rng, 1, length, d_model)
    _, weights = layer(x, return_attention=True)
    return np.mean(np.diagonal(weights[0], axis1=1, axis2=2))


GLOROT = 2 / (512 + 64)  # for a kernel of one head, (512, 64)


def test_shared_queries_and_keys_begin_near_the_identity_with_large_kernels(rng):  # C04, L45
    assert diagonal_weight(rng, 16, variance=GLOROT) > 0.99
    assert diagonal_weight(rng, 512, variance=GLOROT) > 0.97
    apart = diagonal_weight(rng, 512, variance=GLOROT, share_qk=False)
    assert 0.5 / 512 < apart < 2 / 512


@pytest.mark.parametrize(
    ("length", "options", "low", "high"),
    [
        (128, {"d_model": 768, "variance": 0.02**2}, 0.06, 0.12),  # BERT's initial weights
        (512, {}, 0.06, 0.12),  # 8 heads as this library makes them, with half of Glorot's variance
        (512, {"variance": GLOROT, "size": 0.3}, 0.002, 0.01),  # shorter token vectors
    ],
)
def test_shared_queries_and_keys_need_not_begin_there(rng, length, options, low, high):  # C04, W20
    found = diagonal_weight(rng, length, **options)
    assert low < found < high
    assert found > 1.5 * diagonal_weight(rng, length, **options, share_qk=False)


# Additive attention


def jacobian_norms(rng, d_k):
    query, key = normal(rng, 1, 1, 64, d_k), normal(rng, 1, 1, 64, d_k)
    additive = AdditiveAttention(1, d_k)
    additive.build((None, None, d_k))
    return {
        "additive": jacobian_norm(additive.attend(query, key, key)[1]),
        "scaled": jacobian_norm(scaled_dot_product_attention(query, key, key)[1]),
        "unscaled": jacobian_norm(scaled_dot_product_attention(d_k**0.5 * query, key, key)[1]),
    }


def test_additive_beats_only_unscaled_products_in_wide_heads(rng):  # C06, L14, W19
    wide, narrow = jacobian_norms(rng, 512), jacobian_norms(rng, 4)
    assert wide["additive"] > 5 * wide["unscaled"]
    assert 0.7 < wide["additive"] / wide["scaled"] < 1.4  # with the scale there is no such gap
    assert min(narrow.values()) > 0.1


@pytest.mark.parametrize("d_k", [16, 64])
def test_additive_attention_holds_d_k_times_as_much(d_k):  # C07
    def size(layer_class):
        layer = layer_class(1, d_k)
        layer.build((None, None, d_k))
        head = (1, 1, 256, d_k)
        return largest_tensor(lambda q, k: layer.attend(q, k, k)[0], head, head)

    assert size(AdditiveAttention) == d_k * size(MultiHeadAttention) == d_k * 256**2


def test_dot_products_are_much_faster(rng):  # C07
    query, key = (ops.convert_to_tensor(normal(rng, 1, 1, 256, 256)) for _ in range(2))

    def seconds(layer_class):
        layer = layer_class(1, 256)
        layer.build((None, None, 256))
        attend = tf.function(lambda q, k: layer.attend(q, k, k)[0])
        attend(query, key)
        times = []
        for _ in range(5):
            begin = time.perf_counter()
            attend(query, key).numpy()
            times.append(time.perf_counter() - begin)
        return min(times)

    assert seconds(AdditiveAttention) > 4 * seconds(MultiHeadAttention)  # measured: 19 times


# Positions


def encoder(rng, **options):
    stack = Encoder(2, num_heads=2, d_model=8, d_ff=16, **options)
    stack.build((None, None, 8))
    shake(stack, rng)
    return stack


def test_without_positions_attention_is_blind_to_order(rng):  # C11
    stack, x, order = encoder(rng), normal(rng, 2, 6, 8), [3, 5, 0, 4, 1, 2]
    whole, permuted = np.array(stack(x)), np.array(stack(x[:, order]))
    assert_close(permuted, whole[:, order])
    # So whatever pools over positions sees no order at all.
    assert_close(permuted.mean(axis=1), whole.mean(axis=1))
    assert_close(permuted.max(axis=1), whole.max(axis=1))

    positions = SinusoidalPositions(6)
    whole, permuted = (np.array(stack(positions(y))) for y in (x, x[:, order]))
    assert largest_difference(permuted, whole[:, order]) > 1e-2
    assert largest_difference(permuted.mean(axis=1), whole.mean(axis=1)) > 1e-2


def test_a_causal_mask_sees_order_without_positions(rng):  # C11: the condition, W46
    stack, x, order = encoder(rng), normal(rng, 2, 6, 8), [3, 5, 0, 4, 1, 2]
    whole, permuted = (np.array(stack(y, attention_mask=causal_mask(6))) for y in (x, x[:, order]))
    assert largest_difference(permuted, whole[:, order]) > 1e-2


def test_every_position_has_a_vector_of_its_own():  # C12
    table = sinusoidal_table(2048, 512).astype("float64")
    squares = np.sum(table**2, axis=1)
    distances = squares[:, None] + squares - 2 * table @ table.T
    smallest = np.sqrt(np.min(distances[~np.eye(2048, dtype=bool)]))
    assert smallest == pytest.approx(3.71, abs=0.01)
    assert np.argmin(distances[0, 1:]) == 0  # the nearest is the neighbour


def test_a_step_is_the_same_rotation_everywhere():  # C13, W21
    table = sinusoidal_table(300, 64).astype("float64")
    frequencies = 10000.0 ** (-np.arange(0, 64, 2) / 64)
    for step in (1, 7, 100):
        rotation = np.zeros((64, 64))
        for i, angle in enumerate(step * frequencies):
            sine, cosine = np.sin(angle), np.cos(angle)
            rotation[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = [[cosine, sine], [-sine, cosine]]
        assert_close(rotation @ rotation.T, np.eye(64), 1e-12)
        assert_close(table[:-step] @ rotation.T, table[step:], 1e-6)
        products = np.sum(table[:-step] * table[step:], axis=1)
        assert np.ptp(products) < 1e-5
    learned = np.random.default_rng(0).normal(size=(300, 64))
    assert np.ptp(np.sum(learned[:-1] * learned[1:], axis=1)) > 10


@pytest.mark.parametrize(
    ("initializer", "ratios", "cosines"),
    [
        (None, (0.0625, 1.414), (0.06, 0.82)),  # N(0, 1/D), the library's
        (keras.initializers.RandomUniform(-0.05, 0.05), (0.0408, 0.924), (0.04, 0.68)),
    ],
)
def test_scaled_word_vectors_are_not_drowned_by_positions(initializer, ratios, cosines):  # C15
    words = TokenEmbedding(1000, 512, scale=False)
    words.build()
    if initializer is not None:  # that of keras.layers.Embedding
        words.table.assign(initializer((1000, 512)))
    plain = np.array(words(np.arange(1000).reshape(10, 100)))
    positions = np.array(SinusoidalPositions(100)(np.zeros_like(plain)))
    norm = np.linalg.norm
    for factor, ratio, cosine in zip((1, 512**0.5), ratios, cosines, strict=True):
        x = factor * plain
        assert np.mean(norm(x, axis=-1) / norm(positions, axis=-1)) == pytest.approx(
            ratio, rel=0.02
        )
        both = x + positions
        similarity = np.sum(x * both, axis=-1) / norm(x, axis=-1) / norm(both, axis=-1)
        assert np.mean(similarity) == pytest.approx(cosine, abs=0.02)


def test_word_vectors_that_begin_with_variance_1_need_no_scale():  # C15: the condition
    x = np.random.default_rng(0).normal(size=(1000, 512))
    assert np.mean(np.linalg.norm(x, axis=-1)) > np.linalg.norm(sinusoidal_table(1, 512))


# Norms


@pytest.mark.parametrize(("norm", "differs"), [("batch", True), ("layer", False), ("rms", False)])
def test_batch_norm_differs_between_training_and_inference(rng, norm, differs):  # C22, L29
    block = EncoderBlock(2, 8, 16, norm=norm)
    x = 3 * normal(rng, 4, 5, 8) + 1
    gap = largest_difference(block(x, training=True), block(x, training=False))
    assert gap > 0.5 if differs else gap == 0


@pytest.mark.parametrize(("norm", "differs"), [("batch", True), ("layer", False), ("rms", False)])
def test_batch_norm_mixes_sentences(rng, norm, differs):  # C23, L29
    block, x = EncoderBlock(2, 8, 16, norm=norm), normal(rng, 4, 5, 8)
    changed = x.copy()
    changed[1:] = 3 * normal(rng, 3, 5, 8) + 1
    before, after = (block(y, training=True)[0] for y in (x, changed))
    difference = largest_difference(before, after)
    assert difference > 0.5 if differs else difference < 1e-6


def test_padding_enters_the_statistics_of_batch_norm(rng):  # C23: why it suits sentences ill
    x = normal(rng, 1, 5, 8)
    padded = np.concatenate([x, np.zeros((1, 5, 8), "float32")], axis=1)
    for norm, differs in (("batch", True), ("layer", False)):
        layer = EncoderBlock(2, 8, 16, norm=norm).feed_forward
        layer.build((None, None, 8))
        difference = largest_difference(
            layer(padded, training=True)[:, :5], layer(x, training=True)
        )
        assert difference > 0.1 if differs else difference < 1e-6


# Feed-forward networks


def test_the_network_holds_two_thirds_of_a_layer():  # C36
    block = EncoderBlock(8, 512, 2048)
    block.build((None, None, 512))
    assert block.feed_forward.sublayer.count_params() / block.count_params() == pytest.approx(
        0.666, abs=0.0005
    )
    narrow = EncoderBlock(8, 512, 512)
    narrow.build((None, None, 512))
    assert narrow.feed_forward.sublayer.count_params() < narrow.count_params() / 2


def test_the_network_looks_at_no_other_position(rng):  # C37
    def others(layer):
        layer.build((None, None, 8))
        shake(layer, rng)
        x = tf.constant(normal(rng, 1, 5, 8))
        with tf.GradientTape() as tape:
            tape.watch(x)
            output = layer(x)
        jacobian = np.abs(tape.jacobian(output, x)[0, :, :, 0])  # (T out, D, T in, D)
        by_position = jacobian.max(axis=(1, 3))
        assert np.all(np.diagonal(by_position) > 1e-3)
        return by_position[~np.eye(5, dtype=bool)]

    assert not np.any(others(FeedForward(16, 8, activation="gelu")))  # exactly 0
    assert np.all(others(MultiHeadAttention(2, 8)) > 1e-4)


def excess(layer, a, b):
    """How far a layer is from affine: 0 for all a and b if it is."""
    return largest_difference(layer(a + b) + layer(0 * a), layer(a) + layer(b))


def test_softmax_makes_attention_non_linear(rng):  # C39
    layer, (a, b) = MultiHeadAttention(2, 8), 2 * normal(rng, 2, 1, 5, 8)
    layer.build((None, None, 8))
    shake(layer, rng)
    assert excess(layer, a, b) > 0.1
    assert excess(layer, a, a) > 0.1
    # With constant weights, here equal ones, nothing but a linear map is left.
    layer.query_projection.set_weights([np.zeros((8, 8)), np.zeros(8)])
    assert excess(layer, a, b) < 1e-5


def test_activation_makes_the_network_non_linear(rng):  # C39
    a, b = 2 * normal(rng, 2, 1, 5, 8)
    for activation, linear in (("linear", True), ("relu", False), ("gelu", False)):
        layer = FeedForward(16, 8, activation=activation)
        layer.build((None, None, 8))
        shake(layer, rng)
        found = excess(layer, a, b)
        assert found < 1e-5 if linear else found > 0.1


def gradient_through(rng, activation, depth, shift=0.0):
    """Return the norm of the gradient that reaches the input of many layers."""
    layers = [
        Linear(64, activation=activation, kernel_initializer="he_normal") for _ in range(depth)
    ]
    x = tf.constant(normal(rng, 8, 64))
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = x
        for layer in layers:
            layer.build((None, 64))
            layer.bias.assign(layer.bias + shift)
            y = layer(y)
        loss = ops.sum(y)
    return np.linalg.norm(tape.gradient(loss, x))


def test_gradients_survive_relu_and_not_sigmoid(rng):  # C40, L25
    relu, sigmoid = (gradient_through(rng, name, 20) for name in ("relu", "sigmoid"))
    assert relu > 1
    assert relu > 1e6 * sigmoid
    assert gradient_through(rng, "sigmoid", 1) > 0.1  # it is the depth that does it


def test_relu_does_not_solve_it(rng):  # C40, W42: a unit that is never positive passes nothing
    assert gradient_through(rng, "relu", 20, shift=-3.0) == 0


# Attention and a dense layer over time


def mixing(layer, x):
    """How much each output position takes of each input position: sizes of the derivative."""
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        output = layer(x)
    return np.array(tape.jacobian(output, x))[0, :, :, 0]  # (T, D, T, D)


def test_attention_mixes_by_what_it_sees_and_a_dense_layer_does_not(rng):  # L36
    dense = keras.Sequential(
        [keras.layers.Permute((2, 1)), keras.layers.Dense(5), keras.layers.Permute((2, 1))]
    )
    attention, (a, b) = MultiHeadAttention(2, 8), 2 * normal(rng, 2, 1, 5, 8)
    attention.build((None, None, 8))
    assert np.array_equal(mixing(dense, a), mixing(dense, b))
    _, of_a = attention(a, return_attention=True)
    _, of_b = attention(b, return_attention=True)
    assert largest_difference(of_a, of_b) > 0.1
    assert largest_difference(mixing(attention, a), mixing(attention, b)) > 0.05


def test_attention_runs_at_any_length_and_a_dense_layer_at_one(rng):  # L36
    dense, attention = keras.layers.Dense(5), MultiHeadAttention(2, 8)
    for length in (5, 50):
        x = normal(rng, 1, length, 8)
        assert attention(x).shape == x.shape
        if length == 5:
            assert dense(np.swapaxes(x, 1, 2)).shape == (1, 8, 5)
        else:
            with pytest.raises(ValueError, match="incompatible"):
                dense(np.swapaxes(x, 1, 2))
    assert attention.count_params() == 4 * (64 + 8)
