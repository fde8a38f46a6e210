"""What has signatures, wherever it runs: a model in Python, a SavedModel, a `.tflite`.

They differ in how a signature is called; what is made of its arrays is the same. It needs no
TensorFlow.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np


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
    # A half of a surrogate pair, which JSON can hold, becomes bytes that make its word unknown.
    rows = [x.encode("utf-8", "surrogatepass") if isinstance(x, str) else x for x in value]
    return np.array(rows, dtype=object if not rows or isinstance(rows[0], bytes) else None)
