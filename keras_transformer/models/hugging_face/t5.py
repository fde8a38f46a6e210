"""Checkpoints of T5."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_transformer.errors import InputError
from keras_transformer.models.checkpoints import Weight, scaled
from keras_transformer.models.hugging_face.fields import COMMON, Fields, Only
from keras_transformer.models.hugging_face.pieces import (
    Reading,
    activation_of,
    check_architecture,
    is_tied,
    layer_norm,
    linear,
    only_id,
    prefix_of,
    projections,
    renamed,
)
from keras_transformer.models.hugging_face.sentence_transformers import Package
from keras_transformer.models.t5 import T5, T5Config
from keras_transformer.typing import DType

FIELDS = {
    "t5": COMMON
    | Fields(
        understood={
            "d_ff",
            "d_kv",
            "d_model",
            "dense_act_fn",
            "dropout_rate",
            "feed_forward_proj",
            "is_gated_act",
            "layer_norm_epsilon",
            "num_decoder_layers",
            "num_heads",
            "num_layers",
            "relative_attention_max_distance",
            "relative_attention_num_buckets",
            "scale_decoder_outputs",
            "vocab_size",
        },
        harmless={"initializer_factor", "n_positions"},
        only={"is_encoder_decoder": Only((True,), "leaves out the decoder")},
    )
}


def read_t5(
    published: dict[str, Any],
    tensors: Mapping[str, np.ndarray],
    package: Package | None,
    head: str | None,
    dtype: DType,
) -> Reading:
    """Return the model, its weights paired with tensors, and the tensors to be ignored.

    T5 divides neither scores by sqrt(d_k) nor embeddings by sqrt(D); our weights do so.
    """
    endings = ("ForConditionalGeneration", "WithLMHeadModel", "Model")
    check_architecture(published, "T5", endings, head)
    prefix = prefix_of(tensors, "shared.weight", "encoder.embed_tokens.weight")
    shared = f"{prefix}shared.weight"
    tables = _tables_of_sides(tensors, prefix, shared)
    table = tables["decoder"]
    # Files of version 1.1 have a table of their own for logits, which are not divided then.
    head_table = f"{prefix}lm_head.weight"
    head_table = head_table if head_table in tensors else "lm_head.weight"
    untied = published.get("tie_word_embeddings") is False
    logits = head_table if head_table in tensors or untied else table
    scaled_logits = published.get(
        "scale_decoder_outputs", published.get("tie_word_embeddings", True)
    )
    tied = bool(scaled_logits and is_tied({}, tensors, table, logits, *tables.values()))
    model = T5(_make_config(published, tied), dtype=dtype)
    root = model.config.d_model**-0.5
    if tied:
        weights = [Weight(model.get_layer("embedding").table, table, scaled(root))]
    else:
        weights = [
            Weight(model.get_layer(f"{ours}_embedding").table, tables[side], scaled(root))
            for ours, side in (("source", "encoder"), ("target", "decoder"))
        ]
        kernel = model.get_layer("logits").kernel
        weights.append(Weight(kernel, logits, scaled(root if scaled_logits else 1.0, True)))
    for side in ("encoder", "decoder"):
        stack = model.get_layer(side)
        bias = "block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        weights.append(Weight(stack.positions.table, f"{prefix}{side}.{bias}"))
        for i, block in enumerate(stack.blocks):
            layer = f"{prefix}{side}.block.{i}.layer."
            weights += _of_block(block, layer, side == "decoder", model.config)
        weights += layer_norm(stack.final_norm, f"{prefix}{side}.final_layer_norm")
    copies = {shared, logits, *tables.values()}
    # Old files have a bias of the decoder's cross-attention, which nothing reads.
    copies.add(f"{prefix}decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight")
    return model, weights, copies


def _tables_of_sides(tensors: Mapping[str, np.ndarray], prefix: str, shared: str) -> dict[str, str]:
    """Return the name of the table of each side, which may be that of both."""
    tables = {side: f"{prefix}{side}.embed_tokens.weight" for side in ("encoder", "decoder")}
    tables = {side: name if name in tensors else shared for side, name in tables.items()}
    if shared not in tensors and tables["decoder"] == shared:
        tables["decoder"] = tables["encoder"]
    return tables


def _feed_forward(published: dict[str, Any]) -> tuple[bool, str]:
    """Return whether the feed-forward networks are gated, and their activation's published name.

    Raises:
        InputError: If what some files say twice is not the same.
    """
    forward = published.get("feed_forward_proj", "relu")
    gated = forward.startswith("gated-")
    activation = forward.removeprefix("gated-")
    if forward == "gated-gelu":  # the name predates the two forms of GELU
        activation = "gelu_new"
    for name, value in (("is_gated_act", gated), ("dense_act_fn", activation)):
        if published.get(name, value) != value:
            raise InputError(
                f"config.json says {name}={published[name]!r}, but feed_forward_proj={forward!r}."
            )
    return gated, activation


def _make_config(published: dict[str, Any], tied: bool) -> T5Config:
    """Translate the published configuration into the arguments of ours."""
    gated, activation = _feed_forward(published)
    return T5Config(
        **renamed(
            published,
            vocabulary_size="vocab_size",
            num_layers="num_layers",
            num_heads="num_heads",
            d_model="d_model",
            d_ff="d_ff",
            layer_norm_epsilon="layer_norm_epsilon",
            num_buckets="relative_attention_num_buckets",
        ),
        num_decoder_layers=published.get("num_decoder_layers"),
        max_distance=published.get("relative_attention_max_distance", 128),
        head_width=published["d_kv"],
        gated=gated,
        activation=activation_of(activation),
        tie_embeddings=tied,
        dropout=published.get("dropout_rate", 0.1),
        embedding_dropout=published.get("dropout_rate", 0.1),
        attention_dropout=published.get("dropout_rate", 0.1),
        ffn_dropout=published.get("dropout_rate", 0.1),
        padding_id=published.get("pad_token_id", 0),
        begin_id=published.get("decoder_start_token_id", 0) or 0,
        end_id=only_id(published, "eos_token_id", 1),
    )


def _of_block(
    block: keras.layers.Layer, layer: str, is_decoder: bool, config: T5Config
) -> list[Weight]:
    """Pair the weights of a block with the tensors whose names begin with `layer`."""
    weights: list[Weight] = []
    times = scaled(config.key_width**0.5, transpose=True)
    parts = [(block.self_attention, "SelfAttention")]
    if is_decoder:
        parts.append((block.cross_attention, "EncDecAttention"))
    for k, (ours, theirs) in enumerate(parts):
        attention, name = ours.sublayer, f"{layer}{k}.{theirs}"
        weights.append(Weight(attention.query_projection.kernel, f"{name}.q.weight", times))
        weights += projections(
            attention, {"key": f"{name}.k", "value": f"{name}.v", "output": f"{name}.o"}
        )
        weights += layer_norm(ours.norm, f"{layer}{k}.layer_norm")
    dense = f"{layer}{len(parts)}.DenseReluDense."
    network = block.feed_forward.sublayer
    weights += linear(network.expand, f"{dense}wi_0" if config.gated else f"{dense}wi")
    if config.gated:
        weights += linear(network.gate, f"{dense}wi_1")
    weights += linear(network.contract, f"{dense}wo")
    weights += layer_norm(block.feed_forward.norm, f"{layer}{len(parts)}.layer_norm")
    return weights
