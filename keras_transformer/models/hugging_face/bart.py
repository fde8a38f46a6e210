"""Checkpoints of BART and of Marian."""

import numpy as np

from keras_transformer.errors import InputError
from keras_transformer.layers import sinusoidal_table
from keras_transformer.models.bart import Bart, BartConfig
from keras_transformer.models.checkpoints import Weight, single
from keras_transformer.models.hugging_face.pieces import (
    activation_of,
    layer_norm,
    linear,
    prefix_of,
    projections,
    renamed,
    without_offset,
)


def read_bart(published, tensors, folder, head, dtype):
    """Return the model, its weights paired with tensors, and the tensors to be ignored."""
    marian = published["model_type"] == "marian"
    if published["encoder_attention_heads"] != published["decoder_attention_heads"]:
        raise InputError("Encoder and decoder with other numbers of heads are unknown.")
    if published.get("normalize_before") or published.get("add_final_layer_norm"):
        raise InputError("BART with norms before the sub-layers (mBART) is unknown.")
    vocabulary = published["vocab_size"]
    config = BartConfig(
        vocabulary_size=vocabulary,
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
        padding_id=published["pad_token_id"],
        begin_id=published["decoder_start_token_id"],
        end_id=published["eos_token_id"],
        source_begin_id=None if marian else published["bos_token_id"],
    )
    model = Bart(config, dtype=dtype)
    prefix = prefix_of(tensors, "model.")
    table = f"{prefix}shared.weight"
    weights = [Weight(model.get_layer("embedding").table, table)]
    bias = model.get_layer("logits_bias").bias
    ignored = {
        f"{prefix}encoder.embed_tokens.weight",
        f"{prefix}decoder.embed_tokens.weight",
        "lm_head.weight",
    }
    if "final_logits_bias" in tensors:
        weights.append(Weight(bias, "final_logits_bias", single))
    for side, name in (("encoder", "source"), ("decoder", "target")):
        stack = model.get_layer(side)
        positions = model.get_layer(f"{name}_positions").table
        if marian:  # it computes them, in another order of columns than ours
            positions.assign(_sines_before_cosines(*positions.shape))
            ignored.add(f"{prefix}{side}.embed_positions.weight")
        else:
            stored = f"{prefix}{side}.embed_positions.weight"
            weights.append(Weight(positions, stored, without_offset))
            weights += layer_norm(
                model.get_layer(f"{name}_embedding_norm"), f"{prefix}{side}.layernorm_embedding"
            )
        for i, block in enumerate(stack.blocks):
            layer = f"{prefix}{side}.layers.{i}."
            parts = [(block.self_attention, "self_attn")]
            if side == "decoder":
                parts.append((block.cross_attention, "encoder_attn"))
            for ours, theirs in parts:
                names = {
                    "query": "q_proj",
                    "key": "k_proj",
                    "value": "v_proj",
                    "output": "out_proj",
                }
                weights += projections(
                    ours.sublayer, {k: f"{layer}{theirs}.{v}" for k, v in names.items()}
                )
                weights += layer_norm(ours.norm, f"{layer}{theirs}_layer_norm")
            weights += linear(block.feed_forward.sublayer.expand, f"{layer}fc1")
            weights += linear(block.feed_forward.sublayer.contract, f"{layer}fc2")
            weights += layer_norm(block.feed_forward.norm, f"{layer}final_layer_norm")
    return model, weights, ignored


def _sines_before_cosines(length, width):
    """Compute sinusoidal positions with all sines before all cosines, as Marian has them."""
    table = sinusoidal_table(length, width)
    return np.concatenate([table[:, 0::2], table[:, 1::2]], axis=1)
