"""Tests of keras_transformer.layers.shaw; what holds for every kind: test_attention_kinds."""

import numpy as np
import pytest
from fixtures_attention import built, float64, joined, largest_tensor, normal, projected, weights_by
from keras import ops
from oracles import assert_close, largest_difference, shake

from keras_transformer.layers import (
    Distances,
    Encoder,
    MultiHeadAttention,
    ShawAttention,
    SinusoidalPositions,
    attend_to,
)
from keras_transformer.layers.relative_positions import distances


def clipped(distance, last):
    return int(min(max(distance, -last), last)) + last


@pytest.mark.parametrize("max_distance", [0, 2, 10])
@pytest.mark.parametrize("masked", [False, True])
def test_layer_is_the_formula(rng, max_distance, masked):  # L21
    layer, x = built(ShawAttention(2, 8, max_distance=max_distance), rng), normal(rng, 2, 5, 8)
    places = np.array([[0, 1, 2, 3, 4], [7, 3, 5, 5, 1]])
    mask = rng.random((2, 5, 5)) < 0.6 if masked else None
    distance = distances(ops.convert_to_tensor(places), ops.convert_to_tensor(places))
    output, weights = layer(x, attention_mask=mask, distance=distance, return_attention=True)
    of_keys, of_values = float64(layer.key_vectors), float64(layer.value_vectors)
    for b in range(2):
        queries, keys, values = projected(layer, x[b])

        def vector(table, t, s, row=places[b]):
            return table[clipped(row[t] - row[s], max_distance)]

        def score(h, t, s, queries=queries, keys=keys, vector=vector):
            return queries[h, t] @ (keys[h, s] + vector(of_keys, t, s)) / 2  # sqrt(d_k)

        expected = weights_by(score, queries, keys, mask[b] if masked else None)
        assert_close(weights[b], expected)
        mixed = np.array(
            [
                [
                    sum(w * (values[h, s] + vector(of_values, t, s)) for s, w in enumerate(row))
                    for t, row in enumerate(expected[h])
                ]
                for h in range(2)
            ]
        )
        assert_close(output[b], joined(layer, mixed))


def test_vectors_act_on_scores_and_on_what_is_mixed(rng):  # L21
    layer, x = built(ShawAttention(2, 8, max_distance=2), rng), normal(rng, 1, 5, 8)
    distance = Distances()(ops.arange(5), ops.arange(5))["distance"]
    output, weights = layer(x, distance=distance, return_attention=True)
    for table, moves_weights in ((layer.key_vectors, True), (layer.value_vectors, False)):
        before = table.numpy()
        table.assign(before + normal(rng, *before.shape))
        new_output, new_weights = layer(x, distance=distance, return_attention=True)
        assert largest_difference(new_output, output) > 1e-2
        assert (largest_difference(new_weights, weights) > 1e-2) == moves_weights
        table.assign(before)


def test_padding_in_front_moves_nothing(rng):  # L21: absolute positions do not have this
    options = {"num_layers": 2, "num_heads": 2, "d_model": 8, "d_ff": 16}
    x, padding = normal(rng, 1, 5, 8), normal(rng, 1, 3, 8)
    moved = np.concatenate([padding, x], axis=1)
    mask = attend_to(np.array([[False] * 3 + [True] * 5]))
    relative = Encoder(
        attention=ShawAttention(2, 8, max_distance=2), positions=Distances(), **options
    )
    absolute, table = Encoder(**options), SinusoidalPositions(8)
    for encoder, embed, stays in (
        (relative, lambda y: y, True),
        (absolute, table, False),
    ):
        encoder.build((None, None, 8))
        shake(encoder, rng)
        alone = encoder(embed(x))
        difference = largest_difference(encoder(embed(moved), attention_mask=mask)[:, 3:], alone)
        assert difference < 1e-5 if stays else difference > 1e-2


def test_no_vector_is_written_for_each_pair():
    layer, distance = (
        ShawAttention(2, 32, max_distance=4),
        Distances()(ops.arange(32), ops.arange(32)),
    )
    assert largest_tensor(lambda x: layer(x, **distance), (3, 32, 32)) == 3 * 2 * 32 * 32


def test_all_heads_share_the_vectors():
    for num_heads in (1, 2, 4):
        layer = ShawAttention(num_heads, 8, max_distance=3)
        layer.build((None, None, 8))
        width = 8 // num_heads
        assert layer.key_vectors.shape == layer.value_vectors.shape == (7, width)
        plain = MultiHeadAttention(num_heads, 8)
        plain.build((None, None, 8))
        assert layer.count_params() == plain.count_params() + 2 * 7 * width


def test_distances_are_needed(rng):
    with pytest.raises(ValueError, match=r"positions=Distances\(\)"):
        built(ShawAttention(2, 8), rng)(normal(rng, 1, 3, 8))


def test_negative_distance_is_refused():
    with pytest.raises(ValueError, match="got -1"):
        ShawAttention(2, 8, max_distance=-1)


def test_config_gives_back_the_distance():
    layer = ShawAttention(2, 8, max_distance=5)
    assert ShawAttention.from_config(layer.get_config()).max_distance == 5


def test_dropout_acts_on_both_sums(rng):  # L31
    layer, x = built(ShawAttention(2, 8, max_distance=2), rng), normal(rng, 1, 5, 8)
    layer.attention_dropout = lambda weights: 0 * weights
    distance = Distances()(ops.arange(5), ops.arange(5))["distance"]
    output, weights = layer(x, distance=distance, return_attention=True)
    assert_close(output, np.broadcast_to(layer.output_projection.bias.numpy(), (1, 5, 8)))
    assert_close(ops.sum(weights, -1), np.ones((1, 2, 5)), 1e-6)
