"""How layers and fields are named in checkpoints of Hugging Face, whatever the family."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import keras
import numpy as np

from keras_transformer.errors import InputError
from keras_transformer.models.checkpoints import Weight, norm, transposed
from keras_transformer.models.model import ConfiguredModel

# A model, its weights paired with tensors of the file, and the names of tensors to be ignored.
Reading: TypeAlias = tuple[ConfiguredModel, list[Weight], set[str]]

ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "relu": "relu",
    "swish": "silu",
    "silu": "silu",
}


def linear(layer: keras.layers.Layer, name: str) -> Iterator[Weight]:
    """Pair a `Linear` with a torch.nn.Linear, whose kernel is transposed."""
    yield Weight(layer.kernel, f"{name}.weight", transposed)
    if layer.bias is not None:
        yield Weight(layer.bias, f"{name}.bias")


def layer_norm(layer: keras.layers.Layer, name: str) -> Iterator[Weight]:
    """Pair a norm with a torch.nn.LayerNorm."""
    return norm(layer, f"{name}.weight", f"{name}.bias")


def projections(attention: keras.layers.Layer, names: dict[str, str]) -> Iterator[Weight]:
    """Pair the projections of an attention, by `query`, `key`, `value` and `output`."""
    for part, name in names.items():
        yield from linear(getattr(attention, f"{part}_projection"), name)


def renamed(fields: dict[str, Any], **names: Any) -> dict[str, Any]:
    """Return fields of our configuration from the names that theirs have."""
    return {ours: fields[theirs] for ours, theirs in names.items()}


def activation_of(name: str) -> str:
    """Return our name of an activation."""
    if name not in ACTIVATIONS:
        raise InputError(
            f"The activation {name!r} is unknown; supported are {', '.join(ACTIVATIONS)}."
        )
    return ACTIVATIONS[name]


def only_id(published: dict[str, Any], name: str, default: int) -> int:
    """Return the id of a special token, of which there may be one.

    Args:
        published: The content of `config.json`.
        name: Of the field.
        default: The id if the field says none.

    Raises:
        InputError: If there are several.
    """
    value: Any = published.get(name)
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, list) and value:
        raise InputError(
            f"config.json says {name}={value!r}; several such tokens are not supported."
        )
    return default if value is None or value == [] else value


def prefix_of(tensors: Mapping[str, np.ndarray], *anchors: str) -> str:
    """Return what names of tensors begin with: nothing, the family's name, or that of a wrapper.

    Args:
        tensors: The tensors by name.
        anchors: Names without the prefix, of which every file of the family has one.
    """
    for anchor in anchors:
        found = [name.removesuffix(anchor) for name in tensors if name.endswith(anchor)]
        if found := [prefix for prefix in found if not prefix or prefix.endswith(".")]:
            return min(found, key=len)
    return ""


def outside(prefix: str, base: str) -> str:
    """Return the prefix of heads, which stand beside the model that is named `base`."""
    return prefix.removesuffix(base) if prefix.endswith(base) else ""


def is_tied(
    published: dict[str, Any], tensors: Mapping[str, np.ndarray], table: str, *others: str
) -> bool:
    """Return whether input embeddings and logits share one table.

    What the tensors say counts; `tie_word_embeddings` where a file has one table only.

    Args:
        published: The content of `config.json`.
        tensors: The tensors by name.
        table: Name of the table of tokens.
        *others: Names of what may be the same table.
    """
    found = [tensors[name] for name in others if name in tensors]
    if found:
        return table not in tensors or all(np.array_equal(tensors[table], one) for one in found)
    return published.get("tie_word_embeddings") is not False


def without_offset(offset: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that leaves out the first rows of a table of positions: no token is there.

    In RoBERTa the first token is at one after the id of padding, in BART at 2.
    """
    return lambda table: table[offset:]


def check_architecture(
    published: dict[str, Any], stem: str, endings: Iterable[str], head: str | None
) -> None:
    """Refuse a model that is published with a head that is not supported.

    Args:
        published: The content of `config.json`.
        stem: What names of the family's classes begin with.
        endings: What they may end with.
        head: The head that is asked for; with one, it does not matter what the file has.

    Raises:
        InputError: If it says other classes only.
    """
    names = published.get("architectures") or []
    known = {f"{stem}{ending}" for ending in endings}
    if names and head is None and known.isdisjoint(names):
        raise InputError(
            f"config.json says architectures={names!r}, which is not supported; supported are "
            f"{', '.join(sorted(known))}."
        )


def label_names(published: dict[str, Any], count: int | None) -> list[str] | None:
    """Return the names of labels in the order of their numbers, or None if there are none.

    Args:
        published: The content of `config.json`.
        count: How many labels the classifier in the file has, or None if there is none.

    Raises:
        InputError: If names, their number and the classifier contradict each other.
    """
    names = published.get("id2label") or {}
    if sorted(map(int, names)) != list(range(len(names))):
        raise InputError(f"id2label numbers its labels {', '.join(names)}, not from 0 on.")
    said = {"names in id2label": len(names) or None, "num_labels": published.get("num_labels")}
    said["rows of the classifier"] = count
    said = {what: number for what, number in said.items() if number is not None}
    if len(set(said.values())) > 1:
        counts = ", ".join(f"{number} {what}" for what, number in said.items())
        raise InputError(f"Numbers of labels contradict each other: {counts}.")
    return [str(names[key]) for key in sorted(names, key=int)] or None
