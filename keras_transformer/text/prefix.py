"""The same text before every text, in the graph, on every runtime."""

from keras_transformer._quiet import quiet_stderr
from keras_transformer._tensorflow import tf
from keras_transformer.text.code_points import BYTE_OPS
from keras_transformer.text.joining import DETOKENIZE_OPS, Joiner
from keras_transformer.text.slices import owners
from keras_transformer.typing import Strings

with quiet_stderr():
    from tensorflow_text.python.ops.byte_splitter import gen_byte_splitter

PREFIX_OPS = BYTE_OPS | DETOKENIZE_OPS


def prefixed(text: Strings, prefix: str) -> Strings:
    """Put a text before each text; LiteRT has no op that joins strings, so their bytes are.

    Args:
        text: String tensor `(B,)`.
        prefix: The text.

    Returns:
        String tensor `(B,)`.
    """
    more = tf.constant(list(prefix.encode("utf-8")), tf.int32)  # (P,)
    split = gen_byte_splitter.tf_text_byte_split_with_offsets(input_values=text)
    values, rows = tf.cast(split[0], tf.int32), tf.cast(split[1], tf.int32)  # (N,), (B + 1,)
    size, width, batch = tf.shape(values)[0], tf.shape(more)[0], tf.shape(rows)[0] - 1
    which = owners(rows[:-1], size)
    old = tf.range(size) + (which + 1) * width
    begins = tf.expand_dims(rows[:-1] + tf.range(batch) * width, 1)
    new = tf.reshape(begins + tf.expand_dims(tf.range(width), 0), [-1])
    places = tf.expand_dims(tf.concat([new, old], 0), 1)
    joined = tf.scatter_nd(
        places,
        tf.concat([tf.tile(more, tf.expand_dims(batch, 0)), values], 0),
        tf.expand_dims(size + batch * width, 0),
    )
    splits = tf.cast(rows + tf.range(batch + 1) * width, tf.int64)
    joiner = Joiner([bytes([byte]) for byte in range(256)], [True] * 256, None, ())
    return joiner.join_rows(joined, splits)
