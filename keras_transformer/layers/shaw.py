"""Relative positions as learned vectors, in the scores and in what is mixed."""

from typing import Any

import keras
from keras import ops

from keras_transformer.layers.attention import MultiHeadAttention
from keras_transformer.layers.pairs import by_distance, of_pairs
from keras_transformer.layers.weights import weights_of
from keras_transformer.typing import Bias, Config, Mask, Shape, Tensor


@keras.saving.register_keras_serializable("keras_transformer")
class ShawAttention(MultiHeadAttention):
    """Self-attention in which each distance between a query and a key has two learned vectors.

    One is added to the key when it is scored, the other to the value when it is mixed; all heads
    share them. Distances beyond `max_distance` in either direction count as `max_distance`. Nothing
    is added to the word vectors, so that moving a whole sentence changes nothing.

    Both sums are taken apart, so that no vector is written for each pair: queries are scored
    against the 2 `max_distance` + 1 vectors, and each pair looks its score up; and weights of the
    same distance are summed up before they are multiplied by its vector.

    Args:
        num_heads: Number of heads H.
        d_model: Width D.
        max_distance: The largest distance with vectors of its own.
        **kwargs: What else `MultiHeadAttention` takes.

    Call arguments: those of `MultiHeadAttention`, and
        distance: Integer tensor `(1, T, S)`, or `(B, T, S)` if rows differ: position of the query
            less that of the key. A stack with `positions=Distances()` gives it.

    Returns and masking: as for `MultiHeadAttention`.

    Raises:
        ValueError: If there is no `distance`, or `max_distance` is negative.

    Reference: Shaw et al. 2018, "Self-Attention with Relative Position Representations".
    """

    settings = ("max_distance",)
    needs_distance = True

    def __init__(self, num_heads: int, d_model: int, max_distance: int = 16, **kwargs: Any) -> None:
        super().__init__(num_heads, d_model, **kwargs)
        if max_distance < 0:
            raise ValueError(f"max_distance must not be negative, got {max_distance}.")
        self.max_distance = max_distance

    def build(self, query_shape: Shape) -> None:
        """Create the projections, and the vectors of distances, two times `(2 k + 1, d_k)`."""
        super().build(query_shape)
        self.key_vectors, self.value_vectors = (
            self.add_weight(
                shape=(2 * self.max_distance + 1, self.head_width),
                initializer="glorot_uniform",
                name=name,
            )
            for name in ("key_vectors", "value_vectors")
        )

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Mask | None = None,
        attention_bias: Bias | None = None,
        distance: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Score keys and distances, and mix values and the vectors of distances."""
        if distance is None:
            raise ValueError(
                "ShawAttention needs the distance of each query and key: give the stack "
                "positions=Distances()."
            )
        last = self.max_distance
        index = ops.clip(distance, -last, last) + last
        query = query * (self.head_width**-0.5)
        scores = ops.matmul(query, ops.swapaxes(key, -1, -2))
        of_distances = ops.matmul(query, ops.transpose(ops.cast(self.key_vectors, query.dtype)))
        weights = weights_of(
            ops.cast(scores, "float32") + ops.cast(of_pairs(of_distances, index), "float32"),
            attention_mask,
            attention_bias,
        )
        mixing = self.attention_dropout(ops.cast(weights, value.dtype))
        # In float32: a query may have many keys at the last distance.
        summed = by_distance(ops.cast(mixing, "float32"), index, 2 * last + 1)
        vectors = ops.matmul(
            ops.cast(summed, value.dtype), ops.cast(self.value_vectors, value.dtype)
        )
        return ops.matmul(mixing, value) + vectors, weights

    def get_config(self) -> Config:
        """Return the constructor's arguments."""
        return {**super().get_config(), "max_distance": self.max_distance}
