"""Relative positions as in Transformer-XL: sinusoids of the distance, matched by the query."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_transformer.layers.attention import MultiHeadAttention
from keras_transformer.layers.linear import Linear
from keras_transformer.layers.pairs import of_pairs
from keras_transformer.layers.weights import weights_of
from keras_transformer.typing import Bias, Mask, Shape, Size, Tensor


@keras.saving.register_keras_serializable("keras_transformer")
class TransformerXLAttention(MultiHeadAttention):
    """Self-attention whose scores are (q + u)^T k + (q + v)^T W r, divided by sqrt(d_k).

    r is the sinusoidal encoding of the distance between query and key, W a projection of it, and u
    and v are learned vectors a head. Where an absolute encoding is part of the key, the score has
    four terms: content and content, content and position, position and content, position and
    position. Here the key's position has become the distance, and the query's has become u and v,
    which do not depend on where the query is. Nothing is added to the word vectors.

    The encodings of all distances that S keys can have are projected once a call, and each pair
    looks its score up: the shift of the paper, for positions in any order.

    Args:
        num_heads: Number of heads H.
        d_model: Width D, an even number.
        **kwargs: What else `MultiHeadAttention` takes.

    Call arguments: those of `MultiHeadAttention`, and
        distance: Integer tensor `(1, T, S)`, or `(B, T, S)` if rows differ: position of the query
            less that of the key. A stack with `positions=Distances()` gives it. Distances of S and
            more, which no query has that is one of the S keys, count as S - 1.

    Returns and masking: as for `MultiHeadAttention`.

    Raises:
        ValueError: If there is no `distance`, or `d_model` is odd.

    Reference: Dai et al. 2019, "Transformer-XL", section 3.3.
    """

    needs_distance = True

    def __init__(self, num_heads: int, d_model: int, **kwargs: Any) -> None:
        super().__init__(num_heads, d_model, **kwargs)
        if d_model % 2:
            raise ValueError(f"Sinusoidal positions need an even d_model, got {d_model}.")
        self.distance_projection = Linear(
            num_heads * self.head_width, use_bias=False, dtype=self.dtype_policy, name="distance"
        )

    def build(self, query_shape: Shape) -> None:
        """Create the projections, and the biases u and v, each `(H, d_k)`."""
        super().build(query_shape)
        self.distance_projection.build((None, self.d_model))
        self.content_bias, self.position_bias = (
            self.add_weight(
                shape=(self.num_heads, self.head_width),
                initializer=keras.initializers.RandomNormal(stddev=0.02),
                name=name,
            )
            for name in ("content_bias", "position_bias")
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
        """Score content and distance, and mix values by the softmax of that."""
        if distance is None:
            raise ValueError(
                "TransformerXLAttention needs the distance of each query and key: give the stack "
                "positions=Distances()."
            )
        last = ops.shape(key)[2] - 1
        keys_of_distances = ops.transpose(self._keys_of_distances(last), (1, 2, 0))  # (H, d_k, C)
        of_distances = ops.matmul(self._biased(query, self.position_bias), keys_of_distances)
        index = ops.clip(ops.cast(distance, "int32"), -last, last) + last
        content = self._biased(query, self.content_bias)
        scores = ops.matmul(content, ops.swapaxes(key, -1, -2))
        weights = weights_of(
            ops.cast(scores, "float32") + ops.cast(of_pairs(of_distances, index), "float32"),
            attention_mask,
            attention_bias,
        )
        mixing = self.attention_dropout(ops.cast(weights, value.dtype))
        return ops.matmul(mixing, value), weights

    def _biased(self, query: Tensor, bias: Tensor) -> Tensor:
        """Add u or v to the queries, and scale them."""
        bias = ops.cast(ops.expand_dims(bias, 1), query.dtype)  # (H, 1, d_k)
        return (query + bias) * (self.head_width**-0.5)

    def _keys_of_distances(self, last: Size) -> Tensor:
        """Project the encodings of the distances -last to last: `(C, H, d_k)`."""
        frequencies = 10000.0 ** (-np.arange(0, self.d_model, 2) / self.d_model)
        distances = ops.cast(ops.arange(2 * last + 1, dtype="int32") - last, "float32")
        angles = ops.expand_dims(distances, 1) * ops.convert_to_tensor(
            frequencies.astype("float32")
        )
        encodings = ops.concatenate([ops.sin(angles), ops.cos(angles)], axis=-1)  # (C, D)
        projected = self.distance_projection(ops.cast(encodings, self.compute_dtype))
        return ops.reshape(projected, (-1, self.num_heads, self.head_width))
