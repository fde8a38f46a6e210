"""Checkpoints of BERT, RoBERTa and ELECTRA."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from keras_transformer.errors import InputError, no_such
from keras_transformer.models.bert import Bert, BertConfig
from keras_transformer.models.checkpoints import Weight
from keras_transformer.models.electra import Electra, ElectraConfig
from keras_transformer.models.heads import (
    MaskedLanguageModel,
    QuestionAnswerer,
    SentenceEncoder,
    SequenceClassifier,
    TokenClassifier,
)
from keras_transformer.models.hugging_face.encoder_heads import (
    Names,
    head_weights,
    is_of_another_head,
)
from keras_transformer.models.hugging_face.fields import COMMON, Fields, Only
from keras_transformer.models.hugging_face.pieces import (
    Reading,
    activation_of,
    check_architecture,
    is_tied,
    label_names,
    layer_norm,
    linear,
    outside,
    prefix_of,
    projections,
    renamed,
    without_offset,
)
from keras_transformer.models.hugging_face.sentence_transformers import Package
from keras_transformer.models.model import ConfiguredModel
from keras_transformer.models.roberta import Roberta, RobertaConfig
from keras_transformer.typing import DType

HEADS = {
    "Model": None,
    "ForMaskedLM": MaskedLanguageModel,
    "ForPreTraining": MaskedLanguageModel,
    "ForSequenceClassification": SequenceClassifier,
    "ForTokenClassification": TokenClassifier,
    "ForQuestionAnswering": QuestionAnswerer,
}
STEMS = {"bert": "Bert", "roberta": "Roberta", "electra": "Electra"}
BACKBONES = {"bert": Bert, "roberta": Roberta, "electra": Electra}
CONFIGS = {"bert": BertConfig, "roberta": RobertaConfig, "electra": ElectraConfig}
BY_NAME: dict[str, type[ConfiguredModel]] = {
    cls.__name__: cls
    for cls in (
        Bert,
        Roberta,
        Electra,
        MaskedLanguageModel,
        QuestionAnswerer,
        SentenceEncoder,
        SequenceClassifier,
        TokenClassifier,
    )
}

_ENCODERS = COMMON | Fields(
    understood={
        "attention_probs_dropout_prob",
        "hidden_act",
        "hidden_dropout_prob",
        "hidden_size",
        "intermediate_size",
        "layer_norm_eps",
        "max_position_embeddings",
        "num_attention_heads",
        "num_hidden_layers",
        "pad_token_id",
        "sbert_ce_default_activation_function",
        "sentence_transformers",
        "type_vocab_size",
        "vocab_size",
    },
    only={"is_encoder_decoder": Only((False,), "joins the model with a decoder")},
)
FIELDS = {
    "bert": _ENCODERS
    | Fields(
        harmless={
            "emb_size",  # what other programs call hidden_size
            # Of a head that was never published, in Google's own files.
            "pooler_fc_size",
            "pooler_num_attention_heads",
            "pooler_num_fc_layers",
            "pooler_size_per_head",
        },
        only={
            "directionality": Only(("bidi",), "hides tokens on one side"),
            "pooler_type": Only(("first_token_transform",), "makes one vector of all in its way"),
        },
    ),
    "roberta": _ENCODERS,
    "electra": _ENCODERS
    | Fields(
        understood={"embedding_size"},
        # Of the head for several choices, which is not supported.
        harmless={"summary_activation", "summary_last_dropout", "summary_type", "summary_use_proj"},
    ),
}


def _encoder_config(published: dict[str, Any]) -> BertConfig:
    kind = published["model_type"]
    fields = renamed(
        published,
        vocabulary_size="vocab_size",
        num_layers="num_hidden_layers",
        num_heads="num_attention_heads",
        d_model="hidden_size",
        d_ff="intermediate_size",
        layer_norm_epsilon="layer_norm_eps",
        max_length="max_position_embeddings",
        num_segments="type_vocab_size",
    )
    fields["max_length"] -= _offset(published)
    width = published.get("embedding_size") or fields["d_model"]
    special: dict[str, Any] = {}
    if kind != "roberta" and published["vocab_size"] < 104:  # ids of a vocabulary of toys
        special = {"begin_id": 2, "end_id": 3, "mask_id": None}
    elif kind == "bert":
        special = {"begin_id": 101, "end_id": 102, "mask_id": 103}
    activation = activation_of(published.get("hidden_act", "gelu"))
    return CONFIGS[kind](
        **fields,
        **special,
        activation=activation,
        # Other heads of these two have GELU, whatever the blocks have.
        transform_activation=None if kind == "bert" or activation == "gelu" else "gelu",
        dropout=published.get("hidden_dropout_prob", 0.1),
        embedding_dropout=published.get("hidden_dropout_prob", 0.1),
        attention_dropout=published.get("attention_probs_dropout_prob", 0.1),
        padding_id=_padding(published),
        embedding_width=width if width != fields["d_model"] else None,
    )


def _padding(published: dict[str, Any]) -> int:
    default = 1 if published["model_type"] == "roberta" else 0
    value = published.get("pad_token_id", default)
    return default if value is None else value


def _offset(published: dict[str, Any]) -> int:
    """Return the number of RoBERTa's first position."""
    return _padding(published) + 1 if published["model_type"] == "roberta" else 0


def read_encoder(
    published: dict[str, Any],
    tensors: Mapping[str, np.ndarray],
    package: Package | None,
    head: str | None,
    dtype: DType,
) -> Reading:
    """Return the model, its weights paired with tensors, and the tensors to be ignored."""
    kind = published["model_type"]
    prefix = prefix_of(tensors, "embeddings.word_embeddings.weight")
    names = Names(kind, prefix, outside(prefix, f"{kind}."))
    cls = _class_of(published, package, head)
    own = head is None  # what the file is said to have, so that it has to be there
    config: Any = _encoder_config(published)
    pooler = names.pooler(tensors, cls, own)
    config = dataclasses.replace(config, pooler=pooler is not None)
    arguments: dict[str, Any] = {}
    if cls in (SequenceClassifier, TokenClassifier):
        rows = names.rows_of_classifier(tensors, cls)
        labels = label_names(published, rows)
        arguments["num_labels"] = len(labels or ()) or rows or published.get("num_labels") or 2
    if cls is SentenceEncoder and package is not None:
        arguments.update(package.settings)
    if cls is MaskedLanguageModel:
        table = f"{prefix}embeddings.word_embeddings.weight"
        tied = is_tied(published, tensors, table, names.decoder)
        config = dataclasses.replace(config, tie_embeddings=tied)
    if not isinstance(config, cls.config_class):  # what its weights lack is named below
        config = cls.config_class.from_dict(config.to_dict())
    model = cls(config, dtype=dtype, **arguments)
    weights = list(_encoder_weights(model, prefix, _offset(published)))
    weights += head_weights(model, names, tensors, pooler, own)
    if cls is SentenceEncoder and package is not None:
        weights += package.weights(model)
    # Buffers, copies, and heads that were not asked for.
    backbone = head is not None or cls in (Bert, Roberta, SentenceEncoder)
    ignored = {
        name
        for name in tensors
        if name.endswith("embeddings.position_ids")
        or name.startswith(f"{names.outer}cls.seq_relationship.")
        or (cls is MaskedLanguageModel and name in names.copies)
        or (name.startswith(f"{prefix}pooler.") and pooler != f"{prefix}pooler.dense")
        or (backbone and is_of_another_head(name, names.outer))
    }
    if package is not None and cls is not SentenceEncoder:
        ignored |= set(package.tensors)
    return model, weights, ignored


def _class_of(
    published: dict[str, Any], package: Package | None, head: str | None
) -> type[ConfiguredModel]:
    kind = published["model_type"]
    if head is not None:
        if head not in BY_NAME:
            raise no_such("head", head, BY_NAME)
        return BY_NAME[head]
    if package is not None and package.gives_vectors:
        return SentenceEncoder
    check_architecture(published, STEMS[kind], HEADS, head)
    for architecture in published.get("architectures") or ():
        ending = architecture.removeprefix(STEMS[kind])
        if ending in HEADS:
            if kind == "electra" and ending == "ForPreTraining":
                return Electra
            if kind == "electra" and ending == "Model":
                raise InputError(
                    f"config.json says architectures={[architecture]!r}, which has no head; choose "
                    "one to make of it, such as SentenceEncoder."
                )
            return HEADS[ending] or BACKBONES[kind]
    return BACKBONES[kind]


def _encoder_weights(model: ConfiguredModel, prefix: str, offset: int) -> Iterator[Weight]:
    embeddings = f"{prefix}embeddings."
    config = model.config
    yield Weight(model.get_layer("embedding").table, f"{embeddings}word_embeddings.weight")
    yield Weight(
        model.get_layer("positions").table,
        f"{embeddings}position_embeddings.weight",
        without_offset(offset) if offset else np.asarray,
    )
    if config.num_segments:
        yield Weight(model.get_layer("segments").table, f"{embeddings}token_type_embeddings.weight")
    yield from layer_norm(model.get_layer("embedding_norm"), f"{embeddings}LayerNorm")
    if config.embedding_width:
        yield from linear(model.get_layer("widen"), f"{prefix}embeddings_project")
    for i, block in enumerate(model.get_layer("encoder").blocks):
        layer = f"{prefix}encoder.layer.{i}."
        yield from projections(
            block.self_attention.sublayer,
            {
                "query": f"{layer}attention.self.query",
                "key": f"{layer}attention.self.key",
                "value": f"{layer}attention.self.value",
                "output": f"{layer}attention.output.dense",
            },
        )
        yield from layer_norm(block.self_attention.norm, f"{layer}attention.output.LayerNorm")
        yield from linear(block.feed_forward.sublayer.expand, f"{layer}intermediate.dense")
        yield from linear(block.feed_forward.sublayer.contract, f"{layer}output.dense")
        yield from layer_norm(block.feed_forward.norm, f"{layer}output.LayerNorm")
