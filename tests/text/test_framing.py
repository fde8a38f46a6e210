"""Tests of training.framing."""

import tensorflow as tf

from keras_transformer.text.framing import frame

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
