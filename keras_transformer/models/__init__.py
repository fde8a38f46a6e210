"""Models: assembled from `keras_transformer.layers` through the functional API."""

from keras_transformer import _backend  # noqa: F401  (first: it keeps the start-up quiet)
from keras_transformer.models.attention_maps import attention_maps
from keras_transformer.models.bart import Bart, BartConfig
from keras_transformer.models.bert import Bert, BertConfig
from keras_transformer.models.config import PRESETS, TransformerConfig
from keras_transformer.models.electra import Electra, ElectraConfig
from keras_transformer.models.families import FAMILIES
from keras_transformer.models.gpt import Gpt, GptConfig
from keras_transformer.models.heads import (
    MaskedLanguageModel,
    QuestionAnswerer,
    SentenceEncoder,
    SequenceClassifier,
    TokenClassifier,
)
from keras_transformer.models.hugging_face import from_hugging_face
from keras_transformer.models.keras_hub import from_keras_hub
from keras_transformer.models.model import ConfiguredModel, Model
from keras_transformer.models.roberta import Roberta, RobertaConfig
from keras_transformer.models.t5 import T5, T5Config
from keras_transformer.models.transformer import Transformer
from keras_transformer.models.vision_transformer import VisionTransformer, VisionTransformerConfig

__all__ = [
    "FAMILIES",
    "PRESETS",
    "T5",
    "Bart",
    "BartConfig",
    "Bert",
    "BertConfig",
    "ConfiguredModel",
    "Electra",
    "ElectraConfig",
    "Gpt",
    "GptConfig",
    "MaskedLanguageModel",
    "Model",
    "QuestionAnswerer",
    "Roberta",
    "RobertaConfig",
    "SentenceEncoder",
    "SequenceClassifier",
    "T5Config",
    "TokenClassifier",
    "Transformer",
    "TransformerConfig",
    "VisionTransformer",
    "VisionTransformerConfig",
    "attention_maps",
    "from_hugging_face",
    "from_keras_hub",
]
