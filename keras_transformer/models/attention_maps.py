"""Looking into a Transformer: who attends to whom."""

from typing import Any

import keras
from keras import ops

from keras_transformer.layers import attend_to, causal_mask, padding_mask
from keras_transformer.models.model import ConfiguredModel
from keras_transformer.typing import Hidden, Ids, Mask, Tensor, Tensors


def attention_maps(model: ConfiguredModel, inputs: Tensors) -> dict[str, list[Tensor]]:
    """Compute the attention weights of every head.

    The layers are the model's own, run one by one, because training has no use for the weights.

    Args:
        model: Any model of `kt.models`.
        inputs: As for the model; for a `Transformer` `source_ids`, integers `(B, S)`, and
            `target_ids`, `(B, T)`.

    Returns:
        Dict of lists with an entry a block, float32. With an encoder and a decoder there are three:
        `encoder`, `(B, H, S, S)`; `decoder`, `(B, H, T, T)`; `cross`, `(B, H, T, S)`. With one of
        them alone, it is its list alone; of an image, positions are the class token and the
        patches. Each row sums to 1, with 0 at padding.
    """
    names = [layer.name for layer in model.layers]
    if "encoder" in names and "decoder" in names:
        return _of_both(model, inputs["source_ids"], inputs["target_ids"])
    name = "encoder" if "encoder" in names else "decoder"
    stack = model.get_layer(name)
    before = keras.Model(model.inputs, stack.input)  # embeddings, and a mask if there is one
    x, *mask = keras.tree.flatten(before([inputs[tensor.name] for tensor in model.inputs]))
    return {name: _run(stack, x, mask[0] if mask else None)[1]}


def _of_both(model: ConfiguredModel, source_ids: Ids, target_ids: Ids) -> dict[str, list[Tensor]]:
    source_mask = attend_to(padding_mask(source_ids, model.config.padding_id))
    encoder, decoder = model.get_layer("encoder"), model.get_layer("decoder")
    x, weights = _run(encoder, model.embed_source(source_ids), source_mask)
    memory = x if encoder.final_norm is None else encoder.final_norm(x)
    cross: list[Tensor] = []
    _, own = _run(
        decoder,
        model.embed_target(target_ids),
        causal_mask(ops.shape(target_ids)[1]),
        cross,
        source=memory,
        attention_mask=source_mask,
    )
    return {"encoder": weights, "decoder": own, "cross": cross}


def _run(
    stack: keras.layers.Layer,
    x: Hidden,
    mask: Mask | None,
    cross: list[Tensor] | None = None,
    **memory: Any,
) -> tuple[Hidden, list[Tensor]]:
    """Run the blocks of a stack; return its states and the weights of self-attention.

    The weights of cross-attention are put into `cross`.
    """
    places = ops.arange(ops.shape(x)[1], dtype="int32")
    arguments = stack._arguments(None, places, places)  # of relative positions
    found = []
    # `call` and not `__call__`, which passes on either tensors or flags, not both.
    for block in stack.blocks:
        x, weights = block.self_attention.call(
            x, attention_mask=mask, return_attention=True, **arguments
        )
        found.append(weights)
        if cross is not None:
            x, weights = block.cross_attention.call(x, return_attention=True, **memory)
            cross.append(weights)
        x = block.feed_forward(x)
    return x, found
