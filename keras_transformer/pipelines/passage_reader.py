"""Answers out of a passage: tokeniser, a `QuestionAnswerer` and the search for a span in one graph.

Shapes: B batch, S length in pieces, W words.

Reference: Devlin et al. 2019, section 4.2.
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import tensorflow as tf

from keras_transformer.layers.masks import LOWEST
from keras_transformer.models.heads import QuestionAnswerer
from keras_transformer.pipelines.servable import strings
from keras_transformer.pipelines.text_encoder import TextEncoder
from keras_transformer.text.framing import join_pairs
from keras_transformer.text.slices import JOIN_OPS, words_between
from keras_transformer.text.word_pieces import WORD_OPS, check_words, padded, word_pieces
from keras_transformer.typing import Ids, Ragged, Strings, Tensor, Tensors

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

    model_class = QuestionAnswerer
    numbers = "score"
    task = "question-answering"
    gives = "answer"
    answers: ClassVar[dict[str, str]] = {"serving_default": "answer", "ids": "start"}
    more_ops = WORD_OPS | JOIN_OPS
    tensors: ClassVar[dict[str, str]] = {
        "score": "Probability that the answer begins at its first piece and ends at its last.",
        "ids": "[CLS] question [SEP] passage [SEP], as numbers of pieces, padded.",
    }
    description = "Answers a question by words of a passage."

    def __init__(
        self, model: QuestionAnswerer, tokenizer: Any = None, max_length: int | None = None
    ) -> None:
        self._check(model, tokenizer)
        check_words(tokenizer)
        super().__init__(model, tokenizer, max_length)

    def _all_graphs(self) -> dict[str, tuple[Callable[..., Any], Any]]:
        text = strings("question", "passage")
        ids = {n: tf.TensorSpec([None, None], tf.int32, name=n) for n in ("ids", "segment_ids")}
        return {
            "serving_default": (self.answer_question, text),
            "ids": (self.find_span, ids),
            "tokenize": (self.tokenize_pair, text),
        }

    def examples(self, texts: Sequence[str]) -> dict[str, list[str]]:
        """Make inputs of `serving_default` of ordinary sentences: each is asked for its end."""
        questions = [" ".join(text.split()[-3:]) for text in texts]
        return {"question": questions, "passage": list(texts)}

    def answer_question(self, question: Strings, passage: Strings) -> Tensors:
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

        def word_at(place: Tensor) -> Tensor:
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

    def find_span(self, ids: Ids, segment_ids: Ids) -> Tensors:
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

    def tokenize_pair(self, question: Strings, passage: Strings) -> Tensors:
        """Cut questions and passages into what `ids` takes, and say whether all of them fits.

        Args:
            question: String tensor `(B,)`.
            passage: String tensor `(B,)`.

        Returns:
            Dict of `ids` and `segment_ids`, int32 `(B, S)`, and `truncated`, bool `(B,)`.
        """
        pair = self._pair(question, self.tokenizer.tokenize(passage))
        return {name: pair[name] for name in ("ids", "segment_ids", "truncated")}

    def _pair(self, question: Strings, passage_ids: Ragged) -> Tensors:
        return join_pairs(
            self.tokenizer.tokenize(question), passage_ids, self.model.config, self.max_length
        )


def _pick(rows: Tensor, places: Tensor) -> Tensor:
    """Take one number of each row: `(B, S)` and `(B,)` -> `(B,)`."""
    return tf.gather(rows, tf.expand_dims(places, 1), batch_dims=1)[:, 0]
