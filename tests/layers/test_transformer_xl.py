"""Tests of keras_transformer.layers.transformer_xl; for every kind: test_attention_kinds."""

import numpy as np
import pytest
from fixtures_attention import built, float64, joined, largest_tensor, normal, projected, weights_by
from keras import ops
from oracles import assert_close, largest_difference

from keras_transformer.layers import (
    Distances,
    MultiHeadAttention,
    SinusoidalPositions,
    TransformerXLAttention,
)


def encoding(distance, width):
    """Sines and then cosines, of a distance of either sign."""
    angles = distance / 10000 ** (np.arange(0, width, 2) / width)
    return np.concatenate([np.sin(angles), np.cos(angles)])


def straight(length):
    return Distances()(ops.arange(length), ops.arange(length))


@pytest.mark.parametrize("masked", [False, True])
def test_layer_is_the_formula(rng, masked):  # L22
    layer, x = built(TransformerXLAttention(2, 8), rng), normal(rng, 2, 5, 8)
    mask = rng.random((2, 5, 5)) < 0.6 if masked else None
    output, weights = layer(x, attention_mask=mask, return_attention=True, **straight(5))
    u, v = float64(layer.content_bias), float64(layer.position_bias)
    kernel = float64(layer.distance_projection.kernel)
    for b in range(2):
        queries, keys, values = projected(layer, x[b])

        def score(h, t, s, queries=queries, keys=keys):
            r = (encoding(t - s, 8) @ kernel).reshape(2, 4)[h]
            q, k = queries[h, t], keys[h, s]
            return (q @ k + q @ r + u[h] @ k + v[h] @ r) / 2  # the four terms; sqrt(d_k)

        expected = weights_by(score, queries, keys, mask[b] if masked else None)
        assert_close(weights[b], expected)
        assert_close(output[b], joined(layer, expected @ values))


def test_without_content_scores_depend_on_the_distance_alone(rng):  # L22: Toeplitz
    def spread(layer, x, **positions):
        for projection in (layer.query_projection, layer.key_projection):
            projection.set_weights([np.zeros_like(w) for w in projection.get_weights()])
        logs = np.log(layer(x, return_attention=True, **positions)[1][0])
        steps = np.diff(logs, axis=-1)  # of scores: softmax adds a constant a row
        assert np.std(steps) > 1e-2
        return max(np.ptp(np.diagonal(row, offset)) for row in steps for offset in range(-5, 5))

    x = normal(rng, 1, 6, 8)
    assert spread(built(TransformerXLAttention(2, 8), rng), x, **straight(6)) < 1e-5
    other = Distances()(ops.arange(6), 2 * ops.arange(6))
    assert spread(built(TransformerXLAttention(2, 8), rng), x, **other) > 1e-3


def test_absolute_positions_are_no_toeplitz(rng):  # the control: positions that are content
    layer, x = built(MultiHeadAttention(2, 8), rng), np.zeros((1, 6, 8), "float32")
    logs = np.log(layer(SinusoidalPositions(6)(x), return_attention=True)[1][0])
    steps = np.diff(logs, axis=-1)
    assert max(np.ptp(np.diagonal(row, 0)) for row in steps) > 1e-2


def test_direction_matters(rng):
    layer, x = built(TransformerXLAttention(2, 8), rng), normal(rng, 1, 5, 8)
    forward = straight(5)["distance"]
    assert largest_difference(layer(x, distance=-forward), layer(x, distance=forward)) > 1e-2


def test_biases_are_the_queries_of_every_position(rng):
    layer = TransformerXLAttention(2, 8)
    layer.build((None, None, 8))
    plain = MultiHeadAttention(2, 8)
    plain.build((None, None, 8))
    assert layer.content_bias.shape == layer.position_bias.shape == (2, 4)
    assert layer.distance_projection.kernel.shape == (8, 8)
    assert layer.count_params() == plain.count_params() + 2 * 8 + 64


def test_no_vector_is_written_for_each_pair():
    layer, positions = TransformerXLAttention(2, 32), straight(32)
    assert largest_tensor(lambda x: layer(x, **positions), (3, 32, 32)) == 3 * 2 * 32 * 63


def test_distances_are_needed(rng):
    with pytest.raises(ValueError, match=r"positions=Distances\(\)"):
        built(TransformerXLAttention(2, 8), rng)(normal(rng, 1, 3, 8))


def test_odd_width_is_refused():
    with pytest.raises(ValueError, match="even d_model, got 9"):
        TransformerXLAttention(3, 9)
