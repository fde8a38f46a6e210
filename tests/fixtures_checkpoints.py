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
from keras_transformer.text import learn_byte_pairs

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


TOKENIZER_LINES = [
    "two young men are outside",
    "a dog runs in the park",
    "the cat sat on the mat",
] * 3
SPECIAL_TOKENS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
VOCABULARY_SIZE = 300
TABLES_OF = {
    "gpt2": ["transformer.wte.weight"],
    "bart": ["model.shared.weight", "final_logits_bias"],
    "t5": ["shared.weight"],
}
IDS_OF = {  # where the tiny checkpoints have ids that the vocabularies here do not mean
    "gpt2": {"bos_token_id": 2, "eos_token_id": 2},
    "bart": {},
    "t5": {},
}


def with_tokenizer(name, folder):
    """Make a checkpoint with a tokeniser: the tiny one, with a table that is large enough."""
    shutil.copytree(CHECKPOINTS / name, folder)
    rng = np.random.default_rng(0)
    tensors = tensors_of(folder)
    for table in TABLES_OF[name]:
        shape = [VOCABULARY_SIZE if n == 40 else n for n in tensors[table].shape]
        tensors[table] = rng.normal(0, 0.5, shape).astype("float32")
    rewrite(folder, tensors)
    change(folder, vocab_size=VOCABULARY_SIZE, **IDS_OF[name])
    if name in ("gpt2", "bart"):
        pieces, merges = learn_byte_pairs(TOKENIZER_LINES, 290, special_tokens=SPECIAL_TOKENS)
        ids = {piece: i for i, piece in enumerate(pieces)}
        (folder / "vocab.json").write_text(json.dumps(ids), "utf-8")
        lines = "".join(f"{left} {right}\n" for left, right in merges)
        (folder / "merges.txt").write_text(f"#version: 0.2\n{lines}", "utf-8")
    elif name == "t5":
        shutil.copy(CHECKPOINTS.with_name("sentencepiece.model"), folder / "spiece.model")
    return folder
