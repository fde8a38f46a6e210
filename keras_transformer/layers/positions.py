"""Absolute positions, added to the token embeddings."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_transformer.layers.layer import Layer
from keras_transformer.typing import Config, Hidden, Shape, Tensor


def sinusoidal_table(length: int, d_model: int) -> np.ndarray:
    """Compute the sinusoidal encoding of Vaswani et al. 2017, section 3.5.

    Even columns hold sin(p / 10000^(2k/D)) and odd columns cos of the same angle, interleaved.
    The encoding of p + n is a rotation of that of p, the same for all p.

    Args:
        length: Number of positions.
        d_model: Width D, an even number.

    Returns:
        NumPy float32 array `(length, D)`.

    Raises:
        ValueError: If `d_model` is odd.
    """
    if d_model % 2:
        raise ValueError(f"Sinusoidal positions need an even d_model, got {d_model}.")
    frequencies = 10000.0 ** (-np.arange(0, d_model, 2) / d_model)
    angles = np.arange(length)[:, None] * frequencies[None, :]
    table = np.stack([np.sin(angles), np.cos(angles)], axis=-1)  # (length, D / 2, 2)
    return table.reshape(length, d_model).astype("float32")


class _AbsolutePositions(Layer):
    """The base of absolute positions: a table `(max_length, D)` that is added row by row."""

    def __init__(self, max_length: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.max_length = max_length

    def call(self, inputs: Hidden, start: Tensor = 0) -> Hidden:
        """Add the encodings of positions `start`, `start + 1`, ... to `inputs`."""
        length = inputs.shape[1]
        known = isinstance(start, int) and isinstance(length, int)  # neither is inside some graphs
        if known and start + length > self.max_length:
            raise ValueError(
                f"{type(self).__name__} has max_length={self.max_length} positions, but the "
                f"sequence needs {start + length}. Shorten it, or build the model with a larger "
                "max_length."
            )
        positions = ops.arange(ops.shape(inputs)[1], dtype="int32")
        if len(getattr(start, "shape", ())) == 1:
            positions = ops.expand_dims(start, 1) + positions  # (B, T)
        else:
            positions = positions + start
        table = ops.cast(ops.convert_to_tensor(self.table), inputs.dtype)
        return inputs + ops.take(table, positions, axis=0)

    def get_config(self) -> Config:
        """Return the constructor's arguments."""
        return {**super().get_config(), "max_length": self.max_length}


@keras.saving.register_keras_serializable("keras_transformer")
class SinusoidalPositions(_AbsolutePositions):
    """Add the fixed sinusoidal encoding; it has no weights.

    Args:
        max_length: Number of positions that the table holds.

    Call arguments:
        inputs: Float tensor `(B, T, D)`, D even.
        start: Integer scalar, the position of the first row; or `(B,)`, if it differs.

    Returns:
        Float tensor `(B, T, D)`.

    Raises:
        ValueError: If the sequence is known to be longer than `max_length`.

    Reference: Vaswani et al. 2017, section 3.5.
    """

    def build(self, inputs_shape: Shape) -> None:
        """Compute the table for width D."""
        self.table = sinusoidal_table(self.max_length, inputs_shape[-1])


@keras.saving.register_keras_serializable("keras_transformer")
class LearnedPositions(_AbsolutePositions):
    """Add one trained vector a position, as BERT and GPT do.

    Args:
        max_length: Number of positions that can be learned; there is none beyond it.

    Call arguments:
        inputs: Float tensor `(B, T, D)`.
        start: Integer scalar, the position of the first row; or `(B,)`, if it differs.

    Returns:
        Float tensor `(B, T, D)`.

    Raises:
        ValueError: If the sequence is known to be longer than `max_length`.
    """

    def build(self, inputs_shape: Shape) -> None:
        """Create the table for width D."""
        self.table = self.add_weight(
            shape=(self.max_length, inputs_shape[-1]),
            initializer=keras.initializers.RandomNormal(stddev=0.02),
            name="positions",
        )
