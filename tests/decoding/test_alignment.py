"""Tests of keras_transformer.decoding.align."""

import fixtures_generation
import numpy as np
import pytest
import tensorflow as tf
from fixtures_generation import EMPTY, FULL, SOURCES, tokens_of
from fixtures_toy import toy
from oracles import assert_close

from keras_transformer.decoding import align, generate
from keras_transformer.models import attention_maps
from keras_transformer.models.config import BEGIN_ID


@pytest.fixture(scope="module")
def model():
    return fixtures_generation.example()


@pytest.fixture(scope="module")
def targets(model):
    return np.array(generate(model, SOURCES)[0])


def test_a_word_looks_at_the_word_that_it_came_from():  # D08
    example = toy()
    weights = np.array(align(example.model, example.source, example.labels))
    hits, diagonal = [], []
    for source, some in zip(example.source, weights, strict=True):
        last = np.count_nonzero(source) - 2  # the place of the last word
        for t in range(last + 1):
            hits.append(np.argmax(some[t]) == last - t)
            diagonal.append(np.argmax(some[t]) == t)
    assert len(hits) > 150
    assert np.mean(hits) > 0.9  # the order is turned around
    assert np.mean(diagonal) < 0.5  # as one in 2 to 5 words is in the middle


def test_alignment_is_the_mean_of_all_heads_of_all_blocks(model, targets):
    weights = align(model, SOURCES, targets)
    assert weights.dtype == tf.float32
    inputs = np.concatenate([np.full((7, 1), BEGIN_ID), targets[:, :-1]], axis=1)
    maps = attention_maps(model, {"source_ids": SOURCES, "target_ids": inputs})["cross"]
    expected = np.zeros(weights.shape)
    for block in maps:
        for head in range(2):
            expected += np.array(block)[:, head] / 4
    assert_close(weights, expected, 1e-6)
    assert_close(np.sum(weights, axis=2)[FULL], np.ones((len(FULL), 9)), 1e-5)
    padding = (SOURCES == 0)[:, None, :]
    assert not np.any(np.where(padding, weights, 0))
    assert np.all(np.array(weights)[FULL][:, :, 0] > 0)
    assert len(EMPTY) == 2


def test_alignment_does_not_depend_on_padding_and_company(model, targets):  # T28
    together = np.array(align(model, SOURCES, targets))
    for row in FULL:
        source, target = np.array([tokens_of(SOURCES[row])]), np.array([tokens_of(targets[row])])
        alone = align(model, source, target)
        assert_close(alone[0], together[row, : target.shape[1], : source.shape[1]], 1e-5)
    spec = tf.TensorSpec((None, None), tf.int32)
    graph = tf.function(
        lambda *ids: align(model, *ids), input_signature=[spec, spec], autograph=False
    )
    assert_close(graph(*(tf.constant(x, tf.int32) for x in (SOURCES, targets))), together, 1e-5)
