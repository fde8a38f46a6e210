"""Answers out of a passage: tokeniser, a `QuestionAnswerer` and the search for a span in one graph.

Shapes: B batch, S length in pieces, W words.

Reference: Devlin et al. 2019, section 4.2.
"""

from typing import ClassVar

from keras_transformer import _backend  # noqa: F401  (first: it keeps the start-up quiet)

# isort: split

import tensorflow as tf

from keras_transformer.layers.masks import LOWEST
from keras_transformer.servable import strings
from keras_transformer.text.slices import JOIN_OPS, words_between
from keras_transformer.text.word_pieces import WORD_OPS, check_words, padded, word_pieces
from keras_transformer.text_encoders import TextEncoder

LONGEST_ANSWER = 30  # pieces


class PassageReader(TextEncoder):
    """A question and a passage to the words of the passage that answer it.

    The answer is the likeliest span of at most 30 pieces, from the word of its first piece to that
    of its last. If both are too long for the model, the question is cut to half of the room, and
    the passage to what is left.

    Args:
        model: A `QuestionAnswerer`.
        tokenizer: The tokeniser that the model was trained with.
        max_length: Most tokens of question and passage with special tokens; the model's if None.

    Raises:
        InputError: If pieces may span several words.

    Example:
        reader = PassageReader(model, tokenizer)
        reader.call("serving_default", question=["Who?"], passage=["It was he."])["answer"]
    """

    numbers = "score"
    answers = ("answer", "start")
    more_ops = WORD_OPS | JOIN_OPS
    tensors: ClassVar[dict[str, str]] = {
        "score": "Probability that the answer begins at its first piece and ends at its last.",
        "ids": "[CLS] question [SEP] passage [SEP], as numbers of pieces, padded.",
    }
    description = "Answers a question by words of a passage."

    def __init__(self, model, tokenizer, max_length=None):
        check_words(tokenizer)
        super().__init__(model, tokenizer, max_length)

    def _all_graphs(self):
        text = strings("question", "passage")
        ids = {n: tf.TensorSpec([None, None], tf.int32, name=n) for n in ("ids", "segment_ids")}
        return {
            "serving_default": (self.answer_question, text),
            "ids": (self.find_span, ids),
            "tokenize": (self.tokenize_pair, text),
        }

    def examples(self, texts):
        """Make inputs of `serving_default` of ordinary sentences: each is asked for its end."""
        questions = [" ".join(text.split()[-3:]) for text in texts]
        return {"question": questions, "passage": list(texts)}

    def answer_question(self, question, passage):
        """Answer questions in the graph.

        Args:
            question: String tensor `(B,)`.
            passage: String tensor `(B,)`.

        Returns:
            Dict of `answer`, string `(B,)`, words of the passage with one space between; `score`,
            float32 `(B,)`, the probability that it begins at its first piece times that it ends at
            its last; and `first_word` and `last_word`, int32 `(B,)`, the places of these words in
            the passage. Of a passage without pieces they are "", 0, -1 and -1.
        """
        pieces = word_pieces(self.tokenizer, passage)
        pair = self._pair(question, pieces.ids)
        found = self.find_span(pair["ids"], pair["segment_ids"])
        of_piece = padded(pieces.word)
        behind = tf.shape(of_piece)[1] - 1
        real = found["score"] > 0

        def word_at(place):
            place = tf.clip_by_value(place - pair["begins"], 0, behind)
            return tf.where(real, _pick(of_piece, place), -1)

        first, last = word_at(found["start"]), word_at(found["end"])
        begins = _pick(padded(pieces.begins), tf.maximum(first, 0))
        ends = _pick(padded(pieces.ends), tf.maximum(last, 0))
        return {
            "answer": words_between(passage, begins, tf.where(real, ends, begins)),
            "score": found["score"],
            "first_word": first,
            "last_word": last,
        }

    def find_span(self, ids, segment_ids):
        """Find the likeliest span of pieces.

        Args:
            ids: Int32 tensor `(B, S)`: [CLS] question [SEP] passage [SEP], padded.
            segment_ids: Int32 tensor `(B, S)`: 1 in the passage and its [SEP], otherwise 0.

        Returns:
            Dict of `start` and `end`, int32 `(B,)`, the places of the first and the last piece in
            the row, and `score`, float32 `(B,)`; all 0 where there is no passage.
        """
        config = self.model.config
        same = tf.debugging.assert_equal(
            tf.shape(segment_ids), tf.shape(ids), "segment_ids has to have the shape of ids."
        )
        with tf.control_dependencies([same]):
            segment_ids = tf.reshape(segment_ids, tf.shape(ids))
        logits = self.run_model(ids, segment_ids)  # (B, 2, S)
        inside = tf.equal(segment_ids, 1)
        for special in (config.padding_id, config.end_id):  # which no text gives
            inside = tf.logical_and(inside, tf.not_equal(ids, special))
        inside = tf.expand_dims(inside, 1)
        logits = tf.where(inside, tf.cast(logits, tf.float32), LOWEST)
        probabilities = tf.where(inside, tf.nn.softmax(logits), 0.0)
        starts, ends = probabilities[:, 0], probabilities[:, 1]
        length = tf.shape(ids)[1]
        # For each start, the ends that are not too far behind it.
        ahead = tf.expand_dims(tf.range(length), 1) + tf.expand_dims(tf.range(LONGEST_ANSWER), 0)
        ends = tf.gather(tf.pad(ends, [[0, 0], [0, LONGEST_ANSWER]]), ahead, axis=1)
        scores = tf.expand_dims(starts, 2) * ends  # (B, S, 30)
        scores = tf.reshape(scores, tf.stack([-1, length * LONGEST_ANSWER]))
        best = tf.argmax(scores, axis=1, output_type=tf.int32)
        start = best // LONGEST_ANSWER
        return {
            "start": start,
            "end": start + best % LONGEST_ANSWER,
            "score": tf.reduce_max(scores, axis=1),
        }

    def tokenize_pair(self, question, passage):
        """Cut questions and passages into what `ids` takes, and say whether all of them fits.

        Args:
            question: String tensor `(B,)`.
            passage: String tensor `(B,)`.

        Returns:
            Dict of `ids` and `segment_ids`, int32 `(B, S)`, and `truncated`, bool `(B,)`.
        """
        pair = self._pair(question, self.tokenizer.tokenize(passage))
        return {name: pair[name] for name in ("ids", "segment_ids", "truncated")}

    def _pair(self, question, passage_ids):
        return join_pairs(
            self.tokenizer.tokenize(question), passage_ids, self.model.config, self.max_length
        )


def join_pairs(question_ids, passage_ids, config, max_length: int):
    """Put questions and passages into rows, as an encoder of BERT's kind reads pairs of texts.

    A model with one segment has a second [SEP] between them, as RoBERTa's was trained.

    Args:
        question_ids: Ragged int32 tensor `(B, (Q))`, without special tokens.
        passage_ids: Ragged int32 tensor `(B, (P))`, likewise.
        config: A `BertConfig`.
        max_length: Most tokens of a row.

    Returns:
        Dict of `ids`, int32 `(B, S)`, padded; `segment_ids`, int32 `(B, S)`, 1 in the passage and
        the [SEP] behind it; `begins`, int32 `(B,)`, the place of the passage's first piece;
        `counts`, int32 `(B,)`, how many pieces of the passage there are; and `truncated`, bool
        `(B,)`, whether something was cut.
    """
    between = 1 if config.num_segments > 1 else 2
    room = max_length - 2 - between
    whole = [tf.cast(ids.row_lengths(), tf.int32) for ids in (question_ids, passage_ids)]
    questions = tf.minimum(whole[0], tf.maximum(room // 2, room - whole[1]))
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


def _pick(rows, places):
    """Take one number of each row: `(B, S)` and `(B,)` -> `(B,)`."""
    return tf.gather(rows, tf.expand_dims(places, 1), batch_dims=1)[:, 0]
