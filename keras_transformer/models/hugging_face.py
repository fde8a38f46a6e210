"""Reading checkpoints of Hugging Face: `config.json` and `model.safetensors` in a local folder.

Every weight of the model is paired with a tensor of the file, and what is missing or left over is
named. Pickles are refused: loading one may run any code.

Where the same function is written otherwise there, the weights are converted: see `_t5` and
`_without_offset`.
"""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from keras_transformer.errors import InputError
from keras_transformer.layers import sinusoidal_table
from keras_transformer.models.bart import Bart, BartConfig
from keras_transformer.models.bert import Bert, BertConfig
from keras_transformer.models.checkpoints import (
    WEIGHTS,
    Weight,
    assign,
    columns,
    norm,
    read_json,
    read_tensors,
    scaled,
    single,
    transposed,
)
from keras_transformer.models.electra import Electra, ElectraConfig
from keras_transformer.models.gpt import Gpt, GptConfig
from keras_transformer.models.heads import (
    MaskedLanguageModel,
    QuestionAnswerer,
    SentenceEncoder,
    SequenceClassifier,
    TokenClassifier,
)
from keras_transformer.models.model import ConfiguredModel
from keras_transformer.models.roberta import Roberta, RobertaConfig
from keras_transformer.models.t5 import T5, T5Config
from keras_transformer.models.vision_transformer import VisionTransformer, VisionTransformerConfig

ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "relu": "relu",
    "swish": "silu",
    "silu": "silu",
}


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """What a folder was found to hold.

    Args:
        model: The model, with the file's weights.
        labels: Names of a classifier's labels, or None.
        config: The content of `config.json`.
    """

    model: ConfiguredModel
    labels: list[str] | None
    config: dict[str, Any]


def from_hugging_face(folder, head: str | None = None, dtype=None) -> ConfiguredModel:
    """Make a model of a published checkpoint.

    Args:
        folder: A local folder with `config.json` and `model.safetensors` of BERT, RoBERTa, ELECTRA,
            GPT-2, T5, BART, Marian or ViT.
        head: Name of the class to make, such as "Bert" or "SequenceClassifier", where the
            checkpoint's own is not wanted. A head that the checkpoint lacks begins untrained.
        dtype: A dtype policy.

    Returns:
        The model. Its class follows from the checkpoint: `Bert`, `MaskedLanguageModel`,
        `SequenceClassifier`, `TokenClassifier`, `QuestionAnswerer`, `SentenceEncoder`, `Electra`,
        `Gpt`, `T5`, `Bart` or `VisionTransformer`.

    Raises:
        InputError: If the folder holds no such checkpoint, its type is unknown, it is damaged or a
            pickle, or weights are missing, left over or of another shape; the message names them.

    Example:
        model = kt.models.from_hugging_face("all-MiniLM-L6-v2")
    """
    return read_checkpoint(folder, head, dtype).model


def read_checkpoint(folder, head: str | None = None, dtype=None) -> Checkpoint:
    """Read a checkpoint with its labels and settings; arguments as for `from_hugging_face`."""
    folder = Path(folder)
    published = read_json(folder / "config.json")
    kind = published.get("model_type")
    if not isinstance(kind, str) or kind not in READERS:
        raise InputError(
            f"{folder / 'config.json'} is of the unknown type {kind!r}; known are "
            f"{', '.join(READERS)}."
        )
    tensors = read_tensors(folder)
    try:
        model, weights, ignored = READERS[kind](published, tensors, folder, head, dtype)
        labels = _labels(published, model)
    except InputError:
        raise
    except KeyError as error:
        raise InputError(f"{folder / 'config.json'} has no {error}.") from None
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{folder / 'config.json'} makes no model: {error}") from None
    if head is not None and type(model).__name__ != head:
        raise InputError(
            f"A checkpoint of the type {kind!r} makes a {type(model).__name__}, not a {head}."
        )
    assign(weights, tensors, ignored, f"{folder / WEIGHTS} does not fit its config.json")
    return Checkpoint(model, labels, published)


def _labels(published, model):
    if not isinstance(model, (SequenceClassifier, TokenClassifier, VisionTransformer)):
        return None
    names = published.get("id2label") or {}
    return [names[key] for key in sorted(names, key=int)] or None


# --- Pieces ---------------------------------------------------------------------------------------


def _linear(layer, name: str) -> Iterator[Weight]:
    """Pair a `Linear` with a torch.nn.Linear, whose kernel is transposed."""
    yield Weight(layer.kernel, f"{name}.weight", transposed)
    if layer.bias is not None:
        yield Weight(layer.bias, f"{name}.bias")


def _norm(layer, name: str) -> Iterator[Weight]:
    return norm(layer, f"{name}.weight", f"{name}.bias")


def _attention(attention, names: dict[str, str]) -> Iterator[Weight]:
    for part, name in names.items():
        yield from _linear(getattr(attention, f"{part}_projection"), name)


def _published(fields, **renamed) -> dict[str, Any]:
    """Return fields of our configuration from the names that theirs have."""
    return {ours: fields[theirs] for ours, theirs in renamed.items()}


def _activation(name):
    if name not in ACTIVATIONS:
        raise InputError(f"The activation {name!r} is unknown; known are {', '.join(ACTIVATIONS)}.")
    return ACTIVATIONS[name]


def _prefix_of(tensors, *candidates: str) -> str:
    """Return the prefix that names of tensors have: a model alone has none, one with a head has."""
    for candidate in candidates:
        if any(name.startswith(candidate) for name in tensors):
            return candidate
    return ""


# --- BERT, RoBERTa, ELECTRA -----------------------------------------------------------------------

HEADS = {
    "Model": None,
    "ForMaskedLM": MaskedLanguageModel,
    "ForPreTraining": MaskedLanguageModel,
    "ForSequenceClassification": SequenceClassifier,
    "ForTokenClassification": TokenClassifier,
    "ForQuestionAnswering": QuestionAnswerer,
}
BACKBONES = {"bert": Bert, "roberta": Roberta, "electra": Electra}
CONFIGS = {"bert": BertConfig, "roberta": RobertaConfig, "electra": ElectraConfig}
BY_NAME: dict[str, type[ConfiguredModel]] = {
    cls.__name__: cls
    for cls in (
        Bert,
        Roberta,
        Electra,
        MaskedLanguageModel,
        QuestionAnswerer,
        SentenceEncoder,
        SequenceClassifier,
        TokenClassifier,
    )
}


def _encoder_config(published, tensors, prefix):
    kind = published["model_type"]
    fields = _published(
        published,
        vocabulary_size="vocab_size",
        num_layers="num_hidden_layers",
        num_heads="num_attention_heads",
        d_model="hidden_size",
        d_ff="intermediate_size",
        layer_norm_epsilon="layer_norm_eps",
        max_length="max_position_embeddings",
        num_segments="type_vocab_size",
    )
    if kind == "roberta":
        fields["max_length"] -= ROBERTA_OFFSET
    width = published.get("embedding_size", fields["d_model"])
    special: dict[str, Any] = {}
    if kind != "roberta" and published["vocab_size"] < 104:  # ids of a vocabulary of toys
        special = {"begin_id": 2, "end_id": 3, "mask_id": None}
    elif kind == "bert":
        special = {"begin_id": 101, "end_id": 102, "mask_id": 103}
    return CONFIGS[kind](
        **fields,
        **special,
        activation=_activation(published.get("hidden_act", "gelu")),
        dropout=published.get("hidden_dropout_prob", 0.1),
        embedding_dropout=published.get("hidden_dropout_prob", 0.1),
        attention_dropout=published.get("attention_probs_dropout_prob", 0.1),
        padding_id=published.get("pad_token_id", 0) or 0,
        embedding_width=width if width != fields["d_model"] else None,
        pooler=f"{prefix}pooler.dense.weight" in tensors or "classifier.dense.weight" in tensors,
    )


ROBERTA_OFFSET = 2  # the first token is at position 2: one after the id of padding


def _without_offset(x):
    return x[ROBERTA_OFFSET:]


def _encoder(published, tensors, folder, head, dtype):
    kind = published["model_type"]
    prefix = _prefix_of(tensors, f"{kind}.")
    config = _encoder_config(published, tensors, prefix)
    cls = _class_of(published, folder, head)
    if cls in (Electra, MaskedLanguageModel, QuestionAnswerer, TokenClassifier):
        config = dataclasses.replace(config, pooler=False)
    arguments: dict[str, Any] = {}
    if cls in (SequenceClassifier, TokenClassifier):
        labels = published.get("id2label") or {0: "", 1: ""}
        arguments["num_labels"] = len(labels)
    if cls is SentenceEncoder:
        config = dataclasses.replace(config, pooler=False)
        arguments.update(_sentence_settings(folder))
    model = cls(config, dtype=dtype, **arguments)
    weights = list(_encoder_weights(model, prefix, kind))
    weights += _head_weights(model, kind, tensors, prefix)
    # Buffers, and heads that were not asked for.
    names = {w.name for w in weights}
    backbone = head is not None or cls in (Bert, Roberta, SentenceEncoder)
    ignored = {
        name
        for name in tensors
        if name.endswith("embeddings.position_ids")
        or name.startswith("cls.seq_relationship.")
        or name in ("cls.predictions.decoder.weight", "cls.predictions.decoder.bias")
        or name in ("lm_head.decoder.weight", "lm_head.decoder.bias", "lm_head.bias_")
        or (name.startswith(f"{prefix}pooler.") and model.config.pooler is False)
        or (backbone and prefix and not name.startswith(prefix) and name not in names)
    }
    return model, weights, ignored


def _class_of(published, folder, head):
    if head is not None:
        if head not in BY_NAME:
            raise InputError(f"There is no head {head!r}; choose one of {', '.join(BY_NAME)}.")
        return BY_NAME[head]
    if (folder / "modules.json").is_file() or (folder / "1_Pooling").is_dir():
        return SentenceEncoder
    kind = published["model_type"]
    for architecture in published.get("architectures") or ():
        for ending, cls in HEADS.items():
            if architecture.endswith(ending):
                if kind == "electra" and ending == "ForPreTraining":
                    return Electra
                return cls or BACKBONES[kind]
    return BACKBONES[kind]


def _sentence_settings(folder):
    path = folder / "1_Pooling" / "config.json"
    if not path.is_file():
        return {"pooling": "mean", "normalize": True}
    pooling = "first" if read_json(path).get("pooling_mode_cls_token") else "mean"
    modules = folder / "modules.json"
    normalize = "Normalize" in modules.read_text("utf-8") if modules.is_file() else True
    return {"pooling": pooling, "normalize": normalize}


def _encoder_weights(model, prefix, kind):
    embeddings = f"{prefix}embeddings."
    config = model.config
    yield Weight(model.get_layer("embedding").table, f"{embeddings}word_embeddings.weight")
    yield Weight(
        model.get_layer("positions").table,
        f"{embeddings}position_embeddings.weight",
        _without_offset if kind == "roberta" else np.asarray,
    )
    if config.num_segments:
        yield Weight(model.get_layer("segments").table, f"{embeddings}token_type_embeddings.weight")
    yield from _norm(model.get_layer("embedding_norm"), f"{embeddings}LayerNorm")
    if config.embedding_width:
        yield from _linear(model.get_layer("widen"), f"{prefix}embeddings_project")
    for i, block in enumerate(model.get_layer("encoder").blocks):
        layer = f"{prefix}encoder.layer.{i}."
        yield from _attention(
            block.self_attention.sublayer,
            {
                "query": f"{layer}attention.self.query",
                "key": f"{layer}attention.self.key",
                "value": f"{layer}attention.self.value",
                "output": f"{layer}attention.output.dense",
            },
        )
        yield from _norm(block.self_attention.norm, f"{layer}attention.output.LayerNorm")
        yield from _linear(block.feed_forward.sublayer.expand, f"{layer}intermediate.dense")
        yield from _linear(block.feed_forward.sublayer.contract, f"{layer}output.dense")
        yield from _norm(block.feed_forward.norm, f"{layer}output.LayerNorm")


def _head_weights(model, kind, tensors, prefix):
    weights: list[Weight] = []
    if model.config.pooler:
        # RoBERTa's classifier begins with what is the pooler elsewhere.
        own = (
            "classifier.dense" if "classifier.dense.weight" in tensors else f"{prefix}pooler.dense"
        )
        weights += _linear(model.get_layer("pooler"), own)
    if isinstance(model, Electra):
        weights += _linear(model.get_layer("discriminator"), "discriminator_predictions.dense")
        weights += _linear(
            model.get_layer("replaced"), "discriminator_predictions.dense_prediction"
        )
    elif isinstance(model, MaskedLanguageModel):
        names = {
            "bert": (
                "cls.predictions.transform.dense",
                "cls.predictions.transform.LayerNorm",
                "cls.predictions.bias",
            ),
            "roberta": ("lm_head.dense", "lm_head.layer_norm", "lm_head.bias"),
            "electra": (
                "generator_predictions.dense",
                "generator_predictions.LayerNorm",
                "generator_lm_head.bias",
            ),
        }[kind]
        if f"{names[0]}.weight" in tensors:
            weights += _linear(model.get_layer("transform"), names[0])
            weights += _norm(model.get_layer("transform_norm"), names[1])
            weights.append(Weight(model.get_layer("logits_bias").bias, names[2]))
    elif isinstance(model, (SequenceClassifier, TokenClassifier, QuestionAnswerer)):
        name = "qa_outputs" if isinstance(model, QuestionAnswerer) else "classifier"
        if f"{name}.out_proj.weight" in tensors:
            name += ".out_proj"
        if f"{name}.weight" in tensors:
            weights += _linear(model.get_layer("logits"), name)
    return weights


# --- GPT-2 ----------------------------------------------------------------------------------------


def _gpt2(published, tensors, folder, head, dtype):
    prefix = _prefix_of(tensors, "transformer.")
    width = published["n_embd"]
    if not published.get("scale_attn_weights", True):
        raise InputError("GPT-2 without the scale of attention (scale_attn_weights) is unknown.")
    end = published.get("eos_token_id", published["vocab_size"] - 1)
    config = GptConfig(
        **_published(
            published,
            vocabulary_size="vocab_size",
            num_layers="n_layer",
            num_heads="n_head",
            d_model="n_embd",
            max_length="n_positions",
            layer_norm_epsilon="layer_norm_epsilon",
        ),
        d_ff=published.get("n_inner") or 4 * width,
        activation=_activation(published.get("activation_function", "gelu_new")),
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
        weights += _norm(block.self_attention.norm, f"{layer}ln_1")
        weights += _norm(block.feed_forward.norm, f"{layer}ln_2")
    weights += _norm(decoder.final_norm, f"{prefix}ln_f")
    masks = (".attn.bias", ".attn.masked_bias", "lm_head.weight")  # buffers, and the tied table
    return model, weights, {name for name in tensors if name.endswith(masks)}


# --- T5 -------------------------------------------------------------------------------------------


def _t5(published, tensors, folder, head, dtype):
    """T5 divides neither scores by sqrt(d_k) nor embeddings by sqrt(D); our weights do so."""
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
        **_published(
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
        activation=_activation(activation),
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
                weights += _attention(
                    attention, {"key": f"{name}.k", "value": f"{name}.v", "output": f"{name}.o"}
                )
                weights += _norm(ours.norm, f"{layer}{k}.layer_norm")
            dense = f"{layer}{len(parts)}.DenseReluDense."
            network = block.feed_forward.sublayer
            weights += _linear(network.expand, f"{dense}wi_0" if gated else f"{dense}wi")
            if gated:
                weights += _linear(network.gate, f"{dense}wi_1")
            weights += _linear(network.contract, f"{dense}wo")
            weights += _norm(block.feed_forward.norm, f"{layer}{len(parts)}.layer_norm")
        weights += _norm(stack.final_norm, f"{side}.final_layer_norm")
    copies = {"encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"}
    return model, weights, copies


# --- BART and Marian ------------------------------------------------------------------------------


def _bart(published, tensors, folder, head, dtype):
    marian = published["model_type"] == "marian"
    if published["encoder_attention_heads"] != published["decoder_attention_heads"]:
        raise InputError("Encoder and decoder with other numbers of heads are unknown.")
    if published.get("normalize_before") or published.get("add_final_layer_norm"):
        raise InputError("BART with norms before the sub-layers (mBART) is unknown.")
    vocabulary = published["vocab_size"]
    config = BartConfig(
        vocabulary_size=vocabulary,
        **_published(
            published,
            num_layers="encoder_layers",
            num_decoder_layers="decoder_layers",
            num_heads="encoder_attention_heads",
            d_model="d_model",
            d_ff="encoder_ffn_dim",
            max_length="max_position_embeddings",
        ),
        activation=_activation(published.get("activation_function", "gelu")),
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
    prefix = _prefix_of(tensors, "model.")
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
            weights.append(Weight(positions, stored, _without_offset))
            weights += _norm(
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
                weights += _attention(
                    ours.sublayer, {k: f"{layer}{theirs}.{v}" for k, v in names.items()}
                )
                weights += _norm(ours.norm, f"{layer}{theirs}_layer_norm")
            weights += _linear(block.feed_forward.sublayer.expand, f"{layer}fc1")
            weights += _linear(block.feed_forward.sublayer.contract, f"{layer}fc2")
            weights += _norm(block.feed_forward.norm, f"{layer}final_layer_norm")
    return model, weights, ignored


def _sines_before_cosines(length, width):
    """Compute sinusoidal positions with all sines before all cosines, as Marian has them."""
    table = sinusoidal_table(length, width)
    return np.concatenate([table[:, 0::2], table[:, 1::2]], axis=1)


# --- ViT ------------------------------------------------------------------------------------------


def _vit(published, tensors, folder, head, dtype):
    prefix = _prefix_of(tensors, "vit.")
    with_head = "classifier.weight" in tensors
    config = VisionTransformerConfig(
        **_published(
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
        activation=_activation(published.get("hidden_act", "gelu")),
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
        weights += _attention(
            block.self_attention.sublayer,
            {
                "query": f"{layer}attention.attention.query",
                "key": f"{layer}attention.attention.key",
                "value": f"{layer}attention.attention.value",
                "output": f"{layer}attention.output.dense",
            },
        )
        weights += _norm(block.self_attention.norm, f"{layer}layernorm_before")
        weights += _linear(block.feed_forward.sublayer.expand, f"{layer}intermediate.dense")
        weights += _linear(block.feed_forward.sublayer.contract, f"{layer}output.dense")
        weights += _norm(block.feed_forward.norm, f"{layer}layernorm_after")
    weights += _norm(encoder.final_norm, f"{prefix}layernorm")
    if with_head:
        weights += _linear(model.get_layer("logits"), "classifier")
    pooler = {name for name in tensors if name.startswith(f"{prefix}pooler.")}
    return model, weights, pooler


READERS: dict[str, Callable] = {
    "bert": _encoder,
    "roberta": _encoder,
    "electra": _encoder,
    "gpt2": _gpt2,
    "t5": _t5,
    "bart": _bart,
    "marian": _bart,
    "vit": _vit,
}
