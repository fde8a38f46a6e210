"""RoBERTa: BERT with byte-level pieces, masks drawn anew in each epoch, and no segments.

Reference: Liu et al. 2019, "RoBERTa: A Robustly Optimized BERT Pretraining Approach".
"""

import dataclasses
from typing import Any, ClassVar

import keras

from keras_transformer.models.bert import Bert, BertConfig


@dataclasses.dataclass(frozen=True)
class RobertaConfig(BertConfig):
    """Everything that decides a RoBERTa; the defaults are those of RoBERTa base.

    `begin_id` and `end_id` are <s> and </s>.
    """

    family = "roberta"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "roberta-base": {"vocabulary_size": 50265},
        "roberta-large": {
            "vocabulary_size": 50265,
            "num_layers": 24,
            "num_heads": 16,
            "d_model": 1024,
            "d_ff": 4096,
        },
    }

    layer_norm_epsilon: float = 1e-5
    num_segments: int = 1  # published weights have a vector for the only one
    padding_id: int = 1
    begin_id: int = 0
    end_id: int = 2
    mask_id: int | None = 50264

    def __post_init__(self) -> None:
        """Leave out a mask token that the vocabulary is too small for."""
        self._check_kinds()
        if self.mask_id is not None and self.mask_id >= self.vocabulary_size:
            object.__setattr__(self, "mask_id", None)
        super().__post_init__()


@keras.saving.register_keras_serializable("keras_transformer")
class Roberta(Bert):
    """An encoder of RoBERTa's kind; see `Bert` for arguments and returns.

    Its difference is in the training: `kt.training.mask_tokens` draws other masks for the same
    sentence in each epoch.

    Reference: Liu et al. 2019.
    """

    config_class = RobertaConfig
