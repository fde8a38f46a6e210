"""A mix of all layers of an encoder, with learned shares."""

from collections.abc import Sequence

import keras
from keras import ops

from keras_transformer.layers.layer import Layer
from keras_transformer.typing import Hidden, Shape, Tensor


@keras.saving.register_keras_serializable("keras_transformer")
class LayerMix(Layer):
    """Sum up what each layer made of a text, by shares that a task learns.

    A model that is trained for other things has what a task wants in some layer or other: word
    order low, meaning high. With the model frozen, the shares and one factor are all there is to
    learn below the task's own head.

        scale * sum(softmax(weights)[l] * layers[l])

    Call arguments:
        layers: List of float tensors of one shape, such as `(B, S, D)`: the embeddings and the
            output of each block.

    Returns:
        Float tensor of the same shape.

    Reference: Peters et al. 2018, "Deep contextualized word representations" (ELMo), equation 1.
    """

    def build(self, layers_shape: Sequence[Shape]) -> None:
        """Make one weight a layer and the factor; all layers begin with the same share."""
        self.weights_of_layers = self.add_weight(
            name="weights", shape=(len(layers_shape),), initializer="zeros"
        )
        self.scale = self.add_weight(name="scale", shape=(), initializer="ones")

    def shares(self) -> Tensor:
        """Return the share of each layer, `(L,)`; they sum to 1."""
        return ops.softmax(ops.cast(self.weights_of_layers, "float32"))

    def call(self, layers: Sequence[Hidden]) -> Hidden:
        """Take the sum."""
        shares = ops.cast(self.shares() * ops.cast(self.scale, "float32"), self.compute_dtype)
        return sum(shares[i] * layer for i, layer in enumerate(layers))

    def compute_output_shape(self, layers_shape: Sequence[Shape]) -> Shape:
        """Return the shape of the output: that of each layer."""
        return tuple(layers_shape[0])
