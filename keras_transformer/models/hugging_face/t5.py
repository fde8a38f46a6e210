"""Checkpoints of T5."""

import numpy as np

from keras_transformer.models.checkpoints import Weight, scaled
from keras_transformer.models.hugging_face.pieces import (
    activation_of,
    layer_norm,
    linear,
    projections,
    renamed,
)
from keras_transformer.models.t5 import T5, T5Config


def read_t5(published, tensors, folder, head, dtype):
    """Return the model, its weights paired with tensors, and the tensors to be ignored.

    T5 divides neither scores by sqrt(d_k) nor embeddings by sqrt(D); our weights do so.
    """
    forward = published.get("feed_forward_proj", "relu")
    gated = forward.startswith("gated-")
    activation = forward.removeprefix("gated-")
    if forward == "gated-gelu":  # the name predates the two forms of GELU
        activation = "gelu_new"
    width = published["d_kv"]
    table = "shared.weight" if "shared.weight" in tensors else "encoder.embed_tokens.weight"
    # Files of version 1.1 have a table of their own for logits, which are not divided then.
    logits = "lm_head.weight" if "lm_head.weight" in tensors else table
    scaled_logits = published.get(
        "scale_decoder_outputs", published.get("tie_word_embeddings", True)
    )
    same = table in tensors and np.array_equal(tensors[table], tensors[logits])
    tied = bool(scaled_logits and same)
    config = T5Config(
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
        head_width=width,
        gated=gated,
        activation=activation_of(activation),
        tie_embeddings=tied,
        dropout=published.get("dropout_rate", 0.1),
        embedding_dropout=published.get("dropout_rate", 0.1),
        attention_dropout=published.get("dropout_rate", 0.1),
        ffn_dropout=published.get("dropout_rate", 0.1),
        padding_id=published.get("pad_token_id", 0),
        begin_id=published.get("decoder_start_token_id", 0) or 0,
        end_id=published.get("eos_token_id", 1),
    )
    model = T5(config, dtype=dtype)
    root = config.d_model**-0.5

    if tied:
        weights = [Weight(model.get_layer("embedding").table, table, scaled(root))]
    else:
        weights = [
            Weight(model.get_layer(f"{side}_embedding").table, table, scaled(root))
            for side in ("source", "target")
        ]
        kernel = model.get_layer("logits").kernel
        weights.append(Weight(kernel, logits, scaled(root if scaled_logits else 1.0, True)))
    for side in ("encoder", "decoder"):
        stack = model.get_layer(side)
        weights.append(
            Weight(
                stack.positions.table,
                f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
            )
        )
        for i, block in enumerate(stack.blocks):
            layer = f"{side}.block.{i}.layer."
            parts = [(block.self_attention, "SelfAttention")]
            if side == "decoder":
                parts.append((block.cross_attention, "EncDecAttention"))
            for k, (ours, theirs) in enumerate(parts):
                attention, name = ours.sublayer, f"{layer}{k}.{theirs}"
                weights.append(
                    Weight(
                        attention.query_projection.kernel,
                        f"{name}.q.weight",
                        scaled(width**0.5, transpose=True),
                    )
                )
                weights += projections(
                    attention, {"key": f"{name}.k", "value": f"{name}.v", "output": f"{name}.o"}
                )
                weights += layer_norm(ours.norm, f"{layer}{k}.layer_norm")
            dense = f"{layer}{len(parts)}.DenseReluDense."
            network = block.feed_forward.sublayer
            weights += linear(network.expand, f"{dense}wi_0" if gated else f"{dense}wi")
            if gated:
                weights += linear(network.gate, f"{dense}wi_1")
            weights += linear(network.contract, f"{dense}wo")
            weights += layer_norm(block.feed_forward.norm, f"{layer}{len(parts)}.layer_norm")
        weights += layer_norm(stack.final_norm, f"{side}.final_layer_norm")
    copies = {"encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"}
    return model, weights, copies
