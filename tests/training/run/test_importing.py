"""Tests of training.importing: published models with their tokenisers go on as they should."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from fixtures_checkpoints import CHECKPOINTS, VOCABULARY_SIZE, change, with_tokenizer

from keras_transformer.errors import InputError
from keras_transformer.models import from_hugging_face
from keras_transformer.training.run.importing import import_checkpoint

GOLDEN = Path(__file__).parents[2] / "golden"


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
    folder = with_tokenizer(name, tmp_path / "there")
    run = import_checkpoint(folder, tmp_path / "run")
    assert run.task_settings().task == ("causal-lm" if name == "gpt2" else "translation")
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
    folder = with_tokenizer("gpt2", tmp_path / "there")
    merges = (folder / "merges.txt").read_text("utf-8").splitlines()[1:]
    whole = {
        "version": "1.0",
        "added_tokens": [{"id": VOCABULARY_SIZE - 10, "content": "<new>", "lstrip": True}],
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
    assert len(tokenizer) == VOCABULARY_SIZE - 9
    (ids,) = tokenizer.tokenize(["the cat <new> sat"]).to_list()
    (left,), (right,) = (tokenizer.tokenize([part]).to_list() for part in ("the cat", " sat"))
    assert ids == [*left, VOCABULARY_SIZE - 10, *right]
    (folder / "tokenizer_config.json").write_text('{"own": 1}', "utf-8")
    with pytest.raises(InputError, match="own is 1, and this field is not understood"):
        import_checkpoint(folder, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_tokeniser_that_is_too_large_is_refused(tmp_path):
    folder = with_tokenizer("gpt2", tmp_path / "there")
    shutil.copy(CHECKPOINTS / "gpt2" / "model.safetensors", folder / "model.safetensors")
    change(folder, vocab_size=40)
    with pytest.raises(InputError, match="has 290 pieces, but the model's table has 40"):
        import_checkpoint(folder, tmp_path / "run")
    assert not (tmp_path / "run").exists()
