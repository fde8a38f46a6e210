"""Tests of keras_transformer.text.framing."""

import pytest
import tensorflow as tf

from keras_transformer.text.framing import cut_and_end, frame

ROWS = tf.ragged.constant([[5, 6, 7], [], [8]], dtype=tf.int32)


def test_special_tokens_stand_around_each_row():
    assert frame(ROWS, [1], [2, 3]).to_list() == [[1, 5, 6, 7, 2, 3], [1, 2, 3], [1, 8, 2, 3]]
    assert frame(ROWS, [], []).to_list() == ROWS.to_list()
    assert frame(ROWS[:0], [1], [2]).to_list() == []


def test_nothing_is_said_about_kernels(capfd):
    made = tf.function(lambda rows: frame(rows, [1], [2]))
    data = tf.data.Dataset.from_tensors(ROWS).map(made)
    assert len(list(data)) == 1
    assert "oneDNN" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("max_length", "expected"),
    [
        (9, [[5, 6, 7, 3], [5, 3, 0, 0], [3, 0, 0, 0]]),
        (4, [[5, 6, 7, 3], [5, 3, 0, 0], [3, 0, 0, 0]]),
        (3, [[5, 6, 3], [5, 3, 0], [3, 0, 0]]),
        (2, [[5, 3], [5, 3], [3, 0]]),
    ],
)
def test_only_what_is_too_long_is_cut(max_length, expected):  # X01
    ids = tf.constant([[5, 6, 7], [5, 0, 0], [0, 0, 0]])
    assert cut_and_end(ids, max_length, 3, 0).numpy().tolist() == expected
