"""Optimizers: Adam as the paper has it, AdamW and Adafactor, all of them Keras optimizers.

Every maker also takes what Keras's optimizers take: `global_clipnorm`, which clips by the norm of
all gradients together, `gradient_accumulation_steps`, and `use_ema` with `ema_momentum`, which
averages the weights while they are trained and puts the average in their place when `fit` ends.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from keras_transformer._backend import keras, ops
from keras_transformer._tensorflow import tf
from keras_transformer.training.config import TrainingConfig
from keras_transformer.training.schedules import (
    Constant,
    InverseSquareRoot,
    LinearDecay,
    OneCycle,
    WarmupCosine,
)
from keras_transformer.typing import Tensor

LearningRate: TypeAlias = float | keras.optimizers.schedules.LearningRateSchedule


def paper_adam(learning_rate: LearningRate, **kwargs: Any) -> "Adam":
    """Make Adam as the paper has it: beta 0.9 and 0.98, epsilon 1e-9.

    Args:
        learning_rate: A number or a schedule.
        **kwargs: Everything else that `keras.optimizers.Adam` takes. Its `weight_decay` shrinks
            every variable; `adamw` spares those it does not suit.

    Reference: Vaswani et al. 2017, section 5.3; Kingma & Ba 2015, "Adam".
    """
    return Adam(learning_rate, beta_1=0.9, beta_2=0.98, epsilon=1e-9, **kwargs)


def adamw(learning_rate: LearningRate, weight_decay: float = 0.01, **kwargs: Any) -> "AdamW":
    """Make Adam with decoupled weight decay; without decay it is `paper_adam`.

    Each step first shrinks the weights by the share `learning_rate * weight_decay`, whatever their
    gradient. Biases and the scales and offsets of norms are not shrunk.

    Args:
        learning_rate: A number or a schedule.
        weight_decay: The share, before it is multiplied by the learning rate.
        **kwargs: Everything else that `keras.optimizers.AdamW` takes.

    Reference: Loshchilov & Hutter 2019, "Decoupled Weight Decay Regularization".
    """
    paper = {"beta_1": 0.9, "beta_2": 0.98, "epsilon": 1e-9}
    return AdamW(learning_rate, weight_decay, **{**paper, **kwargs})


def adafactor(learning_rate: LearningRate, **kwargs: Any) -> "Adafactor":
    """Make Adafactor with the paper's settings, which needs hardly more memory than the weights.

    Its learning rate is relative: a variable moves by that share of its own size. Step t takes the
    smaller of the learning rate and 1 / sqrt(t), with a schedule too. No momentum is kept, and of
    the squares of a matrix's gradients only their means over rows and over columns.

    Args:
        learning_rate: A number or a schedule; the paper has 1e-2.
        **kwargs: Everything else that `keras.optimizers.Adafactor` takes. Its `weight_decay`
            spares biases and norms as `adamw` does.

    Reference: Shazeer & Stern 2018, "Adafactor", algorithms 4 and 5.
    """
    return Adafactor(learning_rate, **kwargs)


@keras.saving.register_keras_serializable("keras_transformer")
class Adam(keras.optimizers.Adam):
    """Keras's Adam with each variable's update as one of TensorFlow's ops; see `paper_adam`.

    Keras makes it of a dozen ops, each of which goes through all of the weights.
    """

    def add_variable_from_reference(
        self,
        reference_variable: keras.Variable,
        name: str | None = None,
        initializer: str = "zeros",
    ) -> keras.Variable:
        """Make a variable where the one is that it belongs to, as the op demands."""
        # Strategies see to it themselves.
        here = None if tf.distribute.has_strategy() else reference_variable.value.device
        with tf.device(here):
            return super().add_variable_from_reference(
                reference_variable, name=name, initializer=initializer
            )

    def update_step(
        self, gradient: Tensor, variable: keras.Variable, learning_rate: Tensor
    ) -> None:
        """Move one variable, and its means of the gradient and of its square."""
        if self.amsgrad:
            super().update_step(gradient, variable, learning_rate)
            return
        number = self._get_variable_index(variable)
        step = tf.cast(self.iterations.value + 1, variable.dtype)
        betas = tf.cast([self.beta_1, self.beta_2], variable.dtype)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[number].value.handle,
            v=self._velocities[number].value.handle,
            beta1_power=tf.pow(betas[0], step),
            beta2_power=tf.pow(betas[1], step),
            lr=tf.cast(learning_rate, variable.dtype),
            beta1=betas[0],
            beta2=betas[1],
            epsilon=tf.cast(self.epsilon, variable.dtype),
            grad=tf.cast(tf.convert_to_tensor(gradient), variable.dtype),
        )


class _DecayOfMatrices:
    """Weight decay that leaves alone whatever has fewer than two axes: biases and norms.

    Keras can be told which variables to leave alone, too (`exclude_from_weight_decay`), but does
    not save what it was told; a rule needs no saving.
    """

    def _use_weight_decay(self, variable: keras.Variable) -> bool:
        of_base: Any = super()  # a Keras optimizer, which this class stands before
        return len(variable.shape) >= 2 and of_base._use_weight_decay(variable)


@keras.saving.register_keras_serializable("keras_transformer")
class AdamW(_DecayOfMatrices, Adam, keras.optimizers.AdamW):
    """Keras's AdamW, faster, without decay on biases and norms; see `adamw`."""


@keras.saving.register_keras_serializable("keras_transformer")
class Adafactor(_DecayOfMatrices, keras.optimizers.Adafactor):
    """Keras's Adafactor with the memory and the range of the paper's; see `adafactor`.

    Keras 3.15 multiplies the two factors out. It stores their product, which is as large as the
    weights, and where a row and a column without gradient cross, the product is too small for
    float32: the whole matrix becomes NaN. Here the gradient is divided by one after the other.
    """

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Make the means of the squares: one for a vector, one a factor for a matrix."""
        if self.built:
            return
        keras.optimizers.Optimizer.build(self, variables)  # not Adafactor's, which makes its own
        self._squares = []
        for variable in variables:
            shape = tuple(variable.shape)
            factors = [shape[:-1], shape[:-2] + shape[-1:]] if len(shape) >= 2 else [shape]
            self._squares.append(
                [self.add_variable(s, dtype=variable.dtype, name=variable.name) for s in factors]
            )

    def update_step(
        self, gradient: Tensor, variable: keras.Variable, learning_rate: Tensor
    ) -> None:
        """Move one variable."""
        # A table's gradient may be a list of rows, some of them twice; the sum makes it one matrix.
        gradient = ops.zeros(variable.shape, variable.dtype) + ops.cast(gradient, variable.dtype)
        step = ops.cast(self.iterations + 1, variable.dtype)
        rate = ops.minimum(ops.cast(learning_rate, variable.dtype), ops.rsqrt(step))
        size = ops.maximum(self._rms(variable), self.epsilon_2)
        keep = 1 - ops.power(step, self.beta_2_decay)

        squares = self._squares[self._get_variable_index(variable)]
        new = ops.square(gradient) + self.epsilon_1
        if len(squares) == 2:
            rows, columns = squares
            self.assign(rows, keep * rows + (1 - keep) * ops.mean(new, axis=-1))
            self.assign(columns, keep * columns + (1 - keep) * ops.mean(new, axis=-2))
            update = gradient * ops.expand_dims(ops.rsqrt(rows), -1)
            update *= ops.expand_dims(ops.rsqrt(columns), -2)
            update *= ops.expand_dims(ops.sqrt(ops.mean(rows, axis=-1, keepdims=True)), -1)
        else:
            (full,) = squares
            self.assign(full, keep * full + (1 - keep) * new)
            update = gradient * ops.rsqrt(full)
        update /= ops.maximum(self._rms(update) / self.clip_threshold, 1.0)
        self.assign_sub(variable, rate * size * update)


# The makers by the names that a configuration has for them.
OPTIMIZERS = {"adam": paper_adam, "adamw": adamw, "adafactor": adafactor}


def make_schedule(config: TrainingConfig) -> keras.optimizers.schedules.LearningRateSchedule:
    """Make the learning-rate schedule that a configuration names."""
    peak, warmup, steps = config.learning_rate, config.warmup_steps, config.steps
    makers: dict[str, Callable[[], keras.optimizers.schedules.LearningRateSchedule]] = {
        "inverse-square-root": lambda: InverseSquareRoot(peak, warmup),
        "linear": lambda: LinearDecay(peak, warmup, steps),
        "cosine": lambda: WarmupCosine(peak, warmup, steps),
        "one-cycle": lambda: OneCycle(peak, steps, warmup / steps),
        "constant": lambda: Constant(peak, warmup),
    }
    return makers[config.schedule]()


def make_optimizer(config: TrainingConfig) -> keras.optimizers.Optimizer:
    """Make the optimizer that a configuration names, with its schedule and its clipping."""
    options: dict[str, Any] = {"global_clipnorm": config.clip_norm or None}
    if config.optimizer == "adamw":
        options["weight_decay"] = config.weight_decay
    if config.ema:
        options |= {"use_ema": True, "ema_momentum": config.ema}
    return OPTIMIZERS[config.optimizer](make_schedule(config), **options)
