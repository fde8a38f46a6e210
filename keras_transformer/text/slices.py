"""Parts of strings by their bytes, in the graph, on every runtime."""

from keras_transformer._quiet import quiet_stderr
from keras_transformer._tensorflow import tf
from keras_transformer.text.batches import as_batch
from keras_transformer.text.code_points import BYTE_OPS
from keras_transformer.text.joining import DETOKENIZE_OPS, Joiner
from keras_transformer.typing import Size, Strings, Tensor

with quiet_stderr():
    from tensorflow_text.python.ops.byte_splitter import gen_byte_splitter

SLICE_OPS = frozenset({"TFText>ByteSplitByOffsets"})
JOIN_OPS = BYTE_OPS | DETOKENIZE_OPS
_SPACE = 0x20
_FIRST_WHITE, _LAST_WHITE = 0x09, 0x0D  # tab, newline and so on; with the space, ASCII's


def slices_of(text: Strings, begins: Tensor, ends: Tensor) -> Strings:
    """Cut parts out of texts.

    Args:
        text: String tensor `(B,)`.
        begins: Int32 tensor `(B, W)`: the first byte of each part.
        ends: Int32 tensor `(B, W)`: the byte behind it; where it is `begins`, the part is empty.

    Returns:
        String tensor `(B, W)`.
    """
    width = tf.shape(begins)[1]
    rows = tf.cast(tf.range(tf.shape(begins)[0] + 1) * width, tf.int64)
    parts, _ = gen_byte_splitter.tf_text_byte_split_by_offsets(
        input_values=text,
        input_start_offsets=tf.reshape(begins, [-1]),
        input_end_offsets=tf.reshape(ends, [-1]),
        input_row_splits=rows,
    )
    return tf.reshape(parts, tf.stack([-1, width]))


def words_between(text: Strings, begins: Tensor, ends: Tensor) -> Strings:
    """Cut one part out of each text, with one space between its words.

    Args:
        text: String tensor `(B,)`.
        begins: Int32 tensor `(B,)`: the first byte of the part, of which no white space is.
        ends: Int32 tensor `(B,)`: the byte behind its last one, likewise.

    Returns:
        String tensor `(B,)`.
    """
    split = gen_byte_splitter.tf_text_byte_split_with_offsets(input_values=as_batch(text))
    values, rows = tf.cast(split[0], tf.int32), tf.cast(split[1], tf.int32)  # (N,), (B + 1,)
    which = owners(rows[:-1], tf.shape(values)[0])
    places = tf.range(tf.shape(values)[0]) - tf.gather(rows, which)
    inside = tf.logical_and(places >= tf.gather(begins, which), places < tf.gather(ends, which))
    white = tf.logical_and(values >= _FIRST_WHITE, values <= _LAST_WHITE)
    white = tf.logical_or(white, tf.equal(values, _SPACE))
    again = tf.logical_and(white, tf.concat([[False], white], 0)[:-1])
    kept = tf.logical_and(inside, tf.logical_not(again))
    before = tf.concat([[0], tf.cumsum(tf.cast(kept, tf.int32))], 0)
    values = tf.where(white, tf.constant(_SPACE), values)
    return bytes_joiner().join_rows(
        tf.gather(values, tf.where(kept)[:, 0]), tf.cast(tf.gather(before, rows), tf.int64)
    )


def owners(begins: Tensor, size: Size) -> Tensor:
    """Return the stretch that each place lies in, of stretches one after the other.

    Args:
        begins: Int32 tensor `(K,)`, ascending: where each stretch begins, from 0. Two that begin at
            one place are an empty stretch and the next.
        size: Number of places.

    Returns:
        Int32 tensor `(size,)`.
    """
    counts = tf.scatter_nd(
        tf.expand_dims(begins, 1), tf.ones_like(begins), tf.expand_dims(size + 1, 0)
    )
    return tf.cumsum(counts)[:-1] - 1


def bytes_joiner() -> Joiner:
    """Return what joins bytes, as numbers, to strings."""
    return Joiner([bytes([byte]) for byte in range(256)], [True] * 256, None, ())
