"""Texts, or pairs of texts, to labels."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import tensorflow as tf

from keras_transformer.errors import InputError
from keras_transformer.models.heads import SequenceClassifier
from keras_transformer.pipelines.servable import check_labels, likeliest, strings
from keras_transformer.pipelines.text_encoder import TextEncoder
from keras_transformer.text.framing import join_pairs
from keras_transformer.typing import Strings, Tensor, Tensors

SOFTMAX, SIGMOID, NUMBERS = "softmax", "sigmoid", "none"
# What logits become, by name.
SCORES = {SOFTMAX: tf.nn.softmax, SIGMOID: tf.nn.sigmoid, NUMBERS: tf.identity}


class TextClassifier(TextEncoder):
    """Text to labels, or to a number.

    Args:
        model: A `SequenceClassifier`.
        tokenizer: The tokeniser that the model was trained with.
        labels: Names of the labels, in the order of the model's logits.
        max_length: Most tokens of a text, special tokens included; the model's if None.
        scores: What logits become: "softmax", where one label is right, "sigmoid", where each may
            be, or "none", numbers as they are. If None, softmax, or sigmoid for a single label.
        pairs: Whether there is a signature `pair` for two texts, which the model was trained on.

    Raises:
        InputError: If there are not as many labels as logits, or `scores` is unknown.
    """

    model_class = SequenceClassifier
    task = "classification"
    gives = "label"
    answers: ClassVar[dict[str, str]] = {"serving_default": "label", "ids": "label"}
    tensors: ClassVar[dict[str, str]] = {
        "score": "The number of the only label.",
        "text_pair": "The second text of a pair, UTF-8.",
        "probability": "Probability of that label, or its number where labels have numbers.",
        "probabilities": "That of each label.",
    }

    def __init__(
        self,
        model: SequenceClassifier,
        tokenizer: Any = None,
        labels: Sequence[str] | None = None,
        max_length: int | None = None,
        scores: str | None = None,
        pairs: bool = False,
    ) -> None:
        self._check(model, tokenizer)
        self.labels = check_labels(labels, model)
        self.scores = scores or (SIGMOID if len(self.labels) == 1 else SOFTMAX)
        if self.scores not in SCORES:
            raise InputError(f"scores must be one of {', '.join(SCORES)}, got {scores!r}.")
        self.pairs = pairs
        super().__init__(model, tokenizer, max_length)

    def _all_graphs(self) -> dict[str, tuple[Callable[..., Any], Any]]:
        graphs = super()._all_graphs()
        if self.pairs:
            graphs["pair"] = (self.read_pair, strings("text", "text_pair"))
        return graphs

    @property
    def description(self) -> str:
        """The purpose of the model in a sentence."""
        what = "two texts" if self.pairs else "a text"
        if len(self.labels) == 1:
            return f"Gives {what} a score."
        names = ", ".join(self.labels)
        if self.scores == SIGMOID:
            return f"Says of {what} how likely each of {names} is."
        return f"Says of {what} which of {names} it is."

    def answer(self, outputs: Tensor) -> Tensors:
        """Take the likeliest label.

        Args:
            outputs: Logits `(B, C)`.

        Returns:
            Dict of `label`, string `(B,)`; `probability`, float32 `(B,)`, of that label; and
            `probabilities`, float32 `(B, C)`, of all of them in their order. A single label has its
            number in `score` as well, float32 `(B,)`; with `scores` "none" they are the logits.
        """
        label, probability, probabilities = likeliest(
            outputs, self.labels, activation=SCORES[self.scores]
        )
        found = {"label": label, "probability": probability, "probabilities": probabilities}
        return {**found, "score": probability} if len(self.labels) == 1 else found

    def read_pair(self, text: Strings, text_pair: Strings) -> Tensors:
        """Answer pairs of texts in the graph.

        Args:
            text: String tensor `(B,)`, such as questions.
            text_pair: String tensor `(B,)`, such as passages. What is too long is cut, of both
                where both are.

        Returns:
            As `answer`.
        """
        first, second = map(self.tokenizer.tokenize, (text, text_pair))
        pair = join_pairs(first, second, self.model.config, self.max_length, odd_to_longer=True)
        return self.answer(self.run_model(pair["ids"], pair["segment_ids"]))
