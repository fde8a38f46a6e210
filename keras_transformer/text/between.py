"""Tokens at known places of texts, and what lies between them cut into pieces, in the graph."""

from collections.abc import Callable
from typing import Any

from keras_transformer._quiet import quiet_stderr
from keras_transformer._tensorflow import tf
from keras_transformer.text.code_points import flags
from keras_transformer.text.slices import owners
from keras_transformer.typing import Ragged, Strings, Tensor

with quiet_stderr():
    from tensorflow_text.python.ops.byte_splitter import gen_byte_splitter


def cut_between(
    text: Strings,
    rows: Tensor,
    of: Tensor,
    begins: Tensor,
    ends: Tensor,
    tokens: Tensor,
    cut: Callable[..., Any],
) -> Ragged:
    """Cut the stretches between tokens into pieces, and put the tokens back in their places.

    Args:
        text: String tensor `(B,)`.
        rows: Int32 `(B + 1,)`: the bytes of all texts before each of them.
        of: Int32 `(K,)`, ascending: the text that each token is in.
        begins: Int32 `(K,)`, ascending in a text: the byte of the text that a token begins with.
        ends: Int32 `(K,)`: the byte behind it. Tokens that overlap have nothing between them.
        tokens: Int32 `(K, ...)`: what stands for each token.
        cut: Function from strings `(T,)` to a ragged int32 tensor `(T, (S), ...)`.

    Returns:
        Ragged int32 tensor `(B, (S), ...)`.
    """
    texts = tf.shape(rows)[0] - 1
    # The stretches of all texts: one more in each than it has tokens. Each begins where its text
    # does or behind a token, and ends at a token or where its text does.
    numbers = tf.range(tf.shape(of)[0])
    counts = tf.scatter_nd(tf.expand_dims(of, 1), tf.ones_like(of), tf.expand_dims(texts, 0)) + 1
    splits = tf.concat([[0], tf.cumsum(counts)], 0)  # (B + 1,), of stretches
    total = tf.expand_dims(splits[-1], 0)
    behind = numbers + of + 1  # the stretch behind each token
    first = tf.scatter_nd(tf.expand_dims(behind, 1), ends, total)
    last = tf.scatter_nd(tf.expand_dims(splits[1:] - 1, 1), rows[1:] - rows[:-1], total)
    last += tf.scatter_nd(tf.expand_dims(behind - 1, 1), begins, total)
    stretches, _ = gen_byte_splitter.tf_text_byte_split_by_offsets(
        input_values=text,
        input_start_offsets=first,
        input_end_offsets=tf.maximum(last, first),
        input_row_splits=tf.cast(splits, tf.int64),
    )
    pieces = cut(stretches)
    # A token is put before each stretch that is not the first of its text.
    values, splits_of = pieces.values, tf.cast(pieces.row_splits, tf.int32)
    opens = flags(splits[:-1], total[0] + 1)[:-1]
    added = tf.cumsum(tf.cast(tf.logical_not(opens), tf.int32))  # up to each stretch
    count = tf.shape(values)[0]
    places = tf.range(count) + tf.gather(added, owners(splits_of[:-1], count))
    whole = tf.expand_dims(count + tf.shape(of)[0], 0)
    if values.shape.rank > 1:
        whole = tf.concat([whole, values.shape[1:]], 0)
    at = tf.gather(splits_of, behind) + numbers
    values = tf.scatter_nd(tf.expand_dims(places, 1), values, whole) + tf.scatter_nd(
        tf.expand_dims(at, 1), tokens, whole
    )
    ends = tf.gather(splits_of, splits) + tf.concat([[0], tf.cumsum(counts - 1)], 0)
    return tf.RaggedTensor.from_row_splits(values, tf.cast(ends, tf.int64), validate=False)
