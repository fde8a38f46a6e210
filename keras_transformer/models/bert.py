"""BERT: an encoder alone, in which every token sees all others, to the left and to the right.

Shapes: B batch, S length, D width, V vocabulary.

Reference: Devlin et al. 2019, "BERT: Pre-training of Deep Bidirectional Transformers".
"""

import dataclasses
from typing import Any, ClassVar

import keras
from keras import ops

from keras_transformer.layers import Encoder, Linear, TokenEmbedding, attend_to, padding_mask
from keras_transformer.layers.activations import get_activation
from keras_transformer.models.assembly import Embedder, embedding, stack_arguments
from keras_transformer.models.config import Positions, StackConfig
from keras_transformer.models.model import ConfiguredModel
from keras_transformer.typing import DType


@dataclasses.dataclass(frozen=True)
class BertConfig(StackConfig):
    """Everything that decides an encoder of BERT's kind; the defaults are those of BERT base.

    The fields `begin_id` and `end_id` are [CLS] and [SEP].
    """

    family = "bert"
    causal = False
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "bert-tiny": {"num_layers": 2, "num_heads": 2, "d_model": 128, "d_ff": 512},
        "bert-mini": {"num_layers": 4, "num_heads": 4, "d_model": 256, "d_ff": 1024},
        "bert-base": {
            "vocabulary_size": 30522,
            "begin_id": 101,
            "end_id": 102,
            "mask_id": 103,
        },
        "bert-large": {
            "vocabulary_size": 30522,
            "begin_id": 101,
            "end_id": 102,
            "mask_id": 103,
            "num_layers": 24,
            "num_heads": 16,
            "d_model": 1024,
            "d_ff": 4096,
        },
        # ALBERT's sharing of one block between all layers, and its narrow table, at BERT's width.
        "albert-base": {
            "vocabulary_size": 30000,
            "share_layers": True,
            "embedding_width": 128,
            "activation": "gelu_tanh",
        },
    }

    num_layers: int = 12
    num_heads: int = 12
    d_model: int = 768
    d_ff: int = 3072
    activation: str = "gelu"
    attention_dropout: float = 0.1
    layer_norm_epsilon: float = 1e-12
    positions: Positions = "learned"
    max_length: int = 512
    scale_embeddings: bool = False
    norm_embeddings: bool = True
    num_segments: int = 2  # kinds of segments, such as question and passage; 0 for none
    embedding_width: int | None = None  # of the table, if it is narrower than D
    pooler: bool = True  # a dense layer and an activation on the first token's vector
    pooler_activation: str = "tanh"
    transform_activation: str | None = None  # before masked words are scored; None: `activation`
    mask_id: int | None = 4  # [MASK]; None if the vocabulary has none

    def special_ids(self, tokenizer: Any) -> dict[str, Any]:
        """Return the ids of special tokens, that of the mask included."""
        return {**super().special_ids(tokenizer), "mask_id": tokenizer.mask_id}


class EncoderGraph:
    """The layers of an encoder-only model and their graph, which models with heads go on from.

    Args:
        config: A `BertConfig`.
        dtype: A dtype policy.
        prefix: What names begin with, where a model holds two.
        with_layers: Whether `layers` is to hold the input and the output of each block.
    """

    def __init__(
        self,
        config: BertConfig,
        dtype: DType = None,
        prefix: str = "",
        with_layers: bool = False,
    ) -> None:
        self.config = config
        width = config.embedding_width
        self.table = embedding(config, f"{prefix}embedding", dtype, width)
        self.embed = Embedder.of(config, self.table, prefix, dtype=dtype)
        self.segments = None
        if config.num_segments:
            self.segments = TokenEmbedding(
                config.num_segments,
                width or config.d_model,
                scale=False,
                dtype=dtype,
                name=f"{prefix}segments",
            )
        self.widen = None
        if width:
            self.widen = Linear(config.d_model, dtype=dtype, name=f"{prefix}widen")
        self.encoder = self.make_encoder(dtype, f"{prefix}encoder")
        self.dtype_policy = self.encoder.dtype_policy
        self.pooler = None
        if config.pooler:
            self.pooler = Linear(
                config.d_model,
                activation=get_activation(config.pooler_activation),
                dtype=dtype,
                name=f"{prefix}pooler",
            )
        self.inputs = {"token_ids": keras.Input((None,), dtype="int32", name="token_ids")}
        token_ids = self.inputs["token_ids"]
        self.mask = padding_mask(token_ids, config.padding_id)  # (B, S)
        more = None
        if self.segments is not None and config.num_segments > 1:
            segment_ids = keras.Input((None,), dtype="int32", name="segment_ids")
            self.inputs["segment_ids"] = segment_ids
            more = self.segments(segment_ids)
        elif self.segments is not None:  # all tokens are of the only one
            more = self.segments(ops.zeros_like(token_ids))
        x = self.embed(token_ids, more=more)
        if self.widen is not None:
            x = self.widen(x)
        self.layers = None
        attend = {"attention_mask": attend_to(self.mask)}
        if with_layers:
            sequence, self.layers = self.encoder(x, return_layers=True, **attend)
        else:
            sequence = self.encoder(x, **attend)
        self.outputs = {"sequence": sequence}
        if self.pooler is not None:
            self.outputs["pooled"] = self.pooler(self.outputs["sequence"][:, 0])

    def make_encoder(self, dtype: DType, name: str) -> keras.layers.Layer:
        """Return the layer between embeddings and outputs; another family may have another one.

        It is called with embeddings `(B, S, D)` and `attention_mask`, boolean `(B, 1, S)`, True for
        real tokens, and returns `(B, S, D)`. With `return_layers=True`, for heads that mix layers,
        it also returns a list of the input and the output of each block.

        Args:
            dtype: A dtype policy.
            name: Name of the layer.
        """
        config = self.config
        return Encoder(config.num_layers, name=name, **stack_arguments(config, False, dtype))

    def begin_with(self, model: ConfiguredModel) -> None:
        """Copy the weights of a model's encoder, layer by layer, found by their names.

        Args:
            model: A model of the same configuration. What it lacks stays as it is here.
        """
        others = {layer.name: layer for layer in model.layers}
        parts = [self.table, self.embed.positions, self.embed.norm, self.segments, self.widen]
        for part in [*parts, self.encoder, self.pooler]:
            if part is not None and part.name in others:
                pairs = zip(part.weights, others[part.name].weights, strict=True)
                for weight, value in pairs:
                    weight.assign(value)


@keras.saving.register_keras_serializable("keras_transformer")
class Bert(ConfiguredModel):
    """An encoder of BERT's kind, without a head: ids -> a vector a token, and one for all.

    The vector of the first token, [CLS], is no summary of the text before it is fine-tuned to be
    one; the mean over the tokens is the better one of a model that was not.

    Args:
        config: A `BertConfig`, or its fields as a dict.
        **kwargs: `name`, `dtype` (a policy such as "mixed_bfloat16") and `trainable`.

    Call arguments:
        inputs: Dict of `token_ids`, integers `(B, S)`, which begin with [CLS] and are padded, and,
            if there are several segments, `segment_ids`, integers `(B, S)`. The padding is masked
            inside; no other mask is needed.

    Returns:
        Dict of `sequence`, float `(B, S, D)`, and with a pooler `pooled`, float `(B, D)`.

    Example:
        model = kt.models.Bert(kt.models.BertConfig.preset("bert-base"))
        outputs = model({"token_ids": ids, "segment_ids": segments})

    Reference: Devlin et al. 2019; Lan et al. 2020 for the options of ALBERT.
    """

    config_class = BertConfig
    graph_class = EncoderGraph

    def __init__(self, config: Any, **kwargs: Any) -> None:
        config = self.make_config(config)
        graph = self.graph_class(config, kwargs.pop("dtype", None))
        super().__init__(
            config,
            graph.inputs,
            graph.outputs,
            graph.dtype_policy,
            **{"name": config.family, **kwargs},
        )
        object.__setattr__(self, "graph", graph)
