"""Checkpoints of the Vision Transformer."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_transformer.models.checkpoints import Weight, single
from keras_transformer.models.hugging_face.fields import COMMON, Fields, Only
from keras_transformer.models.hugging_face.pieces import (
    Reading,
    activation_of,
    check_architecture,
    label_names,
    layer_norm,
    linear,
    outside,
    prefix_of,
    projections,
    renamed,
)
from keras_transformer.models.hugging_face.sentence_transformers import Package
from keras_transformer.models.vision_transformer import VisionTransformer, VisionTransformerConfig
from keras_transformer.typing import DType

FIELDS = {
    "vit": COMMON
    | Fields(
        understood={
            "attention_probs_dropout_prob",
            "hidden_act",
            "hidden_dropout_prob",
            "hidden_size",
            "image_size",
            "intermediate_size",
            "layer_norm_eps",
            "num_attention_heads",
            "num_channels",
            "num_hidden_layers",
            "patch_size",
        },
        # Of the pooler, which no classifier has, and of a head that is not supported.
        harmless={"encoder_stride", "pooler_act", "pooler_output_size"},
        only={
            "is_encoder_decoder": Only((False,), "joins the model with a decoder"),
            "problem_type": Only(
                ("single_label_classification",), "makes something else of the logits"
            ),
            "qkv_bias": Only((True,), "leaves out biases"),
        },
    )
}


def read_vit(
    published: dict[str, Any],
    tensors: Mapping[str, np.ndarray],
    package: Package | None,
    head: str | None,
    dtype: DType,
) -> Reading:
    """Return the model, its weights paired with tensors, and the tensors to be ignored."""
    check_architecture(published, "ViT", ("ForImageClassification", "Model"), head)
    prefix = prefix_of(tensors, "embeddings.cls_token")
    classifier = f"{outside(prefix, 'vit.')}classifier"
    own = "ViTForImageClassification" in (published.get("architectures") or ())
    classes = 0
    if f"{classifier}.weight" in tensors or own:
        rows = tensors[f"{classifier}.weight"].shape[0] if f"{classifier}.weight" in tensors else 2
        classes = len(label_names(published, rows) or ()) or rows
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
        num_classes=classes,
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
    if classes:
        weights += linear(model.get_layer("logits"), classifier)
    pooler = {name for name in tensors if name.startswith(f"{prefix}pooler.")}
    return model, weights, pooler
