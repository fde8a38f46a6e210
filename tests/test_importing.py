"""Tests of training.importing: published models with their tokenisers go on as they should."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from fixtures_checkpoints import CHECKPOINTS, change, rewrite, tensors_of

from keras_transformer.errors import InputError
from keras_transformer.models import from_hugging_face
from keras_transformer.text import learn_byte_pairs
from keras_transformer.training.run.importing import import_checkpoint

GOLDEN = Path(__file__).parent / "golden"
LINES = ["two young men are outside", "a dog runs in the park", "the cat sat on the mat"] * 3
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
SIZE = 300
TABLES = {
    "gpt2": ["transformer.wte.weight"],
    "bart": ["model.shared.weight", "final_logits_bias"],
    "t5": ["shared.weight"],
}
IDS = {  # where the tiny checkpoints have ids that the vocabularies here do not mean
    "gpt2": {"bos_token_id": 2, "eos_token_id": 2},
    "bart": {},
    "t5": {},
}


def published(name, folder):
    """Make a checkpoint with a tokeniser: the tiny one, with a table that is large enough."""
    shutil.copytree(CHECKPOINTS / name, folder)
    rng = np.random.default_rng(0)
    tensors = tensors_of(folder)
    for table in TABLES[name]:
        shape = [SIZE if n == 40 else n for n in tensors[table].shape]
        tensors[table] = rng.normal(0, 0.5, shape).astype("float32")
    rewrite(folder, tensors)
    change(folder, vocab_size=SIZE, **IDS[name])
    if name in ("gpt2", "bart"):
        pieces, merges = learn_byte_pairs(LINES, 290, special_tokens=SPECIAL)
        ids = {piece: i for i, piece in enumerate(pieces)}
        (folder / "vocab.json").write_text(json.dumps(ids), "utf-8")
        lines = "".join(f"{left} {right}\n" for left, right in merges)
        (folder / "merges.txt").write_text(f"#version: 0.2\n{lines}", "utf-8")
    elif name == "t5":
        shutil.copy(GOLDEN / "sentencepiece.model", folder / "spiece.model")
    return folder


def greedy(model, source, length):
    """Generate by the whole model, one token after the other, without caches."""
    config = model.config
    if config.family == "gpt":
        ids = list(source)
        while len(ids) < length and ids[-1] != config.end_id:
            logits = model({"token_ids": np.array([ids], "int32")}, training=False)
            ids.append(int(np.argmax(logits[0, -1])))
        return ids
    begins = [] if config.source_begin_id is None else [config.source_begin_id]
    source = np.array([[*begins, *source, config.end_id]], "int32")
    ids = [config.begin_id]
    while len(ids) < length + 1:
        inputs = {"source_ids": source, "target_ids": np.array([ids], "int32")}
        ids.append(int(np.argmax(model(inputs, training=False)[0, -1])))
        if ids[-1] == config.end_id:
            break
    return ids[1:]


@pytest.mark.parametrize("name", ["gpt2", "bart", "t5"])
def test_an_imported_model_writes_what_its_weights_say(name, tmp_path):
    folder = published(name, tmp_path / "there")
    run = import_checkpoint(folder, tmp_path / "run")
    assert run.head().task == ("causal-lm" if name == "gpt2" else "translation")
    servable, model = run.servable(), from_hugging_face(folder)
    tokenizer = servable.tokenizer
    text = "the cat sat"
    (ids,) = tokenizer.tokenize([text]).to_list()
    limit = model.config.max_length if name == "gpt2" else 8
    special = {model.config.end_id, model.config.padding_id, model.config.begin_id}
    wanted = [i for i in greedy(model, ids, limit) if i not in special]
    found = servable.call("serving_default", text=[text])["text"][0]
    rows = tf.ragged.constant([wanted], dtype=tf.int32)
    expected = tokenizer.detokenize(rows).numpy()[0]
    assert found[: len(expected)] == expected and len(expected) > len(text) // 2


def test_a_tokeniser_in_one_file_is_imported_with_its_added_tokens(tmp_path):
    folder = published("gpt2", tmp_path / "there")
    merges = (folder / "merges.txt").read_text("utf-8").splitlines()[1:]
    whole = {
        "version": "1.0",
        "added_tokens": [{"id": SIZE - 10, "content": "<new>", "lstrip": True}],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False},
        "model": {
            "vocab": json.loads((folder / "vocab.json").read_text("utf-8")),
            "merges": merges,
        },
    }
    (folder / "tokenizer.json").write_text(json.dumps(whole), "utf-8")
    for name in ("vocab.json", "merges.txt"):
        (folder / name).unlink()
    run = import_checkpoint(folder, tmp_path / "run")
    tokenizer = run.servable().tokenizer
    assert len(tokenizer) == SIZE - 9
    (ids,) = tokenizer.tokenize(["the cat <new> sat"]).to_list()
    (left,), (right,) = (tokenizer.tokenize([part]).to_list() for part in ("the cat", " sat"))
    assert ids == [*left, SIZE - 10, *right]
    (folder / "tokenizer_config.json").write_text('{"own": 1}', "utf-8")
    with pytest.raises(InputError, match="own is 1, and this field is not understood"):
        import_checkpoint(folder, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_tokeniser_that_is_too_large_is_refused(tmp_path):
    folder = published("gpt2", tmp_path / "there")
    shutil.copy(CHECKPOINTS / "gpt2" / "model.safetensors", folder / "model.safetensors")
    change(folder, vocab_size=40)
    with pytest.raises(InputError, match="has 290 pieces, but the model's table has 40"):
        import_checkpoint(folder, tmp_path / "run")
    assert not (tmp_path / "run").exists()
