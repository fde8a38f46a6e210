"""The position-wise feed-forward network."""

import keras

from keras_transformer.layers.dropout import Dropout
from keras_transformer.layers.linear import Linear


@keras.saving.register_keras_serializable("keras_transformer")
class FeedForward(keras.layers.Layer):
    """Two linear maps with an activation between, the same at every position.

    Args:
        d_ff: Width of the hidden layer.
        d_model: Width D of the input and of the output.
        activation: Name of the activation, or a callable. "relu" is the paper's; "gelu" is the
            exact (erf) form, which differs from the tanh approximation by up to 5e-4.
        dropout: Rate of dropout on the hidden layer.

    Call arguments:
        inputs: Float tensor `(B, T, D)`.

    Returns:
        Float tensor `(B, T, D)`; row t depends on row t alone.

    Reference: Vaswani et al. 2017, section 3.3.
    """

    def __init__(self, d_ff, d_model, activation="relu", dropout=0.0, **kwargs):
        super().__init__(**kwargs)
        self.d_ff = d_ff
        self.d_model = d_model
        self.activation = keras.activations.get(activation)
        self.dropout = dropout
        self.expand = Linear(
            d_ff, activation=self.activation, dtype=self.dtype_policy, name="expand"
        )
        self.contract = Linear(d_model, dtype=self.dtype_policy, name="contract")
        self.hidden_dropout = Dropout(dropout, dtype=self.dtype_policy)

    def build(self, inputs_shape):
        """Create both maps."""
        self.expand.build(inputs_shape)
        self.contract.build((*inputs_shape[:-1], self.d_ff))

    def call(self, inputs):
        """Apply expand, activation, dropout and contract."""
        return self.contract(self.hidden_dropout(self.expand(inputs)))

    def get_config(self):
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "d_ff": self.d_ff,
            "d_model": self.d_model,
            "activation": keras.activations.serialize(self.activation),
            "dropout": self.dropout,
        }
