"""Token embeddings, and the same table turned round to give logits."""

from typing import Any

import keras
from keras import ops

from keras_transformer.layers.layer import Layer
from keras_transformer.typing import Config, Logits, Shape, Tensor


@keras.saving.register_keras_serializable("keras_transformer")
class TokenEmbedding(Layer):
    """Look up one vector a token; in reverse, score every token against a vector.

    The table is drawn from N(0, 1/D), so that reversed it gives logits of unit variance, and
    vectors are multiplied by sqrt(D) on the way in, so that they are not drowned by the positions
    added to them.

    Args:
        vocabulary_size: Number of tokens V.
        d_model: Width D.
        scale: Whether to multiply the vectors by sqrt(D).

    Call arguments:
        inputs: Integer ids `(B, T)` in [0, V); in reverse, float vectors `(B, T, D)`.
        reverse: Whether to compute logits instead of vectors.

    Returns:
        Float tensor `(B, T, D)`; in reverse, logits `(B, T, V)`.

    Raises:
        tensorflow.errors.InvalidArgumentError: If an id is V or more, on TensorFlow's CPU device;
            other devices and backends do not check.

    Reference: Vaswani et al. 2017, section 3.4; Press & Wolf 2017 for the tied table.
    """

    def __init__(
        self, vocabulary_size: int, d_model: int, scale: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.vocabulary_size = vocabulary_size
        self.d_model = d_model
        self.scale = scale

    def build(self, inputs_shape: Shape | None = None) -> None:
        """Create the table `(V, D)`."""
        self.table = self.add_weight(
            shape=(self.vocabulary_size, self.d_model),
            initializer=keras.initializers.RandomNormal(stddev=self.d_model**-0.5),
            name="table",
        )

    def call(self, inputs: Tensor, reverse: bool = False) -> Tensor:
        """Embed ids, or turn vectors into logits."""
        if reverse:
            flat = ops.reshape(inputs, (-1, self.d_model))
            logits = ops.matmul(flat, ops.transpose(ops.cast(self.table, inputs.dtype)))
            return ops.reshape(logits, (-1, ops.shape(inputs)[1], self.vocabulary_size))
        # One list of ids, because that is what LiteRT can look up in a table of int8.
        vectors = ops.take(self.table, ops.reshape(inputs, (-1,)), axis=0)
        vectors = ops.reshape(vectors, (-1, ops.shape(inputs)[1], self.d_model))
        vectors = ops.cast(vectors, self.compute_dtype)
        return vectors * self.d_model**0.5 if self.scale else vectors

    def compute_output_shape(self, inputs_shape: Shape, reverse: bool = False) -> Shape:
        """Return the shape of the output: D is added to that of ids; in reverse, V replaces D."""
        *outer, last = inputs_shape
        return (*outer, self.vocabulary_size) if reverse else (*outer, last, self.d_model)

    def get_config(self) -> Config:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "vocabulary_size": self.vocabulary_size,
            "d_model": self.d_model,
            "scale": self.scale,
        }


@keras.saving.register_keras_serializable("keras_transformer")
class OutputBias(Layer):
    """A bias a token, added to logits that a tied table gave.

    Call arguments:
        inputs: Float tensor `(B, T, V)`.

    Returns:
        Float tensor `(B, T, V)`.
    """

    def build(self, inputs_shape: Shape) -> None:
        """Create the bias `(V,)`."""
        self.bias = self.add_weight(shape=(inputs_shape[-1],), initializer="zeros", name="bias")

    def call(self, inputs: Logits) -> Logits:
        """Add it."""
        return inputs + ops.cast(self.bias, inputs.dtype)
