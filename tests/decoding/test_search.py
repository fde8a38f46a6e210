"""Tests of keras_transformer.decoding.search: the loop, and greedy search.

Also: decoding.loops.
"""

import numpy as np
import oracles
import pytest
import tensorflow as tf
from fixtures_search import (
    BEGIN,
    END,
    ENDLESS,
    LOW,
    NEVER,
    PADDING,
    WALK,
    A,
    B,
    C,
    best,
    chain,
    forest,
    padded,
    random_logits,
    search,
    table,
)
from keras import ops
from oracles import assert_close

from keras_transformer.decoding import GenerationOptions, Search, loops
from keras_transformer.decoding import search as search_module
from keras_transformer.decoding.search import ROOM

EVERY_WAY = pytest.mark.parametrize(
    "options",
    [
        {},
        {"beam_size": 3, "num_hypotheses": 2},
        {"temperature": 1.5, "num_hypotheses": 3, "seed": 1},
    ],
    ids=["greedy", "beam", "sampling"],
)


def tables_of_rows(tables):
    """A step in which every row has a table of its own; the cache says which."""

    def step(ids, cache, index, visible):
        flat = ops.reshape(ops.convert_to_tensor(np.stack(tables)), (-1, 6))
        return ops.take(flat, ids + 6 * ops.expand_dims(cache, 1), axis=0), cache

    return step


# What is found


def test_likeliest_token_is_taken_until_the_end():  # D01
    ids, scores = best(chain(WALK), [5])
    assert ids == [[A, B, END, PADDING, PADDING]]
    share = [np.log(p / row) for p, row in ((0.6, 0.9004), (0.7, 0.9004), (0.9, 0.9005))]
    assert_close(scores, [sum(share)])


def test_best_next_token_wins_even_if_another_path_is_likelier():  # D01: greedy, and no beam
    logits = table(BEGIN={A: 0.5, B: 0.4}, A={END: 0.3, A: 0.25, B: 0.25}, B={END: 0.99})
    assert best(chain(logits), [5])[0] == [[A, END, PADDING, PADDING, PADDING]]


def test_every_step_gets_the_token_before_and_its_position():  # D01, D02
    seen = []

    def step(ids, cache, index, visible):
        seen.append((np.array(ids).tolist(), int(index)))
        return ops.take(ops.convert_to_tensor(WALK), ids, axis=0), cache

    search(step, [5])
    assert seen == [([[BEGIN]], 0), ([[A]], 1), ([[B]], 2)]


def test_another_token_changes_those_after_it():  # D02
    def forced(ids, cache, index, visible):
        logits, cache = chain(WALK)(ids, cache, index, visible)
        return ops.where(index == 0, ops.one_hot([[B]], 6) * 100.0, logits), cache

    assert best(forced, [5])[0] == [[B, END, PADDING, PADDING, PADDING]]


def test_what_a_step_returns_as_cache_is_what_the_next_one_gets():  # D03
    caches = []

    def step(ids, cache, index, visible):
        caches.append(int(cache["n"][0][0]))
        logits, n = chain(WALK)(ids, cache["n"][0], index, visible)
        return logits, {"n": (n,)}

    search(step, [5], cache={"n": (tf.constant([7]),)})
    assert caches == [7, 8, 9]


@pytest.mark.parametrize("seed", range(5))
def test_search_agrees_with_the_oracle(seed):  # D01, D04
    limits = [1, 3, 6, 6]
    tables = [random_logits(seed) + row * random_logits(seed).T for row in range(4)]
    ids, scores = best(tables_of_rows(tables), limits, cache=ops.arange(4))
    for row, limit in enumerate(limits):
        tokens, score = oracles.greedy(
            lambda prefix, own=tables[row]: own[prefix[-1]], limit, BEGIN, END, NEVER
        )
        assert ids[row] == padded(tokens, 6)
        assert scores[row] == pytest.approx(score, abs=1e-5)


def test_search_agrees_with_the_oracle_where_the_whole_prefix_matters():  # D01, D03
    trees, limits = forest(5, 100), np.random.default_rng(5).integers(1, 7, 100)
    ids, scores = best(
        trees.step, limits, 6, cache=trees.cache(range(100)), make_room=trees.make_room
    )
    for row in range(100):
        tokens, score = oracles.greedy(trees.next_logits(row), limits[row], BEGIN, END, NEVER)
        assert ids[row] == padded(tokens, 6)
        assert scores[row] == pytest.approx(score, abs=1e-5)


@pytest.mark.parametrize("tied", [(A, B), (B, C), (END, C), (A, B, C)])
def test_of_equal_tokens_the_lower_id_wins(tied):  # D01
    ids, _ = best(chain(table(BEGIN=dict.fromkeys(tied, 0.3))), [1])
    assert ids == [[min(tied)]]


@pytest.mark.parametrize("impossible", [-np.inf, np.finfo("float32").min])
def test_impossible_tokens_are_not_taken(impossible):
    logits = np.full((6, 6), impossible, "float32")
    logits[:, B] = -5.0
    ids, scores = best(chain(logits), [2])
    assert ids == [[B, B]]
    assert_close(scores, [0.0])


# Where rows end


def test_search_stops_when_the_last_row_has_ended():  # D04, C20
    calls = []
    search(chain(WALK, calls), [50, 50])
    assert calls == [[[BEGIN]] * 2, [[A]] * 2, [[B]] * 2]
    calls.clear()
    ids, _ = best(chain(ENDLESS, calls), [2, 4], max_length=50)
    assert len(calls) == 4
    assert ids[0][:5] == [A, B, PADDING, PADDING, PADDING]  # cut off, without an end
    assert ids[1][:5] == [A, B, A, B, PADDING]


def test_score_of_a_row_stands_still_once_it_has_finished():
    _, scores = best(chain(ENDLESS), [1, 2, 4])
    expected = np.cumsum(np.log([0.6 / 0.6005, 0.7 / 0.7005, 0.9 / 0.9005, 0.7 / 0.7005]))
    assert_close(scores, expected[[0, 1, 3]])


def test_row_that_has_finished_beside_many_others_stands_still():  # it stays in the batch a while
    ids, scores = best(chain(ENDLESS), [1, 6, 6, 6, 6, 6])
    assert ids[0] == padded([A], 6)
    assert_close(scores[0], np.log(0.6 / 0.6005))


def test_last_token_may_be_the_end():
    assert best(chain(WALK), [3])[0] == [[A, B, END]]
    assert best(chain(WALK), [2])[0] == [[A, B]]


@EVERY_WAY
def test_finished_rows_stay_empty(options):
    ids, scores = search(chain(WALK), [5, 5], finished=np.array([True, False]), **options)
    assert not np.any(ids[0])
    assert scores[0, 0] == 0
    assert np.any(ids[1])
    assert scores[1, 0] < 0


@EVERY_WAY
def test_row_with_a_limit_of_zero_stays_empty(options):
    ids, scores = search(chain(WALK), [0, 3], **options)
    assert not np.any(ids[0])
    assert scores[0, 0] == 0
    assert np.any(ids[1])


@EVERY_WAY
def test_nothing_is_computed_when_all_rows_are_finished(options):
    calls = []
    ids, scores = search(chain(WALK, calls), [3, 3], finished=np.array([True, True]), **options)
    assert calls == []
    assert not np.any(ids)
    assert not np.any(scores[:, 0])


def test_padding_can_have_another_id():
    ids, _ = best(chain(WALK), [5], padding_id=C)
    assert ids == [[A, B, END, C, C]]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_scores_are_added_in_float32(dtype):
    def step(ids, cache, index, visible):
        return ops.cast(ops.log([[[LOW, LOW, LOW, 0.5, 0.25, 0.125]]]), dtype), cache

    _, scores = best(step, [40])
    row = ops.cast(ops.cast(ops.log([LOW, LOW, LOW, 0.5, 0.25, 0.125]), dtype), "float32")
    assert_close(scores, [40 * np.log(oracles.softmax(np.array(row))[A])], 1e-4)


# Rows that stop costing


def shapes_of(step, shapes):
    """Record the number of rows that a step gets, and the slots that it may read."""

    def watched(ids, cache, index, visible):
        assert ids.shape[0] == cache["start"].shape[0] == cache["slots"].shape[0]
        assert visible.shape[0] in (1, ids.shape[0])
        assert visible.shape[1] == ids.shape[1]
        assert visible.shape[2] == cache["slots"].shape[2]
        shapes.append((ids.shape[0], visible.shape[2] // ids.shape[1]))
        return step(ids, cache, index, visible)

    return watched


@EVERY_WAY
def test_finished_rows_leave_the_batch(options):  # D04, C20
    trees, shapes = forest(0, 8), []
    limits = [1, 1, 2, 3, 5, 8, 14, 20]
    search(
        shapes_of(trees.step, shapes),
        limits,
        cache=trees.cache(range(8)),
        make_room=trees.make_room,
        min_length=64,  # so that every row runs to its limit
        **options,
    )
    # Up to 8 rows, their number is a power of two; it falls as soon as half of them are done.
    rows = [*[8] * 3, *[4] * 5, *[2] * 6, *[1] * 6]
    assert [count for count, _ in shapes] == rows
    assert sum(rows) <= 4 / 3 * sum(limits)


@EVERY_WAY
def test_caches_get_room_for_sixteen_positions_at_a_time(options):  # D03, C20
    trees, shapes, grown = forest(1, 2), [], []

    def make_room(cache, slots):
        grown.append(int(slots))
        return trees.make_room(cache, slots)

    search(
        shapes_of(trees.step, shapes),
        [34, 21],
        1000,
        cache=trees.cache(range(2)),
        make_room=make_room,
        min_length=1000,
        **options,
    )
    assert ROOM == 16
    assert [room for _, room in shapes] == [16] * 16 + [32] * 16 + [48] * 2
    width = options.get("beam_size", options.get("num_hypotheses", 1))
    # When a row leaves, there is nothing to add: that is 0 slots.
    assert [slots for slots in grown if slots] == [16 * width] * 3


@EVERY_WAY
def test_rows_that_leave_take_their_results_along(options):  # D04, T28
    trees, limits = forest(2, 20), np.random.default_rng(2).integers(1, 19, 20)
    arguments = {"make_room": trees.make_room, "max_length": 18, "min_length": 6, **options}
    ids, scores = search(
        trees.step, limits, cache=trees.cache(range(20)), seeds=limits.astype("int32"), **arguments
    )
    assert len({tuple(row[0]) for row in ids}) > 13
    for row in (0, 7, 19):
        own = {"cache": trees.cache([row]), "seeds": limits[[row]].astype("int32")}
        alone, score = search(trees.step, limits[[row]], **own, **arguments)
        assert alone[0] == ids[row]
        assert_close(score[0], scores[row], 1e-5)


@EVERY_WAY
def test_search_for_fixed_shapes_finds_the_same(monkeypatch, options):  # as JAX needs it
    trees, shapes = forest(3, 20), []
    limits = np.random.default_rng(3).integers(0, 19, 20)
    done = np.arange(20) % 7 == 0
    arguments = {
        "limits": limits,
        "max_length": 18,
        "cache": trees.cache(range(20)),
        "make_room": trees.make_room,
        "finished": done,
        **options,
    }
    ids, scores = search(trees.step, **arguments)
    for module in (search_module, loops):
        monkeypatch.setattr(module, "SHAPES_MAY_CHANGE", False)
    fixed_ids, fixed_scores = search(shapes_of(trees.step, shapes), **arguments)
    assert fixed_ids == ids
    assert np.array_equal(np.isinf(fixed_scores), np.isinf(scores))
    assert_close(np.nan_to_num(fixed_scores), np.nan_to_num(scores), 1e-5)
    assert set(shapes) == {(20, 18)}


def test_rows_do_not_depend_on_their_company():  # D04, T28
    tables = [random_logits(seed) for seed in (0, 1, 2, 8, 10, 12, 16, 3)]
    limits = [4, 1, 6, 6, 2, 6, 3, 5]
    together, scores = best(tables_of_rows(tables), limits, cache=ops.arange(8))
    assert len({row.index(END) if END in row else 6 for row in together}) > 2
    for row in range(8):
        alone, score = best(
            tables_of_rows(tables), [limits[row]], max_length=6, cache=ops.array([row])
        )
        assert alone[0] == together[row]
        assert score[0] == scores[row]


@EVERY_WAY
def test_search_is_the_same_in_a_graph(options):
    trees, traces = forest(4, 12), []
    signature = [tf.TensorSpec((None,), tf.int32), tf.TensorSpec((), tf.int32)]

    @tf.function(input_signature=signature, autograph=False)
    def graph(limits, max_length):
        traces.append(1)
        rows = ops.arange(ops.shape(limits)[0])
        cache = {name: ops.take(x, rows, axis=0) for name, x in trees.cache(range(12)).items()}
        arguments = (trees.step, BEGIN, END, PADDING, GenerationOptions(**options))
        return Search(*arguments, trees.make_room).run(cache, limits, max_length)

    for limits, longest in (([5], 5), ([1, 2, 5, 0], 7), (list(range(7, 19)), 18)):
        ids, scores = graph(limits, longest)
        cache = trees.cache(range(len(limits)))
        expected, expected_scores = search(
            trees.step, limits, longest, cache=cache, make_room=trees.make_room, **options
        )
        assert np.array(ids).tolist() == expected
        assert_close(np.nan_to_num(scores), np.nan_to_num(expected_scores), 1e-5)
    assert len(traces) == 1
