"""Folders of sentence-transformers: an encoder, and what is done with its vectors one by one.

`modules.json` names the modules in their order, each with a folder of its own. Nothing is imported
by the names in the files: they are looked up in the lists here.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_transformer.errors import InputError
from keras_transformer.models.checkpoints import Weight, read_json, read_tensors
from keras_transformer.models.heads import NORMALIZE
from keras_transformer.models.hugging_face.fields import Fields, Only
from keras_transformer.models.hugging_face.pieces import linear
from keras_transformer.models.model import ConfiguredModel

MODULES, PACKAGE = "modules.json", "config_sentence_transformers.json"
TRANSFORMER = "sentence_bert_config.json"
# Where the modules' classes have been, in old and new versions.
PLACES = (
    "sentence_transformers.models.",
    "sentence_transformers.base.modules.",
    "sentence_transformers.sentence_transformer.modules.",
)
KINDS = {
    "Transformer": "Transformer",
    "BERT": "Transformer",
    "RoBERTa": "Transformer",
    "Pooling": "Pooling",
    "Dense": "Dense",
    "Normalize": "Normalize",
    "Dropout": "Dropout",  # which does nothing when a model is used
}
POOLINGS = {
    "cls": "first",
    "max": "max",
    "mean": "mean",
    "mean_sqrt_len_tokens": "mean_sqrt_length",
    "weightedmean": "weighted_mean",
    "lasttoken": "last",
}
# The older spelling, in the order in which vectors are put side by side.
FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
# By the names of torch's classes.
ACTIVATIONS = {
    "Identity": "linear",
    "Tanh": "tanh",
    "ReLU": "relu",
    "ReLU6": "relu6",
    "GELU": "gelu",
    "SiLU": "silu",
    "Sigmoid": "sigmoid",
    "ELU": "elu",
    "SELU": "selu",
    "Mish": "mish",
    "Softplus": "softplus",
    "Softsign": "softsign",
}
ACTIVATION_PLACES = ("torch.nn.modules.activation.", "torch.nn.modules.linear.", "torch.nn.")

_IN_AND_OUT = {
    name: Only(("sentence_embedding",), "takes or gives something else than the text's vector")
    for name in ("module_input_name", "module_output_name")
}
FIELDS = {
    "Transformer": Fields(
        understood={"max_seq_length", "do_lower_case", "modality_config"},
        harmless={"unpad_inputs"},
        only={
            "transformer_task": Only(("feature-extraction",), "makes another model of the weights"),
            "module_output_name": Only(("token_embeddings",), "gives something else to the rest"),
        },
    ),
    "Pooling": Fields(
        understood={"pooling_mode", "include_prompt", *FLAGS}
        | {"word_embedding_dimension", "embedding_dimension"},
    ),
    "Dense": Fields(
        understood={"in_features", "out_features", "bias", "activation_function"},
        only={**_IN_AND_OUT, "use_residual": Only((False,), "adds the input to the output")},
    ),
    "Normalize": Fields(only=_IN_AND_OUT),
    "Dropout": Fields(harmless={"dropout"}),
    "package": Fields(
        understood={"prompts", "default_prompt_name", "model_type", "activation_fn"},
        harmless={"__version__", "similarity_fn_name"},
    ),
}
_TEXT = {"method": "forward", "method_output_name": "last_hidden_state"}


@dataclasses.dataclass(frozen=True)
class Package:
    """The settings of a sentence-transformers folder, beside its weights.

    Args:
        folder: Where `config.json`, the weights and the tokeniser are.
        gives_vectors: Whether it makes vectors; otherwise it scores pairs of texts.
        settings: Arguments of `SentenceEncoder`.
        dense: Tensors of its dense layers, by the layers' names.
        prompts: Texts to put before a text, by name.
        prompt: The one that is used if nobody asks for another; "" for none.
        max_length: Most tokens of a text, or None.
        activation: Name of the class of what is done with scores, or None.
    """

    folder: Path
    gives_vectors: bool = True
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    dense: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    prompts: dict[str, str] = dataclasses.field(default_factory=dict)
    prompt: str = ""
    max_length: int | None = None
    activation: str | None = None

    @property
    def tensors(self) -> dict[str, Any]:
        """The tensors of dense layers, as if they were in the model's file."""
        return {
            f"{layer}.{name}": tensor
            for layer, tensors in self.dense.items()
            for name, tensor in tensors.items()
        }

    def weights(self, model: ConfiguredModel) -> list[Weight]:
        """Pair the weights of dense layers with their tensors."""
        return [
            weight
            for layer in self.dense
            for weight in linear(model.get_layer(layer), f"{layer}.linear")
        ]


def read_package(folder: Path) -> Package | None:
    """Read what sentence-transformers wrote beside the weights; None if it wrote nothing.

    Raises:
        InputError: If a file is damaged, or there is a module or field that is not supported.
    """
    modules = _modules(folder)
    pooling = folder / "1_Pooling" / "config.json"  # of folders without a list
    if modules is None and not (folder / "1_Pooling").is_dir():
        return None
    package, settings = _package(folder), {}
    if modules is None:
        if pooling.is_file():
            fields = _fields(pooling, "Pooling")
            settings["pooling"] = _pooling(fields, pooling)
            _check_prompt(fields, package, pooling)
        _check_transformer(folder)
        length = read_max_length(folder)
        return dataclasses.replace(package, settings=settings, max_length=length)
    kinds = [kind for kind, _ in modules]
    if kinds[:1] != ["Transformer"] or kinds.count("Transformer") > 1:
        raise InputError(f"{folder / MODULES} has to begin with its only Transformer.")
    where = modules[0][1]
    if not package.gives_vectors:
        if len(modules) > 1:
            raise InputError(f"{folder / MODULES} has modules behind a model of scores: {kinds}.")
        return dataclasses.replace(package, folder=where, max_length=read_max_length(where))
    if kinds.count("Pooling") != 1 or kinds[1] != "Pooling":
        raise InputError(f"{folder / MODULES} needs one Pooling behind its Transformer.")
    dense: dict[str, dict[str, Any]] = {}
    steps: list[Any] = []
    for kind, path in modules[1:]:
        config = path / "config.json"
        # Modules without settings have no file in older versions, or not even a folder.
        fields = _fields(config, kind) if config.is_file() or kind in ("Pooling", "Dense") else {}
        if kind == "Pooling":
            settings["pooling"] = _pooling(fields, config)
            settings["width"] = fields.get("embedding_dimension") or fields.get(
                "word_embedding_dimension"
            )
            _check_prompt(fields, package, config)
        elif kind == "Normalize":
            steps.append(NORMALIZE)
        elif kind == "Dense":
            tensors = read_tensors(path)
            dense[f"dense_{len(steps)}"] = tensors
            steps.append(_dense(fields, tensors, config))
    if (width := settings.pop("width")) is not None:
        hidden = read_json(where / "config.json").get("hidden_size")
        if width != hidden:
            raise InputError(f"{folder} pools vectors of {width}, but the model's have {hidden}.")
    settings["normalize"] = bool(steps) and steps[-1] == NORMALIZE
    settings["steps"] = steps[:-1] if settings["normalize"] else steps
    _check_transformer(where)
    return dataclasses.replace(
        package, folder=where, settings=settings, dense=dense, max_length=read_max_length(where)
    )


def _modules(folder: Path) -> list[tuple[str, Path]] | None:
    """Return the kind and the folder of each module, or None if there is no list."""
    path = folder / MODULES
    if not path.is_file():
        return None
    try:
        entries = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged: {error}") from None
    if not isinstance(entries, list) or not entries:
        raise InputError(f"{path} holds no list of modules.")
    known = Fields(understood={"idx", "name", "path", "type"})
    modules: list[tuple[int, str, Path]] = []
    for entry in entries:
        if not isinstance(entry, dict) or not isinstance(entry.get("path"), str):
            raise InputError(f"{path} has a module without a path: {entry!r}.")
        known.check(entry, path)
        name = str(entry.get("type"))
        kind = KINDS.get(name.rpartition(".")[2]) if name.startswith(PLACES) else None
        if kind is None:
            raise InputError(
                f"{path} has a module of the type {name!r}, which is not supported; supported are "
                f"{', '.join(KINDS)} of sentence_transformers."
            )
        inside = folder / entry["path"]
        if not inside.resolve().is_relative_to(folder.resolve()):
            raise InputError(f"{path} names a folder outside of its own: {entry['path']!r}.")
        modules.append((int(entry.get("idx", len(modules))), kind, inside))
    modules.sort(key=lambda module: module[0])
    return [(kind, inside) for _, kind, inside in modules]


def _fields(path: Path, kind: str) -> dict[str, Any]:
    fields = read_json(path)
    FIELDS[kind].check(fields, path)
    return fields


def _package(folder: Path) -> Package:
    """Read the settings of the whole."""
    path = folder / PACKAGE
    fields = _fields(path, "package") if path.is_file() else {}
    kind = fields.get("model_type") or "SentenceTransformer"
    if kind not in ("SentenceTransformer", "CrossEncoder"):
        raise InputError(
            f"{path} says model_type={kind!r}, which is not supported; supported are "
            "SentenceTransformer and CrossEncoder."
        )
    prompts = fields.get("prompts") or {}
    if not isinstance(prompts, dict) or not all(
        isinstance(text, str) or text is None for text in prompts.values()
    ):
        raise InputError(f"{path} says prompts={prompts!r}, which has to be texts by name.")
    prompts = {name: text or "" for name, text in prompts.items()}
    default = fields.get("default_prompt_name")
    if default is not None and default not in prompts:
        raise InputError(f"{path} says default_prompt_name={default!r}, but has no such prompt.")
    return Package(
        folder,
        gives_vectors=kind == "SentenceTransformer",
        prompts={name: text for name, text in prompts.items() if text},
        prompt=prompts[default] if default is not None else "",
        activation=fields.get("activation_fn"),
    )


def _pooling(fields: dict[str, Any], path: Path) -> Any:
    """Return the kinds of pooling, one or a list of them."""
    modes = fields.get("pooling_mode")
    if modes is None:
        modes = [mode for flag, mode in FLAGS.items() if fields.get(flag)] or ["mean"]
    elif isinstance(modes, str):
        modes = modes.split("+")
    if not isinstance(modes, list) or not modes or not all(str(m) in POOLINGS for m in modes):
        raise InputError(
            f"{path} says pooling_mode={fields.get('pooling_mode')!r}, which is unknown; supported "
            f"are {', '.join(POOLINGS)}."
        )
    kinds = [POOLINGS[mode] for mode in modes]
    return kinds[0] if len(kinds) == 1 else kinds


def _check_prompt(fields: dict[str, Any], package: Package, path: Path) -> None:
    if fields.get("include_prompt") is False and package.prompts:
        raise InputError(
            f"{path} says include_prompt=False, which leaves prompts out of the pooling. It is not "
            f"supported, and there are prompts: {', '.join(package.prompts)}."
        )


def _dense(fields: dict[str, Any], tensors: Mapping[str, np.ndarray], path: Path) -> dict[str, Any]:
    """Return a step of a `SentenceEncoder`."""
    given = fields.get("activation_function", "torch.nn.modules.activation.Tanh")
    activation = activation_name(given, path) if given is not None else "Identity"
    bias = bool(fields.get("bias", True))
    if bias != ("linear.bias" in tensors):
        raise InputError(f"{path} says bias={bias}, but its weights say otherwise.")
    return {
        "width": fields["out_features"],
        "activation": ACTIVATIONS[activation],
        "use_bias": bias,
    }


def activation_name(name: Any, place: Any) -> str:
    """Return the name of a class of torch, such as "Tanh", of its full name.

    Raises:
        InputError: If it is unknown; nothing is imported.
    """
    last = str(name).rpartition(".")[2]
    if f"{name}" not in {f"{where}{last}" for where in ACTIVATION_PLACES} or (
        last not in ACTIVATIONS
    ):
        raise InputError(
            f"{place} names the activation {name!r}, which is unknown; supported "
            f"are {', '.join(ACTIVATIONS)} of torch.nn."
        )
    return last


def read_max_length(folder: Path) -> int | None:
    """Return the greatest number of tokens of a text, as the files beside the weights say it.

    It is in `sentence_bert_config.json`, or in newer folders in the tokeniser's settings alone.

    Raises:
        InputError: If a file is damaged, or its number is too small.
    """
    path, tokenizer = folder / TRANSFORMER, folder / "tokenizer_config.json"
    length = read_json(path).get("max_seq_length") if path.is_file() else None
    if length is None and tokenizer.is_file():
        length = read_json(tokenizer).get("model_max_length")
    if length is None or length > 1e9:  # where there is no limit, it is said to be 1e30
        return None
    if length < 2:
        raise InputError(f"{folder} allows {length} tokens of a text, which are too few.")
    return int(length)


def _check_transformer(folder: Path) -> None:
    path = folder / TRANSFORMER
    if path.is_file():
        text = (_fields(path, "Transformer").get("modality_config") or {"text": _TEXT}).get("text")
        if text != _TEXT:
            raise InputError(f"{path} reads text by {text!r}, which is not supported.")
