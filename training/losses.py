"""The losses: label-smoothed cross-entropy over real tokens, and that of yes or no for each."""

import keras
from keras import ops


def token_cross_entropy(labels, logits, label_smoothing=0.0, ignore_id=0):
    """Sum the cross-entropy over real tokens, and count them.

    With smoothing e the true token gets probability 1 - e + e / V and every other one e / V, which
    sums to 1. The sum and the count are returned apart so that batches, replicas and accumulated
    micro-batches can be normalised by the number of tokens in all of them.

    Args:
        labels: Integer tensor `(B, T)`, or of any other shape.
        logits: Float tensor `(B, T, V)`, one axis more than labels have, of any precision; the sum
            is computed in float32.
        label_smoothing: The share e of probability that is spread over the vocabulary.
        ignore_id: Label of padding, which counts for nothing; negative where 0 is a label.

    Returns:
        Tuple of the summed loss and the number of real tokens, float32 scalars.

    Reference: Szegedy et al. 2016, section 7; Vaswani et al. 2017, section 5.4.
    """
    logits = ops.cast(logits, "float32")
    real = ops.not_equal(labels, ignore_id)
    if ignore_id < 0:  # it is no place in the vocabulary
        labels = ops.where(real, labels, 0)
    losses = _smoothed_cross_entropy(logits, labels, label_smoothing)  # (B, T)
    real = ops.cast(real, "float32")
    return ops.sum(losses * real), ops.sum(real)


def _smoothed_cross_entropy(logits, labels, smoothing):
    """Compute log(sum(exp(z))) - (1 - e) z_label - e mean(z), and its gradient in closed form.

    The logits are by far the largest tensor of a step. The gradient, softmax(z) less the soft
    label, is made in the place of softmax(z), so that automatic differentiation's chain of copies
    of that size shrinks to one beside the logits. The softmax is one kernel, where exp(z - max) and
    its sum read and write the whole of it three times.
    """

    @ops.custom_gradient
    def compute(logits):
        probabilities = ops.softmax(logits)  # (B, T, V)
        true_logits = ops.take_along_axis(logits, ops.expand_dims(labels, -1), axis=-1)
        # The likeliest token's probability, at least 1 / V, is exp(z) over the sum.
        log_total = ops.max(logits, -1) - ops.log(ops.max(probabilities, -1))
        losses = log_total - (1 - smoothing) * ops.squeeze(true_logits, -1)
        if smoothing:  # 0 times the mean is no number where logits are the lowest there are
            losses = losses - smoothing * ops.mean(logits, axis=-1)

        def grad(upstream):  # (B, T)
            size = ops.shape(logits)[-1]
            flat = ops.reshape(upstream, (-1,))
            # Without smoothing the number of logits may be any, such as the length of a text.
            gradient = probabilities - smoothing / size if smoothing else probabilities
            gradient = gradient * ops.expand_dims(upstream, -1)
            rows = ops.reshape(gradient, (-1, size))
            true = ops.stack([ops.arange(ops.shape(rows)[0]), ops.reshape(labels, (-1,))], axis=1)
            rows = ops.scatter_update(rows, true, flat * (smoothing - 1), "add")
            return ops.reshape(rows, ops.shape(logits))

        return losses, grad

    return compute(logits)


def _mean(total, count):
    # With an axis, because Keras's own step divides no scalar by the number of replicas.
    return ops.reshape(total / ops.maximum(count, 1.0), (1,))


@keras.saving.register_keras_serializable("keras_transformer")
class CrossEntropy(keras.losses.Loss):
    """Mean label-smoothed cross-entropy a real token, for `model.compile(loss=...)`.

    Padding is known by its label; sample weights are not meant for it and would scale the mean.

    Args:
        label_smoothing: The share of probability that is spread over the vocabulary.
        ignore_id: Label of padding, which counts for nothing; negative, such as -1, for labels
            of which 0 is one. Labels of one a row, `(B,)`, have logits `(B, V)`.

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
        """Return the mean over the batch's real tokens, `(1,)`; 0 if there are none."""
        return _mean(*self.sum_and_count(y_true, y_pred))

    def sum_and_count(self, y_true, y_pred):
        """Return the summed loss and the number of real tokens, float32 scalars."""
        return token_cross_entropy(
            ops.cast(y_true, "int32"), y_pred, self.label_smoothing, self.ignore_id
        )

    def count(self, y_true):
        """Return the number of real tokens, a float32 scalar."""
        return ops.sum(ops.cast(ops.not_equal(y_true, self.ignore_id), "float32"))

    def get_config(self):
        """Return the constructor's arguments."""
        return {
            "name": self.name,
            "label_smoothing": self.label_smoothing,
            "ignore_id": self.ignore_id,
        }


@keras.saving.register_keras_serializable("keras_transformer")
class BinaryCrossEntropy(keras.losses.Loss):
    """Mean cross-entropy of yes or no a real token: ELECTRA's loss, for `model.compile(loss=...)`.

    Labels are integers `(B, S)`, 1 for yes and 0 for no, as `replace_tokens` makes them; logits are
    floats `(B, S)` of any precision, and the sum is computed in float32.

    Args:
        ignore_id: Label of what counts for nothing, such as padding.

    Reference: Clark et al. 2020, "ELECTRA", section 2.
    """

    def __init__(self, ignore_id=-1, name="binary_cross_entropy", **kwargs):
        super().__init__(name=name, **kwargs)
        self.ignore_id = ignore_id

    def call(self, y_true, y_pred):
        """Return the mean over the batch's real tokens, `(1,)`; 0 if there are none."""
        return _mean(*self.sum_and_count(y_true, y_pred))

    def sum_and_count(self, y_true, y_pred):
        """Return the summed loss and the number of real tokens, float32 scalars."""
        logits = ops.cast(y_pred, "float32")
        real = ops.cast(ops.not_equal(y_true, self.ignore_id), "float32")
        losses = ops.softplus(logits) - logits * ops.cast(y_true, "float32")
        return ops.sum(losses * real), ops.sum(real)

    def count(self, y_true):
        """Return the number of real tokens, a float32 scalar."""
        return ops.sum(ops.cast(ops.not_equal(y_true, self.ignore_id), "float32"))

    def get_config(self):
        """Return the constructor's arguments."""
        return {"name": self.name, "ignore_id": self.ignore_id}
