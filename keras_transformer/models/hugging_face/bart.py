"""Checkpoints of BART and of Marian."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_transformer.errors import InputError
from keras_transformer.layers import sinusoidal_table
from keras_transformer.models.bart import Bart, BartConfig
from keras_transformer.models.checkpoints import Weight, single, transposed
from keras_transformer.models.hugging_face.fields import COMMON, Fields, Only
from keras_transformer.models.hugging_face.pieces import (
    Reading,
    activation_of,
    check_architecture,
    is_tied,
    layer_norm,
    linear,
    only_id,
    outside,
    prefix_of,
    projections,
    renamed,
    without_offset,
)
from keras_transformer.models.hugging_face.sentence_transformers import Package
from keras_transformer.typing import DType

OFFSET = 2  # of learned positions, whatever the id of padding

_BOTH = COMMON | Fields(
    understood={
        "activation_dropout",
        "activation_function",
        "attention_dropout",
        "d_model",
        "decoder_attention_heads",
        "decoder_ffn_dim",
        "decoder_layers",
        "dropout",
        "encoder_attention_heads",
        "encoder_ffn_dim",
        "encoder_layers",
        "max_position_embeddings",
        "scale_embedding",
        "vocab_size",
    },
    harmless={
        "add_bias_logits",  # the bias is added if the file has it
        "classif_dropout",
        "decoder_layerdrop",
        "encoder_layerdrop",
        "init_std",
        "num_hidden_layers",  # another name of encoder_layers
        # Of how smaller models were made of larger ones.
        "replacing_rate",
        "save_step",
        "student_decoder_layers",
        "student_encoder_layers",
    },
    only={
        "add_final_layer_norm": Only((False,), "adds a norm behind the blocks, as in mBART"),
        "do_blenderbot_90_layernorm": Only((False,), "moves norms"),
        "is_encoder_decoder": Only((True,), "leaves out one of the stacks"),
        "normalize_before": Only((False,), "has norms before the sub-layers, as in mBART"),
    },
)
FIELDS = {
    "bart": _BOTH
    | Fields(
        only={
            "extra_pos_embeddings": Only((OFFSET,), "begins positions elsewhere"),
            "normalize_embedding": Only((True,), "leaves out the norm of embeddings"),
            "static_position_embeddings": Only((False,), "computes positions"),
        }
    ),
    "marian": _BOTH
    | Fields(
        understood={"decoder_vocab_size"},
        harmless={"extra_pos_embeddings"},  # of learned positions
        only={
            "normalize_embedding": Only((False,), "adds a norm of embeddings"),
            "share_encoder_decoder_embeddings": Only((True,), "has two vocabularies"),
            "static_position_embeddings": Only((True,), "learns positions"),
        },
    ),
}


def read_bart(
    published: dict[str, Any],
    tensors: Mapping[str, np.ndarray],
    package: Package | None,
    head: str | None,
    dtype: DType,
) -> Reading:
    """Return the model, its weights paired with tensors, and the tensors to be ignored."""
    marian = published["model_type"] == "marian"
    if marian:
        check_architecture(published, "Marian", ("MTModel", "Model"), head)
    else:
        check_architecture(published, "Bart", ("ForConditionalGeneration", "Model"), head)
    _check_sides(published)
    prefix = prefix_of(tensors, "shared.weight", "encoder.embed_tokens.weight")
    outer = outside(prefix, "model.")
    shared, logits = f"{prefix}shared.weight", f"{outer}lm_head.weight"
    tables = [f"{prefix}{side}.embed_tokens.weight" for side in ("encoder", "decoder")]
    if shared not in tensors:
        shared = tables[0]
    tied = is_tied(published, tensors, shared, *tables, logits)
    model = Bart(_make_config(published, marian, tied), dtype=dtype)
    if tied:
        weights = [Weight(model.get_layer("embedding").table, shared)]
    else:
        own = [name if name in tensors else shared for name in tables]
        if logits not in tensors and published.get("tie_word_embeddings") is not False:
            logits = own[1]
        weights = _untied(model, own, logits)
    ignored = {shared, *tables, logits}
    bias = f"{outer}final_logits_bias"
    if bias in tensors:
        weights.append(Weight(model.get_layer("logits_bias").bias, bias, single))
    for side, name in (("encoder", "source"), ("decoder", "target")):
        stored = f"{prefix}{side}.embed_positions.weight"
        positions = model.get_layer(f"{name}_positions").table
        if marian:  # it computes them, in another order of columns than ours
            positions.assign(_sines_before_cosines(*positions.shape))
            ignored.add(stored)
        else:
            weights.append(Weight(positions, stored, without_offset(OFFSET)))
            norm = model.get_layer(f"{name}_embedding_norm")
            weights += layer_norm(norm, f"{prefix}{side}.layernorm_embedding")
        for i, block in enumerate(model.get_layer(side).blocks):
            weights += _of_block(block, f"{prefix}{side}.layers.{i}.", side == "decoder")
    return model, weights, ignored


def _check_sides(published: dict[str, Any]) -> None:
    """Refuse an encoder and a decoder that differ.

    Raises:
        InputError: If they do; the message names the fields.
    """
    for what in ("attention_heads", "ffn_dim"):
        sides = [published[f"{side}_{what}"] for side in ("encoder", "decoder")]
        if sides[0] != sides[1]:
            raise InputError(
                f"config.json says encoder_{what}={sides[0]!r} and decoder_{what}={sides[1]!r}; "
                "two numbers are not supported."
            )
    if published.get("decoder_vocab_size", published["vocab_size"]) != published["vocab_size"]:
        raise InputError(
            f"config.json says decoder_vocab_size={published['decoder_vocab_size']!r} and "
            f"vocab_size={published['vocab_size']!r}; two vocabularies are not supported."
        )


def _make_config(published: dict[str, Any], marian: bool, tied: bool) -> BartConfig:
    """Translate the published configuration into the arguments of ours."""
    return BartConfig(
        vocabulary_size=published["vocab_size"],
        **renamed(
            published,
            num_layers="encoder_layers",
            num_decoder_layers="decoder_layers",
            num_heads="encoder_attention_heads",
            d_model="d_model",
            d_ff="encoder_ffn_dim",
            max_length="max_position_embeddings",
        ),
        activation=activation_of(published.get("activation_function", "gelu")),
        dropout=published.get("dropout", 0.1),
        embedding_dropout=published.get("dropout", 0.1),
        attention_dropout=published.get("attention_dropout", 0.0),
        ffn_dropout=published.get("activation_dropout", 0.0),
        positions="learned",
        scale_embeddings=published.get("scale_embedding", False),
        norm_embeddings=not marian,
        logits_bias=True,
        tie_embeddings=tied,
        padding_id=published["pad_token_id"],
        begin_id=published["decoder_start_token_id"],
        end_id=only_id(published, "eos_token_id", 0 if marian else 2),
        source_begin_id=None if marian else published["bos_token_id"],
    )


def _untied(model: Bart, tables: Sequence[str], logits: str) -> list[Weight]:
    """Pair the tables of source and target and the kernel of the logits with their tensors."""
    weights = [
        Weight(model.get_layer(f"{side}_embedding").table, name)
        for side, name in zip(("source", "target"), tables, strict=True)
    ]
    return [*weights, Weight(model.get_layer("logits").kernel, logits, transposed)]


def _of_block(block: keras.layers.Layer, layer: str, is_decoder: bool) -> list[Weight]:
    """Pair the weights of a block with the tensors whose names begin with `layer`."""
    weights: list[Weight] = []
    parts = [(block.self_attention, "self_attn")]
    if is_decoder:
        parts.append((block.cross_attention, "encoder_attn"))
    names = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "output": "out_proj"}
    for ours, theirs in parts:
        weights += projections(ours.sublayer, {k: f"{layer}{theirs}.{v}" for k, v in names.items()})
        weights += layer_norm(ours.norm, f"{layer}{theirs}_layer_norm")
    weights += linear(block.feed_forward.sublayer.expand, f"{layer}fc1")
    weights += linear(block.feed_forward.sublayer.contract, f"{layer}fc2")
    weights += layer_norm(block.feed_forward.norm, f"{layer}final_layer_norm")
    return weights


def _sines_before_cosines(length: int, width: int) -> np.ndarray:
    """Compute sinusoidal positions with all sines before all cosines, as Marian has them."""
    table = sinusoidal_table(length, width)
    return np.concatenate([table[:, 0::2], table[:, 1::2]], axis=1)
