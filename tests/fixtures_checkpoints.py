"""Checkpoints for tests: tiny published ones, copied, changed and written anew."""

import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest

from keras_transformer.errors import InputError
from keras_transformer.models import from_hugging_face
from keras_transformer.models.checkpoints import read_safetensors

CHECKPOINTS = Path(__file__).parent / "golden" / "checkpoints"


@pytest.fixture(scope="module")
def loaded():
    """Models of the checkpoints, each read when it is asked for first."""
    models = {}

    def get(name):
        if name not in models:
            models[name] = from_hugging_face(CHECKPOINTS / name)
        return models[name]

    return get


@pytest.fixture
def copy(tmp_path):
    """Copies a checkpoint, for a test to change."""

    def make(name="bert-classifier"):
        return Path(shutil.copytree(CHECKPOINTS / name, tmp_path / name))

    return make


def change(folder, remove=(), **fields):
    """Change fields of a `config.json`."""
    path = folder / "config.json"
    config = {**json.loads(path.read_text("utf-8")), **fields}
    path.write_text(json.dumps({k: v for k, v in config.items() if k not in remove}), "utf-8")


def rewrite(folder, tensors, name="model.safetensors"):
    """Write a file of tensors; arrays of uint16 are bfloat16."""
    header, place, parts = {}, 0, []
    for key, array in tensors.items():
        dtype = {"<f4": "F32", "<f2": "F16", "<u2": "BF16", "<i8": "I64"}[array.dtype.str]
        header[key] = {
            "dtype": dtype,
            "shape": list(array.shape),
            "data_offsets": [place, place + array.nbytes],
        }
        place += array.nbytes
        parts.append(array.tobytes())
    (folder / name).write_bytes(packed(header, b"".join(parts)))


def packed(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def tensors_of(folder):
    return {k: np.array(v) for k, v in read_safetensors(folder / "model.safetensors").items()}


def refused(folder, message):
    with pytest.raises(InputError, match=message) as found:
        from_hugging_face(folder)
    assert "\n" not in str(found.value)
    return str(found.value)
