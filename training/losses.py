"""The loss: label-smoothed cross-entropy over real tokens."""

import keras
from keras import ops


def token_cross_entropy(labels, logits, label_smoothing=0.0, ignore_id=0):
    """Sum the cross-entropy over real tokens, and count them.

    With smoothing e the true token gets probability 1 - e + e / V and every other one e / V, which
    sums to 1. The sum and the count are returned apart so that batches, replicas and accumulated
    micro-batches can be normalised by the number of tokens in all of them.

    Args:
        labels: Integer tensor `(B, T)`.
        logits: Float tensor `(B, T, V)` of any precision; the sum is computed in float32.
        label_smoothing: The share e of probability that is spread over the vocabulary.
        ignore_id: Label of padding, which counts for nothing.

    Returns:
        Tuple of the summed loss and the number of real tokens, float32 scalars.

    Reference: Szegedy et al. 2016, section 7; Vaswani et al. 2017, section 5.4.
    """
    logits = ops.cast(logits, "float32")
    losses = ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)  # (B, T)
    if label_smoothing:
        # -sum(q log p) with q smoothed, less -log p of the true token, is e times the distance of
        # the true token's logit from the mean: no (B, T, V) tensor of soft labels is needed.
        true_logits = ops.take_along_axis(logits, ops.expand_dims(labels, -1), axis=-1)
        distance = ops.squeeze(true_logits, -1) - ops.mean(logits, axis=-1)
        losses = losses + label_smoothing * distance
    real = ops.cast(ops.not_equal(labels, ignore_id), "float32")
    return ops.sum(losses * real), ops.sum(real)


@keras.saving.register_keras_serializable("keras_transformer")
class CrossEntropy(keras.losses.Loss):
    """Mean label-smoothed cross-entropy a real token, for `model.compile(loss=...)`.

    Padding is known by its label; sample weights are not meant for it and would scale the mean.

    Args:
        label_smoothing: The share of probability that is spread over the vocabulary.
        ignore_id: Label of padding, which counts for nothing.

    Raises:
        ValueError: If `label_smoothing` is not in [0, 1).
    """

    def __init__(self, label_smoothing=0.0, ignore_id=0, name="cross_entropy", **kwargs):
        super().__init__(name=name, **kwargs)
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing must be in [0, 1), got {label_smoothing}.")
        self.label_smoothing = label_smoothing
        self.ignore_id = ignore_id

    def call(self, y_true, y_pred):
        """Return the mean over the batch's real tokens; 0 if there are none."""
        total, count = token_cross_entropy(
            ops.cast(y_true, "int32"), y_pred, self.label_smoothing, self.ignore_id
        )
        return total / ops.maximum(count, 1.0)

    def get_config(self):
        """Return the constructor's arguments."""
        return {
            "name": self.name,
            "label_smoothing": self.label_smoothing,
            "ignore_id": self.ignore_id,
        }
