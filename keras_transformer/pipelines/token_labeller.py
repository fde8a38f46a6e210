"""Text to a label a word: tokeniser and a `TokenClassifier` in one graph.

Shapes: B batch, S length in pieces, W words, C labels.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import tensorflow as tf

from keras_transformer.models.heads import TokenClassifier
from keras_transformer.pipelines.servable import check_labels, likeliest
from keras_transformer.pipelines.text_encoder import TextEncoder
from keras_transformer.text.word_pieces import (
    WORD_OPS,
    check_words,
    padded,
    word_pieces,
    word_strings,
)
from keras_transformer.typing import Ids, Strings, Tensor, Tensors


class TokenLabeller(TextEncoder):
    """Text to a label for each of its words, which is that of the word's first piece.

    A word is what lies between ASCII white space; punctuation that is to have a label of its own
    has to stand apart. A word that the model did not see, because it is beyond the greatest length
    or the tokeniser leaves all of it out, has the label "" with the probability 0.

    Args:
        model: A `TokenClassifier`.
        tokenizer: The tokeniser that the model was trained with.
        labels: Names of the labels, in the order of the model's logits.
        max_length: Most tokens of a text, special tokens included; the model's if None.

    Raises:
        InputError: If there are not as many labels as logits, or pieces may span several words.

    Example:
        labeller = TokenLabeller(model, tokenizer, ["NOUN", "VERB"])
        labeller.call("serving_default", text=["Men run ."])["labels"]
    """

    model_class = TokenClassifier
    task = "token-classification"
    gives = "labels"
    answers: ClassVar[dict[str, str]] = {"serving_default": "labels", "ids": "labels"}
    more_ops = WORD_OPS

    def __init__(
        self,
        model: TokenClassifier,
        tokenizer: Any = None,
        labels: Sequence[str] | None = None,
        max_length: int | None = None,
    ) -> None:
        self._check(model, tokenizer)
        self.labels = check_labels(labels, model)
        check_words(tokenizer)
        super().__init__(model, tokenizer, max_length)

    @property
    def description(self) -> str:
        """The purpose of the model in a sentence."""
        return f"Says of each word of a text which of {', '.join(self.labels)} it is."

    def read_text(self, text: Strings) -> Tensors:
        """Label the words of texts in the graph.

        Args:
            text: String tensor `(B,)`.

        Returns:
            Dict of `words`, string `(B, W)`; `labels`, string `(B, W)`; and `probabilities`,
            float32 `(B, W)`, of these labels. Rows with fewer words are padded with "" and 0.
        """
        pieces = word_pieces(self.tokenizer, text)
        places, real = padded(pieces.places), padded(pieces.counts) > 0
        ids = padded(pieces.ids, self.model.config.padding_id)
        return {"words": word_strings(text, pieces), **self._labels_at(ids, places, real)}

    def read_ids(self, ids: Ids) -> Tensors:
        """Label pieces that have been cut elsewhere; the label of a word is that of its first.

        Args:
            ids: Int32 tensor `(B, S)`, the pieces of each text without special tokens, padded.

        Returns:
            Dict of `labels`, string `(B, S)`, and `probabilities`, float32 `(B, S)`.
        """
        real = tf.not_equal(ids, self.model.config.padding_id)
        places = tf.zeros_like(ids) + tf.expand_dims(tf.range(tf.shape(ids)[1]), 0)
        return self._labels_at(ids, places, real)

    def _labels_at(self, ids: Ids, places: Tensor, real: Tensor) -> Tensors:
        """Label pieces at places `(B, W)` where something is, bool `(B, W)`."""
        seen = tf.logical_and(real, places < self.max_length - 2)
        places = tf.where(seen, places + 1, tf.zeros_like(places))  # behind [CLS]
        logits = tf.gather(self.run_model(self.framed(ids)), places, batch_dims=1)
        labels, probabilities, _ = likeliest(logits, self.labels, seen)
        return {"labels": labels, "probabilities": probabilities}
