"""Tests of keras_transformer.decoding.sampling.

Also: decoding.independent, decoding.tensors.
"""

import numpy as np
import oracles
import pytest
import tensorflow as tf
from fixtures_generation import EMPTY, FULL, SOURCES, example, tokens_of
from fixtures_search import BEGIN, END, PADDING, A, B, chain, forest, search, table
from keras import ops
from oracles import assert_close, chi_squared_p

from keras_transformer.decoding import GenerationOptions, filtered_distribution, generate
from keras_transformer.decoding.sampling import Sampler, row_seeds, uniform

DRAWS, VOCABULARY = 100_000, 40
LOGITS = np.random.default_rng(3).normal(size=VOCABULARY, scale=1.5).astype("float32")
FILTERS = {
    "temperature": {"temperature": 0.7},
    "hot": {"temperature": 3.0},
    "top_k": {"temperature": 1.0, "top_k": 7},
    "top_p": {"temperature": 1.0, "top_p": 0.8},
    "min_p": {"temperature": 1.0, "min_p": 0.1},
    "all": {"temperature": 1.3, "top_k": 12, "top_p": 0.85, "min_p": 0.2},
}
EVERY_FILTER = pytest.mark.parametrize("filters", FILTERS.values(), ids=FILTERS)
INT32 = np.iinfo("int32")


def draws_of(logits, seeds, index=0, width=1, **options):
    """Draw a token for every seed and hypothesis from one row of logits: `(seeds, width)`."""
    logits = np.broadcast_to(logits, (len(seeds), width, len(logits)))
    options = GenerationOptions(num_hypotheses=width, **{"temperature": 1.0, **options})
    seeds = ops.convert_to_tensor(np.asarray(seeds, "int32"))
    tokens = Sampler(options)(ops.convert_to_tensor(logits), seeds, ops.convert_to_tensor(index))
    assert tokens.shape == (len(seeds), width)
    assert tokens.dtype == "int32"
    return np.array(tokens)


# The distribution


@EVERY_FILTER
def test_filters_leave_what_their_definitions_say(filters):
    rng = np.random.default_rng(0)
    options = GenerationOptions(**filters)
    for logits in (LOGITS, *rng.normal(size=(30, VOCABULARY), scale=2).astype("float32")):
        probabilities, tokens = filtered_distribution(ops.convert_to_tensor(logits), options)
        probabilities = np.array(probabilities, "float64")
        left = np.zeros(VOCABULARY)
        left[slice(None) if tokens is None else np.array(tokens)] = probabilities
        expected = oracles.sampled_from(logits, **filters)
        assert_close(left / left.sum(), expected, 1e-6)
        assert np.array_equal(left > 0, expected > 0)


@EVERY_FILTER
def test_draws_follow_the_distribution(filters):
    """And tokens outside of the filter never come: `chi_squared_p` refuses them."""
    expected = oracles.sampled_from(LOGITS, **filters)
    tokens = draws_of(LOGITS, range(DRAWS), index=4, **filters)
    counts = np.bincount(tokens.ravel(), minlength=VOCABULARY)
    assert chi_squared_p(counts, expected) > 0.001
    # The check can fail: a distribution that is a little off is told apart.
    other = np.where(expected > 0, expected**1.05, 0)
    assert chi_squared_p(counts, other / other.sum()) < 0.001


def test_filters_may_leave_one_token_alone():
    for filters in ({"top_k": 1}, {"top_p": 1e-6}, {"min_p": 1.0}, {"temperature": 1e-3}):
        assert set(np.unique(draws_of(LOGITS, range(2000), **filters))) == {np.argmax(LOGITS)}


def test_filters_may_leave_everything():
    plain, _ = filtered_distribution(LOGITS, GenerationOptions(temperature=1.0))
    for filters in ({"top_k": 10 * VOCABULARY}, {"top_k": VOCABULARY}, {"min_p": 1e-30}):
        options = GenerationOptions(temperature=1.0, **filters)
        left, tokens = filtered_distribution(LOGITS, options)
        tokens = np.arange(VOCABULARY) if tokens is None else np.array(tokens)
        assert_close(np.array(left)[np.argsort(tokens)], plain, 1e-7)


def test_token_that_reaches_the_share_is_the_last_one():  # the smallest set, and not a smaller one
    logits = np.log(np.array([0.1, 0.5, 0.3, 0.1], "float32"))
    for share, tokens in ((0.4, {1}), (0.6, {1, 2}), (0.79, {1, 2}), (0.81, {0, 1, 2})):
        options = GenerationOptions(temperature=1.0, top_p=share)
        left, order = filtered_distribution(logits, options)
        assert set(np.array(order)[np.array(left) > 0]) == tokens  # of equal ones the lower


# The random numbers


def values_of(seeds, index=0, width=1):
    """Tell draws apart as finely as 256 equal tokens can: numbers from 0 to 255."""
    return draws_of(np.zeros(256, "float32"), seeds, index, width)


@pytest.fixture(scope="module")
def streams():
    """What is drawn for many seeds, seeds far apart, many hypotheses, and many positions."""
    rng = np.random.default_rng(0)
    far = rng.integers(INT32.min, INT32.max, DRAWS)
    return {
        "seeds": values_of(range(DRAWS)).ravel(),
        "far seeds": values_of(far, index=7).ravel(),
        "hypotheses": values_of([12345], width=DRAWS).ravel(),
        "positions": np.concatenate(
            [values_of([-5], index, width=500).ravel() for index in range(DRAWS // 500)]
        ),
    }


STREAMS = pytest.mark.parametrize("stream", ["seeds", "far seeds", "hypotheses", "positions"])


@STREAMS
def test_draws_are_uniform(streams, stream):
    counts = np.bincount(streams[stream], minlength=256)
    assert len(streams[stream]) == DRAWS
    assert 0.001 < chi_squared_p(counts, np.full(256, 1 / 256)) < 0.999  # nor too even


@STREAMS
@pytest.mark.parametrize("distance", [1, 2, 7, 100])
def test_draws_are_not_correlated(streams, stream, distance):
    values = streams[stream]
    correlation = np.corrcoef(values[:-distance], values[distance:])[0, 1]
    assert abs(correlation) < 3.5 / np.sqrt(DRAWS)


@STREAMS
def test_pairs_of_draws_are_uniform(streams, stream):
    coarse = streams[stream] // 16
    counts = np.bincount(16 * coarse[:-1:2] + coarse[1::2], minlength=256)
    assert chi_squared_p(counts, np.full(256, 1 / 256)) > 0.001


def test_seeds_of_rows_are_drawn_apart():
    """Neighbours have nothing to do with each other, be it seeds or positions."""
    seeds = np.arange(20_000)
    first, second, third = (values_of(seeds, index).ravel() for index in (0, 1, 2))
    other = values_of(seeds + 20_000).ravel()
    for a, b in ((first, second), (first, third), (second, third), (first, other)):
        assert abs(np.corrcoef(a, b)[0, 1]) < 3.5 / np.sqrt(len(seeds))
        assert np.mean(a == b) < 2 / 256


def test_random_numbers_are_below_one():
    extremes = [INT32.min, INT32.min + 1, -1, 0, 1, INT32.max - 1, INT32.max]
    rng = np.random.default_rng(0)
    numbers = np.concatenate([extremes, rng.integers(INT32.min, INT32.max, 1_000_000)])
    values = np.array(uniform(ops.convert_to_tensor(numbers.astype("int32"))))
    assert values.dtype == np.float32
    assert np.min(values) >= 0
    assert np.max(values) < 1
    assert np.min(values) < 1e-5 and np.max(values) > 1 - 1e-5  # the ends are reached
    assert np.all(values * 2.0**23 == np.floor(values * 2.0**23))


def test_last_token_is_not_overrun():  # a draw near 1 with a sum that is not 1 after rounding
    logits = np.full(50_000, -3.0, "float32")
    tokens = draws_of(logits, range(300))
    assert np.min(tokens) >= 0 and np.max(tokens) < 50_000
    logits[-20_000:] = -np.inf
    assert np.max(draws_of(logits, range(300))) < 30_000


# Seeds of rows


def test_seed_of_a_row_is_that_of_its_tokens():
    ids = np.array([[5, 6, 3, 0, 0], [6, 5, 3, 0, 0], [5, 6, 7, 3, 0], [0] * 5], "int32")
    seeds = np.array(row_seeds(7, ids))
    assert len(set(seeds.tolist())) == 4
    assert np.array_equal(row_seeds(7, np.pad(ids, ((0, 0), (0, 4)))), seeds)
    assert np.array_equal(row_seeds(7, ids[[2, 0]]), seeds[[2, 0]])
    assert not np.any(np.array(row_seeds(8, ids)) == seeds)
    own = ops.convert_to_tensor(np.array([7, 8, 7, 9], "int32"))
    assert np.array_equal(np.array(row_seeds(own, ids)) == seeds, [True, False, True, False])


def test_seeds_of_many_sources_differ():
    rng = np.random.default_rng(0)
    ids = np.unique(rng.integers(1, 30, (50_000, 6)), axis=0).astype("int32")
    seeds = np.array(row_seeds(0, ids))
    # Among n random numbers of 32 bits, about n^2 / 2^33 pairs are equal.
    assert len(ids) - len(np.unique(seeds)) < 5
    assert chi_squared_p(np.bincount(seeds & 255, minlength=256), np.full(256, 1 / 256)) > 0.001


# In a search


def test_first_tokens_of_a_search_follow_their_probabilities():  # without padding and begin
    logits = table(BEGIN={PADDING: 0.3, BEGIN: 0.2, END: 0.1, A: 0.3, B: 0.1})
    rows = 20_000
    seeds = np.arange(rows, dtype="int32")
    for options in ({}, {"num_hypotheses": 2}):
        ids, _ = search(chain(logits), [1] * rows, temperature=1.0, seeds=seeds, **options)
        counts = np.bincount(np.ravel(ids), minlength=6)
        allowed = oracles.softmax(np.where(np.arange(6) < END, -np.inf, logits[BEGIN]))
        assert chi_squared_p(counts, allowed) > 0.001


def test_score_is_that_of_the_model_without_temperature_and_filters():
    trees = forest(5, 30)
    options = {"temperature": 2.0, "top_k": 3, "num_hypotheses": 2, "min_length": 2}
    rows = list(range(30))
    seeds = np.arange(30, dtype="int32")
    ids, scores = search(
        trees.step,
        [6] * 30,
        cache=trees.cache(rows),
        make_room=trees.make_room,
        seeds=seeds,
        **options,
    )
    for row in rows:
        for hypothesis, score in zip(ids[row], scores[row], strict=True):
            tokens = [token for token in hypothesis if token]
            shares = [
                oracles.log_softmax(trees.next_logits(row)([BEGIN, *tokens[:t]]))[token]
                for t, token in enumerate(tokens)
            ]
            assert score == pytest.approx(sum(shares), abs=1e-5)


@pytest.mark.parametrize("temperature", [1e-6, 1e-3, 1e3, 1e6])
def test_extreme_temperatures_draw_what_may_follow(temperature):
    trees, rows = forest(8, 60), list(range(60))
    more = {"temperature": temperature, "make_room": trees.make_room, "num_hypotheses": 2}
    ids, scores = search(
        trees.step, [6] * 60, cache=trees.cache(rows), seeds=np.arange(60, dtype="int32"), **more
    )
    assert np.all(np.isfinite(scores))
    assert np.all(scores > -100)
    for tokens in (hypothesis for row in ids for hypothesis in row):
        assert BEGIN not in tokens
        assert PADDING not in tokens[: tokens.index(END) if END in tokens else None]


def test_almost_no_temperature_is_greedy_search():
    trees, rows = forest(6, 40), list(range(40))
    more = {"make_room": trees.make_room}
    greedy = search(trees.step, [6] * 40, cache=trees.cache(rows), **more)
    cold = search(trees.step, [6] * 40, cache=trees.cache(rows), temperature=1e-6, **more)
    assert cold[0] == greedy[0]
    assert_close(cold[1], greedy[1])


# With a model

HOT = GenerationOptions(temperature=1.5, seed=3)


@pytest.fixture(scope="module")
def model():
    return example()


def samples(model, sources=SOURCES, options=HOT, **more):
    ids, scores = generate(model, sources, options, **more)
    return [tokens_of(row) for row in np.array(ids)], np.array(scores)


@pytest.fixture(scope="module")
def sampled(model):
    return samples(model)


def test_sample_depends_on_the_seed_and_the_source_alone(model, sampled):  # T28
    ids, scores = sampled
    assert len({tuple(row) for row in ids}) > 4
    assert samples(model)[0] == ids  # again
    order = [6, 2, 0, 5, 4, 1, 3]
    others = [
        (samples(model, SOURCES[[*order, *order]]), [*order, *order]),
        (samples(model, np.pad(SOURCES, ((0, 0), (0, 3)))), range(7)),
        (samples(model, np.array([tokens_of(SOURCES[6])])), [6]),
    ]
    for (again, its_scores), rows in others:
        assert again == [ids[row] for row in rows]
        assert_close(its_scores, scores[list(rows)], 1e-5)
    assert not any(ids[row] for row in EMPTY)


def test_another_seed_gives_another_sample(model):
    found = [
        samples(model, SOURCES[FULL], GenerationOptions(temperature=1.5, seed=seed))[0]
        for seed in (0, -1, 2**31 - 1, -(2**31))
    ]
    for place in range(len(FULL)):
        assert len({tuple(ids[place]) for ids in found}) >= 3


def test_seeds_of_rows_take_the_place_of_the_seed(model, sampled):
    ids, _ = sampled
    same, _ = samples(model, seeds=np.full(7, 3, "int32"))
    assert same == ids
    other, _ = samples(model, seeds=np.array([3, 4, 3, 3, 5, 3, 6], "int32"))
    assert [other[row] == ids[row] for row in FULL] == [True, False, True, False, False]


def test_hypotheses_are_different_draws_best_first(model):
    options = GenerationOptions(temperature=1.5, seed=3, num_hypotheses=3)
    ids, scores = (np.array(x) for x in generate(model, SOURCES, options))
    assert ids.shape == (7, 3, ids.shape[2])
    assert scores.shape == (7, 3)
    assert np.all(np.diff(scores, axis=1) <= 0)
    for row in FULL:
        assert len({tuple(target) for target in ids[row]}) == 3
        assert len(set(scores[row])) == 3
    assert not np.any(ids[list(EMPTY)])
    assert not np.any(scores[list(EMPTY)])
    alone, own = (np.array(x) for x in generate(model, SOURCES[4:5, :4], options))
    assert np.array_equal(alone[0], ids[4])
    assert_close(own[0], scores[4], 1e-5)


def test_sampling_is_the_same_in_a_graph(model):
    options = GenerationOptions(temperature=1.2, seed=9, top_p=0.9, min_p=0.05)
    graph = tf.function(lambda ids: generate(model, ids, options), autograph=False)
    ids, scores = graph(SOURCES)
    expected, expected_scores = generate(model, SOURCES, options)
    assert np.array_equal(ids, expected)
    assert_close(scores, expected_scores, 1e-5)


def test_samples_of_a_model_follow_its_probabilities(model):
    rows = 20_000
    sources = np.tile(SOURCES[:1], (rows, 1))
    options = GenerationOptions(temperature=1.0, max_length=1)
    ids, _ = generate(model, sources, options, seeds=np.arange(rows, dtype="int32"))
    inputs = {"source_ids": SOURCES[:1], "target_ids": np.array([[2]])}
    logits = np.array(model(inputs))[0, -1]
    logits[[0, 2]] = -np.inf
    assert chi_squared_p(np.bincount(np.ravel(ids), minlength=13), oracles.softmax(logits)) > 0.001
