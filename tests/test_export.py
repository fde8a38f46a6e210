"""Tests of keras_transformer.export: what is written, and that it writes what the model writes."""

import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from fixtures_export import TEXTS, expected, exported, runtimes, trained, translator

from keras_transformer.decoding import GenerationOptions
from keras_transformer.errors import InputError
from keras_transformer.export import runtime
from keras_transformer.export.tflite import TF_TEXT_OPS, convert, custom_ops_of
from keras_transformer.models.config import END_ID
from keras_transformer.text import WordPieceTokenizer
from keras_transformer.translation import translate
from keras_transformer.translator import append_end

__all__ = ["expected", "exported", "runtimes", "trained", "translator"]

LONG = [9, 10]  # of the texts
BYTES = [b"red cat", b"dog \xff sun", b"\xc3", b"blue\xe7\x8c", b"", b"sun \xed\xa0\x80 tree"]
NAMES = ["keras", "savedmodel", "tflite"]


@pytest.fixture(scope="module")
def raw(translator, exported):
    """The same three as functions of arrays, which may hold bytes that are no text."""
    model = tf.saved_model.load(str(exported.paths["savedmodel"] / "1"))
    lite = runtime.interpreter(exported.paths["tflite"])
    in_graph = tf.function(
        translator.translate_text, input_signature=[tf.TensorSpec([None], tf.string)]
    )
    runner = lite.get_signature_runner("serving_default")

    def arrays(outputs):
        return {name: x.numpy() for name, x in outputs.items()}

    return {
        "keras": lambda rows: arrays(in_graph(tf.constant(rows, tf.string))),
        "savedmodel": lambda rows: arrays(
            model.signatures["serving_default"](text=tf.constant(rows, tf.string))
        ),
        "tflite": lambda rows: runner(text=np.array(rows, dtype=object)),
    }


def same(one, other):
    """Whether texts and scores are equal to the last bit."""
    return np.array_equal(one["text"], other["text"]) and np.array_equal(
        one["score"], other["score"]
    )


# --- What is written ------------------------------------------------------------------------------


def test_an_export_holds_what_it_promises(trained, exported):
    assert {path.name for path in exported.folder.iterdir()} == {
        "savedmodel",
        "model.tflite",
        "model.ids.tflite",
        "vocab.txt",
        "generation.json",
    }
    assert [path.name for path in exported.paths["savedmodel"].iterdir()] == ["1"]
    assert all(path.exists() for path in exported.paths.values())
    options = json.loads((exported.folder / "generation.json").read_text())
    assert options == {**GenerationOptions().to_dict(), "jit_compile": False}
    vocabulary = WordPieceTokenizer.load(exported.folder / "vocab.txt").vocabulary
    assert vocabulary == trained.run.tokenizer().vocabulary
    for name in ("savedmodel/1", "model.tflite", "model.ids.tflite"):
        assert f"{name}: " in exported.printed
    assert exported.printed.count("agrees with the model on 50 sample sentences") == 3


def test_signatures_of_the_savedmodel(exported, trained):
    text, ids = tf.TensorSpec([None], tf.string), tf.TensorSpec([None, None], tf.int32)
    score, truncated = tf.TensorSpec([None], tf.float32), tf.TensorSpec([None], tf.bool)
    best = {"text": tf.TensorSpec([None, 1], tf.string), "score": tf.TensorSpec([None, 1])}
    pair = {"text": text, "target": text}
    weights = tf.TensorSpec([None, None, None])
    size = len(trained.run.tokenizer())
    promised = {
        "serving_default": ({"text": text}, {"text": text, "score": score}),
        "translate": ({"text": text}, best),
        "complete": ({"text": text, "prefix": text}, best),
        "next_token": (pair, {"probabilities": tf.TensorSpec([None, size])}),
        "score": (
            pair,
            {"score": score, "tokens": tf.TensorSpec([None], tf.int32), "truncated": truncated},
        ),
        "align": (pair, {"source_ids": ids, "target_ids": ids, "weights": weights}),
        "ids": ({"ids": ids}, {"ids": ids, "score": score}),
        "tokenize": ({"text": text}, {"ids": ids, "truncated": truncated}),
    }
    signatures = tf.saved_model.load(str(exported.paths["savedmodel"] / "1")).signatures

    def plain(specs):
        return {name: (spec.shape.as_list(), spec.dtype) for name, spec in specs.items()}

    assert set(signatures) == set(promised)
    for name, (inputs, outputs) in promised.items():
        positional, named = signatures[name].structured_input_signature
        assert positional == ()
        assert plain(named) == plain(inputs)
        assert plain(signatures[name].structured_outputs) == plain(outputs)


def test_signatures_of_the_tflite_files(exported):
    signatures = {
        name: runtime.interpreter(exported.paths[name]).get_signature_list()
        for name in ("tflite", "ids_tflite")
    }
    assert signatures["tflite"] == {
        "serving_default": {"inputs": ["text"], "outputs": ["score", "text"]},
        "translate": {"inputs": ["text"], "outputs": ["score", "text"]},
        "complete": {"inputs": ["prefix", "text"], "outputs": ["score", "text"]},
        "next_token": {"inputs": ["target", "text"], "outputs": ["probabilities"]},
        "score": {"inputs": ["target", "text"], "outputs": ["score", "tokens", "truncated"]},
        "align": {
            "inputs": ["target", "text"],
            "outputs": ["source_ids", "target_ids", "weights"],
        },
        "tokenize": {"inputs": ["text"], "outputs": ["ids", "truncated"]},
    }
    assert signatures["ids_tflite"] == {"ids": {"inputs": ["ids"], "outputs": ["ids", "score"]}}


def test_the_tflite_files_hold_no_op_that_the_runtime_lacks(exported):
    text, ids = (exported.paths[name].read_bytes() for name in ("tflite", "ids_tflite"))
    assert custom_ops_of(text) == TF_TEXT_OPS
    assert custom_ops_of(ids) == set()
    assert b"Flex" not in text and b"Flex" not in ids


def test_an_op_outside_the_list_is_refused(exported):
    saved_model = exported.paths["savedmodel"] / "1"
    with pytest.raises(InputError, match=r"would need .*RaggedTensorToTensor.*not written"):
        convert(saved_model, ["tokenize"], custom_ops=frozenset())


# --- The same text everywhere ---------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES[1:])
def test_artefacts_write_what_the_model_writes(runtimes, expected, name):
    actual = translate(runtimes[name], TEXTS)
    assert actual.texts == expected.texts
    np.testing.assert_allclose(actual.scores, expected.scores, rtol=1e-4, atol=1e-4)
    assert actual.truncated == expected.truncated == LONG


def test_the_model_has_something_to_say(trained, translator, expected):  # M19
    # Were all outputs alike, the comparison above would show nothing.
    assert expected.texts[3:5] == ["", ""]
    assert len(set(expected.texts)) > 7
    samples = trained.run.samples()
    outputs = translate(translator, samples).texts
    assert sum(a.upper() == b for a, b in zip(samples, outputs, strict=True)) > 25


@pytest.mark.parametrize("name", NAMES)
def test_bytes_that_are_no_text_leave_other_rows_alone(raw, translator, name):
    outputs = raw[name](BYTES)
    assert outputs["text"].tolist() == raw["keras"](BYTES)["text"].tolist()
    assert outputs["text"][0].decode() == translate(translator, ["red cat"]).texts[0]
    assert outputs["text"][4] == b""
    # A row that is damaged is read as if the word were unknown.
    assert outputs["text"][1] == raw[name]([b"dog \xe2\x9d\x93 sun"])["text"][0]


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_gives_what_its_rows_give(raw, name):  # T28
    rows = [text.encode() for text in TEXTS] + BYTES
    together = raw[name](rows)
    alone = [raw[name]([row]) for row in rows]
    assert together["text"].tolist() == [x["text"][0] for x in alone]
    np.testing.assert_allclose(
        together["score"], [x["score"][0] for x in alone], rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("name", NAMES)
def test_two_runs_are_equal_to_the_last_bit(raw, translator, name):  # C24
    assert translator.model.config.dropout > 0
    rows = [text.encode() for text in TEXTS]
    assert same(raw[name](rows), raw[name](rows))


def test_dropout_would_make_runs_differ(translator):  # C24
    ids = {"source_ids": np.array([[5, 6, 3]]), "target_ids": np.array([[2, 7, 8]])}
    on, off = (
        [translator.model(ids, training=training).numpy() for _ in range(2)]
        for training in (True, False)
    )
    assert not np.array_equal(*on)
    assert np.array_equal(*off)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_too_long_is_cut_and_reported(runtimes, translator, name):  # X01
    fits = translator.max_length - 1  # the end token takes one place
    texts = ["g " * (fits - 1) + last for last in ("r", "r g", "")]
    ids, truncated = runtimes[name].tokenize(texts)
    assert np.count_nonzero(ids, axis=1).tolist() == [fits, fits + 1, fits - 1]
    assert truncated.tolist() == [False, True, False]
    result = translate(runtimes[name], texts)
    assert result.truncated == [1]
    # Cut at the end and not elsewhere.
    assert result.texts[1] == result.texts[0]


@pytest.mark.parametrize(
    ("max_length", "expected"),
    [
        (9, [[5, 6, 7, 3], [5, 3, 0, 0], [3, 0, 0, 0]]),
        (4, [[5, 6, 7, 3], [5, 3, 0, 0], [3, 0, 0, 0]]),
        (3, [[5, 6, 3], [5, 3, 0], [3, 0, 0]]),
        (2, [[5, 3], [5, 3], [3, 0]]),
    ],
)
def test_only_what_is_too_long_is_cut(max_length, expected):  # X01
    ids = tf.constant([[5, 6, 7], [5, 0, 0], [0, 0, 0]])
    assert append_end(ids, max_length).numpy().tolist() == expected


@pytest.mark.parametrize("name", NAMES)
def test_no_rows_and_many_batches(runtimes, expected, name):
    assert translate(runtimes[name], []).texts == []
    done = []
    result = translate(runtimes[name], TEXTS[:7], batch_tokens=20, advance=done.append)
    assert result.texts == expected.texts[:7]
    assert sum(done) == 7 and len(done) > 1


def test_the_signature_of_ids_gives_the_models_ids(exported, translator):
    texts = [text for text in TEXTS if "\0" not in text]
    ids = translator.tokenizer.tokenize(texts).to_tensor()
    in_graph = tf.function(translator.translate_ids)(ids)
    saved = tf.saved_model.load(str(exported.paths["savedmodel"] / "1")).signatures["ids"](ids=ids)
    # A runtime that has no custom ops at all.
    lite = Interpreter(model_path=str(exported.paths["ids_tflite"])).get_signature_runner("ids")
    for outputs in (saved, lite(ids=ids.numpy())):
        assert np.array_equal(outputs["ids"], in_graph["ids"])
        np.testing.assert_allclose(outputs["score"], in_graph["score"], rtol=1e-4, atol=1e-4)
    rows = in_graph["ids"].numpy()
    assert rows[0][np.count_nonzero(rows[0]) - 1] == END_ID


def test_a_process_with_tensorflow_alone_runs_the_savedmodel(exported, expected):
    code = """
import json, sys
import tensorflow as tf
import tensorflow_text
signatures = tf.saved_model.load(sys.argv[1]).signatures
text = tf.constant(json.load(sys.stdin), tf.string)
runs = [signatures["serving_default"](text=text) for _ in range(2)]
same = all(bool(tf.reduce_all(tf.equal(runs[0][name], runs[1][name]))) for name in runs[0])
cut = signatures["tokenize"](text=text)["truncated"].numpy().nonzero()[0].tolist()
foreign = [name for name in sys.modules if name.startswith("keras_transformer")]
json.dump([[t.decode() for t in runs[0]["text"].numpy()], same, cut, foreign], sys.stdout)
"""
    child = subprocess.run(
        [sys.executable, "-c", code, str(exported.paths["savedmodel"] / "1")],
        input=json.dumps(TEXTS),
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    texts, equal, truncated, foreign = json.loads(child.stdout)
    assert texts == expected.texts
    assert equal  # C24
    assert truncated == LONG
    assert foreign == []
