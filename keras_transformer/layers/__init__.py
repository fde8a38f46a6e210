"""Keras layers that Transformers are assembled from."""

from keras_transformer import _backend  # noqa: F401  (first: it keeps the start-up quiet)
from keras_transformer.layers.activations import gelu_tanh
from keras_transformer.layers.additive import AdditiveAttention
from keras_transformer.layers.attention import MultiHeadAttention, scaled_dot_product_attention
from keras_transformer.layers.attentions import ATTENTIONS
from keras_transformer.layers.blocks import DecoderBlock, EncoderBlock, SublayerConnection
from keras_transformer.layers.complex_embedding import ComplexEmbedding
from keras_transformer.layers.dropout import Dropout
from keras_transformer.layers.embeddings import OutputBias, TokenEmbedding
from keras_transformer.layers.feed_forward import FeedForward
from keras_transformer.layers.grouped_query import GroupedQueryAttention
from keras_transformer.layers.layer_mix import LayerMix
from keras_transformer.layers.linear import Linear
from keras_transformer.layers.masks import (
    attend_to,
    bias_of,
    cache_mask,
    causal_mask,
    padding_mask,
)
from keras_transformer.layers.norms import make_norm
from keras_transformer.layers.patches import ClassToken, PatchEmbedding
from keras_transformer.layers.positions import (
    LearnedPositions,
    SinusoidalPositions,
    sinusoidal_table,
)
from keras_transformer.layers.relative_positions import BucketedBias, Distances, LinearBias
from keras_transformer.layers.rotary import RotaryPositions, rotate
from keras_transformer.layers.shared_projections import SharedProjectionAttention
from keras_transformer.layers.shaw import ShawAttention
from keras_transformer.layers.stacks import Decoder, Encoder
from keras_transformer.layers.target_attention import TargetAttention
from keras_transformer.layers.transformer_xl import TransformerXLAttention
from keras_transformer.layers.weights import weights_of

__all__ = [
    "ATTENTIONS",
    "AdditiveAttention",
    "BucketedBias",
    "ClassToken",
    "ComplexEmbedding",
    "Decoder",
    "DecoderBlock",
    "Distances",
    "Dropout",
    "Encoder",
    "EncoderBlock",
    "FeedForward",
    "GroupedQueryAttention",
    "LayerMix",
    "LearnedPositions",
    "Linear",
    "LinearBias",
    "MultiHeadAttention",
    "OutputBias",
    "PatchEmbedding",
    "RotaryPositions",
    "SharedProjectionAttention",
    "ShawAttention",
    "SinusoidalPositions",
    "SublayerConnection",
    "TargetAttention",
    "TokenEmbedding",
    "TransformerXLAttention",
    "attend_to",
    "bias_of",
    "cache_mask",
    "causal_mask",
    "gelu_tanh",
    "make_norm",
    "padding_mask",
    "rotate",
    "scaled_dot_product_attention",
    "sinusoidal_table",
    "weights_of",
]
