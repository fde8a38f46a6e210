"""BART: an encoder-decoder that was trained to restore damaged text; Marian is of the same family.

`kt.training.infill_text` makes the damage: spans of text become one [MASK] each.

Reference: Lewis et al. 2020, "BART: Denoising Sequence-to-Sequence Pre-training"; Junczys-Dowmunt
et al. 2018, "Marian: Fast Neural Machine Translation in C++".
"""

import dataclasses
from typing import Any, ClassVar

import keras

from keras_transformer.models.config import Positions, TransformerConfig
from keras_transformer.models.transformer import Transformer


@dataclasses.dataclass(frozen=True)
class BartConfig(TransformerConfig):
    """Everything that decides a BART; the defaults are those of BART base.

    A target begins with `</s>`, which also ends it.
    """

    family = "bart"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "bart-base": {"vocabulary_size": 50265},
        "bart-large": {
            "vocabulary_size": 50265,
            "num_layers": 12,
            "num_heads": 16,
            "d_model": 1024,
            "d_ff": 4096,
        },
        # Opus-MT's models: the first Transformer, with SiLU and a bias on the logits.
        "marian": {
            "vocabulary_size": 65001,
            "d_model": 512,
            "num_heads": 8,
            "d_ff": 2048,
            "activation": "silu",
            "positions": "sinusoidal",
            "max_length": 512,
            "scale_embeddings": True,
            "norm_embeddings": False,
            "logits_bias": True,
            "source_begin_id": None,
            "padding_id": 65000,
            "begin_id": 65000,
            "end_id": 0,
        },
    }

    num_heads: int = 12
    d_model: int = 768
    d_ff: int = 3072
    activation: str = "gelu"
    layer_norm_epsilon: float = 1e-5
    positions: Positions = "learned"
    max_length: int = 1024
    scale_embeddings: bool = False
    norm_embeddings: bool = True
    padding_id: int = 1
    begin_id: int = 2
    end_id: int = 2
    source_begin_id: int | None = 0


@keras.saving.register_keras_serializable("keras_transformer")
class Bart(Transformer):
    """A BART or Marian; see `Transformer` for arguments and returns.

    Reference: Lewis et al. 2020.
    """

    config_class = BartConfig
