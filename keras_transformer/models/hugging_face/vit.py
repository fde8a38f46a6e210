"""Checkpoints of the Vision Transformer."""

from keras_transformer.models.checkpoints import Weight, single
from keras_transformer.models.hugging_face.pieces import (
    activation_of,
    layer_norm,
    linear,
    prefix_of,
    projections,
    renamed,
)
from keras_transformer.models.vision_transformer import VisionTransformer, VisionTransformerConfig


def read_vit(published, tensors, folder, head, dtype):
    """Return the model, its weights paired with tensors, and the tensors to be ignored."""
    prefix = prefix_of(tensors, "vit.")
    with_head = "classifier.weight" in tensors
    config = VisionTransformerConfig(
        **renamed(
            published,
            num_layers="num_hidden_layers",
            num_heads="num_attention_heads",
            d_model="hidden_size",
            d_ff="intermediate_size",
            layer_norm_epsilon="layer_norm_eps",
            image_size="image_size",
            patch_size="patch_size",
            channels="num_channels",
        ),
        activation=activation_of(published.get("hidden_act", "gelu")),
        dropout=published.get("hidden_dropout_prob", 0.0),
        embedding_dropout=published.get("hidden_dropout_prob", 0.0),
        attention_dropout=published.get("attention_probs_dropout_prob", 0.0),
        num_classes=tensors["classifier.weight"].shape[0] if with_head else 0,
    )
    model = VisionTransformer(config, dtype=dtype)
    embeddings = f"{prefix}embeddings."
    projection = model.get_layer("patches").projection
    name = f"{embeddings}patch_embeddings.projection"
    weights = [
        Weight(
            projection.kernel,
            f"{name}.weight",  # (D, channels, rows, columns)
            lambda x: x.transpose(2, 3, 1, 0).reshape(-1, x.shape[0]),
        ),
        Weight(projection.bias, f"{name}.bias"),
        Weight(model.get_layer("class_token").vector, f"{embeddings}cls_token"),
        Weight(
            model.get_layer("positions").table,
            f"{embeddings}position_embeddings",
            single,
        ),
    ]
    encoder = model.get_layer("encoder")
    for i, block in enumerate(encoder.blocks):
        layer = f"{prefix}encoder.layer.{i}."
        weights += projections(
            block.self_attention.sublayer,
            {
                "query": f"{layer}attention.attention.query",
                "key": f"{layer}attention.attention.key",
                "value": f"{layer}attention.attention.value",
                "output": f"{layer}attention.output.dense",
            },
        )
        weights += layer_norm(block.self_attention.norm, f"{layer}layernorm_before")
        weights += linear(block.feed_forward.sublayer.expand, f"{layer}intermediate.dense")
        weights += linear(block.feed_forward.sublayer.contract, f"{layer}output.dense")
        weights += layer_norm(block.feed_forward.norm, f"{layer}layernorm_after")
    weights += layer_norm(encoder.final_norm, f"{prefix}layernorm")
    if with_head:
        weights += linear(model.get_layer("logits"), "classifier")
    pooler = {name for name in tensors if name.startswith(f"{prefix}pooler.")}
    return model, weights, pooler
