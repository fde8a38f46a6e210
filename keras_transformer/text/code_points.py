"""Strings as numbers, in the graph, on every runtime: bytes and the characters that they spell.

Everything is one flat vector over the batch; nothing is padded, and no text is too long.
"""

from typing import Any, NamedTuple

import numpy as np

from keras_transformer._quiet import quiet_stderr
from keras_transformer._tensorflow import tf
from keras_transformer.text.batches import as_batch
from keras_transformer.text.unicode import CODE_POINTS
from keras_transformer.typing import Size, Strings, Tensor

with quiet_stderr():
    from tensorflow_text.python.ops.byte_splitter import gen_byte_splitter

BYTE_OPS: frozenset[str] = frozenset({"TFText>ByteSplitWithOffsets"})
_SPACE = 0x20
_BLOCK = 128  # code points, of which the first are ASCII
# Bytes that begin a character of two, three or four: from, to below, which bits belong to the code
# point, and the least code point that is not to be written with fewer bytes.
_LEADS = ((0xC2, 0xE0, 0x1F, 0x80), (0xE0, 0xF0, 0x0F, 0x800), (0xF0, 0xF5, 0x07, 0x10000))


class Characters(NamedTuple):
    """The characters of a batch of texts.

    Attributes:
        bytes: Int32 `(N,)`, the bytes of all texts.
        rows: Int32 `(B + 1,)`: text i is from `rows[i]` to `rows[i + 1]`.
        places: Int32 `(C,)`: where each character begins.
        codes: Int32 `(C,)`: code points, and `CODE_POINTS` for bytes that are not UTF-8: one such
            "character" for what lies between others.
        first: Bool `(C,)`: whether the character is the first of its text.
    """

    bytes: Any
    rows: Any
    places: Any
    codes: Any
    first: Any


def characters(text: Strings) -> Characters:
    """Take a string tensor `(B,)` apart."""
    split = gen_byte_splitter.tf_text_byte_split_with_offsets(input_values=as_batch(text))
    values = tf.cast(split[0], tf.int32)  # (N,)
    rows = tf.cast(split[1], tf.int32)
    first = flags(rows[:-1], tf.shape(values)[0] + 1)[:-1]  # an empty last row begins at N
    follows = tf.logical_and(values >= 0x80, values < 0xC0)
    follows = tf.logical_and(follows, tf.concat([[0], values], 0)[:-1] >= 0x80)
    begins = tf.logical_or(first, tf.logical_not(follows))
    places = tf.cast(tf.where(begins)[:, 0], tf.int32)
    codes = tf.gather(values, places)  # (C,), right for ASCII
    # The rest, few in most texts, are decoded apart.
    rest = tf.where(codes >= 0x80)
    places_of = tf.gather(places, rest[:, 0])
    lead = tf.gather(values, places_of)
    decoded, length, least, *factors = (tf.gather(table, lead) for table in _DECODE)
    padded = tf.concat([values, tf.zeros([3], tf.int32)], 0)
    for i, factor in enumerate(factors, 1):
        decoded += (tf.gather(padded, places_of + i) - 0x80) * factor
    ends = tf.gather(tf.concat([places, tf.shape(values)], 0), rest[:, 0] + 1)
    good = tf.logical_and(tf.equal(ends - places_of, length), decoded >= least)
    good = tf.logical_and(good, decoded < CODE_POINTS)
    codes = replace(codes, rest, tf.where(good, decoded, tf.constant(CODE_POINTS)))
    return Characters(values, rows, places, codes, tf.gather(first, places))


def begin_with_space(found: Characters) -> Characters:
    """Put a space before each text that is not empty and does not begin with one."""
    white = tf.equal(found.codes, _SPACE)
    spaced = tf.logical_and(found.first, tf.logical_not(white))
    heads = tf.cast(tf.where(spaced)[:, 0], tf.int32)
    numbers = tf.range(tf.shape(heads)[0])
    size, count = tf.shape(found.bytes)[0], tf.shape(found.codes)[0]
    # How many spaces are put in up to each byte, and each character.
    at = tf.gather(found.places, heads)
    by_byte = tf.cumsum(tf.cast(flags(at, size + 1), tf.int32))
    by_char = tf.cumsum(tf.cast(spaced, tf.int32))

    def put(values: Tensor, places: Tensor, spaces: Tensor, new: Tensor) -> Tensor:
        total = tf.expand_dims(tf.shape(values)[0] + tf.shape(spaces)[0], 0)
        places = tf.expand_dims(tf.concat([places, spaces], 0), 1)
        return tf.scatter_nd(places, tf.concat([values, new], 0), total)

    codes = tf.zeros_like(heads) + _SPACE
    chars, spaces = tf.range(count) + by_char, heads + numbers
    already = tf.where(tf.logical_and(found.first, white))[:, 0]
    first = tf.concat([tf.gather(chars, already), spaces], 0)
    return Characters(
        put(found.bytes, tf.range(size) + by_byte[:-1], at + numbers, codes),
        found.rows + tf.gather(tf.concat([[0], by_byte], 0), found.rows),
        put(found.places + tf.gather(by_byte, found.places), chars, spaces, at + numbers),
        put(found.codes, chars, spaces, codes),
        flags(first, count + tf.shape(heads)[0]),
    )


def replace(values: Tensor, places: Tensor, new: Tensor) -> Tensor:
    """Put other numbers into an int32 vector.

    Args:
        values: Int32 `(N,)`.
        places: Int64 `(K, 1)`, all different.
        new: Int32 `(K,)`.
    """
    change = new - tf.gather(values, places[:, 0])
    return values + tf.scatter_nd(places, change, tf.shape(values, tf.int64))


def flags(places: Tensor, size: Size) -> Tensor:
    """Return a bool tensor `(size,)` that is true at int32 places, which may repeat."""
    marks = tf.scatter_nd(tf.expand_dims(places, 1), tf.ones_like(places), tf.expand_dims(size, 0))
    return marks > 0


def stretches(starts: Tensor, counts: Tensor) -> Tensor:
    """Return the indices of stretches one after the other: int32 `(sum(counts),)`.

    Args:
        starts: Int32 `(W,)`: the first index of each stretch.
        counts: Int32 `(W,)`: how many there are of each, at least 1.
    """
    ends = tf.cumsum(counts)
    begins = ends - counts  # in the result
    shift = starts - begins
    change = shift - tf.concat([tf.zeros([1], tf.int32), shift], 0)[:-1]
    total = tf.reduce_sum(counts)
    steps = tf.scatter_nd(tf.expand_dims(begins, 1), change, tf.expand_dims(total, 0))
    return tf.cumsum(steps) + tf.range(total)


class CodePointTable:
    """A number for every code point, as a table in two levels.

    Args:
        values: Integer array `(CODE_POINTS,)`.
        other: The number for bytes that are not UTF-8.
    """

    def __init__(self, values: np.ndarray, other: int) -> None:
        values = np.concatenate([values, np.full(_BLOCK, other)]).astype(np.int32)
        blocks: dict[bytes, int] = {}  # the different ones, in the order in which they come
        which = [
            blocks.setdefault(block.tobytes(), len(blocks)) for block in values.reshape(-1, _BLOCK)
        ]
        self._starts = tf.constant(np.array(which) * _BLOCK, tf.int32)
        self._values = tf.constant(np.frombuffer(b"".join(blocks), np.int32))
        self._ascii = tf.constant(values[:_BLOCK])

    def look_up(self, codes: Tensor) -> Tensor:
        """Return the numbers of int32 code points `(C,)`, as in `Characters`."""
        found = tf.gather(self._ascii, tf.minimum(codes, _BLOCK - 1))
        rest = tf.where(codes >= _BLOCK)
        codes = tf.gather(codes, rest[:, 0])
        start = tf.gather(self._starts, codes // _BLOCK)
        return replace(found, rest, tf.gather(self._values, start + codes % _BLOCK))


def _decode_tables() -> list[np.ndarray]:
    # By the byte that begins a character. The code point is the first number plus each further
    # byte, less 0x80, times its factor; then come the length, the least code point, the factors.
    tables = np.zeros([6, 256], np.int32)
    tables[0] = np.arange(256)
    tables[1, :0x80] = 1
    for length, (first, beyond, mask, least) in enumerate(_LEADS, 2):
        leads = np.arange(first, beyond)
        tables[0, leads] = (leads & mask) << 6 * (length - 1)
        tables[1, leads] = length
        tables[2, leads] = least
        for place in range(1, length):
            tables[2 + place, leads] = 1 << 6 * (length - 1 - place)
    return list(tables)


_DECODE = _decode_tables()
