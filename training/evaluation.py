"""Teacher-forced evaluation of a model over a data set."""

import tensorflow as tf

from keras_transformer.training.metrics import Perplexity, TokenAccuracy, TokenCrossEntropy


class Evaluator:
    """Computes loss, perplexity and token accuracy; every real token counts once.

    Args:
        model: A `Transformer`.
        label_smoothing: Of the loss. Perplexity is without.
    """

    def __init__(self, model, label_smoothing: float = 0.0):
        self.metrics = [TokenCrossEntropy(label_smoothing), Perplexity(), TokenAccuracy()]
        ids = tf.TensorSpec([None, None], tf.int32)

        @tf.function(input_signature=[{"source_ids": ids, "target_ids": ids}, ids])
        def update(inputs, labels):
            logits = model(inputs, training=False)
            for metric in self.metrics:
                metric.update_state(labels, logits)

        self._update = update

    def __call__(self, batches: tf.data.Dataset) -> dict[str, float]:
        """Return `loss`, `perplexity` and `token_accuracy` over all `batches`."""
        for metric in self.metrics:
            metric.reset_state()
        for inputs, labels in batches:
            self._update(inputs, labels)
        return {metric.name: float(metric.result()) for metric in self.metrics}
