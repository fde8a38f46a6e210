"""Two texts in a row, as an encoder of BERT's kind reads them.

Shapes: B batch, S length, Q and P pieces of the two texts.
"""

from keras_transformer import _backend  # noqa: F401  (first: it keeps the start-up quiet)

# isort: split

import tensorflow as tf

from keras_transformer.text.word_pieces import padded


def join_pairs(question_ids, passage_ids, config, max_length: int, odd_to_longer: bool = False):
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

    def shifted(ids, before):
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
