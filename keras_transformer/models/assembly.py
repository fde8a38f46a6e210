"""From a configuration to the layers that every family is assembled from."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras

from keras_transformer.layers import (
    ATTENTIONS,
    BucketedBias,
    Distances,
    Dropout,
    GroupedQueryAttention,
    LearnedPositions,
    LinearBias,
    MultiHeadAttention,
    RotaryPositions,
    ShawAttention,
    SinusoidalPositions,
    TokenEmbedding,
    TransformerXLAttention,
)
from keras_transformer.layers.norms import make_norm
from keras_transformer.models.config import StackConfig
from keras_transformer.typing import DType, Hidden, Ids, Tensor

# Relative positions that are a kind of attention.
ATTENTION_OF_POSITIONS = {"shaw": ShawAttention, "transformer-xl": TransformerXLAttention}


def stack_arguments(
    config: StackConfig, causal: bool, dtype: DType = None, devices: Sequence[str] = ()
) -> dict[str, Any]:
    """Return what `Encoder` and `Decoder` take for a configuration.

    Args:
        config: The configuration.
        causal: Whether tokens see only those before them, for positions that tell the two sides
            apart.
        dtype: A dtype policy.
        devices: As for the stacks.
    """
    return {
        "num_heads": config.num_heads,
        "d_model": config.d_model,
        "d_ff": config.d_ff,
        "activation": config.activation,
        "dropout": config.dropout,
        "attention_dropout": config.attention_dropout,
        "ffn_dropout": config.ffn_dropout,
        "norm_first": config.norm_first,
        "epsilon": config.layer_norm_epsilon,
        "norm": config.norm,
        "use_bias": config.use_bias,
        "gated": config.gated,
        "head_width": config.head_width,
        "attention": _attention(config),
        "positions": _relative_positions(config, causal, dtype),
        "share_layers": config.share_layers,
        "recompute": config.recompute,
        "devices": devices,
        "dtype": dtype,
    }


def attention_class(config: StackConfig) -> type[MultiHeadAttention]:
    """Return the class of a configuration's self-attention; at most one field chooses another."""
    if config.num_kv_heads is not None:
        return GroupedQueryAttention
    return ATTENTION_OF_POSITIONS.get(config.positions) or ATTENTIONS[config.attention]


def _attention(config: StackConfig) -> MultiHeadAttention | None:
    """Return the layer that self-attention becomes a copy of, or None for the usual one."""
    arguments: dict[str, Any] = {
        "num_heads": config.num_heads,
        "d_model": config.d_model,
        "dropout": config.attention_dropout,
        "use_bias": config.use_bias,
        "head_width": config.head_width,
    }
    cls = attention_class(config)
    if cls is MultiHeadAttention:
        return None
    return cls(**{name: getattr(config, name) for name in cls.settings}, **arguments)


def _relative_positions(
    config: StackConfig, causal: bool, dtype: DType
) -> keras.layers.Layer | None:
    """Return the layer of relative positions of one stack, or None."""
    kind, own = config.positions, {"dtype": dtype, "name": "relative_positions"}
    if kind == "rotary":
        return RotaryPositions(config.key_width, **own)
    if kind == "alibi":
        return LinearBias(config.num_heads, **own)
    if kind == "buckets":
        return BucketedBias(
            config.num_heads, config.num_buckets, config.max_distance, not causal, **own
        )
    if attention_class(config).needs_distance:
        return Distances(**own)
    return None


def embedding(
    config: StackConfig, name: str, dtype: DType = None, width: int | None = None
) -> TokenEmbedding:
    """Make a table of tokens; `width` is D if not given."""
    return TokenEmbedding(
        config.vocabulary_size,
        width or config.d_model,
        scale=config.scale_embeddings,
        dtype=dtype,
        name=name,
    )


@dataclasses.dataclass
class Embedder:
    """The layers before the first block: table, positions, norm, dropout.

    Args:
        table: The table of tokens.
        positions: Absolute positions, or None.
        norm: A norm, or None.
        dropout: Dropout.
    """

    table: keras.layers.Layer
    positions: keras.layers.Layer | None
    norm: keras.layers.Layer | None
    dropout: keras.layers.Layer

    @classmethod
    def of(
        cls,
        config: StackConfig,
        table: keras.layers.Layer,
        name: str,
        dropout: keras.layers.Layer | None = None,
        dtype: DType = None,
    ) -> "Embedder":
        """Make the layers around a table.

        Args:
            config: The configuration.
            table: The table of tokens.
            name: What names begin with; "" or such as "source_".
            dropout: A layer to share; a new one if None.
            dtype: A dtype policy.
        """
        kinds = {"sinusoidal": SinusoidalPositions, "learned": LearnedPositions}
        positions = None
        if config.positions in kinds:
            make = kinds[config.positions]
            positions = make(config.max_length, dtype=dtype, name=f"{name}positions")
        norm = None
        if config.norm_embeddings:
            norm = make_norm(config.norm, config.layer_norm_epsilon, dtype, f"{name}embedding_norm")
        if dropout is None:
            dropout = Dropout(config.embedding_dropout, dtype=dtype, name="embedding_dropout")
        return cls(table, positions, norm, dropout)

    def __call__(self, ids: Ids, start: Tensor = 0, more: Tensor | None = None) -> Hidden:
        """Embed ids: `(B, T)` -> `(B, T, D)`.

        Args:
            ids: Integer tensor `(B, T)`.
            start: Position of the first, an integer scalar or `(B,)`.
            more: Float tensor to add, such as embeddings of segments, or None.
        """
        x = self.table(ids)
        if self.positions is not None:
            x = self.positions(x, start=start)
        if more is not None:
            x = x + more
        if self.norm is not None:
            x = self.norm(x)
        return self.dropout(x)
