"""Teacher-forced evaluation of a model over a data set."""

from collections.abc import Callable

from keras_transformer._backend import keras
from keras_transformer._tensorflow import tf
from keras_transformer.training.distribution import distribute_batches
from keras_transformer.training.metrics import token_metrics
from keras_transformer.typing import Tensor, Tensors


class Evaluator:
    """Computes metrics over all batches; every label counts once.

    Args:
        model: A model that gives logits; its strategy's replicas share the work.
        make_metrics: Makes the metrics; None for loss, perplexity and token accuracy over labels
            that are not 0.
    """

    def __init__(
        self,
        model: keras.Model,
        make_metrics: Callable[[], list[keras.metrics.Metric]] | None = None,
    ) -> None:
        self.strategy = model.distribute_strategy
        with self.strategy.scope():
            self.metrics = (make_metrics or token_metrics)()

        def update(inputs: Tensors, labels: Tensor) -> None:
            logits = model(inputs, training=False)
            for metric in self.metrics:
                metric.update_state(labels, logits)

        @tf.function(reduce_retracing=True)
        def update_all(inputs: Tensors, labels: Tensor) -> None:
            self.strategy.run(update, args=(inputs, labels))

        self._update = update_all
        # Outside of the replicas, a metric is summed over all of them.
        self._results = tf.function(lambda: {m.name: m.result() for m in self.metrics})

    def __call__(self, batches: tf.data.Dataset) -> dict[str, float]:
        """Return the values of the metrics over all `batches`, by name."""
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
