"""Encoder and decoder blocks: attention and feed-forward, each inside Add & Norm."""

from typing import Any, Self

import keras
from keras import ops

from keras_transformer.layers.activations import get_activation
from keras_transformer.layers.attention import MultiHeadAttention
from keras_transformer.layers.dropout import Dropout
from keras_transformer.layers.feed_forward import FeedForward
from keras_transformer.layers.layer import Layer
from keras_transformer.layers.norms import make_norm
from keras_transformer.typing import Bias, Config, Hidden, KeysAndValues, Mask, Shape, Tensor


@keras.saving.register_keras_serializable("keras_transformer")
class SublayerConnection(Layer):
    """Residual connection, dropout and layer normalisation around one sub-layer.

    Post-norm, the paper's: `norm(x + dropout(sublayer(x)))`.
    Pre-norm: `x + dropout(sublayer(norm(x)))`; a stack of these ends with one more norm.

    Args:
        sublayer: The layer to wrap. It takes `x` first and returns `y`, or `y` and more.
        dropout: Rate of dropout on the sub-layer's output.
        norm_first: True for pre-norm, False for post-norm.
        epsilon: Added to the variance inside the norm.
        norm: Kind of norm: "layer", "rms" or "batch", see `make_norm`.

    Call arguments:
        inputs: Float tensor `(B, T, D)`.
        **kwargs: Passed on to the sub-layer.

    Returns:
        Float tensor `(B, T, D)`, followed by whatever else the sub-layer returned.

    Reference: Vaswani et al. 2017, section 3.1 and 5.4; Xiong et al. 2020 for pre-norm.
    """

    def __init__(
        self,
        sublayer: keras.layers.Layer,
        dropout: float = 0.0,
        norm_first: bool = False,
        epsilon: float = 1e-6,
        norm: str = "layer",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.autocast = False  # a bias or a rotation on its way to attention stays in float32
        self.sublayer = sublayer
        self.dropout = dropout
        self.norm_first = norm_first
        self.epsilon = epsilon
        self.kind = norm
        self.norm = make_norm(norm, epsilon, self.dtype_policy, "norm")
        self.output_dropout = Dropout(dropout, dtype=self.dtype_policy)

    def build(self, inputs_shape: Shape) -> None:
        """Build the sub-layer and its norm."""
        if not self.sublayer.built:  # one that was loaded is
            self.sublayer.build(inputs_shape)
        self.norm.build(inputs_shape)

    def call(self, inputs: Hidden, **kwargs: Any) -> Hidden | tuple[Any, ...]:
        """Apply the sub-layer inside Add & Norm."""
        inputs = ops.cast(inputs, self.compute_dtype)
        outputs = self.sublayer(self.norm(inputs) if self.norm_first else inputs, **kwargs)
        y, *others = outputs if isinstance(outputs, tuple) else (outputs,)
        y = inputs + self.output_dropout(y)
        if not self.norm_first:
            y = self.norm(y)
        return (y, *others) if others else y

    def get_config(self) -> Config:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "sublayer": keras.saving.serialize_keras_object(self.sublayer),
            "dropout": self.dropout,
            "norm_first": self.norm_first,
            "epsilon": self.epsilon,
            "norm": self.kind,
        }

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """Rebuild the wrapper and the layer inside."""
        sublayer = keras.saving.deserialize_keras_object(config["sublayer"])
        return cls(**{**config, "sublayer": sublayer})


class _Block(Layer):
    """The arguments that encoder and decoder blocks share, and how sub-layers are made."""

    def __init__(
        self,
        num_heads: int,
        d_model: int,
        d_ff: int,
        activation: Any = "relu",
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        ffn_dropout: float = 0.0,
        norm_first: bool = False,
        epsilon: float = 1e-6,
        norm: str = "layer",
        use_bias: bool = True,
        gated: bool = False,
        head_width: int | None = None,
        attention: keras.layers.Layer | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.autocast = False  # as in `SublayerConnection`
        self.num_heads = num_heads
        self.d_model = d_model
        self.d_ff = d_ff
        self.activation = get_activation(activation)
        self.dropout = dropout
        self.attention_dropout = attention_dropout
        self.ffn_dropout = ffn_dropout
        self.norm_first = norm_first
        self.epsilon = epsilon
        self.norm = norm
        self.use_bias = use_bias
        self.gated = gated
        self.head_width = head_width
        self.attention = attention

    def _attention(self, name: str, like: keras.layers.Layer | None = None) -> SublayerConnection:
        own = {"dtype": self.dtype_policy, "name": "attention"}
        if like is not None:
            attention = type(like).from_config({**like.get_config(), **own})
        else:
            attention = MultiHeadAttention(
                self.num_heads,
                self.d_model,
                dropout=self.attention_dropout,
                use_bias=self.use_bias,
                head_width=self.head_width,
                **own,
            )
        return self._connect(attention, name)

    def _feed_forward(self) -> SublayerConnection:
        feed_forward = FeedForward(
            self.d_ff,
            self.d_model,
            activation=self.activation,
            dropout=self.ffn_dropout,
            use_bias=self.use_bias,
            gated=self.gated,
            dtype=self.dtype_policy,
            name="network",
        )
        return self._connect(feed_forward, "feed_forward")

    def _connect(self, sublayer: keras.layers.Layer, name: str) -> SublayerConnection:
        return SublayerConnection(
            sublayer,
            dropout=self.dropout,
            norm_first=self.norm_first,
            epsilon=self.epsilon,
            norm=self.norm,
            dtype=self.dtype_policy,
            name=name,
        )

    def get_config(self) -> Config:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "d_model": self.d_model,
            "d_ff": self.d_ff,
            "activation": keras.activations.serialize(self.activation),
            "dropout": self.dropout,
            "attention_dropout": self.attention_dropout,
            "ffn_dropout": self.ffn_dropout,
            "norm_first": self.norm_first,
            "epsilon": self.epsilon,
            "norm": self.norm,
            "use_bias": self.use_bias,
            "gated": self.gated,
            "head_width": self.head_width,
            "attention": keras.saving.serialize_keras_object(self.attention),
        }

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """Rebuild the block, and the attention that it was given."""
        attention = keras.saving.deserialize_keras_object(config.get("attention"))
        return cls(**{**config, "attention": attention})


@keras.saving.register_keras_serializable("keras_transformer")
class EncoderBlock(_Block):
    """Self-attention and feed-forward, each inside Add & Norm.

    Args:
        num_heads: Number of attention heads H.
        d_model: Width D.
        d_ff: Width of the feed-forward's hidden layer.
        activation: The feed-forward's activation.
        dropout: Rate on the output of each sub-layer (the paper's only dropout in a block).
        attention_dropout: Rate on the attention weights.
        ffn_dropout: Rate on the feed-forward's hidden layer.
        norm_first: True for pre-norm, False for the paper's post-norm.
        epsilon: Added to the variance in layer normalisation.
        norm: Kind of norm: "layer", "rms" or "batch", see `make_norm`.
        use_bias: Whether attention and feed-forward have biases.
        gated: Whether the feed-forward has a gate.
        head_width: Width of a head, if it is not `d_model / num_heads`.
        attention: A layer of which self-attention becomes a copy, such as `GroupedQueryAttention`;
            None for `MultiHeadAttention`.

    Call arguments:
        inputs: Float tensor `(B, S, D)`.
        attention_mask: Boolean tensor `(B, S, S)` or `(B, 1, S)`, True = may attend.
        **positions: What else self-attention takes: `attention_bias`, `rotation` and the like.

    Returns:
        Float tensor `(B, S, D)`.

    Raises:
        ValueError: If `num_heads` does not divide `d_model`.

    Reference: Vaswani et al. 2017, section 3.1.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.self_attention = self._attention("self_attention", self.attention)
        self.feed_forward = self._feed_forward()

    def build(self, inputs_shape: Shape) -> None:
        """Build the two sub-layers."""
        self.self_attention.build(inputs_shape)
        self.feed_forward.build(inputs_shape)

    def call(
        self,
        inputs: Hidden,
        attention_mask: Mask | None = None,
        training: bool | None = None,
        **positions: Any,
    ) -> Hidden:
        """Apply both sub-layers, which find `training` in Keras's call context."""
        x = self.self_attention(inputs, attention_mask=attention_mask, **positions)
        return self.feed_forward(x)


@keras.saving.register_keras_serializable("keras_transformer")
class DecoderBlock(_Block):
    """Masked self-attention, cross-attention and feed-forward, each inside Add & Norm.

    Args:
        num_heads: Number of attention heads H.
        d_model: Width D.
        d_ff: Width of the feed-forward's hidden layer.
        activation: The feed-forward's activation.
        dropout: Rate on the output of each sub-layer (the paper's only dropout in a block).
        attention_dropout: Rate on the attention weights.
        ffn_dropout: Rate on the feed-forward's hidden layer.
        norm_first: True for pre-norm, False for the paper's post-norm.
        epsilon: Added to the variance in layer normalisation.
        norm: Kind of norm: "layer", "rms" or "batch", see `make_norm`.
        use_bias: Whether attention and feed-forward have biases.
        gated: Whether the feed-forward has a gate.
        head_width: Width of a head, if it is not `d_model / num_heads`.
        attention: A layer of which self-attention becomes a copy, such as `GroupedQueryAttention`;
            None for `MultiHeadAttention`.
        cross_attention: Whether there is one. Without it, the block is one of a decoder-only model.

    Call arguments:
        inputs: Float tensor `(B, T, D)`.
        memory: Float tensor `(B, S, D)`, the encoder's output. Not needed with `memory_cache`.
        attention_mask: Boolean tensor `(B, T, T)` for self-attention, True = may attend.
        memory_mask: Boolean tensor `(B, 1, S)` for cross-attention, True = may attend. It hides
            the source's padding.
        attention_bias: Float tensor added to the scores of self-attention; broadcasts to
            `(B, H, T, T)`.
        memory_bias: The same for cross-attention; broadcasts to `(B, H, T, S)`.
        memory_cache: Keys and values of `memory`, from `keys_and_values` of the cross-attention.
        cache: Keys and values of this block's self-attention, each `(B, H, T, d_k)`.
        cache_index: Integer scalar tensor: where in `cache` the keys and values of `inputs` belong.
        **positions: What else self-attention takes: `rotation`, `prefix` and the like.

    Returns:
        Float tensor `(B, T, D)`; with `cache_index`, followed by the new cache.

    Raises:
        ValueError: If `num_heads` does not divide `d_model`.

    Reference: Vaswani et al. 2017, section 3.1.
    """

    def __init__(self, *args: Any, cross_attention: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.self_attention = self._attention("self_attention", self.attention)
        self.cross_attention = self._attention("cross_attention") if cross_attention else None
        self.feed_forward = self._feed_forward()

    def build(self, inputs_shape: Shape) -> None:
        """Build the three sub-layers."""
        self.self_attention.build(inputs_shape)
        if self.cross_attention is not None:
            self.cross_attention.build(inputs_shape)
        self.feed_forward.build(inputs_shape)

    def call(
        self,
        inputs: Hidden,
        memory: Hidden | None = None,
        attention_mask: Mask | None = None,
        memory_mask: Mask | None = None,
        attention_bias: Bias | None = None,
        memory_bias: Bias | None = None,
        memory_cache: KeysAndValues | None = None,
        cache: KeysAndValues | None = None,
        cache_index: Tensor | None = None,
        training: bool | None = None,
        **positions: Any,
    ) -> Hidden | tuple[Hidden, KeysAndValues]:
        """Apply the three sub-layers, which find `training` in Keras's call context."""
        x = self.self_attention(
            inputs,
            attention_mask=attention_mask,
            attention_bias=attention_bias,
            cache=cache,
            cache_index=cache_index,
            **positions,
        )
        if cache_index is not None:
            x, cache = x
        if self.cross_attention is not None:
            x = self.cross_attention(
                x,
                source=memory,
                attention_mask=memory_mask,
                attention_bias=memory_bias,
                cache=memory_cache,
            )
        x = self.feed_forward(x)
        return x if cache_index is None else (x, cache)

    def get_config(self) -> Config:
        """Return the constructor's arguments."""
        return {**super().get_config(), "cross_attention": self.cross_attention is not None}
