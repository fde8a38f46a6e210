"""Complex embeddings: a word is a function of its position, not a vector with one added."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_transformer.layers.layer import Layer
from keras_transformer.typing import Config, DType, Hidden, Ids, Shape, Tensor


@keras.saving.register_keras_serializable("keras_transformer")
class ComplexEmbedding(Layer):
    """Look up D / 2 waves a token, and say where they are at the token's position.

    A wave of a token is r e^(i (omega p + theta)) at position p, with an amplitude r, a frequency
    omega and a phase theta that are learned for each token and wave. From the vector at one
    position follows that at any other: n positions further on, each wave has been multiplied by
    e^(i omega n). The amplitude, what the word means, is the same everywhere.

    The output is real and D wide, so that any layer can follow: the D / 2 real parts
    r cos(omega p + theta), then the D / 2 imaginary parts r sin(omega p + theta). What follows
    treats them as separate numbers; the products of the paper's complex layers are not made.

    Amplitudes begin at N(0, 2), which gives both parts variance 1, phases anywhere on the circle,
    and frequencies, for all tokens alike, at those of the sinusoidal encoding.

    Args:
        vocabulary_size: Number of tokens V.
        d_model: Width D of the output, an even number.

    Call arguments:
        inputs: Integer ids `(B, T)` in [0, V).
        start: Integer scalar, the position of the first column.

    Returns:
        Float tensor `(B, T, D)`. Nothing is masked: padding has waves of its own.

    Raises:
        ValueError: If `d_model` is odd.

    Reference: Wang et al. 2020, "Encoding Word Order in Complex Embeddings".
    """

    def __init__(self, vocabulary_size: int, d_model: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if d_model % 2:
            raise ValueError(f"Complex embeddings need an even d_model, got {d_model}.")
        self.vocabulary_size = vocabulary_size
        self.d_model = d_model

    def build(self, inputs_shape: Shape | None = None) -> None:
        """Create the tables of amplitudes, frequencies and phases, each `(V, D / 2)`."""
        initial = 10000.0 ** (-np.arange(0, self.d_model, 2) / self.d_model)

        def sinusoidal(shape: Shape, dtype: DType) -> Tensor:
            return ops.cast(np.tile(initial, (shape[0], 1)), dtype)

        initializers = {
            "amplitudes": keras.initializers.RandomNormal(stddev=2**0.5),
            "frequencies": sinusoidal,
            "phases": keras.initializers.RandomUniform(-math.pi, math.pi),
        }
        self.amplitudes, self.frequencies, self.phases = (
            self.add_weight(
                shape=(self.vocabulary_size, self.d_model // 2),
                initializer=initializer,
                autocast=False,  # 16 bits are too few for an angle that grows with the position
                name=name,
            )
            for name, initializer in initializers.items()
        )

    def call(self, inputs: Ids, start: Tensor = 0) -> Hidden:
        """Look up the waves of each id, and go along them to its position."""
        length = ops.shape(inputs)[1]
        flat = ops.reshape(inputs, (-1,))
        amplitude, frequency, phase = (
            ops.reshape(ops.take(table, flat, axis=0), (-1, length, self.d_model // 2))
            for table in (self.amplitudes, self.frequencies, self.phases)
        )
        positions = ops.cast(ops.arange(length, dtype="int32") + start, "float32")
        angle = frequency * ops.reshape(positions, (1, -1, 1)) + phase
        parts = [amplitude * ops.cos(angle), amplitude * ops.sin(angle)]
        return ops.cast(ops.concatenate(parts, axis=-1), self.compute_dtype)

    def compute_output_shape(self, inputs_shape: Shape, **_: Any) -> Shape:
        """Return the shape of the output: D is added to that of ids."""
        return (*inputs_shape, self.d_model)

    def get_config(self) -> Config:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "vocabulary_size": self.vocabulary_size,
            "d_model": self.d_model,
        }
