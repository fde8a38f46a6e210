"""Taking over the backbones of KerasHub (KerasNLP): the same model of ours, with their weights.

KerasHub is not imported: a backbone says what it is by the name of its class, `get_config()` and
the paths of its weights. Every weight of ours is paired with one of theirs, and what is missing or
left over is named.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np

from keras_transformer.errors import InputError
from keras_transformer.models.bart import Bart, BartConfig
from keras_transformer.models.bert import Bert, BertConfig
from keras_transformer.models.checkpoints import Weight, assign, norm, scaled
from keras_transformer.models.gpt import Gpt, GptConfig
from keras_transformer.models.model import ConfiguredModel
from keras_transformer.models.roberta import Roberta, RobertaConfig
from keras_transformer.models.t5 import T5, T5Config
from keras_transformer.models.vision_transformer import VisionTransformer, VisionTransformerConfig
from keras_transformer.typing import DType

ACTIVATIONS = {
    "relu": "relu",
    "gelu": "gelu",
    "gelu_approximate": "gelu_tanh",
    "keras_hub>gelu_approximate": "gelu_tanh",
    "silu": "silu",
    "swish": "silu",
}


def from_keras_hub(backbone: Any, dtype: DType = None) -> ConfiguredModel:
    """Make a model of a backbone of KerasHub.

    Which token is padding is not part of a backbone, which gets a mask instead; ours finds it by
    the id that the published vocabularies give it: 1 in RoBERTa and BART, 0 in BERT and T5.

    Args:
        backbone: A `BertBackbone`, `RobertaBackbone`, `GPT2Backbone`, `T5Backbone`, `BartBackbone`
            or `ViTBackbone`.
        dtype: A dtype policy.

    Returns:
        The model: a `Bert`, `Roberta`, `Gpt`, `T5`, `Bart` or `VisionTransformer` without a head.
        What writes text has logits by the table of tokens, as KerasHub's tasks do.

    Raises:
        InputError: If the backbone is of an unknown class, has settings that ours has not, or
            weights are missing, left over or of another shape; the message names them.

    Example:
        model = kt.models.from_keras_hub(keras_hub.models.BertBackbone.from_preset(...))
    """
    names = [cls.__name__ for cls in type(backbone).__mro__]
    kind = next((name for name in names if name in READERS), None)
    if kind is None:
        raise InputError(
            f"A {names[0]} is not a known backbone; supported are {', '.join(READERS)}."
        )
    settings = backbone.get_config()
    tensors = dict(_tensors(backbone))
    try:
        model, weights = READERS[kind](settings, tensors, dtype)
    except KeyError as error:
        raise InputError(f"The configuration of {kind} has no {error}.") from None
    assign(weights, tensors, (), f"The weights of {kind} do not fit its configuration")
    return model


def _tensors(backbone: Any) -> Iterator[tuple[str, np.ndarray]]:
    """Name the weights by their paths.

    T5's norms are numbered over all models of a process, so that they are counted anew for each
    layer; and its two tables of buckets have the same path, of which the encoder's comes first.
    """
    seen: Counter[str] = Counter()
    for weight, value in zip(backbone.weights, backbone.get_weights(), strict=True):
        path = re.sub(r"/t5_layer_norm(_\d+)?/", "/t5_layer_norm/", weight.path)
        seen[path] += 1
        yield path if seen[path] == 1 else f"{path}:{seen[path]}", value


# --- Pieces ---------------------------------------------------------------------------------------


def _joined(x: np.ndarray) -> np.ndarray:
    """Turn a kernel (D, H, d_k) into (D, H d_k)."""
    if x.ndim != 3:
        raise ValueError("a kernel of heads has three axes")
    return x.reshape(x.shape[0], -1)


def _split(x: np.ndarray) -> np.ndarray:
    """Turn a kernel (H, d_k, D) into (H d_k, D)."""
    if x.ndim != 3:
        raise ValueError("a kernel of heads has three axes")
    return x.reshape(-1, x.shape[-1])


def _dense(layer: keras.layers.Layer, name: str) -> Iterator[Weight]:
    yield Weight(layer.kernel, f"{name}/kernel")
    if layer.bias is not None:
        yield Weight(layer.bias, f"{name}/bias")


def _norm(layer: keras.layers.Layer, name: str) -> Iterator[Weight]:
    return norm(layer, f"{name}/gamma", f"{name}/beta")


def _attention(attention: keras.layers.Layer, name: str) -> Iterator[Weight]:
    for part in ("query", "key", "value"):
        layer = getattr(attention, f"{part}_projection")
        yield Weight(layer.kernel, f"{name}/{part}/kernel", _joined)
        yield Weight(layer.bias, f"{name}/{part}/bias", np.ravel)
    layer = attention.output_projection
    yield Weight(layer.kernel, f"{name}/attention_output/kernel", _split)
    yield Weight(layer.bias, f"{name}/attention_output/bias")


def _block(
    block: keras.layers.Layer, name: str, attention: str = "self_attention_layer"
) -> Iterator[Weight]:
    """Pair a block with a TransformerEncoder or a TransformerDecoder."""
    yield from _attention(block.self_attention.sublayer, f"{name}/{attention}")
    yield from _norm(block.self_attention.norm, f"{name}/self_attention_layer_norm")
    if getattr(block, "cross_attention", None) is not None:
        yield from _attention(block.cross_attention.sublayer, f"{name}/cross_attention")
        yield from _norm(block.cross_attention.norm, f"{name}/cross_attention_layer_norm")
    network = block.feed_forward.sublayer
    yield from _dense(network.expand, f"{name}/feedforward_intermediate_dense")
    yield from _dense(network.contract, f"{name}/feedforward_output_dense")
    yield from _norm(block.feed_forward.norm, f"{name}/feedforward_layer_norm")


def _sizes(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the fields that most backbones have."""
    return {
        "vocabulary_size": settings["vocabulary_size"],
        "num_layers": settings["num_layers"],
        "num_heads": settings["num_heads"],
        "d_model": settings["hidden_dim"],
        "d_ff": settings["intermediate_dim"],
        **_dropout(settings["dropout"]),
    }


def _dropout(rate: float, attention: float | None = None) -> dict[str, Any]:
    return {
        "dropout": rate,
        "embedding_dropout": rate,
        "attention_dropout": rate if attention is None else attention,
    }


# --- Families -------------------------------------------------------------------------------------


def _bert(
    settings: dict[str, Any], tensors: Mapping[str, np.ndarray], dtype: DType
) -> tuple[ConfiguredModel, list[Weight]]:
    special: dict[str, Any] = {"begin_id": 101, "end_id": 102, "mask_id": 103}
    if settings["vocabulary_size"] < 104:  # a vocabulary of toys
        special = {"begin_id": 2, "end_id": 3, "mask_id": None}
    config = BertConfig(
        **_sizes(settings),
        **special,
        max_length=settings["max_sequence_length"],
        num_segments=settings["num_segments"],
        activation="gelu_tanh",
    )
    model = Bert(config, dtype=dtype)
    weights = _encoder(model, "")
    weights.append(Weight(model.get_layer("segments").table, "segment_embedding/embeddings"))
    weights += _dense(model.get_layer("pooler"), "pooled_dense")
    return model, weights


def _roberta(
    settings: dict[str, Any], tensors: Mapping[str, np.ndarray], dtype: DType
) -> tuple[ConfiguredModel, list[Weight]]:
    config = RobertaConfig(
        **_sizes(settings),
        max_length=settings["max_sequence_length"],
        num_segments=0,
        pooler=False,
    )
    model = Roberta(config, dtype=dtype)
    return model, _encoder(model, "embeddings/")


def _encoder(model: ConfiguredModel, prefix: str) -> list[Weight]:
    weights = [
        Weight(model.get_layer("embedding").table, f"{prefix}token_embedding/embeddings"),
        Weight(model.get_layer("positions").table, f"{prefix}position_embedding/embeddings"),
        *_norm(model.get_layer("embedding_norm"), "embeddings_layer_norm"),
    ]
    for i, block in enumerate(model.get_layer("encoder").blocks):
        weights += _block(block, f"transformer_layer_{i}")
    return weights


def _gpt2(
    settings: dict[str, Any], tensors: Mapping[str, np.ndarray], dtype: DType
) -> tuple[ConfiguredModel, list[Weight]]:
    end = settings["vocabulary_size"] - 1
    config = GptConfig(
        **_sizes(settings),
        max_length=settings["max_sequence_length"],
        padding_id=end,
        begin_id=end,
        end_id=end,
    )
    model = Gpt(config, dtype=dtype)
    decoder = model.get_layer("decoder")
    weights = [
        Weight(model.get_layer("embedding").table, "token_embedding/embeddings"),
        Weight(model.get_layer("positions").table, "position_embedding/embeddings"),
        *_norm(decoder.final_norm, "layer_norm"),
    ]
    for i, block in enumerate(decoder.blocks):
        weights += _block(block, f"transformer_layer_{i}", "self_attention")
    return model, weights


def _bart(
    settings: dict[str, Any], tensors: Mapping[str, np.ndarray], dtype: DType
) -> tuple[ConfiguredModel, list[Weight]]:
    config = BartConfig(**_sizes(settings), max_length=settings["max_sequence_length"])
    model = Bart(config, dtype=dtype)
    weights = [Weight(model.get_layer("embedding").table, "token_embedding/embeddings")]
    for side, ours, attention in (
        ("encoder", "source", "self_attention_layer"),
        ("decoder", "target", "self_attention"),
    ):
        positions = model.get_layer(f"{ours}_positions").table
        weights.append(Weight(positions, f"{side}_position_embedding/embeddings"))
        weights += _norm(model.get_layer(f"{ours}_embedding_norm"), f"{side}_embeddings_layer_norm")
        for i, block in enumerate(model.get_layer(side).blocks):
            weights += _block(block, f"transformer_{side}_layer_{i}", attention)
    return model, weights


def _t5(
    settings: dict[str, Any], tensors: Mapping[str, np.ndarray], dtype: DType
) -> tuple[ConfiguredModel, list[Weight]]:
    """T5 divides neither scores nor embeddings; see `hugging_face._t5`."""
    given = settings["activation"]
    if isinstance(given, dict):  # a function that Keras has serialised
        given = given.get("config", given)
        given = given if isinstance(given, str) else given.get("name")
    if given not in ACTIVATIONS:
        raise InputError(
            f"The activation {given!r} is unknown; supported are {', '.join(ACTIVATIONS)}."
        )
    width = settings["key_value_dim"] or settings["hidden_dim"] // settings["num_heads"]
    tied = settings["tie_embedding_weights"]
    config = T5Config(
        **_sizes(settings),
        ffn_dropout=settings["dropout"],
        head_width=width,
        gated=settings["use_gated_activation"],
        activation=ACTIVATIONS[given],
        layer_norm_epsilon=settings["layer_norm_epsilon"],
        tie_embeddings=tied,
    )
    model = T5(config, dtype=dtype)
    root = config.d_model**-0.5
    tables = ["embedding"] if tied else ["source_embedding", "target_embedding"]
    weights = [
        Weight(model.get_layer(name).table, "token_embedding/embeddings", scaled(root))
        for name in tables
    ]
    if not tied:
        kernel = model.get_layer("logits").kernel
        weights.append(Weight(kernel, "token_embedding/reverse_embeddings"))
    for side, table in (("encoder", ""), ("decoder", ":2")):
        stack = model.get_layer(side)
        weights.append(Weight(stack.positions.table, f"self_attention/embeddings{table}"))
        for i, block in enumerate(stack.blocks):
            layer = f"transformer_{side}_layer_{i}"
            parts = [(block.self_attention, "self_attention")]
            if side == "decoder":
                parts.append((block.cross_attention, "cross_attention"))
            for connection, name in parts:
                attention = connection.sublayer
                for part in ("query", "key", "value", "output"):
                    kernel = getattr(attention, f"{part}_projection").kernel
                    factor = width**0.5 if part == "query" else 1.0
                    path = f"{layer}/{name}/{part}_projector/kernel"
                    weights.append(Weight(kernel, path, scaled(factor)))
            network = block.feed_forward.sublayer
            weights += _dense(network.expand, f"{layer}/input_projector")
            if network.gate is not None:
                weights += _dense(network.gate, f"{layer}/gate_projector")
            weights += _dense(network.contract, f"{layer}/output_projector")
            norms = [connection.norm for connection, _ in parts] + [block.feed_forward.norm]
            for k, layer_norm in enumerate(norms, 1):
                number = "" if k == 1 else f":{k}"
                path = f"{layer}/t5_layer_norm/weight{number}"
                weights.append(Weight(layer_norm.scale, path))
        weights.append(Weight(stack.final_norm.scale, f"{side}_output_layer_norm/weight"))
    return model, weights


def _vit(
    settings: dict[str, Any], tensors: Mapping[str, np.ndarray], dtype: DType
) -> tuple[ConfiguredModel, list[Weight]]:
    for name in ("use_class_token", "use_mha_bias", "use_mlp_bias", "use_patch_bias"):
        if not settings[name]:
            raise InputError(f"A ViTBackbone with {name}=False is unknown.")
    height, width, channels = settings["image_shape"]
    size = settings["patch_size"]
    sizes = {size} if isinstance(size, int) else set(size)
    if height != width or len(sizes) > 1:
        raise InputError(
            f"Images and patches have to be squares, got {height} x {width} and {size}."
        )
    config = VisionTransformerConfig(
        num_layers=settings["num_layers"],
        num_heads=settings["num_heads"],
        d_model=settings["hidden_dim"],
        d_ff=settings["mlp_dim"],
        **_dropout(settings["dropout_rate"], settings["attention_dropout"]),
        layer_norm_epsilon=settings["layer_norm_epsilon"],
        image_size=height,
        channels=channels,
        patch_size=sizes.pop(),
    )
    model = VisionTransformer(config, dtype=dtype)
    first = "vit_patching_and_embedding"
    projection = model.get_layer("patches").projection
    weights = [
        Weight(
            projection.kernel,
            f"{first}/patch_embedding/kernel",  # (rows, columns, channels, D)
            lambda x: x.reshape(-1, x.shape[-1]),
        ),
        Weight(projection.bias, f"{first}/patch_embedding/bias"),
        Weight(model.get_layer("class_token").vector, f"{first}/class_token"),
        Weight(model.get_layer("positions").table, f"{first}/position_embedding/embeddings"),
    ]
    encoder = model.get_layer("encoder")
    for i, block in enumerate(encoder.blocks, 1):
        layer = f"vit_encoder/transformer_block_{i}"
        weights += _norm(block.self_attention.norm, f"{layer}/ln_1")
        weights += _attention(block.self_attention.sublayer, f"{layer}/mha")
        weights += _norm(block.feed_forward.norm, f"{layer}/ln_2")
        weights += _dense(block.feed_forward.sublayer.expand, f"{layer}/mlp/dense_1")
        weights += _dense(block.feed_forward.sublayer.contract, f"{layer}/mlp/dense_2")
    weights += _norm(encoder.final_norm, "vit_encoder/ln")
    return model, weights


READERS: dict[str, Callable[..., Any]] = {
    "BertBackbone": _bert,
    "RobertaBackbone": _roberta,
    "GPT2Backbone": _gpt2,
    "T5Backbone": _t5,
    "BartBackbone": _bart,
    "ViTBackbone": _vit,
}
