"""Teacher-forced evaluation of a model over a data set."""

import tensorflow as tf

from keras_transformer.training.distribution import distribute_batches
from keras_transformer.training.metrics import Perplexity, TokenAccuracy, TokenCrossEntropy


class Evaluator:
    """Computes loss, perplexity and token accuracy; every real token counts once.

    Args:
        model: A `Transformer`; its strategy's replicas share the work.
        label_smoothing: Of the loss. Perplexity is without.
    """

    def __init__(self, model, label_smoothing: float = 0.0):
        self.strategy = model.distribute_strategy
        with self.strategy.scope():
            self.metrics = [TokenCrossEntropy(label_smoothing), Perplexity(), TokenAccuracy()]

        def update(inputs, labels):
            logits = model(inputs, training=False)
            for metric in self.metrics:
                metric.update_state(labels, logits)

        @tf.function(reduce_retracing=True)
        def update_all(inputs, labels):
            self.strategy.run(update, args=(inputs, labels))

        self._update = update_all
        # Outside of the replicas, a metric is summed over all of them.
        self._results = tf.function(lambda: {m.name: m.result() for m in self.metrics})

    def __call__(self, batches: tf.data.Dataset) -> dict[str, float]:
        """Return `loss`, `perplexity` and `token_accuracy` over all `batches`."""
        for metric in self.metrics:
            metric.reset_state()
        batches = distribute_batches(batches, self.strategy)
        # Traced before they are called, once for all shapes: functions that are made anew for each
        # model would be warned about as ones that are traced again and again.
        self._update.get_concrete_function(*batches.element_spec)
        self._results.get_concrete_function()
        for inputs, labels in batches:
            self._update(inputs, labels)
        return {name: float(value) for name, value in self._results().items()}
