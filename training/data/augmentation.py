"""Changing the input so that a model learns to do with less of it."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_transformer._tensorflow import tf
from keras_transformer.models.config import BEGIN_ID, END_ID, PADDING_ID, UNKNOWN_ID
from keras_transformer.text import WordPieceTokenizer
from keras_transformer.text.learner import CONTINUATION, SPECIAL_TOKENS
from keras_transformer.typing import Ids, Ragged, Strings

VOCABULARIES = 16  # thinned ones that training text is cut with in turns


def token_dropout(
    ids: Ids,
    rate: float,
    seed: Any,
    *,
    unknown_id: int = UNKNOWN_ID,
    special_ids: Sequence[int] = (PADDING_ID, BEGIN_ID, END_ID),
) -> Ids:
    """Replace tokens by the unknown token, each with the same probability (word dropout).

    The model can no longer rely on a single word and looks at the others, too. Special tokens stay.

    Args:
        ids: Integer tensor `(B, S)`.
        rate: The probability.
        seed: Two integers; the same seed gives the same result.
        unknown_id: What tokens are replaced by.
        special_ids: Tokens that stay: padding, begin and end.

    Returns:
        Tensor like `ids`.

    Reference: Bowman et al. 2016, "Generating Sentences from a Continuous Space", on the decoder's
    input; Gal & Ghahramani 2016, "A Theoretically Grounded Application of Dropout in Recurrent
    Neural Networks".
    """
    real = tf.reduce_all([tf.not_equal(ids, i) for i in special_ids], axis=0)
    chosen = tf.random.stateless_uniform(tf.shape(ids), tf.stack(seed)) < rate
    return tf.where(tf.logical_and(real, chosen), tf.cast(unknown_id, ids.dtype), ids)


class PieceDropout:
    """Cuts text into other pieces each time, so that a model sees rare words in parts of their own.

    There are a few vocabularies, each of which lacks some of the pieces, all but the single
    characters; the longest match then finds shorter pieces. One of them is drawn for each group of
    lines.

    Args:
        tokenizer: The tokeniser whose ids are given.
        rate: Probability that a vocabulary lacks a piece.
        seed: Decides which pieces are missing.

    Reference: Hiraoka 2022, "MaxMatch-Dropout: Subword Regularization for WordPiece", which draws
        for each match; Provilkov et al. 2020, "BPE-Dropout".
    """

    def __init__(self, tokenizer: WordPieceTokenizer, rate: float, seed: int) -> None:
        rng = np.random.default_rng(seed)
        vocabulary = tokenizer.vocabulary
        longer = [
            piece
            for piece in vocabulary
            if len(piece.removeprefix(CONTINUATION)) > 1 and piece not in SPECIAL_TOKENS
        ]
        self._tokenizer = tokenizer
        self._models = tf.ragged.stack(
            [
                tokenizer.model_without({piece for piece in longer if rng.random() < rate})
                for _ in range(VOCABULARIES)
            ]
        )

    def tokenize(self, text: Strings, seed: Any) -> Ragged:
        """Cut text with one of the vocabularies.

        Args:
            text: String tensor `(B,)`.
            seed: Two integers; the same seed gives the same pieces.

        Returns:
            Ragged int32 tensor `(B, (S))`.
        """
        drawn = tf.random.stateless_uniform([], tf.stack(seed), 0, VOCABULARIES, tf.int32)
        return self._tokenizer.tokenize(text, self._models[drawn])
