"""The losses: label-smoothed cross-entropy over real tokens, and that of yes or no for each."""

from collections.abc import Callable
from typing import Any

from keras_transformer._backend import keras, ops
from keras_transformer.typing import Config, Ids, Logits, Mask, Tensor

# What PyTorch and Hugging Face label what counts for nothing with; here it does so too.
IGNORED_ELSEWHERE = -100


def real_labels(labels: Ids, ignore_id: int) -> Mask:
    """Return which labels count: neither `ignore_id` nor -100, of any integer type and shape."""
    real = ops.not_equal(labels, ignore_id)
    return ops.logical_and(real, ops.not_equal(labels, IGNORED_ELSEWHERE))


def label_weights(labels: Ids, ignore_id: int, sample_weight: Tensor | None = None) -> Tensor:
    """Return how much each label counts.

    Args:
        labels: Integer tensor `(B, T)`, or of any other shape.
        ignore_id: Label of what counts for nothing, beside -100.
        sample_weight: Float tensor of the shape of the labels, or of their first axes, such as
            `(B,)`; None for 1.

    Returns:
        Float32 tensor of the shape of the labels; 0 where one counts for nothing.
    """
    weights = ops.cast(real_labels(labels, ignore_id), "float32")
    if sample_weight is None:
        return weights
    given = ops.cast(sample_weight, "float32")
    for _ in range(len(labels.shape) - len(given.shape)):
        given = ops.expand_dims(given, -1)
    return weights * given


def token_cross_entropy(
    labels: Ids,
    logits: Logits,
    label_smoothing: float = 0.0,
    ignore_id: int = 0,
    sample_weight: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Sum the cross-entropy over real tokens, and count them.

    With smoothing e the true token gets probability 1 - e + e / V and every other one e / V, which
    sums to 1. The sum and the count are returned apart so that batches, replicas and accumulated
    micro-batches can be normalised by the number of tokens in all of them.

    Args:
        labels: Integer tensor `(B, T)`, or of any other shape.
        logits: Float tensor `(B, T, V)`, one axis more than labels have, of any precision; the sum
            is computed in float32.
        label_smoothing: The share e of probability that is spread over the vocabulary.
        ignore_id: Label of padding, which counts for nothing; negative where 0 is a label. -100
            counts for nothing as well.
        sample_weight: How much each label counts; see `label_weights`.

    Returns:
        Tuple of the summed loss and the number of real tokens, float32 scalars; with weights the
        weighted sum, and the sum of the weights of real tokens. The sum is no number if a label is
        not in [0, V).

    Reference: Szegedy et al. 2016, section 7; Vaswani et al. 2017, section 5.4.
    """
    logits = ops.cast(logits, "float32")
    weights = label_weights(labels, ignore_id, sample_weight)
    labels = ops.where(real_labels(labels, ignore_id), labels, ops.zeros_like(labels))
    losses = _smoothed_cross_entropy(logits, labels, label_smoothing)  # (B, T)
    # XLA reads another place than one outside of the table, and says nothing.
    inside = ops.logical_and(labels >= 0, labels < ops.shape(logits)[-1])
    losses = ops.where(inside, losses, float("nan"))
    return ops.sum(losses * weights), ops.sum(weights)


def _smoothed_cross_entropy(logits: Logits, labels: Ids, smoothing: float) -> Tensor:
    """Compute log(sum(exp(z))) - (1 - e) z_label - e mean(z), and its gradient in closed form.

    The logits are by far the largest tensor of a step. The gradient, softmax(z) less the soft
    label, is made in the place of softmax(z), so that automatic differentiation's chain of copies
    of that size shrinks to one beside the logits. The softmax is one kernel, where exp(z - max) and
    its sum read and write the whole of it three times.
    """

    @ops.custom_gradient
    def compute(logits: Logits) -> tuple[Tensor, Callable[[Tensor], Logits]]:
        probabilities = ops.softmax(logits)  # (B, T, V)
        true_logits = ops.take_along_axis(logits, ops.expand_dims(labels, -1), axis=-1)
        # The likeliest token's probability, at least 1 / V, is exp(z) over the sum.
        log_total = ops.max(logits, -1) - ops.log(ops.max(probabilities, -1))
        losses = log_total - (1 - smoothing) * ops.squeeze(true_logits, -1)
        if smoothing:  # 0 times the mean is no number where logits are the lowest there are
            losses = losses - smoothing * ops.mean(logits, axis=-1)

        def grad(upstream: Tensor) -> Logits:  # (B, T)
            size = ops.shape(logits)[-1]
            flat = ops.reshape(upstream, (-1,))
            # Without smoothing the number of logits may be any, such as the length of a text.
            gradient = probabilities - smoothing / size if smoothing else probabilities
            gradient = gradient * ops.expand_dims(upstream, -1)
            rows = ops.reshape(gradient, (-1, size))
            true = ops.stack(
                [ops.arange(ops.shape(rows)[0], dtype="int32"), ops.reshape(labels, (-1,))], axis=1
            )
            rows = ops.scatter_update(rows, true, flat * (smoothing - 1), "add")
            return ops.reshape(rows, ops.shape(logits))

        return losses, grad

    return compute(logits)


class CountingLoss(keras.losses.Loss):
    """A loss that is a sum and a count, and their quotient in any Keras model.

    Subclasses write `sum_and_count`, and set `ignore_id`.
    """

    ignore_id: int

    def __call__(self, y_true: Ids, y_pred: Logits, sample_weight: Tensor | None = None) -> Tensor:
        """Return the mean over real labels, a scalar: the weighted sum over the weighted count.

        Where Keras has a mask for the outputs, what it hides counts for nothing.
        """
        mask = getattr(y_pred, "_keras_mask", None)
        if mask is not None:
            mask = ops.cast(mask, "float32")
            sample_weight = mask if sample_weight is None else _weighted(mask, sample_weight)
        # As a part of the labels: Keras would weight the mean, and not what it is the mean of.
        labels = y_true if sample_weight is None else (y_true, sample_weight)
        return super().__call__(labels, y_pred)

    def call(self, y_true: Ids | tuple[Ids, Tensor], y_pred: Logits) -> Tensor:
        """Return the mean over the batch's real labels, `(1,)`; 0 if there are none."""
        labels, weights = y_true if isinstance(y_true, (tuple, list)) else (y_true, None)
        total, count = self.sum_and_count(labels, y_pred, weights)
        # With an axis, because Keras divides no scalar by the number of replicas.
        return ops.reshape(total / ops.where(count > 0, count, 1.0), (1,))

    def sum_and_count(
        self, y_true: Ids, y_pred: Logits, sample_weight: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the summed loss and how much counts, float32 scalars."""
        raise NotImplementedError

    def count(self, y_true: Ids, sample_weight: Tensor | None = None) -> Tensor:
        """Return the number of real labels, or the sum of their weights, a float32 scalar."""
        return ops.sum(label_weights(y_true, self.ignore_id, sample_weight))


def _weighted(mask: Tensor, sample_weight: Tensor) -> Tensor:
    """Multiply a mask `(B, T)` and weights `(B,)` or `(B, T)`."""
    weights = ops.cast(sample_weight, "float32")
    for _ in range(len(mask.shape) - len(weights.shape)):
        weights = ops.expand_dims(weights, -1)
    return mask * weights


@keras.saving.register_keras_serializable("keras_transformer")
class CrossEntropy(CountingLoss):
    """Mean label-smoothed cross-entropy a real token, for `model.compile(loss=...)`.

    Padding is known by its label. Sample weights make it the weighted sum over the weighted count.

    Args:
        label_smoothing: The share of probability that is spread over the vocabulary.
        ignore_id: Label of padding, which counts for nothing; negative, such as -1, for labels
            of which 0 is one. Labels of one a row, `(B,)`, have logits `(B, V)`. -100 counts for
            nothing as well, as it does in PyTorch.

    Raises:
        ValueError: If `label_smoothing` is not in [0, 1).
    """

    def __init__(
        self,
        label_smoothing: float = 0.0,
        ignore_id: int = 0,
        name: str = "cross_entropy",
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing must be in [0, 1), got {label_smoothing}.")
        self.label_smoothing = label_smoothing
        self.ignore_id = ignore_id

    def sum_and_count(
        self, y_true: Ids, y_pred: Logits, sample_weight: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the summed loss and the number of real tokens, float32 scalars."""
        labels = ops.cast(y_true, "int32")
        return token_cross_entropy(
            labels, y_pred, self.label_smoothing, self.ignore_id, sample_weight
        )

    def get_config(self) -> Config:
        """Return the constructor's arguments."""
        return {
            "name": self.name,
            "label_smoothing": self.label_smoothing,
            "ignore_id": self.ignore_id,
        }


@keras.saving.register_keras_serializable("keras_transformer")
class BinaryCrossEntropy(CountingLoss):
    """Mean cross-entropy of yes or no a real token: ELECTRA's loss, for `model.compile(loss=...)`.

    Labels are integers `(B, S)`, 1 for yes and 0 for no, as `replace_tokens` makes them; logits are
    floats `(B, S)` of any precision, and the sum is computed in float32.

    Args:
        ignore_id: Label of what counts for nothing, such as padding, beside -100.

    Reference: Clark et al. 2020, "ELECTRA", section 2.
    """

    def __init__(
        self, ignore_id: int = -1, name: str = "binary_cross_entropy", **kwargs: Any
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.ignore_id = ignore_id

    def sum_and_count(
        self, y_true: Ids, y_pred: Tensor, sample_weight: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the summed loss and the number of real tokens, float32 scalars."""
        logits = ops.cast(y_pred, "float32")
        weights = label_weights(y_true, self.ignore_id, sample_weight)
        losses = ops.softplus(logits) - logits * ops.cast(y_true, "float32")
        return ops.sum(losses * weights), ops.sum(weights)

    def get_config(self) -> Config:
        """Return the constructor's arguments."""
        return {"name": self.name, "ignore_id": self.ignore_id}
