"""Tests of keras_transformer.decoding.beam."""

import functools

import numpy as np
import oracles
import pytest
import tensorflow as tf
from fixtures_generation import FULL, LENGTH, SOURCES, example, next_logits
from fixtures_search import (
    BEGIN,
    END,
    NEVER,
    PADDING,
    WALK,
    A,
    B,
    C,
    chain,
    forest,
    padded,
    search,
    table,
)
from oracles import assert_close, shake

from keras_transformer.decoding import (
    BeamSearch,
    GenerationOptions,
    Search,
    generate,
    length_penalty,
    score,
)
from keras_transformer.models import Transformer, TransformerConfig
from keras_transformer.models.config import BEGIN_ID, END_ID, PADDING_ID

ROWS, LONGEST = 100, 6  # some searches at once, and the longest limit of them
WIDTHS = pytest.mark.parametrize("width", range(1, 7))
KINDS = pytest.mark.parametrize("kind", ["random", "equal ones"])


@functools.cache
def trees_of(kind):
    """Make the trees, and a limit for each: random ones, or such with many equal hypotheses."""
    trees = forest(11, ROWS, whole_prefix=np.arange(ROWS) % 2 == 0, exact=kind == "equal ones")
    return trees, np.random.default_rng(11).integers(1, LONGEST + 1, ROWS).astype("int32")


def least(kind):
    return {"min_length": 3 if kind == "equal ones" else 0}  # or the best would be the shortest


@functools.cache
def expected(kind, width, exponent, row):
    trees, limits = trees_of(kind)
    arguments = (trees.next_logits(row), limits[row], BEGIN, END, width, exponent, NEVER)
    return oracles.beam_search(*arguments, **least(kind))


def found(kind, width, exponent, wanted, rows=range(ROWS)):
    """Search the trees of these rows; even one hypothesis is looked for as a beam."""
    trees, limits = trees_of(kind)
    options = GenerationOptions(
        beam_size=width, num_hypotheses=wanted, length_penalty=exponent, **least(kind)
    )
    runner = Search(trees.step, BEGIN, END, PADDING, options, trees.make_room)
    runner.method = BeamSearch(options, END, PADDING)
    ids, scores = runner.run(trees.cache(list(rows)), limits[list(rows)], LONGEST)
    return np.array(ids).tolist(), np.array(scores)


def assert_same(ids, scores, hypotheses, tolerance=1e-5):
    """Compare one row with the best of all hypotheses; where these are few, with empty ones."""
    wanted = [*hypotheses, *[([], -np.inf)] * len(ids)][: len(ids)]
    assert ids == [padded(tokens, len(ids[0])) for tokens, _ in wanted]
    np.testing.assert_allclose(scores, [score for _, score in wanted], rtol=0, atol=tolerance)


# Against the definition


@KINDS
@WIDTHS
def test_beam_search_agrees_with_the_oracle(kind, width):
    # Equal sums stay equal only if nothing is divided.
    exponents = (0.0,) if kind == "equal ones" else (0.0, 0.6, 2.0)
    for exponent, wanted in zip(exponents, (width, (width + 1) // 2, width), strict=False):
        ids, scores = found(kind, width, exponent, wanted)
        assert np.all(np.diff(np.nan_to_num(scores, neginf=-1e9)) <= 0)
        for row in range(ROWS):
            assert_same(ids[row], scores[row], expected(kind, width, exponent, row))


def test_examples_are_worth_testing():
    one, wide = (found("random", width, 0.6, 1)[0] for width in (1, 6))
    assert 10 < sum(a != b for a, b in zip(one, wide, strict=True)) < ROWS  # a wider beam matters
    assert np.isinf(found("random", 6, 0.6, 6)[1]).any()  # sometimes there are fewer than N
    plain, long = (found("random", 6, exponent, 1)[0] for exponent in (0.0, 2.0))
    assert sum(a != b for a, b in zip(plain, long, strict=True)) > 10  # so does the penalty
    ties = [expected("equal ones", 4, 0.0, row) for row in range(ROWS)]
    assert sum(len({share for _, share in row[:5]}) < len(row[:5]) for row in ties) > ROWS / 2
    tokens = [row[0] for row in long]
    assert sum(END in row for row in tokens) > 10
    assert sum(END not in row for row in tokens) > 10


@pytest.mark.parametrize("exponent", [0.0, 1.0])
@pytest.mark.parametrize(("limit", "width"), [(1, 4), (2, 8), (3, 8), (4, 16), (5, 32)])
def test_beam_as_wide_as_the_tree_finds_the_true_best(exponent, limit, width):
    trees = forest(limit, 20, tokens=2)
    options = {"beam_size": width, "num_hypotheses": width, "length_penalty": exponent}
    ids, scores = search(
        trees.step,
        [limit] * 20,
        cache=trees.cache(list(range(20))),
        make_room=trees.make_room,
        **options,
    )
    for row in range(20):
        every = oracles.sequences(trees.next_logits(row), limit, BEGIN, END, exponent, NEVER)
        assert_same(ids[row], scores[row], oracles.best_first(every))
    if limit <= 2:  # there are 3 sequences of at most 1 token, and 7 of at most 2
        assert np.all(np.isinf(scores[:, -1]))
        assert not np.any(np.array(ids)[:, -1])


def test_beams_that_outgrow_their_room_agree_with_the_oracle():  # 16 positions at a time
    trees, rows = forest(3, 8, tokens=3, fewer=False), range(8)
    limits = [40, 39, 36, 33, 32, 20, 17, 16]
    ids, scores = search(
        trees.step,
        limits,
        cache=trees.cache(list(rows)),
        make_room=trees.make_room,
        beam_size=3,
        num_hypotheses=3,
        min_length=30,
    )
    for row in rows:
        arguments = (trees.next_logits(row), limits[row], BEGIN, END, 3, 0.6, NEVER)
        hypotheses = oracles.beam_search(*arguments, min_length=30)
        assert_same(ids[row], scores[row], hypotheses, 1e-4)


@KINDS
def test_beam_of_one_is_greedy_search(kind):  # D01
    trees, limits = trees_of(kind)
    cache = trees.cache(list(range(ROWS)))
    room = {"make_room": trees.make_room}
    greedy, scores = search(trees.step, limits, LONGEST, cache=cache, **room, **least(kind))
    ids, own_scores = found(kind, 1, 0.0, 1)
    same = [row for row in range(ROWS) if ids[row] == greedy[row]]
    assert_close(own_scores[same], scores[same], 1e-5)
    # A beam goes on past an end that is the likeliest, and may find a better one.
    assert len(same) > ROWS / 2
    assert np.all(own_scores >= scores - 1e-5)


# Equal hypotheses


def test_of_equal_hypotheses_the_lower_token_comes_first():
    step = chain(table(BEGIN={A: 0.3, B: 0.3, C: 0.3}, A={END: 0.9}, B={END: 0.9}, C={END: 0.9}))
    ids, scores = search(step, [3], beam_size=3, num_hypotheses=3)
    assert ids == [[[A, END, PADDING], [B, END, PADDING], [C, END, PADDING]]]
    assert len(set(scores[0])) == 1


def costs(**rows):
    """Logits of which whole numbers are log-probabilities: all probability is the padding's."""
    logits = np.full((6, 6), -9999.0, "float32")
    logits[:, PADDING] = 0.0
    for last, row in rows.items():
        for token, cost in row.items():
            logits[{"BEGIN": BEGIN, "A": A, "B": B, "C": C}[last], token] = -cost
    return logits


def test_of_equal_hypotheses_the_one_of_the_earlier_parent_comes_first():
    logits = costs(BEGIN={A: 802, B: 801}, A={A: 801}, B={C: 802})  # A is lower, B is earlier
    ids, scores = search(
        chain(logits), [2], beam_size=2, num_hypotheses=2, length_penalty=0.0, min_length=3
    )
    assert ids == [[[B, C], [A, A]]]
    assert scores.tolist() == [[-1603.0, -1603.0]]


def test_of_equal_hypotheses_the_one_that_ended_first_comes_first():
    logits = costs(BEGIN={A: 800, B: 900}, A={A: 950, END: 850}, B={END: 750})
    ids, scores = search(chain(logits), [3], beam_size=2, num_hypotheses=2, length_penalty=0.0)
    assert ids[0] == [[A, END, PADDING], [B, END, PADDING]]  # of one length, by their parents
    assert scores.tolist() == [[-1650.0, -1650.0]]
    logits = costs(BEGIN={A: 800, B: 801, END: 1600}, A={A: 801, END: 800}, B={END: 799})
    ids, scores = search(chain(logits), [3], beam_size=3, num_hypotheses=3, length_penalty=0.0)
    assert ids[0] == [padded([END], 3), padded([A, END], 3), padded([B, END], 3)]
    assert scores.tolist() == [[-1600.0] * 3]


def test_an_end_counts_among_the_best_extensions_alone():
    logits = costs(BEGIN={A: 10, B: 20, END: 30}, A={C: 30}, B={C: 30}, C={END: 10})
    ids, _ = search(chain(logits), [5], beam_size=2, length_penalty=0.0)
    assert ids[0] == [padded([A, C, END], 5)]  # of cost 50, though to end at once would be 30
    ids, _ = search(chain(logits), [5], beam_size=3, length_penalty=0.0)
    assert ids[0] == [padded([END], 5)]


# The bound that stops a search


def steps_of(logits, limit, **options):
    calls = []
    ids, _ = search(chain(logits, calls), [limit], **{"beam_size": 2, **options})
    return len(calls), ids[0][0]


def test_search_stops_when_nothing_better_can_come():
    sure = table(BEGIN={A: 0.9}, A={END: 0.999}, B={A: 0.5}, C={A: 0.5})
    for exponent in (0.0, 0.6):
        assert steps_of(sure, 40, length_penalty=exponent) == (2, padded([A, END], 40))
    unsure = table(BEGIN={A: 0.6, B: 0.3}, A={A: 0.6, END: 0.3})
    steps, ids = steps_of(unsure, 40, length_penalty=0.0)
    assert steps == 4  # 0.6 * 0.3 have ended, and 0.6 * 0.6, 0.6 * 0.6 * 0.6, ... live
    assert ids == padded([A, END], 40)


def test_search_goes_on_while_a_longer_one_may_be_better():
    # The penalty makes up for the length: log-probability falls ever more slowly.
    logits = table(BEGIN={A: 0.5, END: 0.49}, A={A: 0.98, END: 0.015})
    short, _ = steps_of(logits, 30, length_penalty=0.0)
    steps, ids = steps_of(logits, 30, length_penalty=1.0)
    assert short < 5
    assert steps == 30
    assert ids == [A] * 30


def test_all_that_are_wanted_have_to_be_safe():
    logits = table(BEGIN={A: 0.8, B: 0.1}, A={END: 0.99}, B={B: 0.97, END: 0.02})
    one, many = (
        steps_of(logits, 30, num_hypotheses=wanted, length_penalty=0.0)[0] for wanted in (1, 2)
    )
    assert one == 2
    assert many > one


@KINDS
def test_the_bound_stops_many_searches_and_changes_none(kind, monkeypatch):
    """With a bound that never holds, every search runs to its limit, as the oracle does."""
    trees, limits = trees_of(kind)
    rows, steps = list(range(60)), []

    def watched(ids, cache, index, visible):
        steps.append(ids.shape[0])
        return trees.step(ids, cache, index, visible)

    options = GenerationOptions(beam_size=3, num_hypotheses=1, length_penalty=0.6, **least(kind))
    runner = Search(watched, BEGIN, END, PADDING, options, trees.make_room)
    ids, scores = runner.run(trees.cache(rows), limits[rows], LONGEST)
    early = sum(steps)
    steps.clear()
    advance = runner.method.advance

    def never_done(state, allowed, normaliser, index):
        after = advance(state, allowed, normaliser, index)
        return {**after, "done": index + 1 >= state["limits"]}

    runner.method.advance = never_done
    full_ids, full_scores = runner.run(trees.cache(rows), limits[rows], LONGEST)
    assert np.array_equal(ids, full_ids)
    assert np.array_equal(scores, full_scores)
    assert early < 0.9 * sum(steps) or kind == "equal ones"


# Rows and their company


def test_rows_depend_neither_on_their_company_nor_on_their_order():  # D04, T28
    ids, scores = found("random", 4, 0.6, 4)
    order = np.random.default_rng(0).permutation(ROWS).tolist()
    for rows in (order, order[:70], order[70:77], *[[row] for row in order[:2]]):
        own_ids, own_scores = found("random", 4, 0.6, 4, rows)
        assert own_ids == [ids[row] for row in rows]
        np.testing.assert_allclose(own_scores, scores[rows], rtol=0, atol=1e-6)


def test_more_room_changes_nothing():  # the limit of each row counts, not the longest of all
    trees, limits = trees_of("random")
    rows = list(range(40))
    options = {"make_room": trees.make_room, "beam_size": 4, "num_hypotheses": 4}
    ids, scores = search(trees.step, limits[rows], 6, cache=trees.cache(rows), **options)
    more, more_scores = search(trees.step, limits[rows], 50, cache=trees.cache(rows), **options)
    assert [[hypothesis[:6] for hypothesis in row] for row in more] == ids
    assert not any(any(hypothesis[6:]) for row in more for hypothesis in row)
    assert np.array_equal(more_scores, scores)


def test_first_of_many_is_what_is_found_alone():
    many, scores = found("random", 5, 0.6, 5)
    for wanted in (1, 4):
        ids, own = found("random", 5, 0.6, wanted)
        assert ids == [row[:wanted] for row in many]
        assert np.array_equal(own, scores[:, :wanted])


# The penalty


def test_length_penalty_is_the_formula():
    lengths = np.arange(1, 60)
    for exponent in (0.0, 0.6, 1.0, 2.0):
        expected = ((5 + lengths) / 6) ** exponent
        assert_close(length_penalty(lengths, exponent) / expected, np.ones(59), 1e-6)
    assert float(length_penalty(1, 0.6)) == 1.0


def test_penalty_counts_the_end_token():
    _, (plain, *_) = search(chain(WALK), [5], beam_size=2, length_penalty=0.0)
    ids, (scores, *_) = search(chain(WALK), [5], beam_size=2, length_penalty=1.0)
    assert ids == [[[A, B, END, PADDING, PADDING]]]
    assert_close(scores, plain / (8 / 6), 1e-6)


# With a model


@pytest.fixture(scope="module")
def model():
    return example()


def test_every_score_is_that_of_the_model(model):
    sources = np.repeat(SOURCES[FULL], 4, axis=0)
    for exponent in (0.0, 0.6):
        options = GenerationOptions(
            beam_size=4, num_hypotheses=4, length_penalty=exponent, min_length=4
        )
        ids, scores = generate(model, SOURCES[FULL], options)
        flat = np.array(ids).reshape(len(sources), -1)
        lengths = np.count_nonzero(flat, axis=1)
        assert all(len({tuple(target) for target in row}) == 4 for row in np.array(ids))
        assert len(set(lengths)) > 2
        sums = np.sum(score(model, sources, flat), axis=1)
        assert_close(np.ravel(scores), sums / ((5 + lengths) / 6) ** exponent, 1e-4)


def test_beam_search_of_a_model_agrees_with_the_oracle(model):
    options = GenerationOptions(beam_size=3, num_hypotheses=3, min_length=3)
    ids, scores = generate(model, SOURCES[FULL], options)
    for place, row in enumerate(FULL[:3]):
        hypotheses = oracles.beam_search(
            lambda prefix, row=row: next_logits(model, SOURCES[row], prefix),
            LENGTH,
            BEGIN_ID,
            END_ID,
            3,
            0.6,
            (PADDING_ID, BEGIN_ID),
            min_length=3,
        )
        assert_same(np.array(ids)[place].tolist(), scores[place], hypotheses, 1e-4)


@functools.cache
def model_for_long_targets():
    model = Transformer(TransformerConfig(13, 1, 2, 8, 16, max_length=40))
    shake(model, np.random.default_rng(0), 0.5)
    return model


@pytest.mark.parametrize(
    "options", [{}, {"beam_size": 3}, {"temperature": 1.0}], ids=["greedy", "beam", "sampling"]
)
def test_targets_that_outgrow_their_room_have_the_score_of_the_model(options):  # D03
    model = model_for_long_targets()
    width = options.get("beam_size", 3 if options else 1)
    options = {**options, "num_hypotheses": width, "min_length": 30, "length_penalty": 0.0}
    options["no_repeat_ngram"] = 3  # or they would be one token over and over
    # As a graph: it is traced in less time than forty steps take without one.
    written = tf.function(generate, autograph=False)
    ids, scores = written(model, tf.constant(SOURCES[FULL]), GenerationOptions(**options))
    flat = np.reshape(ids, (-1, 40))
    assert np.min(np.count_nonzero(flat, axis=1)) >= 30
    assert min(len(set(row)) for row in flat) > 5
    sums = np.sum(score(model, np.repeat(SOURCES[FULL], width, axis=0), flat), axis=1)
    assert_close(np.ravel(scores), sums, 5e-4)


def test_beam_finds_what_greedy_search_misses(model):
    _, greedy = generate(model, SOURCES[FULL])
    _, beam = generate(model, SOURCES[FULL], GenerationOptions(beam_size=6, length_penalty=0.0))
    assert np.all(np.array(beam) >= np.array(greedy) - 1e-5)
    assert np.any(np.array(beam) > np.array(greedy) + 0.1)
