"""Additive attention: a small network scores each pair of a query and a key."""

import keras
from keras import ops

from keras_transformer.layers.attention import MultiHeadAttention
from keras_transformer.layers.weights import weights_of
from keras_transformer.typing import Bias, Mask, Shape, Tensor


@keras.saving.register_keras_serializable("keras_transformer")
class AdditiveAttention(MultiHeadAttention):
    """Multi-head attention whose scores are v^T tanh(q + k), with a learned v a head.

    The score is a network with one hidden layer of width d_k, whose weights for query and key are
    the two projections. It needs no scale, since no product grows with d_k. It holds a tensor
    `(B, H, T, S, d_k)`, d_k times as large as the scores, where dot products need the scores alone.

    Args:
        num_heads: Number of heads H.
        d_model: Width D.
        **kwargs: What else `MultiHeadAttention` takes.

    Call arguments, returns and masking: as for `MultiHeadAttention`.

    Reference: Bahdanau et al. 2015, "Neural Machine Translation by Jointly Learning to Align and
    Translate", appendix A.1.2.
    """

    @classmethod
    def own_weights(cls, num_heads: int, head_width: int) -> int:
        """Return the size of the vectors v."""
        return num_heads * head_width

    @classmethod
    def kept_per_score(cls, head_width: int) -> int:
        """Return the size of the hidden layer, before and after tanh."""
        return 2 * head_width

    def build(self, query_shape: Shape) -> None:
        """Create the projections, and the vectors v `(H, d_k)`."""
        super().build(query_shape)
        self.score_vectors = self.add_weight(
            shape=(self.num_heads, self.head_width),
            initializer=keras.initializers.RandomNormal(stddev=self.head_width**-0.5),
            name="score_vectors",
        )

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Mask | None = None,
        attention_bias: Bias | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Score by the network, and mix values by the softmax of that."""
        hidden = ops.tanh(ops.expand_dims(query, 3) + ops.expand_dims(key, 2))  # (B, H, T, S, d_k)
        vectors = ops.cast(self.score_vectors, hidden.dtype)
        vectors = ops.reshape(vectors, (1, self.num_heads, 1, self.head_width, 1))
        scores = ops.squeeze(ops.matmul(hidden, vectors), -1)
        weights = weights_of(scores, attention_mask, attention_bias)
        mixing = self.attention_dropout(ops.cast(weights, value.dtype))
        return ops.matmul(mixing, value), weights
