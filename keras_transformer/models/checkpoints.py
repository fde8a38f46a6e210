"""Reading published checkpoints: their files, and pairing their tensors with our weights.

Every weight of the model is paired with a tensor of the file, and what is missing or left over is
named.
"""

import dataclasses
import json
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_transformer.errors import InputError

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLES = ("pytorch_model.bin", "model.bin", "pytorch_model.pt")
LONGEST_HEADER = 100_000_000  # as in the reference of the format
DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",  # the upper half of a float32
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "u1",
    "BOOL": "?",
}


# --- Files ----------------------------------------------------------------------------------------


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        InputError: If the file is missing or damaged.
    """
    try:
        value = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise InputError(f"There is no file {path}.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged: {error}") from None
    if not isinstance(value, dict):
        raise InputError(f"{path} holds no JSON object.")
    return value


def read_tensors(folder: Path) -> dict[str, np.ndarray]:
    """Read `model.safetensors` of a folder, or the files that its index names.

    Raises:
        InputError: If they are missing or damaged, or there is a pickle in their place.
    """
    if (folder / WEIGHTS).is_file():
        return read_safetensors(folder / WEIGHTS)
    if (folder / INDEX).is_file():
        return _read_shards(folder)
    if found := [name for name in PICKLES if (folder / name).exists()]:
        raise InputError(
            f"{folder / found[0]} is a pickle, which may run code when it is loaded, and is "
            f"refused. Convert it to {WEIGHTS} where you trust it."
        )
    raise InputError(f"There is no file {folder / WEIGHTS}.")


def _read_shards(folder: Path) -> dict[str, np.ndarray]:
    index = folder / INDEX
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(x, str) for x in places.values()):
        raise InputError(f"{index} has no weight_map.")
    tensors: dict[str, np.ndarray] = {}
    for name in sorted(set(places.values())):
        if Path(name).name != name:
            raise InputError(f"{index} names a file outside of its folder: {name!r}.")
        if not (folder / name).is_file():
            raise InputError(f"There is no file {folder / name}, which {INDEX} names.")
        shard = read_safetensors(folder / name)
        if missing := sorted(key for key in places if places[key] == name and key not in shard):
            raise InputError(f"{folder / name} lacks what {INDEX} says: {', '.join(missing)}.")
        tensors |= shard
    return tensors


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """Read a file of tensors: the length of a header, the header in JSON, and bare numbers.

    Nothing in it can run code. Every size is checked against the file before it is believed.

    Args:
        path: The file.

    Returns:
        The tensors by name, read-only, which stay in the file until they are looked at; bfloat16
        becomes float32.

    Raises:
        InputError: If the file is damaged or cut off.

    Reference: https://huggingface.co/docs/safetensors, which also defines the limits.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            size = path.stat().st_size - 8 - length
            if length > LONGEST_HEADER or size < 0:
                raise ValueError(f"its header can't have {length:,} bytes")
            header = json.loads(file.read(length).decode("utf-8"), object_pairs_hook=_once)
        data = np.memmap(path, "u1", "r", 8 + length) if size else np.zeros(0, "u1")
        return dict(_tensors(header, data))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} can't be read, it is damaged or cut off: {error}.") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a name is there twice")
    return dict(pairs)


def _tensors(header: dict[str, Any], data: Any) -> Iterator[tuple[str, np.ndarray]]:
    if not isinstance(header, dict):
        raise ValueError("its header is not a JSON object")
    ranges = []
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
            raise ValueError(f"{name} has no dtype, shape and data_offsets")
        kind, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
        if not isinstance(kind, str) or kind not in DTYPES:
            raise ValueError(f"{name} is of the unknown dtype {kind!r}")
        if not _are_sizes(shape) or not _are_sizes(offsets) or len(offsets) != 2:
            raise ValueError(f"{name} has the shape {shape!r} at {offsets!r}")
        begin, end = offsets
        dtype = np.dtype(DTYPES[kind])
        if end > len(data) or end - begin != math.prod(shape) * dtype.itemsize or len(shape) > 32:
            raise ValueError(f"{name} of shape {shape!r} can't be the bytes {begin:,} to {end:,}")
        ranges.append((begin, end))
        tensor = np.frombuffer(data[begin:end], dtype).reshape(shape)
        if kind == "BF16":
            tensor = (tensor.astype("uint32") << 16).view("float32")
        yield name, tensor
    place = 0
    for begin, end in sorted(ranges):
        if begin != place:
            raise ValueError(f"the bytes {min(begin, place):,} to {max(begin, place):,} are open")
        place = end
    if place != len(data):
        raise ValueError(f"{len(data) - place:,} bytes at its end belong to no tensor")


def _are_sizes(values: Any) -> bool:
    return isinstance(values, list) and all(type(x) is int and x >= 0 for x in values)


# --- Pairs ----------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Weight:
    """A weight of the model, and where its value comes from.

    Args:
        variable: The Keras variable.
        name: Name of the tensor in the file.
        convert: Function from the tensor to the variable's value. It may raise ValueError or
            IndexError for a tensor of another shape.
    """

    variable: Any
    name: str
    convert: Callable[[np.ndarray], np.ndarray] = np.asarray


def assign(
    weights: list[Weight], tensors: Mapping[str, np.ndarray], ignored: Collection[str], place: str
) -> None:
    """Give every weight its value, or name everything that does not fit.

    Args:
        weights: All weights of the model that have a tensor.
        tensors: The tensors by name.
        ignored: Names of tensors that are not needed.
        place: What the message begins with.

    Raises:
        InputError: If tensors are missing, left over or of another shape. No weight is changed.
    """
    missing = sorted({w.name for w in weights if w.name not in tensors})
    extra = sorted(set(tensors) - {w.name for w in weights} - set(ignored))
    problems = [f"missing: {', '.join(missing)}"] if missing else []
    problems += [f"left over: {', '.join(extra)}"] if extra else []
    values = []
    for weight in weights:
        if weight.name not in tensors:
            continue
        tensor = tensors[weight.name]
        expected = tuple(weight.variable.shape)
        try:
            value = weight.convert(tensor)
            fits = value.shape == expected
        except (ValueError, IndexError):
            fits = False
        if fits:
            values.append((weight.variable, value))
        else:
            problems.append(
                f"{weight.name} has shape {tuple(tensor.shape)}, which does not make {expected}"
            )
    if problems:
        raise InputError(f"{place}; {'; '.join(problems)}.")
    for variable, value in values:
        variable.assign(value.astype("float32"))


def transposed(x: np.ndarray) -> np.ndarray:
    """Turn rows into columns."""
    return np.ascontiguousarray(x.T)


def single(x: np.ndarray) -> np.ndarray:
    """Take away a first axis, which has to be of length 1."""
    return np.squeeze(x, 0)


def scaled(factor: float, transpose: bool = False) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that multiplies by a number, and turns rows into columns if asked to."""
    return lambda x: (x.T if transpose else x) * np.float32(factor)


def columns(part: int, parts: int, factor: float = 1.0) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that takes one of several equal parts of the last axis, times a number."""
    return lambda x: np.split(x, parts, axis=-1)[part] * np.float32(factor)


def norm(layer: keras.layers.Layer, gain: str, offset: str) -> Iterator[Weight]:
    """Pair a norm's weights with two tensors; RMS norm has no offset."""
    yield Weight(layer.gamma if hasattr(layer, "gamma") else layer.scale, gain)
    if getattr(layer, "beta", None) is not None:
        yield Weight(layer.beta, offset)
