"""Scheduled sampling: train the decoder on its own predictions as well as on the truth."""

from typing import Self

from keras_transformer._backend import keras, ops
from keras_transformer._tensorflow import tf
from keras_transformer.models.config import PADDING_ID
from keras_transformer.typing import Config, Shape, Tensor, Tensors


@keras.saving.register_keras_serializable("keras_transformer")
class ScheduledSampling:
    """Replaces true tokens in the decoder's input by what the model predicts there.

    With teacher forcing alone, a decoder never sees its own mistakes in training. Here the share of
    true tokens falls linearly from 1 to `share`. All positions stay parallel: one pass without
    gradient makes the predictions, given the true tokens before each, and the ordinary pass trains
    on the mixture. More passes let predictions follow from predictions.

    Pass it to `model.compile(prepare_inputs=...)`. It costs a forward pass each.

    Args:
        share: The share of true tokens at the end; 1 is teacher forcing, 0 is free running.
        steps: Number of steps over which the share falls; 0 to begin with `share`.
        passes: Number of forward passes that predictions are taken from.

    Raises:
        ValueError: If a value is out of its range.

    Reference: Bengio et al. 2015, "Scheduled Sampling"; Duckworth et al. 2019, "Parallel Scheduled
    Sampling", for the passes.
    """

    def __init__(self, share: float, steps: int = 0, passes: int = 1) -> None:
        if not 0 <= share <= 1:
            raise ValueError(f"share must be in [0, 1], got {share}.")
        if steps < 0 or passes < 1:
            raise ValueError(
                f"steps must be at least 0 and passes at least 1, got steps={steps} and "
                f"passes={passes}."
            )
        self.share = share
        self.steps = steps
        self.passes = passes

    def share_at(self, step: Tensor) -> Tensor:
        """Return the share of true tokens at a step, a float32 scalar."""
        if not self.steps:
            return ops.convert_to_tensor(self.share, "float32")
        progress = ops.minimum(ops.cast(step, "float32") / self.steps, 1.0)
        return 1.0 - (1.0 - self.share) * progress

    def __call__(self, model: keras.Model, inputs: Tensors) -> Tensors:
        """Return the inputs with some of `target_ids` `(B, T)` replaced; begin and padding stay."""
        step = model.optimizer.iterations
        true = mixed = inputs["target_ids"]
        # The same batch at the same step is always treated the same, so that a run can be repeated.
        seed = ops.stack(
            [ops.cast(step, "int64"), ops.sum(ops.cast(inputs["source_ids"], "int64"))]
        )
        keep = _uniform(ops.shape(true), seed) < self.share_at(step)
        keep = ops.logical_or(keep, ops.equal(true, PADDING_ID))
        for _ in range(self.passes):
            logits = model({**inputs, "target_ids": mixed}, training=False)
            predicted = ops.cast(ops.argmax(logits, axis=-1), true.dtype)
            # What is predicted at one position is the input of the next.
            shifted = ops.concatenate([true[:, :1], predicted[:, :-1]], axis=1)
            mixed = ops.where(keep, true, shifted)
        return {**inputs, "target_ids": mixed}

    def get_config(self) -> Config:
        """Return the constructor's arguments."""
        return {"share": self.share, "steps": self.steps, "passes": self.passes}

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """Rebuild it."""
        return cls(**config)


def _uniform(shape: Shape, seed: Tensor) -> Tensor:
    # Keras has no random numbers from a seed that is a tensor.

    return tf.random.stateless_uniform(shape, seed)
