"""Text to vectors and to labels: tokeniser and an encoder of BERT's kind in one graph.

Shapes: B batch, S length, D width, C labels.
"""

from keras_transformer import _backend  # noqa: F401  (first: it keeps the start-up quiet)

# isort: split

import tensorflow as tf

from keras_transformer.errors import InputError
from keras_transformer.servable import Servable, count_tokens, cut_and_end, strings


class TextEncoder(Servable):
    """An encoder that takes text: [CLS] pieces [SEP], what is too long is cut.

    Args:
        model: A model of `kt.models.heads`.
        tokenizer: The tokeniser that the model was trained with.
        max_length: Most tokens of a text, special tokens included; the model's if None.

    Raises:
        ValueError: If the tokeniser has more pieces than the model.
    """

    def __init__(self, model, tokenizer, max_length=None):
        if len(tokenizer) > model.config.vocabulary_size:
            raise ValueError(
                f"The vocabulary has {len(tokenizer)} pieces, but the model was made for "
                f"{model.config.vocabulary_size}. They are not from the same run."
            )
        self.model = model
        self.tokenizer = tokenizer
        self.max_length = min(max_length or model.config.max_length, model.config.max_length)
        super().__init__()

    def _all_graphs(self):
        ids = tf.TensorSpec([None, None], tf.int32, name="ids")
        return {
            "serving_default": (self.read_text, strings("text")),
            "ids": (self.read_ids, {"ids": ids}),
            "tokenize": (self.tokenize_text, strings("text")),
        }

    def answer(self, outputs):
        """Turn what the model gives into what the signatures give, in the graph."""
        raise NotImplementedError

    def read_text(self, text):
        """Answer texts in the graph.

        Args:
            text: String tensor `(B,)`. What is beyond the greatest length is cut.

        Returns:
            As `answer`.
        """
        return self.read_ids(self._pieces(text))

    def read_ids(self, ids):
        """Answer pieces that have been cut elsewhere.

        Args:
            ids: Int32 tensor `(B, S)`, the pieces of each text without special tokens, padded.

        Returns:
            As `answer`.
        """
        config = self.model.config
        ids = cut_and_end(ids, self.max_length, config.end_id, config.padding_id, config.begin_id)
        inputs = {"token_ids": ids}
        if config.num_segments > 1:
            inputs["segment_ids"] = tf.zeros_like(ids)
        return self.answer(self.model(inputs, training=False))

    def tokenize_text(self, text):
        """Show in the graph how text is cut into pieces, and whether all of it fits the model.

        Args:
            text: String tensor `(B,)`.

        Returns:
            Dict of `ids`, int32 `(B, S)`, padded, without special tokens, and `truncated`, bool
            `(B,)`: whether pieces would be left out.
        """
        ids = self._pieces(text)
        count = count_tokens(ids, self.model.config.padding_id)
        return {"ids": ids, "truncated": count > self.max_length - 2}

    def _pieces(self, text):
        padding = self.model.config.padding_id
        return self.tokenizer.tokenize(text).to_tensor(padding, shape=[None, None])


class SentenceEmbedder(TextEncoder):
    """Text to one vector.

    Args:
        model: A `SentenceEncoder`.
        tokenizer: The tokeniser that the model was trained with.

    Example:
        embedder = SentenceEmbedder(model, tokenizer)
        embedder.call("serving_default", text=["Two young men."])["embedding"]
    """

    def answer(self, outputs):
        """Name the vector.

        Args:
            outputs: Float32 tensor `(B, D)`.

        Returns:
            Dict of `embedding`, float32 `(B, D)`.
        """
        return {"embedding": outputs}


class TextClassifier(TextEncoder):
    """Text to one of C labels.

    Args:
        model: A `SequenceClassifier`.
        tokenizer: The tokeniser that the model was trained with.
        labels: Names of the labels, in the order of the model's logits.

    Raises:
        InputError: If there are not as many labels as logits.
    """

    def __init__(self, model, tokenizer, labels, max_length=None):
        self.labels = [str(label) for label in labels]
        if len(self.labels) != model.output.shape[-1]:
            raise InputError(
                f"The model has {model.output.shape[-1]} labels, but {len(self.labels)} are named."
            )
        super().__init__(model, tokenizer, max_length)

    def answer(self, outputs):
        """Take the likeliest label.

        Args:
            outputs: Logits `(B, C)`.

        Returns:
            Dict of `label`, string `(B,)`; `probability`, float32 `(B,)`, of that label; and
            `probabilities`, float32 `(B, C)`, of all of them in their order.
        """
        probabilities = tf.nn.softmax(tf.cast(outputs, tf.float32))
        best = tf.argmax(probabilities, axis=-1, output_type=tf.int32)
        return {
            "label": tf.gather(tf.constant(self.labels), best),
            "probability": tf.reduce_max(probabilities, axis=-1),
            "probabilities": probabilities,
        }
