"""The position-wise feed-forward network."""

from typing import Any

import keras

from keras_transformer.layers.activations import get_activation
from keras_transformer.layers.dropout import Dropout
from keras_transformer.layers.layer import Layer
from keras_transformer.layers.linear import Linear
from keras_transformer.typing import Config, Hidden, Shape


@keras.saving.register_keras_serializable("keras_transformer")
class FeedForward(Layer):
    """Two linear maps with an activation between, the same at every position.

    A gated network has a third: the activated map is multiplied by a second map of the input. With
    "gelu" this is GEGLU, with "silu" SwiGLU.

    Args:
        d_ff: Width of the hidden layer.
        d_model: Width D of the input and of the output.
        activation: Name of the activation, or a callable. "relu" is the paper's; "gelu" is the
            exact (erf) form, BERT's, and "gelu_tanh" its approximation, GPT's: they differ by up
            to 5e-4.
        dropout: Rate of dropout on the hidden layer.
        use_bias: Whether the maps have a bias.
        gated: Whether the hidden layer is multiplied by a linear gate.

    Call arguments:
        inputs: Float tensor `(B, T, D)`.

    Returns:
        Float tensor `(B, T, D)`; row t depends on row t alone.

    Reference: Vaswani et al. 2017, section 3.3; Shazeer 2020, "GLU Variants Improve Transformer";
    Hendrycks & Gimpel 2016 for GELU.
    """

    def __init__(
        self,
        d_ff: int,
        d_model: int,
        activation: Any = "relu",
        dropout: float = 0.0,
        use_bias: bool = True,
        gated: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.d_ff = d_ff
        self.d_model = d_model
        self.activation = get_activation(activation)
        self.dropout = dropout
        self.use_bias = use_bias
        self.gated = gated
        shared = {"use_bias": use_bias, "dtype": self.dtype_policy}
        self.expand = Linear(d_ff, activation=self.activation, name="expand", **shared)
        self.contract = Linear(d_model, name="contract", **shared)
        self.gate = Linear(d_ff, name="gate", **shared) if gated else None
        self.hidden_dropout = Dropout(dropout, dtype=self.dtype_policy)

    def build(self, inputs_shape: Shape) -> None:
        """Create the maps."""
        self.expand.build(inputs_shape)
        if self.gate is not None:
            self.gate.build(inputs_shape)
        self.contract.build((*inputs_shape[:-1], self.d_ff))

    def call(self, inputs: Hidden) -> Hidden:
        """Apply expand, activation, gate, dropout and contract."""
        hidden = self.expand(inputs)
        if self.gate is not None:
            hidden = hidden * self.gate(inputs)
        return self.contract(self.hidden_dropout(hidden))

    def get_config(self) -> Config:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "d_ff": self.d_ff,
            "d_model": self.d_model,
            "activation": keras.activations.serialize(self.activation),
            "dropout": self.dropout,
            "use_bias": self.use_bias,
            "gated": self.gated,
        }
