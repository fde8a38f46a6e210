"""From scores to attention weights, for attentions that score in a way of their own."""

from keras import ops

from keras_transformer.layers.masks import LOWEST
from keras_transformer.typing import Bias, Mask, Tensor


def weights_of(
    scores: Tensor, attention_mask: Mask | None = None, attention_bias: Bias | None = None
) -> Tensor:
    """Turn scores into weights: a softmax over the keys that each query may attend to.

    Args:
        scores: Float tensor `(B, H, T, S)`.
        attention_mask: Boolean tensor that broadcasts to `(B, H, T, S)`, True = may attend.
        attention_bias: Float tensor that broadcasts to `(B, H, T, S)`, added to the scores.

    Returns:
        Float32 tensor `(B, H, T, S)`, each row of which sums to 1. Masked keys have weight exactly
        0, and a query that may attend to nothing gets a row of zeros, as in
        `scaled_dot_product_attention`.
    """
    scores = ops.cast(scores, "float32")
    if attention_bias is not None:
        scores = scores + ops.cast(attention_bias, "float32")
    if attention_mask is not None:
        scores = ops.where(attention_mask, scores, LOWEST)
    powers = ops.exp(scores - ops.max(scores, axis=-1, keepdims=True))
    weights = powers / ops.sum(powers, axis=-1, keepdims=True)
    if attention_mask is not None:
        may_attend = ops.any(attention_mask, axis=-1, keepdims=True)
        weights = weights * ops.cast(may_attend, "float32")
    return weights
