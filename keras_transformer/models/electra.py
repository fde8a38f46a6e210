"""ELECTRA: an encoder that was trained to find the tokens that somebody replaced.

A small generator, a masked language model, fills masked places with what it thinks likely. The
encoder says of every token whether it is the original. `kt.training.replace_tokens` makes inputs
and labels: a token that the generator happened to restore is an original.

Reference: Clark et al. 2020, "ELECTRA: Pre-training Text Encoders as Discriminators".
"""

import dataclasses
from typing import Any, ClassVar

import keras
from keras import ops

from keras_transformer.layers import Linear
from keras_transformer.layers.activations import get_activation
from keras_transformer.models.bert import BertConfig, EncoderGraph
from keras_transformer.models.model import ConfiguredModel


@dataclasses.dataclass(frozen=True)
class ElectraConfig(BertConfig):
    """Everything that decides an encoder of ELECTRA's kind; the defaults are the base model's."""

    family = "electra"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "electra-small": {
            "num_layers": 12,
            "num_heads": 4,
            "d_model": 256,
            "d_ff": 1024,
            "embedding_width": 128,
        },
        "electra-base": {},
    }

    vocabulary_size: int = 30522
    pooler: bool = False
    pooler_activation: str = "gelu"  # of what its classifiers begin with
    begin_id: int = 101
    end_id: int = 102
    mask_id: int | None = 103


@keras.saving.register_keras_serializable("keras_transformer")
class Electra(ConfiguredModel):
    """ELECTRA's discriminator: a score a token, positive for what was replaced.

    Args:
        config: An `ElectraConfig`, or its fields as a dict.
        **kwargs: `name`, `dtype` (a policy such as "mixed_bfloat16") and `trainable`.

    Call arguments:
        inputs: As for `Bert`.

    Returns:
        Logits `(B, S)`, float32: of the probability that a token was replaced.

    Reference: Clark et al. 2020.
    """

    config_class = ElectraConfig
    graph_class = EncoderGraph

    def __init__(self, config: Any, **kwargs: Any) -> None:
        config = self.make_config(config)
        dtype = kwargs.pop("dtype", None)
        graph = EncoderGraph(config, dtype)
        hidden = Linear(
            config.d_model,
            activation=get_activation(config.activation),
            dtype=dtype,
            name="discriminator",
        )(graph.outputs["sequence"])
        logits = Linear(1, dtype=dtype, name="replaced")(hidden)
        super().__init__(
            config,
            graph.inputs,
            ops.cast(logits[:, :, 0], "float32"),
            graph.dtype_policy,
            **{"name": config.family, **kwargs},
        )
