"""Images as sequences: patches are the tokens."""

from typing import Any

import keras
from keras import ops

from keras_transformer.layers.layer import Layer
from keras_transformer.layers.linear import Linear
from keras_transformer.typing import Config, Hidden, Shape, Tensor


@keras.saving.register_keras_serializable("keras_transformer")
class PatchEmbedding(Layer):
    """Cut images into square patches and project each to a vector.

    It is a convolution whose stride is the size of its kernel, computed as one matrix product.

    Args:
        patch_size: Height and width of a patch in pixels.
        d_model: Width D.

    Call arguments:
        images: Float tensor `(B, height, width, channels)`.

    Returns:
        Float tensor `(B, patches, D)`, row by row.

    Raises:
        ValueError: If the patches do not fill the image.

    Reference: Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words".
    """

    def __init__(self, patch_size: int, d_model: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.patch_size = patch_size
        self.d_model = d_model
        self.projection = Linear(d_model, dtype=self.dtype_policy, name="projection")

    def build(self, images_shape: Shape) -> None:
        """Create the projection for the size of the images."""
        _, height, width, channels = images_shape
        size = self.patch_size
        if height % size or width % size:
            raise ValueError(
                f"Images of {height} x {width} pixels can't be cut into patches of {size} x {size}."
            )
        self.grid = height // size, width // size
        self.projection.build((None, None, size * size * channels))

    def call(self, images: Tensor) -> Hidden:
        """Cut and project."""
        rows, columns = self.grid
        size, channels = self.patch_size, images.shape[-1]
        x = ops.reshape(images, (-1, rows, size, columns, size * channels))
        x = ops.transpose(x, (0, 1, 3, 2, 4))
        return self.projection(ops.reshape(x, (-1, rows * columns, size * size * channels)))

    def compute_output_shape(self, images_shape: Shape) -> Shape:
        """Return the shape of the output: a vector for each patch."""
        batch, height, width, _ = images_shape
        return batch, (height // self.patch_size) * (width // self.patch_size), self.d_model

    def get_config(self) -> Config:
        """Return the constructor's arguments."""
        return {**super().get_config(), "patch_size": self.patch_size, "d_model": self.d_model}


@keras.saving.register_keras_serializable("keras_transformer")
class ClassToken(Layer):
    """Put one learned vector in front of every sequence, as [CLS] stands before a text.

    Call arguments:
        inputs: Float tensor `(B, T, D)`.

    Returns:
        Float tensor `(B, T + 1, D)`.
    """

    def build(self, inputs_shape: Shape) -> None:
        """Create the vector."""
        self.vector = self.add_weight(
            shape=(1, 1, inputs_shape[-1]),
            initializer=keras.initializers.RandomNormal(stddev=0.02),
            name="vector",
        )

    def call(self, inputs: Hidden) -> Hidden:
        """Put it in front."""
        vector = ops.cast(self.vector, inputs.dtype)
        first = ops.zeros_like(inputs[:, :1]) + vector
        return ops.concatenate([first, inputs], axis=1)

    def compute_output_shape(self, inputs_shape: Shape) -> Shape:
        """Return the shape of the output: one token more."""
        batch, length, width = inputs_shape
        return batch, None if length is None else length + 1, width
