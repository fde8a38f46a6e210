"""Tests of keras_transformer.export: what is written, and that it writes what the model writes.

Also: export.tflite.convert, export.tflite.write.
"""

import json
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from fixtures_export import LITE, TEXTS, expected, exported, runtimes, trained, translator

from keras_transformer.artefacts.bulk import translate
from keras_transformer.decoding import GenerationOptions
from keras_transformer.errors import InputError
from keras_transformer.export import runtime
from keras_transformer.export.model_card import ops_of
from keras_transformer.export.saved_model import export_saved_model
from keras_transformer.export.tflite.convert import TF_TEXT_OPS, convert, custom_ops_of
from keras_transformer.models.config import END_ID
from keras_transformer.text import WordPieceTokenizer

__all__ = ["expected", "exported", "runtimes", "trained", "translator"]

LONG = [9, 10]  # of the texts
BYTES = [b"red cat", b"dog \xff sun", b"\xc3", b"blue\xe7\x8c", b"", b"sun \xed\xa0\x80 tree"]
NAMES = ["keras", "savedmodel", "tflite"]


@pytest.fixture(scope="module")
def saved_model(exported):
    return tf.saved_model.load(str(exported.paths["savedmodel"] / "1"))


@pytest.fixture(scope="module")
def raw(translator, exported, saved_model):
    """The same three as functions of arrays, which may hold bytes that are no text."""
    lite = runtime.interpreter(exported.paths["tflite"])
    in_graph = translator.function("serving_default")
    runner = lite.get_signature_runner("serving_default")

    def arrays(outputs):
        return {name: x.numpy() for name, x in outputs.items()}

    return {
        "keras": lambda rows: arrays(in_graph(text=tf.constant(rows, tf.string))),
        "savedmodel": lambda rows: arrays(
            saved_model.signatures["serving_default"](text=tf.constant(rows, tf.string))
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
        *LITE,
        *("vocab.txt", "generation.json", "model_card.json"),
        *("models.config", "batching.config", "compose.yaml"),
    }
    version = exported.paths["savedmodel"] / "1"
    assert list(exported.paths["savedmodel"].iterdir()) == [version]
    assert {path.name for path in exported.paths.values()} == {"savedmodel", *LITE}
    assert all(path.exists() for path in exported.paths.values())
    extra = version / "assets.extra"
    assert {path.name for path in extra.iterdir()} == {
        *("vocab.txt", "generation.json", "model_card.json", "task.json"),
        "tf_serving_warmup_requests",
    }
    for folder in (exported.folder, extra):
        options = json.loads((folder / "generation.json").read_text())
        assert options == {**GenerationOptions().to_dict(), "jit_compile": False}
        vocabulary = WordPieceTokenizer.load(folder / "vocab.txt").vocabulary
        assert vocabulary == trained.run.tokenizer().vocabulary


def test_what_was_measured_of_each_file_is_shown(exported):
    rows = [line.strip("│┃ ").split() for line in exported.printed.splitlines()]
    shown = {row[0]: row for row in rows if row and row[0] in ("savedmodel/1", *LITE)}
    assert shown.keys() == {"savedmodel/1", *LITE}
    assert all(len([cell for cell in row if cell != "│"]) == 5 for row in shown.values())
    assert "version 1; all in float32 agree with the model on 60 sentences" in exported.printed
    assert "BLEU on 60 sentences of the validation text" in exported.printed


def plain(specs):
    return {name: (spec.shape.as_list(), spec.dtype) for name, spec in specs.items()}


def test_signatures_of_the_savedmodel(saved_model, trained):
    text, ids = tf.TensorSpec([None], tf.string), tf.TensorSpec([None, None], tf.int32)
    score, truncated = tf.TensorSpec([None], tf.float32), tf.TensorSpec([None], tf.bool)
    best = {"text": tf.TensorSpec([None, 1], tf.string), "score": tf.TensorSpec([None, 1])}
    pair = {"text": text, "target": text}
    both = {"source_ids": ids, "target_ids": ids}
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
        "align": (pair, {**both, "weights": tf.TensorSpec([None] * 3)}),
        "attention": (pair, {**both, "weights": tf.TensorSpec([None, 1, 2, None, None])}),
        "ids": ({"ids": ids}, {"ids": ids, "score": score}),
        "tokenize": ({"text": text}, {"ids": ids, "truncated": truncated}),
    }
    signatures = saved_model.signatures
    assert set(signatures) == {*promised, "stream_start", "stream_step"}
    assert all(function.structured_input_signature[0] == () for function in signatures.values())
    for name, (inputs, outputs) in promised.items():
        assert plain(signatures[name].structured_input_signature[1]) == plain(inputs)
        assert plain(signatures[name].structured_outputs) == plain(outputs)


def test_the_state_of_a_stream_goes_from_each_signature_into_the_next(saved_model):
    signatures = saved_model.signatures
    start, step = signatures["stream_start"], signatures["stream_step"]
    text = tf.TensorSpec([None], tf.string)
    assert plain(start.structured_input_signature[1]) == plain({"text": text})
    state = plain(start.structured_outputs)
    assert state["rows_done"] == ([None], tf.bool)
    assert plain(step.structured_input_signature[1]) == state
    changed = plain(step.structured_outputs)
    assert changed.pop("text") == ([None], tf.string)
    assert {name: state[name] for name in changed} == changed
    # What no step changes, as what was read of the source, does not come back.
    assert 2 < len(changed) < len(state)


@pytest.mark.parametrize("precision", ["", "float16_", "int8_"])
def test_signatures_of_the_tflite_files(exported, precision):
    signatures = {
        name: runtime.interpreter(exported.paths[precision + name]).get_signature_list()
        for name in ("tflite", "ids_tflite")
    }
    stream = [signatures["tflite"].pop(f"stream_{part}") for part in ("start", "step")]
    assert signatures["tflite"] == {
        "serving_default": {"inputs": ["text"], "outputs": ["score", "text"]},
        "translate": {"inputs": ["text"], "outputs": ["score", "text"]},
        "complete": {"inputs": ["prefix", "text"], "outputs": ["score", "text"]},
        "next_token": {"inputs": ["target", "text"], "outputs": ["probabilities"]},
        "score": {"inputs": ["target", "text"], "outputs": ["score", "tokens", "truncated"]},
        **{
            name: {
                "inputs": ["target", "text"],
                "outputs": ["source_ids", "target_ids", "weights"],
            }
            for name in ("align", "attention")
        },
        "tokenize": {"inputs": ["text"], "outputs": ["ids", "truncated"]},
    }
    start, step = stream
    assert start["inputs"] == ["text"]
    assert step["inputs"] == start["outputs"]
    assert {"rows_done", "text"} < set(step["outputs"]) <= {"text", *start["outputs"]}
    assert signatures["ids_tflite"] == {"ids": {"inputs": ["ids"], "outputs": ["ids", "score"]}}


@pytest.mark.parametrize("name", NAMES)
def test_a_runtime_knows_its_signatures(runtimes, translator, name):
    made = runtimes[name]
    # `ids` has a file of its own.
    assert made.signatures == translator.signatures - ({"ids"} if name == "tflite" else set())
    pieces = translator.vocabulary
    assert made.vocabulary == pieces and len(pieces) == translator.model.config.vocabulary_size
    for signature in sorted(made.signatures):
        for side, wanted in zip(made.specs(signature), translator.specs(signature), strict=True):
            assert {name: spec.dtype for name, spec in side.items()} == {
                name: spec.dtype for name, spec in wanted.items()
            }
            if name != "tflite":  # the converter forgets what is known of some shapes
                assert side == wanted


@pytest.mark.parametrize("precision", ["", "float16_", "int8_"])
def test_the_tflite_files_hold_no_op_that_the_runtime_lacks(exported, precision):
    names = (precision + "tflite", precision + "ids_tflite")
    text, ids = (exported.paths[name].read_bytes() for name in names)
    assert custom_ops_of(text) == TF_TEXT_OPS
    assert custom_ops_of(ids) == set()
    assert b"Flex" not in text and b"Flex" not in ids


def test_the_savedmodel_holds_no_op_that_a_stock_server_lacks(exported):
    ops = ops_of(exported.paths["savedmodel"] / "1")
    foreign = {op for op in ops if not hasattr(tf.raw_ops, op)}
    assert foreign == TF_TEXT_OPS - {"RaggedTensorToTensor"}
    # TensorFlow Serving fails on them unless it is started with a flag of XLA.
    assert not [op for op in ops if op.startswith("Xla")]


def test_an_op_outside_the_list_is_refused(translator, tmp_path):
    export_saved_model(translator, tmp_path / "1", ["tokenize"])
    with pytest.raises(InputError, match=r"would need .*RaggedTensorToTensor.*not written"):
        convert(tmp_path / "1", ["tokenize"], custom_ops=frozenset())


def weights_of(path):
    """Return the bytes that the tables in a `.tflite` file take, by type."""
    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    types = {v: k for k, v in vars(schema.TensorType).items() if isinstance(v, int)}
    tables = {
        tensor.buffer: (types[tensor.type], len(model.buffers[tensor.buffer].data))
        for graph in model.subgraphs
        for tensor in graph.tensors
        if len(tensor.shape) == 2 and model.buffers[tensor.buffer].data is not None
    }
    sizes = Counter()
    for kind, size in tables.values():
        sizes[kind] += size
    return sizes


def test_smaller_precisions_hold_smaller_weights(exported):
    full, half, quarter = (
        weights_of(exported.paths[f"{name}ids_tflite"]) for name in ("", "float16_", "int8_")
    )
    assert half["FLOAT16"] == full["FLOAT32"] / 2
    assert quarter["INT8"] < 0.3 * full["FLOAT32"]
    assert "FLOAT32" not in half.keys() | quarter.keys()


@pytest.mark.parametrize("name", ["float16_tflite", "int8_tflite"])
def test_smaller_precisions_write_much_the_same(exported, expected, name):
    actual = translate(runtime.load(exported.paths[name]), TEXTS)
    assert actual.truncated == expected.truncated
    assert sum(a == b for a, b in zip(actual.texts, expected.texts, strict=True)) > 6


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
    right = sum(a.upper() == b for a, b in zip(samples, outputs, strict=True))
    assert right > len(samples) / 2  # by chance, none


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


@pytest.mark.parametrize("name", NAMES)
def test_no_rows_and_many_batches(runtimes, expected, name):
    assert translate(runtimes[name], []).texts == []
    done = []
    result = translate(runtimes[name], TEXTS[:7], batch_tokens=20, advance=done.append)
    assert result.texts == expected.texts[:7]
    assert sum(done) == 7 and len(done) > 1


def test_the_signature_of_ids_gives_the_models_ids(exported, saved_model, translator):
    texts = [text for text in TEXTS if "\0" not in text]
    ids = translator.tokenizer.tokenize(texts).to_tensor()
    in_graph = translator.function("ids")(ids=ids)
    saved = saved_model.signatures["ids"](ids=ids)
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
