"""Proof before publication: files are asked, in a fresh process, what the model is asked.

`quality` compares the answers.
"""

import base64
import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_transformer.artefacts.artefact import Artefact
from keras_transformer.errors import InputError
from keras_transformer.pipelines.servable import Call

# Texts that every file has to get right, beside ordinary ones.
EDGE_CASES = ["", "  \t ", "a", "\N{GRINNING FACE} e\N{COMBINING ACUTE ACCENT}", "word " * 400]


@dataclasses.dataclass(frozen=True)
class Answer:
    """The answer to a call.

    Attributes:
        outputs: Arrays by name.
        seconds: How long the call took.
    """

    outputs: dict[str, np.ndarray]
    seconds: float


def ask(artefact: Artefact, calls: Sequence[Call]) -> list[Answer]:
    """Ask an artefact everything once."""
    answers = []
    for call in calls:
        since = time.perf_counter()
        outputs = artefact.call(call.signature, **call.inputs)
        answers.append(Answer(outputs, time.perf_counter() - since))
    return answers


def ask_in_this_process(asked: Mapping[Path, Sequence[Call]]) -> list[list[Answer]]:
    """Ask files, one after the other; see `ask_in_fresh_process`."""
    from keras_transformer.export.runtime import open_file

    answers = []
    for path, calls in asked.items():
        artefact = open_file(path)
        ask(artefact, calls)  # kernels are made for each new shape, which is no time of answering
        answers.append(ask(artefact, calls))
    return answers


def ask_in_fresh_process(asked: Mapping[Path, Sequence[Call]]) -> list[list[Answer]]:
    """Ask files, one after the other, in a process of their own.

    Args:
        asked: What each SavedModel and `.tflite` file is asked.

    Returns:
        The answers of each file.

    Raises:
        InputError: If the process fails; the message holds the end of what it said.
    """
    child = subprocess.run(
        [sys.executable, "-m", "keras_transformer.export.proof"],
        input=json.dumps([[str(path), _packed(calls)] for path, calls in asked.items()]),
        capture_output=True,
        text=True,
        check=False,
    )
    if child.returncode:
        names = ", ".join(path.name for path in asked)
        raise InputError(f"{names} do not run in a fresh process:\n{child.stderr[-2000:]}")
    return [
        [Answer(**answer) for answer in _unpacked(answers)] for answers in json.loads(child.stdout)
    ]


def _packed(value: Any) -> Any:
    """Turn arrays, wherever they are in plain values, into something that JSON can hold."""
    if isinstance(value, Call | Answer):
        return _packed(vars(value))
    if isinstance(value, dict):
        return {name: _packed(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_packed(one) for one in value]
    if isinstance(value, bytes):
        return {"bytes": base64.b64encode(value).decode()}
    if not isinstance(value, np.ndarray):
        return value
    if value.dtype == object:
        return {"strings": _packed(value.ravel().tolist()), "shape": value.shape}
    data = base64.b64encode(np.ascontiguousarray(value).tobytes()).decode()
    return {"data": data, "dtype": value.dtype.str, "shape": value.shape}


def _unpacked(value: Any) -> Any:
    """Undo `_packed`."""
    if isinstance(value, list):
        return [_unpacked(one) for one in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"bytes"}:
        return base64.b64decode(value["bytes"])
    if value.keys() == {"strings", "shape"}:
        rows = _unpacked(value["strings"])
        return np.array([*rows, None], object)[:-1].reshape(value["shape"])
    if value.keys() == {"data", "dtype", "shape"}:
        data = base64.b64decode(value["data"])
        return np.frombuffer(data, value["dtype"]).reshape(value["shape"])
    return {name: _unpacked(one) for name, one in value.items()}


def _answer_standard_input() -> None:
    """Be the fresh process."""
    asked = {
        Path(path): [Call(**call) for call in _unpacked(calls)]
        for path, calls in json.load(sys.stdin)
    }
    json.dump(_packed(ask_in_this_process(asked)), sys.stdout)


if __name__ == "__main__":
    _answer_standard_input()
