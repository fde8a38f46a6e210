"""Tests of keras_transformer.layers.target_attention."""

import keras
import numpy as np
import oracles
import pytest
from fixtures_attention import built, normal
from keras import ops
from oracles import assert_close, largest_difference

from keras_transformer.layers import TargetAttention

MASK = np.array([[True] * 4, [True, True, False, False]])


@pytest.mark.parametrize("num_heads", [1, 2])
def test_layer_is_attention_with_one_query(rng, num_heads):  # L08
    layer = built(TargetAttention(8, num_heads), rng)
    target, candidates = normal(rng, 2, 8), normal(rng, 2, 4, 8)
    output, weights = layer(target, candidates, candidate_mask=MASK, return_attention=True)
    assert output.shape == (2, 8)
    assert weights.shape == (2, num_heads, 4)
    for b in range(2):
        expected = oracles.multi_head_attention(
            layer.attention, target[b : b + 1], candidates[b], MASK[b : b + 1]
        )
        assert_close(output[b], expected[0])
    assert_close(layer(target, candidates, candidate_mask=MASK), output)


def test_candidate_that_equals_the_target_has_the_largest_weight(rng):  # L08
    layer = TargetAttention(8)
    layer.build((None, 8))
    layer.set_weights([np.eye(8), np.zeros(8)] * 4)
    candidates = normal(rng, 50, 6, 8)
    candidates /= np.linalg.norm(candidates, axis=-1, keepdims=True)
    places = rng.integers(0, 6, 50)
    _, weights = layer(candidates[np.arange(50), places], candidates, return_attention=True)
    assert np.array_equal(np.argmax(weights[:, 0], axis=-1), places)
    _, others = layer(-candidates[np.arange(50), places], candidates, return_attention=True)
    assert np.array_equal(np.argmin(others[:, 0], axis=-1), places)


def test_order_of_the_candidates_changes_nothing(rng):  # L08
    layer = built(TargetAttention(8, 2), rng)
    target, candidates, order = normal(rng, 2, 8), normal(rng, 2, 4, 8), [2, 0, 3, 1]
    output, weights = layer(target, candidates, return_attention=True)
    again, new_weights = layer(target, candidates[:, order], return_attention=True)
    assert_close(again, output, 1e-6)
    assert_close(new_weights, np.array(weights)[:, :, order], 1e-6)
    assert largest_difference(layer(target, candidates[:, [0, 0, 1, 2]]), output) > 1e-2


def test_what_fills_up_a_list_has_weight_exactly_zero(rng):  # L08, L10
    layer, target, candidates = (
        built(TargetAttention(8), rng),
        normal(rng, 2, 8),
        normal(rng, 2, 4, 8),
    )
    output, weights = layer(target, candidates, candidate_mask=MASK, return_attention=True)
    assert not np.any(weights[1, :, 2:])
    assert_close(layer(target[1:], candidates[1:, :2]), output[1:], 1e-6)
    assert largest_difference(layer(target[1:], candidates[1:]), output[1:]) > 1e-2


def test_list_without_candidates_gives_the_bias(rng):  # L12
    layer = built(TargetAttention(8), rng)
    nothing = np.zeros((1, 4), "bool")
    output, weights = layer(
        normal(rng, 1, 8), normal(rng, 1, 4, 8), candidate_mask=nothing, return_attention=True
    )
    assert not np.any(weights)
    assert np.array_equal(output[0], layer.attention.output_projection.bias)


@pytest.mark.parametrize(("policy", "bound"), [("mixed_float16", 5e-3), ("mixed_bfloat16", 5e-2)])
def test_mixed_precision_is_near_float32(rng, policy, bound):
    full, mixed = built(TargetAttention(8, 2), rng), TargetAttention(8, 2, dtype=policy)
    mixed.build((None, 8))
    mixed.set_weights(full.get_weights())
    target, candidates = normal(rng, 2, 8), normal(rng, 2, 4, 8)
    expected = np.array(full(target, candidates, candidate_mask=MASK))
    output, weights = mixed(target, candidates, candidate_mask=MASK, return_attention=True)
    assert output.dtype == policy.removeprefix("mixed_")
    assert weights.dtype == "float32"
    assert_close(ops.cast(output, "float32"), expected, bound * np.max(np.abs(expected)))


def test_dropout_acts_in_training_only(rng):
    layer, target, candidates = (
        built(TargetAttention(8, dropout=0.5), rng),
        *(normal(rng, *shape) for shape in ((2, 8), (2, 4, 8))),
    )
    whole = layer(target, candidates)
    assert np.array_equal(layer(target, candidates, training=False), whole)
    assert largest_difference(layer(target, candidates, training=True), whole) > 1e-3


def test_config_gives_back_the_layer():
    layer = TargetAttention(8, 2, dropout=0.1, use_bias=False, name="target")
    again = TargetAttention.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    assert (again.d_model, again.num_heads, again.dropout, again.use_bias) == (8, 2, 0.1, False)
    assert again.attention.use_bias is False


def test_model_is_trained_and_saved(rng, reload):
    target, candidates = keras.Input((8,)), keras.Input((None, 8))
    mask = keras.Input((None,), dtype="bool")
    model = keras.Model(
        [target, candidates, mask], TargetAttention(8, 2)(target, candidates, candidate_mask=mask)
    )
    x = [normal(rng, 2, 8), normal(rng, 2, 4, 8), MASK]
    before = model.get_weights()
    model.compile(keras.optimizers.SGD(0.1), loss="mse")
    model.fit(x, normal(rng, 2, 8), verbose=0)
    assert not any(np.array_equal(a, b) for a, b in zip(model.get_weights(), before, strict=True))
    assert np.array_equal(reload(model)(x), model(x))


def test_number_of_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="d_model=8 and num_heads=3"):
        TargetAttention(8, 3)
