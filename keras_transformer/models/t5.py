"""T5: an encoder-decoder for which every task is text to text.

Against the first Transformer it has RMS norms before the sub-layers, no biases, and positions that
are a bias of the scores, learned for ranges of distances.

T5's attention does not divide by sqrt(d_k), and its tied logits are divided by sqrt(D). Both are
the same functions as ours with other weights, which `from_hugging_face` converts: queries sqrt(d_k)
times as large, and a table divided by sqrt(D) that is scaled on the way in.

Reference: Raffel et al. 2020, "Exploring the Limits of Transfer Learning with a Unified
Text-to-Text Transformer".
"""

import dataclasses
from typing import Any, ClassVar

import keras

from keras_transformer.models.config import Positions, TransformerConfig
from keras_transformer.models.transformer import Transformer

_V1_1 = {"activation": "gelu_tanh", "gated": True, "tie_embeddings": False}


@dataclasses.dataclass(frozen=True)
class T5Config(TransformerConfig):
    """Everything that decides a T5; the defaults are those of T5 small.

    `begin_id` is the padding, as T5 has no begin token.
    """

    family = "t5"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "t5-small": {},
        "t5-base": {"num_layers": 12, "num_heads": 12, "d_model": 768, "d_ff": 3072},
        "t5-large": {"num_layers": 24, "num_heads": 16, "d_model": 1024, "d_ff": 4096},
        # Version 1.1: GEGLU, and logits with weights of their own.
        "t5-v1.1-small": {"num_layers": 8, "num_heads": 6, "d_ff": 1024, "head_width": 64, **_V1_1},
        "t5-v1.1-base": {
            "num_layers": 12,
            "num_heads": 12,
            "d_model": 768,
            "d_ff": 2048,
            **_V1_1,
        },
    }

    vocabulary_size: int = 32128
    norm_first: bool = True
    norm: str = "rms"
    use_bias: bool = False
    positions: Positions = "buckets"
    max_length: int = 512
    begin_id: int = 0
    end_id: int = 1


@keras.saving.register_keras_serializable("keras_transformer")
class T5(Transformer):
    """A T5: text to text, with the task named in the text; see `Transformer` for arguments.

    Reference: Raffel et al. 2020.
    """

    config_class = T5Config
