"""Tests of keras_transformer.decoding.generate."""

import dataclasses
import functools
from types import SimpleNamespace

import keras
import numpy as np
import oracles
import pytest
import tensorflow as tf
from keras import ops
from oracles import assert_close

from keras_transformer.decoding import generate, next_token_probabilities
from keras_transformer.models import Transformer, TransformerConfig
from keras_transformer.models.config import BEGIN_ID, END_ID, PADDING_ID

LENGTH = 9  # the model's longest target
SOURCES = np.array(
    [
        [5, 6, 7, 3, 0, 0],
        [8, 3, 0, 0, 0, 0],
        [9, 4, 10, 6, 11, 3],
        [0, 0, 0, 0, 0, 0],
        [12, 5, 9, 3, 0, 0],
        [3, 0, 0, 0, 0, 0],
        [7, 7, 11, 4, 3, 0],
    ]
)
EMPTY = (3, 5)
FULL = [row for row in range(len(SOURCES)) if row not in EMPTY]


@pytest.fixture(scope="module")
def model():
    """One whose targets differ from row to row, and some of them end."""
    config = TransformerConfig(13, 2, 2, 8, 16, max_length=LENGTH, tie_embeddings=False)
    model = Transformer(dataclasses.replace(config, positions="learned"))
    rng = np.random.default_rng(214)  # found by trial: most random models repeat one token
    model.set_weights(
        [0.5 * rng.normal(size=w.shape) if w.ndim == 2 else w for w in model.get_weights()]
    )
    return model


@pytest.fixture(scope="module")
def generated(model):
    ids, scores = generate(model, SOURCES)
    return np.array(ids), np.array(scores)


def tokens_of(row):
    return [int(token) for token in row if token != PADDING_ID]


def next_logits(model, source, prefix):
    """Run the whole model on one source without padding, and on one prefix."""
    return _next_logits(model, tuple(tokens_of(source)), tuple(int(token) for token in prefix))


@functools.cache
def _next_logits(model, source, prefix):
    inputs = {"source_ids": np.array([source]), "target_ids": np.array([prefix])}
    return np.array(model(inputs))[0, -1]


def test_examples_are_worth_testing(generated):
    targets = [tuple(tokens_of(generated[0][row])) for row in FULL]
    assert len(set(targets)) >= 4
    assert len({len(target) for target in targets}) >= 3
    assert any(target[-1] == END_ID for target in targets)
    assert any(target[-1] != END_ID for target in targets)  # cut off at the limit
    assert sum(len(set(target)) for target in targets) >= 10


def test_shapes_and_types(model):
    ids, scores = generate(model, SOURCES)
    assert ids.shape == (7, LENGTH)
    assert ids.dtype == tf.int32
    assert scores.shape == (7,)
    assert scores.dtype == tf.float32


def test_generation_equals_recomputing_everything(model, generated):  # D01, D03, D04, C20
    for row in FULL:
        tokens, score = oracles.greedy(
            lambda prefix, row=row: next_logits(model, SOURCES[row], prefix),
            LENGTH,
            BEGIN_ID,
            END_ID,
            never=(PADDING_ID, BEGIN_ID),
        )
        assert tokens_of(generated[0][row]) == tokens
        assert generated[1][row] == pytest.approx(score, abs=1e-4)


def test_every_token_is_the_likeliest_after_its_own_prefix(model, generated):  # D01
    for row in FULL:
        tokens = tokens_of(generated[0][row])
        for t, token in enumerate(tokens):
            logits = next_logits(model, SOURCES[row], [BEGIN_ID, *tokens[:t]]).copy()
            logits[[PADDING_ID, BEGIN_ID]] = -np.inf
            assert token == np.argmax(logits)


def test_score_is_the_probability_that_the_model_gives_the_target(model, generated):
    for row in FULL:
        tokens = tokens_of(generated[0][row])
        target = np.array([[BEGIN_ID, *tokens[:-1]]])
        logits = model({"source_ids": SOURCES[row : row + 1], "target_ids": target})
        shares = np.log(oracles.softmax(np.array(logits, "float64")[0]))
        expected = sum(shares[t, token] for t, token in enumerate(tokens))
        assert generated[1][row] == pytest.approx(expected, abs=1e-4)


def test_cached_logits_equal_the_teacher_forced_pass(model):  # D03, C19, T27, W33
    rng = np.random.default_rng(0)
    target = np.concatenate([np.full((7, 1), BEGIN_ID), rng.integers(4, 13, (7, LENGTH - 1))], 1)
    expected = np.array(model({"source_ids": SOURCES, "target_ids": target}))
    source_mask, memory = model.encoder(SOURCES)
    caches = model.empty_caches(7, LENGTH + 2)
    for index in range(LENGTH):
        ids, position = ops.convert_to_tensor(target[:, index : index + 1]), tf.constant(index)
        logits, caches = model.decoder_step((ids, position, caches, source_mask, memory))
        assert_close(logits, expected[:, index], 1e-5 * np.max(np.abs(expected)))


def test_batch_gives_what_single_rows_give(model, generated):  # D04, T28
    for row in FULL:
        source = np.array([tokens_of(SOURCES[row])])
        ids, score = generate(model, source)
        assert tokens_of(np.array(ids)[0]) == tokens_of(generated[0][row])
        assert float(score[0]) == pytest.approx(generated[1][row], abs=1e-4)


def test_empty_source_gives_an_empty_target(generated):
    for row in EMPTY:
        assert not np.any(generated[0][row])
        assert generated[1][row] == 0


def test_source_of_one_token_alone_in_its_batch(model):
    ids, scores = generate(model, np.array([[END_ID]]))
    assert not np.any(ids)
    assert not np.any(scores)


def test_forcing_another_token_changes_those_after_it(model, generated):  # D02
    changes = 0
    prefixes = np.array([[BEGIN_ID, other] for other in range(4, 13)])
    for row in FULL:
        first, second, *_ = tokens_of(generated[0][row])
        sources = np.tile(SOURCES[row], (len(prefixes), 1))
        logits = model({"source_ids": sources, "target_ids": prefixes})
        following = np.argmax(logits[:, -1], axis=-1)
        changes += np.count_nonzero((following != second) & (prefixes[:, 1] != first))
    assert changes > 10


def test_nothing_is_computed_twice(model):  # C20, D03
    calls = {"encoder": 0, "step": []}

    def encoder(ids):
        calls["encoder"] += 1
        return model.encoder(ids)

    def step(inputs):
        ids, index, caches, *_ = inputs
        calls["step"].append((ids.shape, int(index), caches[0][0].shape))
        return model.decoder_step(inputs)

    watched = SimpleNamespace(
        config=model.config, empty_caches=model.empty_caches, encoder=encoder, decoder_step=step
    )
    ids, _ = generate(watched, SOURCES)
    longest = int(np.max(np.count_nonzero(ids, axis=1)))
    assert calls["encoder"] == 1
    assert calls["step"] == [((7, 1), t, (7, 2, LENGTH, 4)) for t in range(longest)]


def test_target_is_at_most_fifty_tokens_longer_than_its_source():
    calls = []
    endless = SimpleNamespace(
        config=SimpleNamespace(max_length=256),
        encoder=lambda ids: (None, None),
        empty_caches=lambda batch, length: tf.zeros((batch, length)),
        decoder_step=lambda inputs: (calls.append(1), (ops.one_hot([5, 5], 9), inputs[2]))[1],
    )
    ids, _ = generate(endless, np.array([[4, 3, 0], [4, 5, 3]]))
    assert np.count_nonzero(ids, axis=1).tolist() == [52, 53]
    assert len(calls) == 53


def test_generation_is_the_same_in_a_graph(model, generated):
    graph = tf.function(
        lambda ids: generate(model, ids), input_signature=[tf.TensorSpec((None, None), tf.int32)]
    )
    for sources in (SOURCES, SOURCES[:2, :4]):
        ids, scores = graph(sources)
        assert np.array_equal(ids, generated[0][: len(sources)])
        assert_close(scores, generated[1][: len(sources)], 1e-4)


def test_dropout_does_not_touch_generation(model, generated):  # C24
    assert model.config.dropout == 0.1
    ids, scores = generate(model, SOURCES)
    assert np.array_equal(ids, generated[0])
    assert np.array_equal(scores, generated[1])


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_generation_in_mixed_precision_takes_its_own_likeliest_tokens(policy):  # D01
    model = Transformer(TransformerConfig(9, 1, 2, 8, 16, max_length=6), dtype=policy)
    ids, scores = generate(model, SOURCES[:1, :4] % 9)
    tokens = tokens_of(np.array(ids)[0])
    target = np.array([[BEGIN_ID, *tokens[:-1]]])
    logits = model({"source_ids": SOURCES[:1, :4] % 9, "target_ids": target})
    logits = np.array(ops.cast(logits, "float32"))[0]
    chosen = logits[range(len(tokens)), tokens]
    allowed = np.delete(logits, [PADDING_ID, BEGIN_ID], axis=1)
    assert np.all(chosen >= np.max(allowed, axis=1) - 0.05)
    assert scores.dtype == tf.float32
    assert np.isfinite(float(scores[0]))


def test_probabilities_of_the_next_token(model, generated):  # D06, L32
    target = np.concatenate([np.full((7, 1), BEGIN_ID), generated[0]], axis=1)
    for length in (1, 2, 4):
        probabilities = next_token_probabilities(model, SOURCES, target[:, :length])
        assert probabilities.shape == (7, 13)
        assert probabilities.dtype == tf.float32
        assert_close(ops.sum(probabilities, axis=-1), np.ones(7), 1e-6)
        for row in FULL:
            if np.all(target[row, :length]):
                expected = oracles.softmax(next_logits(model, SOURCES[row], target[row, :length]))
                assert_close(probabilities[row], expected)


def test_source_that_is_too_long_is_refused(model):  # L20
    with pytest.raises(ValueError, match=f"max_length={LENGTH} positions"):
        generate(model, np.full((1, LENGTH + 1), 4))


def test_saved_model_generates_the_same(model, generated, reload):
    ids, _ = generate(reload(model), SOURCES)
    assert np.array_equal(ids, generated[0])
    assert keras.config.backend() == "tensorflow"
