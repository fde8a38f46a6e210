"""Models with signatures, wherever they run: in Python, as a SavedModel, as a `.tflite`.

They differ in how a signature is called; what is made of its arrays is the same. It needs no
TensorFlow.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

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
    """The dtype and shape of a signature's tensor."""

    dtype: str  # "string" or NumPy's name
    shape: tuple[int | None, ...]


class Artefact:
    """A model with signatures: graphs by name that take and give arrays by name.

    Subclasses know their signatures and how to call one.

    Attributes:
        signatures: The names of what can be called.
        task: Name of the task that the model is for.
        gives: The output that answers: "text", "embedding", "label", "labels", "answer" or
            "tokens".
    """

    signatures: frozenset[str]
    task: str
    gives: str

    def specs(self, signature: str) -> tuple[dict[str, Spec], dict[str, Spec]]:
        """Return what a signature takes and what it gives, by name."""
        raise NotImplementedError

    @property
    def vocabulary(self) -> list[str]:
        """The pieces that ids stand for."""
        raise NotImplementedError

    def call(self, signature: str, **inputs: Any) -> dict[str, np.ndarray]:
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

    def __call__(
        self, texts: Sequence[str] | None = None, /, batch_size: int = 32, **columns: Sequence[Any]
    ) -> Any:
        """Answer any number of texts.

        Args:
            texts: The texts, or names of pictures, of what takes one a row.
            batch_size: Most rows in a batch; those of similar length share one.
            **columns: What takes several has them by name, such as `question` and `passage`, or the
                `text` and `text_pair` of a classifier of pairs.

        Returns:
            A list of what the model `gives`: strings, or lists of strings where there are several
            a row; vectors are rows of an array.

        Raises:
            InputError: If the columns are not those of the model.

        Example:
            kt.load("exported/model.tflite")(["Two men."])
        """
        asked = ["pair"] if columns.keys() == {"text", "text_pair"} else []
        signature = next(one for one in (*asked, "serving_default", SEES) if one in self.signatures)
        takes = self.specs(signature)[0]
        if texts is not None:
            if len(takes) != 1 or columns or SEES in takes:
                raise InputError(f"Give what this model takes by name: {names_of(takes)}.")
            columns = dict.fromkeys(takes, texts)
        if isinstance(columns.get(PICTURE), (list, tuple)):
            columns = {PICTURE: [_read_picture(one) for one in columns[PICTURE]]}
        if strings := [name for name, some in columns.items() if isinstance(some, (str, bytes))]:
            raise InputError(f"{strings[0]} must be a list, even of a single text.")
        counts = {name: len(some) for name, some in columns.items()}
        if columns.keys() != takes.keys() or len(set(counts.values())) != 1:
            raise InputError(
                f"The model takes {names_of(takes)}, with the same number of rows each; got "
                f"{', '.join(f'{count} of {name}' for name, count in counts.items()) or 'nothing'}."
            )
        rows = list(zip(*columns.values(), strict=True))
        order = sorted(range(len(rows)), key=lambda i: -sum(map(len, rows[i])))
        found: list[Any] = [None] * len(rows)
        for start in range(0, len(rows), batch_size):
            some = order[start : start + batch_size]
            batch = {name: [column[i] for i in some] for name, column in columns.items()}
            for i, answer in zip(some, self.call(signature, **batch)[self.gives], strict=True):
                found[i] = answer
        if rows and isinstance(found[0], np.ndarray) and found[0].dtype != object:
            return np.stack(found)
        return [_without_padding(decode(answer)) for answer in found]

    @property
    def description(self) -> str:
        """The purpose of the model in a sentence, if it is known."""
        return ""

    @property
    def purpose(self) -> dict[str, str]:
        """The task, the answer and the description that exported files carry."""
        return {"task": self.task, "gives": self.gives, "description": self.description}

    def warmup(self) -> list[tuple[str, list[bytes]]]:
        """Return signatures and texts that prepare the model for every length."""
        return []


def specs_of(tensors: Mapping[str, Any]) -> dict[str, Spec]:
    """Describe tensors of TensorFlow, or their specifications, by name."""
    return {
        name: Spec(tensor.dtype.name, tuple(tensor.shape.as_list()))
        for name, tensor in tensors.items()
    }


def decode(texts: Any) -> Any:
    """Turn the bytes of a string array into Python strings, nested as the array is."""
    if isinstance(texts, bytes):
        return texts.decode("utf-8", errors="replace")
    return [decode(text) for text in texts]


def as_arrays(inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Make arrays of what a signature is called with; strings become arrays of bytes."""
    return {name: _as_array(value) for name, value in inputs.items()}


def _read_picture(given: Any) -> bytes:
    """Return the bytes of a picture, given as they are or by the name of a file."""
    if isinstance(given, bytes):
        return given
    try:
        return Path(given).read_bytes()
    except OSError as error:
        raise InputError(f"{given} can't be read: {error.strerror}.") from None


def _without_padding(answer: Any) -> Any:
    """Leave out the empty strings that fill up the rows of a batch, wherever they are nested."""
    if isinstance(answer, str):
        return answer
    return [_without_padding(one) for one in answer if one and any(one)]


def _as_array(value: Any) -> np.ndarray:
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


def _as_bytes(value: Any) -> Any:
    # A half of a surrogate pair, which JSON can hold, becomes bytes that make its word unknown.
    return value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value


def batched_inputs(specs: Mapping[str, Any]) -> list[str]:
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


def _check_array(name: str, array: np.ndarray, spec: Spec) -> None:
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


def names_of(some: Iterable[str]) -> str:
    """Return names for a message, in quotes and in order."""
    return ", ".join(repr(name) for name in sorted(some)) or "nothing"


def sees(artefact: Artefact) -> bool:
    """Return whether an artefact takes pictures, which has the signature `pixels`."""
    return SEES in artefact.signatures
