"""Tests of keras_transformer.layers.stacks."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from oracles import assert_close, largest_difference, layer_norm, shake

from keras_transformer.layers import Decoder, Encoder, attend_to, cache_mask, causal_mask

STACKS = pytest.mark.parametrize("stack_class", [Encoder, Decoder])
NORM_FIRST = pytest.mark.parametrize("norm_first", [False, True])
SOURCE_MASK = attend_to(np.array([[True] * 3, [True, False, False]]))


def normal(rng, *shape):
    return rng.normal(size=shape).astype("float32")


def made(stack_class, rng=None, num_layers=2, **options):
    stack = stack_class(num_layers, **{"num_heads": 2, "d_model": 8, "d_ff": 16, **options})
    stack.build((None, None, 8))
    if rng:
        shake(stack, rng)
    return stack


def context(stack, rng):
    return {"memory": normal(rng, 2, 3, 8)} if isinstance(stack, Decoder) else {}


@STACKS
@NORM_FIRST
def test_blocks_run_in_order(rng, stack_class, norm_first):  # L39
    stack, x = made(stack_class, rng, num_layers=3, norm_first=norm_first), normal(rng, 2, 4, 8)
    options = context(stack, rng)
    expected = x
    for block in stack.blocks:
        expected = block(expected, **options)
    if norm_first:
        gamma, beta = stack.final_norm.get_weights()
        expected = layer_norm(expected, gamma=gamma, beta=beta)
    assert_close(stack(x, **options), expected)


@STACKS
def test_only_a_pre_norm_stack_ends_with_a_norm_of_its_own(rng, stack_class):  # W3, L30
    x = normal(rng, 2, 4, 8)
    for norm_first in (False, True):
        stack = made(stack_class, norm_first=norm_first)
        assert (stack.final_norm is not None) == norm_first
        assert_close(np.std(stack(x, **context(stack, rng)), axis=-1), np.ones((2, 4)))


@STACKS
def test_no_two_blocks_share_a_variable(stack_class):  # L39, W1
    stack = made(stack_class, num_layers=3)
    variables = [{id(w) for w in block.weights} for block in stack.blocks]
    assert len(set.union(*variables)) == sum(len(v) for v in variables) == len(stack.weights)
    names = {w.path.split("/")[1] for w in stack.weights}
    assert names == {"block_0", "block_1", "block_2"}
    kernels = [b.self_attention.sublayer.query_projection.kernel.numpy() for b in stack.blocks]
    assert largest_difference(kernels[0], kernels[1]) > 0.1


@STACKS
def test_parameters_are_linear_in_the_number_of_layers(stack_class):  # L39
    one, two, five = (made(stack_class, num_layers=n).count_params() for n in (1, 2, 5))
    assert two == 2 * one
    assert five == 5 * one


@pytest.mark.parametrize("length", [1, 2, 7])
def test_memory_is_as_long_as_the_source(rng, length):  # C58, W31, L47
    assert made(Encoder)(normal(rng, 2, length, 8)).shape == (2, length, 8)


def test_padding_does_not_reach_the_memory(rng):  # L10, L47, C17, W13
    encoder, real = made(Encoder, rng), normal(rng, 1, 3, 8)
    padded = np.concatenate([real, normal(rng, 1, 4, 8)], axis=1)
    mask = attend_to(np.array([[True] * 3 + [False] * 4]))
    alone = encoder(real)
    assert_close(encoder(padded, attention_mask=mask)[:, :3], alone)
    assert largest_difference(encoder(padded)[:, :3], alone) > 1e-2


def test_masked_memory_does_not_reach_the_decoder(rng):  # L11, W12
    decoder, x, memory = made(Decoder, rng), normal(rng, 2, 4, 8), normal(rng, 2, 3, 8)
    changed = memory.copy()
    changed[1, 1:] += 1
    before, after = (decoder(x, memory=m, memory_mask=SOURCE_MASK) for m in (memory, changed))
    assert np.array_equal(before, after)
    assert largest_difference(decoder(x, memory=memory), decoder(x, memory=changed)) > 1e-2


def test_order_matters_to_the_stack_only_through_positions(rng):
    encoder, x = made(Encoder, rng), normal(rng, 1, 4, 8)
    assert_close(encoder(x[:, ::-1]), encoder(x)[:, ::-1])


@NORM_FIRST
def test_step_by_step_equals_all_at_once(rng, norm_first):  # D03, C19
    decoder, x = made(Decoder, rng, norm_first=norm_first), normal(rng, 2, 4, 8)
    memory = normal(rng, 2, 3, 8)
    expected = decoder(x, memory=memory, attention_mask=causal_mask(4), memory_mask=SOURCE_MASK)
    caches, memory_caches = decoder.empty_caches(2, 6), decoder.cache_memory(memory)
    for index in range(4):
        output, caches = decoder(
            x[:, index : index + 1],
            attention_mask=cache_mask(index, 6),
            memory_mask=SOURCE_MASK,
            memory_caches=memory_caches,
            caches=caches,
            cache_index=ops.convert_to_tensor(index),
        )
        assert_close(output[:, 0], expected[:, index])


def test_caches_grow_at_their_end(rng):  # D03
    decoder, x, memory = made(Decoder, rng), normal(rng, 2, 3, 8), normal(rng, 2, 3, 8)
    options = {
        "memory": memory,
        "attention_mask": causal_mask(3),
        "cache_index": ops.convert_to_tensor(0),
    }
    _, caches = decoder(x, caches=decoder.empty_caches(2, 3), **options)
    grown = decoder.grow_caches(caches, 4)
    assert len(grown) == len(caches)
    for old, new in zip(caches, grown, strict=True):
        for before, after in zip(old, new, strict=True):
            assert after.shape == (2, 2, 7, 4)
            assert np.any(before)
            assert np.array_equal(after[:, :, :3], before)
            assert not np.any(after[:, :, 3:])


def test_caches_are_keys_and_values_for_each_block(rng):  # D03, W33
    decoder, memory = made(Decoder, rng, num_layers=3), normal(rng, 2, 5, 8)
    empty, filled = decoder.empty_caches(2, 6), decoder.cache_memory(memory)
    assert len(empty) == len(filled) == 3
    assert [x.shape for pair in empty for x in pair] == [(2, 2, 6, 4)] * 6
    assert not any(np.any(x) for pair in empty for x in pair)
    for pair, block in zip(filled, decoder.blocks, strict=True):
        for cached, expected in zip(
            pair, block.cross_attention.sublayer.keys_and_values(memory), strict=True
        ):
            assert np.array_equal(cached, expected)
    assert largest_difference(filled[0][0], filled[1][0]) > 1e-2


@STACKS
@pytest.mark.parametrize(("policy", "bound"), [("mixed_float16", 2e-2), ("mixed_bfloat16", 2e-1)])
def test_mixed_precision_is_near_float32(rng, stack_class, policy, bound):
    full, mixed = made(stack_class, rng), made(stack_class, dtype=policy)
    mixed.set_weights(full.get_weights())
    x, options = normal(rng, 2, 4, 8), context(full, rng)
    expected, output = np.array(full(x, **options)), mixed(x, **options)
    assert output.dtype == policy.removeprefix("mixed_")
    assert_close(ops.cast(output, "float32"), expected, bound * np.max(np.abs(expected)))
    if stack_class is Decoder:
        assert mixed.empty_caches(2, 3)[0][0].dtype == policy.removeprefix("mixed_")


@STACKS
def test_config_gives_back_the_stack(stack_class):
    options = {"norm_first": True, "epsilon": 1e-5, "dropout": 0.1, "activation": "gelu"}
    stack = made(stack_class, num_layers=3, name="stack", **options)
    again = stack_class.from_config(stack.get_config())
    assert again.get_config() == stack.get_config()
    assert len(again.blocks) == 3
    assert again.blocks[2].epsilon == again.final_norm.epsilon == 1e-5
    assert again.blocks[2].dropout == 0.1


@STACKS
@NORM_FIRST
def test_saved_stack_computes_the_same(rng, reload, stack_class, norm_first):
    inputs, memory = keras.Input((None, 8)), keras.Input((None, 8))
    stack = made(stack_class, rng, norm_first=norm_first)
    outputs = stack(inputs) if stack_class is Encoder else stack(inputs, memory=memory)
    model = keras.Model([inputs, memory], outputs)
    x = [normal(rng, 2, 4, 8), normal(rng, 2, 3, 8)]
    assert np.array_equal(reload(model)(x), model(x))


# Shared layers, and options that stacks hand on


@STACKS
def test_shared_layers_are_one(rng, stack_class):  # L34
    options = {"num_layers": 6, "share_layers": True}
    shared, different = made(stack_class, rng, **options), made(stack_class, num_layers=6)
    assert shared.count_params() * 6 == different.count_params()
    assert len(shared.blocks) == len(different.blocks) == 6
    assert len({id(block) for block in shared.blocks}) == 1
    kernels = [b.self_attention.sublayer.query_projection.kernel.numpy() for b in different.blocks]
    for i, kernel in enumerate(kernels):
        assert all(largest_difference(kernel, other) > 0.1 for other in kernels[:i])


def test_parameters_of_a_shared_encoder_of_the_paper():  # L34
    options = {"num_heads": 8, "d_model": 512, "d_ff": 2048}
    counts = []
    for share_layers in (True, False):
        encoder = Encoder(6, share_layers=share_layers, **options)
        encoder.build((None, None, 512))
        counts.append(encoder.count_params())
    assert counts == [3_152_384, 18_914_304]


@STACKS
@NORM_FIRST
def test_shared_block_runs_as_often_as_there_are_layers(rng, stack_class, norm_first):  # L34
    options = {"num_layers": 3, "share_layers": True, "norm_first": norm_first}
    stack, x = made(stack_class, rng, **options), normal(rng, 2, 4, 8)
    arguments = context(stack, rng)
    expected = x
    for _ in range(3):
        expected = stack.blocks[0](expected, **arguments)
    if norm_first:
        expected = stack.final_norm(expected)
    assert_close(stack(x, **arguments), expected)


@STACKS
def test_gradient_of_a_shared_block_is_the_sum_over_layers(rng, stack_class):  # L34
    shared = made(stack_class, rng, num_layers=3, share_layers=True)
    different = made(stack_class, num_layers=3)
    weights = {id(w): w.numpy() for w in shared.weights}
    for block in different.blocks:
        for copy, w in zip(block.weights, shared.blocks[0].weights, strict=True):
            copy.assign(weights[id(w)])
    x, arguments, aim = normal(rng, 2, 4, 8), context(shared, rng), normal(rng, 2, 4, 8)

    def gradients(stack, variables):
        with tf.GradientTape() as tape:
            loss = ops.sum(stack(x, **arguments) * aim)
        return tape.gradient(loss, [v.value for v in variables])

    whole = gradients(shared, shared.trainable_weights)
    parts = [gradients(different, block.trainable_weights) for block in different.blocks]
    for total, *each in zip(whole, *parts, strict=True):
        assert_close(total, sum(np.array(g) for g in each), 1e-3)
    assert any(np.any(g) for g in whole)


@STACKS
def test_saved_shared_stack_computes_the_same_and_is_still_one(rng, reload, stack_class):  # L34
    inputs, memory = keras.Input((None, 8)), keras.Input((None, 8))
    stack = made(stack_class, rng, num_layers=3, share_layers=True)
    outputs = stack(inputs) if stack_class is Encoder else stack(inputs, memory=memory)
    model = keras.Model([inputs, memory], outputs)
    x = [normal(rng, 2, 4, 8), normal(rng, 2, 3, 8)]
    again = reload(model)
    assert np.array_equal(again(x), model(x))
    assert again.count_params() == model.count_params() == stack.count_params()


def test_shared_decoder_has_a_cache_for_each_pass(rng):  # L34, D03
    decoder, x = made(Decoder, rng, num_layers=3, share_layers=True), normal(rng, 2, 4, 8)
    memory = normal(rng, 2, 3, 8)
    expected = decoder(x, memory=memory, attention_mask=causal_mask(4))
    caches, memory_caches = decoder.empty_caches(2, 4), decoder.cache_memory(memory)
    assert len(caches) == 3
    for index in range(4):
        output, caches = decoder(
            x[:, index : index + 1],
            attention_mask=cache_mask(index, 4),
            memory_caches=memory_caches,
            caches=caches,
            cache_index=ops.convert_to_tensor(index),
        )
        assert_close(output[:, 0], expected[:, index])


@STACKS
def test_biases_can_be_left_out(stack_class):
    def offsets(**options):
        return [w.path for w in made(stack_class, **options).weights if w.path.endswith("/bias")]

    assert offsets(use_bias=False) == []
    attentions = 1 if stack_class is Encoder else 2
    assert len(offsets(use_bias=True)) == 2 * (4 * attentions + 2)


@STACKS
def test_width_of_heads_is_free(rng, stack_class):
    stack, x = made(stack_class, rng, head_width=6), normal(rng, 2, 4, 8)
    attention = stack.blocks[0].self_attention.sublayer
    assert attention.query_projection.kernel.shape == (8, 12)
    assert attention.output_projection.kernel.shape == (12, 8)
    assert stack(x, **context(stack, rng)).shape == (2, 4, 8)
    if stack_class is Decoder:
        assert stack.empty_caches(2, 5)[0][0].shape == (2, 2, 5, 6)
    again = stack_class.from_config(stack.get_config())
    assert again.blocks[0].head_width == 6
