"""Special tokens around texts.

TensorFlow's own concatenation of ragged rows transposes integers, of which oneDNN complains on
standard error, so rows are put together as dense ones.
"""

import tensorflow as tf


def frame(ids: tf.RaggedTensor, before: list[int], after: list[int]) -> tf.RaggedTensor:
    """Put special tokens around each row: ragged int32 `(N, (S))` -> `(N, (S + some))`."""
    lengths = tf.cast(ids.row_lengths(), tf.int32)[:, tf.newaxis]
    body = tf.pad(ids.to_tensor(), [[0, 0], [len(before), len(after)]])
    place = tf.range(tf.shape(body)[1])[tf.newaxis, :]
    for i, token in enumerate(before):
        body = tf.where(place == i, token, body)
    for i, token in enumerate(after):
        body = tf.where(place == lengths + len(before) + i, token, body)
    total = ids.row_lengths() + len(before) + len(after)
    return tf.RaggedTensor.from_tensor(body, lengths=total)
