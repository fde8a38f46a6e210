"""The affine map that every other layer is made of."""

import keras
from keras import ops

from keras_transformer.typing import Tensor


@keras.saving.register_keras_serializable("keras_transformer")
class Linear(keras.layers.Dense):
    """`keras.layers.Dense`, computed as one 2-D matrix product.

    A product of a `(B, T, D)` tensor and a `(D, F)` kernel is run by TensorFlow as B small
    products, and its gradient holds B copies of the kernel before it sums them. Folding the
    leading axes into one gives the same numbers from one large product.

    Args:
        units: Width F of the output.
        **kwargs: Everything else that `keras.layers.Dense` takes.

    Call arguments:
        inputs: Float tensor `(..., D)`.

    Returns:
        Float tensor `(..., F)`.
    """

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        """Apply `activation(inputs @ kernel + bias)` to the last axis."""
        _, *leading = ops.shape(inputs)[:-1]
        if not leading:
            return super().call(inputs, training=training)
        flat = ops.reshape(inputs, (-1, inputs.shape[-1]))
        return ops.reshape(super().call(flat, training=training), (-1, *leading, self.units))
