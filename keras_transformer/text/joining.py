"""Pieces back to text, in the graph, on every runtime."""

from collections.abc import Collection, Sequence

import flatbuffers
import numpy as np

from keras_transformer._quiet import quiet_stderr
from keras_transformer._tensorflow import tf
from keras_transformer.typing import Ids, Strings, Tensor

with quiet_stderr():
    from tensorflow_text.python.ops.fast_wordpiece_tokenizer import gen_fast_wordpiece_tokenizer

DETOKENIZE_OPS = frozenset({"TFText>FastWordpieceDetokenize", "RaggedTensorToTensor"})


class Joiner:
    """Joins the pieces that ids stand for.

    It is tf.text's op for WordPiece. Its model is built here, because tf.text's own builder refuses
    pieces that hold NUL or are equal, and would put white space between bytes.

    Args:
        pieces: The bytes of each piece, by id.
        continues: Whether each piece is joined to what is before it; the others have a space
            before them, except at the beginning.
        unknown_id: What is written for an id that is none.
        left_out: Ids that are not written at all, such as padding. None stands for no id.
        prefix: What is written before a piece that continues, but has nothing before it.
        blank: An id that is not written where nothing but itself is before it.
    """

    def __init__(
        self,
        pieces: Sequence[bytes],
        continues: Sequence[bool],
        unknown_id: int | None,
        left_out: Collection[int | None],
        prefix: str = "",
        blank: int | None = None,
    ) -> None:
        self._size = len(pieces)
        self._unknown_id = unknown_id
        self._left_out = sorted(i for i in left_out if i is not None)
        self._blank = blank
        self._model = _model(pieces, continues, prefix)

    def join(self, ids: Ids) -> Strings:
        """Join pieces to text.

        Args:
            ids: Ragged or dense integer tensor `(B, T)`.

        Returns:
            String tensor `(B,)`.
        """
        if isinstance(ids, tf.RaggedTensor):
            # One path for both, and none that slices ragged tensors, which LiteRT can't.
            counts = tf.expand_dims(ids.row_lengths(), 1)
            ids = ids.to_tensor(shape=[None, None])
            real = tf.expand_dims(tf.range(tf.shape(ids, counts.dtype)[1]), 0) < counts
        else:
            real = tf.ones_like(ids, tf.bool)
        for i in self._left_out:
            real = tf.logical_and(real, tf.not_equal(ids, i))  # (B, T)
        if self._blank is not None:
            solid = tf.logical_and(real, tf.not_equal(ids, self._blank))
            begun = tf.cumsum(tf.cast(solid, tf.int32), axis=1) > 0
            real = tf.logical_and(real, begun)
        # The op would read beyond its table.
        known = tf.logical_and(ids >= 0, ids < self._size)
        if self._unknown_id is None:
            real = tf.logical_and(real, known)
        else:
            ids = tf.where(known, ids, tf.constant(self._unknown_id, ids.dtype))
        pieces = tf.gather(tf.reshape(ids, [-1]), tf.where(tf.reshape(real, [-1]))[:, 0])
        splits = tf.cumsum(tf.reduce_sum(tf.cast(real, tf.int64), axis=1))
        splits = tf.concat([tf.zeros([1], tf.int64), splits], 0)
        return self.join_rows(tf.cast(pieces, tf.int32), splits)

    def join_rows(self, ids: Tensor, splits: Tensor) -> Strings:
        """Join pieces to text, all of which are written.

        Args:
            ids: Int32 tensor `(N,)`, the pieces of all texts, of which each is one.
            splits: Int64 tensor `(B + 1,)`: text i is from `splits[i]` to `splits[i + 1]`.

        Returns:
            String tensor `(B,)`.
        """
        return gen_fast_wordpiece_tokenizer.tf_text_fast_wordpiece_detokenize(
            input_values=ids, input_row_splits=splits, wp_model=self._model
        )


def _model(pieces: Sequence[bytes], continues: Sequence[bool], prefix: str) -> Tensor:
    """Build a FastWordpieceTokenizerConfig that can only put pieces together."""
    builder = flatbuffers.Builder(sum(map(len, pieces)) + 16 * len(pieces) + 256)
    offsets = [builder.CreateString(piece) for piece in pieces]
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    words = builder.EndVector()
    marks = builder.CreateNumpyVector(np.array(continues, bool))
    sign = builder.CreateString(prefix)
    trie = builder.CreateNumpyVector(np.zeros(1, np.uint32))
    builder.StartObject(14)
    for slot, part in ((0, trie), (6, sign), (12, words), (13, marks)):
        builder.PrependUOffsetTRelativeSlot(slot, part, 0)
    builder.PrependBoolSlot(11, True, False)  # it can detokenise
    builder.Finish(builder.EndObject())
    return tf.constant(np.frombuffer(bytes(builder.Output()), np.uint8))
