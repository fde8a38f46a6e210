"""Tests of keras_transformer.layers.blocks."""

import keras
import numpy as np
import oracles
import pytest
from keras import ops
from oracles import assert_close, largest_difference, shake

from keras_transformer.layers import (
    DecoderBlock,
    EncoderBlock,
    FeedForward,
    SublayerConnection,
    attend_to,
    cache_mask,
    causal_mask,
)

CAUSAL = np.tril(np.ones((4, 4), "bool"))
SOURCE_MASK = np.array([[True] * 3, [True, False, False]])
BLOCKS = pytest.mark.parametrize("block_class", [EncoderBlock, DecoderBlock])
NORM_FIRST = pytest.mark.parametrize("norm_first", [False, True])


def normal(rng, *shape):
    return rng.normal(size=shape).astype("float32")


def connected(rng, d_model=8, **options):
    layer = SublayerConnection(FeedForward(16, d_model), **options)
    layer.build((None, None, d_model))
    shake(layer.sublayer, rng)
    return layer


def made(block_class, rng=None, **options):
    block = block_class(**{"num_heads": 2, "d_model": 8, "d_ff": 16, **options})
    block.build((None, None, block.d_model))
    if rng:
        shake(block, rng)
    return block


def run(block, rng, x, **options):
    if isinstance(block, DecoderBlock):
        options = {"memory": normal(rng, len(x), 3, x.shape[-1]), **options}
    return block(x, **options)


def paths_of(layer, ending):
    return [w.path.removesuffix(ending) for w in layer.weights if w.path.endswith(ending)]


def add_and_norm(connection, x, sublayer):
    gamma, beta = connection.norm.get_weights()
    if connection.norm_first:
        return x + sublayer(oracles.layer_norm(x, gamma=gamma, beta=beta))
    return oracles.layer_norm(x + sublayer(x), gamma=gamma, beta=beta)


# SublayerConnection


@NORM_FIRST
def test_sublayer_is_added_and_normed(rng, norm_first):  # L27, L28, L30, W3
    layer, x = connected(rng, norm_first=norm_first), normal(rng, 2, 3, 8)
    shake(layer, rng)
    expected = [
        add_and_norm(layer, row, lambda y: oracles.feed_forward(layer.sublayer, y)) for row in x
    ]
    assert_close(layer(x), expected)


def test_sublayer_that_gives_nothing_leaves_the_residual(rng):  # L27
    x = normal(rng, 2, 3, 8)
    for norm_first, expected in ((False, oracles.layer_norm(x)), (True, x)):
        layer = connected(rng, norm_first=norm_first)
        layer.sublayer.set_weights([np.zeros_like(w) for w in layer.sublayer.get_weights()])
        assert_close(layer(x), expected)


def test_norm_is_over_the_features_of_each_token(rng):  # L28
    layer = connected(rng)
    x = 3 * normal(rng, 4, 5, 8) + 7
    output = np.array(layer(x))
    assert_close(output.mean(axis=-1), np.zeros((4, 5)))
    assert_close(output.std(axis=-1), np.ones((4, 5)))
    assert_close(layer(x[:1, 2:3]), output[:1, 2:3])  # no other row or token has a say


@pytest.mark.parametrize(("epsilon", "deviation"), [(1e-6, 0.999), (1e-3, 0.53)])
def test_small_activations_are_normed_too(rng, epsilon, deviation):  # L28
    layer = connected(rng, d_model=64, epsilon=epsilon)
    layer.sublayer.set_weights([np.zeros_like(w) for w in layer.sublayer.get_weights()])
    output = layer(0.02 * normal(rng, 2, 50, 64))
    assert np.mean(np.std(output, axis=-1)) == pytest.approx(deviation, abs=0.01)


def test_norm_first_is_off_and_epsilon_is_small_by_default(rng):  # L30, W3
    layer = connected(rng)
    assert (layer.norm_first, layer.epsilon, layer.norm.epsilon) == (False, 1e-6, 1e-6)


def test_dropout_scales_what_it_keeps_in_training_alone(rng):  # L31, W15, W16
    layer, x = connected(rng, dropout=0.5, norm_first=True), normal(rng, 4, 5, 8)
    whole = np.array(layer(x, training=False)) - x
    dropped = np.array(layer(x, training=True)) - x  # x itself is never dropped
    kept = np.abs(dropped) > 1e-6
    assert 0.3 < kept.mean() < 0.7
    assert_close(dropped[kept], 2 * whole[kept])
    assert np.array_equal(layer(x, training=False), layer(x))


class Pair(keras.layers.Layer):
    def call(self, inputs, factor):
        return factor * inputs, "and more"


def test_connection_passes_arguments_in_and_results_out(rng):
    x = normal(rng, 1, 2, 8)
    output, more = SublayerConnection(Pair())(x, factor=2.0)
    assert_close(output, oracles.layer_norm(3 * x))
    assert more == "and more"


# Blocks


@NORM_FIRST
def test_encoder_block_is_attention_then_network(rng, norm_first):  # L37, L27, W3
    block, x = made(EncoderBlock, rng, norm_first=norm_first), normal(rng, 2, 3, 8)
    output = block(x, attention_mask=attend_to(SOURCE_MASK))
    attention, network = block.self_attention, block.feed_forward
    for b in range(2):
        mask = np.array([SOURCE_MASK[b]] * 3)

        def look_around(q, mask=mask):
            return oracles.multi_head_attention(attention.sublayer, q, mask=mask)

        y = add_and_norm(attention, x[b], look_around)
        y = add_and_norm(network, y, lambda h: oracles.feed_forward(network.sublayer, h))
        assert_close(output[b], y)


@NORM_FIRST
def test_decoder_block_is_self_attention_cross_attention_network(rng, norm_first):  # L38, W3
    block, x = made(DecoderBlock, rng, norm_first=norm_first), normal(rng, 2, 4, 8)
    memory = normal(rng, 2, 3, 8)
    output = block(
        x, memory=memory, attention_mask=causal_mask(4), memory_mask=attend_to(SOURCE_MASK)
    )
    attention, cross, network = block.self_attention, block.cross_attention, block.feed_forward
    for b in range(2):
        mask = np.array([SOURCE_MASK[b]] * 4)

        def look_back(q):
            return oracles.multi_head_attention(attention.sublayer, q, mask=CAUSAL)

        def look_across(q, b=b, mask=mask):
            return oracles.multi_head_attention(cross.sublayer, q, memory[b], mask)

        y = add_and_norm(attention, x[b], look_back)
        y = add_and_norm(cross, y, look_across)
        y = add_and_norm(network, y, lambda h: oracles.feed_forward(network.sublayer, h))
        assert_close(output[b], y)


@pytest.mark.parametrize(
    ("block_class", "norms", "attentions", "parameters"),
    [(EncoderBlock, 2, 1, 3_152_384), (DecoderBlock, 3, 2, 4_204_032)],
)
def test_parts_of_a_block(block_class, norms, attentions, parameters):  # L37, L38, W3
    block = made(block_class, num_heads=8, d_model=512, d_ff=2048)
    sublayers = ["self_attention", "cross_attention", "feed_forward"]
    if block_class is EncoderBlock:
        sublayers.remove("cross_attention")
    assert paths_of(block, "/norm/gamma") == [f"{block.name}/{name}" for name in sublayers]
    assert len(paths_of(block, "/norm/beta")) == norms
    assert len(paths_of(block, "/query/kernel")) == attentions
    assert len(paths_of(block, "/expand/kernel")) == 1
    assert block.count_params() == parameters


@BLOCKS
def test_post_norm_output_has_deviation_one(rng, block_class):  # L30
    x = normal(rng, 2, 4, 8)
    after = np.std(run(made(block_class), rng, x), axis=-1)
    before = np.std(run(made(block_class, norm_first=True), rng, x), axis=-1)
    assert_close(after, np.ones((2, 4)))
    assert largest_difference(before, np.ones((2, 4))) > 0.1


@BLOCKS
@pytest.mark.parametrize("rate", ["dropout", "attention_dropout", "ffn_dropout"])
def test_each_dropout_acts_in_training_alone(rng, block_class, rate):  # L31, W16
    block, x = made(block_class, rng, **{rate: 0.5}), normal(rng, 2, 4, 8)
    memory = {} if block_class is EncoderBlock else {"memory": normal(rng, 2, 3, 8)}
    still = block(x, **memory)
    assert np.array_equal(block(x, **memory, training=False), still)
    assert largest_difference(block(x, **memory, training=True), still) > 1e-3


@BLOCKS
def test_no_dropout_by_default(rng, block_class):
    block, x = made(block_class, rng), normal(rng, 2, 4, 8)
    memory = {} if block_class is EncoderBlock else {"memory": normal(rng, 2, 3, 8)}
    assert np.array_equal(block(x, **memory, training=True), block(x, **memory, training=False))


def test_padding_does_not_reach_the_encoder_block(rng):  # L10, C17, W13
    block, real = made(EncoderBlock, rng), normal(rng, 1, 3, 8)
    padded = np.concatenate([real, normal(rng, 1, 3, 8)], axis=1)
    mask = attend_to(np.array([[True] * 3 + [False] * 3]))
    alone = block(real)
    assert_close(block(padded, attention_mask=mask)[:, :3], alone)
    assert largest_difference(block(padded)[:, :3], alone) > 1e-2


def test_padding_of_the_source_does_not_reach_the_decoder_block(rng):  # L11, W12
    block, x, memory = made(DecoderBlock, rng), normal(rng, 1, 4, 8), normal(rng, 1, 3, 8)
    padded = np.concatenate([memory, normal(rng, 1, 3, 8)], axis=1)
    mask = attend_to(np.array([[True] * 3 + [False] * 3]))
    alone = block(x, memory=memory)
    assert_close(block(x, memory=padded, memory_mask=mask), alone)
    assert largest_difference(block(x, memory=padded), alone) > 1e-2


def test_later_positions_do_not_reach_earlier_ones(rng):  # L09, C16
    block, x, memory = made(DecoderBlock, rng), normal(rng, 1, 4, 8), normal(rng, 1, 3, 8)
    changed = x.copy()
    changed[:, 2:] += 1

    def leak(mask):
        before, after = (block(y, memory=memory, attention_mask=mask)[:, :2] for y in (x, changed))
        return largest_difference(before, after)

    assert leak(causal_mask(4)) == 0
    assert leak(None) > 1e-3


@pytest.mark.parametrize("source_length", [1, 6])
def test_decoder_block_keeps_the_length_of_the_target(rng, source_length):  # L07, W43
    block, x = made(DecoderBlock, rng), normal(rng, 2, 4, 8)
    memory = normal(rng, 2, source_length, 8)
    output = block(x, memory=memory)
    assert output.shape == (2, 4, 8)
    assert largest_difference(output, block(x, memory=memory + 1)) > 1e-3


def test_decoder_block_step_by_step_equals_all_at_once(rng):  # D03, C19
    block, x, memory = made(DecoderBlock, rng), normal(rng, 2, 4, 8), normal(rng, 2, 3, 8)
    options = {"memory_mask": attend_to(SOURCE_MASK)}
    expected = block(x, memory=memory, attention_mask=causal_mask(4), **options)
    options["memory_cache"] = block.cross_attention.sublayer.keys_and_values(memory)
    cache = (ops.ones((2, 2, 5, 4)), ops.ones((2, 2, 5, 4)))
    for index in range(4):
        output, cache = block(
            x[:, index : index + 1],
            attention_mask=cache_mask(index, 5),
            cache=cache,
            cache_index=ops.convert_to_tensor(index),
            **options,
        )
        assert_close(output[:, 0], expected[:, index])


@BLOCKS
def test_number_of_heads_must_divide_the_width(block_class):  # L04
    with pytest.raises(ValueError, match="d_model=8 and num_heads=3"):
        block_class(3, 8, 16)


@BLOCKS
@NORM_FIRST
@pytest.mark.parametrize(("policy", "bound"), [("mixed_float16", 1e-2), ("mixed_bfloat16", 1e-1)])
def test_mixed_precision_is_near_float32(rng, block_class, norm_first, policy, bound):
    full = made(block_class, rng, norm_first=norm_first)
    mixed = made(block_class, norm_first=norm_first, dtype=policy)
    mixed.set_weights(full.get_weights())
    x, options = normal(rng, 2, 4, 8), {"attention_mask": np.array([CAUSAL, 0 * CAUSAL])}
    if block_class is DecoderBlock:
        options["memory"] = normal(rng, 2, 3, 8)
    expected, output = np.array(full(x, **options)), mixed(x, **options)
    assert output.dtype == policy.removeprefix("mixed_")
    assert_close(ops.cast(output, "float32"), expected, bound * np.max(np.abs(expected)))


OPTIONS = {
    "activation": "gelu",
    "dropout": 0.1,
    "attention_dropout": 0.2,
    "ffn_dropout": 0.3,
    "norm_first": True,
    "epsilon": 1e-5,
}


@BLOCKS
def test_config_gives_back_the_block(block_class):
    block = made(block_class, **OPTIONS)
    again = block_class.from_config(block.get_config())
    assert again.get_config() == block.get_config()
    assert {k: v for k, v in again.get_config().items() if k in OPTIONS} == OPTIONS
    assert again.self_attention.sublayer.dropout == 0.2
    assert again.feed_forward.sublayer.dropout == 0.3
    assert again.feed_forward.dropout == 0.1
    assert again.feed_forward.norm.epsilon == 1e-5


def test_config_gives_back_the_connection(rng):
    layer = connected(rng, dropout=0.1, norm_first=True, epsilon=1e-5)
    again = SublayerConnection.from_config(layer.get_config())
    assert type(again.sublayer) is FeedForward
    assert again.get_config() == layer.get_config()


def test_saved_connection_computes_the_same(rng, reload):
    inputs = keras.Input((None, 8))
    model, x = keras.Model(inputs, connected(rng)(inputs)), normal(rng, 2, 4, 8)
    assert np.array_equal(reload(model)(x), model(x))


@BLOCKS
@NORM_FIRST
def test_saved_block_computes_the_same(rng, reload, block_class, norm_first):
    inputs, memory = keras.Input((None, 8)), keras.Input((None, 8))
    block = made(block_class, rng, norm_first=norm_first)
    outputs = block(inputs) if block_class is EncoderBlock else block(inputs, memory=memory)
    model = keras.Model([inputs, memory], outputs)
    x = [normal(rng, 2, 4, 8), normal(rng, 2, 3, 8)]
    assert np.array_equal(reload(model)(x), model(x))
