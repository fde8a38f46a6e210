"""One training step whose result does not depend on how its batch is split.

    batch -> replicas -> micro-batches -> gradients of (sum of losses / global count of tokens)
          -> sum over micro-batches -> sum over replicas and workers -> clip -> one update

Keras's own step takes the mean of each replica's loss and clips each replica's gradients, so that
the same batch gives another update on another number of devices. Here the loss is divided by the
number of real tokens in all of the batch, and the optimizer sees the gradient of all of it: its
`global_clipnorm`, `clipnorm` and `clipvalue` mean the same on any number of devices.

This file is for Keras's TensorFlow backend; other backends keep Keras's step.
"""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from keras_transformer.models.loss_scale import LossScaleOptimizer
from keras_transformer.typing import Config, DType, Nested, Tensor, Tensors


class Model(keras.Model):
    """A `keras.Model` that trains the same however its batches are split.

    It works under no strategy, MirroredStrategy and MultiWorkerMirroredStrategy, in float32,
    mixed_bfloat16 and mixed_float16. The loss has to be one that counts, with the two methods of
    `kt.training.CrossEntropy`: `sum_and_count(y_true, y_pred)` and `count(y_true)`, which get
    `sample_weight` as well where it is given: the loss is the weighted sum over the weighted count.
    With any other loss Keras's own step is used.

    Args:
        *args: As for `keras.Model`: inputs and outputs of a functional graph, or nothing.
        **kwargs: Likewise.
    """

    accumulate = 1
    prepare_inputs = None
    last_batch = None  # what the last step was made of, for whoever has to explain it

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        *,
        accumulate: int = 1,
        prepare_inputs: Callable[..., Any] | None = None,
        jit_compile: bool | str = "auto",
        **kwargs: Any,
    ) -> None:
        """Configure the model for training.

        Args:
            optimizer: A Keras optimizer, made inside `strategy.scope()` if there is a strategy. Its
                clipping is applied to the gradient of the whole batch.
            loss: A loss, such as `kt.training.CrossEntropy`.
            accumulate: Number K of micro-batches that each batch is cut into, on each replica.
                Only one of them is in memory at a time; the update is that of the whole batch.
            prepare_inputs: Function of this model and the inputs of a micro-batch that returns the
                inputs to train on, such as `kt.training.ScheduledSampling`. No gradient flows
                through it.
            jit_compile: Whether to compile with XLA, which compiles anew for each shape of a
                batch; "auto" means no.
            **kwargs: What else `keras.Model.compile` takes.

        Raises:
            ValueError: If the combination can't work; the message says why.
        """
        jit_compile = False if jit_compile == "auto" else jit_compile
        optimizer = keras.optimizers.get(optimizer)
        if self.dtype_policy.name == "mixed_float16" and not isinstance(
            optimizer, keras.optimizers.LossScaleOptimizer
        ):
            optimizer = LossScaleOptimizer(optimizer)
        super().compile(optimizer=optimizer, loss=loss, jit_compile=jit_compile, **kwargs)
        self.accumulate = accumulate
        self.prepare_inputs = prepare_inputs
        _check(self)
        if _counts(self.loss):
            _innermost(optimizer)._all_reduce_sum_gradients = lambda pairs: pairs  # they are sums

    def get_compile_config(self) -> Config:
        """Return what `compile` was given, for saving."""
        config = super().get_compile_config()
        if not config:  # it was not compiled
            return config
        return {
            **config,
            "accumulate": self.accumulate,
            "prepare_inputs": keras.saving.serialize_keras_object(self.prepare_inputs),
        }

    def compile_from_config(self, config: Config) -> None:
        """Compile as a saved model was."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.built:
            self.optimizer.build(self.trainable_variables)

    def train_step(self, data: Any) -> Tensors:
        """Make one update; called in each replica with its part of the batch.

        Beside the metrics, `fit` reports `gradient_norm`, before clipping, and `tokens`, the number
        of real tokens in the step.
        """
        if not _counts(self.loss):
            return super().train_step(data)
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        context = tf.distribute.get_replica_context()
        weights = () if sample_weight is None else (sample_weight,)
        count = context.all_reduce(tf.distribute.ReduceOp.SUM, self.loss.count(y, *weights))
        gradients = self._gradients(x, y, weights, tf.where(count > 0, count, 1.0))
        gradients = context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
        norm = tf.linalg.global_norm(gradients) / self.optimizer.scale_loss(1.0)
        self.optimizer.apply(gradients, self.trainable_variables)
        return {"gradient_norm": norm, "tokens": count}

    def test_step(self, data: Any) -> Tensors:
        """Evaluate one batch; called in each replica with its part."""
        if not _counts(self.loss):
            return super().test_step(data)
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        weights = () if sample_weight is None else (sample_weight,)
        y_pred = self(x, training=False)
        self._note(x, y, y_pred, weights, *self.loss.sum_and_count(y, y_pred, *weights))
        return {}

    def make_train_function(self, force: bool = False) -> None:
        """Put `train_step` into a graph for all replicas."""
        if getattr(self, "train_function", None) is None or force:
            self.train_function = _make_function(self, self.train_step)

    def make_test_function(self, force: bool = False) -> None:
        """Put `test_step` into a graph for all replicas."""
        if getattr(self, "test_function", None) is None or force:
            self.test_function = _make_function(self, self.test_step)

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        # Keras would average a batch over the replicas, which fails with several workers. It only
        # wants shapes, so that any replica's part will do.
        strategy = self._distribute_strategy
        if strategy is not None and iterator is not None:
            for _, _, batches in iterator:
                data_batch = keras.tree.map_structure(
                    lambda value: strategy.experimental_local_results(value)[0], next(batches)
                )
                break
            iterator = None
        super()._maybe_symbolic_build(iterator, data_batch)

    def _flatten_metrics_in_order(self, logs: dict[str, Any]) -> Any:
        # `train_on_batch` returns the loss, and a list only if there are metrics, as Keras's does.
        return super()._flatten_metrics_in_order(
            {name: value for name, value in logs.items() if name not in ("gradient_norm", "tokens")}
        )

    def _gradients(
        self, x: Nested, y: Tensor, weights: tuple[Tensor, ...], global_count: Tensor
    ) -> list[Tensor]:
        """Return this replica's share of the gradient of the global mean, one tensor a variable."""
        variables = self.trainable_variables
        seeds = _seed_states(self)
        first = [state.value + 0 for state in seeds]  # a copy: the states will be assigned
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group

        def backward(i: Any, x: Nested, y: Tensor, weights: tuple[Tensor, ...]) -> list[Tensor]:
            # Each replica and micro-batch drops out other units; the first as Keras would.
            for state, value in zip(seeds, first, strict=True):
                state.assign(value + _other_stream(replica * self.accumulate + i, value.dtype))
            if self.prepare_inputs is not None:
                x = keras.tree.map_structure(tf.stop_gradient, self.prepare_inputs(self, x))
            with tf.GradientTape() as tape:
                y_pred = self(x, training=True)
                total, count = self.loss.sum_and_count(y, y_pred, *weights)
                penalty = tf.add_n(self.losses) if self.losses else 0.0  # of regularisers
                loss = (total + penalty * count) / global_count
                loss = self.optimizer.scale_loss(loss)
            self._note(x, y, y_pred, weights, total, count)
            return [
                tf.convert_to_tensor(gradient)
                for gradient in tape.gradient(loss, variables, unconnected_gradients="zero")
            ]

        if self.accumulate == 1:
            gradients = backward(0, x, y, weights)
        else:
            # A loop and not K copies of the graph, which would run side by side and save nothing.
            _, gradients = tf.while_loop(
                lambda i, _: i < self.accumulate,
                lambda i, sums: (
                    i + 1,
                    [
                        s + g
                        for s, g in zip(
                            sums, backward(i, *self._part(i, (x, y, weights))), strict=True
                        )
                    ],
                ),
                (0, [tf.zeros(v.shape, v.dtype) for v in variables]),
                parallel_iterations=1,
            )
        for state, value in zip(seeds, first, strict=True):
            state.assign(tf.stack([value[0], state.value[1]]))  # its own seed, the counter moved on
        return gradients

    def _part(self, i: Any, tensors: Nested) -> Any:
        """Return micro-batch i; they differ by one row at most."""

        def rows(tensor: Tensor) -> Tensor:
            size = tensor.shape[0]
            if size is not None and size % self.accumulate == 0:
                length = size // self.accumulate
                begin = i * length
            else:
                size = tf.shape(tensor)[0]
                begin = i * size // self.accumulate
                length = (i + 1) * size // self.accumulate - begin
            rest = len(tensor.shape) - 1
            part = tf.slice(tensor, [begin] + [0] * rest, [length] + [-1] * rest)
            if isinstance(length, int):
                part = tf.ensure_shape(part, [length, *tensor.shape[1:]])
            return part

        return keras.tree.map_structure(rows, tensors)

    def _note(
        self,
        x: Nested,
        y: Tensor,
        y_pred: Tensor,
        weights: tuple[Tensor, ...],
        total: Tensor,
        count: Tensor,
    ) -> None:
        """Update the mean loss a token, and the metrics."""
        mean = total / tf.where(count > 0, count, 1.0)
        self._loss_tracker.update_state(mean, sample_weight=count)
        self.compute_metrics(x, y, y_pred, *weights)


def _make_function(model: Model, step: Callable[..., Any]) -> Callable[..., Any]:
    strategy = model.distribute_strategy

    @tf.autograph.experimental.do_not_convert
    def one_step(data: Any) -> Tensors:
        logs = strategy.run(step, args=(data,))
        logs = keras.tree.map_structure(
            lambda value: strategy.experimental_local_results(value)[0], logs
        )
        # Read outside of the replicas, metrics are summed over all of them.
        return {**logs, **model.get_metrics_result()}

    if not model.run_eagerly:
        one_step = tf.function(one_step, reduce_retracing=True, jit_compile=model.jit_compile)

    # XLA compiles for each shape anyway, and can cut micro-batches only where it knows the shape.
    traced: list[Any] = [None] if model.run_eagerly or model.jit_compile else []

    def function(batches: Any) -> Any:
        logs = None
        for _ in range(model.steps_per_execution):
            try:
                data = next(batches)
            except StopIteration:
                if logs is None:
                    raise
                break
            model.last_batch = data
            if not model.optimizer.built:
                # A function that makes variables is traced twice.
                with strategy.scope():
                    model.optimizer.build(model.trainable_variables)
            if not traced and hasattr(batches, "element_spec"):
                # For every shape that may come, not for that of the first batch: sums in another
                # graph may differ in the last bit, and a run that goes on begins with another.
                traced.append(one_step.get_concrete_function(batches.element_spec))
            logs = one_step(data)
        return logs

    return function


def _counts(loss: Any) -> bool:
    return hasattr(loss, "sum_and_count") and hasattr(loss, "count")


def _innermost(optimizer: Any) -> Any:
    return getattr(optimizer, "inner_optimizer", optimizer)


def _seed_states(model: Model) -> list[keras.Variable]:
    """Return the random state of every layer that drops out."""
    return [v for v in model.non_trainable_variables if v.name == "seed_generator_state"]


def _other_stream(number: Any, dtype: DType) -> Tensor:
    """Return what to add to a seed state (seed, counter) for another stream of numbers."""
    # Multiplying by an odd number keeps different numbers different, and moves them far apart.
    return tf.stack([tf.cast(number, dtype) * tf.constant(668_265_263, dtype), tf.zeros((), dtype)])


def _check(model: Model) -> None:
    """Refuse what can't work before anything is traced."""
    if not isinstance(model.accumulate, int) or model.accumulate < 1:
        raise ValueError(
            f"accumulate must be a whole number of at least 1, got {model.accumulate}."
        )
    if model.accumulate > 1 and not _counts(model.loss):
        raise ValueError(
            f"accumulate={model.accumulate} needs a loss that counts its tokens, such as "
            f"kt.training.CrossEntropy, got {model.loss!r}."
        )
    optimizer = _innermost(model.optimizer)
    if optimizer.gradient_accumulation_steps:
        raise ValueError(
            "The optimizer's gradient_accumulation_steps gives every micro-batch the same weight, "
            "however many tokens it has, and fails under a strategy. Leave it out and pass "
            f"accumulate={optimizer.gradient_accumulation_steps} to compile."
        )
    strategy = model.distribute_strategy
    if optimizer._distribution_strategy is not strategy:
        raise ValueError(
            "The optimizer was made outside of the strategy that the model was made in. Make both "
            "inside `with strategy.scope():`."
        )
    if model.jit_compile and model._distribute_strategy is not None:
        raise ValueError(
            f"jit_compile=True does not work under {type(strategy).__name__}: XLA can't compile "
            "the exchange of gradients between replicas. Leave it out."
        )
