"""Tests of keras_transformer.decoding.search: small tables of probabilities, and no model."""

import numpy as np
import oracles
import pytest
import tensorflow as tf
from keras import ops
from oracles import assert_close

from keras_transformer.decoding import greedy_search

PADDING, BEGIN, END, A, B, C = range(6)
LOW = 1e-4


def table(**rows):
    """Probabilities of the next token for each last one: `BEGIN={A: 0.6, B: 0.3}`."""
    names = {"BEGIN": BEGIN, "A": A, "B": B, "C": C}
    probabilities = np.full((6, 6), LOW)
    for last, row in rows.items():
        for token, probability in row.items():
            probabilities[names[last], token] = probability
    return np.log(probabilities).astype("float32")


def chain(logits, calls=None):
    """A step whose logits depend on the last token alone; its cache counts the steps."""

    def step(ids, cache, index):
        if calls is not None:
            calls.append(np.array(ids).ravel().tolist())
        return ops.take(ops.convert_to_tensor(logits), ops.squeeze(ids, 1), axis=0), cache + 1

    return step


def search(step, limits, max_length=None, cache=0, **options):
    limits = np.array(limits, "int32")
    length = int(max(limits)) if max_length is None else max_length
    ids, scores = greedy_search(
        step, ops.convert_to_tensor(cache), limits, length, BEGIN, END, **options
    )
    assert ids.dtype == tf.int32
    assert scores.dtype == tf.float32
    assert ids.shape == (len(limits), length)
    return np.array(ids).tolist(), np.array(scores)


def random_logits(seed):
    return np.random.default_rng(seed).normal(size=(6, 6), scale=2).astype("float32")


WALK = table(BEGIN={A: 0.6, B: 0.3}, A={B: 0.7, END: 0.2}, B={END: 0.9})


def test_likeliest_token_is_taken_until_the_end():  # D01
    ids, scores = search(chain(WALK), [5])
    assert ids == [[A, B, END, PADDING, PADDING]]
    share = [np.log(p / row) for p, row in ((0.6, 0.9004), (0.7, 0.9004), (0.9, 0.9005))]
    assert_close(scores, [sum(share)])


def test_best_next_token_wins_even_if_another_path_is_likelier():  # D01: greedy, and no beam
    logits = table(BEGIN={A: 0.5, B: 0.4}, A={END: 0.3, A: 0.25, B: 0.25}, B={END: 0.99})
    assert search(chain(logits), [5])[0] == [[A, END, PADDING, PADDING, PADDING]]


def test_every_step_gets_the_token_before_and_its_position():  # D01, D02
    seen = []

    def step(ids, cache, index):
        seen.append((np.array(ids).tolist(), int(index)))
        return ops.take(ops.convert_to_tensor(WALK), ops.squeeze(ids, 1), axis=0), cache

    search(step, [5])
    assert seen == [([[BEGIN]], 0), ([[A]], 1), ([[B]], 2)]


def test_another_token_changes_those_after_it():  # D02
    def forced(ids, cache, index):
        logits, cache = chain(WALK)(ids, cache, index)
        return ops.where(index == 0, ops.one_hot([B], 6) * 100.0, logits), cache

    assert search(forced, [5])[0] == [[B, END, PADDING, PADDING, PADDING]]


def test_what_a_step_returns_as_cache_is_what_the_next_one_gets():  # D03
    caches = []

    def step(ids, cache, index):
        caches.append(int(cache["n"][0]))
        logits, n = chain(WALK)(ids, cache["n"][0], index)
        return logits, {"n": (n,)}

    greedy_search(step, {"n": (tf.constant(7),)}, np.array([5]), 5, BEGIN, END)
    assert caches == [7, 8, 9]


@pytest.mark.parametrize("seed", range(5))
def test_search_agrees_with_the_oracle(seed):  # D01, D04
    logits, limits = random_logits(seed), [1, 3, 6, 6]

    def step(ids, cache, index):  # every row has a table of its own
        rows = [ops.take(logits + row * logits.T, ids[row, 0], axis=0) for row in range(4)]
        return ops.stack(rows), cache

    ids, scores = search(step, limits)
    for row, limit in enumerate(limits):
        own = logits + row * logits.T
        tokens, score = oracles.greedy(
            lambda prefix, own=own: own[prefix[-1]], limit, BEGIN, END, (PADDING, BEGIN)
        )
        assert ids[row] == tokens + [PADDING] * (6 - len(tokens))
        assert scores[row] == pytest.approx(score, abs=1e-5)


def test_search_stops_when_the_last_row_has_ended():  # D04, C20
    calls = []
    endless = table(BEGIN={A: 0.6}, A={B: 0.7}, B={A: 0.9})
    search(chain(WALK, calls), [50, 50])
    assert calls == [[BEGIN, BEGIN], [A, A], [B, B]]
    calls.clear()
    ids, _ = search(chain(endless, calls), [2, 4], max_length=50)
    assert len(calls) == 4
    assert ids[0][:5] == [A, B, PADDING, PADDING, PADDING]  # cut off, without an end
    assert ids[1][:5] == [A, B, A, B, PADDING]


def test_score_of_a_row_stands_still_once_it_has_finished():
    endless = table(BEGIN={A: 0.6}, A={B: 0.7}, B={A: 0.9})
    _, scores = search(chain(endless), [1, 2, 4])
    expected = np.cumsum(np.log([0.6 / 0.6005, 0.7 / 0.7005, 0.9 / 0.9005, 0.7 / 0.7005]))
    assert_close(scores, expected[[0, 1, 3]])


def test_last_token_may_be_the_end():
    assert search(chain(WALK), [3])[0] == [[A, B, END]]
    assert search(chain(WALK), [2])[0] == [[A, B]]


@pytest.mark.parametrize("tied", [(A, B), (B, C), (END, C), (A, B, C)])
def test_of_equal_tokens_the_lower_id_wins(tied):  # D01
    ids, _ = search(chain(table(BEGIN=dict.fromkeys(tied, 0.3))), [1])
    assert ids == [[min(tied)]]


@pytest.mark.parametrize("never", [PADDING, BEGIN])
def test_padding_and_begin_are_never_produced(never):
    logits = np.zeros((6, 6), "float32")
    logits[:, never], logits[:, C] = 1000.0, 1.0
    ids, scores = search(chain(logits), [3])
    assert ids == [[C, C, C]]
    assert_close(scores, [-3 * 999.0], 1e-2)  # their share of probability is not given away


def test_rows_do_not_depend_on_their_company():  # D04, T28
    tables = [random_logits(seed) for seed in (0, 1, 2, 8, 10, 12, 16, 3)]
    limits = [4, 1, 6, 6, 2, 6, 3, 5]

    def step_of(rows):
        def step(ids, cache, index):
            logits = [ops.take(tables[row], ids[i, 0], axis=0) for i, row in enumerate(rows)]
            return ops.stack(logits), cache

        return step

    together, scores = search(step_of(range(8)), limits)
    assert len({row.index(END) if END in row else 6 for row in together}) > 2
    for row in range(8):
        alone, score = search(step_of([row]), [limits[row]], max_length=6)
        assert alone[0] == together[row]
        assert score[0] == scores[row]


def test_finished_rows_stay_empty():
    ids, scores = search(chain(WALK), [5, 5], finished=np.array([True, False]))
    assert ids == [[PADDING] * 5, [A, B, END, PADDING, PADDING]]
    assert scores[0] == 0
    assert scores[1] < 0


def test_row_with_a_limit_of_zero_stays_empty():
    ids, scores = search(chain(WALK), [0, 3])
    assert ids == [[PADDING] * 3, [A, B, END]]
    assert scores[0] == 0


def test_nothing_is_computed_when_all_rows_are_finished():
    calls = []
    ids, scores = search(chain(WALK, calls), [3, 3], finished=np.array([True, True]))
    assert calls == []
    assert ids == [[PADDING] * 3] * 2
    assert not np.any(scores)


def test_padding_can_have_another_id():
    ids, _ = greedy_search(chain(WALK), tf.constant(0), np.array([5]), 5, BEGIN, END, padding_id=C)
    assert np.array(ids).tolist() == [[A, B, END, C, C]]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_scores_are_added_in_float32(dtype):
    def step(ids, cache, index):
        return ops.cast(ops.log([[LOW, LOW, LOW, 0.5, 0.25, 0.125]]), dtype), cache

    _, scores = search(step, [40])
    row = ops.cast(ops.cast(ops.log([LOW, LOW, LOW, 0.5, 0.25, 0.125]), dtype), "float32")
    assert_close(scores, [40 * np.log(oracles.softmax(np.array(row))[A])], 1e-4)


@pytest.mark.parametrize("impossible", [-np.inf, np.finfo("float32").min])
def test_impossible_tokens_are_not_taken(impossible):
    logits = np.full((6, 6), impossible, "float32")
    logits[:, B] = -5.0
    ids, scores = search(chain(logits), [2])
    assert ids == [[B, B]]
    assert_close(scores, [0.0])


def test_search_is_the_same_in_a_graph():
    @tf.function(input_signature=[tf.TensorSpec((None,), tf.int32), tf.TensorSpec((), tf.int32)])
    def graph(limits, max_length):
        return greedy_search(chain(WALK), tf.constant(0), limits, max_length, BEGIN, END)

    for limits in ([5], [1, 2, 5]):
        ids, scores = graph(limits, 5)
        expected = search(chain(WALK), limits, max_length=5)
        assert np.array(ids).tolist() == expected[0]
        assert_close(scores, expected[1], 1e-6)
