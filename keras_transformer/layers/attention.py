"""Attention: one function and one layer.

Shapes: B batch, T query length, S key length, H heads, D model width.

Masks, relative positions and sparsity come in from outside, as a boolean `attention_mask`, an
additive `attention_bias` or a `rotation` of queries and keys; this file knows none of them. What
scores otherwise than by products overrides `MultiHeadAttention.attend`, in a file of its own.

Reference: Vaswani et al. 2017, "Attention Is All You Need", section 3.2.
"""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_transformer.layers.caches import write
from keras_transformer.layers.dropout import Dropout
from keras_transformer.layers.layer import Layer
from keras_transformer.layers.linear import Linear
from keras_transformer.layers.masks import LOWEST
from keras_transformer.layers.packing import current
from keras_transformer.layers.rotary import rotate
from keras_transformer.typing import (
    Bias,
    Config,
    Hidden,
    KeysAndValues,
    Mask,
    Rotation,
    Shape,
    Size,
    Tensor,
)


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Mask | None = None,
    attention_bias: Bias | None = None,
    dropout: Callable[..., Any] | None = None,
) -> tuple[Tensor, Tensor]:
    """Mix values by how well their keys match each query: softmax(QK^T / sqrt(d_k)) V.

    The scores are divided by sqrt(d_k) because the product of two random vectors of width d_k has
    variance d_k: unscaled scores would saturate the softmax and stop its gradient.

    Args:
        query: Float tensor `(B, H, T, d_k)`.
        key: Float tensor `(B, H, S, d_k)`.
        value: Float tensor `(B, H, S, d_v)`.
        attention_mask: Boolean tensor that broadcasts to `(B, H, T, S)`, True = may attend.
        attention_bias: Float tensor that broadcasts to `(B, H, T, S)`, added to the scores.
        dropout: Callable applied to the attention weights, or None.

    Returns:
        Tuple of the mixed values `(B, H, T, d_v)` and the attention weights `(B, H, T, S)` in
        float32. Each row of weights sums to 1. A query that may attend to nothing gets a row of
        zeros and a zero output, never NaN.
    """
    query = query * (query.shape[-1] ** -0.5)
    scores = ops.matmul(query, ops.swapaxes(key, -1, -2))  # (B, H, T, S)
    scores = ops.cast(scores, "float32")
    if attention_bias is not None:
        scores = scores + ops.cast(attention_bias, "float32")
    if attention_mask is None:
        weights = _softmax(scores)
    else:
        # A finite fill: with -inf, a row without any key would become NaN. The lowest float32
        # still underflows to a weight of exactly 0 beside any real score.
        weights = _softmax(ops.where(attention_mask, scores, LOWEST))
        may_attend = ops.any(attention_mask, axis=-1, keepdims=True)
        weights = weights * ops.cast(may_attend, "float32")
    mixing = ops.cast(weights, value.dtype)
    if dropout is not None:
        mixing = dropout(mixing)
    return ops.matmul(mixing, value), weights


def _softmax(scores: Tensor) -> Tensor:
    if _is_one(scores.shape[-1]) or _is_one(scores.shape[-2]):
        # One key, of which ops.softmax would warn; or one query, as in decoding, for which
        # TensorFlow's kernel takes longer to start than these take to run.
        powers = ops.exp(scores - ops.max(scores, axis=-1, keepdims=True))
        return powers / ops.sum(powers, axis=-1, keepdims=True)
    return ops.softmax(scores, axis=-1)


def _is_one(length: Size) -> bool:
    return isinstance(length, int) and length == 1  # inside a graph it may be a tensor


@keras.saving.register_keras_serializable("keras_transformer")
class MultiHeadAttention(Layer):
    """H attentions side by side, each in a learned projection of the full input.

    Queries, keys and values have three separate projections `(D, H * d_k)`, one block of `d_k`
    columns a head; the heads' outputs are concatenated and projected once more. With
    d_k = D / H the number of heads changes neither the number of parameters nor the work.

    The kernels of the three begin with half the variance of Glorot's rule, as parts of one kernel
    (D, 3 D) would: scores begin four times as small in variance, and every query attends nearly
    alike to all keys. With norms after each sub-layer, cross-attention then begins to learn much
    sooner (docs/results.md).

    Args:
        num_heads: Number of heads H. Must divide `d_model` unless `head_width` is given.
        d_model: Width D of the input and of the output.
        dropout: Rate of dropout on the attention weights.
        use_bias: Whether the four projections have a bias.
        head_width: Width d_k of a head, if it is not D / H.

    Call arguments:
        query: Float tensor `(B, T, D)`.
        source: Float tensor `(B, S, D)` that keys and values are made of. None: `query` itself,
            which is self-attention. Ignored when `cache` is given without `cache_index`.
        attention_mask: Boolean tensor `(B, T, S)`, or any that broadcasts to it; True = may
            attend. None: every query attends to every key.
        attention_bias: Float tensor that broadcasts to `(B, H, T, S)`, added to the scores.
        rotation: What `rotate` turns queries, and keys before they are cached, by; see
            `RotaryPositions`.
        cache: Tuple of keys and values, each `(B, H, S, d_k)`, from `keys_and_values`. They are
            attended to instead of the ones that `source` would give.
        cache_index: Integer scalar tensor. With it, the keys and values of `query` are first
            written into the cache at this position, and the new cache is returned as well.
        prefix: Tuple of keys and values, each `(B, H, P, d_k)`, that come before all others, such
            as those of a prompt. Masks and biases are then for P + S keys.
        return_attention: Whether to return the attention weights too.
        **others: What `attend` of a subclass takes beside.

    Returns:
        Float tensor `(B, T, D)`; with `cache_index`, followed by the new cache; with
        `return_attention`, followed by the weights `(B, H, T, S)` in float32.

    Raises:
        ValueError: If `num_heads` does not divide `d_model`, and there is no `head_width`.

    Subclasses score in another way by overriding `attend`. A configuration chooses them by a name
    in `ATTENTIONS`, and makes them of the arguments above and of the fields that `settings` names.

    Attributes:
        settings: Names of the fields of a configuration that the constructor takes beside.
        needs_distance: Whether `attend` takes the `distance` of each query and key; the stack then
            gets `positions=Distances()`.

    Reference: Vaswani et al. 2017, section 3.2.2.
    """

    settings: tuple[str, ...] = ()
    needs_distance = False

    def __init__(
        self,
        num_heads: int,
        d_model: int,
        dropout: float = 0.0,
        use_bias: bool = True,
        head_width: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.autocast = False  # the projections cast; a bias on the scores has to stay in float32
        if num_heads < 1 or (head_width is None and d_model % num_heads):
            raise ValueError(
                f"d_model must be a multiple of num_heads, got d_model={d_model} and "
                f"num_heads={num_heads}."
            )
        self.num_heads = num_heads
        self.d_model = d_model
        self.head_width = head_width or d_model // num_heads  # d_k
        self.dropout = dropout
        self.use_bias = use_bias
        width, shared = (heads * self.head_width for heads in (num_heads, self.cache_shape[0]))
        self.query_projection = self._projection("query", 0.5, width)
        self.key_projection = self._projection("key", 0.5, shared)
        self.value_projection = self._projection("value", 0.5, shared)
        self.output_projection = self._projection("output", 1.0, d_model)
        self.attention_dropout = Dropout(dropout, dtype=self.dtype_policy)

    def _projection(self, name: str, scale: float, width: int) -> Linear:
        return Linear(
            width,
            use_bias=self.use_bias,
            kernel_initializer=keras.initializers.VarianceScaling(scale, "fan_avg", "uniform"),
            dtype=self.dtype_policy,
            name=name,
        )

    def build(self, query_shape: Shape) -> None:
        """Create the four projections for inputs of width D."""
        if query_shape[-1] != self.d_model:
            raise ValueError(
                f"MultiHeadAttention was made for inputs of width d_model={self.d_model}, got "
                f"shape {tuple(query_shape)}."
            )
        for projection in (self.query_projection, self.key_projection, self.value_projection):
            if not projection.built:  # one that is shared is
                projection.build(query_shape)
        self.output_projection.build((*query_shape[:-1], self.num_heads * self.head_width))

    def call(
        self,
        query: Hidden,
        source: Hidden | None = None,
        attention_mask: Mask | None = None,
        attention_bias: Bias | None = None,
        rotation: Rotation | None = None,
        cache: KeysAndValues | None = None,
        cache_index: Tensor | None = None,
        prefix: KeysAndValues | None = None,
        return_attention: bool = False,
        **others: Any,
    ) -> Hidden | tuple[Any, ...]:
        """Attend; see the class for arguments and returns."""
        if cache is None:
            key, value = self.keys_and_values(query if source is None else source, rotation)
        elif cache_index is None:
            key, value = cache
        else:
            written = zip(cache, self.keys_and_values(query, rotation), strict=True)
            key, value = cache = tuple(write(c, new, cache_index) for c, new in written)
        if prefix is not None:
            pairs = zip(prefix, (key, value), strict=True)
            key, value = (ops.concatenate(pair, axis=2) for pair in pairs)
        if attention_mask is not None:
            attention_mask = ops.expand_dims(attention_mask, 1)  # (B, 1, T, S): for all heads
        queries = self._split_heads(self.query_projection(query), self.num_heads)
        if rotation is not None:
            queries = rotate(queries, rotation)
        mixed, weights = self.attend(queries, key, value, attention_mask, attention_bias, **others)
        outputs = [self.output_projection(self._join_heads(mixed))]
        if cache_index is not None:
            outputs.append(cache)
        if return_attention:
            outputs.append(weights)
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Mask | None = None,
        attention_bias: Bias | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Mix values by how well their keys match each query; subclasses score in their own way.

        Args:
            query: Float tensor `(B, H, T, d_k)`.
            key: Float tensor `(B, H, S, d_k)`.
            value: Float tensor `(B, H, S, d_k)`.
            attention_mask: Boolean tensor `(B, 1, T, S)` or any that broadcasts, or None.
            attention_bias: Float tensor that broadcasts to `(B, H, T, S)`, or None.

        Returns:
            Tuple of the mixed values `(B, H, T, d_k)` and the weights `(B, H, T, S)` in float32.
        """
        return scaled_dot_product_attention(
            query, key, value, attention_mask, attention_bias, self.attention_dropout
        )

    @classmethod
    def own_weights(cls, num_heads: int, head_width: int) -> int:
        """Return the number of weights beside the four projections, for the formula of parameters.

        Args:
            num_heads: Number of heads H.
            head_width: Width d_k of a head.
        """
        return 0

    @classmethod
    def kept_per_score(cls, head_width: int) -> int:
        """Return how many numbers each score keeps for the gradient, beside itself.

        Args:
            head_width: Width d_k of a head.
        """
        return 0

    @property
    def cache_shape(self) -> tuple[int, int]:
        """The heads and the width of keys and values as a cache holds them: (H, d_k)."""
        return self.num_heads, self.head_width

    def keys_and_values(self, source: Hidden, rotation: Rotation | None = None) -> KeysAndValues:
        """Project `source` `(B, S, D)` to keys and values, each `(B, H, S, d_k)`."""
        heads, _ = self.cache_shape
        key = self._split_heads(self.key_projection(source), heads)
        value = self._split_heads(self.value_projection(source), heads)
        return key if rotation is None else rotate(key, rotation), value

    def _split_heads(self, x: Tensor, heads: int) -> Tensor:
        if (packing := current()) is not None:
            return packing.split_heads(x, heads)
        length = ops.shape(x)[1]
        if (
            isinstance(length, int) and length == 1
        ):  # one query, as in decoding: the two axes trade places without any move
            return ops.reshape(x, (-1, heads, 1, self.head_width))
        x = ops.reshape(x, (-1, length, heads, self.head_width))
        return ops.transpose(x, (0, 2, 1, 3))  # (B, H, T, d_k)

    def _join_heads(self, x: Tensor) -> Tensor:
        if (packing := current()) is not None:
            return packing.join_heads(x)
        length = ops.shape(x)[2]
        if not _is_one(length):
            x = ops.transpose(x, (0, 2, 1, 3))
        return ops.reshape(x, (-1, length, self.num_heads * self.head_width))

    def get_config(self) -> Config:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "d_model": self.d_model,
            "dropout": self.dropout,
            "use_bias": self.use_bias,
            "head_width": self.head_width,
        }
