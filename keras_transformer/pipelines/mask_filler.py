"""Masks filled in: tokeniser and a `MaskedLanguageModel` in one graph.

Shapes: B batch, S length, M masks, K tokens for each, V vocabulary.

Reference: Devlin et al. 2019, section 3.1.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import tensorflow as tf

from keras_transformer.models.heads import MaskedLanguageModel
from keras_transformer.pipelines.text_encoder import TextEncoder
from keras_transformer.text.framing import count_tokens
from keras_transformer.text.masks import MASK_OPS, mask_name, tokenize_with_masks
from keras_transformer.typing import Ids, Strings, Tensors

BEST = 5  # tokens that are given for each mask


class MaskFiller(TextEncoder):
    """Text with masks to the likeliest tokens for each of them.

    A mask is the name of the tokeniser's mask, such as `[MASK]` or `<mask>`. Only the masked places
    are scored. Tokens are given as they are written in the vocabulary: `##es` goes on with a word,
    and `Ġhouse` has a space before it.

    Args:
        model: A `MaskedLanguageModel`.
        tokenizer: The tokeniser that the model was trained with.
        max_length: Most tokens of a text, special tokens included; the model's if None. Masks
            beyond are not filled in.

    Raises:
        InputError: If the tokeniser has no mask.

    Example:
        filler = MaskFiller(model, tokenizer)
        filler.call("serving_default", text=["Two young [MASK]."])["tokens"]
    """

    model_class = MaskedLanguageModel
    task = "masked-lm"
    gives = "tokens"
    answers: ClassVar[dict[str, str]] = {"serving_default": "text", "ids": "filled"}
    more_ops = MASK_OPS
    tensors: ClassVar[dict[str, str]] = {
        "tokens": "The likeliest tokens for each mask, the likeliest first; empty ones fill up.",
        "probabilities": "Their probabilities.",
        "ids": "Numbers of pieces: those of the text, or the likeliest for each mask.",
        "text": "Text, UTF-8; of the outputs with the likeliest tokens in the places of masks.",
    }

    def __init__(
        self, model: MaskedLanguageModel, tokenizer: Any = None, max_length: int | None = None
    ) -> None:
        self._check(model, tokenizer)
        self.mask = mask_name(tokenizer)
        super().__init__(model, tokenizer, max_length)

    @property
    def description(self) -> str:
        """The purpose of the model in a sentence."""
        return f"Says which tokens are likely in the places of a text where {self.mask} stands."

    def examples(self, texts: Sequence[str]) -> dict[str, list[str]]:
        """Make inputs of `serving_default` of ordinary sentences: a mask is put in the middle."""
        words = [text.split()[: self.max_length // 4] for text in texts]
        halves = [(some[: len(some) // 2], some[len(some) // 2 + 1 :]) for some in words]
        return {"text": [" ".join([*left, self.mask, *right]) for left, right in halves]}

    def read_text(self, text: Strings) -> Tensors:
        """Fill in masks in the graph.

        Args:
            text: String tensor `(B,)`.

        Returns:
            Dict of `tokens`, string `(B, M, 5)`, the likeliest first; `probabilities`, float32
            `(B, M, 5)`; and `text`, string `(B,)`, in which the likeliest stand in their places, as
            the tokeniser writes it. Rows with fewer masks are padded with "" and 0; M is at least
            1.
        """
        found = self.read_ids(self._pieces(text))
        names = tf.constant([*self.tokenizer.vocabulary, ""])
        ids = tf.where(found["ids"] < 0, len(self.tokenizer), found["ids"])
        return {
            "tokens": tf.gather(names, ids),
            "probabilities": found["probabilities"],
            "text": self.tokenizer.detokenize(found["filled"]),
        }

    def read_ids(self, ids: Ids) -> Tensors:
        """Fill in masks among pieces that have been cut elsewhere.

        Args:
            ids: Int32 tensor `(B, S)`, the pieces of each text without other special tokens,
                padded; a mask is the id that it has in the vocabulary.

        Returns:
            Dict of `ids`, int32 `(B, M, 5)`, the likeliest first; `probabilities`, float32
            `(B, M, 5)`; and `filled`, int32 `(B, S)`, the pieces with the likeliest in their
            places. Rows with fewer masks are padded with -1 and 0; M is at least 1.
        """
        rows = self.framed(ids)
        # Of what is in a row only, and not of pieces beyond the greatest length.
        masked = tf.equal(rows, self.tokenizer.mask_id)
        counts = tf.reduce_sum(tf.cast(masked, tf.int32), axis=1)
        most = tf.maximum(tf.reduce_max(tf.concat([counts, [1]], 0)), 1)
        found = tf.cast(tf.where(masked), tf.int32)  # (K, 2), row and place
        order = tf.cumsum(tf.cast(masked, tf.int32), axis=1) - 1
        slots = tf.stack([found[:, 0], tf.gather_nd(order, found)], axis=1)
        places = tf.scatter_nd(slots, found[:, 1], tf.stack([tf.shape(rows)[0], most]))
        logits = self.run_model(rows, places=places)  # (B, M, V)
        probabilities = tf.nn.softmax(tf.cast(logits, tf.float32))
        # A table may be larger than the vocabulary.
        known = len(self.tokenizer)
        best, tokens = tf.math.top_k(probabilities[:, :, :known], min(BEST, known))
        real = tf.expand_dims(tf.range(most) < tf.expand_dims(counts, 1), 2)
        tokens = tf.where(real, tf.cast(tokens, tf.int32), -1)
        likeliest = tf.scatter_nd(found, tf.gather_nd(tokens[:, :, 0], slots), tf.shape(rows))
        filled = tf.where(masked, likeliest, rows)[:, 1:-1]
        lengths = count_tokens(rows, self.model.config.padding_id) - 2
        text = tf.range(tf.shape(filled)[1]) < tf.expand_dims(lengths, 1)
        return {
            "ids": tokens,
            "probabilities": tf.where(real, best, 0.0),
            "filled": tf.where(text, filled, self.model.config.padding_id),
        }

    def _pieces(self, text: Strings) -> Ids:
        padding = self.model.config.padding_id
        return tokenize_with_masks(self.tokenizer, text).to_tensor(padding, shape=[None, None])
