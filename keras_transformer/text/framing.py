"""Special tokens around texts and between them, and texts cut to what a model reads.

Shapes: B batch, S length, Q and P pieces of the two texts of a pair.

TensorFlow's own concatenation of ragged rows transposes integers, of which oneDNN complains on
standard error, so rows are put together as dense ones.
"""

from typing import Any

from keras_transformer._tensorflow import tf
from keras_transformer.text.word_pieces import padded
from keras_transformer.typing import Ids, Ragged, Tensor, Tensors


def frame(ids: Ragged, before: list[int], after: list[int], keep_empty: bool = True) -> Ragged:
    """Put special tokens around each row.

    Args:
        ids: Ragged int32 tensor `(N, (S))`.
        before: Tokens to put before each row.
        after: Tokens to put behind it.
        keep_empty: Whether a row without tokens gets them, too. Training leaves out rows that are
            empty: there is nothing to learn from special tokens alone.

    Returns:
        Ragged int32 tensor `(N, (S + some))`.
    """
    lengths = tf.cast(ids.row_lengths(), tf.int32)[:, tf.newaxis]
    body = tf.pad(ids.to_tensor(), [[0, 0], [len(before), len(after)]])
    place = tf.range(tf.shape(body)[1])[tf.newaxis, :]
    for i, token in enumerate(before):
        body = tf.where(place == i, token, body)
    for i, token in enumerate(after):
        body = tf.where(place == lengths + len(before) + i, token, body)
    total = ids.row_lengths() + len(before) + len(after)
    if not keep_empty:
        total = tf.where(ids.row_lengths() > 0, total, 0)
    return tf.RaggedTensor.from_tensor(body, lengths=total)


def count_tokens(ids: Ids, padding_id: int) -> Tensor:
    """Count the tokens of each row: `(B, S)`, padded -> int32 `(B,)`."""
    return tf.reduce_sum(tf.cast(tf.not_equal(ids, padding_id), tf.int32), axis=1)


def cut_and_end(
    ids: Ids, max_length: int, end_id: int, padding_id: int, begin_id: int | None = None
) -> Ids:
    """End each row with the end token, cutting rows that would be longer than `max_length`.

    Args:
        ids: Int32 tensor `(B, S)`, padded.
        max_length: Greatest length of a row, special tokens included.
        end_id: The end token.
        padding_id: What fills up short rows.
        begin_id: A token to begin each row with, or None.

    Returns:
        Int32 tensor `(B, min(S + 1, max_length))`, a column more with a begin token.
    """
    before = 0 if begin_id is None else 1
    width = tf.minimum(tf.shape(ids)[1], max_length - 1 - before)
    ids = tf.slice(ids, [0, 0], tf.stack([-1, width]))
    counts = count_tokens(ids, padding_id)
    if begin_id is not None:
        ids = tf.pad(ids, [[0, 0], [1, 0]], constant_values=begin_id)
    ids = tf.pad(ids, [[0, 0], [0, 1]], constant_values=padding_id)
    places = tf.expand_dims(tf.range(width + 1 + before), 0)
    return tf.where(tf.equal(places, tf.expand_dims(counts + before, 1)), end_id, ids)


def join_pairs(
    question_ids: Ragged,
    passage_ids: Ragged,
    config: Any,
    max_length: int,
    odd_to_longer: bool = False,
) -> Tensors:
    """Put pairs of texts, such as questions and passages, into rows of tokens.

    A model with one segment has a second [SEP] between them, as RoBERTa's was trained.

    Args:
        question_ids: Ragged int32 tensor `(B, (Q))`, without special tokens.
        passage_ids: Ragged int32 tensor `(B, (P))`, likewise.
        config: A `BertConfig`.
        max_length: Most tokens of a row. Where both texts are too long, each has half of the room.
        odd_to_longer: Whether a token that is left over then is the longer text's, as published
            models of pairs read them; otherwise it is the second's, which holds an answer.

    Returns:
        Dict of `ids`, int32 `(B, S)`, padded; `segment_ids`, int32 `(B, S)`, 1 in the passage and
        the [SEP] behind it; `begins`, int32 `(B,)`, the place of the passage's first piece;
        `counts`, int32 `(B,)`, how many pieces of the passage there are; and `truncated`, bool
        `(B,)`, whether something was cut.
    """
    between = 1 if config.num_segments > 1 else 2
    room = max_length - 2 - between
    whole = [tf.cast(ids.row_lengths(), tf.int32) for ids in (question_ids, passage_ids)]
    half = room // 2  # for each where both are too long, and a token may be left over
    if odd_to_longer:
        half += room % 2 * tf.cast(whole[0] > whole[1], tf.int32)
    questions = tf.minimum(whole[0], tf.maximum(half, room - whole[1]))
    passages = tf.minimum(whole[1], room - questions)
    begins = 1 + questions + between
    width = tf.reduce_max(tf.concat([begins + passages + 1, [1]], 0))
    places = tf.zeros_like(tf.expand_dims(begins, 1)) + tf.range(width)  # (B, S)

    def shifted(ids: Ragged, before: Tensor) -> Ids:
        ids = padded(ids)
        columns = tf.clip_by_value(places - before, 0, tf.shape(ids)[1] - 1)
        return tf.gather(ids, columns, batch_dims=1)

    begin, end = (tf.expand_dims(x, 1) for x in (begins, begins + passages))
    ids = tf.where(places <= tf.expand_dims(questions, 1), shifted(question_ids, 1), config.end_id)
    ids = tf.where(tf.equal(places, 0), config.begin_id, ids)
    ids = tf.where(places >= begin, shifted(passage_ids, begin), ids)
    ids = tf.where(places >= end, config.end_id, ids)
    return {
        "ids": tf.where(places > end, config.padding_id, ids),
        "segment_ids": tf.cast(tf.logical_and(places >= begin, places <= end), tf.int32),
        "begins": begins,
        "counts": passages,
        "truncated": questions + passages < whole[0] + whole[1],
    }
