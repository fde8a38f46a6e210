"""What has signatures, wherever it runs: a model in Python, a SavedModel, a `.tflite`.

They differ in how a signature is called; what is made of its arrays is the same. It needs no
TensorFlow.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from keras_transformer.errors import InputError

SEES = "pixels"  # what takes pictures has this signature, and takes no text

SAVED_MODEL = "savedmodel"  # the kind of file that has every signature

PICTURE = "image"  # the input that takes the bytes of pictures, where others take texts
# A GIF of one white pixel.
SMALLEST_PICTURE = bytes.fromhex(
    "47494638396101000100800000ffffff0000002c00000000010001000002024401003b"
)


@dataclasses.dataclass(frozen=True)
class Spec:
    """What a tensor of a signature is like."""

    dtype: str  # "string" or NumPy's name
    shape: tuple[int | None, ...]


class Artefact:
    """A model with signatures: graphs by name that take and give arrays by name.

    Subclasses know their signatures and how to call one.
    """

    signatures: frozenset[str]

    def specs(self, signature: str) -> tuple[dict[str, Spec], dict[str, Spec]]:
        """Return what a signature takes and what it gives, by name."""
        raise NotImplementedError

    @property
    def vocabulary(self) -> list[str]:
        """The pieces that ids stand for."""
        raise NotImplementedError

    def call(self, signature: str, **inputs) -> dict[str, np.ndarray]:
        """Call a signature.

        Args:
            signature: One of `signatures`.
            inputs: Its arrays by name; strings as `str` or `bytes`.

        Returns:
            Its outputs by name; strings as `bytes`.

        Raises:
            InputError: If the inputs are not those of the signature; see `check_arrays`.
        """
        raise NotImplementedError

    @property
    def description(self) -> str:
        """What the model is for, in a sentence, if it says so."""
        return ""

    def warmup(self) -> list[tuple[str, list]]:
        """Return signatures and texts that prepare the model for every length."""
        return []


def specs_of(tensors: Mapping) -> dict[str, Spec]:
    """Describe tensors of TensorFlow, or their specifications, by name."""
    return {
        name: Spec(tensor.dtype.name, tuple(tensor.shape.as_list()))
        for name, tensor in tensors.items()
    }


def decode(texts) -> list:
    """Turn the bytes of a string array into Python strings, nested as the array is."""
    if isinstance(texts, bytes):
        return texts.decode("utf-8", errors="replace")  # type: ignore[return-value]
    return [decode(text) for text in texts]


def as_arrays(inputs: Mapping) -> dict[str, np.ndarray]:
    """Make arrays of what a signature is called with; strings become arrays of bytes."""
    return {name: _as_array(value) for name, value in inputs.items()}


def _as_array(value):
    if isinstance(value, (np.ndarray, np.generic)):
        return np.asarray(value)
    if isinstance(value, (str, bytes)):
        return np.array(_as_bytes(value), dtype=object)
    if hasattr(value, "__array__"):
        return np.asarray(value)
    if not isinstance(value, (list, tuple)):
        return np.array(value)
    rows = [_as_bytes(x) for x in value]
    return np.array(rows, dtype=object if not rows or isinstance(rows[0], bytes) else None)


def _as_bytes(value):
    # A half of a surrogate pair, which JSON can hold, becomes bytes that make its word unknown.
    return value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value


def batched_inputs(specs: Mapping) -> list[str]:
    """Return the names of inputs that have a row for each row of the batch."""
    return [name for name, spec in specs.items() if spec.shape[:1] == (None,)]


def check_arrays(arrays: Mapping[str, np.ndarray], specs: Mapping[str, Spec]) -> int:
    """Make sure that arrays fit a signature, and each other.

    Args:
        arrays: What the signature is to be called with, by name.
        specs: What it takes.

    Returns:
        The number of rows.

    Raises:
        InputError: If an input is missing or unknown, has another rank or another size in an axis
            that has a fixed one, holds strings for numbers or the reverse, or has not as many rows
            as the others.
    """
    if set(arrays) != set(specs):
        raise InputError(
            f"The signature takes {names_of(specs)}, the request has {names_of(arrays)}."
        )
    for name, spec in specs.items():
        _check_array(name, arrays[name], spec)
    counts = {len(arrays[name]) for name in batched_inputs(specs)}
    if len(counts) > 1:
        raise InputError(f"All inputs need the same number of rows, got {sorted(counts)}.")
    return counts.pop() if counts else 1


def _check_array(name, array, spec):
    fits = array.ndim == len(spec.shape) and all(
        wanted in (None, size) for wanted, size in zip(spec.shape, array.shape, strict=True)
    )
    if not fits:
        shape = "(" + ", ".join("any" if size is None else str(size) for size in spec.shape) + ")"
        hint = ""
        if spec.dtype == "string" and array.ndim == 0:
            hint = "; give a list, also for one text"
        raise InputError(
            f"Input {name!r} needs shape {shape}, got {array.shape}, of rank {array.ndim}{hint}."
        )
    if array.size and (array.dtype.kind in "OSU") != (spec.dtype == "string"):
        raise InputError(f"Input {name!r} needs {spec.dtype}, got {array.dtype.name}.")


def names_of(some) -> str:
    """Return names for a message, in quotes and in order."""
    return ", ".join(repr(name) for name in sorted(some)) or "nothing"


def sees(artefact) -> bool:
    """Say whether an artefact takes pictures, by its signature `pixels`."""
    return SEES in artefact.signatures


def _outputs(artefact):
    """Return what an artefact gives, whatever it takes."""
    return artefact.specs(SEES if sees(artefact) else "serving_default")[1]


def _writes(artefact):
    """Say whether an artefact writes text, and does not just fill masks in."""
    return "text" in (given := _outputs(artefact)) and "tokens" not in given
