"""Dropout, from half the random bits that Keras draws."""

import keras
from keras import ops

from keras_transformer.typing import Tensor


@keras.saving.register_keras_serializable("keras_transformer")
class Dropout(keras.layers.Dropout):
    """`keras.layers.Dropout`, which draws 16 random bits for each number and not 32.

    On a processor random numbers are most of what dropout costs. Of 2^16 equally likely values the
    nearest whole number to `rate` x 2^16 drop out, so that the rate is met to within 1 / 131,072,
    and what is left is divided by the share that really stays: the mean is kept exactly.

    Args:
        rate: Probability in [0, 1] that a number is set to 0 in training.
        **kwargs: Everything else that `keras.layers.Dropout` takes.

    Call arguments:
        inputs: Float tensor of any shape.
        training: Whether to drop out; without it, the inputs are returned as they are.

    Returns:
        Tensor of the shape and dtype of the inputs.

    Reference: Srivastava et al. 2014, "Dropout"; the inverted form, nothing is done at inference.
    """

    def call(self, inputs: Tensor, training: bool | None = False) -> Tensor:
        """Drop out, if training."""
        dropped = round(self.rate * 2**16)  # of 2^16 values
        if not training or self.noise_shape is not None or not 0 < dropped < 2**16:
            return super().call(inputs, training=training)
        kept = ops.greater_equal(self._bits(inputs), ops.convert_to_tensor(dropped, "uint16"))
        scaled = inputs * ops.cast(2**16 / (2**16 - dropped), inputs.dtype)
        return ops.where(kept, scaled, ops.zeros((), inputs.dtype))

    def _bits(self, inputs: Tensor) -> Tensor:
        """Draw 16 random bits for each number, two numbers from each random integer."""
        *rows, width = ops.shape(inputs)
        pairs = (width + 1) // 2
        shape = (*rows, pairs, 1)
        integers = keras.random.randint(shape, -(2**31), 2**31 - 1, seed=self.seed_generator)
        bits = ops.reshape(ops.view(integers, "uint16"), (*rows, 2 * pairs))
        return bits[..., :width]
