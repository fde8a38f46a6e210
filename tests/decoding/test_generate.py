"""Tests of keras_transformer.decoding.generate."""

import functools
import itertools
from types import SimpleNamespace

import keras
import numpy as np
import oracles
import pytest
import tensorflow as tf
from fixtures_generation import EMPTY, FULL, LENGTH, SOURCES, example, next_logits, tokens_of
from keras import ops
from oracles import assert_close

from keras_transformer.decoding import GenerationOptions, generate, next_token_probabilities, score
from keras_transformer.models import Transformer, TransformerConfig
from keras_transformer.models.config import BEGIN_ID, END_ID, PADDING_ID


@pytest.fixture(scope="module")
def model():
    return example()


@functools.cache
def generated_by(options):
    return generate(example(), SOURCES, options)


@pytest.fixture(scope="module")
def generated():
    ids, scores = generated_by(GenerationOptions())
    return np.array(ids), np.array(scores)


def test_examples_are_worth_testing(generated):
    targets = [tuple(tokens_of(generated[0][row])) for row in FULL]
    assert len(set(targets)) >= 4
    assert len({len(target) for target in targets}) >= 3
    assert any(target[-1] == END_ID for target in targets)
    assert any(target[-1] != END_ID for target in targets)  # cut off at the limit
    assert sum(len(set(target)) for target in targets) >= 10


def test_shapes_and_types():
    ids, scores = generated_by(GenerationOptions())
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
    memory = model.encoder(SOURCES)
    caches = model.empty_caches(7, LENGTH + 2)
    for index in range(LENGTH):
        ids, position = ops.convert_to_tensor(target[:, index : index + 1]), tf.constant(index)
        visible = np.arange(LENGTH + 2)[None, None] <= index
        logits, caches = step_of(model, ids, position, caches, visible, memory)
        assert_close(logits[:, 0], expected[:, index], 1e-5 * np.max(np.abs(expected)))


def test_hypotheses_that_share_a_cache_read_their_own_past_alone(model):  # D03, C19
    rng, width = np.random.default_rng(1), 3
    tokens = rng.integers(4, 13, (7, width, LENGTH))
    tokens[:, :, 0] = BEGIN_ID
    memory, caches = model.encoder(SOURCES), model.empty_caches(7, width * LENGTH)
    pasts = np.zeros((7, width, 0), "int32")  # of each hypothesis, which are never moved in caches
    visible = np.zeros((7, width, width * LENGTH), bool)
    steps = []  # logits and pasts
    for index in range(LENGTH):
        # Some hypotheses are given up, others have several successors.
        parents = rng.integers(width, size=(7, width, 1))
        pasts = np.take_along_axis(pasts, parents, axis=1)
        visible = np.take_along_axis(visible, parents, axis=1)
        pasts = np.concatenate([pasts, tokens[:, :, index : index + 1]], axis=2)
        for hypothesis in range(width):
            visible[:, hypothesis, index * width + hypothesis] = True
        ids, position = ops.convert_to_tensor(pasts[:, :, -1]), tf.constant(index)
        logits, caches = step_of(model, ids, position, caches, visible, memory)
        steps.append((np.array(logits), np.pad(pasts, ((0, 0), (0, 0), (0, LENGTH - 1 - index)))))
    # Every past of every step, in one pass of the whole model.
    every = np.concatenate([some.reshape(-1, LENGTH) for _, some in steps])
    sources = np.tile(np.repeat(SOURCES, width, axis=0), (LENGTH, 1))
    expected = np.array(model({"source_ids": sources, "target_ids": every}))
    expected = expected.reshape(LENGTH, 7, width, LENGTH, -1)
    for index, (logits, _) in enumerate(steps):
        assert_close(logits, expected[index, :, :, index], 2e-5)
    assert len(np.unique(pasts.reshape(-1, LENGTH), axis=0)) > 14


def step_of(model, ids, index, caches, visible, memory):
    bias, memory_caches = memory
    visible = ops.convert_to_tensor(visible)
    return model.decoder_step((ids, index, caches, visible, bias, memory_caches))


def test_batch_gives_what_single_rows_give(model, generated):  # D04, T28
    for row in FULL[::2]:
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


@pytest.mark.parametrize(
    "options", [GenerationOptions(), GenerationOptions(beam_size=3)], ids=["greedy", "beam"]
)
def test_nothing_is_computed_twice(model, options):  # C20, D03
    calls, width = {"encoder": 0, "step": [], "room": []}, options.width

    def encoder(ids):
        calls["encoder"] += 1
        return model.encoder(ids)

    def step(inputs):
        ids, index, caches, _, bias, memory = inputs
        rows = {len(x) for x in (ids, bias, *caches[0], *memory[0])}
        assert len(rows) == 1
        assert memory[0][0].shape == (len(ids), 2, 6, 4)  # once a source
        calls["step"].append((*ids.shape, int(index), caches[0][0].shape[2]))
        return model.decoder_step(inputs)

    def grow_caches(caches, slots):
        calls["room"].append(int(slots))
        return model.grow_caches(caches, slots)

    watched = SimpleNamespace(
        config=model.config,
        empty_caches=model.empty_caches,
        grow_caches=grow_caches,
        encoder=encoder,
        decoder_step=step,
    )
    ids, _ = generate(watched, SOURCES, options)
    assert calls["encoder"] == 1
    assert [slots for slots in calls["room"] if slots] == [16 * width]
    counts = [call[0] for call in calls["step"]]
    assert counts[0] == len(SOURCES)  # 5 that are not empty, and what fills up to 8 or to all
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] < counts[0]  # others have left
    assert [call[1:] for call in calls["step"]] == [
        (width, t, 16 * width) for t in range(len(counts))
    ]
    if width == 1:
        assert len(counts) == np.max(np.count_nonzero(ids, axis=1))


def test_target_is_at_most_fifty_tokens_longer_than_its_source():
    calls = []

    def step(inputs):
        calls.append(1)
        return ops.one_hot(ops.full((len(inputs[0]), 1), 5), 9), inputs[2]

    endless = SimpleNamespace(
        config=SimpleNamespace(
            max_length=256, padding_id=PADDING_ID, begin_id=BEGIN_ID, end_id=END_ID
        ),
        encoder=lambda ids: (ops.zeros((len(ids), 1, 1)), []),
        empty_caches=lambda batch, length: ops.zeros((batch, 1, length)),
        grow_caches=lambda caches, slots: caches,
        decoder_step=step,
    )
    ids, _ = generate(endless, np.array([[4, 3, 0], [4, 5, 3]]))
    assert np.count_nonzero(ids, axis=1).tolist() == [52, 53]
    assert len(calls) == 53


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


EVERY_WAY = pytest.mark.parametrize(
    "options",
    [
        GenerationOptions(),
        GenerationOptions(beam_size=4, num_hypotheses=2, no_repeat_ngram=2, min_length=3),
        GenerationOptions(temperature=1.5, num_hypotheses=2, seed=5, top_k=7, min_p=0.01),
    ],
    ids=["greedy", "beam", "sampling"],
)


@EVERY_WAY
def test_rows_do_not_depend_on_their_company(model, options):  # D04, T28
    ids, scores = generated_by(options)
    shape = (7, LENGTH) if options.num_hypotheses == 1 else (7, 2, LENGTH)
    assert ids.shape == shape
    assert scores.shape == shape[:-1]
    assert ids.dtype == "int32"
    assert scores.dtype == "float32"
    ids, scores = np.array(ids), np.nan_to_num(scores)
    assert not np.any(ids[list(EMPTY)])
    order = [4, 0, 3, 6, 2, 1, 5]
    for rows in (order, [1]):
        longest = max(len(tokens_of(SOURCES[row])) for row in rows)
        own, own_scores = generate(model, SOURCES[rows, :longest], options)
        assert np.array_equal(own, ids[rows])
        assert_close(np.nan_to_num(own_scores), scores[rows], 1e-5)


@EVERY_WAY
def test_results_are_best_first(options):
    ids, scores = generated_by(options)
    if options.num_hypotheses > 1:
        assert np.all(np.diff(np.array(scores)[FULL], axis=1) <= 0)
        assert all(len({tuple(target) for target in np.array(ids)[row]}) == 2 for row in FULL)


@EVERY_WAY
def test_generation_is_the_same_in_a_graph_that_is_traced_once(model, options):
    traces = []

    # By AutoGraph, as it is by default, for one of them.
    signature, autograph = [tf.TensorSpec((None, None), tf.int32)], options.width == 1

    @tf.function(input_signature=signature, autograph=autograph)
    def graph(sources):
        traces.append(1)
        return generate(model, sources, options)

    expected, expected_scores = (np.array(x) for x in generated_by(options))
    for batch, length in ((1, 2), (2, 6), (5, 4), (7, 6)):
        ids, scores = graph(SOURCES[:batch, :length])
        if length == 6:
            assert np.array_equal(ids, expected[:batch])
            wanted = np.nan_to_num(expected_scores[:batch])
            assert_close(np.nan_to_num(scores), wanted, 1e-5)
    assert len(traces) == 1


def test_prefixes_are_forced_row_by_row(model, generated):  # D02
    prefix = np.array([[4, 5, 6], [7, 0, 0], [0, 0, 0], [4, 4, 4], [9, 9, 0], [1, 0, 0], [0, 0, 0]])
    ids, scores = (np.array(x) for x in generate(model, SOURCES, prefix_ids=prefix))
    for row in FULL:
        forced = tokens_of(prefix[row])
        tokens, expected = oracles.greedy(
            lambda prefix, row=row: next_logits(model, SOURCES[row], prefix),
            LENGTH,
            BEGIN_ID,
            END_ID,
            never=(PADDING_ID, BEGIN_ID),
            forced=forced,
        )
        assert tokens_of(ids[row]) == tokens
        assert tokens[: len(forced)] == forced
        assert scores[row] == pytest.approx(expected, abs=1e-4)
    assert np.array_equal(ids[[2, 6]], generated[0][[2, 6]])
    assert not np.any(ids[list(EMPTY)])  # nothing to translate, whatever is forced


@pytest.mark.parametrize(("most", "beam"), [(1, 1), (1, 3), (3, 1), (100, 3)])
def test_target_is_as_long_as_the_options_allow(model, most, beam):
    options = GenerationOptions(max_length=most, min_length=most, beam_size=beam)
    ids, _ = generate(model, SOURCES, options)
    assert ids.shape == (7, min(most, LENGTH))
    assert set(np.count_nonzero(ids, axis=1)[FULL]) == {min(most, LENGTH)}


# The score of given targets


def test_score_is_the_log_softmax_of_the_model(model):
    rng = np.random.default_rng(4)
    targets = rng.integers(4, 13, (7, 6)) * (np.arange(6) < rng.integers(1, 7, (7, 1)))
    scores = score(model, SOURCES, targets)
    assert scores.shape == (7, 6)
    assert scores.dtype == tf.float32
    inputs = np.concatenate([np.full((7, 1), BEGIN_ID), targets[:, :-1]], axis=1)
    logits = np.array(model({"source_ids": SOURCES, "target_ids": inputs}))
    for row, t in itertools.product(range(7), range(6)):
        expected = oracles.log_softmax(logits[row, t])[targets[row, t]] if targets[row, t] else 0
        assert float(scores[row, t]) == pytest.approx(expected, abs=1e-5)
    assert np.all(np.array(scores)[targets > 0] < 0)


def test_score_does_not_depend_on_padding_and_company(model, generated):
    together = np.array(score(model, SOURCES, generated[0]))
    wide = np.pad(SOURCES, ((0, 0), (0, 3)))
    assert_close(score(model, wide, generated[0]), together, 1e-5)
    for row in FULL:
        own = [tokens_of(generated[0][row])]
        alone = score(model, np.array([tokens_of(SOURCES[row])]), np.array(own))
        assert_close(alone[0], together[row, : len(own[0])], 1e-5)


def test_score_of_what_greedy_search_wrote_is_its_score(model, generated):
    scores = np.sum(score(model, SOURCES, generated[0]), axis=1)
    assert_close(scores[FULL], generated[1][FULL], 1e-4)
    assert not np.any(scores[list(EMPTY)])


def test_score_of_samples_is_their_score(model):
    options = GenerationOptions(temperature=1.5, num_hypotheses=3, top_k=6)
    ids, scores = generate(model, SOURCES[FULL], options)
    flat = np.reshape(ids, (-1, LENGTH))
    sums = np.sum(score(model, np.repeat(SOURCES[FULL], 3, axis=0), flat), axis=1)
    assert_close(np.ravel(scores), sums, 1e-4)


def test_score_takes_tensors_and_graphs(model, generated):
    expected = score(model, SOURCES, generated[0])
    tensors = ops.convert_to_tensor(SOURCES), ops.convert_to_tensor(generated[0])
    assert np.array_equal(score(model, *tensors), expected)
    spec = tf.TensorSpec((None, None), tf.int32)
    graph = tf.function(
        lambda *ids: score(model, *ids), input_signature=[spec, spec], autograph=False
    )
    assert_close(graph(*(ops.cast(ids, "int32") for ids in tensors)), expected, 1e-5)


def test_source_that_is_too_long_is_refused(model):  # L20
    with pytest.raises(ValueError, match=f"max_length={LENGTH} positions"):
        generate(model, np.full((1, LENGTH + 1), 4))


def test_saved_model_generates_the_same(model, generated, reload):
    ids, _ = generate(reload(model), SOURCES)
    assert np.array_equal(ids, generated[0])
    assert keras.config.backend() == "tensorflow"


def test_a_transposed_table_gives_the_same_and_is_not_saved(reload):
    model = Transformer(TransformerConfig(13, 1, 2, 8, 16, max_length=LENGTH))
    ids, scores = generate(model, SOURCES)
    weights = len(model.weights)
    model.transpose_output()
    assert model.output_kernel.shape == (8, 13)
    again = generate(model, SOURCES)
    assert np.array_equal(again[0], ids)
    assert_close(again[1], scores, 1e-5)
    model.output_kernel.assign(-model.output_kernel)  # it is what decoding reads
    assert not np.array_equal(generate(model, SOURCES)[0], ids)
    assert len(model.weights) == weights
    assert reload(model).output_kernel is None


def test_a_table_of_its_own_needs_no_transposing(model):
    model.transpose_output()
    assert model.output_kernel is None
