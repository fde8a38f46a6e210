"""Checkpoints of GPT-2."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_transformer.models.checkpoints import Weight, columns
from keras_transformer.models.gpt import Gpt, GptConfig
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
    renamed,
)
from keras_transformer.models.hugging_face.sentence_transformers import Package
from keras_transformer.typing import DType

FIELDS = {
    "gpt2": COMMON
    | Fields(
        understood={
            "activation_function",
            "attn_pdrop",
            "embd_pdrop",
            "layer_norm_epsilon",
            "n_embd",
            "n_head",
            "n_inner",
            "n_layer",
            "n_positions",
            "resid_pdrop",
            "scale_attn_by_inverse_layer_idx",
            "scale_attn_weights",
            "vocab_size",
        },
        harmless={
            "n_special",
            "n_ctx",  # the older name of n_positions, which is there too
            "predict_special_tokens",
            "reorder_and_upcast_attn",  # the order of operations, against overflow in 16 bits
            # Of heads that are not supported.
            "summary_activation",
            "summary_first_dropout",
            "summary_proj_to_labels",
            "summary_type",
            "summary_use_proj",
        },
        only={"is_encoder_decoder": Only((False,), "joins the model with an encoder")},
    )
}


def read_gpt2(
    published: dict[str, Any],
    tensors: Mapping[str, np.ndarray],
    package: Package | None,
    head: str | None,
    dtype: DType,
) -> Reading:
    """Return the model, its weights paired with tensors, and the tensors to be ignored.

    Scores that are divided by something else than sqrt(d_k) are so by the queries.
    """
    check_architecture(published, "GPT2", ("LMHeadModel", "Model"), head)
    prefix = prefix_of(tensors, "wte.weight")
    table, logits = f"{prefix}wte.weight", f"{outside(prefix, 'transformer.')}lm_head.weight"
    width = published["n_embd"]
    end = only_id(published, "eos_token_id", published["vocab_size"] - 1)
    config = GptConfig(
        **renamed(
            published,
            vocabulary_size="vocab_size",
            num_layers="n_layer",
            num_heads="n_head",
            d_model="n_embd",
            max_length="n_positions",
            layer_norm_epsilon="layer_norm_epsilon",
        ),
        d_ff=published.get("n_inner") or 4 * width,
        activation=activation_of(published.get("activation_function", "gelu_new")),
        dropout=published.get("resid_pdrop", 0.1),
        embedding_dropout=published.get("embd_pdrop", 0.1),
        attention_dropout=published.get("attn_pdrop", 0.1),
        begin_id=end,
        end_id=end,
        padding_id=end,
        tie_embeddings=is_tied(published, tensors, table, logits),
    )
    model = Gpt(config, dtype=dtype)
    weights = [
        Weight(model.get_layer("embedding").table, table),
        Weight(model.get_layer("positions").table, f"{prefix}wpe.weight"),
    ]
    if not config.tie_embeddings:
        weights += linear(model.get_layer("logits"), logits.removesuffix(".weight"))
    decoder = model.get_layer("decoder")
    factor = 1.0 if published.get("scale_attn_weights", True) else config.key_width**0.5
    for i, block in enumerate(decoder.blocks):
        layer = f"{prefix}h.{i}."
        attention = block.self_attention.sublayer
        parts = (
            attention.query_projection,
            attention.key_projection,
            attention.value_projection,
        )
        own = factor
        if published.get("scale_attn_by_inverse_layer_idx"):
            own /= i + 1
        for k, part in enumerate(parts):  # one kernel (D, 3 D) there, and not transposed
            take = columns(k, 3, own if k == 0 else 1.0)
            weights.append(Weight(part.kernel, f"{layer}attn.c_attn.weight", take))
            weights.append(Weight(part.bias, f"{layer}attn.c_attn.bias", take))
        for ours, theirs in (
            (attention.output_projection, "attn.c_proj"),
            (block.feed_forward.sublayer.expand, "mlp.c_fc"),
            (block.feed_forward.sublayer.contract, "mlp.c_proj"),
        ):
            weights.append(Weight(ours.kernel, f"{layer}{theirs}.weight"))
            weights.append(Weight(ours.bias, f"{layer}{theirs}.bias"))
        weights += layer_norm(block.self_attention.norm, f"{layer}ln_1")
        weights += layer_norm(block.feed_forward.norm, f"{layer}ln_2")
    weights += layer_norm(decoder.final_norm, f"{prefix}ln_f")
    masks = (".attn.bias", ".attn.masked_bias")  # buffers
    return model, weights, {logits, *(name for name in tensors if name.endswith(masks))}
