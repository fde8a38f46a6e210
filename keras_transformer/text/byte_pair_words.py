r"""Cutting texts into words as GPT-2 does before pairs of bytes are merged, in the graph.

The pattern is

    's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
"""

import numpy as np

from keras_transformer._tensorflow import tf
from keras_transformer.text import unicode
from keras_transformer.text.code_points import Characters, CodePointTable, flags
from keras_transformer.typing import Tensor

SPACE = ord(" ")
_WHITE_SPACE, _LETTER, _NUMBER, _OTHER = range(4)
_APOSTROPHE = ord("'")
_SHORT = tuple(map(ord, "stmd"))  # 's 't 'm 'd
_LONG = tuple((ord(a), ord(b)) for a, b in ("re", "ve", "ll"))


def character_kinds() -> CodePointTable:
    """Make the table of what characters are: white space, letters, numbers, or something else."""
    kinds = np.full(unicode.CODE_POINTS, _OTHER)
    kinds[unicode.members(unicode.LETTERS)] = _LETTER
    kinds[unicode.members(unicode.NUMBERS)] = _NUMBER
    kinds[unicode.members(unicode.WHITE_SPACE)] = _WHITE_SPACE
    return CodePointTable(kinds, _OTHER)


def word_begins(found: Characters, table: CodePointTable) -> Tensor:
    """Find where words begin.

    Args:
        found: The characters of texts.
        table: What `character_kinds` makes.

    Returns:
        Bool `(N,)`: whether a word begins with a byte.
    """
    kinds = table.look_up(found.codes)  # (C,)
    count = tf.shape(kinds)[0]
    last = tf.concat([found.first, [True]], 0)[1:]
    before = tf.concat([[_OTHER], kinds], 0)[:-1]
    after = tf.concat([kinds, [_WHITE_SPACE]], 0)[1:]
    white = tf.equal(kinds, _WHITE_SPACE)
    # A space belongs to what follows it, unless that is white space as well.
    joined = tf.concat([[False], tf.equal(found.codes, SPACE)], 0)[:-1]
    begins = tf.logical_and(
        tf.not_equal(kinds, before), tf.logical_or(white, tf.logical_not(joined))
    )
    # White space leaves its last character to what follows it.
    left = tf.logical_and(tf.logical_not(last), tf.not_equal(after, _WHITE_SPACE))
    begins = tf.logical_or(begins, tf.logical_and(white, left))
    begins = tf.logical_or(begins, found.first)

    # Contractions, which are few. They begin where a word does, and end where none would.
    quotes = tf.logical_and(begins, tf.equal(found.codes, _APOSTROPHE))
    quotes = tf.cast(tf.where(quotes)[:, 0], tf.int32)
    codes = tf.concat([found.codes, [0, 0]], 0)
    ends = tf.concat([last, [True]], 0)
    one, two = tf.gather(codes, quotes + 1), tf.gather(codes, quotes + 2)
    short = tf.reduce_any(tf.stack([tf.equal(one, code) for code in _SHORT]), axis=0)
    long = [tf.logical_and(tf.equal(one, a), tf.equal(two, b)) for a, b in _LONG]
    inside = tf.logical_not(tf.gather(ends, quotes))
    inside_two = tf.logical_not(tf.gather(ends, quotes + 1))
    short = tf.logical_and(short, inside)
    long = tf.logical_and(tf.reduce_any(tf.stack(long), axis=0), tf.logical_and(inside, inside_two))
    short = tf.gather(quotes, tf.where(short)[:, 0])
    long = tf.gather(quotes, tf.where(long)[:, 0])
    both = tf.concat([short, long], 0)
    begins = tf.logical_and(begins, tf.logical_not(flags(both + 1, count + 1)[:-1]))
    behind = flags(tf.concat([short + 2, long + 3], 0), count + 1)[:-1]
    begins = tf.logical_or(begins, behind)

    places = tf.gather(found.places, tf.where(begins)[:, 0])
    return flags(places, tf.shape(found.bytes)[0])
