"""Models: assembled from `keras_transformer.layers` through the functional API."""

from keras_transformer import _backend  # noqa: F401  (first: it keeps the start-up quiet)
from keras_transformer.models.attention_maps import attention_maps
from keras_transformer.models.config import PRESETS, TransformerConfig
from keras_transformer.models.model import Model
from keras_transformer.models.transformer import Transformer

__all__ = ["PRESETS", "Model", "Transformer", "TransformerConfig", "attention_maps"]
