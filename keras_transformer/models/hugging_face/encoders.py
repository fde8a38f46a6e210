"""Checkpoints of BERT, RoBERTa and ELECTRA, with and without heads."""

import dataclasses
from typing import Any

import numpy as np

from keras_transformer.errors import InputError
from keras_transformer.models.bert import Bert, BertConfig
from keras_transformer.models.checkpoints import Weight, read_json
from keras_transformer.models.electra import Electra, ElectraConfig
from keras_transformer.models.heads import (
    MaskedLanguageModel,
    QuestionAnswerer,
    SentenceEncoder,
    SequenceClassifier,
    TokenClassifier,
)
from keras_transformer.models.hugging_face.pieces import (
    POSITION_OFFSET,
    activation_of,
    layer_norm,
    linear,
    prefix_of,
    projections,
    renamed,
    without_offset,
)
from keras_transformer.models.model import ConfiguredModel
from keras_transformer.models.roberta import Roberta, RobertaConfig

HEADS = {
    "Model": None,
    "ForMaskedLM": MaskedLanguageModel,
    "ForPreTraining": MaskedLanguageModel,
    "ForSequenceClassification": SequenceClassifier,
    "ForTokenClassification": TokenClassifier,
    "ForQuestionAnswering": QuestionAnswerer,
}
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


def _encoder_config(published, tensors, prefix):
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
    if kind == "roberta":
        fields["max_length"] -= POSITION_OFFSET
    width = published.get("embedding_size", fields["d_model"])
    special: dict[str, Any] = {}
    if kind != "roberta" and published["vocab_size"] < 104:  # ids of a vocabulary of toys
        special = {"begin_id": 2, "end_id": 3, "mask_id": None}
    elif kind == "bert":
        special = {"begin_id": 101, "end_id": 102, "mask_id": 103}
    return CONFIGS[kind](
        **fields,
        **special,
        activation=activation_of(published.get("hidden_act", "gelu")),
        dropout=published.get("hidden_dropout_prob", 0.1),
        embedding_dropout=published.get("hidden_dropout_prob", 0.1),
        attention_dropout=published.get("attention_probs_dropout_prob", 0.1),
        padding_id=published.get("pad_token_id", 0) or 0,
        embedding_width=width if width != fields["d_model"] else None,
        pooler=f"{prefix}pooler.dense.weight" in tensors or "classifier.dense.weight" in tensors,
    )


def read_encoder(published, tensors, folder, head, dtype):
    """Return the model, its weights paired with tensors, and the tensors to be ignored."""
    kind = published["model_type"]
    prefix = prefix_of(tensors, f"{kind}.")
    config = _encoder_config(published, tensors, prefix)
    cls = _class_of(published, folder, head)
    if cls in (Electra, MaskedLanguageModel, QuestionAnswerer, TokenClassifier):
        config = dataclasses.replace(config, pooler=False)
    arguments: dict[str, Any] = {}
    if cls in (SequenceClassifier, TokenClassifier):
        labels = published.get("id2label") or {0: "", 1: ""}
        arguments["num_labels"] = len(labels)
    if cls is SentenceEncoder:
        config = dataclasses.replace(config, pooler=False)
        arguments.update(_sentence_settings(folder))
    model = cls(config, dtype=dtype, **arguments)
    weights = list(_encoder_weights(model, prefix, kind))
    weights += _head_weights(model, kind, tensors, prefix)
    # Buffers, and heads that were not asked for.
    names = {w.name for w in weights}
    backbone = head is not None or cls in (Bert, Roberta, SentenceEncoder)
    ignored = {
        name
        for name in tensors
        if name.endswith("embeddings.position_ids")
        or name.startswith("cls.seq_relationship.")
        or name in ("cls.predictions.decoder.weight", "cls.predictions.decoder.bias")
        or name in ("lm_head.decoder.weight", "lm_head.decoder.bias", "lm_head.bias_")
        or (name.startswith(f"{prefix}pooler.") and model.config.pooler is False)
        or (backbone and prefix and not name.startswith(prefix) and name not in names)
    }
    return model, weights, ignored


def _class_of(published, folder, head):
    if head is not None:
        if head not in BY_NAME:
            raise InputError(f"There is no head {head!r}; choose one of {', '.join(BY_NAME)}.")
        return BY_NAME[head]
    if (folder / "modules.json").is_file() or (folder / "1_Pooling").is_dir():
        return SentenceEncoder
    kind = published["model_type"]
    for architecture in published.get("architectures") or ():
        for ending, cls in HEADS.items():
            if architecture.endswith(ending):
                if kind == "electra" and ending == "ForPreTraining":
                    return Electra
                return cls or BACKBONES[kind]
    return BACKBONES[kind]


def _sentence_settings(folder):
    path = folder / "1_Pooling" / "config.json"
    if not path.is_file():
        return {"pooling": "mean", "normalize": True}
    pooling = "first" if read_json(path).get("pooling_mode_cls_token") else "mean"
    modules = folder / "modules.json"
    normalize = "Normalize" in modules.read_text("utf-8") if modules.is_file() else True
    return {"pooling": pooling, "normalize": normalize}


def _encoder_weights(model, prefix, kind):
    embeddings = f"{prefix}embeddings."
    config = model.config
    yield Weight(model.get_layer("embedding").table, f"{embeddings}word_embeddings.weight")
    yield Weight(
        model.get_layer("positions").table,
        f"{embeddings}position_embeddings.weight",
        without_offset if kind == "roberta" else np.asarray,
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


def _head_weights(model, kind, tensors, prefix):
    weights: list[Weight] = []
    if model.config.pooler:
        # RoBERTa's classifier begins with what is the pooler elsewhere.
        own = (
            "classifier.dense" if "classifier.dense.weight" in tensors else f"{prefix}pooler.dense"
        )
        weights += linear(model.get_layer("pooler"), own)
    if isinstance(model, Electra):
        weights += linear(model.get_layer("discriminator"), "discriminator_predictions.dense")
        weights += linear(model.get_layer("replaced"), "discriminator_predictions.dense_prediction")
    elif isinstance(model, MaskedLanguageModel):
        names = {
            "bert": (
                "cls.predictions.transform.dense",
                "cls.predictions.transform.LayerNorm",
                "cls.predictions.bias",
            ),
            "roberta": ("lm_head.dense", "lm_head.layer_norm", "lm_head.bias"),
            "electra": (
                "generator_predictions.dense",
                "generator_predictions.LayerNorm",
                "generator_lm_head.bias",
            ),
        }[kind]
        if f"{names[0]}.weight" in tensors:
            weights += linear(model.get_layer("transform"), names[0])
            weights += layer_norm(model.get_layer("transform_norm"), names[1])
            weights.append(Weight(model.get_layer("logits_bias").bias, names[2]))
    elif isinstance(model, (SequenceClassifier, TokenClassifier, QuestionAnswerer)):
        name = "qa_outputs" if isinstance(model, QuestionAnswerer) else "classifier"
        if f"{name}.out_proj.weight" in tensors:
            name += ".out_proj"
        if f"{name}.weight" in tensors:
            weights += linear(model.get_layer("logits"), name)
    return weights
