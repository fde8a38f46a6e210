"""Looking into a Transformer: who attends to whom."""

from keras import ops

from keras_transformer.layers import attend_to, causal_mask, padding_mask


def attention_maps(model, inputs):
    """Compute the attention weights of every head.

    The layers are the model's own, run one by one, because training has no use for the weights.

    Args:
        model: A `Transformer`.
        inputs: As for the model: `source_ids`, integers `(B, S)`, and `target_ids`, `(B, T)`.

    Returns:
        Dict of three lists with an entry a block, float32: `encoder`, `(B, H, S, S)`; `decoder`,
        `(B, H, T, T)`; `cross`, `(B, H, T, S)`. Each row sums to 1, with 0 at padding.
    """
    source_ids, target_ids = inputs["source_ids"], inputs["target_ids"]
    source_mask = attend_to(padding_mask(source_ids, model.config.padding_id))
    maps: dict[str, list] = {"encoder": [], "decoder": [], "cross": []}
    # `call` and not `__call__`, which passes on either tensors or flags, not both.

    encoder = model.get_layer("encoder")
    x = model.embed_source(source_ids)
    for block in encoder.blocks:
        x, weights = block.self_attention.call(x, attention_mask=source_mask, return_attention=True)
        x = block.feed_forward(x)
        maps["encoder"].append(weights)
    memory = x if encoder.final_norm is None else encoder.final_norm(x)

    x = model.embed_target(target_ids)
    for block in model.get_layer("decoder").blocks:
        x, weights = block.self_attention.call(
            x, attention_mask=causal_mask(ops.shape(target_ids)[1]), return_attention=True
        )
        maps["decoder"].append(weights)
        x, weights = block.cross_attention.call(
            x, source=memory, attention_mask=source_mask, return_attention=True
        )
        maps["cross"].append(weights)
        x = block.feed_forward(x)
    return maps
