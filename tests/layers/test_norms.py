"""Tests of keras_transformer.layers.norms."""

import numpy as np
import oracles
import pytest
from fixtures_attention import normal
from keras import ops
from oracles import assert_close, largest_difference, shake

from keras_transformer.layers import Decoder, Encoder, EncoderBlock, make_norm
from keras_transformer.layers.norms import NORMS


def made(kind, rng, epsilon=1e-6):
    norm = make_norm(kind, epsilon, "float32", "norm")
    norm.build((None, None, 8))
    norm.set_weights([w + np.abs(normal(rng, *w.shape)) for w in norm.get_weights()])
    return norm


@pytest.mark.parametrize("epsilon", [1e-6, 0.1])
def test_layer_norm_is_the_formula(rng, epsilon):  # L28
    norm, x = made("layer", rng, epsilon), 3 * normal(rng, 2, 3, 8) + 1
    gamma, beta = norm.get_weights()
    assert_close(norm(x), oracles.layer_norm(x, epsilon, gamma, beta))


@pytest.mark.parametrize("epsilon", [1e-6, 0.1])
def test_rms_norm_divides_by_the_root_mean_square_alone(rng, epsilon):
    norm, x = made("rms", rng, epsilon), 3 * normal(rng, 2, 3, 8) + 1
    [scale] = norm.get_weights()  # and no offset
    size = np.sqrt(np.mean(x.astype("float64") ** 2, axis=-1, keepdims=True) + epsilon)
    assert_close(norm(x), x / size * scale)
    assert_close(norm(100 * x), norm(x), 1e-5 if epsilon < 0.1 else 1)
    assert largest_difference(norm(x + 1), norm(x)) > 0.1  # the mean stays in


@pytest.mark.parametrize("epsilon", [1e-6, 0.1])
def test_batch_norm_is_over_all_tokens_of_the_batch(rng, epsilon):  # L29
    norm, x = made("batch", rng, epsilon), 3 * normal(rng, 2, 3, 8) + 1
    gamma, beta, mean, variance = norm.get_weights()
    # At inference it takes the means of training.
    assert_close(norm(x), (x - mean) / np.sqrt(variance + epsilon) * gamma + beta)
    tokens = x.reshape(6, 8)
    here, spread = tokens.mean(axis=0), tokens.var(axis=0)
    expected = (x - here) / np.sqrt(spread + epsilon) * gamma + beta
    assert_close(norm(x, training=True), expected, 1e-4)
    assert_close(norm.moving_mean, 0.99 * mean + 0.01 * here, 1e-5)


def test_unknown_norm_is_refused():
    with pytest.raises(ValueError, match="one of layer, rms, batch, got 'group'"):
        make_norm("group", 1e-6, "float32", "norm")


@pytest.mark.parametrize("kind", NORMS)
@pytest.mark.parametrize("norm_first", [False, True])
def test_blocks_have_the_norm_that_is_asked_for(rng, kind, norm_first):  # L29
    block = EncoderBlock(2, 8, 16, norm=kind, norm_first=norm_first)
    block.build((None, None, 8))
    shake(block, rng, 0.1)
    classes = {
        "layer": "LayerNormalization",
        "rms": "RMSNormalization",
        "batch": "BatchNormalization",
    }
    x = y = normal(rng, 2, 3, 8)
    for connection in (block.self_attention, block.feed_forward):
        assert type(connection.norm).__name__ == classes[kind]
        assert connection.norm.epsilon == 1e-6
        if norm_first:
            y = y + connection.sublayer(connection.norm(y))
        else:
            y = connection.norm(y + connection.sublayer(y))
    assert_close(block(x), y)


@pytest.mark.parametrize("kind", NORMS)
@pytest.mark.parametrize("stack_class", [Encoder, Decoder])
def test_stacks_end_with_the_same_norm(kind, stack_class):
    options = {"num_heads": 2, "d_model": 8, "d_ff": 16, "norm": kind, "epsilon": 1e-5}
    stack = stack_class(2, norm_first=True, **options)
    assert type(stack.final_norm) is type(stack.blocks[0].feed_forward.norm)
    assert stack.final_norm.epsilon == 1e-5
    again = stack_class.from_config(stack.get_config())
    assert again.get_config() == stack.get_config()
    assert type(again.final_norm) is type(stack.final_norm)
    assert again.blocks[1].norm == kind


@pytest.mark.parametrize("kind", ["layer", "rms"])
@pytest.mark.parametrize(("policy", "bound"), [("mixed_float16", 5e-3), ("mixed_bfloat16", 5e-2)])
def test_mixed_precision_is_near_float32(rng, kind, policy, bound):
    full, x = made(kind, rng), 3 * normal(rng, 2, 3, 8)
    mixed = make_norm(kind, 1e-6, policy, "norm")
    mixed.build((None, None, 8))
    mixed.set_weights(full.get_weights())
    assert mixed(x).dtype == policy.removeprefix("mixed_")
    assert_close(ops.cast(mixed(x), "float32"), full(x), bound * np.max(np.abs(full(x))))
