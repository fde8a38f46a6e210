"""Checkpoints of GPT-2."""

from keras_transformer.errors import InputError
from keras_transformer.models.checkpoints import Weight, columns
from keras_transformer.models.gpt import Gpt, GptConfig
from keras_transformer.models.hugging_face.pieces import (
    activation_of,
    layer_norm,
    prefix_of,
    renamed,
)


def read_gpt2(published, tensors, folder, head, dtype):
    """Return the model, its weights paired with tensors, and the tensors to be ignored."""
    prefix = prefix_of(tensors, "transformer.")
    width = published["n_embd"]
    if not published.get("scale_attn_weights", True):
        raise InputError("GPT-2 without the scale of attention (scale_attn_weights) is unknown.")
    end = published.get("eos_token_id", published["vocab_size"] - 1)
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
    )
    model = Gpt(config, dtype=dtype)
    weights = [
        Weight(model.get_layer("embedding").table, f"{prefix}wte.weight"),
        Weight(model.get_layer("positions").table, f"{prefix}wpe.weight"),
    ]
    decoder = model.get_layer("decoder")
    for i, block in enumerate(decoder.blocks):
        layer = f"{prefix}h.{i}."
        attention = block.self_attention.sublayer
        parts = (
            attention.query_projection,
            attention.key_projection,
            attention.value_projection,
        )
        for k, part in enumerate(parts):  # one kernel (D, 3 D) there, and not transposed
            take = columns(k, 3)
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
    masks = (".attn.bias", ".attn.masked_bias", "lm_head.weight")  # buffers, and the tied table
    return model, weights, {name for name in tensors if name.endswith(masks)}
