"""Requests as arrays: checked against a signature before the model sees them."""

import base64
import binascii
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_transformer.artefacts.artefact import PICTURE, Spec, check_arrays, decode, names_of
from keras_transformer.errors import InputError
from keras_transformer.serving.errors import RequestError
from keras_transformer.serving.limits import Limits


def check_inputs(inputs: dict[str, np.ndarray], specs: dict[str, Spec], limits: Limits) -> int:
    """Make sure that arrays fit a signature, and each other.

    Args:
        inputs: Arrays by name.
        specs: What the signature takes.
        limits: The server's `Limits`.

    Returns:
        The number of rows.

    Raises:
        RequestError: If they don't, or are larger than the server allows.
    """
    try:
        rows = check_arrays(inputs, specs)
    except InputError as error:
        raise RequestError("INVALID_ARGUMENT", str(error)) from None
    for name, spec in specs.items():
        if spec.dtype == "string" and name != PICTURE:  # what a body may have is limited as well
            _check_length(name, inputs[name], limits)
    if rows > limits.request_rows:
        raise RequestError(
            "INVALID_ARGUMENT",
            f"A request may have {limits.request_rows} rows, got {rows}; send several.",
        )
    return rows


def _check_length(name: str, array: np.ndarray, limits: Limits) -> None:
    for text in array.flat:
        longest = len(text)  # bytes, at least as many as characters
        if longest > limits.text_length:
            longest = _characters(text)
        if longest > limits.text_length:
            raise RequestError(
                "INVALID_ARGUMENT",
                f"A text may have {limits.text_length} characters, one in {name!r} has {longest}.",
            )


def _characters(text: bytes) -> int:
    """Count them; half of a surrogate pair, which JSON can hold, is one as well."""
    try:
        return len(text.decode("utf-8", "surrogatepass"))
    except UnicodeDecodeError:
        return len(text.decode("utf-8", "replace"))


# --- JSON -----------------------------------------------------------------------------------------


def inputs_of_json(body: Any, specs: dict[str, Spec]) -> tuple[dict[str, np.ndarray], bool]:
    """Read both of TensorFlow Serving's forms.

    `{"instances": [...]}` has a value for each row, or a dict of values by the names of inputs;
    `{"inputs": ...}` has the values of all rows, or a dict of those by name.

    Args:
        body: The request, parsed.
        specs: What the signature takes.

    Returns:
        Tuple of the arrays by name, and whether the answer is to go row by row.

    Raises:
        RequestError: If it is neither.
    """
    if not isinstance(body, dict):
        raise RequestError("INVALID_ARGUMENT", "The body has to be a JSON object.")
    if ("instances" in body) == ("inputs" in body):
        raise RequestError(
            "INVALID_ARGUMENT", "The body needs either 'instances' or 'inputs', and not both."
        )
    if "inputs" in body:
        columns = body["inputs"]
        if not isinstance(columns, dict) or _is_bytes(columns):
            columns = {_only(specs): columns}
    else:
        columns = _columns(body["instances"], specs)
    if unknown := set(columns) - set(specs):
        raise RequestError(
            "INVALID_ARGUMENT",
            f"The signature takes {names_of(specs)}, the request has {names_of(unknown)}.",
        )
    arrays = {name: _to_array(name, value, specs[name]) for name, value in columns.items()}
    return arrays, "instances" in body


def _columns(instances: Any, specs: Mapping[str, Spec]) -> dict[str, Any]:
    if not isinstance(instances, list) or not instances:
        raise RequestError("INVALID_ARGUMENT", "'instances' has to be a list that is not empty.")
    if not all(isinstance(row, dict) and not _is_bytes(row) for row in instances):
        return {_only(specs): instances}
    names = set(instances[0])
    if any(set(row) != names for row in instances):
        raise RequestError("INVALID_ARGUMENT", "All instances need the same names.")
    return {name: [row[name] for row in instances] for name in names}


def _only(specs: Mapping[str, Spec]) -> str:
    if len(specs) != 1:
        raise RequestError(
            "INVALID_ARGUMENT", f"The signature takes several inputs: name {names_of(specs)}."
        )
    return next(iter(specs))


def _is_bytes(value: Any) -> bool:
    return isinstance(value, dict) and set(value) == {"b64"}


def _to_array(name: str, value: Any, spec: Spec) -> np.ndarray:
    try:
        if spec.dtype == "string":
            return _strings(value)
        array = np.array(value)
        number = np.issubdtype(array.dtype, np.number) or not array.size
        if spec.dtype == "bool":
            fits = array.dtype == bool
        elif np.dtype(spec.dtype).kind == "i":
            fits = number and (array.dtype.kind in "iu" or not array.size)
            fits = fits and bool(np.all(np.abs(array.astype("float64")) < 2**31))
        else:
            fits = number
        if fits:
            return array.astype(spec.dtype)
    except (ValueError, TypeError, OverflowError, RecursionError):
        pass
    raise RequestError("INVALID_ARGUMENT", f"Input {name!r} has to hold values of {spec.dtype}.")


def _strings(value: Any) -> np.ndarray:
    """Make an array of bytes out of strings in lists, all of them as long as each other."""
    if isinstance(value, str):
        return np.array(value.encode("utf-8", "surrogatepass"), dtype=object)
    if _is_bytes(value) and isinstance(value["b64"], str):
        try:
            return np.array(base64.b64decode(value["b64"], validate=True), dtype=object)
        except binascii.Error as error:
            raise ValueError from error
    if not isinstance(value, list):
        raise TypeError
    rows = [_strings(row) for row in value]
    if len({row.shape for row in rows}) > 1:
        raise ValueError
    array = np.empty((len(rows), *(rows[0].shape if rows else ())), dtype=object)
    for i, row in enumerate(rows):
        array[i] = row.item() if row.shape == () else row
    return array


def outputs_to_json(outputs: dict[str, np.ndarray], row_by_row: bool) -> dict[str, Any]:
    """Write outputs in the form of the request: `predictions` or `outputs`.

    Bytes that are no UTF-8 are written as U+FFFD.
    """
    values = {name: _to_list(array) for name, array in outputs.items()}
    single = next(iter(values.values())) if len(values) == 1 else None
    if not row_by_row:
        return {"outputs": values if single is None else single}
    if single is not None:
        return {"predictions": single}
    names = list(values)
    rows = zip(*values.values(), strict=True)
    return {"predictions": [dict(zip(names, row, strict=True)) for row in rows]}


def _to_list(array: np.ndarray) -> list[Any]:
    if array.dtype == object or array.dtype.kind == "S":
        return decode(array.tolist())
    return array.tolist()
