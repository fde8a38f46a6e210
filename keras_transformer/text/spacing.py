"""Spaces of texts, in the graph, where a SentencePiece model can't be told to treat them so."""

from collections.abc import Mapping
from typing import NamedTuple

from keras_transformer._quiet import quiet_stderr
from keras_transformer._tensorflow import tf
from keras_transformer.text.code_points import begin_with_space, characters
from keras_transformer.text.slices import JOIN_OPS, bytes_joiner, owners
from keras_transformer.typing import Strings

with quiet_stderr():
    from tensorflow_text.python.ops.byte_splitter import gen_byte_splitter

SPACING_OPS = JOIN_OPS
_SPACE = 0x20


class Spacing(NamedTuple):
    """The treatment of a text's spaces.

    Attributes:
        strip_left: Whether those at its beginning go.
        strip_right: Whether those at its end go.
        collapse: Whether of several in a row one stays.
    """

    strip_left: bool
    strip_right: bool
    collapse: bool

    @classmethod
    def from_dict(cls, fields: Mapping[str, bool]) -> "Spacing":
        """Make one of what `_asdict` returned.

        Raises:
            ValueError: If it is something else.
        """
        if fields.keys() != set(cls._fields) or not all(type(x) is bool for x in fields.values()):
            raise ValueError(f"spacing is {dict(fields)!r}.")
        return cls(**fields)

    def tidy(self, text: Strings) -> Strings:
        """Take spaces out of strings `(B,)`."""
        split = gen_byte_splitter.tf_text_byte_split_with_offsets(input_values=text)
        values, rows = tf.cast(split[0], tf.int32), tf.cast(split[1], tf.int32)  # (N,), (B + 1,)
        which = owners(rows[:-1], tf.shape(values)[0])
        space = tf.equal(values, _SPACE)
        # How many bytes that are no space are before each byte, and before the one behind the last.
        solid = tf.concat([[0], tf.cumsum(tf.cast(tf.logical_not(space), tf.int32))], 0)
        gone = tf.zeros_like(space)
        if self.collapse:
            before = tf.logical_and(
                tf.concat([[False], space], 0)[:-1],
                tf.equal(which, tf.concat([[-1], which], 0)[:-1]),
            )
            gone = tf.logical_or(gone, before)
        if self.strip_left:
            gone = tf.logical_or(
                gone, tf.equal(solid[:-1], tf.gather(solid, tf.gather(rows, which)))
            )
        if self.strip_right:
            ends = tf.gather(solid, tf.gather(rows, which + 1))
            gone = tf.logical_or(gone, tf.equal(solid[:-1], ends))
        kept = tf.logical_not(tf.logical_and(space, gone))
        before = tf.concat([[0], tf.cumsum(tf.cast(kept, tf.int32))], 0)
        return bytes_joiner().join_rows(
            tf.gather(values, tf.where(kept)[:, 0]), tf.cast(tf.gather(before, rows), tf.int64)
        )


def with_space(text: Strings) -> Strings:
    """Put a space before strings `(B,)` that are not empty and do not begin with one."""
    found = begin_with_space(characters(text))
    return bytes_joiner().join_rows(found.bytes, tf.cast(found.rows, tf.int64))
