"""Rotary positions: queries and keys are turned by angles that grow with their position.

A query turned by m and a key turned by n have a product that depends on m - n alone, so that scores
know how far apart two tokens are, and nothing is added to them.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_transformer.layers.layer import Layer
from keras_transformer.typing import Config, Rotation, Shape, Tensor


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Turn each pair of coordinates of queries or keys.

    Coordinate i is paired with i + d_k / 2, as in GPT-NeoX and Llama.

    Args:
        x: Float tensor `(B, H, T, d_k)`.
        rotation: Tuple of cosines and sines, each float32 `(1, 1, T, d_k / 2)`, or `(B, ...)`.

    Returns:
        Float tensor `(B, H, T, d_k)` of the dtype of `x`; lengths stay as they are.
    """
    cosine, sine = rotation
    first, second = ops.split(ops.cast(x, "float32"), 2, axis=-1)
    turned = [first * cosine - second * sine, second * cosine + first * sine]
    return ops.cast(ops.concatenate(turned, axis=-1), x.dtype)


@keras.saving.register_keras_serializable("keras_transformer")
class RotaryPositions(Layer):
    """The angles of rotary positions, for a stack's `positions`; it has no weights.

    Args:
        head_width: Width d_k of a head, an even number.
        base: Pair k turns by 1 / base^(2k / d_k) a position.

    Call arguments:
        query_positions: Integer tensor `(T,)` or `(B, T)`.
        key_positions: Integer tensor `(S,)`; not needed, as keys are turned when they are made.

    Returns:
        Dict with `rotation`, a tuple of cosines and sines, each float32 `(1, 1, T, d_k / 2)`, or
        `(B, 1, T, d_k / 2)` if rows differ.

    Raises:
        ValueError: If `head_width` is odd.

    Reference: Su et al. 2021, "RoFormer: Enhanced Transformer with Rotary Position Embedding".
    """

    def __init__(self, head_width: int, base: float = 10000.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if head_width % 2:
            raise ValueError(f"Rotary positions need an even head_width, got {head_width}.")
        self.head_width = head_width
        self.base = base

    def build(
        self, query_positions_shape: Shape | None = None, key_positions_shape: Shape | None = None
    ) -> None:
        """Nothing has to be made."""

    def call(
        self, query_positions: Tensor, key_positions: Tensor | None = None
    ) -> dict[str, Rotation]:
        """Compute the angles of the queries' positions."""
        frequencies = self.base ** (-np.arange(0, self.head_width, 2) / self.head_width)
        if len(query_positions.shape) == 1:
            query_positions = ops.expand_dims(query_positions, 0)
        angles = ops.cast(ops.expand_dims(ops.expand_dims(query_positions, 1), 3), "float32")
        angles = angles * ops.convert_to_tensor(frequencies.astype("float32"))
        return {"rotation": (ops.cos(angles), ops.sin(angles))}

    def compute_output_shape(
        self, query_positions_shape: Shape, key_positions_shape: Shape | None = None
    ) -> dict[str, tuple[Shape, Shape]]:
        """Return the shape of cosines and sines."""
        batch = query_positions_shape[0] if len(query_positions_shape) == 2 else 1
        shape = (batch, 1, query_positions_shape[-1], self.head_width // 2)
        return {"rotation": (shape, shape)}

    def get_config(self) -> Config:
        """Return the constructor's arguments."""
        return {**super().get_config(), "head_width": self.head_width, "base": self.base}
