"""Keras layers that Transformers are assembled from."""

from keras_transformer import _backend  # noqa: F401  (first: it keeps the start-up quiet)
from keras_transformer.layers.attention import MultiHeadAttention, scaled_dot_product_attention
from keras_transformer.layers.blocks import DecoderBlock, EncoderBlock, SublayerConnection
from keras_transformer.layers.dropout import Dropout
from keras_transformer.layers.embeddings import TokenEmbedding
from keras_transformer.layers.feed_forward import FeedForward
from keras_transformer.layers.linear import Linear
from keras_transformer.layers.masks import (
    attend_to,
    bias_of,
    cache_mask,
    causal_mask,
    padding_mask,
)
from keras_transformer.layers.positions import (
    LearnedPositions,
    SinusoidalPositions,
    sinusoidal_table,
)
from keras_transformer.layers.stacks import Decoder, Encoder

__all__ = [
    "Decoder",
    "DecoderBlock",
    "Dropout",
    "Encoder",
    "EncoderBlock",
    "FeedForward",
    "LearnedPositions",
    "Linear",
    "MultiHeadAttention",
    "SinusoidalPositions",
    "SublayerConnection",
    "TokenEmbedding",
    "attend_to",
    "bias_of",
    "cache_mask",
    "causal_mask",
    "padding_mask",
    "scaled_dot_product_attention",
    "sinusoidal_table",
]
