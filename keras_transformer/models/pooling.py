"""From the vectors of a text's tokens to one vector.

Shapes: B batch, S length, D width.

Reference: Reimers & Gurevych 2019, section 3; Muennighoff 2022 for weights that grow.
"""

from typing import Any

import keras
from keras import ops

from keras_transformer.errors import InputError, suggestion
from keras_transformer.layers.layer import Layer
from keras_transformer.layers.masks import LOWEST
from keras_transformer.typing import Config, Hidden, Mask, Shape, Tensor

KINDS = ("first", "last", "max", "mean", "mean_sqrt_length", "weighted_mean")


@keras.saving.register_keras_serializable("keras_transformer")
class PoolTokens(Layer):
    """Make one vector of those of a text's tokens; padding changes nothing.

    Args:
        kind: "first" or "last", the vector of the first or last real token; "max", the greatest
            value of each column; "mean"; "mean_sqrt_length", the sum divided by the square root of
            the number of tokens; "weighted_mean", a mean in which the token at position t, from 1,
            counts t times.
        **kwargs: `name` and `dtype`.

    Call arguments:
        sequence: Float tensor `(B, S, D)`.
        mask: Boolean tensor `(B, S)`, True at real tokens, of which each row has at least one.

    Returns:
        Float32 tensor `(B, D)`.

    Raises:
        InputError: If the kind is unknown.
    """

    def __init__(self, kind: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if kind not in KINDS:
            raise InputError(
                f"pooling must be one of {', '.join(KINDS)}, got {kind!r}.{suggestion(kind, KINDS)}"
            )
        self.kind = kind
        self.autocast = False

    def call(self, sequence: Hidden, mask: Mask) -> Tensor:
        """Pool."""
        sequence = ops.cast(sequence, "float32")
        real = ops.cast(mask, "float32")  # (B, S)
        if self.kind == "max":
            return ops.max(ops.where(ops.expand_dims(mask, 2), sequence, LOWEST), axis=1)
        positions = ops.cast(ops.expand_dims(ops.arange(1, ops.shape(mask)[1] + 1), 0), "float32")
        places = positions * real  # 0 at padding
        if self.kind == "first":
            return sequence[:, 0]
        if self.kind == "last":
            last = ops.max(places, axis=1, keepdims=True)
            weights = ops.cast(ops.equal(positions, last), "float32")
        else:
            weights = places if self.kind == "weighted_mean" else real
        total = ops.sum(sequence * ops.expand_dims(weights, 2), axis=1)
        if self.kind == "last":
            return total
        count = ops.maximum(ops.sum(weights, axis=1, keepdims=True), 1.0)
        return total / (ops.sqrt(count) if self.kind == "mean_sqrt_length" else count)

    def compute_output_shape(self, sequence_shape: Shape, mask_shape: Shape | None = None) -> Shape:
        """Return the shape of the output: a vector for each row."""
        return sequence_shape[0], sequence_shape[-1]

    def compute_output_spec(self, sequence: Hidden, mask: Mask) -> keras.KerasTensor:
        """Return the specification of the output for any lengths."""
        return keras.KerasTensor(self.compute_output_shape(sequence.shape), dtype="float32")

    def get_config(self) -> Config:
        """Return the constructor's arguments."""
        return {**super().get_config(), "kind": self.kind}


def unit_length(vector: Tensor) -> Tensor:
    """Give vectors `(B, D)` the length 1; zeros stay zeros."""
    length = ops.sqrt(ops.sum(ops.square(vector), axis=-1, keepdims=True))
    return vector / ops.maximum(length, 1e-12)
