"""Tests of keras_transformer.layers.additive; what holds for every kind: test_attention_kinds."""

import numpy as np
import pytest
from fixtures_attention import built, float64, joined, largest_tensor, normal, projected, weights_by
from oracles import assert_close, largest_difference

from keras_transformer.layers import AdditiveAttention, MultiHeadAttention


@pytest.mark.parametrize("masked", [False, True])
def test_layer_is_the_formula(rng, masked):  # L14
    layer, x = built(AdditiveAttention(2, 8), rng), normal(rng, 2, 5, 8)
    mask = rng.random((2, 5, 5)) < 0.6 if masked else None
    output, weights = layer(x, attention_mask=mask, return_attention=True)
    v = float64(layer.score_vectors)
    for b in range(2):
        queries, keys, values = projected(layer, x[b])

        def score(h, t, s, queries=queries, keys=keys):
            return v[h] @ np.tanh(queries[h, t] + keys[h, s])

        expected = weights_by(score, queries, keys, mask[b] if masked else None)
        assert_close(weights[b], expected)
        assert_close(output[b], joined(layer, expected @ values))


def test_bias_is_added_to_the_scores(rng):
    layer, x = built(AdditiveAttention(2, 8), rng), normal(rng, 1, 3, 8)
    bias = normal(rng, 1, 2, 3, 3)
    plain, biased = (
        np.log(layer(x, attention_bias=b, return_attention=True)[1]) for b in (None, bias)
    )
    added = biased - plain - bias  # up to a constant a row
    assert_close(added, np.broadcast_to(added[..., :1], added.shape))


def test_shapes_are_those_of_dot_products_and_there_is_a_vector_a_head_more(rng):  # L14
    ours, dots = built(AdditiveAttention(2, 8), rng), built(MultiHeadAttention(2, 8), rng)
    query, source = normal(rng, 2, 3, 8), normal(rng, 2, 5, 8)
    assert ours(query, source=source).shape == dots(query, source=source).shape
    assert ours.count_params() == dots.count_params() + 8
    assert ours.score_vectors.shape == (2, 4)
    theirs = [(w.path.split("/")[-2:], w.shape) for w in dots.weights]
    assert [(w.path.split("/")[-2:], w.shape) for w in ours.weights[1:]] == theirs


def test_scores_are_bounded_by_the_vector(rng):
    """However long queries and keys are: so there is nothing to scale."""
    layer = built(AdditiveAttention(2, 8), rng)
    bound = np.sum(np.abs(float64(layer.score_vectors)), axis=-1).reshape(2, 1)
    for size in (1, 1e4):
        logs = np.log(layer(size * normal(rng, 1, 6, 8), return_attention=True)[1][0])
        assert np.all(np.ptp(logs, axis=-1) <= 2 * bound + 1e-4)
    assert largest_difference(np.ptp(logs, axis=-1), np.zeros((2, 6))) > 0.1


def test_it_holds_a_tensor_as_many_times_larger_as_heads_are_wide():  # C07
    shape = (1, 32, 16)
    additive, dots = AdditiveAttention(2, 16), MultiHeadAttention(2, 16)
    assert largest_tensor(additive, shape) == 2 * 32 * 32 * 8
    assert largest_tensor(dots, shape) == 2 * 32 * 32
