"""Metrics over real tokens: each counts every token of a data set once, however it is batched.

Sample weights make each the weighted sum over the weighted count.
"""

from typing import Any

from keras_transformer._backend import keras, ops
from keras_transformer.training.losses import label_weights, token_cross_entropy
from keras_transformer.typing import Config, Ids, Logits, Tensor


class _TokenMean(keras.metrics.Metric):
    """The mean over all real tokens seen since the last reset of what `sum_and_count` counts."""

    def __init__(self, name: str, ignore_id: int = 0, **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.ignore_id = ignore_id
        self.total = self.add_weight(name="total", initializer="zeros", dtype="float32")
        self.count = self.add_weight(name="count", initializer="zeros", dtype="float32")

    def update_state(
        self, y_true: Ids, y_pred: Logits, sample_weight: Tensor | None = None
    ) -> None:
        """Add a batch.

        Args:
            y_true: Integer labels `(B, T)`.
            y_pred: Float logits `(B, T, V)`.
            sample_weight: How much each label counts, `(B, T)` or `(B,)`; None for 1.
        """
        total, count = self.sum_and_count(ops.cast(y_true, "int32"), y_pred, sample_weight)
        self.total.assign_add(total)
        self.count.assign_add(count)

    def result(self) -> Tensor:
        """Return the mean; 0 if no token was seen."""
        return self.total / ops.where(self.count > 0, self.count, 1.0)

    def get_config(self) -> Config:
        """Return the constructor's arguments."""
        return {**super().get_config(), "ignore_id": self.ignore_id}


@keras.saving.register_keras_serializable("keras_transformer")
class TokenCrossEntropy(_TokenMean):
    """Mean cross-entropy a token in nats, smoothed as the loss is.

    Args:
        label_smoothing: The share of probability that is spread over the vocabulary.
        ignore_id: Label of padding.
    """

    def __init__(self, label_smoothing: float = 0.0, name: str = "loss", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.label_smoothing = label_smoothing

    def sum_and_count(
        self, labels: Ids, logits: Logits, sample_weight: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Sum the cross-entropy."""
        return token_cross_entropy(
            labels, logits, self.label_smoothing, self.ignore_id, sample_weight
        )

    def get_config(self) -> Config:
        """Return the constructor's arguments."""
        return {**super().get_config(), "label_smoothing": self.label_smoothing}


@keras.saving.register_keras_serializable("keras_transformer")
class Perplexity(_TokenMean):
    """exp of the mean cross-entropy a token, always without label smoothing.

    A model that knows nothing has perplexity V.

    Args:
        ignore_id: Label of padding.
    """

    def __init__(self, name: str = "perplexity", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)

    def sum_and_count(
        self, labels: Ids, logits: Logits, sample_weight: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Sum the cross-entropy."""
        return token_cross_entropy(labels, logits, 0.0, self.ignore_id, sample_weight)

    def result(self) -> Tensor:
        """Return the perplexity."""
        return ops.exp(super().result())


@keras.saving.register_keras_serializable("keras_transformer")
class TokenAccuracy(_TokenMean):
    """Share of real tokens whose label has the highest logit.

    Args:
        ignore_id: Label of padding.
    """

    def __init__(self, name: str = "token_accuracy", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)

    def sum_and_count(
        self, labels: Ids, logits: Logits, sample_weight: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Count the hits."""
        weights = label_weights(labels, self.ignore_id, sample_weight)
        hit = ops.equal(ops.cast(ops.argmax(logits, axis=-1), "int32"), labels)
        return ops.sum(ops.cast(hit, "float32") * weights), ops.sum(weights)


def token_metrics(label_smoothing: float = 0.0, ignore_id: int = 0) -> list[keras.metrics.Metric]:
    """Make what is measured where each token is predicted: loss, perplexity and token accuracy.

    Args:
        label_smoothing: Of the loss. Perplexity is without.
        ignore_id: Label of padding.
    """
    return [
        TokenCrossEntropy(label_smoothing, ignore_id=ignore_id),
        Perplexity(ignore_id=ignore_id),
        TokenAccuracy(ignore_id=ignore_id),
    ]
