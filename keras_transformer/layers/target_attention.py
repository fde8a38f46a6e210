"""Attention of one target over a set of candidates, as recommenders use it."""

from typing import Any

import keras
from keras import ops

from keras_transformer.layers.attention import MultiHeadAttention
from keras_transformer.layers.layer import Layer
from keras_transformer.layers.masks import attend_to
from keras_transformer.typing import Config, Hidden, Mask, Shape, Tensor


@keras.saving.register_keras_serializable("keras_transformer")
class TargetAttention(Layer):
    """Sum up a list of candidates by how well each goes with one target.

    The target is the only query; the candidates, say what somebody bought before, are keys and
    values. There are no positions, so that the order of the candidates changes nothing.

    Args:
        d_model: Width D of target, candidates and output.
        num_heads: Number of heads H. Must divide `d_model`.
        dropout: Rate of dropout on the attention weights.
        use_bias: Whether the four projections have a bias.

    Call arguments:
        target: Float tensor `(B, D)`.
        candidates: Float tensor `(B, S, D)`.
        candidate_mask: Boolean tensor `(B, S)`, True at candidates, False at what fills up a short
            list; see `padding_mask`. What is False has weight exactly 0. None: all are candidates.
        return_attention: Whether to return the attention weights too.

    Returns:
        Float tensor `(B, D)`; with `return_attention`, followed by the weights `(B, H, S)` in
        float32. A list without any candidate has weights of 0 and gives the output projection's
        bias.

    Raises:
        ValueError: If `num_heads` does not divide `d_model`.

    Reference: Zhou et al. 2018, "Deep Interest Network", whose weights, unlike these, are not
    normalised; Vaswani et al. 2017 for the attention.
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int = 1,
        dropout: float = 0.0,
        use_bias: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.d_model = d_model
        self.num_heads = num_heads
        self.dropout = dropout
        self.use_bias = use_bias
        self.attention = MultiHeadAttention(
            num_heads,
            d_model,
            dropout=dropout,
            use_bias=use_bias,
            dtype=self.dtype_policy,
            name="attention",
        )

    def build(self, target_shape: Shape) -> None:
        """Create the projections for inputs of width D."""
        self.attention.build((target_shape[0], 1, target_shape[-1]))

    def call(
        self,
        target: Tensor,
        candidates: Hidden,
        candidate_mask: Mask | None = None,
        return_attention: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Attend; see the class for arguments and returns."""
        output, weights = self.attention(
            ops.expand_dims(target, 1),
            source=candidates,
            attention_mask=None if candidate_mask is None else attend_to(candidate_mask),
            return_attention=True,
        )
        output = ops.squeeze(output, 1)
        return (output, ops.squeeze(weights, 2)) if return_attention else output

    def get_config(self) -> Config:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "d_model": self.d_model,
            "num_heads": self.num_heads,
            "dropout": self.dropout,
            "use_bias": self.use_bias,
        }
