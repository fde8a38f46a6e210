"""How layers and fields are named in checkpoints of Hugging Face, whatever the family."""

from collections.abc import Iterator
from typing import Any

from keras_transformer.errors import InputError
from keras_transformer.models.checkpoints import Weight, norm, transposed

ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "relu": "relu",
    "swish": "silu",
    "silu": "silu",
}
POSITION_OFFSET = 2  # of RoBERTa and BART: the first token is at one after the id of padding


def linear(layer, name: str) -> Iterator[Weight]:
    """Pair a `Linear` with a torch.nn.Linear, whose kernel is transposed."""
    yield Weight(layer.kernel, f"{name}.weight", transposed)
    if layer.bias is not None:
        yield Weight(layer.bias, f"{name}.bias")


def layer_norm(layer, name: str) -> Iterator[Weight]:
    """Pair a norm with a torch.nn.LayerNorm."""
    return norm(layer, f"{name}.weight", f"{name}.bias")


def projections(attention, names: dict[str, str]) -> Iterator[Weight]:
    """Pair the projections of an attention, by `query`, `key`, `value` and `output`."""
    for part, name in names.items():
        yield from linear(getattr(attention, f"{part}_projection"), name)


def renamed(fields, **names) -> dict[str, Any]:
    """Return fields of our configuration from the names that theirs have."""
    return {ours: fields[theirs] for ours, theirs in names.items()}


def activation_of(name):
    """Return our name of an activation."""
    if name not in ACTIVATIONS:
        raise InputError(f"The activation {name!r} is unknown; known are {', '.join(ACTIVATIONS)}.")
    return ACTIVATIONS[name]


def prefix_of(tensors, *candidates: str) -> str:
    """Return the prefix that names of tensors have: a model alone has none, one with a head has."""
    for candidate in candidates:
        if any(name.startswith(candidate) for name in tensors):
            return candidate
    return ""


def without_offset(table):
    """Leave out the rows of a table of positions that no token is at."""
    return table[POSITION_OFFSET:]
