"""Grouped-query and multi-query attention: several query heads share a head of keys and values."""

from typing import Any

import keras
from keras import ops

from keras_transformer.layers.attention import MultiHeadAttention, scaled_dot_product_attention
from keras_transformer.typing import Bias, Config, Mask, Tensor


@keras.saving.register_keras_serializable("keras_transformer")
class GroupedQueryAttention(MultiHeadAttention):
    """Multi-head attention in which H query heads share G heads of keys and values.

    The cache of decoding is G / H as large, and so is what each step reads of it. G = 1 is
    multi-query attention, G = H is multi-head attention.

    Args:
        num_heads: Number of query heads H.
        d_model: Width D.
        num_kv_heads: Number of heads of keys and values G. Must divide `num_heads`.
        **kwargs: What else `MultiHeadAttention` takes.

    Call arguments and returns: as for `MultiHeadAttention`; keys and values in a cache are
    `(B, G, S, d_k)`.

    Raises:
        ValueError: If `num_kv_heads` does not divide `num_heads`.

    Reference: Shazeer 2019, "Fast Transformer Decoding"; Ainslie et al. 2023, "GQA".
    """

    settings = ("num_kv_heads",)

    def __init__(self, num_heads: int, d_model: int, num_kv_heads: int = 1, **kwargs: Any) -> None:
        if num_kv_heads < 1 or num_heads % num_kv_heads:
            raise ValueError(
                f"num_heads must be a multiple of num_kv_heads, got num_heads={num_heads} and "
                f"num_kv_heads={num_kv_heads}."
            )
        self.num_kv_heads = num_kv_heads  # first: `cache_shape` says how wide keys and values are
        super().__init__(num_heads, d_model, **kwargs)

    @property
    def cache_shape(self) -> tuple[int, int]:
        """The heads and the width of keys and values as a cache holds them: (G, d_k)."""
        return self.num_kv_heads, self.head_width

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Mask | None = None,
        attention_bias: Bias | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Attend by groups, whose queries read the same keys and values."""
        group = self.num_heads // self.num_kv_heads

        # (B, H, ...) -> (B, G, H / G, ...); an axis of length 1 stays one.
        def in_groups(x: Tensor) -> Tensor:
            heads = x.shape[1]
            split = (heads, 1) if heads == 1 else (self.num_kv_heads, group)
            _, _, *rest = ops.shape(x)
            return ops.reshape(x, (-1, *split, *rest))

        mixed, weights = scaled_dot_product_attention(
            in_groups(query),
            ops.expand_dims(key, 2),
            ops.expand_dims(value, 2),
            None if attention_mask is None else ops.expand_dims(attention_mask, 2),
            None if attention_bias is None else in_groups(attention_bias),
            self.attention_dropout,
        )
        _, _, _, *rest = ops.shape(weights)
        weights = ops.reshape(weights, (-1, self.num_heads, *rest))
        _, _, _, *rest = ops.shape(mixed)
        return ops.reshape(mixed, (-1, self.num_heads, *rest)), weights

    def get_config(self) -> Config:
        """Return the constructor's arguments."""
        return {**super().get_config(), "num_kv_heads": self.num_kv_heads}
