"""Text to text: tokeniser, model and search in one graph.

`Translator` is what a training run samples from, what `translate` runs on a run folder, and what
the SavedModel and the `.tflite` are made of: there is one path from text to text.
"""

from collections.abc import Sequence

import numpy as np

from keras_transformer import _backend  # noqa: F401  (first: it keeps the start-up quiet)

# isort: split

import tensorflow as tf

from keras_transformer.decoding import generate
from keras_transformer.models import Transformer
from keras_transformer.models.config import END_ID, PADDING_ID
from keras_transformer.text import WordPieceTokenizer
from keras_transformer.translation import decode


class Translator:
    """A Transformer that takes and gives text.

    Args:
        model: A `Transformer`.
        tokenizer: The tokeniser that the model was trained with.

    Raises:
        ValueError: If the tokeniser has more or fewer pieces than the model.

    Example:
        translator = Translator(model, WordPieceTokenizer.load("run/vocab.txt"))
        translate(translator, ["Two young men."]).texts
    """

    def __init__(self, model: Transformer, tokenizer: WordPieceTokenizer):
        if len(tokenizer) != model.config.vocabulary_size:
            raise ValueError(
                f"The vocabulary has {len(tokenizer)} pieces, but the model was made for "
                f"{model.config.vocabulary_size}. They are not from the same run."
            )
        self.model = model
        self.tokenizer = tokenizer
        self.max_length = model.config.max_length
        text = tf.TensorSpec([None], tf.string, name="text")
        self._translate_text = tf.function(self.translate_text, input_signature=[text])
        self._tokenize_text = tf.function(self.tokenize_text, input_signature=[text])

    def translate_text(self, text):
        """Translate in the graph.

        Args:
            text: String tensor `(B,)`. What is beyond the model's `max_length` is cut.

        Returns:
            Dict of `text`, strings `(B,)`, and `score`, float32 `(B,)`: the log-probability of
            the output. An empty text gives an empty text.
        """
        ids = self.tokenizer.tokenize(text).to_tensor(shape=[None, None])
        outputs = self.translate_ids(ids)
        return {"text": self.tokenizer.detokenize(outputs["ids"]), "score": outputs["score"]}

    def translate_ids(self, ids):
        """Translate pieces that have been cut elsewhere.

        Args:
            ids: Int32 tensor `(B, S)`, the pieces of each text without begin or end token, padded
                with 0. What is beyond the model's `max_length` is cut.

        Returns:
            Dict of `ids`, int32 `(B, T)`, ended by the end token and padded with 0, and `score`,
            float32 `(B,)`.
        """
        target, score = generate(self.model, append_end(ids, self.max_length))
        return {"ids": target, "score": score}

    def tokenize_text(self, text):
        """Show in the graph how text is cut into pieces, and whether all of it fits the model.

        Args:
            text: String tensor `(B,)`.

        Returns:
            Dict of `ids`, int32 `(B, S)`, padded with 0, and `truncated`, bool `(B,)`: whether
            `translate_text` would leave pieces out.
        """
        ids = self.tokenizer.tokenize(text).to_tensor(shape=[None, None])
        return {"ids": ids, "truncated": _count(ids) >= self.max_length}

    def run(self, texts: Sequence[str]) -> tuple[list[str], list[float]]:
        """Translate one batch; see `translate` for many."""
        outputs = self._translate_text(tf.constant(list(texts), dtype=tf.string))
        return decode(outputs["text"].numpy()), outputs["score"].numpy().tolist()

    def tokenize(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Cut texts into ids `(B, S)`, and say which are too long for the model `(B,)`."""
        outputs = self._tokenize_text(tf.constant(list(texts), dtype=tf.string))
        return outputs["ids"].numpy(), outputs["truncated"].numpy()


def append_end(ids, max_length):
    """End each row with the end token, cutting rows that would be longer than `max_length`.

    Args:
        ids: Int32 tensor `(B, S)`, padded with 0.
        max_length: Greatest length of a row, the end token included.

    Returns:
        Int32 tensor `(B, min(S + 1, max_length))`.
    """
    width = tf.minimum(tf.shape(ids)[1], max_length - 1)
    ids = tf.slice(ids, [0, 0], tf.stack([-1, width]))
    ids = tf.pad(ids, [[0, 0], [0, 1]], constant_values=PADDING_ID)
    at_end = tf.equal(
        tf.expand_dims(tf.range(width + 1), 0), tf.expand_dims(_count(ids), 1)
    )  # (B, S)
    return tf.where(at_end, END_ID, ids)


def _count(ids):
    return tf.reduce_sum(tf.cast(tf.not_equal(ids, PADDING_ID), tf.int32), axis=1)
