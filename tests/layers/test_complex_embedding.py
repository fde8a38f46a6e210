"""Tests of keras_transformer.layers.complex_embedding."""

import keras
import numpy as np
import pytest
from fixtures_attention import built, float64, normal
from keras import ops
from oracles import assert_close, largest_difference

from keras_transformer.layers import ComplexEmbedding, Encoder, TokenEmbedding, sinusoidal_table

IDS = np.array([[4, 0, 2, 2], [2, 2, 1, 3]])


def waves(layer, ids, start=0):
    """What the layer returns, as complex numbers `(B, T, D / 2)`."""
    real, imaginary = np.split(np.array(layer(ids, start=start), "float64"), 2, axis=-1)
    return real + 1j * imaginary


def tables(layer):
    return (float64(w) for w in (layer.amplitudes, layer.frequencies, layer.phases))


def test_embedding_is_the_formula(rng):  # L23
    layer = built(ComplexEmbedding(5, 8), rng)
    amplitude, frequency, phase = tables(layer)
    for b in range(2):
        for t in range(4):
            w = IDS[b, t]
            expected = amplitude[w] * np.exp(1j * (frequency[w] * (t + 3) + phase[w]))
            assert_close(np.abs(waves(layer, IDS, start=3)[b, t] - expected), np.zeros(4))
    assert layer(IDS).shape == (2, 4, 8)
    assert layer.count_params() == 3 * 5 * 4


def test_a_vector_at_one_position_gives_those_at_all_others(rng):  # L23
    layer = built(ComplexEmbedding(5, 8), rng)
    ids = np.full((5, 20), np.arange(5)[:, None])  # each word at 20 positions
    found = waves(layer, ids)
    _, frequency, _ = tables(layer)
    for further in (1, 7):
        turned = found[:, :-further] * np.exp(1j * frequency * further)[:, None]
        assert np.max(np.abs(turned - found[:, further:])) < 1e-5
    assert np.max(np.abs(found[:, :-1] - found[:, 1:])) > 0.1


def test_the_amplitude_is_the_same_at_every_position(rng):  # L23
    layer = built(ComplexEmbedding(5, 8), rng)
    ids = np.full((5, 20), np.arange(5)[:, None])
    lengths = np.abs(waves(layer, ids))
    assert_close(lengths, np.broadcast_to(lengths[:, :1], lengths.shape))
    assert_close(lengths[:, 0], np.abs(float64(layer.amplitudes)))
    added = TokenEmbedding(5, 8)(ids) + sinusoidal_table(20, 8)  # a word vector plus a position
    assert np.ptp(np.linalg.norm(added, axis=-1), axis=1).min() > 0.1


def test_words_turn_at_frequencies_of_their_own_once_they_are_trained(rng):  # L23
    layer = ComplexEmbedding(5, 8)
    layer.build()
    assert_close(
        float64(layer.frequencies), np.tile(10000.0 ** (-np.arange(0, 8, 2) / 8), (5, 1)), 1e-7
    )
    inputs = keras.Input((None,), dtype="int32")
    model = keras.Model(inputs, layer(inputs))
    model.compile(keras.optimizers.SGD(0.1), loss="mse")
    before = list(tables(layer))
    model.fit(IDS, normal(rng, 2, 4, 8), verbose=0)
    for old, new in zip(before, tables(layer), strict=True):
        assert np.all(np.any(old[[0, 2, 1, 3]] != new[[0, 2, 1, 3]], axis=1))


def test_vectors_begin_as_large_as_scaled_embeddings():
    layer = ComplexEmbedding(1000, 64)
    assert np.std(layer(np.arange(1000)[None])) == pytest.approx(1, rel=0.02)


def test_positions_can_start_anywhere(rng):
    layer = built(ComplexEmbedding(5, 8), rng)
    whole = layer(IDS)
    for start in range(4):
        step = layer(IDS[:, start : start + 1], start=ops.convert_to_tensor(start))
        assert_close(step[:, 0], whole[:, start], 1e-6)
    assert largest_difference(layer(IDS[:, 2:]), whole[:, 2:]) > 0.1


@pytest.mark.parametrize(("policy", "bound"), [("mixed_float16", 5e-3), ("mixed_bfloat16", 4e-2)])
def test_mixed_precision_is_near_float32_far_out_too(rng, policy, bound):
    full, mixed = built(ComplexEmbedding(5, 8), rng), ComplexEmbedding(5, 8, dtype=policy)
    mixed.build()
    mixed.set_weights(full.get_weights())
    output = mixed(IDS, start=3001)
    assert output.dtype == policy.removeprefix("mixed_")
    assert_close(ops.cast(output, "float32"), full(IDS, start=3001), bound)


def test_model_is_trained_and_saved(rng, reload):
    inputs = keras.Input((None,), dtype="int32")
    x = ComplexEmbedding(5, 8)(inputs)
    model = keras.Model(inputs, Encoder(1, num_heads=2, d_model=8, d_ff=16)(x))
    model.compile("adam", loss="mse")
    losses = model.fit(IDS, normal(rng, 2, 4, 8), epochs=20, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    assert np.array_equal(reload(model)(IDS), model(IDS))


def test_order_reaches_the_encoder(rng):  # C11: with this embedding nothing has to be added
    encoder = built(Encoder(1, num_heads=2, d_model=8, d_ff=16), rng)
    embed, order = built(ComplexEmbedding(5, 8), rng), [2, 0, 3, 1]
    one, other = encoder(embed(IDS)), encoder(embed(IDS[:, order]))
    assert largest_difference(np.array(one)[:, order], other) > 1e-2


def test_config_gives_back_the_layer():
    layer = ComplexEmbedding(5, 8, name="embedding")
    again = ComplexEmbedding.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    assert (again.vocabulary_size, again.d_model) == (5, 8)


def test_odd_width_is_refused():
    with pytest.raises(ValueError, match="even d_model, got 5"):
        ComplexEmbedding(5, 5)
