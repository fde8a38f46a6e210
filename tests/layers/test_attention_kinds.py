"""What holds for every kind of attention and of relative positions, in layers and in stacks."""

from typing import ClassVar

import keras
import numpy as np
import pytest
import tensorflow as tf
from fixtures_attention import KINDS, built, normal
from keras import ops
from oracles import assert_close, largest_difference, shake

from keras_transformer.layers import (
    Decoder,
    Encoder,
    LinearBias,
    MultiHeadAttention,
    RotaryPositions,
    attend_to,
    bias_of,
    cache_mask,
    causal_mask,
)

EVERY = pytest.mark.parametrize("kind", KINDS)
OWN = pytest.mark.parametrize(
    "kind", ["additive", "shaw", "transformer_xl", "shared_qk", "shared_kv", "multi_query"]
)
WITHOUT_PAIRS = [kind for kind in KINDS if kind not in ("rotary_multi_query", "rotary_shared")]
SEES_POSITIONS = [kind for kind, (_, positions) in KINDS.items() if positions() is not None]


def layer_and_arguments(kind, rng, length):
    make, make_positions = KINDS[kind]
    positions = make_positions()
    if positions is None:
        return built(make(), rng), {}
    positions.build()
    places = ops.arange(length)
    return built(make(), rng), positions(places, places)


def stack(stack_class, kind, rng=None, **options):
    make, make_positions = KINDS[kind]
    if stack_class is Decoder:
        options["cross_attention"] = False
    options |= {"num_heads": 2, "d_model": 8, "d_ff": 16}
    options.setdefault("num_layers", 1)
    made = stack_class(attention=make(), positions=make_positions(), **options)
    made.build((None, None, 8))
    if rng is not None:
        shake(made, rng)
    return made


@EVERY
def test_masked_keys_have_weight_exactly_zero(rng, kind):  # L10, L12
    layer, arguments = layer_and_arguments(kind, rng, 5)
    x = normal(rng, 2, 5, 8)
    mask = attend_to(np.array([[True] * 5, [True] * 3 + [False] * 2]))
    _, weights = layer(x, attention_mask=mask, return_attention=True, **arguments)
    assert weights.dtype == "float32"
    assert not np.any(weights[1, :, :, 3:])
    assert np.all(weights[0] > 0) and np.all(weights[1, :, :, :3] > 0)
    assert_close(ops.sum(weights, -1), np.ones((2, 2, 5)), 1e-6)
    _, unmasked = layer(x, return_attention=True, **arguments)
    assert np.all(unmasked[1, :, :, 3:] > 0)


@EVERY
def test_a_query_without_keys_gets_zeros(rng, kind):  # L12, W51
    layer, arguments = layer_and_arguments(kind, rng, 3)
    mask = np.array([[[True] * 3, [False] * 3, [True, False, False]]])
    output, weights = layer(
        normal(rng, 1, 3, 8), attention_mask=mask, return_attention=True, **arguments
    )
    assert not np.any(weights[0, :, 1])
    assert np.array_equal(output[0, 1], layer.output_projection.bias)  # nothing else is left
    assert largest_difference(output[0, 0], layer.output_projection.bias) > 1e-2


@EVERY
def test_padding_does_not_reach_the_memory(rng, kind):  # L10, C17
    encoder, real = stack(Encoder, kind, rng, num_layers=2), normal(rng, 1, 3, 8)
    padded = np.concatenate([real, normal(rng, 1, 4, 8)], axis=1)
    mask = attend_to(np.array([[True] * 3 + [False] * 4]))
    alone = encoder(real)
    assert_close(encoder(padded, attention_mask=mask)[:, :3], alone)
    assert largest_difference(encoder(padded)[:, :3], alone) > 1e-2


@pytest.mark.parametrize("kind", SEES_POSITIONS)
def test_moving_all_positions_changes_nothing(rng, kind):  # L21, L22
    decoder, x = stack(Decoder, kind, rng), normal(rng, 1, 5, 8)
    outputs = [
        decoder(x, query_positions=places, key_positions=places)
        for places in (ops.arange(5), ops.arange(5) + 7, 2 * ops.arange(5))
    ]
    assert_close(outputs[1], outputs[0])
    assert largest_difference(outputs[2], outputs[0]) > 1e-3  # twice as far apart


@EVERY
def test_order_matters_where_there_are_positions(rng, kind):  # C11
    encoder, x = stack(Encoder, kind, rng), normal(rng, 1, 5, 8)
    order = [3, 0, 4, 1, 2]
    difference = largest_difference(encoder(x[:, order]), np.array(encoder(x))[:, order])
    assert difference > 1e-2 if kind in SEES_POSITIONS else difference < 1e-5


@EVERY
def test_step_by_step_equals_all_at_once(rng, kind):  # D03, C19
    decoder, x = stack(Decoder, kind, rng, num_layers=2), normal(rng, 2, 4, 8)
    expected = decoder(x, attention_mask=causal_mask(4))
    caches = decoder.empty_caches(2, 6)
    for index in range(4):
        output, caches = decoder(
            x[:, index : index + 1],
            attention_mask=cache_mask(index, 6),
            caches=caches,
            cache_index=ops.convert_to_tensor(index),
            query_positions=ops.convert_to_tensor([index]),
            key_positions=ops.arange(6),
        )
        assert_close(output[:, 0], expected[:, index])


@pytest.mark.parametrize("kind", SEES_POSITIONS)
def test_rows_can_have_positions_of_their_own(rng, kind):
    """As hypotheses of a beam have, or rows of a batch that begin with padding."""
    decoder, x = stack(Decoder, kind, rng), normal(rng, 2, 3, 8)
    places = np.array([[0, 1, 2], [0, 2, 1]])
    together = decoder(x, query_positions=places, key_positions=places)
    for row in (0, 1):
        alone = decoder(x[row : row + 1], query_positions=places[row], key_positions=places[row])
        assert_close(together[row], alone[0])
    assert largest_difference(together[1], decoder(x)[1]) > 1e-3


@pytest.mark.parametrize("kind", WITHOUT_PAIRS)
def test_saved_stack_computes_the_same(rng, reload, kind):
    inputs = keras.Input((None, 8))
    model, x = keras.Model(inputs, stack(Decoder, kind, rng)(inputs)), normal(rng, 2, 4, 8)
    again = reload(model)
    assert np.array_equal(again(x), model(x))
    own = [block.self_attention.sublayer for s in again.layers[1:] for block in s.blocks]
    assert {type(layer) for layer in own} == {type(KINDS[kind][0]())}
    signature = [tf.TensorSpec((None, None, 8))]
    traced = tf.function(again, input_signature=signature, autograph=False)
    assert_close(traced(x), model(x))
    assert_close(traced(x[:, :1]), model(x[:, :1]))


@EVERY
def test_mixed_precision_is_near_float32(rng, kind):
    full = stack(Encoder, kind, rng)
    x, mask = normal(rng, 2, 6, 8), np.ones((2, 6, 6), "bool")
    mask[1, 2] = False
    expected = np.array(full(x, attention_mask=mask))
    for dtype, bound in (("float16", 2e-2), ("bfloat16", 2e-1)):
        mixed = stack(Encoder, kind, dtype=f"mixed_{dtype}")
        mixed.set_weights(full.get_weights())
        assert {w.dtype for w in mixed.weights} == {"float32"}
        output = mixed(x, attention_mask=mask)
        assert output.dtype == dtype
        assert_close(ops.cast(output, "float32"), expected, bound * np.max(np.abs(expected)))


class Spy(MultiHeadAttention):
    """Attention that remembers what it was given."""

    seen: ClassVar[dict] = {}

    def call(self, query, **arguments):
        self.seen.update(arguments)
        return super().call(query, **arguments)


@pytest.mark.parametrize("positions", [LinearBias(2), RotaryPositions(4)], ids=["bias", "rotation"])
def test_what_positions_give_stays_in_float32_in_mixed_precision(rng, positions):
    """In bfloat16 no number lies between 500 and 502, and a cosine is off by up to 2e-3."""
    options = {"num_heads": 2, "d_model": 8, "d_ff": 16, "dtype": "mixed_bfloat16"}
    Spy.seen.clear()
    Encoder(1, attention=Spy(2, 8), positions=positions, **options)(normal(rng, 1, 5, 8))
    found = Spy.seen.get("rotation") or [Spy.seen["attention_bias"]]
    assert {x.dtype for x in found} == {tf.float32}


def test_a_bias_that_hides_everything_gives_numbers_in_float16(rng):
    """The lowest float32 would be -inf there, and a row of it NaN."""
    options = {"num_heads": 2, "d_model": 8, "d_ff": 16, "cross_attention": False}
    decoder = Decoder(1, **options, dtype="mixed_float16")
    bias = bias_of(np.zeros((1, 1, 4, 4), "bool"))
    assert np.all(np.isfinite(decoder(normal(rng, 1, 4, 8), attention_bias=bias)))


@OWN
def test_config_gives_back_the_layer(kind):
    layer = KINDS[kind][0](dropout=0.1, use_bias=False, head_width=6, name="attention")
    again = type(layer).from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    assert (again.dropout, again.use_bias, again.head_width) == (0.1, False, 6)


@OWN
def test_width_of_heads_is_free_and_biases_can_be_left_out(rng, kind):
    _, make_positions = KINDS[kind]
    layer = built(KINDS[kind][0](use_bias=False, head_width=6), rng)
    arguments = {} if make_positions() is None else make_positions()(ops.arange(3), ops.arange(3))
    assert layer(normal(rng, 2, 3, 8), **arguments).shape == (2, 3, 8)
    assert not [w.path for w in layer.weights if w.path.endswith("/bias")]


@OWN
def test_dropout_acts_in_training_only(rng, kind):  # L31
    _, arguments = layer_and_arguments(kind, rng, 3)
    layer, x = built(KINDS[kind][0](dropout=0.5), rng), normal(rng, 2, 3, 8)
    whole = layer(x, **arguments)
    assert largest_difference(layer(x, training=True, **arguments), whole) > 1e-3
    assert np.array_equal(layer(x, training=False, **arguments), whole)


@pytest.mark.parametrize("kind", WITHOUT_PAIRS)
def test_one_step_trains_every_weight(rng, kind):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((None, 8))
    model = keras.Model(inputs, stack(Encoder, kind)(inputs))
    before = model.get_weights()
    model.compile(keras.optimizers.SGD(0.1), loss="mse", run_eagerly=True)
    history = model.fit(normal(rng, 4, 5, 8), normal(rng, 4, 5, 8), verbose=0).history
    assert np.isfinite(history["loss"][0])
    moved = {
        w.path: not np.array_equal(w.numpy(), b) for w, b in zip(model.weights, before, strict=True)
    }
    still = [path for path, has_moved in moved.items() if not has_moved]
    assert not still


@OWN
def test_another_width_is_refused(rng, kind):
    with pytest.raises(ValueError, match=r"d_model=8, got shape \(1, 2, 6\)"):
        KINDS[kind][0]().build((1, 2, 6))
